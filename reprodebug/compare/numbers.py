"""How two tensors of one shape and dtype differ, from their bytes. Exact, over all elements, without torch.

ULP distance: floats are mapped to integers that keep their order (sign-magnitude to two's complement), and the distance
of those is taken, so -0.0 and 0.0 are 0 apart and neighbours are 1 apart, across zero too. (B. Dawson,
"Comparing Floating Point Numbers", 2012.) 8-bit formats: OCP 8-bit Floating Point Specification (OFP8) 1.0, 2023, and
for the ``fnuz`` forms P. Micikevicius et al. / B. Noune et al., 2022.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

from reprodebug.compare.packed import dense
from reprodebug.model.comparison import Numbers, Tolerance
from reprodebug.store.journal import PACKED

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_FLOAT_BITS = {"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16}
_FP8 = {  # exponent bits, mantissa bits, bias, has inf, nan: "ieee", "all-ones" or "negative-zero"
    "float8_e4m3fn": (4, 3, 7, False, "all-ones"),
    "float8_e5m2": (5, 2, 15, True, "ieee"),
    "float8_e4m3fnuz": (4, 3, 8, False, "negative-zero"),
    "float8_e5m2fnuz": (5, 2, 16, False, "negative-zero"),
}
COMPLEX = {"complex128": "float64", "complex64": "float32", "complex32": "float16"}
_INTEGERS = {"uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"}


@cache
def _fp8_table(dtype: str) -> Array:
    """float64[256]: the value of every byte of an 8-bit float format."""
    import numpy as np

    if dtype == "float8_e8m0fnu":  # exponent only: 2**(byte - 127), 255 is NaN
        return np.array([2.0 ** (b - 127) for b in range(255)] + [math.nan])
    exponent_bits, mantissa_bits, bias, has_inf, nan = _FP8[dtype]
    values = []
    for byte in range(256):
        sign = -1.0 if byte & 0x80 else 1.0
        exponent = (byte >> mantissa_bits) & ((1 << exponent_bits) - 1)
        mantissa = byte & ((1 << mantissa_bits) - 1)
        top = exponent == (1 << exponent_bits) - 1
        if (nan == "negative-zero" and byte == 0x80) or (nan == "all-ones" and top and mantissa == (1 << mantissa_bits) - 1):
            value = math.nan
        elif has_inf and top:
            value = math.nan if mantissa else sign * math.inf
        elif exponent == 0:
            value = sign * mantissa * 2.0 ** (1 - bias - mantissa_bits)
        else:
            value = sign * (1 + mantissa / (1 << mantissa_bits)) * 2.0 ** (exponent - bias)
        values.append(value)
    return np.array(values)


def values(raw: Array, dtype: str) -> Array | None:
    """Raw bytes as float64 (integers exactly up to 2**53); complex gives twice as many. None for an unknown dtype."""
    import numpy as np

    if dtype in COMPLEX:
        return values(raw, COMPLEX[dtype])
    if dtype == "bfloat16":
        with np.errstate(invalid="ignore"):  # signalling NaN becomes quiet
            return np.asarray((raw.view("<u2").astype(np.uint32) << 16).view(np.float32), np.float64)
    if dtype in _FP8 or dtype == "float8_e8m0fnu":
        return np.asarray(_fp8_table(dtype)[raw])
    if dtype in _FLOAT_BITS or dtype in _INTEGERS:
        with np.errstate(invalid="ignore"):
            found: Array = raw.view(np.dtype(dtype).newbyteorder("<")).astype(np.float64)
            return found
    if dtype == "bool":
        return np.asarray(raw != 0, np.float64)
    return None


def _ordered(raw: Array, dtype: str) -> Array | None:
    """Bit patterns as integers in the order of their values; None where the dtype has no ULP."""
    import numpy as np

    if dtype in COMPLEX:
        return _ordered(raw, COMPLEX[dtype])
    bits = _FLOAT_BITS.get(dtype) or (8 if dtype in _FP8 else 0)
    if not bits:
        return None
    unsigned = raw.view(f"<u{bits // 8}")
    magnitude = (unsigned & np.array((1 << (bits - 1)) - 1, unsigned.dtype)).astype(np.int64)
    negative = (unsigned >> np.array(bits - 1, unsigned.dtype)).astype(bool)
    return np.asarray(np.where(negative, -magnitude, magnitude))


def compare_bytes(a: Array, b: Array, dtype: str, shape: tuple[int, ...], tolerance: Tolerance) -> Numbers:
    """Numbers for two raw byte arrays (uint8) of one dtype and shape. Unknown dtypes give counts only."""
    import numpy as np

    elements = math.prod(shape)
    if dtype in PACKED:
        if len(a) == len(b) and bool((a == b).all()):
            return Numbers(elements=elements, differing=0)
        p, q = dense(a, dtype, shape), dense(b, dtype, shape)
        if p is None or q is None or p[1:] != q[1:] or bool((p[0] == q[0]).all()):  # other parts, of the same values too
            return Numbers(elements=elements)
        return compare_bytes(p[0], q[0], p[1], p[2], tolerance)
    if elements == 0 or len(a) != len(b) or len(a) % elements:
        return Numbers(elements=elements, differing=0 if elements == 0 and len(a) == len(b) else None)
    size = len(a) // elements
    different = (a.reshape(elements, size) != b.reshape(elements, size)).any(axis=1)
    count = int(different.sum())
    if count == 0:
        return Numbers(elements=elements, differing=0, max_abs=0.0, max_rel=0.0, max_ulp=0, within=True)
    x, y = values(a, dtype), values(b, dtype)
    if x is None or y is None:
        return Numbers(elements=elements, differing=count)
    exact_ints = None
    if dtype in ("int64", "uint64"):
        exact_ints = _integer_distance(a, b, dtype)
    both_nan = np.isnan(x) & np.isnan(y)
    finite = np.isfinite(x) & np.isfinite(y)
    with np.errstate(all="ignore"):
        distance = np.abs(x - y)
        larger = np.maximum(np.abs(x), np.abs(y))
        relative = np.where(larger > 0, distance / larger, 0.0)
    broken = ~finite & ~both_nan & ~(x == y)
    distance = np.where(finite, distance, np.where(broken, np.inf, 0.0))
    relative = np.where(finite, relative, np.where(broken, np.inf, 0.0))
    ordered_a, ordered_b = _ordered(a, dtype), _ordered(b, dtype)
    max_ulp: int | None = None
    ulp = None
    if ordered_a is not None and ordered_b is not None:
        comparable = finite | (x == y)
        ulp = _distance(ordered_a, ordered_b)
        max_ulp = int(ulp[comparable].max()) if comparable.any() else None
    parts = len(x) // elements
    per_element = distance.reshape(elements, parts).max(axis=1)
    worst = int(per_element.argmax())
    within = None
    if not tolerance.exact:
        with np.errstate(all="ignore"):
            ok = distance <= tolerance.atol + tolerance.rtol * np.abs(y)
        if ulp is not None and tolerance.ulps:
            ok |= finite & (ulp <= tolerance.ulps)
        within = bool((ok | both_nan | (x == y)).all())
    signed_zero = bool((different == ((x == 0) & (y == 0)).reshape(elements, parts).all(axis=1)).all()) and max_ulp == 0
    return Numbers(
        elements=elements,
        differing=count,
        max_abs=float(exact_ints if exact_ints is not None else distance.max()),
        max_rel=float(relative.max()),
        max_ulp=max_ulp,
        nan_only=bool((both_nan.reshape(elements, parts).any(axis=1) | ~different).all()) and not broken.any() and distance.max() == 0,
        signed_zero_only=signed_zero,
        worst_index=tuple(int(i) for i in np.unravel_index(worst, shape)) if shape else (),
        within=within,
    )


def _distance(a: Array, b: Array) -> Array:
    """|a - b| of int64 arrays without overflow, as uint64."""
    import numpy as np

    high, low = np.maximum(a, b), np.minimum(a, b)
    return high.astype(np.uint64) - low.astype(np.uint64)


def _integer_distance(a: Array, b: Array, dtype: str) -> int:
    """Largest |a - b| of 64-bit integers, exactly."""
    import numpy as np

    x, y = a.view(np.dtype(dtype).newbyteorder("<")), b.view(np.dtype(dtype).newbyteorder("<"))
    high, low = np.maximum(x, y), np.minimum(x, y)
    return int((high.astype(np.uint64) - low.astype(np.uint64)).max())


def ulp_histogram(a: Array, b: Array, dtype: str) -> tuple[tuple[int, int], ...]:
    """``(most ULP, elements)`` for the classes 0, 1, 2, 4, 8 ...: how many values lie that far apart, and no more than the class
    before allows. Of raw bytes (uint8), values that are finite in both; empty where the dtype has no ULP."""
    import numpy as np

    ordered = _ordered(a, dtype), _ordered(b, dtype)
    x, y = values(a, dtype), values(b, dtype)
    if ordered[0] is None or ordered[1] is None or x is None or y is None:
        return ()
    apart = _distance(ordered[0], ordered[1])[np.isfinite(x) & np.isfinite(y)]
    found = []
    low, high = -1, 0
    while len(apart) and low < int(apart.max()):
        n = int(((apart > low) & (apart <= high)).sum()) if low >= 0 else int((apart == 0).sum())
        if n:
            found.append((high, n))
        low, high = high, 1 if high == 0 else high * 2
    return tuple(found)


def elements_apart(
    a: Array, b: Array, dtype: str, shape: tuple[int, ...], most: int = 5
) -> tuple[list[tuple[tuple[int, ...], float, float, int | None]], list[tuple[tuple[int, ...], float, float, int | None]]]:
    """The first differing elements in memory order, and those with the largest |a - b|, each as (index, A, B, ULP).

    Complex elements count by the part that is further apart. Empty for dtypes whose values are not known here.
    """
    import numpy as np

    elements = math.prod(shape)
    x, y = values(a, dtype), values(b, dtype)
    if x is None or y is None or elements == 0 or len(a) != len(b) or len(a) % elements:
        return [], []
    different = (a.reshape(elements, -1) != b.reshape(elements, -1)).any(axis=1)
    with np.errstate(all="ignore"):
        distance = np.abs(x - y)
    distance = np.where(np.isnan(distance), np.where(np.isnan(x) & np.isnan(y), 0.0, np.inf), distance)
    parts = len(x) // elements
    distance = distance.reshape(elements, parts)
    part = distance.argmax(axis=1)
    ordered = _ordered(a, dtype), _ordered(b, dtype)

    def one(n: int) -> tuple[tuple[int, ...], float, float, int | None]:
        at = n * parts + int(part[n])
        ulp = None
        if ordered[0] is not None and ordered[1] is not None and np.isfinite(x[at]) and np.isfinite(y[at]):
            ulp = abs(int(ordered[0][at]) - int(ordered[1][at]))
        index = tuple(int(i) for i in np.unravel_index(n, shape)) if shape else ()
        return index, float(x[at]), float(y[at]), ulp

    where = np.flatnonzero(different)
    largest = distance.max(axis=1)[where]
    order = where[np.argsort(-largest, kind="stable")[:most]]
    return [one(int(n)) for n in where[:most]], [one(int(n)) for n in order]
