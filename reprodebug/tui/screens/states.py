"""The screens around the comparison: loading, an error that was foreseen, one that was not, and too small a window.

Owns their wording. Refuses to decide the exit code: the app does.
"""

from __future__ import annotations

import os
import tempfile
import time
import traceback
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen, Screen

from reprodebug._base.errors import NothingComparable, ReprodebugError
from reprodebug._base.text import visible
from reprodebug.tui import actions
from reprodebug.tui.palette import style
from reprodebug.tui.screens.base import Keyed
from reprodebug.tui.widgets.panes import Bar, Pane

SMALLEST = (60, 16)


class LoadingScreen(Keyed, Screen[None]):
    """Shown while the runs are read: the stage, and the seconds, so that it is seen to live. Leaving ends it at once."""

    NAME: ClassVar[str] = "loading"
    BINDINGS: ClassVar = actions.bindings("loading")
    DEFAULT_CSS = "LoadingScreen { align: center middle; } LoadingScreen > Bar { width: auto; max-width: 90%; }"

    def compose(self) -> ComposeResult:
        yield Bar(id="loading")

    def on_mount(self) -> None:
        self._since = time.monotonic()
        self._stage = "reading the two runs"
        self._tell()
        self.set_interval(0.5, self._tell)

    def stage(self, name: str) -> None:
        """What is being done now."""
        self._stage = name
        if self.is_mounted:
            self._tell()

    def _tell(self) -> None:
        seconds = int(time.monotonic() - self._since)
        text = Text(f"… {self._stage}", "bold")
        text.append(f"  {seconds} s" if seconds else "", "not bold").append("\n\nq quits", "dim not bold")
        self.query_one(Bar).say(text)


class ErrorScreen(Keyed, Screen[None]):
    """One sentence and what to type."""

    NAME: ClassVar[str] = "error"
    BINDINGS: ClassVar = actions.bindings("error")
    DEFAULT_CSS = "ErrorScreen { align: center middle; } ErrorScreen > Bar { width: auto; max-width: 90%; }"

    def __init__(self, error: ReprodebugError) -> None:
        super().__init__()
        self.error = error

    def compose(self) -> ComposeResult:
        nothing = isinstance(self.error, NothingComparable)
        text = Text("? incomparable" if nothing else "✗ cannot compare", style("bold", "warn" if nothing else "bad"))
        text.append("\n\n" + visible(self.error.message, 600), "default not bold")
        if self.error.hint:
            text.append("\n\n→ " + visible(self.error.hint, 600), style("hint", "not bold"))
        text.append("\n\nq quits", "dim not bold")
        bar = Bar()
        bar.say(text)
        yield bar


class FailureDialog(Keyed, ModalScreen[None]):
    """An error that nobody foresaw: its cause, and the last lines of its traceback for a bug report."""

    NAME: ClassVar[str] = "failure"
    BINDINGS: ClassVar = actions.bindings("failure")
    DEFAULT_CSS = """
    FailureDialog { align: center middle; }
    FailureDialog > Vertical { width: 90%; max-width: 100; height: auto; max-height: 90%; border: heavy $error; padding: 0 1; }
    FailureDialog Bar { height: auto; }
    FailureDialog Pane { max-height: 50vh; margin: 1 0; }
    """

    def __init__(self, error: BaseException, what: str = "the comparison failed unexpectedly", *, leave: bool = True) -> None:
        super().__init__()
        self.error = error
        self._what = what
        self._leave = leave
        self._log = write_log(error)

    def compose(self) -> ComposeResult:
        e = self.error
        title = Text(f"✗ {self._what}", style("bold", "bad"))
        title.append(f"\n\n{visible(type(e).__name__)}: {visible(e, 600)}", "default not bold")
        with Vertical():
            head = Bar()
            head.say(title)
            yield head
            yield Pane()
            foot = Bar()
            where = f" They are kept in {visible(self._log, 200)}." if self._log else ""
            out = "q quits (exit code 2)" if self._leave else "q goes back"
            foot.say(Text(f"This is a bug of reprodebug; the lines above belong in the report.{where}\n{out}", "dim"))
            yield foot

    def on_mount(self) -> None:
        lines = "".join(traceback.format_exception(self.error)[-6:]).splitlines()
        text = Text("\n".join(visible(line, 300) for line in lines[-40:]), "dim")
        self.query_one(Pane).say(lambda width: text)
        self.query_one(Pane).focus()

    def action_move(self, rows: int) -> None:
        self.query_one(Pane).move(rows)

    def action_page(self, sign: int) -> None:
        self.action_move(sign * max(1, self.query_one(Pane).size.height - 1))

    def action_ends(self, sign: int) -> None:
        self.action_move(sign * 10**9)

    def action_away(self) -> None:
        if self._leave:
            self.app.action_leave()  # type: ignore[attr-defined]
        else:
            self.dismiss()


def write_log(error: BaseException) -> str:
    """Keep the whole traceback in a file of its own; returns its path, or "" where none could be written."""
    try:
        fd, path = tempfile.mkstemp(prefix="reprodebug-", suffix=".log")
        with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write("".join(traceback.format_exception(error)))
        return path
    except OSError:
        return ""


class TooSmall(Bar):
    """Covers the compare screen where the window has not room for it."""

    DEFAULT_CSS = "TooSmall { display: none; width: 1fr; height: 1fr; content-align: center middle; text-align: center; }"

    def measure(self, width: int, height: int) -> bool:
        """Say how much is missing; True where the window is too small."""
        small = width < SMALLEST[0] or height < SMALLEST[1]
        if small:
            self.say(Text(f"! the window is {width}x{height}\nit takes {SMALLEST[0]}x{SMALLEST[1]}\nq quits"))
        return small
