"""Command line and configuration files, leaf by leaf: what differs, and a mixture of both sides.

A leaf is one option of the command line, one key of a YAML, JSON or TOML file (those of tables in a list too), or one changed
line, or stretch of lines, of any other configuration file. A file that both command lines name by another path counts as one file with two contents.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import dataclass, field
from typing import Any

from reprodebug.store.run import StoredRun

_ABSENT = object()


@dataclass(slots=True)
class Leaf:
    """One thing that differs between two configurations."""

    name: str
    a: Any
    b: Any
    file: str = ""
    """path of A's file; '' for the command line"""
    path: tuple[str, ...] = ()
    """keys down to it; for other files the number of the stretch"""
    option: str = ""


@dataclass(slots=True)
class Configurations:
    """Two command lines with their files."""

    a: list[str]
    b: list[str]
    texts: dict[str, tuple[str, str]] = field(default_factory=dict)
    """path of A's file -> its text in A and in B"""
    leaves: list[Leaf] = field(default_factory=list)

    def command(self, chosen: set[str]) -> list[str]:
        """A's command line with the chosen leaves at B's value."""
        options = [x.option for x in self.leaves if x.option and x.name in chosen]
        if len(options) == sum(bool(x.option) for x in self.leaves) and options and not any(x.file for x in self.leaves):
            return list(self.b)
        left, right = segments(self.a), dict(segments(self.b))
        out = []
        for key, words in left:
            out += right.get(key, []) if key in options else words
        known = {k for k, _ in left}
        for key, words in segments(self.b):
            if key in options and key not in known:
                out += words
        return out

    def files(self, chosen: set[str]) -> dict[str, str]:
        """Path -> text of the configuration files with the chosen leaves at B's value; only files that differ."""
        found = {}
        for file, (a, b) in self.texts.items():
            mine = [x for x in self.leaves if x.file == file]
            taken = [x for x in mine if x.name in chosen]
            found[file] = a if not taken else b if len(taken) == len(mine) else _mixed(file, a, b, taken)
        return found


def segments(words: list[str]) -> list[tuple[str, list[str]]]:
    """A command line cut into options: (name, its words). Positional words are named by their number."""
    found: list[tuple[str, list[str]]] = []
    counts: dict[str, int] = {}
    n, position = 0, 0
    while n < len(words):
        word = words[n]
        assigned = re.match(r"^(--?[A-Za-z][^=\s]*|[+~]{0,2}[A-Za-z_][\w./@-]*)=", word)
        if assigned:
            key, taken = assigned[1].lstrip("+"), [word]
        elif re.match(r"^--?[A-Za-z]", word):
            key, taken = word, [word]
            while n + len(taken) < len(words) and not re.match(r"^--?[A-Za-z]", words[n + len(taken)]) and (
                len(taken) == 1 or not re.search(r"=|\.py$", words[n + len(taken)])
            ):  # fmt: skip
                taken.append(words[n + len(taken)])
        else:
            key, taken = f"argument {position}", [word]
            position += 1
        counts[key] = counts.get(key, 0) + 1
        found.append((key if counts[key] == 1 else f"{key} ({counts[key]})", taken))
        n += len(taken)
    return found


def of_runs(a: StoredRun, b: StoredRun) -> Configurations:
    """What two recorded runs were told, with the configuration files that they read and whose text was kept."""
    found = Configurations(list(a.manifest.command), list(b.manifest.command))
    texts_a, texts_b = _texts(a), _texts(b)
    left, right = dict(segments(found.a)), dict(segments(found.b))
    paired: set[str] = set()
    for key in dict.fromkeys([*left, *right]):
        x, y = left.get(key), right.get(key)
        if x == y:
            continue
        file_a, file_b = _file(x, texts_a), _file(y, texts_b)
        if file_a and file_b:
            paired |= {file_a, file_b}
            found.texts[file_a] = (texts_a[file_a], texts_b[file_b])
            continue
        found.leaves.append(Leaf(_said(key, x, y), _value(key, x), _value(key, y), option=key))
    for file in sorted(texts_a.keys() & texts_b.keys() - paired):
        if texts_a[file] != texts_b[file]:
            found.texts[file] = (texts_a[file], texts_b[file])
    for file, (before, after) in found.texts.items():
        found.leaves += _leaves(file, before, after)
    return found


def _said(key: str, x: list[str] | None, y: list[str] | None) -> str:
    return key if not key.startswith("argument") else f"{key} ({' '.join(x or [])} or {' '.join(y or [])})"


def _value(key: str, words: list[str] | None) -> Any:
    if words is None:
        return None
    if len(words) == 1:
        return words[0].partition("=")[2] if "=" in words[0] else (True if words[0] == key else words[0])
    return " ".join(words[1:])


def _texts(run: StoredRun) -> dict[str, str]:
    """Path relative to the working directory -> text of a configuration file that the run named or read."""
    found: dict[str, str] = {}
    cwd = run.manifest.cwd
    named = run.manifest.code.get("named")
    for source in (named if isinstance(named, dict) else {}, run.manifest.data):
        for path, entry in source.items():
            if isinstance(entry, dict) and isinstance(entry.get("text"), str):
                name = os.path.relpath(os.path.join(cwd, path), cwd)
                if not name.startswith(os.pardir) and not name.endswith((".py", ".sh")):
                    found[name] = entry["text"]
    return found


def _file(words: list[str] | None, texts: dict[str, str]) -> str:
    for word in words or ():
        for part in (word, word.partition("=")[2]):
            name = os.path.normpath(part) if part else ""
            if name in texts:
                return name
    return ""


def _load(file: str, text: str) -> Any:
    if file.endswith(".json"):
        return json.loads(text)
    if file.endswith((".yaml", ".yml")):
        import yaml

        return yaml.safe_load(text)
    if file.endswith(".toml"):
        import tomllib

        return tomllib.loads(text)
    raise ValueError(file)


def _flat(value: Any, other: Any, at: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Keys down to each leaf -> its value. A list is one leaf, but for tables that ``other`` has as many of in the same place."""
    found: dict[tuple[str, ...], Any] = {}
    if isinstance(value, dict) and (value or not at):
        theirs = other if isinstance(other, dict) else {}
        for key, inner in value.items():
            found |= _flat(inner, theirs.get(key), (*at, str(key)))
        return found
    if _tables(value, other):
        for n, (inner, their) in enumerate(zip(value, other, strict=True)):
            found |= _flat(inner, their, (*at, str(n)))
        return found
    return {at: value}


def _tables(value: Any, other: Any) -> bool:
    """Two lists of as many tables."""
    alike = isinstance(value, list) and isinstance(other, list) and len(value) == len(other) > 0
    return alike and all(isinstance(x, dict) for x in (*value, *other))


def _leaves(file: str, a: str, b: str) -> list[Leaf]:
    try:
        left, right = _load(file, a), _load(file, b)
        if not (isinstance(left, dict) and isinstance(right, dict)) and not _tables(left, right):
            raise ValueError(file)
    except Exception:  # noqa: BLE001 - not a file of keys: its lines are compared
        return [
            Leaf(f"{file}:{i + 1}", "\n".join(a.splitlines()[i:j]) or None, "\n".join(b.splitlines()[k:m]) or None, file, (str(n),))
            for n, (i, j, k, m) in enumerate(_stretches(a, b))
        ]
    x, y = _flat(left, right), _flat(right, left)
    return [
        Leaf(f"{file}:{'.'.join(path)}", x.get(path), y.get(path), file, path)
        for path in dict.fromkeys([*x, *y])
        if x.get(path, _ABSENT) != y.get(path, _ABSENT)
    ]


def _stretches(a: str, b: str) -> list[tuple[int, int, int, int]]:
    """Where the lines of two texts differ; line by line where there are as many on both sides."""
    left, right = a.splitlines(), b.splitlines()
    found = []
    for tag, i, j, k, m in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if tag == "replace" and j - i == m - k:
            found += [(i + n, i + n + 1, k + n, k + n + 1) for n in range(j - i) if left[i + n] != right[k + n]]
        elif tag != "equal":
            found.append((i, j, k, m))
    return found


def _mixed(file: str, a: str, b: str, taken: list[Leaf]) -> str:
    try:
        left, theirs = _load(file, a), _load(file, b)
        right = _flat(theirs, left)
    except Exception:  # noqa: BLE001 - not a file of keys
        lines, other = a.splitlines(), b.splitlines()
        numbers = {int(x.path[0]) for x in taken}
        for n, (i, j, k, m) in reversed(list(enumerate(_stretches(a, b)))):
            if n in numbers:
                lines[i:j] = other[k:m]
        return "\n".join(lines) + "\n"
    if file.endswith((".yaml", ".yml")):
        return _mixed_yaml(a, b, taken)
    for leaf in taken:
        node = left
        for key, then in zip(leaf.path, leaf.path[1:], strict=False):
            if isinstance(node, list):
                node = node[int(key)]
                continue
            if not isinstance(node.get(key), dict) and not (isinstance(node.get(key), list) and then.isdigit()):
                node[key] = {}
            node = node[key]
        if isinstance(node, list):
            node[int(leaf.path[-1])] = right[leaf.path]
        elif leaf.path in right:
            node[leaf.path[-1]] = right[leaf.path]
        else:
            node.pop(leaf.path[-1], None)
    return json.dumps(left, indent=2) + "\n" if file.endswith(".json") else _toml(left)


def _mixed_yaml(a: str, b: str, taken: list[Leaf]) -> str:
    """Scalars stay as they are written: readers of YAML differ in what ``1e-3`` or ``on`` is."""
    import yaml

    left: Any = yaml.compose(a, Loader=yaml.SafeLoader)
    right: Any = yaml.compose(b, Loader=yaml.SafeLoader)
    loader = yaml.SafeLoader("")

    def entry(node: Any, key: str) -> int:
        """The position of a key in a mapping, the last one that counts; -1 where it is not there."""
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        return next((n for n, (k, _) in reversed(list(enumerate(pairs))) if str(loader.construct_object(k, deep=True)) == key), -1)

    for leaf in taken:
        mine: Any = left
        theirs: Any = right
        for key in leaf.path[:-1]:
            if isinstance(mine, yaml.SequenceNode):
                mine, theirs = mine.value[int(key)], theirs.value[int(key)]
                continue
            at = entry(theirs, key)
            key_node, theirs = theirs.value[at] if at >= 0 else (yaml.ScalarNode("tag:yaml.org,2002:str", key), None)
            at = entry(mine, key)
            if at < 0:
                mine.value.append((key_node, yaml.MappingNode("tag:yaml.org,2002:map", [], flow_style=False)))
            elif not isinstance(mine.value[at][1], yaml.MappingNode) and not (
                isinstance(mine.value[at][1], yaml.SequenceNode) and isinstance(theirs, yaml.SequenceNode)
            ):
                mine.value[at] = (mine.value[at][0], yaml.MappingNode("tag:yaml.org,2002:map", [], flow_style=False))
            mine = mine.value[at][1]
        if isinstance(mine, yaml.SequenceNode):
            mine.value[int(leaf.path[-1])] = theirs.value[int(leaf.path[-1])]
            continue
        at, there = entry(mine, leaf.path[-1]), entry(theirs, leaf.path[-1])
        if there >= 0 and at >= 0:
            mine.value[at] = theirs.value[there]
        elif there >= 0:
            mine.value.append(theirs.value[there])
        elif at >= 0:
            del mine.value[at]
    return str(yaml.serialize(left, Dumper=yaml.SafeDumper))


def _toml(value: dict[str, Any], at: tuple[str, ...] = ()) -> str:
    """A document of tables as TOML (tomllib reads it and does not write)."""
    tables = {k: v for k, v in value.items() if isinstance(v, dict)}
    lines = [f"{_toml_key(k)} = {_toml_value(v)}" for k, v in value.items() if k not in tables]
    if at and (lines or not tables):
        lines.insert(0, f"[{'.'.join(map(_toml_key, at))}]")
    return "\n".join([*lines, *(_toml(v, (*at, k)) for k, v in tables.items())]) + ("\n" if not at else "")


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml_value(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_key(k)} = {_toml_value(v)}" for k, v in value.items()) + "}"
    return repr(value) if isinstance(value, int | float) else value.isoformat()
