"""Virtual environments: ``pyvenv.cfg`` and the ``.dist-info`` folders beside it, made by venv, virtualenv or uv.

Owns the interpreter's version (``version`` of venv, ``version_info`` of uv and virtualenv), the installed distributions with their PEP
610 origin, files that miss the hash in their RECORD (edited in place; a missing file is no edit), and ``.pth`` files. Runs nothing of the
environment. Formats: PEP 376, 427, 610, 660; Python's ``site``.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import posixpath
import re

from reprodebug.foreign.pip import direct_url
from reprodebug.foreign.protocol import Record, Unreadable, normal_name
from reprodebug.foreign.tree import Tree

NAME = "virtual environment"
_OF_THE_MACHINE = re.compile(r"^(\.\./|/)|\.dist-info/|^__editable__|\.pth$|\.pyc$")
"""installed files that say where they lie or how they were installed, not what they do"""
_LARGEST, _MOST_BYTES = 64 << 20, 2 << 30
"""of one file that is hashed, and of all"""


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
    left = _MOST_BYTES
    owners: dict[str, str] = {}
    for path in tree.below(place):
        if path.endswith((".dist-info/METADATA", ".egg-info/PKG-INFO")):
            name = _distribution(tree, path, record)
            if name and path.endswith("METADATA"):
                left = _edited(tree, posixpath.dirname(path), name, record, left, owners)
    for path in tree.below(place):
        if path.endswith(".pth") and posixpath.basename(posixpath.dirname(path)) in ("site-packages", "dist-packages"):
            _paths(tree, path, record, owners.get(path, ""))
    return record


def _edited(tree: Tree, folder: str, name: str, record: Record, left: int, owners: dict[str, str]) -> int:
    """Installed files that are not what RECORD says; returns how many bytes may still be hashed."""
    listing = f"{folder}/RECORD"
    if not tree.exists(listing):
        return left
    wrong, installed = [], []
    try:
        rows = list(csv.reader(tree.text(listing, 32 << 20).splitlines()))
    except csv.Error:
        record.notes.append(f"{listing} is damaged: edits of {name} are not known")
        return left
    for row in rows:
        if row and row[0].endswith(".pth"):
            owners[posixpath.normpath(posixpath.join(posixpath.dirname(folder), row[0]))] = f"package/{normal_name(name)}"
        algorithm, _, digest = row[1].partition("=") if len(row) > 1 else ("", "", "")
        if algorithm not in ("sha256", "sha384", "sha512") or not digest:
            continue
        if not _OF_THE_MACHINE.search(row[0]):
            installed.append(f"{row[0]} {digest}")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(folder), row[0]))
        if path.startswith("../") or not tree.exists(path):
            continue
        size = tree.size(path)
        if size > min(_LARGEST, left):
            text = "large installed files were not compared with their RECORD"
            if text not in record.notes:
                record.notes.append(text)
            continue
        left -= size
        found = hashlib.new(algorithm, tree.read(path, _LARGEST)).digest()
        if base64.urlsafe_b64encode(found).rstrip(b"=").decode() != digest.rstrip("="):
            wrong.append(f"{row[0]} ({algorithm}:{found.hex()[:12]})")
            record.add("environment", row[0], f"edited ({algorithm}:{found.hex()[:12]})", path, derived=f"package/{normal_name(name)}")
    if installed:
        wheel = tree.text(f"{folder}/WHEEL", 1 << 16) if tree.exists(f"{folder}/WHEEL") else ""
        digest = hashlib.sha256("\n".join(sorted(installed)).encode()).hexdigest()[:16]
        built = {"tags": sorted(re.findall(r"^Tag:\s*(\S+)", wheel, re.M)), "files": f"sha256:{digest}"}
        record.add("environment", f"package-files/{normal_name(name)}", built, listing)
    if wrong:
        record.add("environment", f"package-edited/{normal_name(name)}", sorted(wrong)[:50], listing)
    return left


def _paths(tree: Tree, path: str, record: Record, owner: str) -> None:
    """A ``.pth`` file: what is put on the path, by its last part (the rest is a place), and lines that run code, by their hash."""
    words = []
    for line in tree.text(path, 1 << 16).splitlines():
        line = line.strip()
        if line and not line.startswith("#"):
            code = line.startswith(("import ", "import\t"))
            words.append(f"code sha256:{hashlib.sha256(line.encode()).hexdigest()[:12]}" if code else posixpath.basename(line.rstrip("/")))
    record.add("environment", f"pth/{posixpath.basename(path)}", words, path, derived=owner)


def _rows(text: str) -> list[tuple[str, str]]:
    found = []
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            found.append((key.strip().lower(), value.strip()))
    return found


def _distribution(tree: Tree, path: str, record: Record) -> str:
    """Adds one distribution; returns its name, ``""`` where it has none."""
    head = tree.text(path, 1 << 18).partition("\n\n")[0]
    name = re.search(r"^Name:\s*(\S+)", head, re.M)
    version = re.search(r"^Version:\s*(\S+)", head, re.M)
    if not name or not version:
        record.notes.append(f"{path} names no package")
        return ""
    record.package(name[1], version[1], path)
    origin = posixpath.join(posixpath.dirname(path), "direct_url.json")
    if tree.exists(origin):
        try:
            direct_url(record, name[1], json.loads(tree.text(origin, 1 << 16)), origin)
        except ValueError:
            record.notes.append(f"{origin} is no JSON")
    return name[1]
