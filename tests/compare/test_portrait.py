"""The portrait of two tensors against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from reprodebug.compare.portrait import COLUMNS, ROWS, portrait
from reprodebug.report.words import heat_maps
from reprodebug.report.words import portrait as drawn


@pytest.mark.parametrize("shape", [(), (1,), (5,), (7, 3), (40, 100), (4, 3, 16, 16)])
def test_cells_are_means_and_the_largest_difference(shape: tuple[int, ...]) -> None:
    g = np.random.default_rng(0)
    a = g.normal(size=shape).astype(np.float32)
    a = np.ascontiguousarray(a)
    b = a.copy()
    b.reshape(-1)[0] += 1
    p = portrait(np.frombuffer(a.tobytes(), np.uint8), np.frombuffer(b.tobytes(), np.uint8), "float32", shape)
    assert p is not None
    rows, columns = (int(np.prod(shape[:-1])), shape[-1]) if shape else (1, 1)
    assert (len(p.a), len(p.a[0])) == (min(ROWS, rows), min(COLUMNS, columns))
    assert max(max(r) for r in p.difference) == p.difference[0][0] == pytest.approx(float(np.abs(b - a).max()))
    assert sum(x > 0 for row in p.difference for x in row) == 1
    if rows <= ROWS and columns <= COLUMNS:
        assert np.array_equal(np.array(p.a), a.reshape(rows, columns).astype(np.float64))
    assert sum(p.histogram_a) == sum(p.histogram_b) == a.size
    assert p.worst[0][:3] == ((0,) * len(shape), float(a.reshape(-1)[0]), float(b.reshape(-1)[0]))
    assert sum(n for _, n in p.ulps) == a.size
    assert drawn(p)


def test_values_that_are_not_finite_are_marked() -> None:
    a = np.array([[1.0, np.nan, np.inf, 2.0]], np.float32)
    b = np.array([[1.0, np.nan, 3.0, np.nan]], np.float32)
    p = portrait(np.frombuffer(a.tobytes(), np.uint8), np.frombuffer(b.tobytes(), np.uint8), "float32", (1, 4))
    assert p is not None
    assert p.difference == ((0.0, 0.0, np.inf, np.inf),)
    assert "!" in "".join(drawn(p))


def test_what_has_no_values_here_has_no_portrait() -> None:
    raw = np.zeros(16, np.uint8)
    assert portrait(raw, raw, "bits8", (16,)) is None
    assert portrait(raw, raw, "sparse_coo", (16,)) is None
    assert portrait(raw, raw, "float32", (0,)) is None
    assert portrait(raw, raw, "unknown", (16,)) is None


def test_complex_numbers_are_drawn_by_their_parts() -> None:
    a = np.array([[1 + 2j, 3j]], np.complex64)
    b = np.array([[1 + 2j, 4 + 3j]], np.complex64)
    p = portrait(np.frombuffer(a.tobytes(), np.uint8), np.frombuffer(b.tobytes(), np.uint8), "complex64", (1, 2))
    assert p is not None and p.shape == (1, 2, 2)
    assert p.a == ((1.0, 2.0), (0.0, 3.0)) and p.difference == ((0.0, 0.0), (4.0, 0.0))
    assert p.worst[0][:3] == ((0, 1, 0), 0.0, 4.0)


def test_a_report_shows_both_and_their_difference_and_fits_its_width() -> None:
    a = np.linspace(0, 1, 2000, dtype=np.float32).reshape(20, 100)
    b = a.copy()
    b[3, 50] = 9
    p = portrait(np.frombuffer(a.tobytes(), np.uint8), np.frombuffer(b.tobytes(), np.uint8), "float32", a.shape)
    assert p is not None
    for width in (100, 102, 160):
        lines = heat_maps(p, width)
        assert len(lines) == (1 + ROWS) * (1 if width >= 102 else 3) and all(len(row) <= width for row in lines)
        assert all(word in "".join(lines) for word in ("A, 0.0005 to 1.67", "B, 0.0005 to 1.67", "|A-B|, 0 to 8.")), lines
