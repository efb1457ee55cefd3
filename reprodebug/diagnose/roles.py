"""Source, carrier, unexplained: whether a differing record brought the difference in, or only passed it on.

A record is a *source* where all that went into it was compared and equal, a *carrier* where something that went in
differed already, *unexplained* where something that went in was not observed.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from reprodebug.diagnose.scene import RANDOM_MODULES, Scene
from reprodebug.model.comparison import LayerDifference, Roles
from reprodebug.model.events import Flag, Kind, Phase

_MOST = 4000
"""differing places that are judged one by one; those after them come late and are counted as carriers"""


def roles(s: Scene) -> tuple[tuple[LayerDifference, ...], Roles]:
    """The differing places of the comparison with their role, and the number of differing records of each role.

    Judged is the first differing record of each place; its later ones are carriers: by then parameters differ.
    """
    judge = _Judge(s)
    rows: list[LayerDifference] = []
    counts = {"source": 0, "carrier": 0, "unexplained": 0}
    for n, row in enumerate(s.comparison.layers):
        role = "carrier" if row.first.rank != s.first.rank or n >= _MOST else judge(row)
        counts[role] += 1
        counts["carrier"] += row.differing - 1
        rows.append(dataclasses.replace(row, role=role))
    return tuple(rows), Roles(**counts)


class _Judge:
    """Looks at the records that went into one."""

    def __init__(self, s: Scene) -> None:
        import numpy as np

        self._s = s
        pair = s.pair
        mismatched = pair.align.a[pair.mismatch]
        self._wrong = np.zeros(len(pair.a.events), bool)
        """of each of A's records, whether it differs"""
        self._wrong[mismatched] = True
        self._partnered = np.zeros(len(pair.a.events), bool)
        self._partnered[pair.align.a] = True
        self._events = pair.a.events
        self._sites = pair.a.sites
        self._step = pair.align.step_a
        self._first_by_step: dict[int, int] = {}
        steps = self._step[mismatched]
        for at in np.flatnonzero(np.diff(steps, prepend=steps[:1] - 1)).tolist():  # where another step begins
            self._first_by_step.setdefault(int(steps[at]), int(mismatched[at]))
        changed = mismatched[self._events["kind"][mismatched] == Kind.PARAMETER]
        self._parameters_from = int(changed[0]) if len(changed) else len(self._events)
        """from this record on parameters differ"""

    @cached_property
    def _gradients(self) -> dict[tuple[str, str, str], list[int]]:
        """(root, module, tensor) -> positions of its records among A's, in order."""
        import numpy as np

        where = np.flatnonzero(self._events["kind"] == Kind.GRADIENT)
        site = self._events["site"][where]
        where = where[np.argsort(site, kind="stable")]
        numbers, counts = np.unique(site, return_counts=True)
        found: dict[tuple[str, str, str], list[int]] = {}
        for number, positions in zip(numbers.tolist(), np.split(where, np.cumsum(counts)[:-1]), strict=True):
            root, module, _, tensor = self._sites[number]
            found.setdefault((root, module, tensor), []).extend(positions.tolist())
        return {place: sorted(positions) for place, positions in found.items()}  # of one place there can be several types

    def __call__(self, row: LayerDifference) -> str:
        index = row.first.index_a
        e = self._events[index]
        kind, phase = int(e["kind"]), int(e["phase"])
        earlier = self._first_by_step.get(int(self._step[index]), index) < index
        carried = earlier or self._parameters_from < index
        if kind == Kind.PARAMETER and phase == Phase.INIT:
            return "carrier" if self._parted(index, "torch") else "source"
        if kind == Kind.DATA and phase == Phase.DATA:
            return "carrier" if self._parted(index, "torch") or self._same_batch(index) else "source"
        if kind == Kind.DATA:
            return "carrier" if self._parted(index, "torch") or self._data_before(index) else "source"
        if kind == Kind.ACTIVATION:
            return self._activation(index, e, carried)
        if kind in (Kind.LOSS, Kind.GRADIENT):
            return "carrier" if carried else "source"
        return self._update(index, e)

    def _parted(self, index: int, family: str) -> bool:
        align = self._s.pair.align.a
        return any(n.startswith(family) and x.at >= 0 and int(align[x.at]) <= index for n, x in self._s.generators.items())

    def _same_batch(self, index: int) -> bool:
        before = self._events[index - 1] if index else None
        same = before is not None and before["site"] != self._events[index]["site"] and before["kind"] == Kind.DATA
        return bool(same and self._wrong[index - 1])

    def _data_before(self, index: int) -> bool:
        first = self._first_by_step.get(int(self._step[index]), index)
        return first < index and int(self._events[first]["kind"]) == Kind.DATA

    def _activation(self, index: int, e: Any, carried: bool) -> str:
        """Its inputs of the same call, its own parameters and what ran inside it."""
        root, module, kind, _ = self._sites[e["site"]]
        prefix = f"{module}." if module else ""
        if e["flags"] & Flag.INPUT:
            return "carrier" if carried else "unexplained"
        if self._parameters_from < index or (RANDOM_MODULES.search(kind) and self._parted(index, "torch")):
            return "carrier"
        inputs: list[int] = []
        inside: list[int] = []
        step, call = int(e["step"]), int(e["call"])
        for k, at, number, flags, which in self._back(index, 2000):
            if at != step:
                break
            site = self._sites[number]
            if site[0] != root:
                continue
            if site[1] == module and flags & Flag.INPUT and which == call:
                inputs.append(k)  # those given by keyword may have been noted after the call: there can be more before
            elif site[1] != module and site[1].startswith(prefix):
                inside.append(k)
        began = min(inputs, default=index)
        if any(self._wrong[k] for k in inputs) or any(self._wrong[k] for k in inside if k > began or not inputs):
            return "carrier"
        seen = any(self._partnered[k] for k in inputs)
        return "source" if seen else "carrier" if carried else "unexplained"

    def _back(self, index: int, most: int) -> Iterator[tuple[int, int, int, int, int]]:
        """(position, step, site, flags, call) of the records before one, the nearest first; read in pieces that grow."""
        end, size = index, 32
        while end > max(index - most, 0):
            start = max(end - size, index - most, 0)
            piece = self._events[start:end]
            columns = [piece[name].tolist()[::-1] for name in ("step", "site", "flags", "call")]
            yield from zip(range(end - 1, start - 1, -1), *columns, strict=True)
            end, size = start, size * 4

    def _update(self, index: int, e: Any) -> str:
        """A parameter after a step, or an optimizer's state: its gradient in this step, and what it was before."""
        root, module, _, tensor = self._sites[e["site"]]
        name = tensor.removesuffix(".state")
        seen = False
        step = int(e["step"])
        gradients = self._gradients.get((root, module, f"{name}.grad"), [])
        for k in reversed(gradients[: bisect_left(gradients, index)]):
            if int(self._events[k]["step"]) < step:
                break
            seen = bool(self._partnered[k])
            if self._wrong[k]:
                return "carrier"
        if self._parameters_from < index and self._first_by_step.get(int(self._step[index]), index) < index and not seen:
            return "carrier"
        return "source" if seen else "unexplained"
