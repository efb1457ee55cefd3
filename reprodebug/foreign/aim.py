"""Aim: ``.aim`` repositories, read without aim through RocksDB (extra ``reprodebug[aim]``).

Owns the params, system parameters, packages, variables, git and series of one run, closed or crashed: what only stands in the
write-ahead log is read from a copy. Encoding: aim's ``storage/encoding`` (path parts ended by 0xFE, typed values).
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from typing import Any

from reprodebug.foreign import _rocks, _sqlite
from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

NAME = "Aim"
EXTRA = "reading Aim needs an extra: pip install 'reprodebug[aim]'"
_END = 0xFE
_MAX_BYTES = 2 << 30


def find(tree: Tree) -> list[str]:
    """The newest run of each repository."""
    repositories = sorted(
        {f.partition("meta/chunks/")[0] for f in tree.files if "meta/chunks/" in f and f.endswith(("/CURRENT", ".sst", ".log"))}
    )
    found = []
    for repository in repositories:
        own = _chunks(tree, repository)
        if own:
            found.append(own[-1])
    return found


def _chunks(tree: Tree, repository: str) -> list[str]:
    prefix = f"{repository}meta/chunks/"
    names = sorted({f[len(prefix) :].partition("/")[0] for f in tree.files if f.startswith(prefix) and "/" in f[len(prefix) :]})
    made = _created(tree, repository) if len(names) > 1 else {}

    def age(name: str) -> tuple[str, float]:
        return made.get(name, ""), max((os.stat(tree.path(f)).st_mtime for f in tree.below(prefix + name)), default=0.0)

    return [prefix + n for n in sorted(names, key=age)]


def _created(tree: Tree, repository: str) -> dict[str, str]:
    """Run -> when it was created, as the repository's database has it."""
    try:
        with _sqlite.opened(tree, f"{repository}run_metadata.sqlite") as db:
            return {str(k): str(v) for k, v in db.execute("select hash, created_at from run where hash is not null")}
    except Unreadable:
        return {}


def runs(tree: Tree) -> list[str]:
    """Every run of every repository, the oldest first."""
    repositories = sorted({f.partition("meta/chunks/")[0] for f in tree.files if "meta/chunks/" in f})
    return [c for r in repositories for c in _chunks(tree, r)]


def read(tree: Tree, place: str) -> Record:
    """One run. Raises Unreadable, also where the extra is missing."""
    record = Record(NAME, place)
    repository, run = place.partition("meta/chunks/")[0], place.rsplit("/", 1)[-1]
    others = len(_chunks(tree, repository)) - 1
    if others > 0:
        record.notes.append(f"{repository or '.'} holds {others + 1} Aim runs: the newest, {run}, was read")
    sequences = f"{repository}seqs/chunks/{run}"
    places = [place, *([sequences] if tree.below(sequences) else [])]
    try:
        found = _databases(tree, places)
    except Unreadable as error:
        if len(places) < 2 or error.message == EXTRA:
            raise
        found = _databases(tree, places[:1])
        record.notes.append(f"{error.message}: the series of this run are not known")
    meta = _tree_of(found[0], run)
    attributes = _below(meta, ("meta", "chunks", run, "attrs")) or _below(meta, ("meta", "attrs")) or _below(meta, ("attrs",)) or {}
    source = f"{place}"
    if isinstance(attributes, dict):
        system = attributes.pop("__system_params", None)
        if isinstance(system, dict):
            _system(record, system, source)
        record.leaves("config", "", {k: v for k, v in attributes.items() if not str(k).startswith("__")}, source)
        record.facts.pop(("config", "(root)"), None)
    if len(found) > 1:
        contexts = _below(meta, ("meta", "chunks", run, "contexts")) or _below(meta, ("meta", "contexts")) or {}
        _series(record, _tree_of(found[1], run), contexts if isinstance(contexts, dict) else {}, run)
    _named(tree, repository, run, record)
    return record


def _databases(tree: Tree, places: list[str]) -> list[list[tuple[bytes, bytes]]]:
    """Every key and value of RocksDB folders, read from copies: nothing is written beside the originals. Raises Unreadable."""
    for place in places:
        if sum(tree.size(f) for f in tree.below(place)) > _MAX_BYTES:
            raise Unreadable(f"{place} is larger than {_MAX_BYTES >> 30} GiB")
    with tempfile.TemporaryDirectory(prefix="reprodebug-") as folder:
        copies = [os.path.join(folder, str(n)) for n in range(len(places))]
        for place, copy in zip(places, copies, strict=True):
            for f in tree.below(place):
                target = os.path.join(copy, *f[len(place) + 1 :].split("/"))
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.copyfile(tree.path(f), target)
        try:
            return _rocks.contents(copies)
        except ImportError as error:
            raise Unreadable(EXTRA) from error
        except _rocks.Failed as error:
            raise Unreadable(f"{places[0]} cannot be read: {error}") from error


def decode_key(key: bytes) -> tuple[Any, ...]:
    """Parts of a key: text, or an int. Raises ValueError."""
    parts: list[Any] = []
    at = 0
    while at < len(key):
        if key[at] == _END:
            if at + 10 > len(key) or key[at + 9] != _END:
                raise ValueError("a broken integer part")
            parts.append(struct.unpack(">q", key[at + 1 : at + 9])[0])
            at += 10
            continue
        end = key.find(bytes([_END]), at)
        if end < 0:
            raise ValueError("a part without end")
        parts.append(key[at:end].decode("utf-8", "replace"))
        at = end + 1
    return tuple(parts)


_LIST, _MAPPING = object(), object()


def decode_value(raw: bytes) -> Any:
    """One value; lists and mappings are markers. Raises ValueError."""
    if not raw:
        return None
    kind, body = raw[0], raw[1:]
    if kind == 0:
        return None
    if kind == 1:
        return bool(body[:1] != b"\0")
    if kind == 2 and len(body) == 8:
        return struct.unpack("<q", body)[0]
    if kind == 3 and len(body) == 8:
        return struct.unpack("<d", body)[0]
    if kind == 4:
        return body.decode("utf-8", "replace")
    if kind == 5:
        return f"<{len(body)} bytes>"
    if kind == 6:
        return _LIST
    if kind == 7:
        return _MAPPING
    raise ValueError(f"a value of type {kind}")


def _tree_of(rows: list[tuple[bytes, bytes]], run: str) -> dict[Any, Any]:
    """Nested mappings of every key; list markers become lists at the end."""
    root: dict[Any, Any] = {}
    lists: list[tuple[Any, ...]] = []
    for key, raw in rows:
        try:
            path, value = decode_key(key), decode_value(raw)
        except (ValueError, struct.error):
            continue
        if not path or len(path) > 64:
            continue
        node = root
        for part in path[:-1]:
            inner = node.get(part)
            if not isinstance(inner, dict):
                inner = node[part] = {}
            node = inner
        if value is _LIST:
            lists.append(path)
            value = _MAPPING
        if value is _MAPPING:
            if not isinstance(node.get(path[-1]), dict):
                node[path[-1]] = {}
        else:
            node[path[-1]] = value
    for path in sorted(lists, key=len, reverse=True):
        parent = _below(root, path[:-1])
        if isinstance(parent, dict) and isinstance(parent.get(path[-1]), dict):
            own = parent[path[-1]]
            parent[path[-1]] = [
                own[k]
                for k in sorted(
                    own, key=lambda k: (not isinstance(k, int), str(k) if not isinstance(k, int) else "", k if isinstance(k, int) else 0)
                )
            ]
    return root


def _below(node: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
    return node


def _system(record: Record, system: dict[str, Any], source: str) -> None:
    packages = system.get("packages")
    if isinstance(packages, dict):
        record.rank = 3
        for name, version in packages.items():
            record.package(str(name), str(version), source)
    variables = system.get("env_variables")
    if isinstance(variables, dict):
        for name, value in variables.items():
            record.add("environment", f"env/{name}", str(value), source)
    if system.get("executable"):
        record.add("environment", "executable", system["executable"], source)
    arguments = system.get("arguments")
    if arguments is not None:
        words = list(map(str, arguments)) if isinstance(arguments, list) else str(arguments).split()
        if words and words[0].endswith(".py"):
            record.add("code", "program", words[0].rsplit("/", 1)[-1], source)
            words = words[1:]
        record.add("code", "args", " ".join(words), source)
    git = system.get("git_info")
    if isinstance(git, dict):
        commit = git.get("commit")
        digest = commit.get("hash") if isinstance(commit, dict) else commit
        for key, value in (("git_commit", digest), ("git_branch", git.get("branch")), ("git_remote", git.get("remote_origin_url"))):
            if value:
                record.add("code", key, value, source)


def _series(record: Record, found: dict[Any, Any], contexts: dict[Any, Any], run: str) -> None:
    versions = (
        _below(found, ("seqs", "v2", "chunks", run)) or _below(found, ("v2", "chunks", run)) or _below(found, ("seqs", "chunks", run)) or {}
    )
    for number, names in versions.items() if isinstance(versions, dict) else ():
        context = contexts.get(number)
        words = _context(context) if isinstance(context, dict) and context else ""
        for name, columns in names.items() if isinstance(names, dict) else ():
            if str(name).startswith("__system__") or not isinstance(columns, dict):
                continue
            own = f"{words}/{name}" if words else str(name)
            values, steps = columns.get("val"), columns.get("step")
            if isinstance(values, list):
                values = dict(enumerate(values))
            if isinstance(steps, list):
                steps = dict(enumerate(steps))
            for key, value in values.items() if isinstance(values, dict) else ():
                step = steps.get(key) if isinstance(steps, dict) else key
                if isinstance(value, (int, float)) and not isinstance(value, bool) and isinstance(step, int):
                    record.point(own, step, float(value))


def _context(context: dict[Any, Any]) -> str:
    """What goes before the name of a metric: ``train`` for ``{"subset": "train"}``, as other trackers' users write it."""
    if len(context) == 1:
        return str(next(iter(context.values())))
    return ", ".join(f"{k}={v}" for k, v in sorted(context.items(), key=str))


def _named(tree: Tree, repository: str, run: str, record: Record) -> None:
    """Experiment and tags, which live in SQLite."""
    name = f"{repository}run_metadata.sqlite"
    if not tree.exists(name):
        return
    try:
        with _sqlite.opened(tree, name) as db:
            if {"run", "tag", "run_tag"} <= _sqlite.tables(db):
                rows = db.execute(
                    "select t.name from run r join run_tag x on x.run_id = r.id join tag t on t.id = x.tag_id where r.hash = ?", (run,)
                ).fetchall()
                if rows:
                    record.add("config", "tags", sorted(str(r[0]) for r in rows), name)
    except Unreadable as error:
        record.notes.append(error.message)
