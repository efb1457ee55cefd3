"""MLflow: the SQLite store, the file store, and the models beside them.

Owns runs, params, metrics, tags, dataset digests and the packages of logged models. Where there are several runs the newest one that
finished and is not deleted is read; ``PATH#RUN_ID`` names another. Runs nested in another are read with it, behind their name, and are not
chosen in its stead. MLflow records no package list unless a model was logged.
"""

from __future__ import annotations

import contextlib
import json
import math
import posixpath
import re
import sys
from typing import Any

from reprodebug.foreign import _sqlite, _yaml
from reprodebug.foreign.configuration_files import is_named_so, load
from reprodebug.foreign.pip import requirement
from reprodebug.foreign.protocol import MAX_POINTS, Record, Unreadable, mapping
from reprodebug.foreign.tree import Tree

NAME = "MLflow"
_MAX_METRIC = 256 << 20
_META = re.compile(r"(^|/)[0-9a-f]{32}/meta\.yaml$")
_TAGS = {
    "mlflow.source.git.commit": "git_commit", "mlflow.source.git.branch": "git_branch", "mlflow.source.git.repoURL": "git_remote",
    "mlflow.source.name": "program", "mlflow.project.entryPoint": "entry_point", "mlflow.docker.image.uri": "image", "mlflow.gitCommit": "git_commit",
}  # fmt: skip
_SYSTEM = re.compile(r"^system/")
"""metrics of the machine, which MLflow samples by itself"""
_MOST_NESTED = 500
"""runs nested in one that are read"""
_MOST_ARTIFACTS = 5000
_MADE_UP = re.compile(r"[a-z]+-[a-z]+-\d+")
"""names that MLflow gives to runs without one"""
_IDENTITY = re.compile(
    r"^mlflow\.(user|runName|source\.type|log-model|rootRunId|parentRunId|artifactLocation|note\.content|project\.backend|runColor|dbfs|databricks)"
)


def find(tree: Tree) -> list[str]:
    """Databases and file-store runs: the chosen run of each store."""
    found = [f for f in tree.files if re.search(r"\.(db|sqlite3?)$", f) and _is_store(tree, f)]
    stores: dict[str, list[str]] = {}
    for run in _run_folders(tree):  # mlruns/<experiment>/<run>
        stores.setdefault(posixpath.dirname(posixpath.dirname(run)), []).append(run)
    for several in stores.values():
        metas = {r: _meta(tree, r) for r in several}
        usable = [r for r in several if metas[r].get("lifecycle_stage") != "deleted"]
        usable = [r for r in usable if not _parent(tree, r)] or usable
        if usable:
            found.append(max(usable, key=lambda r: (str(metas[r].get("status")) in ("3", "FINISHED"), _int(metas[r].get("start_time")))))
    return found


def _run_folders(tree: Tree) -> list[str]:
    """Folders of runs in a file store; ``""`` where the tree itself is one."""
    folders = [posixpath.dirname(f) for f in tree.files if _META.search(f)]
    found = [f for f in folders if posixpath.basename(posixpath.dirname(f)) not in ("datasets", "inputs", "outputs", "models")]
    if tree.exists("meta.yaml") and not tree.single:
        found += [""] if re.search(r"^run_(uu)?id:", tree.text("meta.yaml", 1 << 20), re.M) else []
    return found


def _parent(tree: Tree, run: str) -> str:
    """Id of the run that a run of a file store is nested in."""
    name = f"{run}/tags/mlflow.parentRunId".lstrip("/")
    return tree.text(name, 4096).strip() if tree.exists(name) else ""


def _int(value: Any) -> int:
    try:
        return int(value or 0)
    except (TypeError, ValueError):
        return 0


def runs(tree: Tree) -> list[str]:
    """Every run that is not deleted, as places."""
    found = []
    for f in tree.files:
        if re.search(r"\.(db|sqlite3?)$", f) and _is_store(tree, f):
            with contextlib.suppress(Unreadable), _sqlite.opened(tree, f) as db:
                rows = db.execute("select run_uuid from runs where lifecycle_stage != 'deleted' order by start_time").fetchall()
                found += [f"{f}#{row[0]}" for row in rows]
    return found + [r for r in _run_folders(tree) if _meta(tree, r).get("lifecycle_stage") != "deleted"]


def _is_store(tree: Tree, name: str) -> bool:
    try:
        with _sqlite.opened(tree, name) as db:
            return {"runs", "params", "metrics", "experiments"} <= _sqlite.tables(db)
    except Unreadable:
        return posixpath.basename(name) == "mlflow.db"  # that it is damaged is said by reading it


def read(tree: Tree, place: str) -> Record:
    """One run. Raises Unreadable."""
    record = Record(NAME, place, few=True)
    name, _, wanted = place.partition("#")
    if re.search(r"\.(db|sqlite3?)$", name):
        logged = _database(tree, name, wanted, record)
    else:
        run = _files(tree, place, record)
        logged = [run, *_nested_files(tree, place, run, record)]
    for run in reversed(logged):  # one program made them all; what the outer run logged counts
        _models(tree, run, record)
    _artifacts(tree, logged[0], record)
    if not any(key.startswith("package/") for _, key in record.facts):
        record.notes.append("MLflow recorded no package list: that needs a logged model")
    return record


def _database(tree: Tree, name: str, wanted: str, record: Record) -> list[str]:
    """Read a run and those that are nested in it; their ids."""
    with _sqlite.opened(tree, name) as db:
        rows = db.execute(
            "select r.run_uuid, r.status, p.value, n.value from runs r"
            " left join tags p on p.run_uuid = r.run_uuid and p.key = 'mlflow.parentRunId'"
            " left join tags n on n.run_uuid = r.run_uuid and n.key = 'mlflow.runName'"
            " where r.lifecycle_stage != 'deleted' order by (r.status = 'FINISHED') desc, r.start_time desc"
        ).fetchall()
        usable = [r for r in rows if str(r[0]).startswith(wanted)] if wanted else [r for r in rows if not r[2]] or rows
        if not usable:
            raise Unreadable(f"{name} holds no run" + (f" {wanted}" if wanted else ""))
        run = str(usable[0][0])
        if len(usable) > 1:
            record.notes.append(
                f"{name} holds {len(usable)} runs: the newest finished one, {run[:8]}, was read; name another as PATH#RUN_ID"
            )
        if str(usable[0][1]) not in ("FINISHED", "3"):
            record.cut(f"the run {run[:8]} did not finish ({usable[0][1]})")
        _database_run(db, run, name, record)
        nested = [(str(r[0]), str(r[3] or "")) for r in reversed(rows) if r[2] == run][:_MOST_NESTED]
        for (child, _), label in zip(nested, _labels([n for _, n in nested]), strict=True):
            inner = Record(NAME, child)
            _database_run(db, child, name, inner)
            _nest(record, inner, label)
    return [run, *(child for child, _ in nested)]


def _database_run(db: Any, run: str, name: str, record: Record) -> None:
    for key, value in db.execute("select key, value from params where run_uuid = ?", (run,)):
        record.add("config", str(key), value, name)
    for key, value in db.execute("select key, value from tags where run_uuid = ?", (run,)):
        _tag(record, str(key), value, name)
    known = _sqlite.tables(db)
    names = "latest_metrics" if "latest_metrics" in known else "metrics"
    for key in [r[0] for r in db.execute(f"select distinct key from {names} where run_uuid = ?", (run,))]:
        if not _SYSTEM.match(str(key)):
            _metric(record, db, run, key)
    if {"datasets", "inputs"} <= known:
        query = "select d.name, d.digest, d.dataset_source, d.dataset_profile from inputs i join datasets d on d.dataset_uuid = i.source_id where i.destination_id = ?"
        for row in db.execute(query, (run,)):
            _dataset(record, row, name)


def _labels(names: list[str]) -> list[str]:
    """What tells nested runs apart, the oldest first: their names, or their number where those were made up by MLflow or are not unique."""
    own = [n for n in names if n and not _MADE_UP.fullmatch(n)]
    unique = len(own) == len(names) == len(set(own))
    return names if unique else [f"nested {n}" for n in range(len(names))]


def _nest(record: Record, inner: Record, label: str) -> None:
    """The facts of a nested run, behind its label."""
    for fact in inner.facts.values():
        if fact.section in ("config", "data"):
            target = fact.derived if isinstance(fact.derived, str) else ""
            record.add(fact.section, f"{label}/{fact.key}", fact.value, fact.source, derived=f"{label}/{target}" if target else "")
    record.complete &= inner.complete
    record.notes += [n for n in inner.notes if n not in record.notes and "lie outside" not in n]
    for name, points in inner.series.items():
        record.points(f"{label}/{name}", list(points), list(points.values()))


def _metric(record: Record, db: Any, run: str, key: Any) -> None:
    """One series; where a step was written twice, the later time counts."""
    where = "from metrics where run_uuid = ? and key = ?"
    rows = db.execute(f"select step, case when is_nan then null else value end {where} limit {MAX_POINTS}", (run, key)).fetchall()
    values = [r[1] for r in rows]
    steps = [r[0] for r in rows]
    if set(map(type, values)) != {float} or set(map(type, steps)) != {int} or len(set(steps)) != len(steps):
        rows = db.execute(f"select step, case when is_nan then null else value end {where} order by timestamp, step", (run, key)).fetchmany(
            MAX_POINTS
        )
        steps, values = [_int(r[0]) for r in rows], [_number(r[1]) for r in rows]
    if any(abs(v) >= sys.float_info.max for v in values):  # what the database has for infinity
        values = [math.copysign(math.inf, v) if abs(v) >= sys.float_info.max else v for v in values]
    record.points(str(key), steps, values)


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
                own = f"{name}/{inner}" if key == "profile" else f"{name}/source.{inner}"
                record.add("data", own, value, source, derived=name)


def _tag(record: Record, key: str, value: Any, source: str) -> None:
    if key in _TAGS:
        section = "container" if _TAGS[key] == "image" else "code"
        record.add(section, _TAGS[key], value if _TAGS[key] != "program" else posixpath.basename(str(value)), source)
    elif not _IDENTITY.match(key):
        record.add("config", f"tag/{key}", value, source)


def _meta(tree: Tree, run: str) -> dict[str, Any]:
    try:
        found = _yaml.load(tree.text(f"{run}/meta.yaml".lstrip("/"), 1 << 20))
    except (OSError, _yaml.BadYaml):
        return {}
    return found if isinstance(found, dict) else {}


def _files(tree: Tree, run: str, record: Record, *, nested: bool = False) -> str:
    meta = _meta(tree, run)
    if not meta:
        raise Unreadable(f"{run}/meta.yaml cannot be read")
    store = posixpath.dirname(posixpath.dirname(run))
    siblings = [
        r
        for r in ([] if nested else runs(tree))
        if run and posixpath.dirname(posixpath.dirname(r)) == store and (r == run or not _parent(tree, r))
    ]
    if len(siblings) > 1:
        record.notes.append(
            f"{store or '.'} holds {len(siblings)} runs: {posixpath.basename(run)[:8]} was read; name another as PATH#RUN_ID"
        )
    if str(meta.get("status", "3")) not in ("3", "FINISHED"):
        record.cut(f"the run {posixpath.basename(run)[:8] or '.'} did not finish")
    seen: list[Any] = [None, []]
    for path in tree.below(run):
        kind, _, key = path[len(run) + 1 if run else 0 :].partition("/")
        if kind == "params":
            record.add("config", key, tree.text(path).rstrip("\n"), path)
        elif kind == "tags":
            _tag(record, key, tree.text(path).rstrip("\n"), path)
        elif kind == "metrics" and not _SYSTEM.match(key):
            _metric_file(record, key, tree.read(path, _MAX_METRIC), path, seen)
    inputs = [f for f in tree.below(f"{run}/inputs".lstrip("/")) if f.endswith("meta.yaml")]
    store = posixpath.dirname(run)
    if inputs and not run:
        record.notes.append("digests of the data sets lie outside the run's own directory: name the store, PATH/mlruns#RUN_ID")
    for path in inputs:
        source = str(mapping(_yaml.load(tree.text(path))).get("source_id", ""))
        dataset = f"{store}/datasets/{source}/meta.yaml"
        if tree.exists(dataset):
            found = mapping(_yaml.load(tree.text(dataset)))
            _dataset(record, (found.get("name"), found.get("digest"), found.get("source"), found.get("profile")), dataset)
    return posixpath.basename(run) or str(meta.get("run_id") or meta.get("run_uuid") or "")


def _nested_files(tree: Tree, place: str, run: str, record: Record) -> list[str]:
    """Read the runs of a file store that are nested in the one that was read; their ids."""
    beside = [r for r in _run_folders(tree) if r and r != place and posixpath.dirname(r) == posixpath.dirname(place)] if place else []
    nested = [(r, m) for r in beside if _parent(tree, r) == run and (m := _meta(tree, r)).get("lifecycle_stage") != "deleted"]
    nested = sorted(nested, key=lambda x: _int(x[1].get("start_time")))[:_MOST_NESTED]
    labels = _labels([str(m.get("run_name") or "") for _, m in nested])
    for (folder, _), label in zip(nested, labels, strict=True):
        inner = Record(NAME, folder)
        _files(tree, folder, inner, nested=True)
        _nest(record, inner, label)
    return [posixpath.basename(folder) for folder, _ in nested]


def _metric_file(record: Record, key: str, raw: bytes, path: str, seen: list[Any]) -> None:
    """Lines of ``timestamp value step`` (3.x may write more words); the last of a step counts. A cut last line is left out.
    ``seen``: the steps of the series before, as written and as numbers."""
    whole, _, rest = raw.rpartition(b"\n")
    if re.fullmatch(rb"\S+ \S+ \d+(?: .*)?", rest):
        before = whole.rpartition(b"\n")[2].split()
        # of a step that was cut inside its digits less is left than the step before it
        if len(before) < 3 or not before[2].isdigit() or int(rest.split()[2]) > int(before[2]):
            whole += b"\n" + rest
    words = whole.split()
    if len(words) == 3 * (whole.count(b"\n") + 1):
        try:
            said = words[2::3]
            if said != seen[0]:  # most series of a run have the same steps
                seen[:] = [said, list(map(int, said))]
            record.points(key, seen[1], list(map(float, words[1::3])))
            return
        except (ValueError, OverflowError):
            pass
    steps, values = [], []
    for line in whole.decode("utf-8", "replace").splitlines():
        parts = line.split()
        if len(parts) >= 2:
            steps.append(int(parts[2]) if len(parts) > 2 and parts[2].lstrip("-").isdigit() else 0)
            values.append(_number(parts[1]))
    record.points(key, steps, values)
    if (rest and not whole.endswith(rest)) or not raw:
        record.cut(f"{path} was cut: what stands before the cut was read")


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


def _artifacts(tree: Tree, run: str, record: Record) -> None:
    """Configuration files that a run logged whole (``log_dict``, ``log_artifact``), without those of its models."""
    own = [(f, m[1]) for f in tree.files if (m := re.search(rf"(?:^|/{re.escape(run)}/|^{re.escape(run)}/)artifacts/(.+)$", f))]
    models = {posixpath.dirname(f) + "/" for f, _ in own if posixpath.basename(f) == "MLmodel"}
    known = {key for section, key in record.facts if section == "config"}
    for path, name in own[:_MOST_ARTIFACTS]:
        if not is_named_so(name) or path.startswith(tuple(models)) or tree.size(path) > 1 << 20:
            continue
        try:
            found = load(tree, path)
        except Unreadable as error:
            record.notes.append(str(error.message))
            continue
        if isinstance(found, dict):
            inner = Record(NAME, path)
            inner.leaves("config", "", found, path)
            for fact in inner.facts.values():  # what is a parameter as well is told once
                record.add("config", f"{name}:{fact.key}", fact.value, path, derived=fact.key if fact.key in known else "")
