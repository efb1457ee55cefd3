"""The whole way through a real pseudo-terminal: exit codes, and no planted sequence in what is written."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLANTED = [b"\x1b]0;pwned\x07", b"\x1b]0;pwned", b"\x9b31m", "\x9b31m".encode(), "\u202e".encode(), b"a\nb\rc"]


def play(
    program: str, keys: bytes, size: tuple[int, int] = (80, 24), *, end_by: signal.Signals | None = None, stdin: bool = True,
    controlling: bool = False, **environment: str,
) -> tuple[int, bytes]:  # fmt: skip
    """Run ``program`` in a pseudo-terminal, type ``keys`` one by one once it is drawn; (exit code, all output).

    ``end_by`` is a signal sent after the keys. Without ``stdin`` that is ``/dev/null``; ``controlling`` makes the terminal the
    session's own.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    env = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **environment}
    process = subprocess.Popen(
        [sys.executable, "-c", (_CONTROLLING if controlling else "") + program], stdin=slave if stdin else subprocess.DEVNULL,
        stdout=slave, stderr=slave, env=env, cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    out, start, waiting = b"", time.monotonic(), list(keys)
    quiet = 0.0
    try:
        while time.monotonic() - start < 25:
            if select.select([master], [], [], 0.1)[0]:
                quiet = 0.0
                try:
                    piece = os.read(master, 65536)
                except OSError:
                    break
                if not piece:
                    break
                out += piece
            else:
                quiet += 0.1
                if waiting and quiet >= 0.2 and b"coverage" in out + (b"coverage" if b"quits" in out else b""):
                    os.write(master, bytes([waiting.pop(0)]))
                elif end_by is not None and not waiting and quiet >= 0.4 and b"coverage" in out:
                    process.send_signal(end_by)
                    end_by = None
        return process.wait(5), out
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)


_CONTROLLING = "import fcntl, termios; fcntl.ioctl(1, termios.TIOCSCTTY, 0)\n"
SHOW = (
    "import sys; from tests.tui import comparisons as made; from reprodebug.tui import run_compare\n"
    "sys.exit(run_compare(lambda say: (made.{}(), None)))"
)


@pytest.mark.parametrize("size", [(80, 24), (60, 16)])
def test_hostile_names_reach_no_terminal(size: tuple[int, int]) -> None:
    code, out = play(SHOW.format("hostile"), b"jjj2d\rq1\rqrqx?qY34567dw   qYq", size)
    assert code == 1
    assert b"pwned" in out and b"[@click=app.quit]" in out
    for planted in PLANTED:
        assert planted not in out


def test_hostile_names_in_records_reach_no_terminal() -> None:
    """Every view that looks into the records, folded and unfolded, filtered and in full."""
    show = (
        "import sys; from tests.tui import comparisons as made; from reprodebug.tui import run_compare\n"
        "both = made.hostile_records(); sys.exit(run_compare(lambda say: both))"
    )
    code, out = play(show, b"djjl\rqhh3jj\rq4jj\rq5j6j\rq7jj\rq/lay\rw  vxq", (100, 30))
    assert code == 1
    assert b"pwned" in out
    for planted in PLANTED:
        assert planted not in out


def test_what_nobody_made_visible_is_inert_all_the_same() -> None:
    """Each widget guards itself: a view or a screen that forgets it writes no control character."""
    program = (
        "import sys; from rich.text import Text; from tests.tui import comparisons as made; from reprodebug.tui import content, run_compare\n"
        "from reprodebug.tui.views.layers import LayersView\n"
        "from reprodebug.tui.page import Page\n"
        "raw = 'raw \\x1b]0;pwned\\x07 \\x9b31m \\u202e coverage'\n"
        "LayersView.row = lambda self, index, width, selected: Text(raw, 'bold')\n"
        "LayersView.header = content.coverage = lambda *a: Text(raw)\n"
        "def detail(self, index): page = Page(); page.line(raw); page.field(raw, raw); page.both('x', raw, 'b'); return page\n"
        "LayersView.detail = detail\n"
        "sys.exit(run_compare(lambda say: (made.divergent(), None)))"
    )
    code, out = play(program, b"jj\rqq")
    assert code == 1 and b"raw" in out
    for planted in PLANTED:
        assert planted not in out


RESTORED = (b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?1000l", b"\x1b[?2004l")
"""main screen, cursor, no mouse reports, no bracketed paste"""


def test_the_terminal_is_left_as_it_was() -> None:
    for keys in (b"q", b"\x03"):
        _, out = play(SHOW.format("divergent"), keys)
        for sequence in RESTORED:
            assert sequence in out[out.rindex(b"\x1b[?1049l") - 200 :], (keys, sequence)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(number: signal.Signals) -> None:
    code, out = play(SHOW.format("divergent"), b"jj", end_by=number)
    assert code == 128 + number
    for sequence in RESTORED:
        assert sequence in out[out.rindex(b"\x1b[?1049l") - 200 :]


COMPARE = "import sys; from reprodebug.cli import main; sys.exit(main(['compare', 'sample_runs/threads/a', 'sample_runs/threads/b']))"


def test_keys_come_from_the_terminal_where_stdin_is_something_else() -> None:
    code, out = play(COMPARE, b"w qq", stdin=False, controlling=True)
    assert code == 1 and b"\x1b[?1049h" in out and b"question 2 of" in out


def test_without_a_keyboard_there_is_text() -> None:
    code, out = play(COMPARE, b"", stdin=False)
    assert code == 1 and b"\x1b[?1049h" not in out and b"First divergence" in out


def test_a_crash_leaves_the_terminal_as_it_was_and_shows_no_traceback(tmp_path: Path) -> None:
    program = (
        "import sys; from tests.tui import comparisons as made; from reprodebug.tui import run_compare\n"
        "from reprodebug.tui.screens.compare import CompareScreen\n"
        "def broken(self): raise ZeroDivisionError('by [/bold] \\x1b]0;pwned\\x07')\n"
        "CompareScreen.action_swap = broken\n"
        "sys.exit(run_compare(lambda say: (made.divergent(), None)))"
    )
    code, out = play(program, b"x", TMPDIR=str(tmp_path))
    assert code == 1  # the verdict was known
    after = out[out.rindex(b"\x1b[?1049l") :]
    assert b"the screen failed: ZeroDivisionError" in after and b"Traceback" not in out
    (log,) = tmp_path.glob("reprodebug-*.log")
    assert (log.name.encode() in after and "action_swap" in log.read_text()) or "broken" in log.read_text()
    for sequence in RESTORED:
        assert sequence in out[out.rindex(b"\x1b[?1049l") - 200 :]
    assert b"\x1b]0;pwned" not in out


@pytest.mark.parametrize(("name", "code"), [("identical", 0), ("incomparable", 3)])
def test_exit_codes(name: str, code: int) -> None:
    assert play(SHOW.format(name), b"q", NO_COLOR="1")[0] == code


def test_an_error_is_repeated_once_the_screen_is_gone() -> None:
    program = (
        "import sys; from reprodebug._base.errors import RunUnreadable; from reprodebug.tui import run_compare\n"
        "def load(say): raise RunUnreadable('x is no run \\x1b]0;pwned\\x07', hint='give a run')\n"
        "sys.exit(run_compare(load))"
    )
    code, out = play(program, b"q")
    assert code == 2
    assert b"\x1b]0;pwned" not in out
    assert out.rstrip().endswith(b"hint: give a run")


def test_importing_the_package_is_light() -> None:
    program = "import sys, reprodebug.tui; sys.exit('textual' in sys.modules or 'rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
