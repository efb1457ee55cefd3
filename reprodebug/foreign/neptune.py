"""Neptune 1.x, offline: ``.neptune/offline/run__<uuid>__*/`` and ``.neptune/async/*``.

Owns the operations in ``data-<n>.log`` (JSON objects back to back) and uploaded requirements and patches. ``monitoring/*`` and
``sys/*`` are identity. The commit is not in the offline record.
"""

from __future__ import annotations

import json
import posixpath
import re
from typing import Any

from reprodebug.foreign._patch import diff_facts
from reprodebug.foreign.pip import requirement
from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

NAME = "Neptune"
_LOG = re.compile(r"(^|/)data-\d+\.log$")
_SKIPPED = re.compile(r"^(sys|monitoring)/")


def find(tree: Tree) -> list[str]:
    """Run folders; the newest where there are several."""
    return runs(tree)[-1:]


def runs(tree: Tree) -> list[str]:
    """Every run folder, the oldest first."""
    return sorted({posixpath.dirname(f) for f in tree.files if _LOG.search(f)}, key=lambda place: (_created(tree, place), place))


def _created(tree: Tree, place: str) -> str:
    """When a run was made, as its metadata say."""
    name = f"{place}/metadata.json".lstrip("/")
    found = re.search(r'"createdAt":\s*"([^"]+)"', tree.text(name, 1 << 16)) if tree.exists(name) else None
    return found[1] if found else ""


def read(tree: Tree, place: str) -> Record:
    """One run. Raises Unreadable."""
    record = Record(NAME, place)
    prefix = f"{place}/" if place else ""
    if len(runs(tree)) > 1:
        record.notes.append(f"{len(runs(tree))} Neptune runs lie here: {posixpath.basename(place)} was read; name another as PATH#RUN_ID")
    logs = sorted((f for f in tree.below(place) if _LOG.search(f)), key=lambda f: int(re.search(r"(\d+)\.log$", f)[1]))  # type: ignore[index]
    steps: dict[str, float] = {}
    done = last = 0
    for path in logs:
        text, at, decoder = tree.text(path, 256 << 20), 0, json.JSONDecoder()
        while at < len(text):
            while at < len(text) and text[at] in " \r\n\t\0":
                at += 1
            if at >= len(text):
                break
            try:
                found, at = decoder.raw_decode(text, at)
            except (ValueError, RecursionError):
                record.cut(f"{path} was cut: what stands before the cut was read")
                break
            if isinstance(found, dict):
                own = found.get("obj", found)
                last = max(last, version) if isinstance(version := found.get("version"), int) else last
                if isinstance(own, dict):
                    done += 1
                    _operation(record, own, steps, path)
    put = f"{prefix}last_put_version"
    counted = tree.text(put, 100).strip() if tree.exists(put) else ""
    if counted.isdigit() and last < int(counted) and record.complete:
        record.cut(f"{place or '.'} holds {last} of {counted} operations: the run was killed before it wrote the others")
    if not record.complete:
        record.unknown |= {"config", "data"}
    for name in (f"{prefix}metadata.json", f"{posixpath.dirname(place)}/metadata.json"):
        if tree.exists(name):
            try:
                meta = json.loads(tree.text(name))
            except ValueError:
                continue
            version = meta.get("pythonVersion") or (meta.get("structure") or {}).get("pythonVersion")
            if version:
                record.add("environment", "python", str(version).split()[0], name)
            if meta.get("os"):
                record.add("environment", "os", meta["os"], name)
            break
    for path in tree.below(f"{prefix}upload_path"):
        own = posixpath.basename(path).lower()
        if "requirements" in own and own.endswith(".txt"):
            for line in tree.lines(path):
                if line.strip() and not line.startswith(("#", "-")):
                    requirement(record, line, path)
        elif own.endswith(".patch") or "diff" in own:
            diff_facts(record, tree.text(path), path)
    if not done:
        raise Unreadable(f"{place or '.'}: no operation of this Neptune run can be read")
    if ("code", "git_commit") not in record.facts:
        record.notes.append("Neptune's offline record holds no commit")
    return record


def _operation(record: Record, own: dict[str, Any], steps: dict[str, float], source: str) -> None:
    path = own.get("path")
    name = "/".join(map(str, path)) if isinstance(path, list) else str(path or "")
    kind = str(own.get("type", ""))
    if not name or _SKIPPED.match(name):
        return
    if name.startswith("source_code/"):
        if kind == "AssignString" and name.endswith(("entrypoint", "entry_point")):
            record.add("code", "program", own.get("value"), source)
        return
    if kind == "AssignDatetime":
        return
    if kind.startswith("Assign"):
        value = own.get("value")
        if kind == "AssignArtifact" or name.startswith(("data/", "dataset")):
            record.add("data", name, own.get("hash", value), source)
        else:
            record.add("config", name, value, source)
    elif kind in ("LogFloats", "LogInts"):
        for row in own.get("values") or ():
            if isinstance(row, dict) and isinstance(row.get("value"), (int, float)):
                step = row.get("step")
                step = steps.get(name, -1.0) + 1 if step is None else float(step)
                steps[name] = step
                record.point(name, int(step), float(row["value"]))
    elif kind == "AddStrings":
        record.add("config", name, sorted(map(str, own.get("values") or ())), source)
    elif kind in ("DeleteAttribute", "ClearFloatLog"):
        record.facts.pop(("config", name), None)
        record.series.pop(name, None)
    elif kind == "TrackFilesToArtifact":
        record.add("data", name, own.get("entries"), source)
