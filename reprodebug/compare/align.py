"""Which record of B is the partner of which record of A.

Partners share rank, step, place (outermost module, module, tensor), kind and phase; a module that was only renamed
(see ``renames``) counts as the same place. Inside a step the order counts:
where the two sequences are not the same, they are aligned first by place *and* shape *and* train/eval flag, and what
is left between those anchors by place alone, so that an extra forward pass or an inserted layer costs a gap and not
a thousand differences, and a call in the wrong mode still meets its partner. In the first step that such an alignment
leaves unequal, records of equal bits are anchors before all others: an extra batch is then a gap where it came.

The sequence alignment inside a step is Ratcliff and Obershelp's longest-matching-block recursion (Dr. Dobb's Journal,
July 1988) as in ``difflib``; steps too long for it fall back to the k-th occurrence of each key, kept increasing
by a longest increasing subsequence (Hunt and Szymanski, CACM 20(5), 1977).

Several threads that train take their turns by chance: there partners are the k-th records of one place in the same
thread, and B's take the steps of A's. Where several threads call modules and one of them trains, which of them takes a
piece of work is chance, too: inside a step records of equal bits are partners wherever they stand.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from reprodebug.compare.history import module_table
from reprodebug.compare.renames import Module, renames
from reprodebug.model.events import Flag, Kind, Phase

if TYPE_CHECKING:
    import numpy as np

    from reprodebug.store.trace import Trace

_LONG = 6000
"""records of one step above which the sequence alignment gives way to occurrence matching"""


@dataclass(slots=True)
class Alignment:
    """Partners as two index arrays of equal length, in execution order; and the steps used."""

    a: np.ndarray[Any, Any]
    """int64[n], positions in A's events, increasing"""
    b: np.ndarray[Any, Any]
    """int64[n], positions in B's events; increasing but for the records of an optimizer's step and of several threads, which may
    come in another order"""
    only_a: np.ndarray[Any, Any]
    only_b: np.ndarray[Any, Any]
    step_a: np.ndarray[Any, Any]
    """int32[len(A)], the contract's step of each event"""
    step_b: np.ndarray[Any, Any]
    place_a: np.ndarray[Any, Any]
    """int64[len(A)], place + kind + phase, numbered alike in both runs"""
    place_b: np.ndarray[Any, Any]
    renamed: dict[Module, Module] = field(default_factory=dict)
    """B's modules that A knows by another name -> A's"""

    @property
    def reached_b(self) -> np.ndarray[Any, Any]:
        """int64[n], never decreasing: the position in B's events up to which B had come at each partner."""
        import numpy as np

        return np.maximum.accumulate(self.b)


def steps(trace: Trace) -> np.ndarray[Any, Any]:
    """int32[n]: optimizer steps finished before each event; calls of outermost modules where no optimizer ever stepped."""
    import numpy as np

    events = trace.events
    stepped = any(note.get("type") == "optimizer" for note in trace.notes_meta)  # SGD leaves no state, and may have been cut after one step
    if len(events) == 0 or stepped or events["step"].max() > 0 or (events["kind"] == Kind.OPTIMIZER).any():
        return events["step"]
    turn = events["turn"].astype(np.int64)
    wraps = np.cumsum(np.diff(turn, prepend=turn[:1]) < 0)
    return (turn + wraps * 65536).astype(np.int32)


def align(a: Trace, b: Trace) -> Alignment:
    """Partners of two traces of one rank."""
    import numpy as np

    renamed = renames(module_table(a.notes_meta), module_table(b.notes_meta))
    place_a, place_b = _places(a, b, renamed)
    step_a, step_b = steps(a), steps(b)
    empty = np.empty(0, np.int64)
    trainers = _trainers(a), _trainers(b)
    if trainers[0] and trainers[1]:
        ia, ib = _columns(_occurrences(*(keys.tolist() for keys in _owned((a, b), (place_a, place_b), trainers))))
        free_a, free_b = _free(place_a, ia), _free(place_b, ib)
        step_b = step_b.copy()
        step_b[ib] = step_a[ia]
        return Alignment(ia, ib, np.flatnonzero(free_a), np.flatnonzero(free_b), step_a, step_b, place_a, place_b, renamed)
    shared_out = several_call(a) and several_call(b)
    if not shared_out and len(place_a) == len(place_b) and np.array_equal(place_a, place_b) and np.array_equal(step_a, step_b):
        every = np.arange(len(place_a))
        return Alignment(every, every, empty, empty, step_a, step_b, place_a, place_b, renamed)
    strict_a, strict_b = _strict(a, b, place_a, place_b)
    bounds_a, bounds_b = _blocks(step_a), _blocks(step_b)
    known: dict[tuple[bytes, bytes], tuple[Any, Any]] = {}
    out_a: list[Any] = []
    out_b: list[Any] = []
    clean = True
    for step, (from_a, to_a) in bounds_a.items():
        if step not in bounds_b:
            continue
        from_b, to_b = bounds_b[step]
        pa, pb = place_a[from_a:to_a], place_b[from_b:to_b]
        same = len(pa) == len(pb) and np.array_equal(pa, pb)
        equal = same and (clean or shared_out) and _equal(a, b, slice(from_a, to_a), slice(from_b, to_b))
        if equal or (same and not shared_out):
            inside = np.arange(len(pa))
            out_a.append(from_a + inside)
            out_b.append(from_b + inside)
            clean = clean and equal
            continue
        sa, sb = strict_a[from_a:to_a], strict_b[from_b:to_b]
        if shared_out:
            anywhere = _anywhere((_bits(a, sa, from_a), _bits(b, sb, from_b)), (sa, sb), (pa, pb))
            out_a.append(from_a + anywhere[0])
            out_b.append(from_b + anywhere[1])
            continue
        key = (sa.tobytes(), sb.tobytes())
        found = known.get(key)
        if found is None:
            found = known[key] = _sequence((sa, sb), (pa, pb))
        if clean and not _equal(a, b, from_a + found[0], from_b + found[1]):
            # the step in which the runs part: what is equal bit for bit belongs together before anything else does
            levels = (_bits(a, sa, from_a), _bits(b, sb, from_b)), (sa, sb), (pa, pb)
            found = _sequence(*levels)
            passed = _first_pass(sa, sb, pa)
            if passed:  # one run goes on with more batches: the pass that both begin with is the same one
                rest = _sequence(*((x[passed:], y[passed:]) for x, y in levels))
                whole = tuple(np.concatenate([np.arange(passed), column + passed]) for column in rest)
                if _alike(a, b, from_a + whole[0], from_b + whole[1]) >= _alike(a, b, from_a + found[0], from_b + found[1]):
                    found = whole[0], whole[1]
            clean = False
        out_a.append(from_a + found[0])
        out_b.append(from_b + found[1])
    ia = np.concatenate(out_a) if out_a else empty
    ib = np.concatenate(out_b) if out_b else empty
    free_a, free_b = _free(place_a, ia), _free(place_b, ib)
    more_a, more_b = _updates(a, b, place_a, place_b, step_a, step_b, free_a, free_b)
    if len(more_a):
        ia, ib = np.append(ia, more_a), np.append(ib, more_b)
        order = np.argsort(ia, kind="stable")
        ia, ib = ia[order], ib[order]
        free_a, free_b = _free(place_a, ia), _free(place_b, ib)
    return Alignment(ia, ib, np.flatnonzero(free_a), np.flatnonzero(free_b), step_a, step_b, place_a, place_b, renamed)


def _trainers(trace: Trace) -> dict[int, str]:
    """Thread -> the outermost module that it calls first, where several threads train: which of them comes first is not the same
    in any two runs, and neither is the step, which is counted over all of them. Empty where one thread trains."""
    import numpy as np

    events = trace.events
    updates = events["thread"][(events["phase"] == Phase.OPTIMIZER) & (events["kind"] == Kind.PARAMETER)]
    if len(updates) == 0 or updates.min() == updates.max():
        return {}
    found: dict[int, str] = {}
    for thread in np.unique(updates).tolist():
        called = np.flatnonzero((events["thread"] == thread) & (events["kind"] == Kind.ACTIVATION))
        if len(called):
            found[thread] = trace.sites[events["site"][called[0]]][0]
    return found if len(set(found.values())) > 1 else {}


def several_call(trace: Trace) -> bool:
    """Whether more than one thread calls modules."""
    events = trace.events
    threads = events["thread"][(events["kind"] == Kind.ACTIVATION) & (events["phase"] == Phase.FORWARD)]
    return len(threads) > 0 and bool(threads.min() != threads.max())


def _anywhere(bits: tuple[Any, Any], *levels: tuple[Any, Any]) -> tuple[Any, Any]:
    """Partners inside one step of which several threads did the work: equal bits first, in whatever order they came, and what is
    left by the levels' keys."""
    import numpy as np

    ia, ib = _columns(_occurrences(*bits))
    at_a, at_b = (np.flatnonzero(_free(column, taken)) for column, taken in zip(bits, (ia, ib), strict=True))
    more = _sequence(*((x[at_a], y[at_b]) for x, y in levels))
    ia, ib = np.append(ia, at_a[more[0]]), np.append(ib, at_b[more[1]])
    order = np.argsort(ia, kind="stable")
    return ia[order], ib[order]


def _owned(traces: tuple[Trace, Trace], places: tuple[Any, Any], trainers: tuple[dict[int, str], dict[int, str]]) -> tuple[Any, Any]:
    """Place and thread as one number that both runs share; a thread is known by what it trains."""
    import numpy as np

    names = sorted({*trainers[0].values(), *trainers[1].values()})
    columns = []
    for side, (trace, place, known) in enumerate(zip(traces, places, trainers, strict=True)):
        events = trace.events
        owners = np.zeros(1 << 16, np.int64)
        for thread, name in known.items():
            owners[thread] = 1 + names.index(name)
        here = owners[events["thread"]]
        # a module belongs to whoever trains it, whatever thread made its first record
        module = np.array([names.index(root) + 1 if root in names else 0 for root, *_ in trace.sites] or [0])[events["site"]]
        keys = (place << 16) | np.where(module, 0, here)
        # what one thread's update saw of the other's parameters, between two updates of theirs, has no partner
        seen = (events["phase"] == Phase.OPTIMIZER) & (module != 0) & (here != 0) & (module != here)
        columns.append(np.where(seen, -1 - side, keys))
    return columns[0], columns[1]


def _occurrences(a: Iterable[Any], b: Iterable[Any]) -> list[tuple[int, int]]:
    """Partners by the k-th occurrence of each key, in A's order."""
    waiting: dict[Any, deque[int]] = {}
    for j, key in enumerate(b):
        waiting.setdefault(key, deque()).append(j)
    return [(i, places.popleft()) for i, key in enumerate(a) if (places := waiting.get(key))]


def _columns(pairs: list[tuple[int, int]]) -> tuple[Any, Any]:
    """int64[n] twice."""
    import numpy as np

    both = np.array(pairs, np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _free(places: Any, taken: Any) -> Any:
    """bool[n]: which records have no partner."""
    import numpy as np

    free = np.ones(len(places), bool)
    free[taken] = False
    return free


def _updates(a: Trace, b: Trace, place_a: Any, place_b: Any, step_a: Any, step_b: Any, free_a: Any, free_b: Any) -> tuple[Any, Any]:
    """Partners among what is left of an optimizer's step, whatever their order: an optimizer with other groups of parameters
    updates the same ones in another order, and what it did to each is to be compared."""
    import numpy as np

    at_a, at_b = (np.flatnonzero(free & (t.events["phase"] == Phase.OPTIMIZER)) for free, t in ((free_a, a), (free_b, b)))
    keys = [
        zip(step[at].tolist(), place[at].tolist(), strict=True) for step, place, at in ((step_a, place_a, at_a), (step_b, place_b, at_b))
    ]
    found_a, found_b = _columns(_occurrences(*keys))
    return at_a[found_a], at_b[found_b]


def _blocks(step: Any) -> dict[int, tuple[int, int]]:
    """step -> [from, to): the stretch of events of each step. Steps never decrease within a trace."""
    import numpy as np

    if len(step) == 0:
        return {}
    starts = np.flatnonzero(np.diff(step, prepend=step[0] - 1))
    ends = np.append(starts[1:], len(step))
    return {int(step[s]): (int(s), int(e)) for s, e in zip(starts, ends, strict=True)}


def _places(a: Trace, b: Trace, renamed: dict[Module, Module]) -> tuple[Any, Any]:
    """The place of every event as a number that both runs share; A's names hold for modules that B calls otherwise."""
    import numpy as np

    numbers: dict[tuple[str, str, str], int] = {}
    columns = []
    for trace in (a, b):
        table = np.zeros(max(len(trace.sites), 1), np.int64)
        for n, (root, module, _, tensor) in enumerate(trace.sites):
            if renamed and trace is b:
                root, module = renamed.get((root, module), (root, module))
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


def _equal(a: Trace, b: Trace, in_a: Any, in_b: Any) -> bool:
    """Whether the fingerprints of two stretches of partners are all equal."""
    return bool((a.events["lo"][in_a] == b.events["lo"][in_b]).all())


def _alike(a: Trace, b: Trace, in_a: Any, in_b: Any) -> int:
    """How many of two stretches of partners have equal fingerprints."""
    return int((a.events["lo"][in_a] == b.events["lo"][in_b]).sum())


def _first_pass(a: Any, b: Any, places: Any) -> int:
    """How many records two steps have in common from their beginning on, by strict keys; 0 where no backward pass is among them."""
    import numpy as np

    shorter = min(len(a), len(b))
    other = np.flatnonzero(a[:shorter] != b[:shorter])
    common = int(other[0]) if len(other) else shorter
    return common if (places[:common] % 5 == Phase.BACKWARD).any() else 0


def _bits(trace: Trace, strict: Any, start: int) -> Any:
    """The strict key and the fingerprint of each record of a step, as objects that can be compared."""
    import numpy as np

    rows = np.empty(len(strict), object)
    rows[:] = list(zip(strict.tolist(), trace.events["lo"][start : start + len(strict)].tolist(), strict=True))
    return rows


def _sequence(*levels: tuple[Any, Any]) -> tuple[Any, Any]:
    """Partners inside one step: anchors by the first level's keys, then what is left between them by the next level's."""

    pairs: list[tuple[int, int]] = []

    def walk(level: int, from_a: int, to_a: int, from_b: int, to_b: int) -> None:
        if level == len(levels) or from_a >= to_a or from_b >= to_b:
            return
        a, b = levels[level]
        last_a, last_b = from_a, from_b
        for i, j, n in _matching(a[from_a:to_a].tolist(), b[from_b:to_b].tolist()):
            i, j = from_a + i, from_b + j
            walk(level + 1, last_a, i, last_b, j)
            pairs.extend((i + k, j + k) for k in range(n))
            last_a, last_b = i + n, j + n
        walk(level + 1, last_a, to_a, last_b, to_b)

    walk(0, 0, len(levels[0][0]), 0, len(levels[0][1]))
    return _columns(pairs)


def _matching(a: list[Any], b: list[Any]) -> list[tuple[int, int, int]]:
    """Matching stretches ``(i, j, n)`` of two key sequences, increasing in both."""
    if len(a) + len(b) <= 2 * _LONG:
        return [(m.a, m.b, m.size) for m in SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks() if m.size]
    candidates = _occurrences(a, b)
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
