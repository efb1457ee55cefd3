"""MLflow: the SQLite store, the file store, and the models beside them.

Owns runs, params, metrics, tags, dataset digests and the packages of logged models. Where there are several runs the newest one that
finished and is not deleted is read; ``mlflow.db#<run id>`` names another. MLflow records no package list unless a model was logged.
"""

from __future__ import annotations

import json
import math
import posixpath
import re
from typing import Any

from reprodebug.foreign import _sqlite, _yaml
from reprodebug.foreign.pip import requirement
from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

NAME = "MLflow"
_TAGS = {
    "mlflow.source.git.commit": "git_commit", "mlflow.source.git.branch": "git_branch", "mlflow.source.git.repoURL": "git_remote",
    "mlflow.source.name": "program", "mlflow.project.entryPoint": "entry_point", "mlflow.docker.image.uri": "image", "mlflow.gitCommit": "git_commit",
}  # fmt: skip
_IDENTITY = re.compile(
    r"^mlflow\.(user|runName|source\.type|log-model|rootRunId|parentRunId|artifactLocation|note\.content|project\.backend|runColor|dbfs|databricks)"
)


def find(tree: Tree) -> list[str]:
    """Databases and file-store runs: the chosen run of each store."""
    found = [f for f in tree.files if re.search(r"\.(db|sqlite3?)$", f) and _is_store(tree, f)]
    stores: dict[str, list[str]] = {}
    for meta in tree.files:
        if re.search(r"(^|/)[0-9a-f]{32}/meta\.yaml$", meta):
            run = posixpath.dirname(meta)
            stores.setdefault(posixpath.dirname(posixpath.dirname(run)), []).append(run)
    for several in stores.values():
        usable = [r for r in several if _meta(tree, r).get("lifecycle_stage") != "deleted"]
        if usable:
            found.append(
                max(
                    usable,
                    key=lambda r: (str(_meta(tree, r).get("status")) in ("3", "FINISHED"), int(_meta(tree, r).get("start_time") or 0)),
                )
            )
    return found


def runs(tree: Tree) -> list[str]:
    """Every run that is not deleted, as places."""
    found = []
    for f in tree.files:
        if re.search(r"\.(db|sqlite3?)$", f) and _is_store(tree, f):
            with _sqlite.opened(tree, f) as db:
                rows = db.execute("select run_uuid from runs where lifecycle_stage != 'deleted' order by start_time").fetchall()
                found += [f"{f}#{row[0]}" for row in rows]
        elif re.search(r"(^|/)[0-9a-f]{32}/meta\.yaml$", f):
            found.append(posixpath.dirname(f))
    return found


def _is_store(tree: Tree, name: str) -> bool:
    try:
        with _sqlite.opened(tree, name) as db:
            return {"runs", "params", "metrics", "experiments"} <= _sqlite.tables(db)
    except Unreadable:
        return False


def read(tree: Tree, place: str) -> Record:
    """One run. Raises Unreadable."""
    record = Record(NAME, place)
    name, _, wanted = place.partition("#")
    run = _database(tree, name, wanted, record) if re.search(r"\.(db|sqlite3?)$", name) else _files(tree, place, record)
    _models(tree, run, record)
    if not any(key.startswith("package/") for _, key in record.facts):
        record.notes.append("MLflow recorded no package list: that needs a logged model")
    return record


def _database(tree: Tree, name: str, wanted: str, record: Record) -> str:
    with _sqlite.opened(tree, name) as db:
        rows = db.execute(
            "select run_uuid, status, start_time from runs where lifecycle_stage != 'deleted' order by (status = 'FINISHED') desc, start_time desc"
        ).fetchall()
        if wanted:
            rows = [r for r in rows if str(r[0]).startswith(wanted)]
        if not rows:
            raise Unreadable(f"{name} holds no run" + (f" {wanted}" if wanted else ""))
        run = str(rows[0][0])
        if len(rows) > 1:
            record.notes.append(
                f"{name} holds {len(rows)} runs: the newest finished one, {run[:8]}, was read; name another as {name}#RUN_ID"
            )
        if str(rows[0][1]) not in ("FINISHED", "3"):
            record.notes.append(f"the run {run[:8]} did not finish ({rows[0][1]})")
        for key, value in db.execute("select key, value from params where run_uuid = ?", (run,)):
            record.add("config", str(key), value, name)
        for key, value in db.execute("select key, value from tags where run_uuid = ?", (run,)):
            _tag(record, str(key), value, name)
        for key, value, step, nan in db.execute(
            "select key, value, step, is_nan from metrics where run_uuid = ? order by step, timestamp", (run,)
        ):
            record.point(str(key), int(step or 0), math.nan if nan else _number(value))
        known = _sqlite.tables(db)
        if {"datasets", "inputs"} <= known:
            query = "select d.name, d.digest, d.dataset_source, d.dataset_profile from inputs i join datasets d on d.dataset_uuid = i.source_id where i.destination_id = ?"
            for row in db.execute(query, (run,)):
                _dataset(record, row, name)
    return run


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _dataset(record: Record, row: Any, source: str) -> None:
    name, digest, origin, profile = (str(x) if x is not None else "" for x in row)
    record.add("data", name, digest, source)
    for key, text in (("source", origin), ("profile", profile)):
        try:
            found = json.loads(text) if text else None
        except (ValueError, RecursionError):
            found = text
        if isinstance(found, dict) and found:
            for inner, value in found.items():
                record.add("data", f"{name}/{inner}" if key == "profile" else f"{name}/source.{inner}", value, source)


def _tag(record: Record, key: str, value: Any, source: str) -> None:
    if key in _TAGS:
        section = "container" if _TAGS[key] == "image" else "code"
        record.add(section, _TAGS[key], value if _TAGS[key] != "program" else posixpath.basename(str(value)), source)
    elif not _IDENTITY.match(key):
        record.add("config", f"tag/{key}", value, source)


def _meta(tree: Tree, run: str) -> dict[str, Any]:
    try:
        found = _yaml.load(tree.text(f"{run}/meta.yaml", 1 << 20))
    except (OSError, _yaml.BadYaml):
        return {}
    return found if isinstance(found, dict) else {}


def _files(tree: Tree, run: str, record: Record) -> str:
    meta = _meta(tree, run)
    if not meta:
        raise Unreadable(f"{run}/meta.yaml cannot be read")
    siblings = [
        f
        for f in tree.files
        if re.search(r"(^|/)[0-9a-f]{32}/meta\.yaml$", f) and posixpath.dirname(posixpath.dirname(f)) == posixpath.dirname(run)
    ]
    if len(siblings) > 1:
        record.notes.append(
            f"{posixpath.dirname(run) or '.'} holds {len(siblings)} runs: the newest finished one was read; name another run's directory"
        )
    for path in tree.below(run):
        kind, _, key = path[len(run) + 1 :].partition("/")
        if kind == "params":
            record.add("config", key, tree.text(path).rstrip("\n"), path)
        elif kind == "tags":
            _tag(record, key, tree.text(path).rstrip("\n"), path)
        elif kind == "metrics":
            for line in tree.lines(path):
                words = line.split()
                if len(words) >= 2:
                    record.point(key, int(words[2]) if len(words) > 2 and words[2].lstrip("-").isdigit() else 0, _number(words[1]))
    inputs = [f for f in tree.below(f"{run}/inputs") if f.endswith("meta.yaml")]
    store = posixpath.dirname(run)
    for path in inputs:
        source = str((_yaml.load(tree.text(path)) or {}).get("source_id", ""))
        dataset = f"{store}/datasets/{source}/meta.yaml"
        if tree.exists(dataset):
            found = _yaml.load(tree.text(dataset)) or {}
            _dataset(record, (found.get("name"), found.get("digest"), found.get("source"), found.get("profile")), dataset)
    return posixpath.basename(run)


def _models(tree: Tree, run: str, record: Record) -> None:
    """Packages and interpreter of the models that a run logged."""
    own = []
    for path in tree.files:
        if posixpath.basename(path) == "MLmodel":
            try:
                found = _yaml.load(tree.text(path))
            except _yaml.BadYaml:
                continue
            if isinstance(found, dict) and (str(found.get("run_id", "")) == run or f"/{run}/" in f"/{path}"):
                own.append((path, found))
    for path, found in own:
        folder = posixpath.dirname(path)
        python = ((found.get("flavors") or {}).get("python_function") or {}).get("python_version")
        if python:
            record.add("environment", "python", str(python), path)
        for name in ("requirements.txt",):
            if tree.exists(f"{folder}/{name}"):
                for line in tree.lines(f"{folder}/{name}"):
                    if line.strip() and not line.startswith(("#", "-")):
                        requirement(record, line, f"{folder}/{name}")
        signature = found.get("signature")
        if isinstance(signature, dict):
            for key in ("inputs", "outputs"):
                if signature.get(key):
                    record.add("data", f"model signature/{key}", signature[key], path)
