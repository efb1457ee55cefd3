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


def resolve(config: Any) -> tuple[Any, dict[str, tuple[str, ...]], list[str]]:
    """(the configuration with references followed, leaf -> the leaves that it follows from, leaves that depend on a resolver)."""
    follows: dict[str, tuple[str, ...]] = {}
    open_: list[str] = []

    def walk(node: Any, path: tuple[str, ...]) -> Any:
        if isinstance(node, dict):
            return {k: walk(v, (*path, str(k))) for k, v in node.items()}
        if isinstance(node, list):
            return [walk(v, (*path, str(n))) for n, v in enumerate(node)]
        if isinstance(node, str) and "${" in node:
            return _text(config, node, path, follows, open_, 0)
        return node

    return walk(config, ()), follows, open_


def _text(config: Any, text: str, path: tuple[str, ...], follows: dict[str, tuple[str, ...]], open_: list[str], depth: int) -> Any:
    key = ".".join(path)
    whole = _WHOLE.match(text)
    if depth > _DEPTH:
        return text
    if whole:
        found, target = _reference(config, whole[1], path)
        if target is None:
            open_.append(key)
            return text
        follows[key] = (*follows.get(key, ()), ".".join(target))
        return _text(config, found, target, follows, open_, depth + 1) if isinstance(found, str) and "${" in found else found
    pieces: list[str] = []
    for match in _ANY.finditer(text):
        found, target = _reference(config, match[1], path)
        if target is None or isinstance(found, (dict, list)):
            open_.append(key)
            return text
        pieces.append(".".join(target))
    if not pieces:
        return text
    follows[key] = tuple(dict.fromkeys((*follows.get(key, ()), *pieces)))
    filled = _ANY.sub(lambda m: str(_reference(config, m[1], path)[0]), text)
    if len(filled) > _LONGEST:
        open_.append(key)
        return text
    return _text(config, filled, path, follows, open_, depth + 1) if "${" in filled and filled != text else filled


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
