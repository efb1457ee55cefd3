"""Which line of the program an operation comes from.

Owns what counts as the program's: not torch, not the standard library, not the recorder.
"""

from __future__ import annotations

import os
import sys
from typing import Any

_DULL = frozenset(
    {
        "_wrapped_call_impl", "_call_impl", "decorate_context", "inner", "wrapper", "wrapped", "__torch_function__", "_fn", "_engine_run_backward",
        "profile_hook_step", "_use_grad", "_wrapper", "__enter__", "__exit__", "<lambda>", "<listcomp>", "<genexpr>",
    }
)  # fmt: skip
_MOST_FRAMES = 200


class Lines:
    """Looks up the stack from an operation."""

    def __init__(self, torch: Any) -> None:
        self._here = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
        self._torch_home = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
        self._library = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
        self._kinds: dict[Any, int] = {}

    def where(self, depth: int = 2) -> tuple[str, str, str] | None:
        """``(file:line, function, torch's functions between)`` of the nearest frame of the program's or its packages'; None: our own work."""
        frame: Any = sys._getframe(depth + 1)
        between: list[str] = []
        steps = 0
        while frame is not None and steps < _MOST_FRAMES:
            steps += 1
            code = frame.f_code
            kind = self._kinds.get(code)
            if kind is None:
                kind = self._kinds[code] = self._kind(code)
            if kind == 0:
                name = getattr(code, "co_qualname", code.co_name)
                return f"{code.co_filename}:{frame.f_lineno}", name, " > ".join(reversed(between[:8]))
            if kind == 2:
                return None
            if kind == 1 and code.co_name not in _DULL:
                between.append(getattr(code, "co_qualname", code.co_name))
            frame = frame.f_back
        return "", "", " > ".join(reversed(between[:8]))

    def _kind(self, code: Any) -> int:
        """0: the program's, 1: torch's or the standard library's, 2: the recorder's own work, 3: our wrapper around one of its functions."""
        path = code.co_filename
        if path.startswith(self._here):
            return 3 if code.co_name in ("wrapper", "__torch_dispatch__") else 2
        if path.startswith((self._torch_home, "<frozen", "<eval_with_key", "<__array_function__")):
            return 1
        if path.startswith(self._library) and "-packages" not in path:
            return 1
        return 0
