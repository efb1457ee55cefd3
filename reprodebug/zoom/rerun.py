"""One recorded run again, up to its divergence, with the operations of a stretch written down; and whether it was the same run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reprodebug._base.errors import ReprodebugError
from reprodebug._base.text import visible
from reprodebug.bisect.recorded import Again
from reprodebug.bisect.session import MARK
from reprodebug.bisect.trial import Executed, Horizon, Untestable, execute, last_words
from reprodebug.model.events import Flag, Kind, Phase
from reprodebug.recorder.stretch import VARIABLE, Stretch
from reprodebug.zoom.log import Log, read
from reprodebug.zoom.window import Bounds

if TYPE_CHECKING:
    from reprodebug.store.run import StoredRun
    from reprodebug.store.trace import Trace


class NotRepeatable(ReprodebugError):
    """A re-execution left its recording before the divergence; the message says where."""


class Unfollowed(Untestable):
    """It was run again, but its operations could not be written down; the message says why."""


@dataclass(slots=True)
class Repeat:
    """A re-execution that reached its stretch."""

    run: StoredRun
    log: Log
    same: bool | None
    """whether it had its recording's value at the divergence; None where that could not be read"""
    path: str
    """its directory"""


@dataclass(slots=True)
class Runner:
    """Executes one side."""

    again: Again
    folder: str
    process: tuple[int, int]
    """rank, and which of its processes"""
    index: int
    """position of the divergent event in the recording"""
    exit_code: int = 0
    limit: float | None = None
    say: Callable[[str], None] = lambda text: None
    count: int = 0

    def run(
        self, bounds: Bounds, max_bytes: int, *, keep: list[int] | None = None, look: dict[str, Any] | None = None, what: str = ""
    ) -> Repeat:
        """Execute, verify, read. ``keep``, ``look``: as in ``Stretch``.

        Raises Untestable where it could not be run and NotRepeatable where it is another run."""
        name = self.again.name
        self.say(f"running {name} again{what}")
        executed = self.execute(Stretch(*self.process, bounds.arm, bounds.start, bounds.target, bounds.stop, max_bytes, keep, None, look))
        from reprodebug.store.run import open_run

        try:
            mine = open_run(executed.run)
        except ReprodebugError as error:
            raise Untestable(f"{name} could not be run again: {error.message}{last_words(executed.log)}") from error
        self.again.edited(mine)
        if executed.exit_code and "EOFError" in (words := last_words(executed.log)):
            raise Untestable(f"{name} could not be run again: it asks for standard input, which is not recorded and is empty here{words}")
        recorded = self.again.run.trace(*self.process)
        if self.process not in mine.traces:
            if not any(p.events for p in mine.manifest.processes):
                why = f"it ended with exit code {executed.exit_code}" if executed.exit_code else "it called no module of torch"
                why = self.again.gone() or why
                raise Untestable(f"{name} could not be run again: {why}{last_words(executed.log)}")
            raise NotRepeatable(f"{name} is not repeatable here: its process {self.process} did not come again")
        trace = mine.trace(*self.process)
        parted = first_apart(recorded, trace, self.index)
        if parted is not None:
            raise NotRepeatable(f"{name} is not repeatable here: run again it leaves its recording, first at {parted}")
        if len(trace.events) <= self.index:
            lost = next((str(n.get("what")) for n in trace.notes_meta if n.get("type") == "lost"), "")
            why = f"it ended with exit code {executed.exit_code}" if executed.exit_code else "it ended"
            raise NotRepeatable(f"{name} is not repeatable here: {why} before the divergence{last_words(executed.log)}{visible(lost, 200)}")
        log = read(executed.run)
        if log is None or not log.complete:
            lost = next((str(n.get("what")) for n in trace.notes_meta if n.get("type") == "lost"), "")
            why = f": {visible(lost, 300)}" if lost else ""
            raise Unfollowed(f"the operations of {name} could not be written down{why}{last_words(executed.log)}")
        return Repeat(mine, log, equal(recorded, trace, self.index), executed.run)

    def execute(self, stretch: Stretch) -> Executed:
        """One execution in a fresh copy of the project."""
        candidate = self.again.enter()
        candidate.environment[VARIABLE] = stretch.to_json()
        candidate.environment[MARK] = self.folder
        self.count += 1
        folder = os.path.join(self.folder, f"{self.again.name}-{self.count}")
        executed = execute(candidate, folder, Horizon(), limit=self.limit)
        shutil.rmtree(os.path.join(folder, "cache"), ignore_errors=True)
        if executed.reason:
            raise Untestable(f"{self.again.name} could not be run again: {executed.reason}")
        return executed


def first_apart(recorded: Trace, again: Trace, end: int) -> str | None:
    """Where two traces of one program part before position ``end``, in words; None where they do not."""
    import numpy as np

    from reprodebug.compare.align import align

    found = align(recorded, again)
    n = min(end, len(again.events))
    p, q = found.place_a[:n], found.place_b[:n]
    e, f = recorded.events[:n], again.events[:n]
    unseen = ((e["flags"] | f["flags"]) & Flag.UNOBSERVED) != 0
    other = (p != q) | (((e["lo"] != f["lo"]) | (e["hi"] != f["hi"])) & ~unseen)
    where = np.flatnonzero(other)
    return place(recorded, int(where[0])) if len(where) else None


def equal(recorded: Trace, again: Trace, at: int) -> bool | None:
    """Whether the event at a position has the same values; None where they were not read."""
    e, f = recorded.events[at], again.events[at]
    if (e["flags"] | f["flags"]) & Flag.UNOBSERVED:
        return None
    return bool(e["lo"] == f["lo"] and e["hi"] == f["hi"])


def place(trace: Trace, at: int) -> str:
    """An event in words."""
    e = trace.events[at]
    root, module, _, tensor = trace.sites[int(e["site"])]
    kind, phase = Kind(int(e["kind"])).word, Phase(int(e["phase"])).word
    return f"{kind} {visible(tensor, 60)} of {visible(module or root, 80)}, step {int(e['step'])}, phase {phase}"
