"""Records whose fingerprints were made by different algorithms: in main memory, and on an accelerator.

Two such fingerprints say nothing about each other. Owns telling them apart; they count as unobserved, with the reason.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from reprodebug.model.events import Flag

if TYPE_CHECKING:
    from reprodebug.compare.align import Alignment
    from reprodebug.store.trace import Trace

_HERE = frozenset({"", "cpu", "meta"})
WHY = "it lay on {} in A and on {} in B: fingerprints of the two are made by different algorithms and cannot be compared"


def apart(a: Trace, b: Trace, align: Alignment) -> tuple[Trace, Trace, int]:
    """The two traces, in which aligned records of different algorithms are marked as unobserved, and how many these are."""
    import numpy as np

    ways = [_ways(t) for t in (a, b)]
    if not a.metas or not b.metas or len({w for side in ways for w in side}) < 2:
        return a, b, 0
    meta_a, meta_b = a.events["meta"][align.a], b.events["meta"][align.b]
    names = {w: n for n, w in enumerate(dict.fromkeys(w for side in ways for w in side))}
    code_a, code_b = (np.array([names[w] for w in side]) for side in ways)
    flags = a.events["flags"][align.a] | b.events["flags"][align.b]
    unlike = np.flatnonzero((code_a[meta_a] != code_b[meta_b]) & ((flags & Flag.UNOBSERVED) == 0))
    if len(unlike) == 0:
        return a, b, 0
    partners = (meta_b[unlike], meta_a[unlike])
    return (
        _marked(a, align.a[unlike], [b.metas[m][2] for m in partners[0].tolist()], False),
        _marked(b, align.b[unlike], [a.metas[m][2] for m in partners[1].tolist()], True),
        len(unlike),
    )


def _ways(trace: Trace) -> list[str]:
    """For each row of the table of shapes: by which algorithm its fingerprints were made; empty: that of main memory."""
    notes = [n for n in trace.notes_meta if n.get("type") == "device-fingerprint"]
    algorithm = str(notes[0].get("algorithm")) if notes else "unknown"
    return ["" if meta[2].partition(":")[0] in _HERE else algorithm for meta in trace.metas]


def _marked(trace: Trace, rows: Any, others: list[str], second: bool) -> Trace:
    events = trace.events.copy()
    metas = list(trace.metas)
    known: dict[tuple[int, str], int] = {}
    for row, other in zip(rows.tolist(), others, strict=True):
        meta = int(events["meta"][row])
        number = known.get((meta, other))
        if number is None:
            shape, dtype, device, layout, _ = metas[meta]
            sides = [device or "cpu", other or "cpu"]
            number = known[meta, other] = len(metas)
            metas.append((shape, dtype, device, layout, WHY.format(*(sides[::-1] if second else sides))))
        events["meta"][row] = number
    events["flags"][rows] |= int(Flag.UNOBSERVED)
    return dataclasses.replace(trace, events=events, metas=metas)
