"""Weights & Biases: run directories offline and online, old and new.

Owns the ``.wandb`` transaction log (LevelDB framing around protobuf records) and the files beside it: ``config.yaml``,
``wandb-metadata.json``, ``wandb-summary.json``, ``requirements.txt``, ``diff.patch``. Run ids, names, hosts, times and system
metrics are identity. Field numbers: wandb_internal.proto of the client, 0.9 to 0.31.
"""

from __future__ import annotations

import json
import posixpath
import re
from typing import Any

from reprodebug.foreign import _wire, _yaml
from reprodebug.foreign._patch import diff_facts
from reprodebug.foreign.pip import requirement
from reprodebug.foreign.protocol import Record, Unreadable, mapping
from reprodebug.foreign.tree import Tree

NAME = "Weights & Biases"
_RUN = re.compile(r"(^|/)(offline-run|run|dryrun)-\d{8}_\d{6}-[\w-]+$")
_HEADER = 7
_MAX_LOG = 1 << 30
_SKIPPED_METRICS = re.compile(r"^(_|system/|gpu/process)")


def find(tree: Tree) -> list[str]:
    """Run directories; the newest one where there are several of one project (``wandb/latest-run`` decides by its time)."""
    logs = {posixpath.dirname(f) for f in tree.files if re.search(r"(^|/)run-[\w-]+\.wandb$", f)}
    named = {
        posixpath.dirname(posixpath.dirname(f)) for f in tree.files if re.search(r"(^|/)files/(config\.yaml|wandb-metadata\.json)$", f)
    }
    found = {f for f in tree.folders if _RUN.search(f) and not f.endswith("latest-run")} & (logs | named | set(tree.folders))
    places = sorted({p for p in (logs | named | found) if tree.below(p) and _is_run(tree, p)}, key=_stamp)
    groups: dict[str, list[str]] = {}
    for place in places:
        groups.setdefault(posixpath.dirname(place), []).append(place)
    return [several[-1] for several in groups.values()]


def runs(tree: Tree) -> list[str]:
    """Every run directory, the oldest first."""
    return sorted({f for f in tree.folders if _RUN.search(f) and _is_run(tree, f)}, key=_stamp)


def _stamp(place: str) -> tuple[str, str]:
    found = re.search(r"(\d{8}_\d{6})", place.rsplit("/", 1)[-1])
    return (found[1] if found else "", place)


def _id(place: str) -> str:
    return re.sub(r"^.*\d{8}_\d{6}-", "", place)


def _is_run(tree: Tree, place: str) -> bool:
    prefix = f"{place}/" if place else ""
    below = tree.below(place)
    return any(f.endswith(".wandb") for f in below) or any(
        f in (f"{prefix}files/config.yaml", f"{prefix}files/wandb-metadata.json", f"{prefix}files/wandb-summary.json") for f in below
    )


def read(tree: Tree, place: str) -> Record:
    """One run. Raises Unreadable where nothing of it can be had."""
    record = Record(NAME, place)
    prefix = f"{place}/" if place else ""
    beside = [r for r in runs(tree) if posixpath.dirname(r) == posixpath.dirname(place) and r != place]
    earlier = [r for r in beside if _id(r) == _id(place) and _stamp(r) < _stamp(place)]
    others = [r for r in beside if _id(r) != _id(place)]
    if others:
        record.notes.append(f"{len(others)} more W&B runs lie beside {posixpath.basename(place)}: name one as the directory to compare it")
    logs = [f for f in tree.below(place) if f.endswith(".wandb") and posixpath.dirname(f) == place]
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    seen: set[int] = set()
    for part in earlier:  # a run that was resumed goes on in a folder of its own
        for log in (f for f in tree.below(part) if f.endswith(".wandb") and posixpath.dirname(f) == part):
            _log(tree, log, record, config, summary)
    record.complete, record.notes = True, [n for n in record.notes if "was cut" not in n]
    for log in logs:
        seen |= _log(tree, log, record, config, summary)
    _ends(tree, prefix, record, seen, bool(logs))
    for name, reader in (("config.yaml", _config_file), ("wandb-metadata.json", _metadata), ("wandb-summary.json", _summary)):
        path = f"{prefix}files/{name}"
        if tree.exists(path):
            try:
                reader(tree, path, record, config, summary)
            except (ValueError, _yaml.BadYaml, TypeError, AttributeError):
                record.notes.append(f"{path} is cut or damaged")
    record.leaves(
        "config", "", {k: v for k, v in config.items() if k != "_wandb"}, logs[0] if logs else f"{prefix}files/config.yaml"
    ) if config else None
    if ("config", "(root)") in record.facts:
        del record.facts["config", "(root)"]
    if record.complete:  # before the end a summary holds what was last at that time
        _end_values(record, summary)
    requirements = f"{prefix}files/requirements.txt"
    if tree.exists(requirements):
        record.rank = 3
        text = tree.text(requirements)
        if _client(config) < (0, 18):  # joins its lines, with no end of the last one
            record.open_ended.add(requirements)
            text += "\n"
        for line in text[: text.rfind("\n") + 1].splitlines():  # of a list that was cut the last name may be the half of one
            if line.strip():
                requirement(record, line, requirements)
    else:
        record.notes.append("W&B recorded no package list of this run")
    _patches(tree, place, record)
    if not record.facts and not record.series:
        raise Unreadable(f"{place or '.'}: nothing of this W&B run can be read" + (f" ({record.notes[0]})" if record.notes else ""))
    return record


def _client(config: dict[str, Any]) -> tuple[int, ...]:
    """The first two numbers of the version of W&B that wrote the record; a high one where it is not known."""
    found = re.match(r"(\d+)\.(\d+)", str(mapping(config.get("_wandb")).get("cli_version")))
    return (int(found[1]), int(found[2])) if found else (99,)


_RUN_RECORD, _EXIT_RECORD, _ENVIRONMENT_RECORD = 17, 18, 26


def _ends(tree: Tree, prefix: str, record: Record, seen: set[int], logged: bool) -> None:
    """Say of a log that breaks off what it does not hold."""
    if not logged or _EXIT_RECORD in seen:
        return
    if record.complete:
        record.cut("the W&B log holds no end of the run: it was killed, or is still running")
    if _RUN_RECORD not in seen and not tree.exists(f"{prefix}files/config.yaml"):
        record.unknown.add("config")
    if _ENVIRONMENT_RECORD not in seen and not tree.exists(f"{prefix}files/wandb-metadata.json"):
        record.unknown |= {"code", "environment", "hardware", "container"}


def _log(tree: Tree, path: str, record: Record, config: dict[str, Any], summary: dict[str, Any]) -> set[int]:
    """The transaction log up to its first bad record; the numbers of the kinds of record that it holds."""
    data = tree.read(path, _MAX_LOG)
    if data[:4] != b":W&B":
        empty = not data.strip(b"\0")
        record.notes.append(f"{path} is {'empty: nothing of the run had been written to it' if empty else 'no W&B log'}")
        return set()
    step = 0
    seen: set[int] = set()
    history = _History(record)
    try:
        for raw in _wire.leveldb_records(data, _HEADER):
            taken = history.take(raw)
            if taken is not None:
                step = taken + 1
                continue
            try:
                entry = _wire.message(raw)
                seen |= entry.keys()
                step = _entry(entry, record, config, summary, path, step)
            except _wire.Cut:
                continue
    except _wire.Cut as error:
        record.cut(f"{path} was cut ({error}): what stands before the cut was read")
    history.finish()
    return seen


class _History:
    """History records that repeat the keys of the one before, which is nearly all of them: only steps and numbers are parsed.

    Owns the layout that W&B's client writes: items of ``key`` or ``nested_key`` and ``value_json``, then the step. Whatever is
    written in another way, or is no number, is left to ``_entry``.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.names: list[str] = []
        self.pattern: re.Pattern[bytes] | None = None
        """of a whole record: a group for each metric, the last one for the step"""
        self.rows: list[tuple[bytes, ...]] = []
        self.steps: list[int] = []
        self.patience = 1000
        """layouts that are still learnt; a log that changes them all the time gains nothing"""

    def take(self, raw: bytes) -> int | None:
        """The step of a record that was taken; None for one that was not."""
        found = self.pattern.fullmatch(raw) if self.pattern is not None else None
        if found is None:
            if self.patience and _HISTORY(raw):
                self.finish()
                self._learn(raw)
                self.patience -= 1
            return None
        groups = found.groups()
        step = _wire.signed(_wire.varint(memoryview(groups[-1]), 0)[0]) if groups[-1] else 0
        self.rows.append(groups)
        self.steps.append(step)
        return step

    def _learn(self, raw: bytes) -> None:
        """Take the layout of a record for those that follow; the record itself is left to ``_entry``."""
        self.names, self.pattern = [], None
        try:
            entry = _wire.message(raw)
            items = _wire.message(entry[2][0])[1] if set(entry) <= {1, 2} and len(entry[2]) == 1 else []
            parts = [_NUMBERED, rb"\x12[\x80-\xff]{0,4}[\x00-\x7f]"]
            for item in items:
                fields = _wire.message(item)
                value = bytes(fields[16][0])
                if len(item) > 127 or len(value) > 127 or set(fields) not in ({1, 16}, {2, 16}):
                    return
                words = [_wire.text(k) for k in fields.get(1, fields.get(2, ()))]
                own = not _SKIPPED_METRICS.match(words[0])
                if own:
                    self.names.append(".".join(words))
                head = re.escape(bytes(item)[: len(item) - len(value) - 1])
                # a value is told by its characters: none of them begins the next item or the step
                parts.append(rb"\x0a." + head + rb"." + (rb"([-+0-9.eE]{1,40})" if own else rb"[-+0-9.eE]{1,40}"))
        except (_wire.Cut, KeyError):
            return
        if self.names:
            self.pattern = re.compile(b"".join(parts) + rb"(?:\x12\x00|\x12[\x02-\x0b]\x08([\x80-\xff]{0,9}[\x00-\x7f]))", re.S)

    def finish(self) -> None:
        """Hand over what was taken."""
        columns = list(zip(*self.rows, strict=True))[:-1]
        for name, column in zip(self.names, columns, strict=False):
            try:
                self.record.points(name, self.steps, list(map(float, column)))
            except ValueError:
                pairs = [(s, float(v)) for s, v in zip(self.steps, column, strict=True) if _IS_NUMBER(v)]
                self.record.points(name, [s for s, _ in pairs], [v for _, v in pairs])
        self.rows, self.steps = [], []


_NUMBERED = rb"(?:\x08[\x80-\xff]{0,9}[\x00-\x7f])?"
"""the record's number, which newer clients write first"""
_HISTORY = re.compile(_NUMBERED + rb"\x12", re.S).match
_IS_NUMBER = re.compile(rb"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?").fullmatch


def _entry(entry: dict[int, list[Any]], record: Record, config: dict[str, Any], summary: dict[str, Any], path: str, step: int) -> int:
    for history in entry.get(2, ()):
        fields = _wire.message(history)
        values = dict(_items(fields.get(1, ())))
        if 2 in fields:
            step = _wire.signed(_wire.message(fields[2][0]).get(1, [0])[0])
        elif isinstance(values.get("_step"), int):
            step = values["_step"]
        _points(record, "", values, step)
        step += 1
    for own in entry.get(3, ()):
        summary.update(_items(_wire.message(own).get(1, ())))
    for own in entry.get(5, ()):
        _config(_wire.message(own), config)
    for run in entry.get(17, ()):
        fields = _wire.message(run)
        for own in fields.get(4, ()):
            _config(_wire.message(own), config)
        for telemetry in fields.get(19, ()):
            version = _wire.message(telemetry).get(5)
            if version:
                config["_wandb"] = mapping(config.get("_wandb")) | {"cli_version": _wire.text(version[0])}
        for git in fields.get(21, ()):
            _git(_wire.message(git), record, path)
    for artifact in entry.get(8, ()):
        _artifact(_wire.message(artifact), record, path)
    for environment in entry.get(26, ()):
        _environment(_wire.message(environment), record, path)
    return step


def _artifact(fields: dict[int, list[Any]], record: Record, path: str) -> None:
    """A logged or used artifact that is data; models, tables and code are what a run made, or stand elsewhere."""
    kind, name, digest, said = (_wire.text(fields[n][0]) if n in fields else "" for n in (4, 5, 6, 8))
    if not name or not digest or not (re.search("data", kind, re.I) or fields.get(10, [0])[0]):
        return
    name = name.partition(":")[0]
    record.add("data", name, digest, path)
    try:
        metadata = json.loads(said or "{}")
        if metadata:
            record.leaves("data", f"{name}/metadata", metadata, path, derived=name)
    except (ValueError, RecursionError):
        return


def _items(raw: Any) -> list[tuple[str, Any]]:
    found = []
    for item in raw:
        fields = _wire.message(item)
        key = _wire.text(fields[1][0]) if 1 in fields else ""
        nested = [_wire.text(k) for k in fields.get(2, ())]
        try:
            value = json.loads(_wire.text(fields[16][0])) if 16 in fields else None
        except (ValueError, RecursionError):
            continue
        found.append((".".join(nested) if nested else key, value))
    return found


def _config(fields: dict[int, list[Any]], config: dict[str, Any]) -> None:
    for item in fields.get(1, ()):
        own = _wire.message(item)
        path = [_wire.text(k) for k in own.get(2, ())] or [_wire.text(own[1][0]) if 1 in own else ""]
        try:
            value = json.loads(_wire.text(own[16][0])) if 16 in own else None
        except (ValueError, RecursionError):
            continue
        node = config
        for key in path[:-1]:
            node = node.setdefault(key, {}) if isinstance(node.get(key, {}), dict) else node
        node[path[-1]] = value
    for item in fields.get(2, ()):
        own = _wire.message(item)
        path = [_wire.text(k) for k in own.get(2, ())] or [_wire.text(own[1][0]) if 1 in own else ""]
        node = config
        for key in path[:-1]:
            node = node.get(key, {}) if isinstance(node.get(key), dict) else {}
        node.pop(path[-1], None)


def _environment(fields: dict[int, list[Any]], record: Record, path: str) -> None:
    def one(number: int) -> str:
        return _wire.text(fields[number][0]) if number in fields else ""

    if one(1):
        record.add("environment", "os", one(1), path)
    if one(2):
        record.add("environment", "python", _python(one(2)), path)
    if one(4):
        record.add("container", "image", one(4), path)
    if 5 in fields:
        record.add("code", "args", " ".join(_wire.text(a) for a in fields[5]), path)
    if one(6):
        record.add("code", "program", posixpath.basename(one(6)), path)
    for git in fields.get(9, ()):
        _git(_wire.message(git), record, path)
    if one(14):
        record.add("environment", "executable", one(14), path)
    if one(18):
        record.add("hardware", "gpu", one(18), path)
    for gpu in fields.get(24, ()):
        own = _wire.message(gpu)
        if 1 in own:
            record.add("hardware", "gpu", _wire.text(own[1][0]), path)
    if one(25):
        record.add("environment", "cuda", one(25), path)


def _git(fields: dict[int, list[Any]], record: Record, path: str) -> None:
    for number, key in ((1, "git_remote"), (2, "git_commit")):
        if number in fields and _wire.text(fields[number][0]):
            record.add("code", key, _wire.text(fields[number][0]), path)


def _python(text: str) -> str:
    found = re.search(r"\d+(\.\d+)+", text)
    return found[0] if found else text


def _points(record: Record, prefix: str, values: dict[str, Any], step: int) -> None:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if _SKIPPED_METRICS.match(key) and not prefix:
            continue
        if isinstance(value, dict):
            if "_type" not in value:
                _points(record, f"{name}.", value, step)
        else:
            number = _number(value)
            if number is not None:
                record.point(name, step, number)


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value)
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(str(value).replace("Infinity", "inf"))
    return None


def _end_values(record: Record, summary: dict[str, Any]) -> None:
    """The summary's values of metrics that have no history."""
    media = tuple(f"{name.removesuffix('._type')}." for name in summary if name.endswith("._type"))
    for name, value in summary.items():
        if _SKIPPED_METRICS.match(name) or name in record.series or name.startswith(media):
            continue
        if isinstance(value, dict):
            # a metric with define_metric(summary=...) has its own mapping; a medium is no number
            if "_type" not in value and not any(s == name or s.startswith(f"{name}.") for s in record.series):
                _end_values(record, {f"{name}.{k}": v for k, v in value.items()})
            continue
        number = _number(value)
        if number is not None:
            record.point(name, 0, number)
            record.summary.add(name)


def _config_file(tree: Tree, path: str, record: Record, config: dict[str, Any], summary: dict[str, Any]) -> None:
    found = _yaml.load(tree.text(path))
    for key, value in (found or {}).items():
        if key == "wandb_version":
            continue
        plain = value["value"] if isinstance(value, dict) and "value" in value else value
        if key == "_wandb":
            config[key] = plain
            for row in ((plain or {}).get("e") or {}).values() if isinstance(plain, dict) else ():
                if isinstance(row, dict):
                    _described(row, record, path)
            if isinstance(plain, dict) and plain.get("python_version"):
                record.add("environment", "python", _python(str(plain["python_version"])), path)
        else:
            config[key] = plain


def _metadata(tree: Tree, path: str, record: Record, config: dict[str, Any], summary: dict[str, Any]) -> None:
    _described(json.loads(tree.text(path)), record, path)


def _described(row: dict[str, Any], record: Record, path: str) -> None:
    if row.get("python"):
        record.add("environment", "python", _python(str(row["python"])), path)
    for key, name, section in (
        ("os", "os", "environment"), ("executable", "executable", "environment"), ("cuda", "cuda", "environment"), ("cudaVersion", "cuda", "environment"),
        ("cuda_version", "cuda", "environment"), ("docker", "image", "container"), ("gpu", "gpu", "hardware"), ("cpu", "cpu", "hardware"),
    ):  # fmt: skip
        if row.get(key):
            record.add(section, name, row[key], path)
    if isinstance(row.get("args"), list):
        record.add("code", "args", " ".join(map(str, row["args"])), path)
    git = row.get("git")
    if isinstance(git, dict):
        for key, name in (("commit", "git_commit"), ("commitId", "git_commit"), ("remote", "git_remote"), ("remoteURL", "git_remote")):
            if git.get(key):
                record.add("code", name, git[key], path)


def _summary(tree: Tree, path: str, record: Record, config: dict[str, Any], summary: dict[str, Any]) -> None:
    found = json.loads(tree.text(path))
    if isinstance(found, dict):
        for key, value in found.items():
            summary.setdefault(key, value)


def _patches(tree: Tree, place: str, record: Record) -> None:
    prefix = f"{place}/" if place else ""
    patches = [f for f in tree.below(place) if re.match(rf"^{re.escape(prefix)}files/(upstream_)?diff[\w_]*\.patch$", f)]
    for path in patches:
        if posixpath.basename(path) == "diff.patch" or len(patches) == 1:
            diff_facts(record, tree.text(path), path)
    code = [f for f in tree.below(f"{prefix}files/code") if not f.endswith(".pyc")]
    if not patches and not code and ("code", "git_commit") in record.facts:
        record.notes.append("W&B recorded no uncommitted changes: that needs code saving")
    import hashlib

    for path in code[:200]:
        digest = "sha256:" + hashlib.sha256(tree.read(path, 4 << 20)).hexdigest()[:16]
        record.add("code", f"file/{path.partition('files/code/')[2]}", digest, path, derived=("git_commit", "git_diff"))
