"""Sparse and quantised tensors, kept as their parts, as dense ones: so that they can be counted element by element and drawn.

Bounded by the dense size. A quantised tensor is shown by its integers. Nothing is rounded: bytes are moved, never converted.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from reprodebug.store.journal import unpack

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_MOST_BYTES = 1 << 28


def dense(raw: Array, layout: str, shape: tuple[int, ...]) -> tuple[Array, str, tuple[int, ...]] | None:
    """(uint8[n], dtype, shape) of a tensor that ``journal.pack`` packed; None for what has no dense form here: an index out of
    range, one element given twice, more than 256 MiB."""
    import numpy as np

    try:
        form, parts = unpack(raw.tobytes())
        said = {p["name"]: p for p in form["parts"]}
        if layout in ("quantized", "mkldnn"):
            name = "int_repr" if layout == "quantized" else "dense"
            return np.frombuffer(parts[name], np.uint8), str(said[name]["dtype"]), tuple(said[name]["shape"])
        values = tuple(int(n) for n in said["values"]["shape"])
        body = np.frombuffer(parts["values"], np.uint8)
        count = math.prod(values)
        size = len(body) // count if count else 0
        if not count or len(body) != size * count or math.prod(shape) * size > _MOST_BYTES:
            return None
        if layout == "sparse_coo":
            index = np.frombuffer(parts["indices"], "<i8").reshape(said["indices"]["shape"])
            outer = shape[: len(index)]
            flat = np.ravel_multi_index(tuple(index), outer)
            cells = np.zeros((math.prod(outer), size * math.prod(shape[len(index) :])), np.uint8)
        else:
            rows_first = layout in ("sparse_csr", "sparse_bsr")
            names = ("crow_indices", "col_indices") if rows_first else ("ccol_indices", "row_indices")
            ends, inner = (np.frombuffer(parts[n], np.dtype(said[n]["dtype"]).newbyteorder("<")) for n in names)
            block = values[1:3] if layout in ("sparse_bsr", "sparse_bsc") else (1, 1)
            grid = (shape[0] // block[0], shape[1] // block[1])
            outer_index = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
            place = (outer_index, inner) if rows_first else (inner, outer_index)
            flat = np.ravel_multi_index(place, grid)
            cells = np.zeros((math.prod(grid), size * block[0] * block[1]), np.uint8)
        if len(shape) != 2 and layout != "sparse_coo":
            return None
        if len(np.unique(flat)) != len(flat):
            return None
        cells[flat] = body.reshape(len(flat), -1)
        if layout != "sparse_coo":
            cells = cells.reshape(*grid, *block, size).transpose(0, 2, 1, 3, 4)
        return np.ascontiguousarray(cells).reshape(-1), str(said["values"]["dtype"]), shape
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, MemoryError):
        return None
