"""Curves of losses that leave the numbers: a diverged training is what people compare."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from reprodebug.model.comparison import Numbers
from reprodebug.report.words import SPARKS, largest, sparkline

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


def test_a_nan_is_no_infinite_distance() -> None:
    assert largest(Numbers(max_abs=0.25, max_rel=0.5, max_ulp=3)) == ["max abs 0.25", "max rel 0.5", "max 3 ULP"]
    assert largest(Numbers(max_abs=math.inf, max_rel=math.inf, max_ulp=3)) == ["NaN or infinite in one run alone", "max 3 ULP elsewhere"]
    assert largest(Numbers(max_abs=0.0, max_rel=0.0, max_ulp=0, signed_zero_only=True))[-1] == "only -0.0 against 0.0"
    assert largest(Numbers()) == []
