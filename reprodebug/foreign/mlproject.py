"""MLflow projects: ``MLproject`` and the ``python_env.yaml`` that it names.

Owns the defaults and commands of entry points, the image, and the interpreter and packages of ``python_env.yaml``. A ``conda.yaml`` and
requirement files are read by their own readers; what lies beside a logged model, by MLflow's.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

from reprodebug.foreign import _yaml
from reprodebug.foreign.pip import requirement
from reprodebug.foreign.protocol import Record, Unreadable, mapping, rows
from reprodebug.foreign.tree import Tree

NAME = "MLflow project"
_NAMES = re.compile(r"(^|/)(MLproject|python_env\.ya?ml)$")
_ELSEWHERE = re.compile(r"(^|/)(mlruns|mlartifacts|site-packages)/")


def find(tree: Tree) -> list[str]:
    """The files of projects."""
    found = [f for f in tree.files if _NAMES.search(f) and not _ELSEWHERE.search(f)]
    return [f for f in found if not tree.exists(posixpath.join(posixpath.dirname(f), "MLmodel"))]


def read(tree: Tree, place: str) -> Record:
    """One file. Raises Unreadable."""
    record = Record(NAME, place)
    try:
        found = _yaml.load(tree.text(place, 1 << 20))
    except _yaml.BadYaml as error:
        raise Unreadable(f"{place} cannot be parsed: {error.message}") from error
    if not isinstance(found, dict):
        raise Unreadable(f"{place} {'is empty' if found is None else 'holds no mapping'}")
    if place.endswith("MLproject"):
        _project(record, found, place)
    else:
        _environment(record, found, place)
    return record


def _project(record: Record, found: dict[Any, Any], place: str) -> None:
    for name, entry in mapping(found.get("entry_points")).items():
        prefix = "" if name == "main" else f"{name}/"
        for parameter, value in mapping(mapping(entry).get("parameters")).items():
            if isinstance(value, dict) and "default" in value:
                record.add("config", f"{prefix}{parameter}", value["default"], place, note="the default")
        if mapping(entry).get("command"):
            record.add("code", f"{prefix}command", mapping(entry)["command"], place)
    docker = mapping(found.get("docker_env"))
    if docker.get("image"):
        record.add("container", "image", docker["image"], place)
    record.notes.append(f"{place} does not say which parameters a run was given")


def _environment(record: Record, found: dict[Any, Any], place: str) -> None:
    if found.get("python") is not None:
        record.add("environment", "python", str(found["python"]), place)
    lines = [x for key in ("build_dependencies", "dependencies") for x in rows(found.get(key)) if isinstance(x, str)]
    own = [x for x in lines if not x.startswith("-")]
    for line in own:
        requirement(record, line, place)
    record.rank = 2 if own and all("==" in x or "@" in x for x in own) else 1
