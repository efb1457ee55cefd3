"""How large a difference is: one value of two runs, element by element, and against the rounding of the operation that made it."""

from __future__ import annotations

from reprodebug.compare.portrait import portrait
from reprodebug.diagnose.nature import judged
from reprodebug.model.comparison import Numbers, Tolerance
from reprodebug.model.zoom import Element, Size
from reprodebug.zoom.log import Op, Value
from reprodebug.zoom.rounding import terms

_SHOWN = 5
"""elements shown of each kind"""


def size_of(value: Value, raw: tuple[object, ...], op: Op | None) -> Size:
    """Numbers of a value that is not the same in two runs, from its bytes (uint8) in each. ``op``: the operation that made it from
    equal inputs, for the rounding that is expected; None where no rounding is to be expected of it."""
    import numpy as np

    from reprodebug.compare import numbers as maths

    a, b = raw
    assert isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
    numbers: Numbers = maths.compare_bytes(a, b, value.dtype, value.shape, Tolerance())
    first, worst = maths.elements_apart(a, b, value.dtype, value.shape, _SHOWN)
    length = terms(op, value) if op is not None else None
    judgement = ""
    values = maths.values(a, value.dtype)
    if op is not None and values is not None and numbers.max_abs is not None and numbers.max_abs != float("inf"):
        finite = values[np.isfinite(values)]
        scale = float(np.abs(finite).max()) if len(finite) else 0.0
        judgement = judged(numbers.max_abs, scale, value.dtype, length) if scale else ""
    name = "the divergent tensor" if value.name == "target" else value.name
    return Size(
        name, numbers, maths.ulp_histogram(a, b, value.dtype), tuple(Element(*x) for x in first), tuple(Element(*x) for x in worst),
        length, judgement, portrait(a, b, value.dtype, value.shape),
    )  # fmt: skip
