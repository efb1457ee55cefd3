"""``capture`` is not there: exit code, signals, streams and words of the command are its own."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import PYTHON, environment, reprodebug


def capture(folder: Path, *command: str, **more: Any) -> Any:
    return reprodebug("capture", "-o", "run", "--", *command, cwd=folder, **more)


@pytest.mark.parametrize("code", [0, 1, 2, 3, 77, 125, 255])
def test_the_exit_code_is_the_commands(tmp_path: Path, code: int) -> None:
    assert capture(tmp_path, PYTHON, "-c", f"raise SystemExit({code})").returncode == code


def test_a_traceback_is_the_commands(tmp_path: Path) -> None:
    done = capture(tmp_path, PYTHON, "-c", "1 / 0")
    assert done.returncode == 1 and b"ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT, signal.SIGINT])
def test_a_signal_that_ends_the_command(tmp_path: Path, number: int) -> None:
    done = capture(tmp_path, "sh", "-c", f"ulimit -c 0; kill -{int(number)} $$")
    assert done.returncode == 128 + number
    assert b"Traceback" not in done.stderr


def started(folder: Path, script: str, *, session: bool = True, **more: Any) -> subprocess.Popen[bytes]:
    """A capture of a Python that writes the file ``ready`` when its signal handlers are in place."""
    (folder / "program.py").write_text(textwrap.dedent(script))
    command = [PYTHON, "-m", "reprodebug", "capture", "-o", "run", "--", PYTHON, "program.py"]
    process = subprocess.Popen(command, cwd=folder, env=environment(), start_new_session=session, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, **more)  # fmt: skip
    ends = time.monotonic() + 30
    while not (folder / "ready").exists():
        assert time.monotonic() < ends and process.poll() is None
        time.sleep(0.02)
    return process


HANDLES = """
    import os, signal, sys, time
    def handle(number, frame):
        print("got", number, flush=True)
        raise SystemExit(40 + number)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handle)
    open("ready", "w").close()
    time.sleep(30)
"""
STUBBORN = """
    import signal, time
    signal.signal(signal.SIGINT, lambda *_: open("asked", "w").close())
    open("ready", "w").close()
    for _ in range(60):
        time.sleep(0.02)
    print("went on", flush=True)
    raise SystemExit(7)
"""
PLAIN = """
    import time
    open("ready", "w").close()
    time.sleep(30)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_us_is_handed_on(tmp_path: Path, number: int) -> None:
    process = started(tmp_path, HANDLES)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (40 + number, f"got {int(number)}\n".encode()), err
    assert (tmp_path / "run" / "run.json").exists()


def test_a_signal_to_us_that_the_command_does_not_handle(tmp_path: Path) -> None:
    process = started(tmp_path, PLAIN)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM


def test_control_c_reaches_the_command_once(tmp_path: Path) -> None:
    process = started(tmp_path, HANDLES)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (42, b"got 2\n"), err
    assert b"Traceback" not in err


def test_control_c_lets_the_command_decide(tmp_path: Path) -> None:
    process = started(tmp_path, STUBBORN)
    for _ in range(3):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.1)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (7, b"went on\n"), err
    assert (tmp_path / "asked").exists()


def test_ignored_signals_stay_ignored(tmp_path: Path) -> None:
    """``nohup reprodebug capture ...``"""
    script = """
        import signal, sys, time
        print([signal.getsignal(n) is signal.SIG_IGN for n in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)], flush=True)
        open("ready", "w").close()
        time.sleep(1)
    """
    process = started(tmp_path, script, preexec_fn=lambda: [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGHUP, signal.SIGINT)])
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, b"[True, True, False]\n")


# streams


ECHO = """
import os, sys
data = sys.stdin.buffer.read()
sys.stdout.buffer.write(data[::-1])
sys.stdout.buffer.flush()
sys.stderr.buffer.write(b"\\xfe\\xff err \\x1b[31m\\n" + bytes(range(256)) + b"\\n")
"""


def test_streams_are_untouched(tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000 + b"\r\n\x00\xff"
    plain = subprocess.run([PYTHON, "-c", ECHO], input=data, capture_output=True, env=environment(), timeout=60)
    done = capture(tmp_path, PYTHON, "-c", ECHO, input=data)
    assert done.stdout == plain.stdout == data[::-1]
    assert done.stderr.startswith(plain.stderr)
    assert done.stderr[len(plain.stderr) :].startswith(b"reprodebug: ")
    assert done.returncode == 0


def test_an_unread_stdin_stays_for_others(tmp_path: Path) -> None:
    line = f"{PYTHON} -m reprodebug capture -o run -- true 2>/dev/null; cat"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, env=environment(), input=b"rest", capture_output=True, timeout=60)
    assert done.stdout == b"rest"


def test_closed_streams(tmp_path: Path) -> None:
    for n, how in enumerate((">&-", "2>&-", "<&-", "<&- >&- 2>&-")):
        line = f"{PYTHON} -m reprodebug capture -o run{n} -- {PYTHON} -c 'raise SystemExit(5)' {how}"
        assert subprocess.run(["sh", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, timeout=60).returncode == 5


# words


def test_words_are_passed_on_as_they_are(tmp_path: Path) -> None:
    words = ["--", "-o", "x y", "", "--help", "--", "ü\n", "*", "$HOME", "-c"]
    done = capture(tmp_path, PYTHON, "-c", "import sys; print(sys.argv[1:])", *words)
    assert done.stdout.decode() == f"{words}\n"


def test_the_directory_and_the_environment_are_the_same(tmp_path: Path) -> None:
    ask = "import os; print(os.getcwd(), os.environ['HERE'], sorted(k for k in os.environ if not k.startswith('REPRODEBUG')))"
    env = environment(HERE="x")
    plain = subprocess.run([PYTHON, "-c", ask], cwd=tmp_path, env=env, capture_output=True, timeout=60)
    assert capture(tmp_path, PYTHON, "-c", ask, env=env).stdout == plain.stdout


# through other programs


TRAIN = """
import sys, torch
torch.manual_seed(0)
m = torch.nn.Linear(3, 2)
o = torch.optim.SGD(m.parameters(), lr=0.1)
for _ in range(int(sys.argv[1])):
    m(torch.randn(4, 3)).pow(2).mean().backward()
    o.step()
"""


def test_a_shell_script_that_runs_python_twice(tmp_path: Path) -> None:
    from reprodebug.store.run import open_run

    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "script.sh").write_text(f"{PYTHON} train.py 2 && {PYTHON} train.py 3\nexit 4\n")
    assert capture(tmp_path, "sh", "script.sh").returncode == 4
    run = open_run(str(tmp_path / "run"))
    assert [run.traces[k].steps for k in sorted(run.traces)] == [2, 3] and sorted(run.traces) == [(0, 0), (0, 1)]


def test_through_env_and_a_makefile(tmp_path: Path) -> None:
    from reprodebug.store.run import open_run

    (tmp_path / "train.py").write_text(TRAIN + "import os\nprint(os.environ['X'])\n")
    (tmp_path / "Makefile").write_text(f"train:\n\t@{PYTHON} train.py 3\n")
    done = capture(tmp_path, "env", "X=1", "make", "train")
    assert done.returncode == 0 and done.stdout.endswith(b"1\n"), done.stderr
    assert open_run(str(tmp_path / "run")).traces[(0, 0)].steps == 3
