"""Where the random states of the two runs part, generator by generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reprodebug.model.comparison import Difference, Divergence

if TYPE_CHECKING:
    from reprodebug.compare.runs import Pair


def random_state_differences(pairs: list[Pair], located: list[tuple[Divergence, Pair, int]]) -> list[Difference]:
    """One row for each generator whose states differ between the runs.

    Harmless where no tensor differs, or where the generator parts only after the first divergence; critical for one
    that was different before it.
    """
    rows = []
    for pair in pairs:
        first = next((at for _, p, at in located if p is pair), None)
        limit = int(pair.a.events["seq"][pair.align.a[first]]) if first is not None else None
        for name, seq_a, step, a, b in _partings(pair):
            rank = f" (rank {pair.rank})" if pair.rank else ""
            if limit is None:
                severity, reason = "harmless", "it reached no tensor"
            elif seq_a > limit:
                severity, reason = "harmless", "it parts only after the first divergence"
            elif name.startswith("torch"):
                severity, reason = "critical", "it was different before the first divergence"
            else:
                severity, reason = "notable", "it was different before the first divergence, as it is whenever it is not seeded"
            rows.append(Difference("random-state", f"{name}{rank}", f"{a} at step {step}", f"{b} at step {step}", severity, reason))
    return rows


def _partings(pair: Pair) -> list[tuple[str, int, int, str, str]]:
    """(generator, A's event count there, step, state in A, state in B) where a generator's states first differ."""
    import numpy as np

    numbers = {name: n for n, (name, _) in enumerate(pair.b.generators)}
    found = []
    for n, (name, _) in enumerate(pair.a.generators):
        other = numbers.get(name)
        if other is None:
            continue
        rows_a = pair.a.rng[pair.a.rng["generator"] == n]
        rows_b = pair.b.rng[pair.b.rng["generator"] == other]
        parted = _first_parting(rows_a, rows_b, pair)
        if parted is None:
            continue
        row_a, row_b = parted
        at = min(int(np.searchsorted(pair.a.events["seq"], row_a["seq"])), len(pair.align.step_a) - 1)
        found.append((name, int(row_a["seq"]), int(pair.align.step_a[at]), _word(row_a), _word(row_b)))
    return found


def _first_parting(a: Any, b: Any, pair: Pair) -> tuple[Any, Any] | None:
    """First partner events that see different states of one generator."""
    import numpy as np

    if len(a) == 0 or len(b) == 0:
        return None
    seq_a, seq_b = pair.a.events["seq"][pair.align.a], pair.b.events["seq"][pair.align.b]
    # the state that holds at an event is the last row observed at or before it
    at_a = np.searchsorted(a["seq"], seq_a, side="right") - 1
    at_b = np.searchsorted(b["seq"], seq_b, side="right") - 1
    known = (at_a >= 0) & (at_b >= 0)
    different = known & ((a["lo"][at_a] != b["lo"][at_b]) | (a["hi"][at_a] != b["hi"][at_b]))
    where = np.flatnonzero(different)
    if len(where) == 0:
        return None
    return a[at_a[where[0]]], b[at_b[where[0]]]


def _word(row: Any) -> str:
    position = int(row["position"])
    where = f", position {position}" if position >= 0 else ""
    return f"state {int(row['lo']) & 0xFFFFFFFF:08x}{where}"
