"""One trial: the program under one candidate's circumstances, recorded up to the horizon and compared with A.

Its verdict is a class. What could not be built, did not start, crashed, hung, ran out of memory, or did not take the
circumstances that were asked for is untestable: never good, never bad.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from reprodebug._base.errors import ReprodebugError
from reprodebug._base.text import visible
from reprodebug.bisect import process
from reprodebug.bisect.control import Control
from reprodebug.bisect.opened import Watch
from reprodebug.model.comparison import Comparison, Divergence
from reprodebug.model.experiment import OTHER, SAME_AS_A, SAME_AS_B, UNTESTABLE

if TYPE_CHECKING:
    from reprodebug.store.run import StoredRun

_MEMORY_SHARE = 0.9
"""of the memory that is free when a trial starts: what it may take"""
_CACHES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton", "TORCH_EXTENSIONS_DIR": "extensions"}
"""variables of caches that one candidate must not leave to the next -> folder below the trial's own"""


OPENED = "opened.json"
"""in a trial's folder: which files of its working tree it opened"""


IMPOSSIBLE = "an impossible mixture"
"""how the reason of a candidate begins that was told to be none before anything was run: it is no trial"""


class Untestable(ReprodebugError):
    """A candidate that cannot be tried; the message says why."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """The program under chosen circumstances, ready to be started."""

    key: str
    """the same for the same circumstances, across restarts of the tool"""
    text: str
    command: tuple[str, ...]
    cwd: str
    environment: dict[str, str]
    impose: dict[str, Any] = field(default_factory=dict)
    """settings that the guest imposes inside the program"""
    check: Callable[[StoredRun], str] | None = None
    """looks at the recorded run: a sentence where what was asked for did not take, or ''"""
    tree: str = ""
    """a working tree of which is to be told what the trial opens"""


@dataclass(frozen=True, slots=True)
class Horizon:
    """Where a trial may end: after so many optimizer steps, or calls of a program without optimizer; 0: at its own end."""

    steps: int = 0
    turns: int = 0
    least_s: float = 0.0
    """but not before so many seconds since its first step or call"""


@dataclass(frozen=True, slots=True)
class Executed:
    """A trial that has run."""

    run: str
    """directory of its run"""
    log: str
    exit_code: int
    seconds: float
    stopped_at: int | None
    reason: str = ""
    """why it cannot count, or ''"""


def execute(
    candidate: Candidate, folder: str, horizon: Horizon, *, limit: float | None = None, control: Control | None = None, against: str = ""
) -> Executed:
    """Run a candidate in ``folder`` (made here): ``run/``, ``log.txt``, ``opened.json``, its caches. Never raises for what the program does.

    ``against`` is a run (directory): the trial also ends after the step in which it has parted from it. Raises Cancelled where
    ``control`` is cancelled."""
    from reprodebug.capture import finish, launch
    from reprodebug.compare.live import Live
    from reprodebug.recorder.detail import Options
    from reprodebug.recorder.imposed import VARIABLE
    from reprodebug.store.run import open_run

    os.makedirs(folder, exist_ok=True)
    run, log = os.path.join(folder, "run"), os.path.join(folder, "log.txt")
    request = launch.Request(list(candidate.command), run, cwd=candidate.cwd, environment=candidate.environment)
    started = time.time()
    try:
        launch.new_run_directory(run, candidate.cwd, "trial")
        environment = launch.child_environment(run, request)
    except ReprodebugError as error:
        return Executed(run, log, -1, 0.0, None, error.message)
    environment[Options.VARIABLE] = Options(
        until=horizon.steps, turns=horizon.turns, watched=bool(against), least_ms=int(horizon.least_s * 1000)
    ).to_json()
    if candidate.impose:
        import json

        environment[VARIABLE] = json.dumps(candidate.impose)
    for name, place in _CACHES.items():
        environment[name] = os.path.join(folder, "cache", place)
    lock = launch.hold(run)
    seen = finish.Watch(run)
    finish.begin(run, request, candidate.cwd, started, seen)
    journal = os.path.join(run, "journal")

    watch = Live(open_run(against), run) if against else None

    def served() -> bool:
        if watch is not None and watch.first is None and watch.parted():
            launch.dismiss(run)
        return any(n.startswith("stopped-") for n in _names(journal))

    opened = Watch(candidate.tree) if candidate.tree else None
    spare = process.available()
    memory = None if spare is None else int(spare * _MEMORY_SHARE)
    try:
        ended = process.run(
            list(candidate.command), candidate.cwd, environment, log, limit=limit, done=served, mark=("REPRODEBUG_RUN", run),
            control=control, memory=memory,
        )  # fmt: skip
    except OSError as error:
        launch.release(lock)
        return Executed(run, log, 127, time.time() - started, None, f"{candidate.command[0]} could not be started: {error.strerror}")
    except BaseException:
        launch.release(lock)
        raise
    finally:
        if opened is not None:
            opened.stop(os.path.join(folder, OPENED))
    stopped = _stopped_at(journal)
    code: dict[str, Any] = {"code": {}, "data": {}}
    finish.finish(run, request, candidate.cwd, started, 0 if stopped is not None else ended.exit_code, code, seen, lock)
    reason = f"it did not end within {limit:.0f} s" if ended.hung else ""
    if ended.oversized and memory is not None:
        reason = f"it took more memory than there was: {memory / (1 << 30):.1f} GiB"
    return Executed(run, log, 0 if stopped is not None else ended.exit_code, time.time() - started, stopped, reason)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _stopped_at(journal: str) -> int | None:
    found = []
    for name in _names(journal):
        if name.startswith("stopped-"):
            try:
                with open(os.path.join(journal, name)) as f:
                    found.append(int(f.read(20) or 0))
            except (OSError, ValueError):
                found.append(0)
    return max(found) if found else None


@dataclass(frozen=True, slots=True)
class Class:
    """What a trial is like."""

    verdict: str
    reason: str = ""
    first: Divergence | None = None


def classify(
    done: Executed, candidate: Candidate, a: str, b: str | None, *, exit_code: int = 0, located: Divergence | None = None
) -> Class:  # fmt: skip
    """Compare a trial with the runs A and B (directories). ``exit_code`` is the one that A ended with; ``located`` is where
    B parts from A: a trial that differs from A and has B's values there and before is like B."""
    if done.reason:
        return Class(UNTESTABLE, done.reason)
    if done.stopped_at is None and done.exit_code != exit_code:
        return Class(UNTESTABLE, f"the command ended with exit code {done.exit_code}{last_words(done.log)}")
    from reprodebug.store.run import open_run

    try:
        mine = open_run(done.run)
        if candidate.check is not None and (why := candidate.check(mine)):
            return Class(UNTESTABLE, why)
        against = _compared(a, done.run)
    except ReprodebugError as error:
        return Class(UNTESTABLE, f"{error.message}{last_words(done.log)}")
    if against.verdict == "identical":
        return Class(SAME_AS_A)
    if against.verdict == "incomparable":
        return Class(UNTESTABLE, against.reason)
    if b is not None:
        try:
            other = _compared(b, done.run)
            there = located is not None and other.first is not None and other.first.index_a > located.index_b >= 0
            if other.verdict == "identical" or there:
                return Class(SAME_AS_B, against.reason, against.first)
        except ReprodebugError:
            pass
    return Class(OTHER if b is not None else SAME_AS_B, against.reason, against.first)


def _compared(a: str, b: str) -> Comparison:
    from reprodebug.compare.runs import compare_runs
    from reprodebug.store.run import open_run

    return compare_runs(_reference(a), open_run(b))


@lru_cache(maxsize=4)
def _reference(path: str) -> StoredRun:
    """A run that every trial is compared with, its traces read once."""
    from reprodebug.store.run import open_run

    return open_run(path)


def last_words(log: str) -> str:
    """The last line that a program printed, for a sentence; '' where there is none."""
    try:
        with open(log, "rb") as f:
            f.seek(max(0, os.path.getsize(log) - 4096))
            lines = [line for line in f.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return f" ({visible(lines[-1].strip(), 160)})" if lines else ""
