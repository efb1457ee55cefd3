"""Poetry, uv, PDM, Pipenv and PEP 751: ``poetry.lock``, ``uv.lock``, ``pdm.lock``, ``Pipfile.lock``, ``pylock.toml`` and ``pylock.<name>.toml``.

Owns versions, sources, commits and file hashes of locked packages. Of a package that is locked several times the branch counts
that the project's Python selects on Linux; the other branches keep their marker in the key, with a note whether the project may use them
with another Python. Content hashes of the lock file itself,
index addresses and upload times are identity, no facts. Formats: Poetry 1.x (lock-version 1.1, ``[metadata.files]``, ``category``) and
2.x (``groups``, ``markers``), uv's lock version 1, the pylock specification.
"""

from __future__ import annotations

import json
import tomllib
from typing import Any

from reprodebug.foreign import _markers
from reprodebug.foreign.protocol import NOT_SELECTED, POSSIBLE, Record, Unreadable, normal_name
from reprodebug.foreign.tree import Tree

NAME = "lock file"
_MOST_HASHES = 200


def find(tree: Tree) -> list[str]:
    """Every lock file."""
    names = ("poetry.lock", "uv.lock", "pylock.toml", "pylock.*.toml", "pdm.lock", "Pipfile.lock")
    return [f for f in tree.match(*names) if "node_modules/" not in f]


def read(tree: Tree, place: str) -> Record:
    """The packages that a lock file fixes. Raises Unreadable."""
    name = place.rsplit("/", 1)[-1]
    if name == "Pipfile.lock":
        return _pipfile(tree, place)
    system = {"poetry.lock": "Poetry", "uv.lock": "uv", "pdm.lock": "PDM"}.get(name, "PEP 751 lock")
    try:
        found = tomllib.loads(tree.text(place, 64 << 20))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Unreadable(f"{place} is no TOML: {str(error)[:120]}") from error
    rows = found.get("packages" if name.startswith("pylock") else "package")
    meta: dict[str, Any] = found["metadata"] if isinstance(found.get("metadata"), dict) else {}
    if not isinstance(rows, list):
        if not found.get("lock-version") and "version" not in found and "lock-version" not in meta:
            raise Unreadable(f"{place} lists no packages")
        rows = []
    record = Record(system, place)
    python = found.get("requires-python") or meta.get("python-versions") or meta.get("requires_python")
    if isinstance(python, str):
        record.add("environment", "requires-python", python, place)
    environments = _markers.environments(tree, place, python if isinstance(python, str) else "")
    rows = [r for r in rows if isinstance(r, dict) and isinstance(r.get("name"), str)]
    versions: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if not _itself(row):
            versions.setdefault(normal_name(row["name"]), []).append(row)
    if all(len(several) < 2 for several in versions.values()):
        environments = environments[:1]
    reached = [_reached(rows, values) if system == "uv" else None for values in environments]
    for key, several in versions.items():
        several.sort(key=lambda r: str(r.get("version")))
        fits = [r for r in several if _selected(r, environments[0], reached[0])]
        others = list(zip(environments, reached, strict=True))[1:]
        for n, row in enumerate([*fits, *(r for r in several if r not in fits)]):
            # the branch that is selected has the plain name; so has a package of which there is one branch only
            own = key if n == 0 else f"{key} ({_marker(row) or f'branch {n + 1}'})"
            note = _group(row)
            if row not in fits:
                note = POSSIBLE if any(_selected(row, *other) for other in others) else NOT_SELECTED
            if row.get("version") is not None or n == 0:
                record.add("environment", f"package/{own}", row.get("version"), place, note=note)
            _source(record, own, row, place)
            _hashes(record, own, row, meta, place)
    return record


def _pipfile(tree: Tree, place: str) -> Record:
    """Pipenv: one mapping for what is installed, one for each other category (``develop``)."""
    try:
        found = json.loads(tree.text(place, 64 << 20))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{place} is no JSON: {str(error)[:120]}") from error
    if not isinstance(found, dict) or not isinstance(found.get("default"), dict):
        raise Unreadable(f"{place} lists no packages")
    record = Record("Pipenv", place)
    meta = found["_meta"] if isinstance(found.get("_meta"), dict) else {}
    requires = meta["requires"] if isinstance(meta.get("requires"), dict) else {}
    python = requires.get("python_full_version") or requires.get("python_version")
    if isinstance(python, str):
        record.add("environment", "python", python, place)
    for category in ("default", *sorted(found.keys() - {"default", "_meta"})):
        for name, row in found[category].items() if isinstance(found[category], dict) else ():
            key = normal_name(name)
            if not isinstance(row, dict) or (category != "default" and ("environment", f"package/{key}") in record.facts):
                continue
            version = str(row["version"]).removeprefix("==") if row.get("version") else None
            if version or not (row.get("git") or row.get("path") or row.get("file")):
                record.package(name, version, place, note="" if category == "default" else f"group {category}")
            _source(record, key, {**row, "revision": row.get("ref")}, place)
            for origin in (row.get("path"), row.get("file")):
                if isinstance(origin, str):
                    record.add("environment", f"package-origin/{key}", origin, place)
            _hashes(record, key, row, {}, place)
            if isinstance(row.get("extras"), list) and row["extras"]:
                record.add("environment", f"package-extras/{key}", sorted(map(str, row["extras"])), place)
    return record


def _itself(row: dict[str, Any]) -> bool:
    """Whether this is the project, not one of its dependencies."""
    source: dict[str, Any] = row["source"] if isinstance(row.get("source"), dict) else {}
    directory: dict[str, Any] = row["directory"] if isinstance(row.get("directory"), dict) else {}
    return "virtual" in source or source.get("editable") == "." or source.get("directory") == "." or directory.get("path") == "."


def _selected(row: dict[str, Any], values: dict[str, str], reached: set[tuple[str, str]] | None) -> bool:
    if reached is not None and (normal_name(row["name"]), str(row.get("version"))) not in reached:
        return False
    return all(_markers.holds(row.get(name), values) for name in ("marker", "markers", "resolution-markers"))


def _reached(rows: list[dict[str, Any]], values: dict[str, str]) -> set[tuple[str, str]] | None:
    """(name, version) of what uv would install for the project with every extra and group; None where no project is in the lock."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_name.setdefault(normal_name(row["name"]), []).append(row)
    stack = [r for r in rows if _itself(r) or (isinstance(r.get("source"), dict) and "editable" in r["source"])]
    if not stack:
        return None
    found: set[tuple[str, str]] = set()
    while stack:
        row = stack.pop()
        key = (normal_name(row["name"]), str(row.get("version")))
        if key in found:
            continue
        found.add(key)
        wanted: list[Any] = list(row["dependencies"]) if isinstance(row.get("dependencies"), list) else []
        for group in ("optional-dependencies", "dev-dependencies"):
            for several in row[group].values() if isinstance(row.get(group), dict) else ():
                wanted += several if isinstance(several, list) else []
        for need in wanted:
            if isinstance(need, dict) and isinstance(need.get("name"), str) and _markers.holds(need.get("marker"), values):
                stack += [
                    r
                    for r in by_name.get(normal_name(need["name"]), ())
                    if need.get("version") in (None, r.get("version")) and _markers.holds(r.get("resolution-markers"), values)
                ]
    return found


def _marker(row: dict[str, Any]) -> str:
    for name in ("marker", "markers", "resolution-markers"):
        value = row.get(name)
        if isinstance(value, dict):
            value = next(iter(value.values()), "")
        if value:
            return str(value if not isinstance(value, list) else value[0])[:200]
    return ""


def _group(row: dict[str, Any]) -> str:
    """The groups that ask for a package, as Poetry and PDM keep them."""
    groups = row.get("groups") or ([row["category"]] if isinstance(row.get("category"), str) else [])
    return f"group {', '.join(map(str, groups))}" if isinstance(groups, list) and groups else ""


def _source(record: Record, key: str, row: dict[str, Any], place: str) -> None:
    source: dict[str, Any] = row["source"] if isinstance(row.get("source"), dict) else {}
    commit, origin = source.get("resolved_reference"), None
    if isinstance(source.get("git"), str):
        address, _, after = source["git"].partition("#")
        commit, origin = after or commit, address.partition("?")[0]
    vcs = row.get("vcs")
    if isinstance(vcs, dict):
        commit, origin = vcs.get("commit-id") or commit, vcs.get("url") or vcs.get("path")
    if isinstance(row.get("git"), str):  # PDM
        commit, origin = row.get("revision") or row.get("ref"), row["git"]
    for kind in ("path", "directory", "url", "editable"):
        if isinstance(source.get(kind), str) and source.get("type") in (None, "url", "directory", "file"):
            origin = source[kind]
    if source.get("type") in ("git", "directory", "file", "url") and isinstance(source.get("url"), str):
        origin = source["url"]
    for kind in ("archive", "directory"):
        inner = row.get(kind)
        if isinstance(inner, dict):
            origin = inner.get("url") or inner.get("path") or origin
    if isinstance(commit, str):
        record.add("environment", f"package-commit/{key}", commit, place)
    if isinstance(origin, str):
        record.add("environment", f"package-origin/{key}", origin, place)


def _hashes(record: Record, key: str, row: dict[str, Any], meta: dict[str, Any], place: str) -> None:
    """Hashes of the files that may be installed: a rebuilt wheel keeps its number."""
    files = row.get("files")
    if not isinstance(files, list) and isinstance(meta.get("files"), dict):
        files = meta["files"].get(row["name"])
    found = [f.get("hash") for f in files if isinstance(f, dict)] if isinstance(files, list) else []
    found += row["hashes"] if isinstance(row.get("hashes"), list) else []  # Pipenv
    for one in [row.get("sdist"), row.get("archive"), *(row["wheels"] if isinstance(row.get("wheels"), list) else ())]:
        if isinstance(one, dict):
            found.append(one.get("hash"))
            if isinstance(one.get("hashes"), dict):
                found += [f"{k}:{v}" for k, v in one["hashes"].items()]
    plain = sorted({h.lower() for h in found if isinstance(h, str)})
    if plain:
        record.add("environment", f"package-hash/{key}", plain[:_MOST_HASHES], place)
