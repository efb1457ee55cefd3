"""Where the random states of the two runs part, generator by generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reprodebug.model.comparison import Difference, Divergence

if TYPE_CHECKING:
    from reprodebug.compare.runs import Pair


@dataclass(frozen=True, slots=True)
class Story:
    """One generator that both runs have: where its states part, and whether the program used it."""

    name: str
    algorithm: str
    number_a: int
    number_b: int
    """its number in each trace's table of generators"""
    at: int
    """position in the alignment of the first record that sees different states; -1: they never part"""
    last_equal: int
    """position of the last record before ``at`` that sees equal states; -1: none does"""
    row_a: Any
    row_b: Any
    """the two observations (structured, ``model.events.RNG_FIELDS``) at ``at``; None where they never part"""
    used_a: bool
    used_b: bool
    """the state had moved before the limit, or was no fresh one when it was first seen"""


def stories(pair: Pair, limit: int | None = None) -> list[Story]:
    """The story of every generator that both runs have; ``limit`` is the position in the alignment before which its use
    counts, None for the whole run."""
    import numpy as np

    seq_a, seq_b = pair.a.events["seq"][pair.align.a], pair.b.events["seq"][pair.align.reached_b]
    numbers = {name: n for n, (name, _) in enumerate(pair.b.generators)}
    found = []
    for n, (name, algorithm) in enumerate(pair.a.generators):
        other = numbers.get(name)
        if other is None:
            continue
        a, b = pair.a.rng[pair.a.rng["generator"] == n], pair.b.rng[pair.b.rng["generator"] == other]
        if len(a) == 0 or len(b) == 0 or len(seq_a) == 0:
            continue
        # the state that holds at a record is the last one observed at or before it: it changes only where a row begins
        from_a, from_b = np.searchsorted(seq_a, a["seq"]), np.searchsorted(seq_b, b["seq"])
        begins = np.unique(np.concatenate((from_a, from_b)))
        begins = begins[begins < len(seq_a)]
        at_a, at_b = np.searchsorted(from_a, begins, side="right") - 1, np.searchsorted(from_b, begins, side="right") - 1
        known = (at_a >= 0) & (at_b >= 0)
        same = (a["lo"][at_a] == b["lo"][at_b]) & (a["hi"][at_a] == b["hi"][at_b])
        where = np.flatnonzero(known & ~same)
        parting = int(where[0]) if len(where) else len(begins)
        at = int(begins[parting]) if len(where) else -1
        equal = np.flatnonzero((known & same)[:parting])
        ends_of = np.append(begins[1:], len(seq_a)) - 1
        ends = [int(seq[min(limit, len(seq) - 1)]) if limit is not None else int(seq[-1]) for seq in (seq_a, seq_b)]
        used = [_used(rows[rows["seq"] <= end], algorithm, name) for rows, end in ((a, ends[0]), (b, ends[1]))]
        found.append(
            Story(
                name,
                algorithm,
                n,
                other,
                at,
                int(ends_of[equal[-1]]) if at >= 0 and len(equal) else -1,
                a[at_a[parting]] if at >= 0 else None,
                b[at_b[parting]] if at >= 0 else None,
                used[0],
                used[1],
            )
        )
    return found


def _used(rows: Any, algorithm: str, name: str) -> bool:
    if len(rows) == 0:
        return False
    fresh = (623, 624, -1) if algorithm == "mt19937" and not name.startswith("torch") else ()
    return len({(int(r["lo"]), int(r["hi"])) for r in rows}) > 1 or (bool(fresh) and int(rows[0]["position"]) not in fresh)


def random_state_differences(pairs: list[Pair], located: list[tuple[Divergence, Pair, int]]) -> list[Difference]:
    """One row for each generator whose states differ between the runs.

    Harmless where no tensor differs, or where the generator parts only after the first divergence; critical for one
    that was different before it.
    """
    rows = []
    for pair in pairs:
        first = next((at for _, p, at in located if p is pair), None)
        limit = int(pair.a.events["seq"][pair.align.a[first]]) if first is not None else None
        for s in stories(pair):
            if s.at < 0:
                continue
            step = int(pair.align.step_a[pair.align.a[s.at]])
            rank = f" (rank {pair.rank})" if pair.rank else ""
            if limit is None:
                severity, reason = "harmless", "it reached no tensor"
            elif int(s.row_a["seq"]) > limit:
                severity, reason = "harmless", "it parts only after the first divergence"
            elif not s.name.startswith("torch") and not (s.used_a or s.used_b):
                severity, reason = "harmless", "neither run was seen to draw from it"
            elif s.name.startswith("torch"):
                severity, reason = "critical", "it was different before the first divergence"
            else:
                usual = "" if s.last_equal >= 0 else ", as it is whenever it is not seeded"
                severity, reason = "notable", "it was different before the first divergence" + usual
            shown = [f"{_word(row)} at step {step}" for row in (s.row_a, s.row_b)]
            rows.append(Difference("random-state", f"{s.name}{rank}", shown[0], shown[1], severity, reason))
    return rows


def _word(row: Any) -> str:
    position = int(row["position"])
    where = f", position {position}" if position >= 0 else ""
    return f"state {int(row['lo']) & 0xFFFFFFFF:08x}{where}"
