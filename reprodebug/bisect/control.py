"""What steers an experiment from another thread: pause, resume, cancel; and who is told of what happens.

For a screen that runs the search in a thread worker::

    control = Control()

    def work() -> None:                                   # in the worker's thread
        try:
            api.bisect(question, listen=lambda event: app.call_from_thread(screen.show, event), control=control)
        except Cancelled:
            ...                                           # the state is kept: the same question with resume=True goes on
        except ReprodebugError as error:
            ...                                           # message and hint; a question that makes no sense, for instance

    control.pause(); control.resume(); control.cancel()   # from any thread, at any time, more than once
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from reprodebug.model.progress import Event, Paused, Resumed

Listener = Callable[[Event], None]
"""Told everything that happens, one event after another, never two at once; in the thread of the search or of one of its
trials, which waits for it: it should be quick. What it raises ends the search."""


class Cancelled(Exception):
    """The search was cancelled by ``Control.cancel``. Nothing of it runs any more; its session can be resumed."""


class Control:
    """The handle of one search. A new one for each call of ``bisect``."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._paused = self._cancelled = False

    @property
    def paused(self) -> bool:
        """A pause was asked for; ``Paused`` tells when it has come into effect."""
        return self._paused

    @property
    def cancelled(self) -> bool:
        """``cancel`` was called."""
        return self._cancelled

    def pause(self) -> None:
        """Begin no other trial. One that runs goes on to its end and counts."""
        self._set(paused=True)

    def resume(self) -> None:
        """Go on after ``pause``."""
        self._set(paused=False)

    def cancel(self) -> None:
        """End the running trials with their process groups, and the search; returns at once.

        The search raises ``Cancelled`` as soon as they are gone: within a tenth of a second, or some seconds where a
        program does not obey SIGTERM. Trials that had ended are kept for ``--resume``.
        """
        self._set(cancelled=True)

    def check(self) -> None:
        """Raises Cancelled where ``cancel`` was called."""
        if self._cancelled:
            raise Cancelled("the search was cancelled")

    def gate(self, listen: Listener) -> None:
        """Called before each trial: waits while it is paused. Raises Cancelled."""
        self.check()
        if not self._paused:
            return
        listen(Paused())
        with self._changed:
            while self._paused and not self._cancelled:
                self._changed.wait(1.0)
        self.check()
        listen(Resumed())

    def _set(self, *, paused: bool | None = None, cancelled: bool = False) -> None:
        with self._changed:
            self._paused = self._paused if paused is None else paused
            self._cancelled = self._cancelled or cancelled
            self._changed.notify_all()
