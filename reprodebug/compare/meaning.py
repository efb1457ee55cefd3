"""When two recorded values mean the same: ``0.001`` and ``1e-3``, a short commit and its long form, a version and a range that it satisfies.

Owns the equality of facts and of series that other systems recorded, and how a fact is shown. Refuses: what a difference is worth.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any


def same(section: str, key: str, x: Any, y: Any, rank: int = 2) -> bool:
    """Whether two recorded values mean the same."""
    if x == y:
        return True
    if section == "code" and key == "git_commit":
        p, q = str(x).lower(), str(y).lower()
        return min(len(p), len(q)) >= 7 and (p.startswith(q) or q.startswith(p))
    if key == "requires-python":
        return {w.strip() for w in str(x).split(",")} == {w.strip() for w in str(y).split(",")}
    if key.startswith("package/") or key in ("python", "cuda", "cudnn", "driver"):
        return _same_version(str(x), str(y), prefix=key == "python" or rank < 2)
    return _same_value(x, y, 0)


_PLACE = re.compile(r"^(file:|/|\.{1,2}(/|$)|[A-Za-z]:\\)")
"""where a package lies on a machine, where nothing else is known of it"""


def _plain_specifier(spec: str) -> str:
    """Poetry's caret and tilde as PEP 440 writes them: ``^1.2`` goes up to the next number of the first that is not 0."""

    def caret(match: re.Match[str]) -> str:
        numbers = [int(n) for n in match[1].split(".")]
        at = next((n for n, number in enumerate(numbers) if number), len(numbers) - 1)
        return f">={match[1]},<{'.'.join(map(str, [*numbers[:at], numbers[at] + 1]))}"

    spec = re.sub(r"\^\s*(\d+(?:\.\d+)*)", caret, spec)
    return re.sub(r"(?<![~=<>!])~(?!=)\s*(\d+(?:\.\d+)?)(?:\.\d+)*", lambda m: f"=={m[1]}.*", spec)


def _same_version(x: str, y: str, *, prefix: bool) -> bool:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion, Version

    try:
        p, q = Version(x), Version(y)
    except InvalidVersion:
        for spec, version in ((x, y), (y, x)):
            if re.match(r"^[<>=!~^]", spec):  # what is asked for, and what was installed or locked
                try:
                    return SpecifierSet(_plain_specifier(spec)).contains(Version(version), prereleases=True)
                except (InvalidSpecifier, InvalidVersion):
                    continue
        return x == y or "any" in (x, y) or bool(_PLACE.match(x) or _PLACE.match(y))
    if p == q:
        return True
    short, long = sorted((p, q), key=lambda v: len(v.release))
    return (
        prefix and len(short.release) < 3 and len(short.release) < len(long.release) and long.release[: len(short.release)] == short.release
    )


def _same_value(x: Any, y: Any, depth: int) -> bool:
    if depth > 32:
        return False
    x, y = _meant(x), _meant(y)
    if isinstance(x, bool) or isinstance(y, bool):
        other = y if isinstance(x, bool) else x
        return x == y and (isinstance(other, bool) or other in (0.0, 1.0))
    if isinstance(x, float) and isinstance(y, float):
        return x == y or (math.isnan(x) and math.isnan(y)) or math.isclose(x, y, rel_tol=1e-12)
    if isinstance(x, list) and isinstance(y, list):
        return len(x) == len(y) and all(_same_value(p, q, depth + 1) for p, q in zip(x, y, strict=True))
    if isinstance(x, dict) and isinstance(y, dict):
        return x.keys() == y.keys() and all(_same_value(x[k], y[k], depth + 1) for k in x)
    return type(x) is type(y) and x == y


_ADDRESS = re.compile(r"(?<=\w) at 0x[0-9A-Fa-f]{6,16}(?=[ >])")
"""where an object lay in memory: another place in each run"""
_OBJECT = "unserializable object: "
"""what ml_collections writes into JSON before an object's text"""


def _meant(value: Any) -> Any:
    """A value in one form: numbers as float, text that is a number, a bool, a list or a mapping as that."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float)):
        return float(value) if abs(value) < 2**53 else value
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, str):
        text = _ADDRESS.sub("", value.strip()).removeprefix(_OBJECT)
        lower = text.lower()
        if lower in ("true", "false"):
            return lower == "true"
        if lower in ("none", "null", "~"):
            return None
        if lower in ("nan", ".nan"):
            return math.nan
        if re.fullmatch(r"[-+]?\.?inf(inity)?", lower):
            return -math.inf if lower[0] == "-" else math.inf
        if re.fullmatch(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?", text):
            number = float(text.replace("_", ""))
            return number if abs(number) < 2**53 else text
        if text[:1] in "[{" or re.fullmatch(r"\(.*,.*\)", text, re.S):
            try:
                return json.loads(re.sub(r"^\((.*?),?\s*\)$", r"[\1]", text, flags=re.S).replace("'", '"'))
            except (ValueError, RecursionError):
                return text
        return text
    return value


_MOST_SHOWN = 4000
"""characters of a value in a report"""


def shown(value: Any) -> str:
    """A fact's value for a report."""
    return _as_text(value)[:_MOST_SHOWN]


def shown_apart(x: Any, y: Any) -> tuple[str, str]:
    """Two different values for a report: of long ones that begin alike, the part in which they differ."""
    p, q = _as_text(x), _as_text(y)
    if p == q or p[:_MOST_SHOWN] != q[:_MOST_SHOWN]:
        return p[:_MOST_SHOWN], q[:_MOST_SHOWN]
    start = next((n for n, (u, v) in enumerate(zip(p, q, strict=False)) if u != v), min(len(p), len(q))) - 40
    left, right = (f"({start:,} equal characters) ... {text[start : start + _MOST_SHOWN]}" for text in (p, q))
    return left, right


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "None"
    return json.dumps(value, ensure_ascii=False, default=str)


# series


def first_unequal(x: Mapping[float, float], y: Mapping[float, float], tolerance: float) -> float | None:
    """The first common step at which two series differ; None where none does."""
    if x == y:
        return None
    if len(x) > 1000:
        import numpy as np

        if list(x) == list(y):
            steps = np.fromiter(x, float, len(x))
            p, q = (np.fromiter(s.values(), float, len(s)) for s in (x, y))
        else:
            steps = np.intersect1d(np.fromiter(x, float, len(x)), np.fromiter(y, float, len(y)), assume_unique=True)
            p, q = (np.fromiter(map(s.__getitem__, steps.tolist()), float, len(steps)) for s in (x, y))
        with np.errstate(invalid="ignore"):
            equal = (p == q) | (np.isnan(p) & np.isnan(q)) | (np.abs(p - q) <= tolerance * np.maximum(np.abs(p), np.abs(q)))
        wrong = steps[~equal]
        return _step(float(wrong.min())) if len(wrong) else None
    for step in sorted(x.keys() & y.keys()):
        left, right = x[step], y[step]
        both_nan = math.isnan(left) and math.isnan(right)
        if left != right and not both_nan and not abs(left - right) <= tolerance * max(abs(left), abs(right)):
            return step
    return None


def _step(step: float) -> float:
    return int(step) if step == int(step) else step
