"""A small part of HOCON, as ClearML writes configuration objects: JSON with bare keys, ``=``, comments and missing commas.

No includes, no substitutions: what holds them is given back as text. Source: lightbend/config HOCON.md.
"""

from __future__ import annotations

import json
import re
from typing import Any

_TOKEN = re.compile(
    r"""\s*(?:(?:\#|//)[^\n]*(?:\n\s*|\Z))*(?P<t>"{3}.*?"{3,}|"(?:[^"\\]|\\.)*"|[{}\[\],:=]|\+=|[^\s{}\[\],:="\#][^\n{}\[\],:="\#]*)""",
    re.S,
)
_DEPTH = 64


def load(text: str) -> Any:
    """A mapping, or None where the text is not what is read here."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    words: list[str] = []
    at = 0
    if len(text) > 4 << 20:
        return None
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            break
        words.append(found["t"].strip())
        at = found.end()
    try:
        if words and words[0] != "{":
            words = ["{", *words, "}"]
        value, end = _value(words, 0, 0)
        return value if end == len(words) and isinstance(value, dict) else None
    except (IndexError, ValueError):
        return None


def _value(words: list[str], at: int, depth: int) -> tuple[Any, int]:
    if depth > _DEPTH:
        raise ValueError("nested too deep")
    word = words[at]
    if word == "{":
        found: dict[str, Any] = {}
        at += 1
        while words[at] != "}":
            if words[at] == ",":
                at += 1
                continue
            key = _scalar(words[at])
            at += 1
            if words[at] in (":", "=", "+="):
                at += 1
            value, at = _value(words, at, depth + 1)
            node = found
            parts = str(key).split(".") if not words[at - 2].startswith('"') else [str(key)]
            for part in parts[:-1]:
                node = node.setdefault(part, {})
                if not isinstance(node, dict):
                    raise ValueError("a key below a value")
            node[parts[-1]] = value
        return found, at + 1
    if word == "[":
        rows: list[Any] = []
        at += 1
        while words[at] != "]":
            if words[at] == ",":
                at += 1
                continue
            value, at = _value(words, at, depth + 1)
            rows.append(value)
        return rows, at + 1
    if word in "}],:=":
        raise ValueError(word)
    return _scalar(word), at + 1


def _scalar(word: str) -> Any:
    if word.startswith('"""'):
        return word[3:-3]
    try:
        return json.loads(word)
    except (ValueError, RecursionError):
        return word
