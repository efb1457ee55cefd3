"""The terminal interface: one function for each thing that can be opened.

Owns the way in and the exit code. Importing this package imports nothing heavy; Textual is imported when a screen opens.
Refuses to decide whether there is a terminal: the command line does that, and prints text where there is none.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reprodebug.compare.evidence import Evidence
    from reprodebug.model.comparison import Comparison
    from reprodebug.model.experiment import Bisection
    from reprodebug.tui.app import Loader, ReprodebugApp
    from reprodebug.tui.screens.job import Search


_TERMINAL = "/dev/tty"


def has_keyboard() -> bool:
    """Whether there is a terminal to read keys from: stdin, or where that is something else (``... < list``), the controlling one."""
    if _is_terminal(0):
        return True
    try:
        os.close(os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _is_terminal(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def run_compare(load: Loader, turned: Loader | None = None) -> int:
    """Open the compare screen on what ``load`` returns; ``load`` runs in a thread while a loading screen is shown.

    ``turned`` compares the two runs the other way round, for when the user swaps them.

    Returns the exit code: 0 identical or equivalent, 1 divergent, 3 incomparable, 2 where the runs could not be read,
    130 where the user left before the comparison was ready. A failure is repeated on stderr, since the screen is gone.
    """
    import gc

    gc.disable()  # importing makes no garbage; the app switches it on with the first frame
    try:
        ahead = _Ahead(load)
        from reprodebug.tui.app import CompareApp

        return _run(CompareApp(ahead, turned))
    finally:
        gc.unfreeze()
        gc.enable()


_MOMENT_S = 0.06


class _Ahead:
    """Begins to load while Textual is imported; called, it is ``load`` itself."""

    def __init__(self, load: Loader) -> None:
        self._stage = ""
        self._say: Callable[[str], None] | None = None
        self._result: tuple[Comparison, Evidence | None] | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, args=(load,), name="reprodebug-load", daemon=True)
        self._thread.start()

    def _work(self, load: Loader) -> None:
        try:
            self._result = load(self._tell)
        except BaseException as error:  # noqa: BLE001 - raised again where it is asked for
            self._error = error

    def _tell(self, stage: str) -> None:
        self._stage = stage
        if self._say is not None:
            self._say(stage)

    def soon(self) -> bool:
        """Wait for a moment, shorter than a loading screen would take to be drawn; True where the result is there."""
        self._thread.join(_MOMENT_S)
        return not self._thread.is_alive()

    def __call__(self, say: Callable[[str], None]) -> tuple[Comparison, Evidence | None]:
        if self._stage:
            say(self._stage)
        self._say = say
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result


def run_bisect(search: Search, command: str, exit_codes: dict[str, int], *, resume: bool = False) -> tuple[int, Bisection | None]:
    """Open the bisect screen on a search that starts at once; ``command`` says the same without a screen.

    Returns the exit code (``exit_codes`` by outcome, 2 where the question makes no sense, 130 where the user left before the
    end) and what was found, None where nothing was. Returns only when no trial runs any more.
    """
    from reprodebug.tui.app import BisectApp
    from reprodebug.tui.screens.job import Job

    app = BisectApp(Job(search, (), command, resume), exit_codes)
    return _run(app), app.result


def _run(app: ReprodebugApp) -> int:
    if not _is_terminal(0) and has_keyboard():
        keys = os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY)
        os.dup2(keys, 0)  # Textual reads the keys there
        os.close(keys)
    try:
        code = app.run()
    finally:
        app.end_threads()
    if app.last_words:
        sys.stderr.write(app.last_words + "\n")
    return (app.return_code or 1) if code is None else code
