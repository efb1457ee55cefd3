"""A trial's program: bounded, ended as a group, and nothing of it left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reprodebug.bisect import process
from reprodebug.bisect.control import Cancelled, Control


def start(code: str, tmp_path: Path, **options: object) -> process.Ended:
    environment = {**os.environ, "REPRODEBUG_SESSION": str(tmp_path)}
    return process.run([sys.executable, "-c", code], str(tmp_path), environment, str(tmp_path / "log"), **options)  # type: ignore[arg-type]


def carrying(mark: str) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if f"REPRODEBUG_SESSION={mark}".encode() in Path(f"/proc/{name}/environ").read_bytes():
                    found.append(int(name))
            except OSError:
                continue
    return found


def test_exit_code_and_output(tmp_path: Path) -> None:
    ended = start("print('hello'); raise SystemExit(7)", tmp_path)
    assert (ended.exit_code, ended.hung, ended.stopped) == (7, False, False)
    assert (tmp_path / "log").read_text() == "hello\n"


def test_a_signal_is_128_and_more(tmp_path: Path) -> None:
    assert start("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", tmp_path).exit_code == 139


def test_gigabytes_of_output_stay_small(tmp_path: Path) -> None:
    start("import sys\nfor n in range(400): sys.stdout.write('x' * 1000000)\nprint('the end')", tmp_path)
    assert (tmp_path / "log").stat().st_size < 3 << 20
    assert (tmp_path / "log").read_text().endswith("the end\n")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_hang_with_children_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "for _ in range(3): subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "time.sleep(600)"
    )
    started = time.monotonic()
    ended = start(code, tmp_path, limit=1.0, mark=("REPRODEBUG_SESSION", str(tmp_path)))
    assert ended.hung
    assert time.monotonic() - started < 20
    assert not carrying(str(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_process_of_another_session_is_ended(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"], env={**os.environ, "REPRODEBUG_SESSION": "elsewhere"})
    try:
        start("print(1)", tmp_path, mark=("REPRODEBUG_SESSION", str(tmp_path)))
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_it_ends_once_it_has_served(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    started = time.monotonic()
    ended = start(f"open({str(flag)!r}, 'w').close()\nimport time; time.sleep(600)", tmp_path, done=flag.exists)
    assert ended.stopped
    assert time.monotonic() - started < 20


def test_what_cannot_be_started_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        process.run(["/nowhere/program"], str(tmp_path), dict(os.environ), str(tmp_path / "log"))


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="looks at memory")
def test_what_takes_too_much_memory_is_ended_with_its_children(tmp_path: Path) -> None:
    greedy = "import time\nheld = []\nfor _ in range(120): held.append(b'x' * (8 << 20)); time.sleep(0.02)\ntime.sleep(600)"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {greedy!r}])\nimport time; time.sleep(600)"
    started = time.monotonic()
    ended = start(code, tmp_path, memory=400 << 20, limit=120, mark=("REPRODEBUG_SESSION", str(tmp_path)))
    assert ended.oversized and not ended.hung
    assert time.monotonic() - started < 60
    assert not carrying(str(tmp_path))
    assert not start("held = b'x' * (64 << 20)\nimport time; time.sleep(2.5)", tmp_path, memory=400 << 20).oversized


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_memory_that_processes_share_counts_once(tmp_path: Path) -> None:
    code = (
        "import os, time\nheld = bytearray(os.urandom(1 << 20) * 150)\n"
        "for _ in range(6):\n    if os.fork() == 0:\n        time.sleep(3.5); os._exit(0)\ntime.sleep(3.5)"
    )
    assert not start(code, tmp_path, memory=500 << 20).oversized


def test_a_helper_is_bounded_and_can_be_cancelled(tmp_path: Path) -> None:
    control = Control()
    words = [sys.executable, "-c", "import time; time.sleep(600)"]
    assert process.call(words, dict(os.environ), limit=0.5).returncode == 1
    control.cancel()
    with pytest.raises(Cancelled):
        process.call(words, dict(os.environ), limit=60.0, control=control)
    assert process.call([sys.executable, "-c", "print('x' * 3000000)"], dict(os.environ), limit=60.0).stdout == "x" * 3000000 + "\n"
    assert process.call(["/nowhere/program"], {}, limit=1.0).returncode == 1
