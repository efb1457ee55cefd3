"""``pyproject.toml`` and ``Pipfile``: what a project asks for, where no lock file or list of packages lies beside it.

Owns the main dependencies (``[project]``, Poetry's table) and ``requires-python``; extras and groups are not installed by themselves. What a lock
fixes counts more, so with one beside it the file is left to it. Formats: PEP 621, Poetry's and Pipenv's tables.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from typing import Any

from reprodebug.foreign.pip import requirement
from reprodebug.foreign.protocol import Record, Unreadable, normal_name
from reprodebug.foreign.tree import Tree

NAME = "project"
_FIXED = re.compile(
    r"(^|/)([\w.-]*\.lock|pylock[\w.-]*\.toml|conda-lock\.yml|[\w.-]*(requirements|freeze)[\w.-]*\.(txt|in)|environment[\w.-]*\.ya?ml)$"
)


def find(tree: Tree) -> list[str]:
    """Project files with nothing more exact in their folder."""
    found = tree.match("pyproject.toml", "Pipfile")
    fixed = {posixpath.dirname(f) for f in tree.files if _FIXED.search(f)}
    return [
        f
        for f in found
        if posixpath.dirname(f) not in fixed and "" not in fixed and not re.search(r"(^|/)(site-packages|node_modules)/", f)
    ]


def read(tree: Tree, place: str) -> Record:
    """What one project asks for. Raises Unreadable."""
    record = Record(NAME, place, rank=1)
    try:
        found = tomllib.loads(tree.text(place))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Unreadable(f"{place} is no TOML: {str(error)[:120]}") from error
    if posixpath.basename(place) == "Pipfile":
        python = _table(found, "requires").get("python_version")
        tables = [_table(found, "packages")]
    else:
        project = _table(found, "project")
        for line in project["dependencies"] if isinstance(project.get("dependencies"), list) else ():
            if isinstance(line, str):
                requirement(record, line, place)
        tables = [_table(found, "tool", "poetry", "dependencies")]
        python = project.get("requires-python") or tables[0].pop("python", None)
    if isinstance(python, str):
        record.add("environment", "requires-python", python, place)
    for name, wanted in (row for table in tables for row in table.items()):
        _wanted(record, name, wanted, place)
    return record


def _table(found: Any, *path: str) -> dict[str, Any]:
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return dict(found) if isinstance(found, dict) else {}


def _wanted(record: Record, name: str, wanted: Any, place: str) -> None:
    """One row of Poetry's or Pipenv's table: a version, or a mapping with one and where it comes from."""
    row = wanted if isinstance(wanted, dict) else {"version": wanted}
    key = normal_name(name)
    if isinstance(row.get("version"), str):
        version = re.sub(r"^\s*={0,3}\s*(?=\d)", "", row["version"])  # a bare number is that version
        record.package(name, "any" if version == "*" else version, place)
    for kind in ("rev", "ref", "tag", "branch"):
        if isinstance(row.get(kind), str):
            record.add("environment", f"package-commit/{key}", row[kind], place)
            break
    for kind in ("git", "url", "path", "file"):
        if isinstance(row.get(kind), str):
            record.add("environment", f"package-origin/{key}", row[kind], place)
    if isinstance(row.get("extras"), list) and row["extras"]:
        record.add("environment", f"package-extras/{key}", sorted(map(str, row["extras"])), place)
