"""run.json: readable, diffable, versioned. Written whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from collections.abc import Callable
from typing import Any

from reprodebug._base.errors import RunUnreadable, SchemaTooNew
from reprodebug._base.text import plural, visible
from reprodebug.model.events import SCHEMA_VERSION
from reprodebug.model.run import RUN_SCHEMA, Manifest, Process

NAME = "run.json"
HINT = "point at a directory made by `reprodebug capture -o DIR -- COMMAND`"
_MOST_BYTES = 256 << 20

UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""schema version -> function that makes the next version of a parsed run.json"""


def write_manifest(run: str, manifest: Manifest) -> None:
    """Replace ``run.json`` of the run directory at one stroke. Raises OSError."""
    path = os.path.join(run, NAME)
    text = json.dumps(dataclasses.asdict(manifest), indent=1, default=str) + "\n"
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w", encoding="utf-8", errors="backslashreplace") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, path)


def runs_inside(directory: str) -> str:
    """Names the runs that a directory holds, the latest first; '' where it holds none."""
    try:
        with os.scandir(directory) as entries:
            found = [(os.path.getmtime(p), p) for e in entries if os.path.isfile(p := os.path.join(e.path, NAME))]
    except OSError:
        return ""
    paths = [visible(os.path.dirname(p), 200) for _, p in sorted(found, reverse=True)]
    if not paths:
        return ""
    return f"it holds {plural(len(paths), 'run')}: {', '.join(paths[:3])}" + (", ..." if len(paths) > 3 else "")


def no_run(directory: str) -> RunUnreadable:
    """What to raise for a directory without ``run.json``."""
    return RunUnreadable(f"{directory} holds no run: it has no {NAME}", hint=runs_inside(directory) or HINT)


def read_manifest(run: str) -> Manifest:
    """Read and check ``run.json``.

    Raises RunUnreadable (missing, no JSON, another schema, wrong types) and SchemaTooNew.
    """
    path = os.path.join(run, NAME)
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):  # opening a pipe would wait for its writer
            raise RunUnreadable(f"{path} is no plain file", hint="point at a directory made by `reprodebug capture`")
        if info.st_size > _MOST_BYTES:
            raise RunUnreadable(f"{path} is too large to be a manifest", hint="point at a directory made by `reprodebug capture`")
        with open(path, encoding="utf-8", errors="replace") as f:
            value = json.load(f)
    except FileNotFoundError as error:
        raise no_run(run) from error
    except OSError as error:
        raise RunUnreadable(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from error
    except (ValueError, RecursionError) as error:
        raise RunUnreadable(f"{path} is not valid JSON", hint="it was damaged or edited: record the run again") from error
    if not isinstance(value, dict) or value.get("schema") != RUN_SCHEMA:
        raise RunUnreadable(f"{path} is no manifest of reprodebug", hint="point at a directory made by `reprodebug capture`")
    version = value.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise RunUnreadable(f"{path} does not say its schema version", hint="it was damaged or edited: record the run again")
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"{run} was recorded by a newer reprodebug (schema {version}, this one reads up to {SCHEMA_VERSION})",
            hint="pip install --upgrade reprodebug",
        )
    try:
        for old in range(version, SCHEMA_VERSION):
            value = UPGRADES[old](value)
        return _manifest(value)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise RunUnreadable(f"{path} has fields of the wrong type", hint="it was damaged or edited: record the run again") from error


def _manifest(value: dict[str, Any]) -> Manifest:
    fields = {f.name for f in dataclasses.fields(Manifest)}
    known = {k: v for k, v in value.items() if k in fields}
    known["command"] = _words(known.get("command", []))
    known["notes"] = _words(known.get("notes", []))
    known["processes"] = tuple(_process(p) for p in known.get("processes", []))
    for name in ("environment", "code", "data"):
        if not isinstance(known.get(name, {}), dict):
            raise TypeError(name)
    for name in ("cwd", "started", "ended", "level", "label"):
        if not isinstance(known.get(name, ""), str):
            raise TypeError(name)
    known["complete"] = known.get("complete") is True
    if not isinstance(known.get("exit_code"), int | None):
        raise TypeError("exit_code")
    return Manifest(**known)


def _process(value: dict[str, Any]) -> Process:
    fields = {f.name for f in dataclasses.fields(Process)}
    known = {k: v for k, v in value.items() if k in fields}
    known["argv"], known["notes"] = _words(known.get("argv", [])), _words(known.get("notes", []))
    for name in ("rank", "ordinal", "pid", "events", "steps"):
        known[name] = int(known[name])
    for name in ("environment", "coverage"):
        if not isinstance(known.get(name, {}), dict):
            raise TypeError(name)
    known["complete"] = known["complete"] is True
    if os.path.basename(known["trace"]) != known["trace"]:
        raise ValueError("a trace outside the run directory")
    return Process(**known)


def _words(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError("list expected")
    return tuple(str(v) for v in value)
