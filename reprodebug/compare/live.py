"""A run that is still being recorded, compared with a finished one now and then: has it parted from it already?

Decides nothing of its own: what is first to differ, ``compare.runs`` says, of what the journals hold so far.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from reprodebug._base.errors import ReprodebugError
from reprodebug.model.comparison import Divergence
from reprodebug.store.run import StoredRun, journal_paths, open_run

_EVERY_S = 0.5
_SHARE = 5.0
"""a comparison is followed by a pause of this many times its own duration"""
_GROWN = 1.1
"""times what was compared before: less is not worth another look"""


class Live:
    """Watches one recording."""

    def __init__(self, reference: StoredRun, run: str) -> None:
        """``reference``: the finished run; ``run``: the directory of the one that is being recorded."""
        self._reference, self._run = reference, run
        self._next = self._nbytes = 0.0
        self.first: Divergence | None = None
        """where it parted"""
        self.outran = False
        """it is past the end of the reference without having parted: there is nothing left to compare"""

    def parted(self) -> bool:
        """Whether there is nothing more to see; cheap to ask often. True once the step of the first divergence is over."""
        if self.first is not None or self.outran:
            return True
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _EVERY_S
        size = sum(_size(p) for p in journal_paths(self._run))
        if size < self._nbytes * _GROWN or not size:
            return False
        self._nbytes = size
        self._look()
        self._next = time.monotonic() + max(_EVERY_S, _SHARE * (time.monotonic() - now))
        return self.first is not None or self.outran

    def _look(self) -> None:
        from reprodebug.compare.runs import compare_runs

        try:
            run = open_run(self._run)
            found = compare_runs(self._reference, run)
        except ReprodebugError:
            return  # nothing comparable yet
        last, steps = found.a.steps, found.b.steps  # of all its processes, where one run was cut into several
        if found.verdict == "divergent" and found.first is not None and (found.first.step < steps or not last):
            self.first = found.first
        elif found.verdict != "divergent" and last and steps > last + 1:
            self.outran = True


def watch(reference: StoredRun) -> Callable[[str], bool]:
    """For ``capture``: given the directory of a run that is being recorded, whether it may end."""
    watched: dict[str, Live] = {}

    def enough(run: str) -> bool:
        if run not in watched:
            watched[run] = Live(reference, run)
        return watched[run].parted()

    return enough


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0
