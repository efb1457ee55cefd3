"""What the Neptune Exporter wrote: ``<run>_part_<n>.parquet``, long form, one typed value column per attribute type.

Parquet is read by DuckDB, an extra (``reprodebug[parquet]``). Sources: neptune-exporter's schema.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

NAME = "Neptune export"
EXTRA = "reading Parquet needs an extra: pip install 'reprodebug[parquet]'"
_PART = re.compile(r"^(?P<run>.*?)_part_\d+\.parquet$")


def find(tree: Tree) -> list[str]:
    """The first part of each exported run."""
    runs: dict[str, str] = {}
    for f in sorted(tree.files):
        part = _PART.match(f)
        if part:
            runs.setdefault(part["run"], f)
    return sorted(runs.values())


def read(tree: Tree, place: str) -> Record:
    """One run with all of its parts. Raises Unreadable."""
    try:
        import duckdb
    except ImportError as error:
        raise Unreadable(EXTRA) from error
    part = _PART.match(place)
    if part is None:
        raise Unreadable(f"{place} is no part of an exported run")
    record = Record(NAME, place)
    files = [tree.path(f) for f in sorted(tree.files) if (m := _PART.match(f)) and m["run"] == part["run"]]
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    try:
        rows = connection.execute("select * from read_parquet(?, union_by_name=true)", [files])
        columns = [d[0] for d in rows.description]
        while True:
            several = rows.fetchmany(10_000)
            if not several:
                break
            for values in several:
                _row(record, dict(zip(columns, values, strict=True)), place)
    except duckdb.Error as error:
        raise Unreadable(f"{place} cannot be read: {str(error)[:160]}") from error
    finally:
        connection.close()
    return record


def _row(record: Record, row: dict[str, Any], place: str) -> None:
    row = {k: float(v) if isinstance(v, Decimal) else v for k, v in row.items()}
    name = str(row.get("attribute_path") or row.get("attribute_name") or "")
    kind = str(row.get("attribute_type") or "")
    if not name or name.startswith(("sys/", "monitoring/", "runtime/")):
        return
    value = next((row[c] for c in ("float_value", "int_value", "string_value", "bool_value", "datetime_value", "string_set_value", "file_value")
                  if row.get(c) is not None), None)  # fmt: skip
    if "series" in kind:
        if isinstance(row.get("float_value"), (int, float)):
            record.point(name, int(row.get("step") or 0), float(row["float_value"]))
        return
    if kind in ("datetime", "file") or value is None:
        return
    if name.startswith("source_code/"):
        key = name.removeprefix("source_code/").replace("/", "_")
        record.add("code", "git_commit" if "commit" in key and "id" in key else key, value, place)
    else:
        record.add("config", name, sorted(value) if isinstance(value, (list, set)) else value, place)
