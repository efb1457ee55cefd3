"""Delta Lake tables: version, operations, schema and rows from the transaction log.

Owns ``_delta_log/<20 digits>.json``. A table whose log was cut behind a checkpoint needs Parquet for its rows (extra
``reprodebug[parquet]``); its version is right without. Source: delta-io PROTOCOL.md.
"""

from __future__ import annotations

import json
import posixpath
import re
from typing import Any

from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

NAME = "Delta Lake"
_COMMIT = re.compile(r"(^|/)_delta_log/(\d{20})\.json$")
_CHECKPOINT = re.compile(r"(^|/)_delta_log/(\d{20})\.checkpoint(?:\.[\w.-]+)?\.parquet$")


def find(tree: Tree) -> list[str]:
    """Every table."""
    return sorted({posixpath.dirname(posixpath.dirname(f)) for f in tree.files if _COMMIT.search(f) or _CHECKPOINT.search(f)})


def read(tree: Tree, place: str) -> Record:
    """One table. Raises Unreadable."""
    record = Record(NAME, place)
    name = place or posixpath.basename(tree.root)
    prefix = f"{place}/_delta_log/" if place else "_delta_log/"
    commits = {int(_COMMIT.search(f)[2]): f for f in tree.below(prefix.rstrip("/")) if _COMMIT.search(f)}  # type: ignore[index]
    points = {int(_CHECKPOINT.search(f)[2]): f for f in tree.below(prefix.rstrip("/")) if _CHECKPOINT.search(f)}  # type: ignore[index]
    if not commits and not points:
        raise Unreadable(f"{name} has no log")
    version = max([*commits, *points])
    files: dict[str, int | None] = {}
    complete = 0 in commits
    if not complete and points:
        complete = _checkpoint(tree, record, points[max(points)], files)
    for number, path in sorted(commits.items()):
        if complete and 0 not in commits and number <= max(points):
            continue  # the checkpoint holds it
        if not _commit(tree, record, path, number, name, files):
            version = number - 1 if number == max(commits) else version
            break
    record.add("data", name, version, f"{prefix}{version:020d}.json")
    if complete and None not in files.values():
        record.add("data", f"{name} rows", sum(v or 0 for v in files.values()), prefix)
    else:
        record.notes.append(
            f"{name}: the number of rows is not known" + ("" if complete else "; that needs an extra: pip install 'reprodebug[parquet]'")
        )
    return record


def _commit(tree: Tree, record: Record, path: str, number: int, name: str, files: dict[str, int | None]) -> bool:
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
            rows, deleted = _rows(action["add"].get("stats")), action["add"].get("deletionVector")
            if rows is not None and isinstance(deleted, dict):
                rows = rows - deleted["cardinality"] if isinstance(deleted.get("cardinality"), int) else None
            files[str(action["add"].get("path"))] = rows
        elif isinstance(action.get("remove"), dict):
            files.pop(str(action["remove"].get("path")), None)
        elif isinstance(action.get("commitInfo"), dict):
            info = action["commitInfo"]
            operation = str(info.get("operation", ""))
            parameters = info.get("operationParameters")
            mode = parameters.get("mode") if isinstance(parameters, dict) else None
            record.add("data", f"{name}@{number} operation", f"{operation}{f' ({mode})' if mode else ''}", path, derived=name)
        elif isinstance(action.get("metaData"), dict):
            schema = action["metaData"].get("schemaString")
            try:
                columns = {str(c["name"]): c["type"] for c in json.loads(schema)["fields"]}
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
            for key in [k for k in record.facts if k[1].startswith(f"{name} column ")]:
                del record.facts[key]
            for column, kind in columns.items():
                record.add("data", f"{name} column {column}", kind, path)
            if action["metaData"].get("partitionColumns"):
                record.add("data", f"{name} partitions", action["metaData"]["partitionColumns"], path)
    return True


def _rows(stats: Any) -> int | None:
    try:
        value = json.loads(stats)["numRecords"] if isinstance(stats, str) else stats["numRecords"]
        return int(value)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _checkpoint(tree: Tree, record: Record, path: str, files: dict[str, int | None]) -> bool:
    try:
        import duckdb
    except ImportError:
        return False
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    try:
        for name, stats in connection.execute(
            "select add.path, add.stats from read_parquet(?) where add.path is not null", [tree.path(path)]
        ).fetchall():
            files[str(name)] = _rows(stats)
    except duckdb.Error as error:
        record.notes.append(f"{path} cannot be read: {str(error)[:120]}")
        return False
    finally:
        connection.close()
    return True
