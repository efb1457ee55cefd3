"""Poetry, uv and PEP 751: ``poetry.lock``, ``uv.lock``, ``pylock.toml`` and ``pylock.<name>.toml``.

Owns versions, sources and commits of locked packages. A package locked in several versions (for several markers) is named with
its marker. Content hashes of the lock file itself, index addresses and upload times are identity, no facts.
"""

from __future__ import annotations

import tomllib
from typing import Any

from reprodebug.foreign.protocol import Record, Unreadable, normal_name
from reprodebug.foreign.tree import Tree

NAME = "lock file"


def find(tree: Tree) -> list[str]:
    """Every lock file."""
    return [f for f in tree.match("poetry.lock", "uv.lock", "pylock.toml", "pylock.*.toml", "pdm.lock") if "node_modules/" not in f]


def read(tree: Tree, place: str) -> Record:
    """The packages that a lock file fixes. Raises Unreadable."""
    name = place.rsplit("/", 1)[-1]
    system = {"poetry.lock": "Poetry", "uv.lock": "uv", "pdm.lock": "PDM"}.get(name, "PEP 751 lock")
    try:
        found = tomllib.loads(tree.text(place, 64 << 20))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Unreadable(f"{place} is no TOML: {str(error)[:120]}") from error
    rows = found.get("packages" if name.startswith("pylock") else "package")
    if not isinstance(rows, list):
        raise Unreadable(f"{place} lists no packages")
    record = Record(system, place)
    python = found.get("requires-python") or (found.get("metadata") or {}).get("python-versions")
    if isinstance(python, str):
        record.add("environment", "requires-python", python, place)
    versions: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if isinstance(row, dict) and isinstance(row.get("name"), str):
            source: dict[str, Any] = row["source"] if isinstance(row.get("source"), dict) else {}
            if "virtual" in source or source.get("editable") == "." or source.get("virtual") == ".":
                continue  # the project itself
            versions.setdefault(normal_name(row["name"]), []).append(row)
    for key, several in versions.items():
        for n, row in enumerate(sorted(several, key=lambda r: str(r.get("version")))):
            own = key if n == 0 else f"{key} ({_marker(row) or n + 1})"
            record.add("environment", f"package/{own}", row.get("version"), place)
            _source(record, own, row, place)
    return record


def _marker(row: dict[str, Any]) -> str:
    for name in ("marker", "markers", "resolution-markers"):
        value = row.get(name)
        if value:
            return str(value if not isinstance(value, list) else value[0])[:200]
    return ""


def _source(record: Record, key: str, row: dict[str, Any], place: str) -> None:
    source: dict[str, Any] = row["source"] if isinstance(row.get("source"), dict) else {}
    commit = source.get("resolved_reference")
    if isinstance(source.get("git"), str) and "#" in source["git"]:
        commit = source["git"].rpartition("#")[2]
    vcs = row.get("vcs")
    if isinstance(vcs, dict) and vcs.get("commit-id"):
        commit = vcs["commit-id"]
    if isinstance(commit, str):
        record.add("environment", f"package-commit/{key}", commit, place)
    for kind in ("path", "directory", "url"):
        if isinstance(source.get(kind), str) and source.get("type") in (None, "url", "directory", "file"):
            record.add("environment", f"package-origin/{key}", source[kind], place)
    if source.get("type") in ("git", "directory", "file", "url") and isinstance(source.get("url"), str):
        record.add("environment", f"package-origin/{key}", source["url"], place)
    # the same version from other files: a rebuilt wheel keeps its number (only where both sides lock the same file name)
    archive = row.get("archive")
    if isinstance(archive, dict) and isinstance(archive.get("hashes"), dict):
        record.add("environment", f"package-hash/{key}", sorted(f"{k}:{v}" for k, v in archive["hashes"].items())[0], place)
