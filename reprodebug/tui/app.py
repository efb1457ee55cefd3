"""The apps: which screen follows which, and the exit code. They route only; the screens do the rest."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.message import Message
from textual.screen import Screen

from reprodebug._base.errors import NothingComparable, ReprodebugError
from reprodebug._base.text import visible
from reprodebug.compare.evidence import Evidence
from reprodebug.model.comparison import Comparison
from reprodebug.model.experiment import Bisection
from reprodebug.tui import actions, palette
from reprodebug.tui.screens.compare import CompareScreen
from reprodebug.tui.screens.states import ErrorScreen, FailureDialog, LoadingScreen, write_log

if TYPE_CHECKING:
    from reprodebug.tui.screens.job import Job

EXIT_CODES = {"identical": 0, "equivalent": 0, "divergent": 1, "incomparable": 3}
UNREADABLE, NOTHING_COMPARABLE, INTERRUPTED = 2, 3, 130

Loader = Callable[[Callable[[str], None]], "tuple[Comparison, Evidence | None]"]
"""gets a function to name its stages with; raises what a comparison raises"""


class Loaded(Message):
    """``load`` has returned."""

    def __init__(self, comparison: Comparison, evidence: Evidence | None) -> None:
        super().__init__()
        self.comparison = comparison
        self.evidence = evidence


class Stage(Message):
    """``load`` has begun with something else."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class Failed(Message):
    """``load`` has raised."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class ReprodebugApp(App[int]):
    """What all our apps share: themes, the palette of commands, and leaving from anywhere."""

    TITLE = "reprodebug"
    BINDINGS: ClassVar = [
        Binding("ctrl+c", "leave", show=False, priority=True),
        Binding("ctrl+q", "leave", show=False, priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.code = INTERRUPTED
        self.last_words = ""
        """for stderr, once the screen is gone"""
        self._threads: list[tuple[threading.Thread, Callable[[], None]]] = []
        self._look = palette.THEMES[0]
        palette.use(self._look)
        for theme in palette.textual_themes():
            self.register_theme(theme)
        self.theme = palette.internal(self._look)

    def on_mount(self) -> None:
        if not self.is_headless:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread
                    asyncio.get_running_loop().add_signal_handler(number, self._told_to_end, number)

    def _told_to_end(self, number: int) -> None:
        """By ``kill``, or because the terminal is gone: as the user's leaving, so that nothing is left running, nor the terminal raw."""
        self.code = 128 + number
        self.action_leave()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Everything that the screen can do, by name, and the themes."""
        for a in actions.of(getattr(screen, "NAME", "")):
            if a.action == "app.command_palette":
                continue
            name, _, more = a.title.partition(": ")
            keys = " or ".join(actions.glyph(k) for k in a.keys)
            yield SystemCommand(name, f"{more}; key {keys}" if more else f"key {keys}", self._caller(screen, a.action))
        for look in palette.THEMES:
            yield SystemCommand(f"theme: {look}", f"switch to the {look} theme", lambda look=look: self.use_theme(look))

    def _caller(self, screen: Screen[Any], action: str) -> Callable[[], Any]:
        async def call() -> None:
            await screen.run_action(action)

        return call

    def action_theme(self) -> None:
        """The next theme."""
        self.use_theme(palette.THEMES[(palette.THEMES.index(self._look) + 1) % len(palette.THEMES)])
        self.notify(f"theme: {self._look}", timeout=2, markup=False)

    def use_theme(self, look: str) -> None:
        """Switch to one of ``palette.THEMES``."""
        self._look = look
        palette.use(look)
        self.theme = palette.internal(look)
        for screen in self.screen_stack:
            changed = getattr(screen, "theme_changed", None)
            if changed is not None:
                changed()

    def action_leave(self) -> None:
        """Quit with the exit code of what is on the screen."""
        self.exit(self.code, return_code=self.code)

    def _handle_exception(self, error: Exception) -> None:
        """A bug in a screen ends the app with one sentence on stderr; its traceback goes to a file, never over the screen."""
        if self.is_headless:
            super()._handle_exception(error)
            return
        log = write_log(error)
        self.code = UNREADABLE if self.code == INTERRUPTED else self.code
        where = f"\n  hint: this is a bug of reprodebug; the traceback in {log} belongs in the report" if log else ""
        self.last_words = f"reprodebug: the screen failed: {type(error).__name__}: {visible(error, 400)}{where}"
        self.action_leave()

    def wait_for(self, thread: threading.Thread, end: Callable[[], None]) -> None:
        """A thread that must be over before the process ends; ``end`` asks it to."""
        self._threads.append((thread, end))

    def end_threads(self) -> None:
        """Called once the screen is gone: asks what still runs to end, and waits for it."""
        for _, end in self._threads:
            end()
        for thread, _ in self._threads:
            if thread.is_alive():
                thread.join()

    def bisected(self, result: Bisection) -> None:
        """A search has ended by itself."""

    def left_bisect(self, screen: Screen[Any]) -> None:
        """The user left a bisect screen."""
        self.pop_screen()

    def in_thread(self, work: Callable[[], Message], name: str) -> None:
        """Do ``work`` in a thread that dies with the process, so that leaving never waits for it; its message comes back here."""

        def run() -> None:
            try:
                message = work()
            except BaseException as error:  # noqa: BLE001 - shown in a dialog, and the exit code says so
                message = Failed(error)
            if self.is_running:
                self.post_message(message)

        threading.Thread(target=run, name=name, daemon=True).start()


class BisectApp(ReprodebugApp):
    """Shows a search from its beginning."""

    def __init__(self, job: Job, exit_codes: dict[str, int]) -> None:
        super().__init__()
        self._job = job
        self._exit_codes = exit_codes
        self.result: Bisection | None = None

    def on_mount(self) -> None:
        from reprodebug.tui.screens.bisect import BisectScreen

        self.push_screen(BisectScreen(self._job, confirm=False))

    def bisected(self, result: Bisection) -> None:
        self.result = result
        self.code = self._exit_codes[result.outcome]

    def left_bisect(self, screen: Screen[Any]) -> None:
        failure = getattr(screen, "failure", "")
        if failure:
            self.code, self.last_words = UNREADABLE, failure
        self.action_leave()


def settle() -> None:
    """What is loaded stays until the end: the collector, off until here, never walks it, so that no key waits for that."""
    gc.freeze()
    gc.enable()


class CompareApp(ReprodebugApp):
    """Reads two runs in a thread, then shows their comparison."""

    def __init__(self, load: Loader, turned: Loader | None = None) -> None:
        """``turned`` compares B with A, for when the user swaps the two."""
        super().__init__()
        self._load = load
        self._turned = turned

    def on_mount(self) -> None:
        soon = getattr(self._load, "soon", None)
        if soon is not None and soon():
            try:
                loaded = Loaded(*self._load(self._say))
            except BaseException as error:  # noqa: BLE001 - shown in a dialog, and the exit code says so
                self.on_failed(Failed(error))
            else:
                self.on_loaded(loaded)
        else:
            self.push_screen(LoadingScreen())
            self.in_thread(lambda: Loaded(*self._load(self._say)), "reprodebug-compare")

    def _say(self, stage: str) -> None:
        if self.is_running:
            self.post_message(Stage(stage))

    def on_stage(self, message: Stage) -> None:
        if isinstance(self.screen, LoadingScreen):
            self.screen.stage(message.name)

    def on_loaded(self, message: Loaded) -> None:
        self.code = EXIT_CODES[message.comparison.verdict]
        turned = self._turned
        self._show(CompareScreen(message.comparison, message.evidence, None if turned is None else lambda: turned(lambda stage: None)[0]))
        self.call_after_refresh(settle)

    def _show(self, screen: Screen[Any]) -> None:
        """In the place of the loading screen, where there is one."""
        if isinstance(self.screen, LoadingScreen):
            self.switch_screen(screen)
        else:
            self.push_screen(screen)

    def on_failed(self, message: Failed) -> None:
        error = message.error
        if isinstance(error, ReprodebugError):
            self.code = NOTHING_COMPARABLE if isinstance(error, NothingComparable) else UNREADABLE
            hint = f"\n  hint: {visible(error.hint, 400)}" if error.hint else ""
            self.last_words = f"reprodebug: {visible(error.message, 400)}{hint}"
            self._show(ErrorScreen(error))
        else:
            self.code = UNREADABLE
            self.last_words = f"reprodebug: the comparison failed unexpectedly: {type(error).__name__}: {visible(error, 400)}"
            self.push_screen(FailureDialog(error))
