"""``${...}`` in configurations: plain references are followed, everything else stays as written.

Owns absolute (``${a.b}``, ``${a[0]}``) and relative (``${.x}``, ``${..x}``) references. ``${oc.env:...}`` and other resolvers depend on the
environment or on code and are left. Grammar: omegaconf's documentation, "Variable interpolation".
"""

from __future__ import annotations

import re
from typing import Any

_WHOLE = re.compile(r"^\$\{([^${}]*)\}$")
_ANY = re.compile(r"(?<!\\)\$\{([^${}]*)\}")
_DEPTH = 20
_LONGEST = 20_000
"""characters of a text whose references are still followed: texts that hold each other twice grow without end"""


_MOST = 20_000
"""values copied through references to mappings and lists: those that hold each other several times grow without end"""


def resolve(config: Any) -> tuple[Any, dict[str, tuple[str, ...]], list[str]]:
    """(the configuration with references followed, leaf -> the leaves that it follows from, leaves that depend on a resolver)."""
    own = _Resolver(config)
    return own.walk(config, ()), own.follows, own.open


class _Resolver:
    def __init__(self, config: Any) -> None:
        self.config = config
        self.follows: dict[str, tuple[str, ...]] = {}
        self.open: list[str] = []
        self.left = _MOST

    def walk(self, node: Any, path: tuple[str, ...]) -> Any:
        if isinstance(node, dict):
            return {k: self.walk(v, (*path, str(k))) for k, v in node.items()}
        if isinstance(node, list):
            return [self.walk(v, (*path, str(n))) for n, v in enumerate(node)]
        return self.text(node, path, ".".join(path), 0) if isinstance(node, str) and "${" in node else node

    def text(self, text: str, at: tuple[str, ...], key: str, depth: int) -> Any:
        """A text with references that stands at ``at``; ``key``: the leaf that it is read for."""
        whole = _WHOLE.match(text)
        if depth > _DEPTH:
            return text
        if whole:
            found, target = _reference(self.config, whole[1], at)
            if target is None:
                self.open.append(key)
                return text
            self.follows[key] = (*self.follows.get(key, ()), ".".join(target))
            return self.inside(found, target, key, depth + 1)
        pieces: list[str] = []
        for match in _ANY.finditer(text):
            found, target = _reference(self.config, match[1], at)
            if target is None or isinstance(found, (dict, list)):
                self.open.append(key)
                return text
            pieces.append(".".join(target))
        if not pieces:
            return text
        self.follows[key] = tuple(dict.fromkeys((*self.follows.get(key, ()), *pieces)))
        filled = _ANY.sub(lambda m: str(_reference(self.config, m[1], at)[0]), text)
        if len(filled) > _LONGEST:
            self.open.append(key)
            return text
        return self.text(filled, at, key, depth + 1) if "${" in filled and filled != text else filled

    def inside(self, found: Any, at: tuple[str, ...], key: str, depth: int) -> Any:
        """What a reference leads to, with the references in it followed from where they stand."""
        self.left -= 1
        if depth > _DEPTH or self.left < 0:
            return found
        if isinstance(found, dict):
            return {k: self.inside(v, (*at, str(k)), f"{key}.{k}", depth + 1) for k, v in found.items()}
        if isinstance(found, list):
            return [self.inside(v, (*at, str(n)), f"{key}.{n}", depth + 1) for n, v in enumerate(found)]
        return self.text(found, at, key, depth + 1) if isinstance(found, str) and "${" in found else found


def _reference(config: Any, inner: str, path: tuple[str, ...]) -> tuple[Any, tuple[str, ...] | None]:
    """(value, its path), or (None, None) for what is no plain reference or leads nowhere."""
    inner = inner.strip()
    if ":" in inner or not inner:
        return None, None
    dots = len(inner) - len(inner.lstrip("."))
    words = tuple(w for w in re.split(r"[.\[\]]+", inner.lstrip(".")) if w)
    base = path[: len(path) - dots] if dots else ()
    target = (*base, *words)
    node = config
    for word in target:
        if isinstance(node, dict):
            key = word if word in node else next((k for k in node if str(k) == word), None)
            if key is None:
                return None, None
            node = node[key]
        elif isinstance(node, list) and word.isdigit() and int(word) < len(node):
            node = node[int(word)]
        else:
            return None, None
    return node, target
