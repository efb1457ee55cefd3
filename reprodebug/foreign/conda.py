"""conda and mamba: ``environment.yml``, explicit lists, ``conda-meta/*.json``, ``conda-lock.yml``, ``pixi.lock``, ``conda list`` text.

Owns name, version, build and channel of packages. Equal versions with other builds are told apart under ``package-build/<name>``:
BLAS and CUDA variants live there. Formats: conda's "Managing environments", conda-lock 1 and 2, pixi.lock 4 to 6.
"""

from __future__ import annotations

import json
import posixpath
import re
from typing import Any

from reprodebug.foreign import _yaml
from reprodebug.foreign.pip import lines, requirement
from reprodebug.foreign.protocol import CONDA_ALONE, NOT_SELECTED, PIP_ALONE, Record, Unreadable, mapping, normal_name, rows
from reprodebug.foreign.tree import Tree

NAME = "conda"
_URL = re.compile(
    r"^(?:(?P<channel>\S*?)/)?(?P<subdir>linux-[\w]+|osx-[\w]+|win-[\w]+|noarch)/(?P<file>[^/\s#]+?)(?:\.tar\.bz2|\.conda)(?:#(?P<hash>\S+))?$"
)
_SPEC = re.compile(r"^(?:(?P<channel>[\w./:-]+?)::?)?(?P<name>[A-Za-z0-9_][\w.-]*)\s*(?P<rest>.*)$")


def find(tree: Tree) -> list[str]:
    """Environment folders, files and lists."""
    found = []
    metas = {posixpath.dirname(f) for f in tree.files if "conda-meta/" in f and f.endswith(".json")}
    found += sorted(m for m in metas if posixpath.basename(m) == "conda-meta")
    for f in tree.files:
        name = f.rsplit("/", 1)[-1]
        if (
            name in ("conda-lock.yml", "pixi.lock")
            or (name.endswith((".yml", ".yaml")) and "artifacts/" not in f and _is_environment(tree, f))
            or (name.endswith((".txt", ".lock")) and _listed(tree, f))
            or (name.endswith(".json") and "conda" in name and "conda-meta/" not in f and b'"dist_name"' in tree.read(f, 1 << 16))
        ):
            found.append(f)
    return [f for f in found if not re.search(r"(^|/)(mlruns|wandb|site-packages)/", f)]


def _is_environment(tree: Tree, name: str) -> bool:
    """By its name, or by its content: a list of dependencies beside channels."""
    if re.match(r"^(environment|conda|env)[\w.-]*\.ya?ml$", name.rsplit("/", 1)[-1]):
        return True
    head = tree.read(name, 1 << 16)
    return re.search(rb"^dependencies:", head, re.M) is not None and re.search(rb"^channels:", head, re.M) is not None


def _listed(tree: Tree, name: str) -> bool:
    head = tree.read(name, 4096)
    return b"@EXPLICIT" in head or b"# packages in environment" in head or b"conda create --name" in head


def read(tree: Tree, place: str) -> Record:
    """The packages of one environment. Raises Unreadable."""
    record = Record(NAME, place)
    name = place.rsplit("/", 1)[-1]
    if name == "conda-meta":
        _installed(tree, place, record)
    elif place.endswith(".txt"):
        _list(tree, place, record)
    elif name.endswith(".json"):
        _list_json(tree, place, record)
    elif name.endswith(".lock") and name != "pixi.lock":
        _list(tree, place, record)
    elif name == "pixi.lock":
        _pixi(tree, place, record)
    else:
        _yml(tree, place, record)
    return record


def package(
    record: Record, name: str, version: str | None, build: str | None, source: str, channel: str = "", hashes: tuple[str, ...] = ()
) -> None:
    """One conda package; python itself is the interpreter. ``hashes``: of its archive, as ``conda-md5:...``."""
    if name == "python":
        record.add("environment", "python", version, source)
    # libraries and compilers are packages to conda alone; which they are stands in the build
    note = "" if build and re.search(r"py\d|(^|_)py(h|th)", build) else CONDA_ALONE
    record.add("environment", f"package/{normal_name(name)}", version, source, derived="python" if name == "python" else "", note=note)
    if build:
        record.add("environment", f"package-build/{normal_name(name)}", build, source)
    if channel:
        record.add("environment", f"package-channel/{normal_name(name)}", _channel(channel), source)
    if hashes:
        record.add("environment", f"package-hash/{normal_name(name)}", list(hashes), source)


def _archive_hashes(file: object, row: dict[str, Any]) -> tuple[str, ...]:
    """Hashes of a package's archive; the same files in a ``.conda`` and in a ``.tar.bz2`` have others."""
    form = "conda" if str(file).endswith(".conda") else "bz2"
    return tuple(f"{form}-{name}:{row[name].lower()}" for name in ("md5", "sha256") if isinstance(row.get(name), str))


def _channel(text: str) -> str:
    """``conda-forge`` of whatever address: a mirror is the same channel."""
    parts = [
        p
        for p in re.split(r"/", text.split("://")[-1])
        if p and p not in ("linux-64", "noarch", "osx-64", "osx-arm64", "win-64", "linux-aarch64")
    ]
    return parts[-1] if parts else text


def _installed(tree: Tree, place: str, record: Record) -> None:
    record.rank = 3
    _without_pip(record, place)
    for path in tree.below(place):
        if not path.endswith(".json") or posixpath.dirname(path) != place:
            continue
        try:
            row = json.loads(tree.text(path, 64 << 20))
        except (ValueError, RecursionError):
            record.notes.append(f"{path} is cut or no JSON")
            continue
        if isinstance(row, dict) and isinstance(row.get("name"), str):
            package(
                record,
                row["name"],
                str(row.get("version")),
                str(row.get("build") or row.get("build_string") or ""),
                path,
                str(row.get("channel") or ""),
                _archive_hashes(row.get("fn") or row.get("url"), row),
            )


def _without_pip(record: Record, place: str) -> None:
    if PIP_ALONE not in record.unknown:
        record.unknown.add(PIP_ALONE)
        record.notes.append(f"{place} does not say what pip installed beside conda")


def _list_json(tree: Tree, place: str, record: Record) -> None:
    """``conda list --json``."""
    record.rank = 3
    try:
        rows = json.loads(tree.text(place, 64 << 20))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{place} is cut or no JSON") from error
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("name"), str):
            if row.get("channel") == "pypi":
                record.package(row["name"], str(row.get("version")), place)
            else:
                package(
                    record, row["name"], str(row.get("version")), str(row.get("build_string") or ""), place, str(row.get("channel") or "")
                )


def _list(tree: Tree, place: str, record: Record) -> None:
    record.rank = 3
    for line in tree.lines(place):
        line = line.strip()
        if line.startswith("# pip "):  # written by conda-lock into explicit lists
            requirement(record, line[6:], place)
        if not line or line.startswith("#") or line == "@EXPLICIT":
            continue
        url = _URL.match(line)
        if url:
            parts = url["file"].rsplit("-", 2)
            _without_pip(record, place)
            if len(parts) == 3:
                kind, _, digest = (url["hash"] or "").rpartition(":")
                own = {kind or "md5": digest} if digest else {}
                package(record, parts[0], parts[1], parts[2], place, url["channel"] or "", _archive_hashes(line.partition("#")[0], own))
            continue
        words = line.split()
        if "=" in words[0] and len(words) == 1:
            parts = [p for p in line.split("=") if p]
            if parts[2:] and parts[2].startswith(("pypi", "<pip>")):
                record.package(parts[0], parts[1], place)
            else:
                package(record, parts[0], parts[1], parts[2] if len(parts) > 2 else "", place)
        elif len(words) >= 3 and words[2] in ("pypi", "pypi_0", "<pip>"):
            record.package(words[0], words[1], place)
        elif len(words) >= 3:
            package(record, words[0], words[1], words[2], place, words[3] if len(words) > 3 and words[3] != "pypi" else "")


def _yml(tree: Tree, place: str, record: Record) -> None:
    try:
        found = _yaml.load(tree.text(place))
    except _yaml.BadYaml as error:
        raise Unreadable(f"{place}: {error.message}") from error
    if isinstance(found, dict) and isinstance(found.get("package"), list):
        return _conda_lock(found["package"], place, record)
    if not isinstance(found, dict) or not isinstance(found.get("dependencies"), list):
        raise Unreadable(f"{place} is no conda environment: it has no dependencies")
    exact = 0
    for spec in found["dependencies"]:
        if isinstance(spec, dict):
            for line in spec.get("pip") or ():
                if isinstance(line, str):
                    _pip_line(tree, place, line.strip(), record)
        elif isinstance(spec, str):
            exact += _dependency(record, spec, place)
    record.rank = 2 if exact else 1
    if isinstance(found.get("channels"), list):
        record.add("environment", "conda/channels", [_channel(str(c)) for c in found["channels"]], place)
    if isinstance(found.get("variables"), dict):
        for key, value in found["variables"].items():
            record.add("environment", f"env/{key}", str(value), place)


def _pip_line(tree: Tree, place: str, line: str, record: Record) -> None:
    """A line of the ``pip`` part; a file that it includes is read too."""
    option = re.match(r"^(?:-r|-c|--requirement|--constraint)[\s=]*([^\s#]+)", line)
    if option and "://" not in option[1]:
        for source, text, editable, hint in lines(
            tree, posixpath.normpath(posixpath.join(posixpath.dirname(place), option[1])), set(), record
        ):
            requirement(record, text, source, editable=editable, hint=hint)
    elif not line.startswith("-") or line.startswith("-e "):
        requirement(record, line.removeprefix("-e ").strip(), place, editable=line.startswith("-e "))


def _dependency(record: Record, spec: str, place: str) -> int:
    """``channel::name=1.2=build``; returns 1 for an exact version."""
    match = _SPEC.match(spec.strip())
    if match is None:
        return 0
    rest = match["rest"].strip()
    pin = re.match(r"^={1,2}\s*([\w.!+*]+?)(?:=([\w.*]+))?$", rest)
    if pin and "*" not in pin[1]:
        package(record, match["name"], pin[1], (pin[2] or "").replace("*", ""), place, match["channel"] or "")
        return 1
    words = re.match(r"^([\d][\w.!+]*)\s+([\w]+)$", rest)
    if words:
        package(record, match["name"], words[1], words[2], place, match["channel"] or "")
        return 1
    package(record, match["name"], rest or "any", None, place, match["channel"] or "")
    return 0


def _conda_lock(rows: list[Any], place: str, record: Record) -> None:
    platforms = sorted({str(r.get("platform")) for r in rows if isinstance(r, dict)})
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            continue
        where = "" if len(platforms) == 1 or row.get("platform") == "linux-64" else f" ({row.get('platform')})"
        url = _URL.match(str(row.get("url") or ""))
        build = url["file"].rsplit("-", 2)[-1] if url else ""
        hashes = _archive_hashes(str(row["url"]).partition("#")[0], row["hash"]) if url and isinstance(row.get("hash"), dict) else ()
        if where:
            record.add("environment", f"package/{normal_name(row['name'])}{where}", row.get("version"), place, note=NOT_SELECTED)
        elif row.get("manager") == "pip":
            record.package(row["name"], str(row.get("version")), place)
        else:
            package(record, row["name"], str(row.get("version")), build, place, hashes=hashes)


def _pixi(tree: Tree, place: str, record: Record) -> None:
    try:
        found = _yaml.load(tree.text(place))
    except _yaml.BadYaml as error:
        raise Unreadable(f"{place}: {error.message}") from error
    places = _pixi_environments(found)
    for row in rows(mapping(found).get("packages")):
        if not isinstance(row, dict):
            continue
        address = str(row.get("conda") or row.get("pypi") or row.get("url") or "")
        url = _URL.match(address)
        name, version, build = ([*url["file"].rsplit("-", 2), "", ""])[:3] if url else ("", "", "")
        name, version, build = str(row.get("name") or name), str(row.get("version") or version), str(row.get("build") or build)
        for where in places.get(address, [""] if not places else []):
            if where:  # another environment than the default one
                record.add("environment", f"package/{normal_name(name)} ({where})", f"{version}={build}" if build else version, place)
            elif row.get("pypi") or row.get("kind") == "pypi":
                record.package(name, version, place)
            elif url and url["subdir"] in ("linux-64", "noarch"):
                package(record, name, version, build, place, hashes=_archive_hashes(address, row))


def _pixi_environments(found: Any) -> dict[str, list[str]]:
    """Address of a package -> the environments that install it on Linux, ``""`` for the default one; of another environment only what it
    has otherwise."""
    environments = found.get("environments") if isinstance(found, dict) else None
    places: dict[str, list[str]] = {}
    if not isinstance(environments, dict):
        return places
    for name, environment in sorted(environments.items(), key=lambda x: x[0] != "default"):
        packages = environment.get("packages") if isinstance(environment, dict) else None
        rows = (packages.get("linux-64") or next(iter(packages.values()), None)) if isinstance(packages, dict) and packages else None
        for row in rows if isinstance(rows, list) else ():
            address = str(row.get("conda") or row.get("pypi") or "") if isinstance(row, dict) else ""
            own = "" if name == "default" or len(environments) == 1 else str(name)
            if address and "" not in places.setdefault(address, []):
                places[address].append(own)
    return places
