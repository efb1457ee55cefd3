"""ClearML offline sessions: ``offline-<id>.zip`` or the folder of that name.

Owns ``task.json`` (hyper-parameters, configuration objects, script with packages and diff) and ``metrics.jsonl``. A task whose
repository detection did not finish has no script section.
"""

from __future__ import annotations

import json
import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

from reprodebug.foreign import _hocon
from reprodebug.foreign._patch import diff_facts
from reprodebug.foreign.pip import requirement
from reprodebug.foreign.protocol import Record, Unreadable, mapping
from reprodebug.foreign.tree import Tree

NAME = "ClearML"
_MAX = 256 << 20
_SINGLE_VALUE = -(1 << 31)
"""the step that ``report_single_value`` writes"""


def find(tree: Tree) -> list[str]:
    """Session folders and zips; the newest where there are several."""
    return runs(tree)[-1:]


def runs(tree: Tree) -> list[str]:
    """Every session, the oldest first: their names are drawn, so the time of their first event decides."""
    found = [posixpath.dirname(f) for f in tree.files if posixpath.basename(f) == "task.json" and _is_task(tree.read(f, 1 << 16))]
    zips = [
        f for f in tree.files if f.endswith(".zip") and (f.rsplit("/", 1)[-1].startswith("offline-") or tree.single) and _in_zip(tree, f)
    ]
    folders = {posixpath.basename(f) for f in found}
    places = sorted(set(found) | {z for z in zips if posixpath.basename(z).removesuffix(".zip") not in folders})
    return sorted(places, key=lambda p: (_began(tree, p), p)) if len(places) > 1 else places


def _began(tree: Tree, place: str) -> int:
    """Time of a session's first event in milliseconds; 0 where it has none."""
    head = b""
    try:
        for name in ("log.jsonl", "metrics.jsonl"):
            if place.endswith(".zip"):
                with zipfile.ZipFile(tree.path(place)) as z:
                    inner = next((n for n in z.namelist() if posixpath.basename(n) == name), None)
                    if inner is not None:
                        with z.open(inner) as f:
                            head += f.read(1 << 16)
            elif tree.exists(f"{place}/{name}".lstrip("/")):
                head += tree.read(f"{place}/{name}".lstrip("/"), 1 << 16)
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, NotImplementedError, EOFError, RuntimeError):
        return 0
    return min(map(int, re.findall(rb'"timestamp":\s*(\d{1,18})\b', head)), default=0)


def _is_task(head: bytes) -> bool:
    return b'"hyperparams"' in head or b'"script"' in head or b'"configuration"' in head or (b'"type"' in head and b'"offline' in head)


def _in_zip(tree: Tree, name: str) -> bool:
    try:
        with zipfile.ZipFile(tree.path(name)) as z:
            return any(posixpath.basename(n) == "task.json" for n in z.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def read(tree: Tree, place: str) -> Record:
    """One session. Raises Unreadable."""
    record = Record(NAME, place, few=True)
    others = len(runs(tree)) - 1
    if others > 0:
        record.notes.append(f"{others + 1} ClearML sessions lie here: {posixpath.basename(place)} was read; name another as PATH#RUN_ID")
    if place.endswith(".zip"):
        try:
            with zipfile.ZipFile(tree.path(place)) as z:
                task = next((n for n in z.namelist() if posixpath.basename(n) == "task.json"), None)
                if task is None:
                    raise Unreadable(f"{place} holds no task.json")
                folder = posixpath.dirname(task)

                def member(name: str) -> bytes | None:
                    full = posixpath.join(folder, name)
                    if full not in z.namelist():
                        return None
                    info = z.getinfo(full)
                    if info.file_size > _MAX or (info.file_size > 16 << 20 and info.file_size > 500 * max(1, info.compress_size)):
                        raise Unreadable(f"{name} in {place} unpacks to {info.file_size >> 20} MiB")
                    with z.open(full) as f:
                        return f.read(_MAX)

                _session(record, member, place)
        except (zipfile.BadZipFile, zlib.error, OSError, ValueError, NotImplementedError, EOFError, RuntimeError) as error:
            if isinstance(error, Unreadable):
                raise
            raise Unreadable(f"{place} is damaged: {error}") from error
    else:
        prefix = f"{place}/" if place else ""
        _session(record, lambda name: tree.read(prefix + name, _MAX) if tree.exists(prefix + name) else None, f"{prefix}task.json")
    return record


def _session(record: Record, member: Callable[[str], bytes | None], source: str) -> None:
    raw = member("task.json")
    try:
        task = json.loads((raw or b"").decode("utf-8", "replace"))
        if not isinstance(task, dict):
            raise ValueError
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{source}: the task cannot be read") from error
    for section, rows in mapping(task.get("hyperparams")).items():
        for name, row in (rows or {}).items() if isinstance(rows, dict) else ():
            value = row.get("value") if isinstance(row, dict) else row
            kind = row.get("type") if isinstance(row, dict) else None
            record.add("config", f"{section}/{name}", _typed(value, kind), source)
    for name, row in mapping(task.get("configuration")).items():
        text = row.get("value") if isinstance(row, dict) else None
        if isinstance(text, str):
            found = _hocon.load(text)
            if isinstance(found, dict):
                record.leaves("config", str(name), found, source)
            else:
                record.add("config", str(name), text, source)
    _script(record, task.get("script"), source)
    container = task.get("container")
    if isinstance(container, dict) and container.get("image"):
        record.add("container", "image", container["image"], source)
    for name in ("metrics.jsonl", "metrics.json"):
        raw = member(name)
        if raw:
            _metrics(record, raw, name)


def _typed(value: Any, kind: Any) -> Any:
    if not isinstance(value, str):
        return value
    if kind == "NoneType" or (kind is None and not value):  # a text has its type beside it
        return None
    if kind in ("int", "float", "bool", None) or (isinstance(kind, str) and kind.startswith(("list", "dict", "tuple", "NoneType"))):
        try:
            return json.loads({"True": "true", "False": "false", "None": "null"}.get(value, value).replace("'", '"'))
        except (ValueError, RecursionError):
            return value
    return value


def _script(record: Record, script: Any, source: str) -> None:
    if not isinstance(script, dict):
        record.notes.append("ClearML recorded no script section: neither commit nor packages are known")
        return
    for key, name in (("version_num", "git_commit"), ("branch", "git_branch"), ("repository", "git_remote"), ("entry_point", "program")):
        if script.get(key):
            record.add("code", name, script[key], source)
    if script.get("diff"):
        diff_facts(record, str(script["diff"]), source)
    if script.get("binary"):
        found = re.search(r"\d+(\.\d+)+", str(script["binary"]))
        if found:
            record.add("environment", "python", found[0], source)
    requirements = script.get("requirements")
    text = requirements.get("pip") if isinstance(requirements, dict) else None
    lines = text if isinstance(text, list) else str(text or "").splitlines()
    for line in map(str, lines):
        python = re.match(r"#\s*Python\s+(\d+(?:\.\d+)+)", line)
        if python:
            record.add("environment", "python", python[1], source)
        elif line.strip() and not line.lstrip().startswith(("#", "-")):
            requirement(record, line, source)


def _metrics(record: Record, raw: bytes, source: str) -> None:
    for line in raw.decode("utf-8", "replace").splitlines():
        if not line.strip():
            continue
        try:
            events = json.loads(line)
        except (ValueError, RecursionError):
            record.cut(f"{source} was cut: what stands before the cut was read")
            break
        for event in events if isinstance(events, list) else [events]:
            if isinstance(event, dict) and isinstance(event.get("value"), (int, float)) and str(event.get("type", "")).endswith("scalar"):
                metric, variant = str(event.get("metric", "")), str(event.get("variant", ""))
                if metric.startswith(":monitor:"):
                    continue
                step = int(event["iter"]) if isinstance(event.get("iter"), int) else 0
                if metric == "Summary" and step == _SINGLE_VALUE:
                    record.point(variant, 0, float(event["value"]))
                    record.summary.add(variant)
                    continue
                record.point("/".join(x for x in (metric, variant) if x), step, float(event["value"]))
