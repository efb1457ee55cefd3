"""Pachyderm: pipeline specifications, ``pachctl inspect job/commit/pipeline --raw``, and a worker's variables.

Owns input commits, image, pipeline version and the parts of a specification that change what is computed. Ids and times of jobs are identity.
"""

from __future__ import annotations

import json
import re
from typing import Any

from reprodebug.foreign import _yaml
from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

NAME = "Pachyderm"
_SPEC = (
    "transform",
    "parallelism_spec",
    "parallelismSpec",
    "datum_set_spec",
    "datumSetSpec",
    "egress",
    "reprocess_spec",
    "reprocessSpec",
    "s3_out",
    "s3Out",
)


def find(tree: Tree) -> list[str]:
    """JSON and YAML files that hold a pipeline, a job or a commit."""
    found = []
    for f in tree.files:
        leaf = f.rsplit("/", 1)[-1].lower()
        if (
            ("env" in leaf or leaf.endswith(".txt"))
            and not leaf.endswith((".py", ".md", ".json", ".yaml", ".yml"))
            and tree.size(f) < 1 << 20
        ):
            if re.search(rb"(^|\0|\n)(export )?PACH_(JOB|OUTPUT_COMMIT|DATUM)_ID=", tree.read(f, 1 << 16)):
                found.append(f)
            continue
        if f.endswith((".json", ".yaml", ".yml")) and tree.size(f) < 4 << 20 and not re.search(r"(^|/)(node_modules|site-packages)/", f):
            head = tree.read(f, 1 << 16)
            spec = re.search(rb'"?pipeline"?\s*:', head) and re.search(rb'"?(transform|input)"?\s*:', head)
            job = re.search(rb'"(pipelineVersion|pipeline_version|outputCommit|output_commit)"', head)
            commit = re.search(rb'"commit"\s*:', head) and re.search(rb'"(parentCommit|parent_commit|directProvenance|finished)"', head)
            if spec or job or commit:
                found.append(f)
    return found


def read(tree: Tree, place: str) -> Record:
    """One file. Raises Unreadable."""
    record = Record(NAME, place)
    text = tree.text(place, 4 << 20)
    if not place.lower().endswith((".json", ".yaml", ".yml")):
        lines = (line.removeprefix("export ").partition("=") for line in re.split(r"[\0\n]", text))
        _variables(record, {name: value.strip().strip("\"'") for name, equals, value in lines if equals}, place)
        return record
    try:
        rows = _documents(text) if place.endswith(".json") else _yaml.load_all(text)
    except (ValueError, RecursionError, _yaml.BadYaml) as error:
        raise Unreadable(f"{place} cannot be parsed: {str(error)[:120]}") from error
    for row in rows:
        for one in row if isinstance(row, list) else [row]:
            if isinstance(one, dict):
                _object(record, one, place)
    return record


def _documents(text: str) -> list[Any]:
    """JSON values back to back, as ``pachctl --raw`` writes several."""
    decoder, at, found = json.JSONDecoder(), 0, []
    while at < len(text):
        while at < len(text) and text[at].isspace():
            at += 1
        if at >= len(text):
            break
        value, at = decoder.raw_decode(text, at)
        found.append(value)
    return found


def _get(row: dict[str, Any], *names: str) -> Any:
    return next((row[n] for n in names if n in row), None)


def _object(record: Record, row: dict[str, Any], place: str) -> None:
    details: dict[str, Any] = row["details"] if isinstance(row.get("details"), dict) else {}
    pipeline = row.get("pipeline")
    job = row.get("job")
    named = pipeline if isinstance(pipeline, dict) else job.get("pipeline") if isinstance(job, dict) else None
    name = str(named.get("name", "")) if isinstance(named, dict) else ""
    key = f"pipeline/{name}" if name else "pipeline"
    version = _get(row, "pipelineVersion", "pipeline_version", "version")
    if version is not None and name:
        record.add("code", f"{key}/version", int(version) if str(version).isdigit() else version, place)
    transform = _get(row, "transform") or details.get("transform")
    if isinstance(transform, dict):
        if transform.get("image"):
            record.add("container", f"{key}/image", transform["image"], place)
        for part in ("cmd", "stdin"):
            if transform.get(part):
                record.add("code", f"{key}/{part}", transform[part], place)
        for variable, value in (transform.get("env") or {}).items():
            record.add("environment", f"env/{variable}", value, place)
    for part in _SPEC[1:]:
        value = _get(row, part) if part in row else details.get(part)
        if value is not None:
            record.leaves("config", f"{key}/{re.sub(r'(?<!^)(?=[A-Z])', '_', part).lower()}", value, place)
    _inputs(record, _get(row, "input") or details.get("input"), key, place, 0)
    commit = row.get("commit")
    if isinstance(commit, dict) and isinstance(commit.get("branch") or commit.get("repo"), dict):
        branch: dict[str, Any] = commit["branch"] if isinstance(commit.get("branch"), dict) else {}
        repo = (branch.get("repo") or commit.get("repo") or {}).get("name", "")
        record.add("data", f"commit/{repo}@{branch.get('name', '')}".rstrip("@"), commit.get("id"), place)
        size = _get(row, "sizeBytesUpperBound", "size_bytes_upper_bound", "sizeBytes", "size_bytes") or details.get("sizeBytes")
        if size is not None:
            record.add("data", f"commit/{repo}/bytes", int(size) if str(size).isdigit() else size, place)
    _variables(record, {str(k): v for k, v in row.items() if isinstance(v, str)}, place)


def _variables(record: Record, variables: dict[str, str], place: str) -> None:
    """What a worker's environment says: the commits of its inputs. Ids of job, datum and output are identity."""
    for name, value in variables.items():
        if name.endswith("_COMMIT") and not name.startswith("PACH_"):
            record.add("data", f"input/{name.removesuffix('_COMMIT').lower()}", value, place)


def _inputs(record: Record, node: Any, key: str, place: str, depth: int) -> None:
    if not isinstance(node, dict) or depth > 32:
        return
    for kind in ("cross", "union", "join", "group"):
        for inner in node.get(kind) or () if isinstance(node.get(kind), list) else ():
            _inputs(record, inner, key, place, depth + 1)
    pfs = node.get("pfs")
    if isinstance(pfs, dict):
        repo = str(pfs.get("repo", pfs.get("name", "")))
        if pfs.get("commit"):
            record.add("data", f"input/{repo}", pfs["commit"], place)
        for part in ("branch", "glob", "join_on", "joinOn", "lazy", "empty_files", "emptyFiles"):
            if pfs.get(part) is not None:
                record.add("data", f"input/{repo}/{re.sub(r'(?<!^)(?=[A-Z])', '_', part).lower()}", pfs[part], place)
    cron = node.get("cron")
    if isinstance(cron, dict) and cron.get("spec"):
        record.add("data", f"input/{cron.get('name', 'cron')}/cron", cron["spec"], place)
