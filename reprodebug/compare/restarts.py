"""A training that one run cut into several processes, one after the other, and the other run did in one.

A queue with a time limit, a script that trains and then goes on with ``--resume``: process by process, the second half
would have no partner. Here the records of such processes become one trace, in which steps and records count on. Where the
second half alone was recorded it is known by its weights, and takes its place beside the steps of the whole.
"""

from __future__ import annotations

import bisect
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from reprodebug._base.errors import NothingComparable
from reprodebug._base.text import plural
from reprodebug.model.events import Kind, Phase
from reprodebug.store.trace import Trace

if TYPE_CHECKING:
    from reprodebug.model.comparison import Difference
    from reprodebug.model.run import Process
    from reprodebug.store.run import StoredRun

_NUMBERED = frozenset({"optimizer"})
"""notes whose ``number`` counts on, as it does where one process makes another of the same"""


_TOLD = re.compile(r"resum|preempt|requeue|restart|continue|checkpoint|ckpt|snapshot|load|\.(pt|pth|ckpt|bin|safetensors)\b", re.I)
"""options and variables that tell a run to go on from somewhere"""

Key = tuple[int, int]
"""rank, and which of its processes"""
Chains = dict[Key, list[Key]]
"""a process -> itself and those that went on where it ended"""


def chains(a: StoredRun, b: StoredRun, shared: list[Key]) -> tuple[Chains, Chains]:
    """For A and for B: what one of them did in several processes and the other in one."""
    found_a, found_b = (
        {key: keys for key in shared if key[1] == 0 and (keys := _chain(run, other, key[0]))} for run, other in ((a, b), (b, a))
    )
    return found_a, found_b


def _chain(run: StoredRun, other: StoredRun, rank: int) -> list[Key]:
    """The processes of ``run`` that did, one after the other, what one process of ``other`` did; empty where there are none such.

    All of them run one program, that of the other run's only process, which takes more steps than the first of them.
    """
    mine, theirs = _mains(run, rank), _mains(other, rank)
    if len(theirs) != 1 or len(mine) < 2:
        return []
    whole, own = theirs[0], [run.traces[key] for key in mine]
    one = other.traces[whole]
    if len({_program(p) for p in (one, *own)}) != 1 or one.steps <= own[0].steps or whole != mine[0]:
        return []
    spans = [_span(run.trace(*key)) for key in mine]
    apart = all(x and y and x[1] <= y[0] for x, y in itertools.pairwise(spans))
    return mine if apart else []


def joined(run: StoredRun, keys: list[Key]) -> Trace:
    """The processes' traces as one."""
    import numpy as np

    traces = [run.trace(*key) for key in keys]
    starts, sites, metas, generators, notes = [], _Table(), _Table(), _Table(), []
    columns: dict[str, list[Any]] = {"events": [], "rng": [], "stats": []}
    seq = step = turn = row = made = 0
    for key, part in zip(keys, traces, strict=True):
        events, rng, stats = part.events.copy(), part.rng.copy(), part.stats.copy()
        events["site"] = sites.add(part.sites)[events["site"]]
        events["meta"] = metas.add(part.metas)[events["meta"]]
        events["rng"] += np.where(events["rng"] > 0, row, 0).astype(events["rng"].dtype)  # 0: nothing was seen yet
        rng["id"] += row
        rng["generator"] = generators.add(part.generators)[rng["generator"]]
        for column in (events, rng, stats):
            column["seq"] += seq
        events["step"] += step
        events["turn"] += np.uint16(turn & 0xFFFF)
        numbers = [int(n["number"]) for n in part.notes_meta if n.get("type") in _NUMBERED and isinstance(n.get("number"), int)]
        notes += [_moved(n, seq, step, made) for n in part.notes_meta]
        for name, column in zip(columns, (events, rng, stats), strict=True):
            columns[name].append(column)
        starts.append(seq)
        seq = int(events["seq"][-1]) + 1
        step += run.traces[key].steps
        turn = int(events["turn"][-1]) + 1
        row = int(rng["id"].max()) if len(rng) else row
        made += max(numbers, default=-1) + 1
    whole = {name: np.concatenate(found) for name, found in columns.items()}
    return _Chain(
        whole["events"], sites.rows, metas.rows, generators.rows, whole["rng"], whole["stats"], notes,
        all(p.complete for p in traces), next((p.cut for p in traces if p.cut), ""), parts=tuple(traces), starts=tuple(starts),
    )  # fmt: skip


def resumed(a: Trace, b: Trace, given: Iterable[Difference]) -> tuple[Trace, Trace] | None:
    """Both traces from the step on at which one of them goes on, as it was told to, from weights that the other then had; None
    where neither does. ``given``: in what the runs were given otherwise. Raises NothingComparable where one begins as the other ends.

    A run that was told nothing of the kind and yet found another's weights has come apart from it at its start."""
    told = [d for d in given if d.section in ("config", "environment")]
    for on, other, side in ((b, a, "B"), (a, b, "A")):
        if not any(_TOLD.search(f"{d.key} {getattr(d, side.lower())}") for d in told):
            continue
        k = went_on(other, on)
        if k and k >= _steps(other):
            raise NothingComparable(
                f"{side} begins with the weights that the other run ended with: the two have no step in common",
                hint="compare it with a run that does both parts, or with another one that goes on from there",
            )
        if k > 0:
            return (_from(a, k), _later(a, b, k)) if on is b else (_later(b, a, k), _from(b, k))
    return None


def goes_on(a: list[Trace], b: list[Trace]) -> tuple[str, int]:
    """Which run goes on where the other stood, in words, and after how many steps; '' and 0 where neither does."""
    for side, other, traces in (("A", "B", a), ("B", "A", b)):
        if steps := next((t.began for t in traces if isinstance(t, _Chain) and t.began), 0):
            return begins_with(side, other, steps), steps
    return "", 0


def begins_with(side: str, other: str, steps: int) -> str:
    """What is known of a run that starts from another's weights, in words."""
    return f"{side} begins with the weights that {other} had after {plural(steps, 'step')}"


def went_on(a: Trace, b: Trace) -> int:
    """The number of steps after which A first had every parameter and buffer that B begins with; 0 where it never had."""
    import numpy as np

    initial = {key: digest for key, _, digest in _parameters(b, Phase.INIT)}
    held: dict[Any, list[tuple[int, bool]]] = {key: [] for key in initial}
    for phase, later in ((Phase.INIT, 0), (Phase.OPTIMIZER, 1)):
        for key, step, digest in _parameters(a, phase):
            if key in held:
                held[key].append((step + later, digest == initial[key]))
    last = int(a.events["step"].max()) if len(a.events) else 0
    known = np.zeros(last + 3, np.int64)
    for rows in held.values():
        for (step, same), (following, _) in itertools.pairwise([*rows, (last + 2, False)]):
            if same:
                known[step] += 1
                known[following] -= 1
    found: Any = np.flatnonzero(np.cumsum(known) == len(initial)) if initial else []
    return int(found[0]) if len(found) else 0


def _parameters(trace: Trace, phase: Phase) -> Iterator[tuple[tuple[str, str, str], int, tuple[int, int]]]:
    """The parameters and buffers that were recorded in a phase: (outermost module, module, name), step, fingerprint."""
    found = trace.events[(trace.events["kind"] == Kind.PARAMETER) & (trace.events["phase"] == phase)]
    keys = [(root, module, name) for root, module, _, name in trace.sites]
    for site, step, lo, hi in zip(*(found[name].tolist() for name in ("site", "step", "lo", "hi")), strict=True):
        yield keys[site], step, (lo, hi)


def _steps(trace: Trace) -> int:
    """How many steps of training a trace holds; what was evaluated after the last is none."""
    return 1 + max((step for _, step, _ in _parameters(trace, Phase.OPTIMIZER)), default=-1)


def _cut(trace: Trace, step: int) -> int:
    """Position of the first record of a step."""
    import numpy as np

    return int(np.argmax(trace.events["step"] >= step))


def _from(trace: Trace, step: int) -> Trace:
    """A trace without the records before ``step``; what was noted stays."""
    return replace(trace, events=trace.events[_cut(trace, step) :])


def _later(whole: Trace, trace: Trace, step: int) -> Trace:
    """A trace that goes on at ``step`` of another, with that one's notes for those of its first part; its initial parameters, which
    are the other's, are left out."""
    at = _cut(whole, step)
    seq = int(whole.events["seq"][at])
    events, rng, stats = trace.events.copy(), trace.rng.copy(), trace.stats.copy()
    for column in (events, rng, stats):
        column["seq"] += seq
    events["step"] += step
    events["turn"] += whole.events["turn"][at]
    events = events[(events["kind"] != Kind.PARAMETER) | (events["phase"] != Phase.INIT)]
    before = [n for n in whole.notes_meta if int(n.get("seq", 0)) < seq]
    made = max((int(n["number"]) for n in before if n.get("type") in _NUMBERED and isinstance(n.get("number"), int)), default=-1) + 1
    notes = [*before, *(_moved(n, seq, step, made) for n in trace.notes_meta)]
    return _Chain(
        events, trace.sites, trace.metas, trace.generators, rng, stats, notes, trace.complete, trace.cut,
        parts=(whole, trace), starts=(0, seq), began=step,
    )  # fmt: skip


def parts(trace: Trace) -> int:
    """How many processes, one after the other, a trace is made of."""
    return len(trace._parts) if isinstance(trace, _Chain) else 1


class _Table:
    """Rows of several tables, each once."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self._at: dict[Any, int] = {}

    def add(self, rows: list[Any]) -> Any:
        """The new number of each of ``rows``."""
        import numpy as np

        for one in rows:
            if one not in self._at:
                self._at[one] = len(self.rows)
                self.rows.append(one)
        return np.array([self._at[one] for one in rows] or [0], np.uint32)


class _Chain(Trace):
    """A trace that reads samples, states and tensors from the parts that it was made of."""

    __slots__ = ("_parts", "_starts", "began")

    def __init__(self, *columns: Any, parts: tuple[Trace, ...], starts: tuple[int, ...], began: int = 0) -> None:
        super().__init__(*columns)
        self._parts, self._starts, self.began = parts, starts, began

    def _part(self, seq: int) -> tuple[Trace, int]:
        at = bisect.bisect_right(self._starts, seq) - 1
        return self._parts[at], seq - self._starts[at]

    def samples(self, seq: int) -> tuple[Any, Any] | None:
        part, own = self._part(seq)
        return part.samples(own)

    def state(self, generator: int, lo: int, hi: int) -> bytes | None:
        name = self.generators[generator]
        found = (p.state(p.generators.index(name), lo, hi) for p in self._parts if name in p.generators)
        return next((body for body in found if body is not None), None)

    @property
    def tensor_seqs(self) -> list[int]:
        return [start + seq for part, start in zip(self._parts, self._starts, strict=True) for seq in part.tensor_seqs]

    def tensor(self, seq: int) -> tuple[Any, str, tuple[int, ...]] | None:
        part, own = self._part(seq)
        return part.tensor(own)


def _mains(run: StoredRun, rank: int) -> list[Key]:
    """A rank's processes that trained by themselves, in order of their start."""
    return [key for key, p in sorted(run.traces.items()) if key[0] == rank and p.role == "main" and p.steps > 0 and p.events]


def _program(process: Process) -> str:
    """The script or module that a process runs, by its last name."""
    words = [w for w in process.argv[1:] if not w.startswith("-")]
    return os.path.basename(words[0]) if words else ""


def _span(trace: Trace) -> tuple[float, float] | None:
    """Seconds since 1970 at which a process began to be recorded and at which it wrote its last record."""
    try:
        began = datetime.fromisoformat(next(str(n["started"]) for n in trace.notes_meta if n.get("type") == "start")).timestamp()
    except (StopIteration, KeyError, ValueError):
        return None
    return began, began + int(trace.events["time_ms"][-1]) / 1000


def _moved(note: dict[str, Any], seq: int, step: int, made: int) -> dict[str, Any]:
    """A note of a later process with its place in the whole."""
    moved = dict(note)
    for name, by in (("seq", seq), ("step", step), *((("number", made),) if note.get("type") in _NUMBERED else ())):
        if by and isinstance(note.get(name), int):
            moved[name] = note[name] + by
    return moved
