"""The same comparison with A and B exchanged.

Owns which fields belong to a side, and the few sentences of the comparison that name one. Refuses to touch any other
sentence: a name from a run may contain the letters A and B. The verdict is that of the original order.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from reprodebug.model.comparison import Comparison, Difference, Divergence, LayerDifference, Portrait

_OTHER = {"A": "B", "B": "A", "a": "b", "b": "a"}
_ENDS = re.compile(r"(, up to the cut: |; )([AB])( did not finish$| goes on for [\d,]+ steps? more$)")
_VALUES = re.compile(r"^(.*): A (\w+), B (\w+)$")
_RUN = re.compile(r" of run ([AB])$")


def exchanged(c: Comparison) -> Comparison:
    """``c`` as if the two runs had been given the other way round."""
    return replace(
        c,
        reason=_ENDS.sub(lambda m: m[1] + _OTHER[m[2]] + m[3], c.reason),
        a=c.b,
        b=c.a,
        first=None if c.first is None else _divergence(c.first),
        first_by_rank=tuple(_divergence(d) for d in c.first_by_rank),
        equal_before=tuple(_VALUES.sub(r"\1: A \3, B \2", row) for row in c.equal_before),
        layers=tuple(_layer(x) for x in c.layers),
        gaps=tuple(replace(g, side=_OTHER[g.side]) for g in c.gaps),
        differences=tuple(_difference(d) for d in c.differences),
        counts=replace(c.counts, only_a=c.counts.only_b, only_b=c.counts.only_a),
        coverage=replace(
            c.coverage,
            unobserved=tuple(replace(u, what=_RUN.sub(lambda m: f" of run {_OTHER[m[1]]}", u.what)) for u in c.coverage.unobserved),
        ),
        portrait=None if c.portrait is None else _portrait(c.portrait),
        losses=tuple((step, b, a) for step, a, b in c.losses),
    )


def retold(c: Comparison, again: Comparison) -> Comparison:
    """``c`` with the sentences of ``again``, which compares the same runs in the same order."""
    return replace(
        c, causes=again.causes, nature=again.nature, levels=again.levels, not_recorded=again.not_recorded, differences=again.differences,
        reason=again.reason if again.verdict == c.verdict else c.reason,
    )  # fmt: skip


def _divergence(d: Divergence) -> Divergence:
    shapes: dict[str, Any] = {}
    if d.shape_b is not None:
        shapes |= {"shape": d.shape_b, "shape_b": d.shape}
    if d.dtype_b is not None:
        shapes |= {"dtype": d.dtype_b, "dtype_b": d.dtype}
    return replace(
        d,
        index_a=d.index_b,
        index_b=d.index_a,
        statistics={name: (b, a) for name, (a, b) in d.statistics.items()},
        **shapes,
    )


def _portrait(p: Portrait) -> Portrait:
    def turned(rows: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple((index, b, a, ulp) for index, a, b, ulp in rows)

    return replace(
        p, a=p.b, b=p.a, histogram_a=p.histogram_b, histogram_b=p.histogram_a, first=turned(p.first), worst=turned(p.worst)
    )  # fmt: skip


def _layer(x: LayerDifference) -> LayerDifference:
    return replace(x, first=_divergence(x.first))


def _difference(d: Difference) -> Difference:
    if (d.a, d.b) == ("as B", "as A"):  # says of each side that it equals the other
        return d
    return replace(d, a=d.b, b=d.a)
