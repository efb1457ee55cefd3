"""The places at which two runs differ, each with its first difference and the size of it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from reprodebug.model.comparison import Divergence, LayerDifference, Numbers, Tolerance
from reprodebug.model.events import Kind, Phase

if TYPE_CHECKING:
    from reprodebug.compare.runs import Pair
    from reprodebug.store.trace import Trace

_NUMBERS_FOR = 64
"""differing places for which numbers are computed"""


def divergence(pair: Pair, at: int, tolerance: Tolerance, with_numbers: bool = True) -> Divergence:
    """A pair of records that differ: where and when, and by how much where both tensors were kept. ``at``: row of the alignment."""
    ia, ib = int(pair.align.a[at]), int(pair.align.b[at])
    event, partner = pair.a.events[ia], pair.b.events[ib]
    root, module, module_type, tensor = pair.a.sites[event["site"]]
    meta, meta_b = pair.a.metas[event["meta"]], pair.b.metas[partner["meta"]]
    shape, dtype = tuple(meta[0]), meta[1]
    state = event["kind"] == Kind.OPTIMIZER and dtype == "state"
    same = (shape, dtype) == (tuple(meta_b[0]), meta_b[1])
    numbers = Numbers()
    if same and not state:
        numbers = _numbers(pair, event, partner, dtype, shape, tolerance) if with_numbers else numbers
    return Divergence(
        kind=Kind(int(event["kind"])).word,
        rank=pair.rank,
        step=int(pair.align.step_a[ia]),
        phase=Phase(int(event["phase"])).word,
        module=module,
        module_type=module_type,
        root=root if pair.several else "",
        tensor=tensor,
        shape=None if state else shape,
        dtype=None if state else dtype,
        shape_b=None if same else tuple(meta_b[0]),
        dtype_b=None if same else meta_b[1],
        call=int(event["call"]),
        index_a=ia,
        index_b=ib,
        numbers=numbers,
        statistics=_statistics(pair, int(event["seq"]), int(partner["seq"])),
    )


def _numbers(pair: Pair, event: Any, partner: Any, dtype: str, shape: tuple[int, ...], tolerance: Tolerance) -> Numbers:
    from reprodebug.compare.numbers import compare_bytes

    ta, tb = pair.a.tensor(int(event["seq"])), pair.b.tensor(int(partner["seq"]))
    if ta is not None and tb is not None:
        return compare_bytes(ta[0], tb[0], dtype, shape, tolerance)
    if shape in ((), (1,)):  # one element: its value is kept at every level for a loss
        va, vb = _value(pair.a, int(event["seq"])), _value(pair.b, int(partner["seq"]))
        if va is not None and vb is not None:
            import numpy as np

            kind = {"float32": np.float32, "float64": np.float64, "float16": np.float16}.get(dtype)
            if kind is not None:
                x, y = (np.frombuffer(np.array([v], kind).tobytes(), np.uint8) for v in (va, vb))
                return compare_bytes(x, y, dtype, shape, tolerance)
    import math

    return Numbers(elements=math.prod(shape))


def _value(trace: Trace, seq: int) -> float | None:
    import numpy as np

    stats = trace.stats
    at = int(np.searchsorted(stats["seq"], seq))
    if at >= len(stats) or stats["seq"][at] != seq:
        return None
    value = float(stats["value"][at])
    return None if value != value else value


def _statistics(pair: Pair, seq_a: int, seq_b: int) -> dict[str, tuple[float, float]]:
    import numpy as np

    rows = []
    for trace, seq in ((pair.a, seq_a), (pair.b, seq_b)):
        at = int(np.searchsorted(trace.stats["seq"], seq))
        if at >= len(trace.stats) or trace.stats["seq"][at] != seq:
            return {}
        rows.append(trace.stats[at])
    names = ("minimum", "maximum", "mean", "std", "l2", "nans", "infs", "zeros")
    return {n: (float(rows[0][n]), float(rows[1][n])) for n in names if rows[0][n] == rows[0][n] and rows[1][n] == rows[1][n]}


def layers(pair: Pair, tolerance: Tolerance) -> list[LayerDifference]:
    """The differing places of one process, each with its first difference, in order of that."""
    import numpy as np

    if len(pair.mismatch) == 0:
        return []
    places = pair.align.place_a[pair.align.a]
    wrong = places[pair.mismatch]
    totals = np.bincount(places)
    counts = np.bincount(wrong, minlength=len(totals))
    unique = np.flatnonzero(counts)
    earliest = np.full(len(totals), len(wrong), np.int64)
    earliest[wrong[::-1]] = np.arange(len(wrong) - 1, -1, -1)  # the last write of a place is its first difference
    first, count = earliest[unique], counts[unique]
    rows = []
    for n, k in enumerate(np.argsort(first, kind="stable").tolist()):
        at = int(pair.mismatch[first[k]])
        exact = not tolerance.exact
        found = divergence(pair, at, tolerance, with_numbers=exact or n < _NUMBERS_FOR)
        root = pair.a.sites[pair.a.events[pair.align.a[at]]["site"]][0]
        if exact:
            found = _worst(pair, found, pair.mismatch[wrong == unique[k]], tolerance)
        rows.append(LayerDifference(found, int(count[k]), int(totals[unique[k]]), root))
    return rows


def _worst(pair: Pair, first: Divergence, positions: Any, tolerance: Tolerance) -> Divergence:
    """With a tolerance every differing record of a place counts, not only its first: keep the first that fails it."""
    if first.numbers.within is not True:
        return first
    for at in positions[1:].tolist():
        other = divergence(pair, at, tolerance)
        if other.numbers.within is not True:
            return dataclasses.replace(first, numbers=dataclasses.replace(first.numbers, within=other.numbers.within))
    return first


def smallest(differing: tuple[LayerDifference, ...]) -> Numbers | None:
    """The least tolerance that would have passed, where every differing record has exact numbers."""
    known = [x.first.numbers for x in differing]
    if not known or any(n.max_abs is None or x.differing > 1 for n, x in zip(known, differing, strict=True)):
        return None
    ulps = [n.max_ulp for n in known if n.max_ulp is not None]
    return Numbers(
        max_abs=max(n.max_abs for n in known if n.max_abs is not None),
        max_rel=max(n.max_rel or 0.0 for n in known),
        max_ulp=max(ulps) if len(ulps) == len(known) else None,
    )
