"""Two tensors side by side, small enough to be drawn: heat maps, histograms, the elements that differ most.

A heat map folds a tensor to a matrix (the last dimension across, all others down) and that to a grid of cells; a cell of A or B is
the mean of its elements, a cell of the difference their largest |a - b|.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from reprodebug.compare.numbers import COMPLEX, elements_apart, ulp_histogram, values
from reprodebug.compare.packed import dense
from reprodebug.model.comparison import Portrait
from reprodebug.store.journal import PACKED

if TYPE_CHECKING:
    from reprodebug.compare.runs import Pair

ROWS, COLUMNS, BINS = 12, 32, 24


def portrait(a: Any, b: Any, dtype: str, shape: tuple[int, ...]) -> Portrait | None:
    """The portrait of two tensors given as raw bytes (uint8[n]) of one dtype and shape; None where their values are not known here.

    Complex numbers have a last dimension of two, the real and the imaginary part; sparse and quantised tensors are made dense."""
    import numpy as np

    if dtype in PACKED:
        opened = dense(a, dtype, shape), dense(b, dtype, shape)
        if opened[0] is None or opened[1] is None or opened[0][1:] != opened[1][1:]:
            return None
        a, b, (_, dtype, shape) = opened[0][0], opened[1][0], opened[0]
    if dtype in COMPLEX:
        dtype, shape = COMPLEX[dtype], (*shape, 2)
    x, y = values(a, dtype), values(b, dtype)
    elements = math.prod(shape)
    if x is None or y is None or not elements or len(x) != len(y) or len(x) != elements:
        return None
    width = shape[-1] if shape else 1
    matrices = [v.reshape(-1, width) for v in (x, y)]
    with np.errstate(all="ignore"):
        apart = np.abs(x - y)
    apart = np.where(np.isnan(apart), np.where(np.isnan(x) & np.isnan(y), 0.0, np.inf), apart)
    finite = [v[np.isfinite(v)] for v in (x, y)]
    both = np.concatenate(finite)
    low, high = (float(both.min()), float(both.max())) if len(both) else (0.0, 0.0)
    edges = np.linspace(low, high, BINS + 1) if high > low else np.array([low, low + 1.0])
    first, worst = elements_apart(a, b, dtype, shape)
    return Portrait(
        shape=shape,
        a=_grid(matrices[0], np.nanmean),
        b=_grid(matrices[1], np.nanmean),
        difference=_grid(apart.reshape(-1, width), np.max),
        low=low,
        high=high,
        histogram_a=tuple(np.histogram(finite[0], edges)[0].tolist()),
        histogram_b=tuple(np.histogram(finite[1], edges)[0].tolist()),
        ulps=ulp_histogram(a, b, dtype),
        first=tuple(first),
        worst=tuple(worst),
    )


def of_pair(pair: Pair, index_a: int, index_b: int) -> Portrait | None:
    """The portrait of one record of A and its partner; None where a run did not keep the tensor, or shapes differ."""
    if index_a < 0 or index_b < 0:
        return None
    a = pair.a.tensor(int(pair.a.events["seq"][index_a]))
    b = pair.b.tensor(int(pair.b.events["seq"][index_b]))
    if a is None or b is None or a[1:] != b[1:]:
        return None
    return portrait(a[0], b[0], a[1], a[2])


def _grid(matrix: Any, fold: Any) -> tuple[tuple[float, ...], ...]:
    """A matrix as at most ``ROWS`` x ``COLUMNS`` cells."""
    import warnings

    import numpy as np

    rows, columns = min(ROWS, matrix.shape[0]), min(COLUMNS, matrix.shape[1])
    cuts = [np.linspace(0, n, k + 1).astype(int) for n, k in ((matrix.shape[0], rows), (matrix.shape[1], columns))]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # a cell of NaN alone has NaN for its mean
        return tuple(
            tuple(float(fold(matrix[cuts[0][r] : cuts[0][r + 1], cuts[1][c] : cuts[1][c + 1]])) for c in range(columns))
            for r in range(rows)
        )
