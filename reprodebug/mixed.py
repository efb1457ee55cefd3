"""Comparing what is not two runs of ours: other systems' records, tensor files, and any mix with a run."""

from __future__ import annotations

import dataclasses
import os

from reprodebug._base.errors import RunUnreadable
from reprodebug.compare.records import Joined, compare_records, join
from reprodebug.diagnose.records import causes_of_records
from reprodebug.foreign.protocol import Record
from reprodebug.model.comparison import Comparison, Tolerance
from reprodebug.store.run import StoredRun, is_run, open_run

_HINT = (
    "a run directory of `reprodebug capture`, the directory or file of another system (W&B, MLflow, TensorBoard, Hydra, DVC, conda, uv ...),"
    " or a tensor file"
)


def compare_mixed(a: str, b: str, tolerance: Tolerance | None = None) -> Comparison:
    """Compare two paths of which at least one is no run directory. Raises RunUnreadable."""
    from reprodebug.foreign.tensor_files import SUFFIXES, open_tensors

    files = [os.path.isfile(p) and p.lower().endswith(SUFFIXES) for p in (a, b)]
    if all(files):
        from reprodebug.compare.tensors import compare_tensors

        return compare_tensors(open_tensors(a), open_tensors(b), tolerance)
    for path, is_file in zip((a, b), files, strict=True):
        if is_file:
            raise RunUnreadable(f"{path} is a tensor file, and the other side is none", hint="compare two tensor files, or two runs")
    records = [_records(path) for path in (a, b)]
    prefixed = any(sum(r.system == "configuration" for r in side) > 1 for side in records)
    sides = [_join(path, side, prefixed) for path, side in zip((a, b), records, strict=True)]
    comparison = compare_records(sides[0], sides[1])
    return dataclasses.replace(comparison, causes=causes_of_records(comparison) if comparison.verdict == "divergent" else ())


def _join(path: str, records: list[Record], prefixed: bool) -> Joined:
    return join(path, records, prefixed=prefixed)


def _records(path: str) -> list[Record]:
    """What stands at a path. Raises RunUnreadable where nothing does."""
    if is_run(path):
        return [of_run(open_run(path))]
    if not os.path.lexists(path):
        raise RunUnreadable(f"{path} does not exist", hint=_HINT)
    from reprodebug.foreign.registry import read_all

    found = read_all(path)
    if not any(r.facts or r.series for r in found):
        notes = [n for r in found for n in r.notes]
        why = f" ({notes[0]})" if notes else ""
        what = "is a file that holds no record that is read" if os.path.isfile(path) else "holds no run and no record that is read"
        if os.path.isdir(path) and not os.listdir(path):
            what = "is empty"
        raise RunUnreadable(f"{path} {what}{why}", hint=_HINT)
    return found


def of_run(run: StoredRun) -> Record:
    """A run of ours as one more record, to meet those of other systems."""
    from reprodebug.compare.importance import options

    m = run.manifest
    record = Record("reprodebug", run.path, rank=3)
    source = "run.json"
    environment = m.environment
    interpreter = environment.get("interpreter")
    if isinstance(interpreter, dict) and interpreter.get("version"):
        record.add("environment", "python", interpreter["version"], source)
    for name, version in _mapping(environment.get("packages")).items():
        record.package(name, str(version), source)
    for name, value in _mapping(environment.get("variables")).items():
        record.add("environment", f"env/{name}", value, source)
    if m.code.get("commit"):
        record.add("code", "git_commit", m.code["commit"], source)
    words = list(m.command)
    record.add("code", "args", " ".join(words[2:] if len(words) > 1 and words[1].endswith(".py") else words[1:]), source)
    for key, value in options(words).items():
        if key.startswith("--"):
            record.add("config", key.lstrip("-").replace("-", "_"), value, source)
        elif not key.startswith(("word", "program", "-")):
            record.add("config", key, value, source)
    for path, entry in m.data.items():
        if isinstance(entry, dict) and entry.get("hash") and entry.get("mode") != "write":
            record.add("data", os.path.relpath(path, m.cwd) if os.path.isabs(path) else path, entry["hash"], source)
    for process in m.processes:
        torch = process.environment.get("torch")
        if isinstance(torch, dict) and torch.get("cuda"):
            record.add("environment", "cuda", torch["cuda"], source)
    from reprodebug.compare.losses import losses_of

    for step, value in losses_of(run):
        record.point("loss", step, value)
    return record


def _mapping(value: object) -> dict[str, object]:
    return {str(k): v for k, v in value.items()} if isinstance(value, dict) else {}
