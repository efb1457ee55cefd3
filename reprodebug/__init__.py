"""reprodebug: find the first thing that differs between two machine-learning runs, and say why.

Owns the two names a training script may use (``record``, ``__version__``). Importing this package
imports nothing heavy: no torch, numpy, h5py or textual.
"""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["__version__", "record"]


def __getattr__(name: str) -> object:
    if name == "record":
        from reprodebug.api import record

        return record
    raise AttributeError(f"module 'reprodebug' has no attribute {name!r}")
