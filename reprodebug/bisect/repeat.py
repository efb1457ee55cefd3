"""Does a command repeat itself, and if not: under which smallest set of settings does it?

A set is tried by running the command until enough runs agreed: how many are needed follows from how often plain runs
differed. The runs of one set are compared with the first of that set, never with those of another.
"""

from __future__ import annotations

import math
import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from reprodebug._base.errors import UsageError
from reprodebug._base.text import listed_words, plural
from reprodebug.bisect import settings as catalogue
from reprodebug.bisect.commits import moved, moved_environment
from reprodebug.bisect.lab import End, Lab, Wanted
from reprodebug.bisect.places import Snapshot
from reprodebug.bisect.search.noise import by_chance, equal_runs, patient, runs_needed, unseen
from reprodebug.bisect.search.sets import solve
from reprodebug.bisect.trial import Candidate, Horizon, Untestable
from reprodebug.model.comparison import Divergence
from reprodebug.model.experiment import FOUND, INCONCLUSIVE, NOT_FOUND, SAME_AS_A, UNTESTABLE, Bisection, Culprit, Trial
from reprodebug.model.progress import CONFIRMING, SEARCHING, VERIFYING
from reprodebug.store.run import open_run

_SECOND = 0.5
"""share of the runs in which a second thing that varies is reckoned to show: how often it does is hidden behind the first"""
_RISKY = ("inter_op_threads", "cpu_capability", "fill_uninitialized_memory", "autocast", "dataloader_workers", "fused_optimizer", "mkldnn", "compile",
          "intra_op_threads", "deterministic_algorithms", "sdp_backend")  # fmt: skip
"""settings under which some programs do not run"""
_SETTLED = 0.98
"""how sure equal runs have to make it that nothing varies any more"""
_SLOWER = 1.2
"""how many times as long as plain ones runs take before it is worth a word"""
_LONG_S = 60.0
"""runs longer than this are cut a while after the step where plain runs parted"""


@dataclass(slots=True)
class Command:
    """What is repeated."""

    words: list[str]
    cwd: str
    environment: Mapping[str, str]
    place: Snapshot | None = None
    """gives a fresh copy of the project for each run; None: in ``cwd``"""


@dataclass(slots=True)
class Repeats:
    """How a command did under one set of settings."""

    trials: list[Trial] = field(default_factory=list)

    @property
    def differing(self) -> Trial | None:
        return next((t for t in self.trials if t.bad), None)


def candidate(command: Command, values: Mapping[str, Any], key: str, text: str) -> Candidate:
    """The command under settings."""
    environment = dict(command.environment)
    guest = catalogue.enter(values, environment)
    check = (lambda run: catalogue.not_taken(run, values)) if values else None
    cwd, words = command.cwd, list(command.words)
    if command.place is not None:
        root, cwd = command.place.enter()
        environment = moved_environment(environment, command.place.root, root, cwd)
        words = [moved(w, command.place.root, root) for w in words]
    return Candidate(key, text, tuple(words), cwd, environment, guest, check)


def repeat(lab: Lab, command: Command, values: Mapping[str, Any], runs: int, *, patient: bool = False) -> Repeats:
    """Run the command ``runs`` times under settings, each compared with the first; ends at the first that differs unless
    ``patient``. Raises Untestable where the first cannot be run."""
    text = "with " + listed_words(sorted(values)) if values else "as it is"
    key = "repeat:" + ",".join(sorted(values))
    end = End(key, text, lambda: candidate(command, values, key, text))
    found = Repeats()
    slots = lab.executor.slots
    lab.ahead([Wanted(key, text, end.make, n) for n in range(min(slots, runs))])
    first = lab.try_(key, text, end.make, judge=lab._as_reference)
    found.trials.append(first)
    if first.verdict == UNTESTABLE:
        raise Untestable(first.reason)
    end.trial = first
    lab._refer(end)
    lab.other = ""
    for n in range(1, runs):
        if n >= slots and n % slots == 0:
            lab.ahead([Wanted(key, text, end.make, k) for k in range(n, min(n + slots, runs))])
        trial = lab.try_(key, text, end.make, n)
        found.trials.append(trial)
        if trial.bad and not patient and not (n + 1) % slots:
            break
    return found


def as_it_is(lab: Lab, command: Command) -> Repeats:
    """Plain runs of the command until one differs, or enough were equal. Raises Untestable."""
    found = repeat(lab, command, {}, 2)
    while found.differing is None and patient([t.seconds for t in found.trials]):
        found = repeat(lab, command, {}, len(found.trials) + lab.executor.slots)
    return found


def minimize(
    lab: Lab, command: Command, *, suspects: Callable[[str, str], Mapping[str, float]] | None = None
) -> Bisection:  # fmt: skip
    """The smallest set of settings of the catalogue under which the command repeats.

    ``suspects``: given the directories of two runs that differ, settings -> weight: those to be tried first.
    """
    if lab.probe:
        raise UsageError("whether a command repeats is told by comparing its runs, which a probe cannot", hint="leave out --probe")
    lab.phase(VERIFYING, "settings")
    lab.left = None
    try:
        plain = as_it_is(lab, command)
    except Untestable as error:
        return _done(lab, INCONCLUSIVE, f"the command cannot be run: {error.message}")
    counted = [t for t in plain.trials[1:] if t.verdict != UNTESTABLE]
    different = plain.differing
    if different is None:
        if not counted:
            return _done(lab, INCONCLUSIVE, f"the command could not be repeated: {plain.trials[-1].reason}")
        fresh = command.place is not None and not command.place.in_place
        notes = [f"{unseen(len(counted))}: `reprodebug check -n 40 -- COMMAND` looks longer"]
        if fresh:
            notes.append(
                "each run had a fresh copy of the project: if it does not repeat where it is, one run finds what another left there"
            )
        why = f"the command repeats itself as it is: {plural(1 + len(counted), 'run')} were equal bit for bit"
        return _done(lab, NOT_FOUND, why, notes=notes)
    where = different.first
    needed = 1 + equal_runs(*seen(lab.made), 0.85)
    sure = enough(where, lab.made)
    if where is not None and plain.trials[0].seconds > _LONG_S:
        steps = where.step * 4 + 8
        lab.horizon = Horizon(steps, steps * 16)
    a = open_run(os.path.join(lab.session.path, plain.trials[0].path))
    names = [s.name for s in catalogue.CATALOGUE if not s.gpu or catalogue.uses_gpu(a)]
    weights = {s.name: s.prior for s in catalogue.CATALOGUE}
    if suspects is not None:
        given = suspects(a.path, os.path.join(lab.session.path, different.path))
        weights = {n: w * (1 + 40 * given.get(n, 0.0)) for n, w in weights.items()}
    seconds = [t.seconds for t in plain.trials if t.bad is not None]

    failed: list[str] = []

    def under(chosen: frozenset[str], runs: int = needed) -> bool | None:
        try:
            found = repeat(lab, command, {n: catalogue.BY_NAME[n].cure for n in names if n in chosen}, runs)
        except Untestable as error:
            failed.append(error.message)
            return None
        said = [t.bad for t in found.trials[1:]]
        return None if None in said else not any(said)

    def tell(kept: list[str], rest: list[str]) -> None:
        lab.remain("set", rest, total, (math.ceil(math.log2(max(1, len(rest)))) + 1) * (needed - 1) + sure, kept)

    total = len(names)
    lab.phase(SEARCHING)
    tell([], names)
    everything, dropped = _whole(under, names, lambda: failed[-1])
    notes = [f"{n} could not be imposed on this program" + (f": {failed[-1]}" if len(dropped) == 1 else "") for n in dropped]
    kept = shlex.join([a.path, os.path.join(lab.session.path, different.path)])
    next_step = f"where two runs of it part, and what that points at: reprodebug compare {kept}"
    bound = f"log2 of {plural(len(names), 'setting')}, one of them: {math.log2(len(names)):.1f}"
    if everything is not True:
        names = [n for n in names if n not in dropped]
        best = _each(under, names, weights) if everything is None else None
        if best is None:
            reason = "no setting of the catalogue makes the command repeat itself: what varies lies in the program or its data"
            if everything is None:
                reason = "no setting of the catalogue makes the command repeat itself alone, and all of them together could not be tried"
            return _done(
                lab, NOT_FOUND, reason,
                notes=[next_step, *notes], first=where, bound=bound,
            )  # fmt: skip
        chosen: tuple[str, ...] = (best,)
    else:
        names = [n for n in names if n not in dropped]
        for runs in (needed, needed + 2, sure + 4):
            before = len(failed)
            chosen = solve(names, weights, partial(under, runs=runs), tell).items
            if len(failed) > before:
                chosen = thinned(chosen, partial(under, runs=runs))
            sure = enough(where, lab.made)
            lab.phase(CONFIRMING)
            if under(frozenset(chosen), max(sure, runs + 1)):
                break
    confirmed = under(frozenset(chosen), max(sure, needed + 1))
    if confirmed is not True:
        return _done(
            lab,
            INCONCLUSIVE,
            f"{listed_words(chosen)} made the command repeat, and then not any more",
            notes=notes,
            first=where,
            bound=bound,
        )
    text = "with " + listed_words(sorted(chosen))
    slower = [t.seconds for t in lab.made if t.candidate == text and t.bad is not None]
    factor = (sum(slower) / len(slower)) / max(1e-9, sum(seconds) / len(seconds))
    if factor >= _SLOWER:
        notes.append(f"with it the command took {factor:.1f} times as long ({plural(len(slower), 'run')} against {len(seconds)})")
    notes.append("A stands for the command with it, B for the command as it is")
    cures = [f"{n}: {catalogue.BY_NAME[n].remedy}" for n in chosen]
    agreed = sum(t.verdict == SAME_AS_A for t in lab.made if t.candidate == text) - 1
    confidence = 1 - by_chance(*seen(lab.made), agreed)
    culprit = Culprit(settings={n: {"a": catalogue.BY_NAME[n].cure, "b": _plain_value(a, n)} for n in chosen})
    return replace(
        _done(lab, FOUND, f"the command repeats itself with {listed_words(chosen)}, and not without", notes=notes, first=where, bound=bound),
        culprit=culprit, confidence=round(min(0.99, confidence), 4), proof=tuple(cures),
    )  # fmt: skip


def _whole(under: Callable[[frozenset[str]], bool | None], names: list[str], why: Callable[[], str]) -> tuple[bool | None, list[str]]:
    """Whether everything together cures; where it cannot be run, settings are left out until it can, first those that ``why``, the
    reason of the last failure, speaks of. (answer, left out)"""
    said = under(frozenset(names))
    if said is not None:
        return said, []
    dropped: list[str] = []
    left = [n for n in _RISKY if n in names]
    while left:
        risky = next((n for n in left if n in why() or n.partition("_")[0] in why()), left[0])
        left.remove(risky)
        dropped.append(risky)
        said = under(frozenset(names) - set(dropped))
        if said is not None:
            alone = under(frozenset(names) - {risky}) if len(dropped) > 1 else None
            return (said, dropped) if alone is None else (alone, [risky])
    return None, dropped


def thinned(chosen: tuple[str, ...], under: Callable[[frozenset[str]], bool | None]) -> tuple[str, ...]:
    """The set without what it can do without: where some sets could not be tried, the search may have kept more than it takes."""
    for item in chosen:
        less = tuple(c for c in chosen if c != item)
        if less and under(frozenset(less)):
            chosen = less
    return chosen


def seen(trials: Sequence[Trial]) -> tuple[int, int]:
    """(runs that differed from the first one of their set, runs that were equal to it), over the sets under which the command
    was seen to vary."""
    sets: dict[str, list[bool]] = {}
    for t in trials:
        if t.bad is not None:
            sets.setdefault(t.candidate, []).append(t.bad)
    varied = [said[1:] for said in sets.values() if any(said)]
    differing = sum(sum(said) for said in varied)
    return differing, sum(map(len, varied)) - differing


def enough(where: Divergence | None, trials: Sequence[Trial]) -> int:
    """Equal runs that settle that nothing varies any more. Plain runs part at ``where``; where trials parted elsewhere something
    else varies as well, and how often that shows is hidden behind the first."""

    def place(first: Divergence) -> tuple[object, ...]:
        return first.step, first.phase, first.module, first.tensor

    further = equal_runs(*seen(trials), _SETTLED)
    if where is not None and any(t.bad and t.first is not None and place(t.first) != place(where) for t in trials):
        further = max(further, runs_needed(_SECOND, 0.99))
    return 1 + further


def _each(under: Callable[..., bool | None], names: list[str], weights: Mapping[str, float]) -> str | None:
    return next((n for n in sorted(names, key=lambda n: -weights[n]) if under(frozenset([n]))), None)


def _plain_value(run: Any, name: str) -> Any:
    """What a setting was in the plain run, as far as it shows."""
    setting = catalogue.BY_NAME[name]
    seen = catalogue.facts(run)
    return next((seen[k] for k in setting.seen if k in seen), None)


def _done(lab: Lab, outcome: str, reason: str, *, notes: list[str] | None = None, first: Any = None, bound: str = "") -> Bisection:
    return Bisection(
        outcome, "settings", reason, first=first, bound=bound, trials=tuple(lab.made), wall_seconds=round(time.monotonic() - lab.started, 3),
        notes=tuple(notes or ()), session=lab.session.path,
    )  # fmt: skip
