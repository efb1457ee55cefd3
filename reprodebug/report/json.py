"""The diagnosis as JSON, schema ``reprodebug.diagnosis/1``."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprodebug.model.comparison import Comparison


def render(comparison: Comparison) -> str:
    """The document, pure ASCII; a number that JSON cannot hold becomes a string."""
    return json.dumps(plain(comparison.to_json()), indent=2, ensure_ascii=True, allow_nan=False)


def plain(value: Any) -> Any:
    """A JSON value: numbers that JSON cannot hold as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value
