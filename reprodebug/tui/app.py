"""The app: which screen follows which, and the exit code. Routes only; the screens do the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import ClassVar

from textual.app import App
from textual.binding import Binding
from textual.message import Message

from reprodebug._base.errors import NothingComparable, ReprodebugError
from reprodebug._base.text import visible
from reprodebug.model.comparison import Comparison
from reprodebug.tui.screens.compare import CompareScreen
from reprodebug.tui.screens.states import ErrorScreen, FailureDialog, LoadingScreen

EXIT_CODES = {"identical": 0, "equivalent": 0, "divergent": 1, "incomparable": 3}
UNREADABLE, NOTHING_COMPARABLE, INTERRUPTED = 2, 3, 130


class Loaded(Message):
    """``load`` has returned."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__()
        self.comparison = comparison


class Failed(Message):
    """``load`` has raised."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class CompareApp(App[int]):
    """Loads in a thread of its own, which dies with the process: leaving never waits for it."""

    TITLE = "reprodebug"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar = [
        Binding("ctrl+c", "leave", show=False, priority=True),
        Binding("ctrl+q", "leave", show=False, priority=True),
    ]

    def __init__(self, load: Callable[[], Comparison]) -> None:
        super().__init__()
        self._load = load
        self.code = INTERRUPTED
        self.last_words = ""
        """for stderr, once the screen is gone"""

    def on_mount(self) -> None:
        self.push_screen(LoadingScreen())
        threading.Thread(target=self._work, name="reprodebug-compare", daemon=True).start()

    def _work(self) -> None:
        try:
            message: Message = Loaded(self._load())
        except BaseException as error:  # noqa: BLE001 - shown in a dialog, and the exit code says so
            message = Failed(error)
        if self.is_running:
            self.post_message(message)

    def on_loaded(self, message: Loaded) -> None:
        self.code = EXIT_CODES[message.comparison.verdict]
        self.switch_screen(CompareScreen(message.comparison))

    def on_failed(self, message: Failed) -> None:
        error = message.error
        if isinstance(error, ReprodebugError):
            self.code = NOTHING_COMPARABLE if isinstance(error, NothingComparable) else UNREADABLE
            hint = f"\n  hint: {visible(error.hint, 400)}" if error.hint else ""
            self.last_words = f"reprodebug: {visible(error.message, 400)}{hint}"
            self.switch_screen(ErrorScreen(error))
        else:
            self.code = UNREADABLE
            self.last_words = f"reprodebug: the comparison failed unexpectedly: {type(error).__name__}: {visible(error, 400)}"
            self.push_screen(FailureDialog(error))

    def action_leave(self) -> None:
        """Quit with the exit code of what is on the screen."""
        self.exit(self.code, return_code=self.code)
