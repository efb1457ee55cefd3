"""What training loops write by themselves: transformers' Trainer, Lightning's and Keras' CSV logs, DVCLive, Sacred, Ray Tune.

Owns ``trainer_state.json`` and ``training_args.bin`` (a pickle, of which the plain values are read without unpickling it), ``metrics.csv``,
``progress.csv`` and the like, ``dvclive/plots/metrics/*.tsv``, Sacred's ``run.json``, ``config.json``, ``metrics.json``, and ``result.json`` with a
line for each step. Of several runs of one system in a folder the newest is read. Times, hosts, rates and places are identity.
"""

from __future__ import annotations

import csv
import io
import json
import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

from reprodebug.foreign import _pickled
from reprodebug.foreign.pip import requirement
from reprodebug.foreign.protocol import Record, Unreadable, leaves, mapping, rows
from reprodebug.foreign.tree import Tree

NAME = "training log"
_CSV = re.compile(r"(^|/)((metrics|progress|history|train_log|training_log|log|results)\.csv|(train|training|history)\.log)$")
_RESULTS = re.compile(r"(^|/)(all|train|eval|test|predict)_results\.json$")
_TSV = re.compile(r"(?:(.*)/)?plots/metrics/.+\.tsv$")
"""of DVCLive, whose folder may have any name"""
_LINES = re.compile(r"(^|/)(result\.json|(metrics|train_log|log|progress|history)\.jsonl)$")
_STEPS = ("step", "global_step", "_step", "training_iteration", "iteration", "iter", "timesteps_total", "epoch")
_IDENTITY = re.compile(
    r"(^|[/._ ])(time(stamp|_(this_iter|total|since_restore|elapsed))?(_s|_ms)?|\w*_time|wall\w*|date|timestamp|duration|elapsed\w*|hostname|pid|node_ip|\w*_id|trial_\w+|runtime|\w+_runtime|\w+_per_second\w*)$"
)
_PLACES = re.compile(
    r"(_dir|_path|^run_name|^hub_\w+|^local_rank|^_n_gpu|^distributed_state|^deepspeed_plugin|^accelerator_config|^__\w+)$"
)
_MOST_BYTES = 256 << 20


def find(tree: Tree) -> list[str]:
    """Places: a file, or the folder of a Sacred run; the newest checkpoint, version or run where there are several."""
    found = [f for f in tree.files if _CSV.search(f) and _columns(tree, f)]
    found += [f for f in tree.files if _LINES.search(f) and _first_line(tree, f) is not None]
    found = _newest(found, r"(^|/)version_(\d+)/")
    results = [f for f in tree.files if _RESULTS.search(f)]
    whole = {posixpath.dirname(f) for f in results if posixpath.basename(f) == "all_results.json"}
    found += [f for f in results if posixpath.dirname(f) not in whole or posixpath.basename(f) == "all_results.json"]
    for name in ("trainer_state.json", "training_args.bin"):
        own = [f for f in tree.files if posixpath.basename(f) == name]
        outer = {posixpath.dirname(f) for f in own}
        # a Trainer leaves both in its folder and in each checkpoint below
        own = [f for f in own if posixpath.dirname(posixpath.dirname(f)) not in outer or not re.search(r"(^|/)checkpoint-\d+/", f)]
        found += _newest(own, r"(^|/)checkpoint-(\d+)/")
    found += sorted({match[1] or "" for f in tree.files if (match := _TSV.match(f)) and _is_live(tree, f)})
    return found + _newest([posixpath.dirname(f) or "." for f in tree.files if is_sacred(tree, f)], r"(^|/)(\d+)$")


def _newest(places: list[str], number: str) -> list[str]:
    """Of places that differ in one number the highest."""
    groups: dict[str, tuple[int, str]] = {}
    for place in places:
        found = re.search(number, place)
        key = f"{place[: found.start(2)]}*{place[found.end(2) :]}" if found else place
        own = (int(found[2]) if found else 0, place)
        groups[key] = max(groups.get(key, own), own)
    return sorted(place for _, place in groups.values())


def _is_live(tree: Tree, name: str) -> bool:
    return name.endswith(".tsv") and "step" in tree.text(name, 1 << 12).partition("\n")[0].split("\t")


def is_sacred(tree: Tree, name: str) -> bool:
    """Whether this is the ``run.json`` of a Sacred run."""
    return posixpath.basename(name) == "run.json" and all(
        w in tree.read(name, 1 << 20) for w in (b'"experiment"', b'"command"', b'"heartbeat"')
    )


def read(tree: Tree, place: str) -> Record:
    """What one of these says. Raises Unreadable."""
    name = posixpath.basename(place)
    if name == "trainer_state.json":
        return _trainer(tree, place)
    if name == "training_args.bin":
        return _arguments(tree, place)
    record = Record(NAME, place)
    if any(_is_live(tree, f) for f in tree.below(posixpath.join(place, "plots/metrics"))):
        _live_metrics(tree, place, record)
    elif _RESULTS.search(place):
        return _results(tree, place)
    elif _CSV.search(place):
        _table(tree, place, record)
    elif _LINES.search(place):
        _lines(tree, place, record)
    else:
        return _sacred(tree, "" if place == "." else place)
    return record


# tables


def _columns(tree: Tree, name: str) -> str:
    """The column of the steps; ``""`` where the file is no log of steps."""
    head = tree.text(name, 1 << 16).splitlines()[:1]
    columns = {c.strip().lower(): c for row in csv.reader(head) for c in row}
    return next((columns[s] for s in _STEPS if s in columns), "") if len(columns) > 1 else ""


def _table(tree: Tree, place: str, record: Record) -> None:
    text = tree.text(place, _MOST_BYTES)
    step = _columns(tree, place)
    if not text.endswith("\n"):  # the last number may be the half of one
        text = text[: text.rfind("\n") + 1]
        record.cut(f"{place} ends within a line, which was left out")
    try:
        for row in csv.DictReader(io.StringIO(text)):
            _row(record, step, {k: v for k, v in row.items() if k is not None and isinstance(v, str)}, float)
    except csv.Error:
        record.cut(f"{place} was cut: what stands before the cut was read")


def _row(record: Record, step: str, row: dict[str, Any], number: Callable[[Any], float]) -> None:
    """One step; a number that is not there or is none is left out."""
    try:
        at = number(row[step])
        at = int(at) if at == int(at) else at
    except (KeyError, ValueError, TypeError, OverflowError):
        return
    for key, value in row.items():
        name = key.strip()
        if key != step and name.lower() not in _STEPS and not _IDENTITY.search(name.lower()):
            try:
                record.point(name, at, number(value))
            except (ValueError, TypeError):
                continue


def _live_metrics(tree: Tree, place: str, record: Record) -> None:
    start = posixpath.join(place, "plots/metrics/")
    for path in tree.below(start):
        if path.endswith(".tsv"):
            whole, end, rest = tree.text(path, _MOST_BYTES).rpartition("\n")
            if rest or not end:  # of a cut line the number may be the half of one
                record.cut(f"{path} {'was cut: what stands before the cut was read' if end else 'holds no whole line'}")
            for row in csv.DictReader(whole.splitlines(), delimiter="\t"):
                values = [v for k, v in row.items() if k not in ("step", "timestamp") and isinstance(v, str)]
                if values:
                    _row(record, "step", {"step": row.get("step"), path[len(start) : -4]: values[-1]}, float)


def _first_line(tree: Tree, name: str) -> dict[str, Any] | None:
    """The first line where it is a mapping with numbers and a step."""
    try:
        found = json.loads(tree.text(name, 1 << 16).partition("\n")[0])
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and any(s in found for s in _STEPS) else None


def _lines(tree: Tree, place: str, record: Record) -> None:
    first = _first_line(tree, place) or {}
    step = next((s for s in _STEPS if s in first), "step")
    for line in tree.text(place, _MOST_BYTES).splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            record.cut(f"{place} was cut: what stands before the cut was read")
            return
        if isinstance(row, dict):
            _row(record, step, dict(leaves({k: v for k, v in row.items() if k != "config"})), _plain_number)


def _plain_number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(value)
    return float(value)


# transformers


def _trainer(tree: Tree, place: str) -> Record:
    record = Record("transformers", place)
    try:
        found = json.loads(tree.text(place, _MOST_BYTES))
        history = found["log_history"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unreadable(f"{place} is no state of a Trainer") from error
    for key in ("max_steps", "num_train_epochs", "train_batch_size", "eval_steps", "save_steps", "logging_steps"):
        if isinstance(found.get(key), (int, float)):
            record.add("config", f"trainer.{key}", found[key], place)
    for row in rows(history):
        if isinstance(row, dict):
            _row(record, "step", row, _plain_number)
    return record


def _results(tree: Tree, place: str) -> Record:
    """The numbers that a Trainer ends with."""
    record = Record("transformers", place)
    try:
        found = json.loads(tree.text(place, 1 << 20))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{place} cannot be parsed") from error
    for key, value in mapping(found).items():
        if isinstance(value, (int, float)) and not isinstance(value, bool) and key != "epoch" and not _IDENTITY.search(key):
            record.point(f"results.{key}", 0, float(value))
            record.summary.add(f"results.{key}")
    return record


def _arguments(tree: Tree, place: str) -> Record:
    record = Record("transformers", place)
    try:
        with zipfile.ZipFile(tree.path(place)) as z:
            name = next(n for n in z.namelist() if n.endswith("/data.pkl"))
            with z.open(name) as f:
                found = _pickled.walk(f.read(1 << 20))
    except (zipfile.BadZipFile, zlib.error, OSError, StopIteration, NotImplementedError, RuntimeError, _pickled.NoPickle) as error:
        raise Unreadable(f"{place} cannot be read without executing it: {str(error)[:120]}") from error
    state = found.state if isinstance(found, _pickled.Made) else None
    if not isinstance(state, dict):
        raise Unreadable(f"{place} holds no arguments")
    for key, value in state.items():
        if not _PLACES.search(str(key)):
            record.leaves("config", str(key), _plain(value), place)
    return record


def _plain(value: Any, depth: int = 0) -> Any:
    """A value of the pickle as JSON has it: of a member of an enumeration its value."""
    if depth > 16:
        return "..."
    if isinstance(value, _pickled.Made):
        return _plain(value.args[0], depth + 1) if len(value.args) == 1 else value.name
    if isinstance(value, (list, tuple)):
        return [_plain(v, depth + 1) for v in value[:1000]]
    if isinstance(value, dict):
        return {str(k): _plain(v, depth + 1) for k, v in list(value.items())[:1000]}
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


# Sacred


def _sacred(tree: Tree, place: str) -> Record:
    record = Record("Sacred", place, few=True)
    prefix = f"{place}/" if place else ""
    run = _json(tree, record, f"{prefix}run.json")
    if run is None:
        raise Unreadable(f"{prefix}run.json cannot be read")
    source = f"{prefix}run.json"
    if run.get("status") != "COMPLETED":
        record.cut(f"the Sacred run {posixpath.basename(place) or '.'} did not complete ({str(run.get('status'))[:20]})")
    experiment, host = (mapping(run.get(k)) for k in ("experiment", "host"))
    for line in rows(experiment.get("dependencies")):
        requirement(record, str(line), source)
    for name, digest in (r for r in rows(experiment.get("sources")) if isinstance(r, list) and len(r) == 2):
        record.add("code", f"file/{name}", str(digest).rpartition("_")[2].removesuffix(".py"), source)
    for row in rows(experiment.get("repositories")):
        if isinstance(row, dict):
            for key, own in (("commit", "git_commit"), ("url", "git_remote"), ("dirty", "git_dirty")):
                if row.get(key) is not None:
                    record.add("code", own, row[key], source)
    if host.get("python_version"):
        record.add("environment", "python", host["python_version"], source)
    for name, value in mapping(host.get("ENV")).items():
        record.add("environment", f"env/{name}", value, source)
    if host.get("gpus"):
        record.add("hardware", "gpus", [g.get("model") for g in rows(mapping(host["gpus"]).get("gpus")) if isinstance(g, dict)], source)
    record.add("code", "command", run.get("command"), source)
    config = _json(tree, record, f"{prefix}config.json")
    if config is not None:
        record.leaves("config", "", _untagged(config), f"{prefix}config.json")
    for name, own in (_json(tree, record, f"{prefix}metrics.json") or {}).items():
        if isinstance(own, dict):
            for step, value in zip(rows(own.get("steps")), rows(own.get("values")), strict=False):
                _row(record, "step", {"step": step, name: value.get("value") if isinstance(value, dict) else value}, _plain_number)
    result = run.get("result")
    if isinstance(result, (int, float)) and not isinstance(result, bool):
        record.point("result", 0, float(result))
        record.summary.add("result")
    return record


def _json(tree: Tree, record: Record, name: str) -> dict[str, Any] | None:
    if not tree.exists(name):
        return None
    try:
        found = json.loads(tree.text(name, _MOST_BYTES))
    except (ValueError, RecursionError):
        record.cut(f"{name} is cut or no JSON")
        return None
    return found if isinstance(found, dict) else None


def _untagged(node: Any, depth: int = 0) -> Any:
    """Sacred writes tuples, sets and objects as mappings with ``py/...``: what they hold."""
    if isinstance(node, dict) and depth < 64:
        for tag in ("py/tuple", "py/set"):
            if isinstance(node.get(tag), list):
                return _untagged(node[tag], depth + 1)
        return {k: _untagged(v, depth + 1) for k, v in node.items() if k not in ("py/object", "py/id")} or node.get("py/object", {})
    return [_untagged(v, depth + 1) for v in node] if isinstance(node, list) and depth < 64 else node
