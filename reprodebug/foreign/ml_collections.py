"""ml_collections: ``to_yaml()`` (Python object tags), ``str(config)`` (lighter YAML), ``to_json_best_effort()``.

Owns the plain values behind ConfigDict and FieldReference; simple lazy operations are applied, others shown. No object is ever
constructed. Source: ml_collections ``config_dict.py``.
"""

from __future__ import annotations

import dataclasses
import operator
import re
from typing import Any

from reprodebug.foreign import _yaml
from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

NAME = "ml_collections"
_MARK = b"ml_collections.config_dict"
_OPERATIONS: dict[str, Any] = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv, "floordiv": operator.floordiv,
               "mod": operator.mod, "pow": operator.pow, "neg": operator.neg, "abs": operator.abs}  # fmt: skip
_DEPTH = 64


def find(tree: Tree) -> list[str]:
    """YAML files with the tags; the JSON beside one says the same and is left out."""
    found = []
    for f in tree.files:
        if f.endswith((".yaml", ".yml")) and tree.size(f) < 16 << 20 and _MARK in tree.read(f, 1 << 16):
            found.append(f)
    return found


def read(tree: Tree, place: str) -> Record:
    """One configuration. Raises Unreadable."""
    record = Record(NAME, place)

    def named(loader: Any, suffix: str, node: Any) -> Any:
        return {"__name": suffix}

    def applied(loader: Any, suffix: str, node: Any) -> Any:
        try:
            rows = loader.construct_sequence(node, deep=True)
        except Exception:  # noqa: BLE001 - a mapping form of the same
            return {"__op": None}
        return {"__op": rows[0] if rows else None, "__args": rows[1] if len(rows) > 1 else []}

    try:
        found = _yaml.load(
            tree.text(place),
            constructors={"tag:yaml.org,2002:python/name:": named, "tag:yaml.org,2002:python/object/new:ml_collections.config_dict.config_dict._Op": applied,
                          "tag:yaml.org,2002:python/object/apply:ml_collections.config_dict.config_dict._Op": applied},
        )  # fmt: skip
    except _yaml.BadYaml as error:
        raise Unreadable(f"{place}: {error.message}") from error
    follows: dict[str, str] = {}
    seen: dict[int, str] = {}
    seen_again: set[str] = set()
    plain = _plain(found, "", seen, follows, seen_again, 0)
    if not isinstance(plain, dict):
        raise Unreadable(f"{place} holds no configuration")
    record.leaves("config", "", plain, place)
    # a reference that several fields share has no first one: the plainest name stands for all
    for root in dict.fromkeys(seen.values()):
        shared = [root, *(k for k, t in follows.items() if t == root and k in seen_again)]
        plainest = min(shared, key=lambda k: (k.count("."), len(k)))
        if plainest != root:
            follows = {k: plainest if t == root else t for k, t in follows.items() if k != plainest} | {root: plainest}
    for key, target in follows.items():
        old = record.facts.get(("config", key))
        if old is not None:
            record.facts["config", key] = dataclasses.replace(old, derived=target)
    return record


def _plain(node: Any, path: str, seen: dict[int, str], follows: dict[str, str], again: set[str], depth: int) -> Any:
    if depth > _DEPTH:
        return "..."
    if isinstance(node, dict):
        if "__name" in node:
            return "<class '" + re.sub(r"^builtins\.", "", str(node["__name"])) + "'>"
        if "_fields" in node and isinstance(node["_fields"], dict):
            return {k: _plain(v, f"{path}.{k}" if path else str(k), seen, follows, again, depth + 1) for k, v in node["_fields"].items()}
        if "_value" in node and ("_ops" in node or "_field_type" in node):
            inner = node["_value"]
            if path and id(node) in seen and seen[id(node)] != path:
                follows[path] = seen[id(node)]
                again.add(path)
            seen.setdefault(id(node), path)
            if isinstance(inner, dict) and "_value" in inner and path and id(inner) in seen:
                follows[path] = seen[id(inner)]
            value = _plain(inner, "", seen, follows, again, depth + 1)
            for step in node.get("_ops") or ():
                value = _apply(value, step)
            return value
        return {k: _plain(v, f"{path}.{k}" if path else str(k), seen, follows, again, depth + 1) for k, v in node.items()}
    if isinstance(node, (list, tuple)):
        return [_plain(v, f"{path}.{n}", seen, follows, again, depth + 1) for n, v in enumerate(node)]
    return node


def _apply(value: Any, step: Any) -> Any:
    name = step.get("__op") if isinstance(step, dict) else None
    name = str(name.get("__name", "") if isinstance(name, dict) else name or "")
    if name.endswith("config_dict.<lambda>"):
        return value  # of a one-way reference: the value itself
    name = name.rsplit(".", 1)[-1]
    arguments = step.get("__args") if isinstance(step, dict) else []
    if name in _OPERATIONS and isinstance(value, (int, float)) and all(isinstance(x, (int, float)) for x in arguments or ()) and not (
        name == "pow" and arguments and abs(arguments[0]) > 64
    ):  # fmt: skip
        try:
            return _OPERATIONS[name](value, *(arguments or ()))
        except (ArithmeticError, TypeError, ValueError):
            pass
    return f"{name}({', '.join(map(str, [value, *(arguments or ())]))})"
