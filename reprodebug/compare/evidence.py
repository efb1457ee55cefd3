"""The records behind a comparison, in the forms in which they are looked at: module tree, random states, batches, records.

Everything is made of columns and only when it is asked for; a million records a side cost tenths of a second, once.
Refuses to judge: which difference counts, and why, was decided by the comparison and the diagnosis.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from reprodebug.compare.align import Alignment
from reprodebug.compare.generators import Story, stories
from reprodebug.compare.history import module_table, same_names
from reprodebug.compare.portrait import of_pair
from reprodebug.model.comparison import Portrait
from reprodebug.model.events import Kind, Phase

if TYPE_CHECKING:
    from reprodebug.compare.runs import Pair
    from reprodebug.store.trace import Trace

HEAT_COLUMNS = 12
"""stretches of steps that a module's heat is given for, at most"""


@dataclass(frozen=True, slots=True)
class Node:
    """One module of the tree, and how its records met."""

    rank: int
    root: str
    """label of the outermost module, or of what else has records (an optimizer, a DataLoader)"""
    module: str
    """its name below the outermost one; "" for the outermost itself"""
    kind: str
    """class of the module; "" where it was not recorded"""
    depth: int
    parent: int
    """place of the parent in the tree; -1 for a root"""
    children: tuple[int, ...]
    compared: int
    """records of it and of everything below that have a partner"""
    differing: int
    """those of them that differ"""
    alone_a: int
    """records of it and of everything below that only A has"""
    alone_b: int
    first: int
    """position of its first difference (or of one below it) in the alignment of its process; -1: none"""
    heat: tuple[float | None, ...]
    """share of differing records in each stretch of steps, 0 to 1; None where nothing was compared"""


@dataclass(frozen=True, slots=True)
class Observation:
    """The states of one generator in both runs, at one record where either of them was new."""

    at: int
    """position in the alignment of the process"""
    step: int
    phase: str
    place: str
    """module whose record saw it"""
    row_a: int
    row_b: int
    """row in the trace's table of observations; -1: none yet"""
    equal: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of one source in both runs."""

    at: int
    rank: int
    step: int
    source: str
    tensors: int
    differing: int
    seq_a: int
    seq_b: int
    """number of the record that the samples hang on"""


class Evidence:
    """What a comparison was made from. ``pairs`` are the processes that both runs have, in the order of their ranks."""

    def __init__(self, pairs: list[Pair]) -> None:
        self.pairs = pairs

    def exchanged(self) -> Evidence:
        """The same with A and B exchanged."""
        turned = []
        for p in self.pairs:
            g = p.align
            other = Alignment(g.b, g.a, g.only_b, g.only_a, g.step_b, g.step_a, g.place_b, g.place_a)
            turned.append(dataclasses.replace(p, a=p.b, b=p.a, align=other))
        other_way = Evidence(turned)
        if "tree" in self.__dict__:  # the same modules in the same order
            other_way.tree = [dataclasses.replace(n, alone_a=n.alone_b, alone_b=n.alone_a) for n in self.tree]
        return other_way

    # modules

    @cached_property
    def stretches(self) -> list[tuple[int, int]]:
        """The first and last step of each column of the heat."""
        last = max((int(p.align.step_a[p.align.a].max()) for p in self.pairs if len(p.align.a)), default=0)
        n = min(HEAT_COLUMNS, last + 1)
        bounds = [k * (last + 1) // n for k in range(n + 1)]
        return [(bounds[k], bounds[k + 1] - 1) for k in range(n)]

    @cached_property
    def tree(self) -> list[Node]:
        """Every module that has records, and those above it; parents before children, in the order of ``named_modules()``."""
        out: list[Node] = []
        for pair in self.pairs:
            out += _tree(pair, self.stretches, len(out))
        return out

    # random states

    @cached_property
    def generators(self) -> list[tuple[Pair, Story]]:
        """Every generator that both runs have, those whose states part first."""
        found = [(p, s) for p in self.pairs for s in stories(p)]
        return sorted(found, key=lambda x: (x[1].at < 0, x[1].at))

    def observations(self, pair: Pair, story: Story) -> list[Observation]:
        """Where a generator's state was seen to be new in either run, in execution order."""
        import numpy as np

        a = pair.a.rng[pair.a.rng["generator"] == story.number_a]
        b = pair.b.rng[pair.b.rng["generator"] == story.number_b]
        seq_a, seq_b = pair.a.events["seq"][pair.align.a], pair.b.events["seq"][pair.align.reached_b]
        at_a = np.searchsorted(a["seq"], seq_a, side="right") - 1
        at_b = np.searchsorted(b["seq"], seq_b, side="right") - 1
        new = np.flatnonzero((np.diff(at_a, prepend=-1) != 0) | (np.diff(at_b, prepend=-1) != 0))
        out = []
        for at in new.tolist():
            i, j = int(at_a[at]), int(at_b[at])
            equal = i >= 0 and j >= 0 and a["lo"][i] == b["lo"][j] and a["hi"][i] == b["hi"][j]
            step, phase, place = self.where(pair, at)
            out.append(Observation(at, step, phase, place, i, j, bool(equal)))
        return out

    @staticmethod
    def states(trace: Trace, generator: int) -> Any:
        """The observations of one generator (structured, ``model.events.RNG_FIELDS``), in order."""
        return trace.rng[trace.rng["generator"] == generator]

    @staticmethod
    def where(pair: Pair, at: int) -> tuple[int, str, str]:
        """(step, phase, module) of a position in the alignment."""
        index = int(pair.align.a[at])
        event = pair.a.events[index]
        root, module, _, _ = pair.a.sites[event["site"]]
        return int(pair.align.step_a[index]), Phase(int(event["phase"])).word, module or root

    # data

    @cached_property
    def batches(self) -> list[Batch]:
        """Every batch that has a partner, in execution order."""
        out: list[Batch] = []
        for pair in self.pairs:
            out += _batches(pair)
        return out

    def pair_of(self, rank: int) -> Pair:
        """The first process of a rank. Raises StopIteration where there is none."""
        return next(p for p in self.pairs if p.rank == rank)

    def relation(self, batch: Batch) -> tuple[str, str]:
        """(word, sentence): how the samples of a batch met: ``same``, ``reordered``, ``changed``, ``other`` or ``differs``."""
        pair = self.pair_of(batch.rank)
        if batch.differing == 0:
            return "same", "every tensor of the batch is equal"
        a, b = pair.a.samples(batch.seq_a), pair.b.samples(batch.seq_b)
        if a is None or b is None:
            return "differs", "its samples were not fingerprinted one by one"
        return relation(a, b)

    def portrait(self, rank: int, index_a: int, index_b: int) -> Portrait | None:
        """The tensors of one record and its partner, to be drawn; None where a run did not keep them, or they cannot be drawn."""
        return of_pair(self.pair_of(rank), index_a, index_b)

    # records

    @cached_property
    def records(self) -> Records:
        """Every record of both runs, side by side."""
        return Records(self.pairs)


def relation(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[str, str]:
    """How two batches met by (fingerprints uint64[n], sampler indices int64[m]) of their samples."""
    import numpy as np

    (prints_a, index_a), (prints_b, index_b) = a, b
    n, m = len(prints_a), len(prints_b)
    if n == 0 or m == 0:
        return "differs", "its samples were not fingerprinted one by one"
    chosen = ""
    if len(index_a) and len(index_b):
        chosen = "; the sampler chose " + ("the same indices" if np.array_equal(index_a, index_b) else "other indices")
    if n == m and np.array_equal(np.sort(prints_a), np.sort(prints_b)):
        if np.array_equal(prints_a, prints_b):
            return "same", "the samples are equal one by one" + chosen
        moved = int((prints_a != prints_b).sum())
        return "reordered", f"the same {n} samples, {moved} of them at another place in the batch{chosen}"
    shared = len(np.intersect1d(prints_a, prints_b))
    if n == m and len(index_a) and np.array_equal(index_a, index_b):
        return "changed", f"{int((prints_a != prints_b).sum())} of {n} samples have other content{chosen}"
    sizes = f"{n}" if n == m else f"{n} in A, {m} in B"
    return "other", f"{shared} of {sizes} samples are in both batches{chosen}"


class Records:
    """The records of both runs in one order: partners together, what only one run has where it came."""

    def __init__(self, pairs: list[Pair]) -> None:
        import numpy as np

        self.pairs = pairs
        parts = [_merged(p) for p in pairs]
        self._starts = np.cumsum([0] + [len(ia) for ia, _, _ in parts])
        self._a = np.concatenate([p[0] for p in parts]) if parts else np.zeros(0, np.int64)
        self._b = np.concatenate([p[1] for p in parts]) if parts else np.zeros(0, np.int64)
        self.wrong = np.concatenate([p[2] for p in parts]) if parts else np.zeros(0, bool)
        """bool[n]: which rows differ, or stand in one run only"""

    def __len__(self) -> int:
        return len(self._a)

    def row(self, n: int) -> tuple[Pair, int, int]:
        """(process, index in A's events, index in B's events); -1 where the run has no such record."""
        import numpy as np

        which = int(np.searchsorted(self._starts, n, side="right")) - 1
        return self.pairs[which], int(self._a[n]), int(self._b[n])

    def next(self, n: int, sign: int) -> int | None:
        """The nearest differing row after (or before) ``n``; None where there is none."""
        import numpy as np

        where = np.flatnonzero(self.wrong)
        at = int(np.searchsorted(where, n, side="right" if sign > 0 else "left")) - (sign < 0)
        return int(where[at]) if 0 <= at < len(where) else None

    def of(self, rank: int, index_a: int, index_b: int) -> int | None:
        """The row that holds record ``index_a`` of A (or ``index_b`` of B, where A has none) of a rank."""
        import numpy as np

        for k, p in enumerate(self.pairs):
            if p.rank == rank:
                piece = slice(self._starts[k], self._starts[k + 1])
                column, wanted = (self._a[piece], index_a) if index_a >= 0 else (self._b[piece], index_b)
                found = np.flatnonzero(column == wanted)
                return int(self._starts[k] + found[0]) if len(found) else None
        return None

    def matching(self, words: str) -> Any:
        """int64[m]: rows whose place (rank, module, type, tensor, kind, phase) contains ``words``, small or capital letters alike."""
        import numpy as np

        wanted = words.lower()
        hits = []
        for k, p in enumerate(self.pairs):
            piece = slice(int(self._starts[k]), int(self._starts[k + 1]))
            a, b = self._a[piece], self._b[piece]
            hit = np.zeros(len(a), bool)
            for column, trace in ((a, p.a), (b, p.b)):
                has = column >= 0
                hit[has] |= _sites_with(trace, wanted)[column[has]]
            hits.append(np.flatnonzero(hit) + self._starts[k])
        return np.concatenate(hits) if hits else np.zeros(0, np.int64)


def _sites_with(trace: Trace, wanted: str) -> Any:
    """bool[n]: whether the place of each event contains the words; judged once for each place, kind and phase."""
    import numpy as np

    names = [" ".join(site).lower() for site in trace.sites]
    table = np.zeros((max(1, len(names)), 7, 5), bool)
    suffix = np.array([[wanted in f"{k.word} {p.word}" for p in Phase] for k in Kind])
    for n, name in enumerate(names):
        table[n] = True if wanted in name else suffix
    e = trace.events
    return table[e["site"], e["kind"], e["phase"]]


def _merged(pair: Pair) -> tuple[Any, Any, Any]:
    """(index in A, index in B, differs) of every record of a process, in execution order."""
    import numpy as np

    g = pair.align
    n = len(g.a)
    wrong = np.zeros(n, bool)
    wrong[pair.mismatch] = True
    if not len(g.only_a) and not len(g.only_b):
        return g.a.astype(np.int64), g.b.astype(np.int64), wrong
    # what only one run has stands before the next pair of partners: A's first, then B's
    before_a, before_b = np.searchsorted(g.a, g.only_a), np.searchsorted(g.reached_b, g.only_b)
    key = np.concatenate([np.arange(n) * 3 + 2, before_a * 3, before_b * 3 + 1])
    minus_a, minus_b = np.full(len(g.only_b), -1), np.full(len(g.only_a), -1)
    ia, ib = np.concatenate([g.a, g.only_a, minus_a]), np.concatenate([g.b, minus_b, g.only_b])
    every = np.concatenate([wrong, np.ones(len(g.only_a) + len(g.only_b), bool)])
    order = np.argsort(key, kind="stable")
    return ia[order].astype(np.int64), ib[order].astype(np.int64), every[order]


def _tree(pair: Pair, stretches: list[tuple[int, int]], offset: int) -> list[Node]:
    import numpy as np

    numbers: dict[tuple[str, str], int] = {}
    kinds: dict[tuple[str, str], str] = {}
    renamed = pair.align.renamed
    tables = [module_table(pair.a.notes_meta), same_names(module_table(pair.b.notes_meta), renamed)]
    seen = {(site[0], site[1]): site[2] for site in pair.a.sites}
    seen |= {renamed.get((site[0], site[1]), (site[0], site[1])): site[2] for site in pair.b.sites}
    roots = dict.fromkeys(root for root, _ in seen)
    for root in roots:
        known = [key for described in tables for key in described if key[0] == root]
        for key in [(root, ""), *known, *(k for k in seen if k[0] == root)]:
            parts = key[1].split(".") if key[1] else []
            for n in range(len(parts) + 1):
                numbers.setdefault((root, ".".join(parts[:n])), len(numbers))
    for described in tables[::-1]:
        kinds.update({key: str(value[0]) for key, value in described.items()})
    for key, kind in seen.items():
        kinds.setdefault(key, kind)

    size = len(numbers)
    columns = []
    for t, other in ((pair.a, {}), (pair.b, renamed)):
        table = np.zeros(max(1, len(t.sites)), np.int64)
        for n, site in enumerate(t.sites):
            table[n] = numbers[other.get((site[0], site[1]), (site[0], site[1]))]
        columns.append(table[t.events["site"]])
    own = columns[0][pair.align.a]
    wrong = np.zeros(len(own), bool)
    wrong[pair.mismatch] = True
    compared = np.bincount(own, minlength=size)
    differing = np.bincount(own[wrong], minlength=size)
    alone = [np.bincount(columns[k][only], minlength=size) for k, only in enumerate((pair.align.only_a, pair.align.only_b))]
    first = np.full(size, -1, np.int64)
    first[own[pair.mismatch[::-1]]] = pair.mismatch[::-1]  # the last write of a module is its first difference
    starts = np.array([s for s, _ in stretches])
    column = np.searchsorted(starts, pair.align.step_a[pair.align.a], side="right") - 1
    width = len(stretches)
    heat_all = np.bincount(own * width + column, minlength=size * width).reshape(size, width)
    heat_wrong = np.bincount((own * width + column)[wrong], minlength=size * width).reshape(size, width)

    parents = {}
    children: dict[int, list[int]] = {n: [] for n in numbers.values()}
    for (root, module), n in numbers.items():
        up = -1 if not module else numbers[root, module.rpartition(".")[0]]
        parents[n] = up
        if up >= 0:
            children[up].append(n)
    order: list[int] = []
    stack = [n for n in reversed(list(numbers.values())) if parents[n] < 0]
    while stack:
        n = stack.pop()
        order.append(n)
        stack += reversed(children[n])
    for n in reversed(order):  # what is below counts above
        up = parents[n]
        if up >= 0:
            for counts in (compared, differing, *alone, heat_all, heat_wrong):
                counts[up] += counts[n]
            if first[n] >= 0 and (first[up] < 0 or first[n] < first[up]):
                first[up] = first[n]
    place = {n: offset + k for k, n in enumerate(order)}
    names = {n: key for key, n in numbers.items()}
    out = []
    for n in order:
        root, module = names[n]
        out.append(
            Node(
                rank=pair.rank, root=root, module=module, kind=kinds.get((root, module), ""),
                depth=module.count(".") + 1 if module else 0, parent=place[parents[n]] if parents[n] >= 0 else -1,
                children=tuple(place[k] for k in children[n]), compared=int(compared[n]), differing=int(differing[n]),
                alone_a=int(alone[0][n]), alone_b=int(alone[1][n]), first=int(first[n]),
                heat=tuple(float(w / t) if t else None for w, t in zip(heat_wrong[n].tolist(), heat_all[n].tolist(), strict=True)),
            )
        )  # fmt: skip
    return out


def _batches(pair: Pair) -> list[Batch]:
    import numpy as np

    events = pair.a.events
    where = np.flatnonzero(events["kind"][pair.align.a] == Kind.DATA)
    if len(where) == 0:
        return []
    wrong = np.zeros(len(pair.align.a), bool)
    wrong[pair.mismatch] = True
    roots: dict[str, int] = {}
    table = np.array([roots.setdefault(site[0], len(roots)) for site in pair.a.sites] or [0])
    index = pair.align.a[where]
    root, call, step = table[events["site"][index]], events["call"][index], pair.align.step_a[index]
    new = np.flatnonzero(
        (np.diff(root, prepend=-1) != 0) | (np.diff(call.astype(np.int64), prepend=-1) != 0) | (np.diff(step, prepend=-1) != 0)
    )
    names = list(roots)
    bounds = [*new.tolist(), len(where)]
    out = []
    seqs_a, seqs_b = events["seq"][index], pair.b.events["seq"][pair.align.b[where]]
    flags = wrong[where]
    for k, start in enumerate(bounds[:-1]):
        end = bounds[k + 1]
        out.append(
            Batch(
                int(where[start]), pair.rank, int(step[start]), names[int(root[start])], end - start, int(flags[start:end].sum()),
                int(seqs_a[start]), int(seqs_b[start]),
            )
        )  # fmt: skip
    return out
