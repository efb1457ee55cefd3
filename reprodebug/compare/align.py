"""Which record of B is the partner of which record of A.

Partners share rank, step, place (outermost module, module, tensor), kind and phase. Inside a step the order counts:
where the two sequences are not the same, they are aligned first by place *and* shape *and* train/eval flag, and what
is left between those anchors by place alone, so that an extra forward pass or an inserted layer costs a gap and not
a thousand differences, and a call in the wrong mode still meets its partner.

The sequence alignment inside a step is Ratcliff and Obershelp's longest-matching-block recursion (Dr. Dobb's Journal,
July 1988) as in ``difflib``; steps too long for it fall back to the k-th occurrence of each key, kept increasing
by a longest increasing subsequence (Hunt and Szymanski, CACM 20(5), 1977).
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from reprodebug.model.events import Flag, Kind

if TYPE_CHECKING:
    import numpy as np

    from reprodebug.store.trace import Trace

_LONG = 6000
"""records of one step above which the sequence alignment gives way to occurrence matching"""


@dataclass(slots=True)
class Alignment:
    """Partners as two index arrays of equal length, in execution order; and the steps used."""

    a: np.ndarray[Any, Any]
    """int64[n], positions in A's events"""
    b: np.ndarray[Any, Any]
    """int64[n], positions in B's events"""
    only_a: np.ndarray[Any, Any]
    only_b: np.ndarray[Any, Any]
    step_a: np.ndarray[Any, Any]
    """int32[len(A)], the contract's step of each event"""
    step_b: np.ndarray[Any, Any]
    place_a: np.ndarray[Any, Any]
    """int64[len(A)], place + kind + phase, numbered alike in both runs"""
    place_b: np.ndarray[Any, Any]


def steps(trace: Trace) -> np.ndarray[Any, Any]:
    """int32[n]: optimizer steps finished before each event; calls of outermost modules where no optimizer ever stepped."""
    import numpy as np

    events = trace.events
    if len(events) == 0 or events["step"].max() > 0 or (events["kind"] == Kind.OPTIMIZER).any():
        return events["step"]
    turn = events["turn"].astype(np.int64)
    wraps = np.cumsum(np.diff(turn, prepend=turn[:1]) < 0)
    return (turn + wraps * 65536).astype(np.int32)


def align(a: Trace, b: Trace) -> Alignment:
    """Partners of two traces of one rank."""
    import numpy as np

    place_a, place_b = _places(a, b)
    step_a, step_b = steps(a), steps(b)
    empty = np.empty(0, np.int64)
    if len(place_a) == len(place_b) and np.array_equal(place_a, place_b) and np.array_equal(step_a, step_b):
        every = np.arange(len(place_a))
        return Alignment(every, every, empty, empty, step_a, step_b, place_a, place_b)
    strict_a, strict_b = _strict(a, b, place_a, place_b)
    bounds_a, bounds_b = _blocks(step_a), _blocks(step_b)
    known: dict[tuple[bytes, bytes], tuple[Any, Any]] = {}
    out_a: list[Any] = []
    out_b: list[Any] = []
    for step, (from_a, to_a) in bounds_a.items():
        if step not in bounds_b:
            continue
        from_b, to_b = bounds_b[step]
        pa, pb = place_a[from_a:to_a], place_b[from_b:to_b]
        if len(pa) == len(pb) and np.array_equal(pa, pb):
            inside = np.arange(len(pa))
            out_a.append(from_a + inside)
            out_b.append(from_b + inside)
            continue
        sa, sb = strict_a[from_a:to_a], strict_b[from_b:to_b]
        key = (sa.tobytes(), sb.tobytes())
        found = known.get(key)
        if found is None:
            found = known[key] = _sequence(sa, sb, pa, pb)
        out_a.append(from_a + found[0])
        out_b.append(from_b + found[1])
    ia = np.concatenate(out_a) if out_a else empty
    ib = np.concatenate(out_b) if out_b else empty
    free_a, free_b = np.ones(len(place_a), bool), np.ones(len(place_b), bool)
    free_a[ia] = False
    free_b[ib] = False
    return Alignment(ia, ib, np.flatnonzero(free_a), np.flatnonzero(free_b), step_a, step_b, place_a, place_b)


def _blocks(step: Any) -> dict[int, tuple[int, int]]:
    """step -> [from, to): the stretch of events of each step. Steps never decrease within a trace."""
    import numpy as np

    if len(step) == 0:
        return {}
    starts = np.flatnonzero(np.diff(step, prepend=step[0] - 1))
    ends = np.append(starts[1:], len(step))
    return {int(step[s]): (int(s), int(e)) for s, e in zip(starts, ends, strict=True)}


def _places(a: Trace, b: Trace) -> tuple[Any, Any]:
    """The place of every event as a number that both runs share."""
    import numpy as np

    numbers: dict[tuple[str, str, str], int] = {}
    columns = []
    for trace in (a, b):
        table = np.zeros(max(len(trace.sites), 1), np.int64)
        for n, (root, module, _, tensor) in enumerate(trace.sites):
            table[n] = numbers.setdefault((root, module, tensor), len(numbers))
        events = trace.events
        # 7 kinds times 5 phases: a dense number, so that places can be counted instead of sorted
        columns.append(table[events["site"]] * 35 + events["kind"] * np.uint8(5) + events["phase"])
    return columns[0], columns[1]


def _strict(a: Trace, b: Trace, place_a: Any, place_b: Any) -> tuple[Any, Any]:
    """Place, shape and train/eval flag as one number that both runs share."""
    import numpy as np

    shapes: dict[tuple[int, ...], int] = {}
    columns = []
    for trace, place in ((a, place_a), (b, place_b)):
        table = np.zeros(max(len(trace.metas), 1), np.int64)
        for n, row in enumerate(trace.metas):
            table[n] = shapes.setdefault(tuple(row[0]), len(shapes))
        events = trace.events
        columns.append((place << 24) | (table[events["meta"]] << 1) | ((events["flags"] & Flag.TRAINING) != 0))
    return columns[0], columns[1]


def _sequence(sa: Any, sb: Any, pa: Any, pb: Any) -> tuple[Any, Any]:
    """Partners inside one step: strict anchors, then the rest between them by place."""
    import numpy as np

    pairs: list[tuple[int, int]] = []
    last_a = last_b = 0
    for i, j, n in [*_matching(sa.tolist(), sb.tolist()), (len(sa), len(sb), 0)]:
        if i > last_a and j > last_b:
            for x, y, m in _matching(pa[last_a:i].tolist(), pb[last_b:j].tolist()):
                pairs += [(last_a + x + k, last_b + y + k) for k in range(m)]
        pairs += [(i + k, j + k) for k in range(n)]
        last_a, last_b = i + n, j + n
    both = np.array(pairs, np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _matching(a: list[int], b: list[int]) -> list[tuple[int, int, int]]:
    """Matching stretches ``(i, j, n)`` of two key sequences, increasing in both."""
    if len(a) + len(b) <= 2 * _LONG:
        return [(m.a, m.b, m.size) for m in SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks() if m.size]
    where: dict[int, list[int]] = {}
    for j, key in enumerate(b):
        where.setdefault(key, []).append(j)
    taken: dict[int, int] = {}
    candidates: list[tuple[int, int]] = []
    for i, key in enumerate(a):
        k = taken.get(key, 0)
        places = where.get(key)
        if places is not None and k < len(places):
            candidates.append((i, places[k]))
            taken[key] = k + 1
    tails: list[int] = []
    tail_at: list[int] = []
    previous = [-1] * len(candidates)
    for n, (_, j) in enumerate(candidates):
        k = bisect.bisect_left(tails, j)
        if k == len(tails):
            tails.append(j)
            tail_at.append(n)
        else:
            tails[k] = j
            tail_at[k] = n
        previous[n] = tail_at[k - 1] if k else -1
    chain: list[tuple[int, int, int]] = []
    n = tail_at[-1] if tail_at else -1
    while n >= 0:
        chain.append((*candidates[n], 1))
        n = previous[n]
    return chain[::-1]
