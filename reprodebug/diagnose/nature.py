"""What kind of difference it is: rounding, another algorithm, other draws or other content; and how it grows.

Every statement comes with its numbers. Reduction noise: summing ``n`` terms in another order changes a result by about
``eps * sqrt(n)`` of the terms' size (N. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 4.2,
with independent rounding errors). Two-sample test: Kolmogorov and Smirnov, ``scipy.stats.ks_2samp``.
"""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

from reprodebug.compare.history import module_table
from reprodebug.diagnose.scene import Scene

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
_SLACK = 16.0
"""a difference up to this many times the expected noise still counts as rounding"""
_CORRELATED = 0.9
_SAMPLED = 20_000
"""elements that a distribution test looks at"""


def nature(s: Scene) -> tuple[str, ...]:
    """Statements about size and growth, the most telling first; empty where no number was recorded."""
    return tuple(x for x in (_size(s), _distribution(s), _growth(s), _overflow(s), _sources(s)) if x)


def terms(s: Scene) -> int | None:
    """Length of the sums that the first differing tensor was made of, from the module's settings; None where not known."""
    kind, settings = module_table(s.pair.a.notes_meta).get(
        (s.pair.a.sites[s.events[0]["site"]][0], s.first.module), (s.first.module_type, "")
    )
    if found := re.search(r"in_features=(\d+)", settings):
        return int(found[1])
    if kind.startswith("Conv") and (found := re.match(r"(\d+), (\d+), kernel_size=\(([\d, ]+)\)", settings)):
        return int(found[1]) * math.prod(int(n) for n in found[3].split(",") if n.strip())
    if found := re.match(r"\((\d+),\)", settings):
        return int(found[1])
    return None


def _size(s: Scene) -> str:
    n, d = s.first.numbers, s.first
    eps = EPS.get(d.dtype or "")
    if n.max_abs is None or eps is None:
        return ""
    if n.max_abs == math.inf or n.nan_only:
        return "one run has a value that is not finite where the other has a number: no rounding"
    scale = _scale(s)
    if not scale:
        return ""
    return judged(n.max_abs, scale, d.dtype or "", terms(s))


def judged(max_abs: float, scale: float, dtype: str, length: int | None) -> str:
    """The largest difference of a tensor whose largest magnitude is ``scale``, against what rounding gives where each element is
    a sum of ``length`` terms in ``dtype`` (None: not known, a thousand is assumed; 1: no sum). '' for a dtype that does not round."""
    eps = EPS.get(dtype)
    if eps is None:
        return ""
    expected = eps * math.sqrt(length or 1024)
    seen = max_abs / scale
    sums = f"sums of {length:,} terms" if length else "sums of about a thousand terms (their length is not known)"
    sums = "single operations" if length == 1 else sums
    numbers = f"{seen:.2g} of the largest value {scale:.3g}, where {sums} in {dtype} give about {expected:.1g} by another order alone"
    if length == 1:
        numbers = numbers.replace("by another order alone", "by rounding once")
    if seen <= _SLACK * expected:
        return f"the first difference is of the size of rounding: {numbers}"
    if seen <= 0.02:
        return f"the first difference is larger than rounding of another order: {numbers}; another algorithm, precision or approximation"
    return f"the first difference is no rounding: {numbers}; other content, other draws or another computation"


def _scale(s: Scene) -> float | None:
    """The largest magnitude of the first differing tensor in A."""
    import numpy as np

    if "minimum" in s.first.statistics and "maximum" in s.first.statistics:
        return max(abs(s.first.statistics["minimum"][0]), abs(s.first.statistics["maximum"][0])) or None
    found = _values(s)
    if found is None:
        return None
    finite = found[0][np.isfinite(found[0])]
    return float(np.abs(finite).max()) if len(finite) and np.abs(finite).max() > 0 else None


def _values(s: Scene) -> tuple[Any, Any] | None:
    """The two tensors as float64, flat; None where they were not kept."""
    from reprodebug.compare.numbers import values

    both = []
    for trace, event in zip((s.pair.a, s.pair.b), s.events, strict=True):
        kept = trace.tensor(int(event["seq"]))
        found = None if kept is None else values(kept[0], kept[1])
        if found is None:
            return None
        both.append(found)
    return both[0], both[1]


def _distribution(s: Scene) -> str:
    """Are the two tensors two samples of one distribution?"""
    import numpy as np

    found = _values(s)
    if found is None or min(len(found[0]), len(found[1])) < 30 or len(found[0]) != len(found[1]):
        return ""
    a, b = (x[:: max(1, len(x) // _SAMPLED)] for x in found)
    fine = np.isfinite(a) & np.isfinite(b)
    a, b = a[fine], b[fine]
    if len(a) < 30 or a.std() == 0 or b.std() == 0:
        return ""
    correlation = float(np.corrcoef(a, b)[0, 1])
    if correlation > _CORRELATED:
        return "" if correlation > 0.999 else f"the two tensors are much alike (correlation {correlation:.3f}): the same content, changed"
    from scipy import stats

    p = float(stats.ks_2samp(a, b).pvalue)
    if abs(correlation) < 0.3 and p > 0.01:
        return (
            f"the two tensors look like independent draws from one distribution (correlation {correlation:.2f}, "
            f"Kolmogorov-Smirnov p = {p:.2g}, {len(a):,} elements)"
        )
    if p <= 0.01:
        return f"the values are distributed otherwise (Kolmogorov-Smirnov p = {p:.2g}, {len(a):,} elements, correlation {correlation:.2f})"
    return ""


def _growth(s: Scene) -> str:
    """Does the difference of the losses grow steadily, or does it jump?"""
    gaps = [(step, abs(a - b)) for step, a, b in s.comparison.losses if a is not None and b is not None and abs(a) + abs(b) < math.inf]
    scale = max((abs(a) for _, a, b in s.comparison.losses if a is not None and abs(a) < math.inf), default=0.0)
    apart = [(step, gap) for step, gap in gaps if gap > 0]
    if len(apart) < 3 or scale == 0:
        return ""
    first, last = apart[0], max(apart, key=lambda x: x[1])
    start, peak = first[1] / scale, last[1] / scale
    spread = f"from {first[1]:.2g} at step {first[0]} to {last[1]:.2g} at step {last[0]}"
    if start < 1e-3 and peak > 20 * start and last[0] > first[0]:
        rate = (last[1] / first[1]) ** (1 / (last[0] - first[0]))
        jump = max(((y[1] / max(x[1], 1e-300), x, y) for x, y in itertools.pairwise(apart)), key=lambda r: r[0])
        if jump[0] > 1e3 and jump[2][1] / scale > 1e-3 and jump[1][0] > first[0]:
            return (
                f"the losses differ {spread}, with a jump of {jump[0]:.0f}x at step {jump[2][0]}: a second cause may act there, "
                "beside the one that is first"
            )
        return f"the losses differ {spread}, x{rate:.2f} a step: a small first difference is amplified by training"
    if start >= 1e-3:
        return f"the losses differ by {first[1]:.2g} ({start:.1%} of their size) from step {first[0]} on: no rounding that grew"
    if peak > 2 * start and last[0] > first[0]:
        return f"the losses differ {spread}: too little growth to tell an amplified difference from a steady one"
    return f"the losses differ by at most {last[1]:.2g} ({peak:.1g} of their size): the difference does not grow"


def _overflow(s: Scene) -> str:
    """From which step on a loss is no number, where that is not the same in both runs."""
    where: list[int | None] = []
    for side in (1, 2):
        rows = [row for row in s.comparison.losses if row[side] is not None]
        last = max((n for n, row in enumerate(rows) if math.isfinite(row[side])), default=-1)  # type: ignore[arg-type]
        where.append(rows[last + 1][0] if last + 1 < len(rows) else None)
    a, b = where
    if a == b:
        return ""
    told = [f"from step {step} on in {name}" for name, step in (("A", a), ("B", b)) if step is not None]
    return f"the loss is NaN or infinite {' and '.join(told)}" + (
        "" if len(told) == 2 else f", and a number in {'B' if b is None else 'A'}"
    )


def _sources(s: Scene) -> str:
    """Other places where a difference came in though all that went in was equal."""
    others = [x for x in s.comparison.layers if x.role == "source" and (x.first.module, x.first.tensor) != (s.first.module, s.first.tensor)]
    others = [x for x in others if x.first.kind not in ("data", "parameter", "optimizer", "gradient")]
    if not others:
        return ""
    names = ", ".join(f"{x.first.module or x.root} ({x.first.tensor}, step {x.first.step})" for x in others[:3])
    return f"{len(others)} more place{'s' if len(others) > 1 else ''} differ though all that went in was equal: {names}"
