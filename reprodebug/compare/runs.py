"""Two runs in, one Comparison out. The one place that decides the verdict and the first divergence."""

from __future__ import annotations

import dataclasses
import heapq
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reprodebug._base.errors import NothingComparable
from reprodebug._base.text import plural
from reprodebug.compare import align as alignment
from reprodebug.compare import coverage as seen
from reprodebug.compare import devices, places, pools, restarts
from reprodebug.compare.before import equal_before
from reprodebug.compare.generators import random_state_differences
from reprodebug.compare.history import history_differences, module_table
from reprodebug.compare.importance import NO_EFFECT
from reprodebug.compare.loops import loop_differences
from reprodebug.compare.losses import loss_values
from reprodebug.compare.portrait import of_pair
from reprodebug.compare.surroundings import surroundings
from reprodebug.model.comparison import (
    Comparison,
    Counts,
    Coverage,
    Difference,
    Divergence,
    Gap,
    LayerDifference,
    RunSide,
    Tolerance,
    Unobserved,
)
from reprodebug.model.events import Flag, Kind, Phase

if TYPE_CHECKING:
    from reprodebug.store.run import StoredRun
    from reprodebug.store.trace import Trace

MINIMUM_COVERAGE = 0.4
"""below this share of parameters and module calls seen, equal records do not make the runs "identical" """
_GAPS = 20


@dataclass(slots=True)
class Pair:
    """One process of A, its partner in B, and how their records met."""

    rank: int
    ordinal: int
    a: Trace
    b: Trace
    align: alignment.Alignment
    mismatch: Any
    """int64[m]: positions in the alignment whose two records differ"""
    unobserved: int
    unlike: int = 0
    """of these: records whose fingerprints were made by different algorithms, on another kind of device"""
    several: bool = False
    """the program has several outermost modules: a generator and a critic, a student and a teacher"""
    elsewhere: int = 0
    """records of A whose equals another process of B's pool has"""

    def first(self) -> int | None:
        """Position in the alignment of the first difference that counts; None when there is none."""
        import numpy as np

        if len(self.mismatch) == 0:
            return None
        where = self.align.a[self.mismatch]
        kinds = self.a.events["kind"][where]
        primary = np.flatnonzero((kinds != Kind.OPTIMIZER) & (kinds != Kind.RNG))
        if len(primary) == 0:
            return None
        at = int(primary[0])
        # an optimizer's state counts as first only where it reaches its own parameter within a step
        for early in range(at):
            state, reached = self.a.events[where[early]], self.a.events[where[at]]
            a_site, r_site = self.a.sites[state["site"]], self.a.sites[reached["site"]]
            same = (a_site[0], a_site[1]) == (r_site[0], r_site[1]) and a_site[3].removesuffix(".state") == r_site[3]
            if same and reached["kind"] == Kind.PARAMETER and reached["step"] - state["step"] <= 1:
                return int(self.mismatch[early])
        return int(self.mismatch[at])


@dataclass(frozen=True, slots=True)
class Examined:
    """A comparison together with what it was made from: what the diagnosis reasons on."""

    comparison: Comparison
    a: StoredRun
    b: StoredRun
    pair: Pair | None
    """the process in which the first divergence stands; None where there is none"""
    at: int
    """position of the first divergence in that process's alignment; -1 where there is none"""
    pairs: tuple[Pair, ...] = ()
    """every process that both runs have"""


def compare_runs(a: StoredRun, b: StoredRun, tolerance: Tolerance | None = None) -> Comparison:
    """The comparison alone; see :func:`examine`."""
    return examine(a, b, tolerance).comparison


def examine(a: StoredRun, b: StoredRun, tolerance: Tolerance | None = None) -> Examined:
    """Compare two opened runs.

    Raises NothingComparable when one of them recorded nothing, or fingerprints of the two cannot be compared.
    """
    tolerance = tolerance or Tolerance()
    shared = [key for key in sorted(a.traces) if key in b.traces]
    _check(a, b, shared)
    around = surroundings(a.manifest, b.manifest)
    pairs, parts = [], restarts.chains(a, b, shared)
    for key in shared:
        ta, tb = (restarts.joined(run, keys[key]) if key in keys else run.trace(*key) for run, keys in zip((a, b), parts, strict=True))
        if len(ta.events) and len(tb.events):
            pairs.append(_pair(*key, ta, tb))
            if _begins_otherwise(pairs[-1]) and (later := restarts.resumed(ta, tb, around)) is not None:
                pairs[-1] = _pair(*key, *later)
    if not pairs:
        raise NothingComparable(
            "the two runs share no recorded process", hint="check with `reprodebug show RUN` what each of them recorded"
        )
    pools.settle(a, b, pairs)
    firsts = [(p, at) for p in pairs if (at := p.first()) is not None]
    located = sorted(
        ((places.divergence(p, at, tolerance), p, at) for p, at in firsts), key=lambda x: (x[0].step, _PHASES[x[0].phase], x[0].rank)
    )
    layers = tuple(
        heapq.merge(*(places.layers(p, tolerance) for p in pairs), key=lambda x: (x.first.step, _PHASES[x.first.phase], x.first.rank))
    )
    coverage = seen.coverage([p.a for p in pairs], [p.b for p in pairs])
    counts = Counts(
        compared=sum(len(p.align.a) + p.elsewhere - p.unobserved for p in pairs),
        differing=sum(len(p.mismatch) for p in pairs),
        only_a=sum(len(p.align.only_a) for p in pairs),
        only_b=sum(len(p.align.only_b) for p in pairs),
        unobserved=sum(p.unobserved for p in pairs),
    )
    gaps = tuple(g for p in pairs for g in _gaps(p))[:_GAPS]
    first = located[0][0] if located else None
    everything = [
        *around,
        *loop_differences(pairs),
        *history_differences(pairs, (a.manifest, b.manifest)),
        *random_state_differences([p for p in pairs if not p.elsewhere], located),
    ]
    smallest = places.smallest(layers) if first else None
    verdict, reason = _verdict(a, b, pairs, first, layers, counts, coverage, tolerance, gaps)
    on, step = restarts.goes_on([p.a for p in pairs], [p.b for p in pairs])
    if step:
        reason += f"; {on}, and the two are compared from there on, its step 0 as the other's step {step}"
    unmatched = _unmatched(a, b, shared, parts)
    if verdict == "identical" and unmatched:
        reason += f"; not compared: {', '.join(u.what for u in unmatched[:3])}{' and others' if len(unmatched) > 3 else ''}"
    comparison = Comparison(
        verdict=verdict,
        reason=reason,
        a=_side(a, parts[0]),
        b=_side(b, parts[1]),
        first=first if verdict in ("divergent", "equivalent") else None,
        tolerance=tolerance,
        first_by_rank=tuple(d for d, _, _ in located) if len(pairs) > 1 else (),
        equal_before=equal_before(located[0][1], located[0][2]) if located else (),
        layers=layers,
        gaps=gaps,
        differences=_ordered(everything if verdict != "identical" else [_harmless(d) for d in everything]),
        counts=counts,
        coverage=Coverage(coverage.share, coverage.unobserved + unmatched),
        not_recorded=_not_recorded(a, b, pairs, first),
        losses=_losses(pairs[0]),
        steps_differing=_steps_differing(pairs[0]),
        portrait=of_pair(located[0][1], first.index_a, first.index_b) if first is not None else None,
        smallest_tolerance=smallest,
    )
    return Examined(comparison, a, b, located[0][1] if located else None, located[0][2] if located else -1, tuple(pairs))


_PHASES = {p.word: int(p) for p in Phase}


def _check(a: StoredRun, b: StoredRun, shared: list[tuple[int, int]]) -> None:
    for name, run in (("A", a), ("B", b)):
        if not run.traces or not any(p.events for p in run.manifest.processes):
            ended = f"its command ended with code {run.manifest.exit_code}" if run.manifest.exit_code else ""
            why = f" ({'; '.join(filter(None, (ended, *run.notes[:1])))})" if ended or run.notes else ""
            raise NothingComparable(
                f"run {name} recorded no tensor{why}",
                hint="record it again with `reprodebug capture -- COMMAND`; the program must import torch and run a module",
            )
    if not shared:
        raise NothingComparable("the two runs share no rank", hint="compare runs with the same number of processes")
    algorithms = [
        {str(m.get("fingerprint")) for key in shared for m in run.trace(*key).notes_meta if m.get("type") == "start" and "fingerprint" in m}
        for run in (a, b)
    ]
    if algorithms[0] and algorithms[1] and algorithms[0] != algorithms[1]:
        raise NothingComparable(
            f"the fingerprints were made with different hashes ({', '.join(sorted(algorithms[0] | algorithms[1]))})",
            hint="install xxhash in both environments (`pip install xxhash`) and record again",
        )


def _begins_otherwise(pair: Pair) -> bool:
    """Whether the first difference is a parameter that a run starts with."""
    first = pair.first()
    return first is not None and bool(pair.a.events["phase"][pair.align.a[first]] == Phase.INIT)


def _pair(rank: int, ordinal: int, a: Trace, b: Trace) -> Pair:
    import numpy as np

    found = alignment.align(a, b)
    a, b, unlike = devices.apart(a, b, found)

    def both(name: str) -> tuple[Any, Any]:
        if found.a is found.b:  # every record has its partner at its own place
            return a.events[name], b.events[name]
        return a.events[name][found.a], b.events[name][found.b]

    flags_a, flags_b = both("flags")
    blind = ((flags_a | flags_b) & Flag.UNOBSERVED) != 0
    (lo_a, lo_b), (hi_a, hi_b) = both("lo"), both("hi")
    different = ((lo_a != lo_b) | (hi_a != hi_b)) & ~blind
    several = len({root for root, _ in module_table(a.notes_meta)}) > 1
    return Pair(rank, ordinal, a, b, found, np.flatnonzero(different), int(blind.sum()), unlike, several)


def _gaps(pair: Pair) -> list[Gap]:
    """Stretches that one run has alone, in steps that both runs reached."""
    found: list[Gap] = []
    for side, trace, only, step, other in (
        ("a", pair.a, pair.align.only_a, pair.align.step_a, pair.align.step_b),
        ("b", pair.b, pair.align.only_b, pair.align.step_b, pair.align.step_a),
    ):
        last = int(other[-1]) if len(other) else -1
        start = previous = -2
        for index in [*only[: _GAPS * 2000].tolist(), -1]:
            if index == previous + 1 and index >= 0:
                previous = index
                continue
            if start >= 0 and int(step[start]) <= last:
                event = trace.events[start]
                _, module, kind, _ = trace.sites[event["site"]]
                found.append(Gap(side, pair.rank, int(step[start]), Phase(int(event["phase"])).word, module, kind, previous - start + 1))
                if len(found) >= 2 * _GAPS:
                    break
            start = previous = index
    return sorted(found, key=lambda g: (g.step, g.rank))


def _verdict(
    a: StoredRun, b: StoredRun, pairs: list[Pair], first: Divergence | None, layers: tuple[LayerDifference, ...],
    counts: Counts, coverage: Coverage, tolerance: Tolerance, gaps: tuple[Gap, ...],
) -> tuple[str, str]:  # fmt: skip
    """The verdict and its reason in one sentence."""
    if first is not None:
        where = _where(first)
        if not tolerance.exact:
            states = [x.first.numbers.within for x in layers if x.first.kind not in ("optimizer", "rng")]
            if all(state is True for state in states):
                return "equivalent", f"every difference is within the tolerance asked for; the first is {where}"
            if not any(state is False for state in states):
                return "divergent", f"{where}; the tolerance cannot be judged: tensors were not kept (record with --level full)"
        return "divergent", where
    unlike = sum(p.unlike for p in pairs)
    if unlike > counts.compared:
        return "incomparable", (
            f"{unlike:,} of {counts.compared + counts.unobserved:,} records lay on an accelerator in one run only: their fingerprints are made"
            " by different algorithms and cannot be compared; what could be compared is equal"
        )
    beyond = sum(int((p.a.events["phase"][p.align.a] != Phase.INIT).sum()) + p.elsewhere for p in pairs)
    if counts.compared == 0 or beyond == 0:
        only = "nothing but the initial parameters" if counts.compared else "no record"
        return "incomparable", f"{only} could be compared: too little was observed to say that the runs are identical"
    if coverage.share < MINIMUM_COVERAGE:
        return "incomparable", (
            f"what was compared is equal, but only {coverage.share:.0%} of the model was observed"
            f" (at least {MINIMUM_COVERAGE:.0%} are needed to say that the runs are identical)"
        )
    smaller = min(sum(len(p.a.events) for p in pairs), sum(len(p.b.events) for p in pairs))
    if counts.compared + counts.unobserved < smaller * 0.5:
        return "incomparable", f"only {counts.compared:,} of {smaller:,} records have a partner: the two runs have too little in common"
    steps = [max(_steps(p.align.step_a) for p in pairs), max(_steps(p.align.step_b) for p in pairs)]
    text = f"all {counts.compared:,} records that both runs have are equal bit for bit"
    ends = [run for run in (a, b) if not run.complete]
    if ends:
        sides = " and ".join("A" if run is a else "B" for run in ends)
        only_workers = all(run.manifest.ended and all(p.complete for p in run.manifest.processes if p.role == "main") for run in ends)
        text += f", up to where processes that {sides} forked were killed" if only_workers else f", up to the cut: {sides} did not finish"
    elif any(p.elsewhere for p in pairs):
        text += "; a pool's processes shared their work out in another way"
    elif steps[0] != steps[1]:
        longer, extra = ("A", steps[0] - steps[1]) if steps[0] > steps[1] else ("B", steps[1] - steps[0])
        text += f"; {longer} goes on for {plural(extra, 'step')} more"
    elif gaps:
        text += f"; {counts.only_a + counts.only_b:,} records exist in one run only and changed nothing in the others"
    return "identical", text


def _where(d: Divergence) -> str:
    """The first divergence in a few words."""
    place = f"module {d.module}{f' of {d.root}' if d.root else ''}" if d.module else (d.root or d.module_type or "the program")
    what = {
        "data": "a batch", "parameter": "a parameter", "activation": "an activation", "gradient": "a gradient",
        "optimizer": "an optimizer state", "loss": "the loss", "rng": "a random state",
    }[d.kind]  # fmt: skip
    tensor = f" ({d.tensor})" if d.tensor else ""
    rank = f", rank {d.rank}" if d.rank else ""
    return f"{what} of {place}{tensor} is the first to differ, at step {d.step} in phase {d.phase}{rank}"


def _steps(step: Any) -> int:
    return int(step.max()) if len(step) else 0


def _side(run: StoredRun, chains: restarts.Chains) -> RunSide:
    m = run.manifest
    return RunSide(
        path=os.fspath(run.path),
        label=run.label,
        complete=run.complete,
        command=tuple(m.command),
        started=m.started,
        exit_code=m.exit_code,
        level=m.level,
        steps=max([*(p.steps for p in m.processes), *(sum(run.traces[k].steps for k in keys) for keys in chains.values())], default=0),
        events=sum(p.events for p in m.processes),
        ranks=len({p.rank for p in m.processes}) or 1,
        notes=tuple(run.notes),
    )


def _unmatched(
    a: StoredRun, b: StoredRun, shared: list[restarts.Key], parts: tuple[restarts.Chains, restarts.Chains]
) -> tuple[Unobserved, ...]:
    rows = []
    for name, run, chains in (("A", a, parts[0]), ("B", b, parts[1])):
        used = {key for keys in chains.values() for key in keys}
        for key in sorted(run.traces):
            if key not in shared and key not in used:
                rank, ordinal = key
                what = f"process {ordinal + 1} of rank {rank}" if ordinal else f"rank {rank}"
                rows.append(Unobserved(f"{what} of run {name}", "the other run has no such process"))
    return tuple(rows)


def _harmless(d: Difference) -> Difference:
    """Where every tensor is equal a difference has changed nothing, whatever it might have changed."""
    if d.severity == "harmless":
        return d
    return dataclasses.replace(d, severity="harmless", reason=NO_EFFECT)


def _ordered(found: list[Difference]) -> tuple[Difference, ...]:
    rank = {"critical": 0, "notable": 1, "harmless": 2}
    return tuple(sorted(found, key=lambda d: rank[d.severity]))


def _not_recorded(a: StoredRun, b: StoredRun, pairs: list[Pair], first: Divergence | None) -> tuple[str, ...]:
    import numpy as np

    rows = []
    if first is not None and first.numbers.max_abs is None and first.kind != "optimizer":
        what = first.module or first.module_type or "*"
        flag = f"--level full --steps {first.step}:{first.step + 1}" + (f" --modules '{what}*'" if first.module else "")
        rows.append(f"the size of the difference: record both runs with `{flag}`")
    for p in pairs:
        kinds = set(np.flatnonzero(np.bincount(p.a.events["kind"]))) & set(np.flatnonzero(np.bincount(p.b.events["kind"])))
        for kind, why in (
            (Kind.GRADIENT, "gradients: neither run called backward() while both were recorded"),
            (Kind.DATA, "batches: no DataLoader and no input of an outermost module was seen in both runs"),
        ):
            if kind not in kinds:
                rows.append(why)
        break
    return tuple(rows)


def _losses(pair: Pair) -> tuple[tuple[int, float | None, float | None], ...]:
    """(step, A, B) of the last loss of each step, thinned to 2,000 steps."""
    import numpy as np

    order = np.arange(len(pair.b.events))
    order[pair.align.b] = pair.align.a  # threads that train by turns: their losses come as A's do
    series = [loss_values(pair.a, pair.align.step_a), loss_values(pair.b, pair.align.step_b, order)]
    both = sorted(set(series[0]) | set(series[1]))
    if len(both) > 2000:
        both = both[:: len(both) // 2000 + 1]
    return tuple((s, series[0].get(s), series[1].get(s)) for s in both)


def _steps_differing(pair: Pair) -> tuple[tuple[int, int, int], ...]:
    """(step, differing, compared) for steps with a difference, thinned to 2,000."""
    import numpy as np

    if len(pair.mismatch) == 0:
        return ()
    step = pair.align.step_a[pair.align.a]
    total = np.bincount(step)
    wrong = np.bincount(step[pair.mismatch])
    rows = [(int(s), int(wrong[s]), int(total[s])) for s in np.flatnonzero(wrong)]
    return tuple(rows[:: len(rows) // 2000 + 1])
