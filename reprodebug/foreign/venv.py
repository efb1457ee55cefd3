"""Virtual environments: ``pyvenv.cfg`` and the ``.dist-info`` folders beside it, made by venv, virtualenv or uv.

Owns the interpreter's version (``version`` of venv, ``version_info`` of uv and virtualenv) and the installed distributions with
their PEP 610 origin. Runs nothing of the environment.
"""

from __future__ import annotations

import json
import posixpath
import re

from reprodebug.foreign.pip import direct_url
from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

NAME = "virtual environment"


def find(tree: Tree) -> list[str]:
    """Folders with a pyvenv.cfg."""
    return [posixpath.dirname(f) for f in tree.match("pyvenv.cfg") if f == "pyvenv.cfg" or f.endswith("/pyvenv.cfg")]


def read(tree: Tree, place: str) -> Record:
    """Interpreter and distributions of one environment. Raises Unreadable."""
    record = Record(NAME, place, rank=3)
    prefix = f"{place}/" if place else ""
    try:
        rows = dict(_rows(tree.text(f"{prefix}pyvenv.cfg", 1 << 16)))
    except OSError as error:
        raise Unreadable(f"{prefix}pyvenv.cfg cannot be read") from error
    version = rows.get("version_info") or rows.get("version")
    if version:
        numbers = re.match(r"\d+(\.\d+)*", version)
        record.add("environment", "python", numbers[0] if numbers else version, f"{prefix}pyvenv.cfg")
    if rows.get("include-system-site-packages"):
        record.add(
            "environment", "include-system-site-packages", rows["include-system-site-packages"].lower() == "true", f"{prefix}pyvenv.cfg"
        )
    if rows.get("implementation", "CPython").lower() != "cpython":
        record.add("environment", "implementation", rows["implementation"].lower(), f"{prefix}pyvenv.cfg")
    for path in tree.below(place):
        if path.endswith((".dist-info/METADATA", ".egg-info/PKG-INFO")):
            _distribution(tree, path, record)
    return record


def _rows(text: str) -> list[tuple[str, str]]:
    found = []
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            found.append((key.strip().lower(), value.strip()))
    return found


def _distribution(tree: Tree, path: str, record: Record) -> None:
    head = tree.text(path, 1 << 18).partition("\n\n")[0]
    name = re.search(r"^Name:\s*(\S+)", head, re.M)
    version = re.search(r"^Version:\s*(\S+)", head, re.M)
    if not name or not version:
        record.notes.append(f"{path} names no package")
        return
    record.package(name[1], version[1], path)
    origin = posixpath.join(posixpath.dirname(path), "direct_url.json")
    if tree.exists(origin):
        try:
            direct_url(record, name[1], json.loads(tree.text(origin, 1 << 16)), origin)
        except ValueError:
            record.notes.append(f"{origin} is no JSON")
