"""What ``reprodebug zoom`` asks of the guest: which events bound the stretch, what is kept of it, and what is put in.

Runs in the program's Python and in the parent; needs the standard library alone.
"""

from __future__ import annotations

import json
import os
from typing import Any

VARIABLE = "REPRODEBUG_ZOOM"
"""JSON: the fields of ``Stretch``"""
FOLDER = "zoom"


class Stretch:
    """Which events bound the stretch, and how much of it is kept."""

    __slots__ = ("arm", "keep", "look", "max_bytes", "ordinal", "put", "rank", "start", "stop", "target")

    def __init__(
        self, rank: int = 0, ordinal: int = 0, arm: int = 0, start: int = 0, target: int = 0, stop: int = 0,
        max_bytes: int = 1 << 30, keep: Any = None, put: Any = None, look: Any = None,
    ) -> None:  # fmt: skip
        self.rank = rank
        self.ordinal = ordinal
        """which of the processes of this rank, in order of their first event"""
        self.arm = arm
        """events recorded before the operations are followed, to know the lines of the forward pass; 0: from ``import torch`` on"""
        self.start = start
        """events recorded before the first operation that is written down"""
        self.target = target
        """position of the divergent event"""
        self.stop = stop
        """position of the event after which the process ends: the divergent one, or the last of the batch that it belongs to"""
        self.max_bytes = max_bytes
        """of log and tensors together; tensors get half of it at most"""
        self.keep = keep
        """numbers of the operations whose tensors are kept; None: of all, while there is room"""
        self.put = put
        """what a counterfactual puts in. ``op``: number of the operation, ``when``: ``before`` or ``after`` it, ``operands``:
        ``[[name, value], ...]``, ``generator``: value of its state; or ``events``: ``{position: value}``. A value is
        ``[file, position, bytes, dtype, shape]``."""
        self.look = look
        """what is looked into. ``op``: number of the operation whose kernels are named; ``graph``, ``call``, ``phase``: of the compiled
        region that is opened"""

    def to_json(self) -> str:
        return json.dumps({n: getattr(self, n) for n in self.__slots__})

    @classmethod
    def from_environment(cls) -> Stretch | None:
        text = os.environ.get(VARIABLE)
        return cls(**json.loads(text)) if text else None
