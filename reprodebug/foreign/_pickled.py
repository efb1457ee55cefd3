"""The plain values in a pickle, without unpickling it: its opcodes are walked, every class and every call stays a stand-in.

Owns what a pickled object with simple attributes consists of (mappings, lists, tuples, texts, numbers, None, bool). Nothing is imported,
made or called. Opcodes: Python's ``pickletools``.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from typing import Any

_MOST = 200_000


@dataclass(slots=True)
class Made:
    """What a class or a function of the pickle would give."""

    name: str = ""
    args: tuple[Any, ...] = ()
    state: Any = field(default_factory=dict)


class NoPickle(ValueError):
    """No pickle, or one with an opcode that is not walked."""


def walk(data: bytes) -> Any:
    """What the pickle holds, with ``Made`` in the place of objects. Raises NoPickle."""
    walker = _Walker()
    try:
        for n, (opcode, arg, _) in enumerate(pickletools.genops(data)):
            if n > _MOST:
                raise NoPickle("too long")
            if opcode.name == "STOP":
                return walker.stack[-1]
            walker.take(opcode.name, arg)
    except NoPickle:
        raise
    except Exception as error:  # whatever its parser and a damaged stack give
        raise NoPickle(str(error)) from error
    raise NoPickle("it has no end")


_MARK = object()
_PLAIN = frozenset([
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT", "LONG", "BINFLOAT", "FLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "UNICODE", "BINSTRING", "SHORT_BINSTRING", "STRING", "BINBYTES", "SHORT_BINBYTES",
])  # fmt: skip
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


class _Walker:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def take(self, name: str, arg: Any) -> None:
        stack = self.stack
        if name in _PLAIN:
            stack.append(arg)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_SET"):
            stack.append({} if name == "EMPTY_DICT" else [])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[len(self.memo) if name == "MEMOIZE" else int(arg)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[int(arg)])
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("TUPLE", "LIST", "FROZENSET"):
            items = self.marked()
            stack.append(tuple(items) if name == "TUPLE" else items)
        elif name in ("DICT", "SETITEMS", "APPENDS", "ADDITEMS"):
            items = self.marked()
            if name == "DICT":
                stack.append({})
            self.put(items, pairs=name in ("DICT", "SETITEMS"))
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            self.put([key, value], pairs=True)
        elif name == "APPEND":
            self.put([stack.pop()], pairs=False)
        elif name == "GLOBAL":
            stack.append(Made(str(arg).replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            last, first = stack.pop(), stack.pop()
            stack.append(Made(f"{first}.{last}"))
        elif name in ("REDUCE", "NEWOBJ"):
            args, own = stack.pop(), stack.pop()
            stack.append(Made(own.name if isinstance(own, Made) else "", args if isinstance(args, tuple) else ()))
        elif name == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], Made):
                stack[-1].state = state
        elif name == "BINPERSID":
            stack[-1] = Made("persistent")
        elif name == "POP":
            stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise NoPickle(f"opcode {name}")

    def marked(self) -> list[Any]:
        """Everything above the last mark, taken off."""
        at = max(n for n, x in enumerate(self.stack) if x is _MARK)
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def put(self, items: list[Any], *, pairs: bool) -> None:
        target = self.stack[-1]
        if pairs and isinstance(target, dict):
            target.update((k, v) for k, v in zip(items[::2], items[1::2], strict=True) if isinstance(k, (str, int, float, bool)))
        elif not pairs and isinstance(target, list):
            target += items
