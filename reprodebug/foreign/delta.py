"""Delta Lake tables: version, operations, schema, rows and statistics from the transaction log.

Owns ``_delta_log/<20 digits>.json``. A table whose log was cut behind a checkpoint needs Parquet for its rows (extra
``reprodebug[parquet]``); its version is right without. Source: delta-io PROTOCOL.md.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from typing import Any

from reprodebug._base.text import plural
from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

NAME = "Delta Lake"
_COMMIT = re.compile(r"(^|/)_delta_log/(\d{20})\.json$")
_CHECKPOINT = re.compile(r"(^|/)_delta_log/(\d{20})\.checkpoint(?:\.[\w.-]+)?\.parquet$")


_File = tuple[int | None, str]
"""rows of a live file, and what the log says of its content: partition and statistics; its name is drawn"""


def find(tree: Tree) -> list[str]:
    """Every table."""
    return sorted({posixpath.dirname(posixpath.dirname(f)) for f in tree.files if _COMMIT.search(f) or _CHECKPOINT.search(f)})


def read(tree: Tree, place: str) -> Record:
    """One table. Raises Unreadable."""
    record = Record(NAME, place)
    name = place or posixpath.basename(tree.root)
    prefix = f"{place}/_delta_log/" if place else "_delta_log/"
    commits: dict[int, str] = {}
    points: dict[int, list[str]] = {}
    for f in tree.below(prefix.rstrip("/")):
        if found := _COMMIT.search(f):
            commits[int(found[2])] = f
        elif found := _CHECKPOINT.search(f):
            points.setdefault(int(found[2]), []).append(f)
    if not commits and not points:
        raise Unreadable(f"{name} has no log")
    version = max([*commits, *points])
    files: dict[str, _File] = {}
    complete = 0 in commits
    start = -1
    """the version whose files and schema are known from a checkpoint"""
    if not complete and points:
        start = max(points)
        complete = _checkpoint(tree, record, points[start], name, files)
    for number, path in sorted(commits.items()):
        if not _commit(tree, record, path, number, name, files if number > start else {}):
            version = number - 1 if number == max(commits) else version
            break
    record.add("data", name, version, f"{prefix}{version:020d}.json")
    if not any(key.startswith(f"{name} column ") for _, key in record.facts):
        record.unknown |= {f"{name} column ", f"{name} partitions"}
    if complete and all(rows is not None for rows, _ in files.values()):
        record.add("data", f"{name} rows", sum(rows or 0 for rows, _ in files.values()), prefix)
        digest = hashlib.sha256("\n".join(sorted(said for _, said in files.values())).encode()).hexdigest()
        record.add("data", f"{name} statistics", f"sha256:{digest[:16]} of {plural(len(files), 'file')}", prefix, derived=name)
    else:
        record.unknown |= {f"{name} rows", f"{name} statistics"}
        record.notes.append(
            f"{name}: the number of rows is not known" + ("" if complete else "; that needs an extra: pip install 'reprodebug[parquet]'")
        )
    return record


def _commit(tree: Tree, record: Record, path: str, number: int, name: str, files: dict[str, _File]) -> bool:
    if not tree.text(path).strip():
        record.notes.append(f"{path} is empty: version {number} does not count")
        return False
    for line in tree.lines(path):
        if not line.strip():
            continue
        try:
            action = json.loads(line)
        except (ValueError, RecursionError):
            record.notes.append(f"{path} was cut: version {number} does not count")
            return False
        if not isinstance(action, dict):
            continue
        if isinstance(action.get("add"), dict):
            files[str(action["add"].get("path"))] = _file(action["add"])
        elif isinstance(action.get("remove"), dict):
            files.pop(str(action["remove"].get("path")), None)
        elif isinstance(action.get("commitInfo"), dict):
            info = action["commitInfo"]
            operation = str(info.get("operation", ""))
            parameters = info.get("operationParameters")
            mode = parameters.get("mode") if isinstance(parameters, dict) else None
            record.add("data", f"{name}@{number} operation", f"{operation}{f' ({mode})' if mode else ''}", path, derived=name)
            if isinstance(parameters, dict) and parameters.get("predicate") not in (None, "[]"):
                record.add("data", f"{name}@{number} predicate", parameters["predicate"], path, derived=name)
        elif isinstance(action.get("metaData"), dict):
            _schema(record, name, action["metaData"].get("schemaString"), action["metaData"].get("partitionColumns"), path)
    return True


def _schema(record: Record, name: str, schema: Any, partitions: Any, path: str) -> None:
    """Columns and partitions, which replace those of an earlier version."""
    try:
        columns = {str(c["name"]): c["type"] for c in json.loads(schema)["fields"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    for key in [k for k in record.facts if k[1].startswith(f"{name} column ") or k[1] == f"{name} partitions"]:
        del record.facts[key]
    for column, kind in columns.items():
        record.add("data", f"{name} column {column}", kind, path)
    if partitions:
        record.add("data", f"{name} partitions", partitions, path)


def _file(add: dict[str, Any]) -> _File:
    """What the log says of one file that it adds."""
    stats, deleted = add.get("stats"), add.get("deletionVector")
    try:
        stats = json.loads(stats) if isinstance(stats, str) else stats
    except (ValueError, RecursionError):
        stats = None
    inline = deleted.get("pathOrInlineDv") if isinstance(deleted, dict) and deleted.get("storageType") == "i" else None
    rows = _less(_rows(stats), deleted)
    return rows, json.dumps([add.get("partitionValues") or {}, stats, rows, inline], sort_keys=True)


def _rows(stats: Any) -> int | None:
    try:
        return int(stats["numRecords"])
    except (ValueError, KeyError, TypeError):
        return None


def _checkpoint(tree: Tree, record: Record, paths: list[str], name: str, files: dict[str, _File]) -> bool:
    """Take files and schema from the parts of a checkpoint; whether that could be done."""
    try:
        import duckdb
    except ImportError:
        return False
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    try:
        for path in paths:
            table = "from read_parquet(?)"
            columns = {str(r[0]) for r in connection.execute(f"describe select * {table}", [tree.path(path)]).fetchall()}
            if (
                "sidecar" in columns
                and connection.execute(f"select 1 {table} where sidecar is not null limit 1", [tree.path(path)]).fetchall()
            ):
                record.notes.append(f"{path} keeps its files in sidecars, which are not read")
                return False
            for own, stats, rest in connection.execute(
                f"select add.path, add.stats, to_json(add) {table} where add.path is not null", [tree.path(path)]
            ).fetchall():
                files[str(own)] = _file({**json.loads(rest), "stats": stats})
            for schema, partitions in connection.execute(
                f"select metaData.schemaString, metaData.partitionColumns {table} where metaData.schemaString is not null",
                [tree.path(path)],
            ).fetchall():
                _schema(record, name, schema, partitions, path)
    except (duckdb.Error, ValueError) as error:
        record.notes.append(f"{path} cannot be read: {str(error)[:120]}")
        return False
    finally:
        connection.close()
    return True


def _less(rows: int | None, deleted: Any) -> int | None:
    """Rows of a file without those that its deletion vector takes out; None where that is not known."""
    if rows is not None and isinstance(deleted, dict):
        return rows - deleted["cardinality"] if isinstance(deleted.get("cardinality"), int) else None
    return rows
