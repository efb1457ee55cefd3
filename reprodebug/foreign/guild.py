"""Guild AI: ``.guild/runs/<id>/.guild/`` with its attributes, one YAML file each.

Owns flags, the environment, packages, the interpreter, the commit, and the manifest with the hashes of source files and of data. The scalars
stand in event files, which the TensorBoard reader knows. Ids, labels, times, hosts and Guild's own seed are identity.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from typing import Any

from reprodebug.foreign import _yaml
from reprodebug.foreign.pip import requirement
from reprodebug.foreign.protocol import Record, Unreadable, mapping, rows
from reprodebug.foreign.tree import Tree

NAME = "Guild AI"
_OPREF = re.compile(r"(?:(.*)/)?\.guild/opref$")
_OWN = re.compile(r"(GUILD|FLAG)_?\w*|FLAGS_DEST|(CMD|PROJECT|RUN)_(DIR|ID)|LOG_LEVEL|PYTHONUNBUFFERED")
"""variables that Guild sets for each run"""


def find(tree: Tree) -> list[str]:
    """The newest run of each home of Guild."""
    newest: dict[str, str] = {}
    for run in runs(tree):
        newest[posixpath.dirname(run)] = run
    return list(newest.values())


def runs(tree: Tree) -> list[str]:
    """Folders of runs, the oldest first."""
    found = [match[1] or "" for f in tree.files if (match := _OPREF.match(f))]
    return sorted(found, key=lambda run: (str(_attribute(tree, run, "started") or ""), run))


def _attribute(tree: Tree, run: str, name: str) -> Any:
    path = posixpath.join(run, ".guild/attrs", name)
    if not tree.exists(path):
        return None
    try:
        return _yaml.load(tree.text(path))
    except _yaml.BadYaml as error:
        raise Unreadable(f"{path} cannot be parsed") from error


def read(tree: Tree, place: str) -> Record:
    """One run. Raises Unreadable where nothing of it can be had."""
    record = Record(NAME, place, rank=3)
    said: dict[str, Any] = {}
    for name in ("flags", "env", "platform", "pip_freeze", "vcs_commit", "exit_status"):
        try:
            said[name] = _attribute(tree, place, name)
        except Unreadable as error:
            record.cut(str(error.message))
            record.unknown |= {"config" if name == "flags" else "environment"}
    attributes = posixpath.join(place, ".guild/attrs")
    for flag, value in mapping(said.get("flags")).items():
        record.leaves("config", str(flag), value, f"{attributes}/flags")
    for variable, value in mapping(said.get("env")).items():
        if not _OWN.fullmatch(str(variable)):
            record.add("environment", f"env/{variable}", value, f"{attributes}/env")
    python = re.match(r"\d+\.\d+[\w.+]*", str(mapping(said.get("platform")).get("python_version")))
    if python:
        record.add("environment", "python", python[0], f"{attributes}/platform")
    packages = [line for line in rows(said.get("pip_freeze")) if isinstance(line, str)]
    for line in packages:
        requirement(record, line, f"{attributes}/pip_freeze")
    if not packages:
        record.notes.append("Guild recorded no package list of this run")
    commit = re.search(r"\b[0-9a-f]{40}\b", str(said.get("vcs_commit")))
    if commit:
        record.add("code", "git_commit", commit[0], f"{attributes}/vcs_commit")
    _manifest(tree, posixpath.join(place, ".guild/manifest"), record)
    if said.get("exit_status") != 0:
        record.cut(f"the run {posixpath.basename(place)[:8] or '.'} did not end with success")
    if not record.facts:
        raise Unreadable(f"{place or '.'}: nothing of this Guild run can be read")
    return record


def _manifest(tree: Tree, path: str, record: Record) -> None:
    """Lines of kind (``s`` source, ``d`` data), path in the run, hash and origin."""
    for line in tree.lines(path) if tree.exists(path) else ():
        try:
            kind, name, digest = shlex.split(line)[:3]
        except ValueError:
            continue
        if re.fullmatch(r"[0-9a-f]{32,64}", digest):
            record.add("data" if kind == "d" else "code", name if kind == "d" else f"file/{name}", digest, path)
