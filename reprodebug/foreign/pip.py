"""pip and pip-tools: ``requirements*.txt``, ``pip freeze``, compiled requirements with hashes, ``pip inspect`` JSON.

Owns the requirement lines of pip (continuation, comments, ``-r``/``-c``/``-e``, ``--hash``, ``name @ url``) and the installation
report. Refuses to follow a file out of the directory. Format: pip's "Requirements File Format" and PEP 508, 610.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from urllib.parse import unquote

from reprodebug.foreign import _markers
from reprodebug.foreign.protocol import NOT_SELECTED, POSSIBLE, Record, Unreadable, normal_name
from reprodebug.foreign.tree import Tree

NAME = "pip"
_NAMES = re.compile(
    r"(^|/)([\w.-]*requirements[\w.-]*\.txt|[\w.-]*requirements/[\w.-]+\.txt|(pip[-_]?)?freeze[\w.-]*\.txt|pip[-_]list\.txt|constraints[\w.-]*\.txt"
    r"|requirements\.lock)$",
    re.I,
)
_INSPECT = re.compile(r"(^|/)(pip[-_.]?inspect|inspect|pip[-_.]report)[\w.-]*\.json$", re.I)
_ELSEWHERE = re.compile(
    r"(^|/)(wandb|mlruns|\.neptune|node_modules|site-packages|upload_path|\.aim|exports|(offline-|dry)?run-\d{8}_\d{6}-[\w-]+/files)/"
)
_MOST_FILES = 40


def find(tree: Tree) -> list[str]:
    """Requirement files of the project itself; those inside a tracker's record belong to its reader."""
    own = [f for f in tree.files if f.endswith((".txt", ".lock", ".json", ".in")) and (tree.single or not _ELSEWHERE.search(f))]
    named = [f for f in own if _NAMES.search(f) or (f.endswith(".txt") and _frozen(tree, f))]
    # what is compiled from an .in file fixes more: the .in counts alone only
    named += [f for f in own if f.endswith("requirements.in") and f"{f[:-3]}.txt" not in named]
    reports = [f for f in own if f.endswith(".json") and _report(tree, f)]
    included = {posixpath.normpath(posixpath.join(posixpath.dirname(f), x)) for f in named for x in _included(tree, f)}
    included -= {f for f in named if f in {posixpath.normpath(posixpath.join(posixpath.dirname(f), x)) for x in _included(tree, f)}}
    return [f for f in named if f not in included] + reports


def _frozen(tree: Tree, name: str) -> bool:
    """Whether a text of any name is what ``pip freeze`` or ``pip list`` prints."""
    lines = [line for line in tree.text(name, 1 << 13).splitlines()[:-1] or [tree.text(name, 1 << 13)] if line.strip()][:60]
    if lines[:1] and re.match(r"^Package\s+Version", lines[0]):
        return True
    plain = [line for line in lines if not line.startswith("#")]
    fits = sum(bool(re.match(r"^([A-Za-z0-9][\w.-]*(\[[\w,-]+\])?==\d\S*|-e \S+|[\w.-]+ @ \S+://\S+)\s*$", line)) for line in plain)
    return len(plain) > 2 and fits == len(plain)


def _report(tree: Tree, name: str) -> bool:
    """Whether a JSON file is what ``pip inspect``, ``pip install --report`` or ``pip list --format json`` prints."""
    head = tree.read(name, 1 << 12)
    if b'"pip_version"' in head and (b'"installed"' in head or b'"install"' in head):
        return True
    if _INSPECT.search(name) and b'"installed"' in tree.read(name, 1 << 20):
        return True
    return re.match(rb'\s*\[\s*\{\s*"name":\s*"[^"]+",\s*"version":\s*"[^"]+"', head) is not None and b'"dist_name"' not in head


def read(tree: Tree, place: str) -> Record:
    """The packages that one file names. Raises Unreadable."""
    record = Record(NAME, place)
    if place.endswith(".json"):
        _inspect(tree, place, record)
        return record
    rows = list(lines(tree, place, set(), record))
    pinned = sum("==" in line.partition(";")[0] or "@" in line or bool(hint) for _, line, _, hint in rows)
    frozen = "freeze" in place or "pip_list" in place or "pip-list" in place or _frozen(tree, place)
    record.rank = (3 if "freeze" in place or (frozen and not _NAMES.search(place)) else 2) if rows and pinned == len(rows) else 1
    pythons = _markers.environments(tree, place)
    python = pythons[0] if len(pythons) == 1 else None
    if python is not None:  # of several lines for one package the one that is selected has the plain name
        rows.sort(key=lambda row: not _markers.holds(re.split(r"\s(?:--|#)", row[1].partition(";")[2])[0], python))
    for source, line, editable, hint in rows:
        requirement(record, line, source, editable=editable, hint=hint, python=python)
    return record


def requirement(
    record: Record, line: str, source: str, *, editable: bool = False, hint: str = "", python: dict[str, str] | None = None
) -> None:
    """One requirement line as facts: version, commit, origin, or the range that is asked for.

    ``hint``: name and version beside the line; ``python``: the variables of the project's interpreter, where it is known.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    text = re.split(r"\s--(?:hash|config-settings|global-option)", re.sub(r"\s+#.*$", "", line).strip())[0].strip().rstrip("\\").strip()
    if not text:
        return
    if re.match(r"^(git|hg|svn|bzr)\+|^https?:|^file:|^\.{0,2}/", text) or editable:
        _from_url(record, text, source, hint)
        return
    try:
        need = Requirement(text)
    except InvalidRequirement:
        record.notes.append(f"{source}: a line that is no requirement: {text[:80]}")
        return
    if need.url:
        _from_url(record, f"{need.url}{'&' if '#' in need.url else '#'}egg={need.name}", source)
        return
    pins = [s for s in need.specifier if s.operator in ("==", "===") and not s.version.endswith(".*")]
    version = pins[0].version if len(pins) == 1 and len(list(need.specifier)) == 1 else str(need.specifier) or "any"
    marker = str(need.marker) if need.marker is not None else ""
    key = normal_name(need.name)
    note = ""
    if marker and python is not None:
        note = "" if _markers.holds(marker, python) else NOT_SELECTED
    elif marker:
        note = POSSIBLE if _markers.possible(marker) else NOT_SELECTED
    if marker and ("environment", f"package/{key}") in record.facts and record.facts["environment", f"package/{key}"].value != version:
        key = f"{key} ({marker})"
        record.add("environment", f"package/{key}", version, source, note=note)
    else:
        record.package(need.name, version, source, note=note)
    hashes = re.findall(r"--hash[=\s]+(\w+:[0-9A-Fa-f]+)", line)
    if hashes:
        record.add("environment", f"package-hash/{key}", sorted({h.lower() for h in hashes})[:200], source)
    if need.extras:
        record.add("environment", f"package-extras/{key}", sorted(need.extras), source)


def _from_url(record: Record, text: str, source: str, hint: str = "") -> None:
    """A package that is named by where it comes from; ``hint``: ``name==version`` where a comment of ``pip freeze`` says it."""
    address, _, fragment = unquote(text).partition("#")
    name = re.search(r"(?:^|&)egg=([\w.-]+)", fragment)
    wheel = re.search(r"(?:^|/)([\w.]+)-(\d[\w.!+]*)-[^/]+\.whl", address)
    archive = re.search(r"(?:^|/)([A-Za-z][\w.-]*?)-(\d[\w.!+]*)\.(?:tar\.gz|zip)", address)
    found = wheel or archive
    said, _, version = hint.partition("==")
    url = re.sub(r"\[[\w,. -]*\]$", "", address.strip())
    own = name[1] if name else said or (found[1] if found else posixpath.basename(re.sub(r"(\.git)?(@[^/@]*)?/*$", "", url)) or ".")
    version = version or (found[2] if found else "")
    if version:
        record.package(own, version, source)
    commit = re.search(r"(?<!/)@([^/@#]+)$", url) if "+" in url.partition("://")[0] else None
    if commit:
        record.add("environment", f"package-commit/{normal_name(own)}", commit[1], source)
        url = url[: commit.start()]
    elif not version:
        record.package(own, url, source)
    record.add("environment", f"package-origin/{normal_name(own)}", url, source)
    digest = re.search(r"(?:^|&)(sha\d+|md5)=([0-9A-Fa-f]+)", fragment)
    if digest:
        record.add("environment", f"package-hash/{normal_name(own)}", [f"{digest[1]}:{digest[2].lower()}"], source)


def lines(tree: Tree, place: str, seen: set[str], record: Record) -> Iterator[tuple[str, str, bool, str]]:
    """(file, requirement, editable, ``name==version`` of a comment above) of a file and of those that it includes."""
    if place in seen or len(seen) >= _MOST_FILES:
        return
    seen.add(place)
    try:
        text = tree.text(place, 8 << 20)
    except OSError:
        record.notes.append(f"{place} is included and is not there")
        return
    hint = above = ""
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        line = line.strip()
        hint, above = above, ""
        said = re.match(r"^# Editable .*\(([\w.-]+==[^\s()]+)\)$", line)  # written above an editable installation by ``pip freeze``
        if said:
            above = said[1]
        if (
            not line
            or line.startswith("#")
            or (line.startswith("-") and not re.match(r"^(-r|-c|-e|--requirement|--constraint|--editable)\b", line))
        ):
            continue
        option = re.match(r"^(-r|-c|-e|--requirement|--constraint|--editable)[\s=]*(.+)$", line)
        if option is None:
            if re.match(r"^(Package\s+Version|-{3,})", line):
                continue
            columns = re.match(r"^([A-Za-z][\w.-]*)\s+(\d[\w.!+]*)(\s+\S+)?$", line)
            yield place, f"{columns[1]}=={columns[2]}" if columns else line, False, ""
        elif option[1] in ("-e", "--editable"):
            yield place, option[2].strip(), True, hint
        elif not re.match(r"^\w+://", option[2]):
            yield from lines(
                tree, posixpath.normpath(posixpath.join(posixpath.dirname(place), option[2].split(" #")[0].strip())), seen, record
            )


def _included(tree: Tree, place: str) -> list[str]:
    found = re.findall(r"^\s*(?:-r|-c|--requirement|--constraint)[\s=]*([^\s#]+)", tree.text(place, 1 << 20), re.M)
    return [f for f in found if "://" not in f]


def _inspect(tree: Tree, place: str, record: Record) -> None:
    try:
        found = json.loads(tree.text(place, 64 << 20))
        if isinstance(found, list):
            found = {"installed": [{"metadata": r} for r in found]}
        installed = found["installed"] if "installed" in found else found["install"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unreadable(f"{place} is no `pip inspect` report") from error
    record.rank = 3
    for row in installed:
        meta = row.get("metadata", {})
        if isinstance(meta.get("name"), str):
            record.package(meta["name"], str(meta.get("version")), place)
            if "is_direct" not in row or row["is_direct"]:
                direct_url(record, meta["name"], row.get("direct_url") or row.get("download_info"), place)
    environment = found.get("environment", {})
    if environment.get("python_full_version"):
        record.add("environment", "python", environment["python_full_version"], place)
    for name in ("implementation_name", "platform_machine", "sys_platform"):
        if environment.get(name):
            record.add("environment", name, environment[name], place)


def direct_url(record: Record, name: str, found: object, source: str) -> None:
    """Where a package was installed from, as PEP 610 has it."""
    if not isinstance(found, dict):
        return
    vcs = found.get("vcs_info")
    if isinstance(vcs, dict) and vcs.get("commit_id"):
        record.add("environment", f"package-commit/{normal_name(name)}", vcs["commit_id"], source)
    archive: dict[str, object] = found["archive_info"] if isinstance(found.get("archive_info"), dict) else {}
    hashes = archive.get("hashes")
    known = [f"{k}:{v}" for k, v in hashes.items()] if isinstance(hashes, dict) else []
    if isinstance(archive.get("hash"), str):
        known.append(str(archive["hash"]).replace("=", ":", 1))
    if known:
        record.add("environment", f"package-hash/{normal_name(name)}", sorted(set(known)), source)
    if found.get("url"):
        record.add("environment", f"package-origin/{normal_name(name)}", str(found["url"]), source)
