"""The ledger of seeding: which generator was given which seed, and by which line of the program.

Wraps the functions that seed (torch, ``random``, NumPy's global generator); draws nothing and changes no argument.
"""

from __future__ import annotations

import itertools
import os
import re
import struct
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprodebug.recorder.guest import Guest

_MAX_ENTRIES = 200
_MAX_FRAMES, _MAX_DEPTH = 16, 80
"""frames that are looked at: of a call by the program, and of one deep inside a package"""
_MAKERS = re.compile(r"\b(Generator|SeedSequence|PCG64\w*|MT19937|Philox|SFC64|default_rng)\b")
_HERE = os.path.dirname(os.path.abspath(__file__))
_SYSTEM = "from the system"
"""no seed was given: the generator is seeded by the operating system's randomness"""


class Seeding:
    """Notes every call that seeds a generator of this process."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._left = _MAX_ENTRIES
        self._seeded: set[str] = set()
        self._system = ""
        """the line that had a generator seeded by the system last"""
        self._makers: dict[tuple[Any, int], str] = {}
        """calls after which a generator asked the system for a seed -> what they give for one, as of ``_given``"""

    def install(self) -> None:
        """Wrap the functions that seed, where their modules are loaded already."""
        guest, torch = self._guest, self._guest.torch
        guest.wrap(torch.random, "manual_seed", before=self._torch)
        guest.wrap(torch.random, "seed", before=lambda args, kwargs: self._note("torch", _SYSTEM))
        for name in ("manual_seed", "seed"):  # the same functions under their usual names
            guest.replace(torch, name, getattr(torch.random, name))
        random = sys.modules.get("random")
        if random is not None:
            guest.wrap(random, "seed", before=lambda args, kwargs: self._note("python.random", _seed(args, kwargs, "a"), _python()))
            guest.wrap(random.Random, "seed", before=self._python_object)
        numpy_random = sys.modules.get("numpy.random")
        if numpy_random is not None:
            guest.wrap(numpy_random, "seed", before=lambda args, kwargs: self._note("numpy.random", _seed(args, kwargs, "seed"), _numpy()))
            guest.wrap(sys.modules["numpy.random.bit_generator"], "randbits", before=self._entropy)

    def numpy_generator(self, args: Any, kwargs: Any) -> None:
        """``numpy.random.default_rng`` is about to be called."""
        self._note("numpy.default_rng", _seed(args, kwargs, "seed"))

    def _python_object(self, args: Any, kwargs: Any) -> None:
        """A generator object of Python's that an installed package gives a seed, which may come from the clock."""
        if self._left <= _MAX_ENTRIES // 2:
            return
        seed = _seed(args[1:], kwargs, "a")
        if seed != _SYSTEM and (by := _by(_outside(sys._getframe(1)))) and (where := _where(_MAX_DEPTH)):
            self._add({"generator": "python.Random", "seed": seed, "where": where} | by)

    def _entropy(self, args: Any, kwargs: Any) -> None:
        """A generator of NumPy without a seed asks the system for one, however it is made, and in whatever package.

        ``RandomState`` asks for one even where it is given a seed, which it takes afterwards: its call is looked at."""
        frame = _outside(sys._getframe(1))
        if frame is None or self._left <= 0:
            return
        call = frame.f_code, frame.f_lasti
        seed = self._makers.get(call)
        if seed is None and len(self._makers) < _MAX_ENTRIES:
            seed = self._makers[call] = _given(_text_of_call(frame))
        told = seed == "None" or bool(seed and frame.f_locals.get(seed, frame.f_globals.get(seed, seed)) is None)
        where = _where(_MAX_DEPTH) if told else ""
        if where and where != self._system:  # not told already under the generator's own name
            self._add({"generator": "numpy.Generator", "seed": _SYSTEM, "where": where} | _by(frame))

    def _torch(self, args: Any, kwargs: Any) -> None:
        head = bytes(self._guest.torch.default_generator.get_state()[:24].tolist())
        seed, left, _, following = struct.unpack("<QiiQ", head)
        self._note("torch", _seed(args, kwargs, "seed"), (left != 1 or following != 0, str(seed)))

    def _note(self, generator: str, seed: str, before: tuple[bool, str] = (False, "")) -> None:
        """``before``: whether numbers had been drawn already, and what names the state that they came from."""
        where = _where(_MAX_DEPTH if generator == "numpy.default_rng" else _MAX_FRAMES)
        if not where:
            return
        note = {"generator": generator, "seed": seed, "where": where} | _by(_outside(sys._getframe(1)))
        if before[0] and generator not in self._seeded:
            note["drawn_from"] = before[1]
        self._seeded.add(generator)
        self._add(note)

    def _add(self, note: dict[str, str]) -> None:
        self._system = note["where"] if note["seed"] == _SYSTEM else ""
        if self._left > 0:
            self._left -= 1
            self._guest.writer.meta_event({"type": "seed", "step": self._guest.step, **note})


def _python() -> tuple[bool, str]:
    words = sys.modules["random"].getstate()[1]  # type: ignore[attr-defined]
    return words[-1] != 624, str(words[0])


def _numpy() -> tuple[bool, str]:
    state = sys.modules["numpy.random"].get_state(legacy=False)["state"]  # type: ignore[attr-defined]
    return ("pos" in state and int(state["pos"]) != 624), str(state["key"][0]) if "key" in state else ""


def _seed(args: Any, kwargs: Any, name: str) -> str:
    seed = args[0] if args else kwargs.get(name)
    if seed is None:
        return _SYSTEM
    if isinstance(seed, (int, float, str)):
        return str(seed)[:60]
    return f"<{type(seed).__name__}>" if not hasattr(seed, "__index__") else str(seed.__index__())


def _where(most: int = _MAX_FRAMES) -> str:
    """``file:line function`` of the nearest frame that belongs to no installed package and not to us; empty where a
    package seeds something of its own while it is imported."""
    frame: Any = sys._getframe(2)
    for _ in range(most):
        if frame is None:
            break
        code = frame.f_code
        file = code.co_filename
        if file.startswith("<frozen importlib"):
            return ""
        if not _installed(file) and not _ours(frame):
            return f"{file}:{frame.f_lineno} {code.co_name}"
        frame = frame.f_back
    return ""


def _outside(frame: Any) -> Any:
    """The nearest frame that is neither ours nor of Python's ``random``, through which its generators are made."""
    while frame is not None and _ours(frame):
        frame = frame.f_back
    return frame


def _ours(frame: Any) -> bool:
    return bool(os.path.dirname(frame.f_code.co_filename) == _HERE or frame.f_globals.get("__name__") == "random")


def _by(frame: Any) -> dict[str, str]:
    """The function of an installed package that seeds; nothing where the program itself does."""
    if frame is None or not _installed(frame.f_code.co_filename):
        return {}
    return {"by": f"{frame.f_globals.get('__name__', '')} {frame.f_code.co_name}"}


def _text_of_call(frame: Any) -> str:
    """The source of the call that a frame is in; '' where it cannot be read."""
    place: Any = next(itertools.islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), (None,) * 4)
    if None in place:
        return ""
    first, last, begin, end = place
    try:
        with open(frame.f_code.co_filename, "rb") as f:
            lines = list(itertools.islice(f, first - 1, last))
    except OSError:
        return ""
    if lines:
        lines[-1] = lines[-1][:end]
        lines[0] = lines[0][begin:]
    return b"".join(lines).decode(errors="replace")


def _given(text: str) -> str:
    """What the call of a maker of generators gives for a seed: ``None``, a name, or '' for anything else."""
    import ast

    if _MAKERS.search(text):  # these ask the system where they are given none, and only then
        return "None"
    try:
        call = ast.parse(text, mode="eval").body
    except SyntaxError:
        return ""
    if not isinstance(call, ast.Call) or not ast.unparse(call.func).endswith("RandomState"):
        return ""
    given = [*call.args, *(k.value for k in call.keywords)]
    if not given:
        return "None"
    return ast.unparse(given[0]) if isinstance(given[0], (ast.Name, ast.Constant)) else ""


def _installed(file: str) -> bool:
    return "site-packages" in file or "dist-packages" in file
