"""DVC: ``dvc.lock``, ``*.dvc``, ``params.yaml``, metrics, and the directory listings in its cache.

Owns checksums of data, parameters of stages and metrics. An output of a stage is marked as following from the stage's inputs. Where the cache
holds the listing of a directory, the files inside are named.
"""

from __future__ import annotations

import json
import posixpath
import re
from typing import Any

from reprodebug.foreign import _yaml
from reprodebug.foreign.protocol import Record, mapping, rows
from reprodebug.foreign.tree import Tree

NAME = "DVC"


def find(tree: Tree) -> list[str]:
    """The root of each DVC project: where a lock, a pipeline, or the first tracked file lies."""
    roots = {posixpath.dirname(f) for f in tree.match("dvc.lock", "dvc.yaml")}
    tracked = [f for f in tree.files if f.endswith(".dvc") and "/.dvc/" not in f"/{f}"]
    if tracked and not roots:
        roots = {
            posixpath.commonpath([posixpath.dirname(f) or "." for f in tracked]).replace(".", "", 1)
            if len(tracked) > 1
            else posixpath.dirname(tracked[0])
        }
    return sorted(roots)


def read(tree: Tree, place: str) -> Record:
    """One project. Broken files are notes."""
    record = Record(NAME, place)
    prefix = f"{place}/" if place else ""
    metric_files: set[str] = set()
    for name in tree.below(place):
        if name.endswith(".dvc") and f"/{prefix}.dvc/" not in f"/{name}" and "/.dvc/" not in f"/{name}":
            _tracked(tree, record, name, prefix)
    pipeline = _load(tree, record, f"{prefix}dvc.yaml")
    commands: dict[str, str] = {}
    for name, stage in mapping(mapping(pipeline).get("stages")).items():
        if isinstance(stage, dict):
            each = stage.get("do") if isinstance(stage.get("do"), dict) else stage  # of a stage for each of several
            commands[str(name)] = str(mapping(each).get("cmd") or "")
            for row in _rows(stage.get("metrics")):
                metric_files.add(prefix + row)
    lock = _load(tree, record, f"{prefix}dvc.lock")
    made: dict[str, str] = {}
    if isinstance(lock, dict):
        stages = mapping(lock.get("stages", lock))
        files = _parameter_files(stages)
        for name, stage in stages.items():
            if isinstance(stage, dict):
                written = commands.get(str(name).partition("@")[0], "")
                _stage(tree, record, str(name), stage, f"{prefix}dvc.lock", made, metric_files, prefix, files, written)
    params = _load(tree, record, f"{prefix}params.yaml")
    if isinstance(params, dict):
        record.leaves("config", "", params, f"{prefix}params.yaml")
    if isinstance(pipeline, dict):
        for row in _rows(pipeline.get("metrics")):
            metric_files.add(prefix + row)
    if tree.exists(f"{prefix}metrics.json"):
        metric_files.add(f"{prefix}metrics.json")
    values = {name: found for name in sorted(metric_files) if (found := _metrics(tree, record, name))}
    for name, found in values.items():
        plots = posixpath.join(posixpath.dirname(name), "plots/metrics")
        for key, value in found.items():
            if tree.exists(f"{plots}/{key.replace('.', '/')}.tsv"):
                continue  # DVCLive's series ends with it
            # files of several stages may hold the same keys
            several = sum(key in other for other in values.values()) > 1
            own = f"{name}:{key}" if several else key
            record.point(own, 0, value)
            record.summary.add(own)
    return record


def _load(tree: Tree, record: Record, name: str) -> Any:
    if not tree.exists(name):
        return None
    try:
        found, reason = _yaml.load(tree.text(name)), "is empty"
    except (_yaml.BadYaml, OSError) as error:
        found, reason = None, f"cannot be read: {error}"
    if found is None:
        record.cut(f"{name} {reason}")
        record.unknown |= {"data", "code", "config"}
    return found


def _rows(rows: Any) -> list[str]:
    found = []
    for row in rows if isinstance(rows, list) else ():
        found += [str(k) for k in row] if isinstance(row, dict) else [str(row)]
    return found


def _digest(row: dict[str, Any]) -> str | None:
    kind = str(row.get("hash") or "md5")
    value = row.get(kind) or row.get("md5") or row.get("etag") or row.get("checksum") or row.get("version_id")
    return str(value) if value is not None else None


def _tracked(tree: Tree, record: Record, name: str, prefix: str) -> None:
    found = _load(tree, record, name)
    if not isinstance(found, dict):
        return
    folder = posixpath.dirname(name)
    for row in rows(found.get("outs")):
        if isinstance(row, dict):
            path = posixpath.normpath(posixpath.join(folder, str(found.get("wdir", ".")), str(row.get("path"))))
            _data(tree, record, path, row, name, "")
    for row in rows(found.get("deps")):
        repo = row.get("repo") if isinstance(row, dict) else None
        path = f"{name.removesuffix('.dvc')}"
        if isinstance(repo, dict):
            for key in ("url", "rev", "rev_lock"):
                if repo.get(key):
                    record.add("data", f"{path}/import.{key}", repo[key], name, derived=path)
        elif isinstance(row, dict) and _digest(row):
            record.add("data", f"{path}/source {row.get('path')}", _digest(row), name)


def _data(tree: Tree, record: Record, path: str, row: dict[str, Any], source: str, derived: str | tuple[str, ...]) -> None:
    digest = _digest(row)
    if digest is None and isinstance(row.get("files"), list):
        for one in row["files"]:
            if isinstance(one, dict):
                record.add("data", posixpath.join(path, str(one.get("relpath"))), _digest(one), source, derived=derived)
        return
    record.add("data", path, digest, source, derived=derived)
    if digest and digest.endswith(".dir"):
        plain = digest.removesuffix(".dir")
        objects = (f".dvc/cache/files/md5/{plain[:2]}/{plain[2:]}.dir", f".dvc/cache/{plain[:2]}/{plain[2:]}.dir")
        above = posixpath.dirname(source).split("/")
        for listing in [posixpath.join(*above[:n], o) for n in range(len(above), -1, -1) for o in objects]:
            if tree.exists(listing):
                try:
                    rows = json.loads(tree.text(listing, 64 << 20))
                except (ValueError, RecursionError):
                    record.notes.append(f"{listing} is no listing")
                    return
                for one in rows if isinstance(rows, list) else ():
                    if isinstance(one, dict) and isinstance(one.get("relpath"), str):
                        record.add("data", f"{path}/{one['relpath']}", _digest(one), listing, derived=path)
                return


def _parameter_files(stages: dict[Any, Any]) -> dict[str, set[str]]:
    """Parameter -> the files that stages take one of this name from."""
    found: dict[str, set[str]] = {}
    for stage in stages.values():
        for file, values in mapping(mapping(stage).get("params")).items():
            for key in mapping(values):
                found.setdefault(str(key), set()).add(str(file))
    return found


def _stage(
    tree: Tree, record: Record, name: str, stage: dict[str, Any], source: str, made: dict[str, str], metric_files: set[str], prefix: str,
    files: dict[str, set[str]], written: str,
) -> None:  # fmt: skip
    inputs: list[str] = []
    for row in rows(stage.get("deps")):
        if isinstance(row, dict):
            path = posixpath.normpath(posixpath.join(prefix, str(row.get("path"))))
            inputs.append(path)
            if re.search(r"\.(py|sh|ipynb|r|jl|yaml|yml|toml|cfg)$", path, re.I):
                record.add("code", path, _digest(row), source)
            elif path not in made and ("data", path) not in record.facts:
                _data(tree, record, path, row, source, "")
    for file, values in mapping(stage.get("params")).items():
        for key, value in mapping(values).items():
            # the file says which one is meant only where two have the same: elsewhere it would be told apart from what the file itself says
            own = f"{file}:{key}" if len(files[str(key)]) > 1 and file != "params.yaml" else str(key)
            record.leaves("config", own, value, source)
            inputs += [k for section, k in record.facts if section == "config" and (k == own or k.startswith(f"{own}."))]
    if stage.get("cmd"):
        taken = tuple(re.findall(r"\$\{([^{}]+)\}", written))  # a command with parameters in it follows from them
        record.add("code", f"stage {name}/cmd", stage["cmd"], source, derived=taken, note=f"written {written}" if taken else "")
        inputs.append(f"stage {name}/cmd")
    for row in rows(stage.get("outs")):
        if isinstance(row, dict):
            path = posixpath.normpath(posixpath.join(prefix, str(row.get("path"))))
            made[path] = name
            if path in metric_files or re.search(r"(^|/)metrics?[\w.-]*\.(json|ya?ml|toml)$", path):
                metric_files.add(path)
                continue
            # what a stage makes follows from what went in; where nothing of that differs, its difference stands by itself
            record.facts.pop(("data", path), None)
            _data(tree, record, path, row, source, tuple(inputs))


def _metrics(tree: Tree, record: Record, name: str) -> dict[str, float]:
    """The numbers of a metrics file, by dotted path."""
    values: dict[str, float] = {}
    if not tree.exists(name):
        return values
    try:
        found = json.loads(tree.text(name)) if name.endswith(".json") else _yaml.load(tree.text(name))
    except (ValueError, RecursionError, _yaml.BadYaml):
        record.notes.append(f"{name} cannot be read")
        return values
    stack: list[tuple[str, Any]] = [("", found)]
    while stack:
        path, node = stack.pop()
        if isinstance(node, dict):
            stack += [(f"{path}.{k}" if path else str(k), v) for k, v in node.items()]
        elif isinstance(node, (int, float)) and not isinstance(node, bool) and path:
            values[path] = float(node)
    return values
