"""Loss values that a trace holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reprodebug.compare.align import steps
from reprodebug.model.events import Kind

if TYPE_CHECKING:
    from reprodebug.store.run import StoredRun
    from reprodebug.store.trace import Trace


def loss_values(trace: Trace, step: Any, order: Any = None) -> dict[int, float]:
    """Step -> its last loss, NaN where it is NaN; ``step`` is int[n], the step of each event; ``order`` int[n], where it comes."""
    import numpy as np

    at = np.flatnonzero(trace.events["kind"] == Kind.LOSS)
    if order is not None:
        at = at[np.argsort(order[at], kind="stable")]
    values: dict[int, float] = {}
    if len(at) and len(trace.stats):
        where = np.searchsorted(trace.stats["seq"], trace.events["seq"][at])
        where = np.minimum(where, len(trace.stats) - 1)
        hit = trace.stats["seq"][where] == trace.events["seq"][at]
        for s, v in zip(step[at[hit]].tolist(), trace.stats["value"][where[hit]].tolist(), strict=True):
            values[s] = v
    return values


def losses_of(run: StoredRun) -> list[tuple[int, float]]:
    """(step, loss) of the first process that recorded any."""
    for rank, ordinal in sorted(run.traces):
        trace = run.trace(rank, ordinal)
        found = loss_values(trace, steps(trace))
        if found:
            return sorted(found.items())
    return []
