"""Curves of losses that leave the numbers: a diverged training is what people compare."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from reprodebug.report.words import SPARKS, sparkline

ANY = st.none() | st.floats()


@given(st.lists(ANY, max_size=20), st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_every_value_has_its_mark(values: list[float | None], x: float, y: float) -> None:
    drawn = sparkline(values, min(x, y), max(x, y))
    assert len(drawn) == len(values)
    for v, mark in zip(values, drawn, strict=True):
        kind = " " if v is None else "?" if math.isnan(v) else "!" if math.isinf(v) else "number"
        assert mark == kind or (kind == "number" and mark in SPARKS)


def test_the_extremes_of_float64_are_apart() -> None:
    assert sparkline([-1.7e308, 0.0, 1.7e308], -1.7e308, 1.7e308) == f"{SPARKS[0]}{SPARKS[3]}{SPARKS[7]}"
