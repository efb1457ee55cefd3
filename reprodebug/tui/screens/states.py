"""The screens around the comparison: loading, an error that was foreseen, one that was not, and too small a window.

Owns their wording. Refuses to decide the exit code: the app does.
"""

from __future__ import annotations

import time
import traceback
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen, Screen

from reprodebug._base.errors import NothingComparable, ReprodebugError
from reprodebug._base.text import visible
from reprodebug.tui.widgets.panes import Bar, Pane

SMALLEST = (60, 16)
_LEAVE: list[BindingType] = [Binding("q,escape,enter", "app.leave", show=False)]


class LoadingScreen(Screen[None]):
    """Shown while the runs are read; counts the seconds, so that it is seen to live."""

    BINDINGS: ClassVar[list[BindingType]] = _LEAVE
    DEFAULT_CSS = "LoadingScreen { align: center middle; } LoadingScreen > Bar { width: auto; max-width: 90%; }"

    def compose(self) -> ComposeResult:
        yield Bar(id="loading")

    def on_mount(self) -> None:
        self._since = time.monotonic()
        self._tell()
        self.set_interval(0.5, self._tell)

    def _tell(self) -> None:
        seconds = int(time.monotonic() - self._since)
        text = Text("… reading and aligning the two runs", "bold")
        text.append(f"  {seconds} s" if seconds else "", "not bold").append("\n\nq quits", "dim not bold")
        self.query_one(Bar).say(text)


class ErrorScreen(Screen[None]):
    """One sentence and what to type."""

    BINDINGS: ClassVar[list[BindingType]] = _LEAVE
    DEFAULT_CSS = "ErrorScreen { align: center middle; } ErrorScreen > Bar { width: auto; max-width: 90%; }"

    def __init__(self, error: ReprodebugError) -> None:
        super().__init__()
        self.error = error

    def compose(self) -> ComposeResult:
        nothing = isinstance(self.error, NothingComparable)
        text = Text("? incomparable" if nothing else "✗ cannot compare", "bold yellow" if nothing else "bold red")
        text.append("\n\n" + visible(self.error.message, 600), "default not bold")
        if self.error.hint:
            text.append("\n\n→ " + visible(self.error.hint, 600), "cyan not bold")
        text.append("\n\nq quits", "dim not bold")
        bar = Bar()
        bar.say(text)
        yield bar


class FailureDialog(ModalScreen[None]):
    """An error that nobody foresaw: its cause, and the last lines of its traceback for a bug report."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *_LEAVE,
        Binding("down,j", "scroll(1)", show=False),
        Binding("up,k", "scroll(-1)", show=False),
    ]
    DEFAULT_CSS = """
    FailureDialog { align: center middle; }
    FailureDialog > Vertical { width: 90%; max-width: 100; height: auto; max-height: 90%; border: heavy $error; padding: 0 1; }
    FailureDialog Bar { height: auto; }
    FailureDialog Pane { max-height: 50vh; margin: 1 0; }
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def compose(self) -> ComposeResult:
        e = self.error
        title = Text("✗ the comparison failed unexpectedly", "bold red")
        title.append(f"\n\n{visible(type(e).__name__)}: {visible(e, 600)}", "default not bold")
        with Vertical():
            head = Bar()
            head.say(title)
            yield head
            yield Pane()
            foot = Bar()
            foot.say(Text("This is a bug of reprodebug; the lines above belong in the report. q quits (exit code 2)", "dim"))
            yield foot

    def on_mount(self) -> None:
        lines = "".join(traceback.format_exception(self.error)[-6:]).splitlines()
        text = Text("\n".join(visible(line, 300) for line in lines[-40:]), "dim")
        self.query_one(Pane).say(lambda width: text)
        self.query_one(Pane).focus()

    def action_scroll(self, rows: int) -> None:
        self.query_one(Pane).move(rows)


class TooSmall(Bar):
    """Covers the compare screen where the window has not room for it."""

    DEFAULT_CSS = "TooSmall { display: none; width: 1fr; height: 1fr; content-align: center middle; text-align: center; }"

    def measure(self, width: int, height: int) -> bool:
        """Say how much is missing; True where the window is too small."""
        small = width < SMALLEST[0] or height < SMALLEST[1]
        if small:
            self.say(Text(f"! the window is {width}x{height}\nit takes {SMALLEST[0]}x{SMALLEST[1]}\nq quits"))
        return small
