"""The ledger of seeding: which generator was given which seed, and by which line of the program.

Wraps the functions that seed (torch, ``random``, NumPy's global generator); draws nothing and changes no argument.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprodebug.recorder.guest import Guest

_MAX_ENTRIES = 200
_MAX_FRAMES = 16
_HERE = os.path.dirname(os.path.abspath(__file__))
_SYSTEM = "from the system"
"""no seed was given: the generator is seeded by the operating system's randomness"""


class Seeding:
    """Notes every call that seeds a generator of this process."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._left = _MAX_ENTRIES

    def install(self) -> None:
        """Wrap the functions that seed, where their modules are loaded already."""
        guest, torch = self._guest, self._guest.torch
        guest.wrap(torch.random, "manual_seed", before=self._torch)
        guest.wrap(torch.random, "seed", before=lambda args, kwargs: self._note("torch", _SYSTEM))
        for name in ("manual_seed", "seed"):  # the same functions under their usual names
            guest.replace(torch, name, getattr(torch.random, name))
        random = sys.modules.get("random")
        if random is not None:
            guest.wrap(random, "seed", before=lambda args, kwargs: self._note("python.random", _seed(args, kwargs, "a")))
        numpy_random = sys.modules.get("numpy.random")
        if numpy_random is not None:
            guest.wrap(numpy_random, "seed", before=lambda args, kwargs: self._note("numpy.random", _seed(args, kwargs, "seed")))

    def numpy_generator(self, args: Any, kwargs: Any) -> None:
        """``numpy.random.default_rng`` is about to be called."""
        self._note("numpy.default_rng", _seed(args, kwargs, "seed"))

    def _torch(self, args: Any, kwargs: Any) -> None:
        self._note("torch", _seed(args, kwargs, "seed"))

    def _note(self, generator: str, seed: str) -> None:
        where = _where()
        if not where or self._left <= 0:
            return
        self._left -= 1
        self._guest.writer.meta_event({"type": "seed", "step": self._guest.step, "generator": generator, "seed": seed, "where": where})


def _seed(args: Any, kwargs: Any, name: str) -> str:
    seed = args[0] if args else kwargs.get(name)
    if seed is None:
        return _SYSTEM
    if isinstance(seed, (int, float, str)):
        return str(seed)[:60]
    return f"<{type(seed).__name__}>" if not hasattr(seed, "__index__") else str(seed.__index__())


def _where() -> str:
    """``file:line function`` of the nearest frame that belongs to no installed package and not to us; empty where a
    package seeds something of its own while it is imported."""
    frame: Any = sys._getframe(2)
    for _ in range(_MAX_FRAMES):
        if frame is None:
            break
        code = frame.f_code
        file = code.co_filename
        if file.startswith("<frozen importlib"):
            return ""
        if "site-packages" not in file and "dist-packages" not in file and os.path.dirname(file) != _HERE:
            return f"{file}:{frame.f_lineno} {code.co_name}"
        frame = frame.f_back
    return ""
