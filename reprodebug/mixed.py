"""Comparing what is not two runs of ours: other systems' records, tensor files, and any mix with a run."""

from __future__ import annotations

import dataclasses
import os

from reprodebug._base.errors import RunUnreadable
from reprodebug.compare.joined import Joined, join
from reprodebug.compare.records import compare_records
from reprodebug.diagnose.records import causes_of_records
from reprodebug.foreign.protocol import Record
from reprodebug.model.comparison import Comparison, Tolerance
from reprodebug.store.manifest import runs_inside
from reprodebug.store.run import ATTACHED, StoredRun, is_run, open_run

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
    tensors = _tensors_of_folders(a, b, tolerance)
    records = [_records(path, required=tensors is None) for path in (a, b)]
    if tensors is not None and not all(any(r.facts or r.series for r in side) for side in records):
        return tensors
    prefixed = any(_ambiguous(side) for side in records)
    sides = [_join(path, side, prefixed) for path, side in zip((a, b), records, strict=True)]
    comparison = _with_draws(compare_records(sides[0], sides[1]), (a, b), records)
    if comparison.verdict == "divergent":
        comparison = dataclasses.replace(comparison, causes=causes_of_records(comparison))
    return comparison if tensors is None else _merged(comparison, tensors)


def _tensors_of_folders(a: str, b: str, tolerance: Tolerance | None) -> Comparison | None:
    """The comparison of the tensor files that two folders have in common; None where there are none, or a side is a run of ours."""
    from reprodebug.foreign.protocol import Unreadable
    from reprodebug.foreign.tensor_files import MOST_BYTES, in_folder, open_folder
    from reprodebug.foreign.tree import Tree

    if not (os.path.isdir(a) and os.path.isdir(b)) or is_run(a) or is_run(b):
        return None
    trees = Tree(a), Tree(b)
    sizes = [in_folder(t) for t in trees]
    common = [[f for f in own if f in other] for own, other in (sizes, sizes[::-1])]
    if not common[0] and [len(s) for s in sizes] == [1, 1]:
        common = [list(s) for s in sizes]  # one file each, called otherwise
    if not common[0] or sum(sum(s[f] for f in c) for s, c in zip(sizes, common, strict=True)) > MOST_BYTES:
        return None
    from reprodebug.compare.tensors import compare_tensors

    try:
        opened = [open_folder(t, files) for t, files in zip(trees, common, strict=True)]
        comparison = compare_tensors(opened[0], opened[1], tolerance)
    except Unreadable:
        return None
    return comparison if comparison.counts.compared else None


def _merged(records: Comparison, tensors: Comparison) -> Comparison:
    """What tensors and records of the same two folders say together: where they part, and what differs around it."""
    verdict, reason = tensors.verdict, f"{tensors.reason}; {records.reason}"
    if tensors.verdict == "identical" and records.verdict == "divergent":
        verdict, reason = records.verdict, f"{records.reason}; {tensors.reason}"
    return dataclasses.replace(
        tensors, verdict=verdict, reason=reason, differences=(*tensors.differences, *records.differences), causes=records.causes,
        not_recorded=(*records.not_recorded, *tensors.not_recorded), losses=records.losses,
    )  # fmt: skip


_GENERATORS = {"python": "python.random", "numpy": "numpy.random", "torch": "torch.cpu"}


def _with_draws(comparison: Comparison, paths: tuple[str, str], records: list[list[Record]]) -> Comparison:
    """The comparison with the number of draws between two saved states of a generator; why it is not known where it is not."""
    from reprodebug.diagnose.draws import apart

    wanted = [d for d in comparison.differences if d.key.startswith("rng/") and "absent" not in d.a + d.b]
    if not any("sha256:" in d.a for d in wanted):
        return comparison
    states = [_states(path, side) for path, side in zip(paths, records, strict=True)]
    differences = list(comparison.differences)
    for n, d in enumerate(differences):
        if d not in wanted or any(d.key not in side for side in states):
            continue
        (algorithm, x), (other, y) = (side[d.key] for side in states)
        generator = d.key.rpartition("/")[2]
        name = _GENERATORS.get(generator, "torch.cuda" if generator.startswith("cuda") else generator)
        if algorithm != other:
            said = f"A has {algorithm}, B has {other}"
        else:
            count, how = apart(name, algorithm, x, y)
            ahead = "" if count is None else "B" if count > 0 else "A"
            if count is None:
                said = f"how many draws lie between is not known: {how.reason}"
            elif count == 0:
                said = f"no draw lies between: {how.reason or 'the same position of one stream'}"
            else:
                said = f"{ahead} is {abs(count):,} {how.unit} ahead of {'A' if ahead == 'B' else 'B'}"
        differences[n] = dataclasses.replace(d, severity="critical", reason=f"the state of a generator; {said}")
    return dataclasses.replace(comparison, differences=tuple(sorted(differences, key=lambda d: d.severity != "critical")))


def _states(path: str, records: list[Record]) -> dict[str, tuple[str, bytes]]:
    """Key of a saved generator state -> (algorithm, state)."""
    from reprodebug.foreign import random_states
    from reprodebug.foreign.protocol import Unreadable
    from reprodebug.foreign.tree import Tree

    found: dict[str, tuple[str, bytes]] = {}
    for record in records:
        if record.system == random_states.NAME:
            try:
                own = random_states.states(Tree(path if os.path.lexists(path) else path.rpartition("#")[0]), record.place)
            except (Unreadable, OSError, ValueError, TypeError):
                continue
            found |= {random_states.key_of(record.place, name): state for name, state in own.items()}
    return found


def _ambiguous(records: list[Record]) -> bool:
    """Whether a key stands in several configuration files of a side: then all keep the name of their file."""
    seen: dict[str, object] = {}
    for record in records:
        for (section, key), fact in record.facts.items() if record.prefix else ():
            if section == "config" and seen.setdefault(key, fact.value) != fact.value:
                return True
    return False


def _join(path: str, records: list[Record], prefixed: bool) -> Joined:
    return join(path, records, prefixed=prefixed)


def _records(path: str, *, required: bool = True) -> list[Record]:
    """What stands at a path. Raises RunUnreadable where nothing does and something is ``required``."""
    if is_run(path):
        run = open_run(path)
        return [of_run(run), *attached(run)]
    wanted = ""
    if not os.path.lexists(path):
        base, _, wanted = path.rpartition("#")
        if not wanted or not os.path.lexists(base):
            raise RunUnreadable(f"{path} does not exist", hint=_HINT)
        path = base
    from reprodebug.foreign.protocol import Unreadable
    from reprodebug.foreign.registry import read_all

    try:
        found = read_all(path, wanted)
    except Unreadable as error:
        raise RunUnreadable(str(error.message), hint="PATH#RUN_ID names one of several runs") from error
    if required and not any(r.facts or r.series for r in found):
        notes = [n for r in found for n in r.notes]
        why = f" ({notes[0]})" if notes else ""
        what = "is a file that holds no record that is read" if os.path.isfile(path) else "holds no run and no record that is read"
        if os.path.isdir(path) and not os.listdir(path):
            what = "is empty"
        raise RunUnreadable(f"{path} {what}{why}", hint=runs_inside(path) or _HINT)
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
            record.add("config", key.rpartition(" ")[2].lstrip("-").replace("-", "_"), value, source)
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


_MOST_ENTRIES = 20_000
_OURS = frozenset({"pip", "virtual environment", "git", "document"})
"""systems whose facts the run itself records better"""


def attach(run: str, cwd: str, started: float) -> int:
    """Keep with a run what other systems left in its directory; returns how many records. Never raises.

    Records of trackers count only where this run wrote them (a file newer than ``started``); files that describe the project
    (locks, containers, data versions, configuration) always do.
    """
    import json

    from reprodebug.foreign.protocol import Fact
    from reprodebug.foreign.registry import readers
    from reprodebug.foreign.tree import Tree

    try:
        tree = Tree(cwd, most=_MOST_ENTRIES, leave_out=("reprodebug-runs", os.path.basename(run), ".git", "site-packages"))
        if tree.cut:
            return 0
        rows = []
        for reader in readers():
            if reader.NAME in _OURS or reader.NAME in _HEAVY:
                continue
            for place in reader.find(tree)[:8]:
                if reader.NAME in _TRACKERS and not _written_since(tree, place, started):
                    continue
                try:
                    record = reader.read(tree, place)
                except Exception:  # noqa: BLE001 - a record that cannot be read is not attached
                    continue
                facts = [fact for fact in record.facts.values() if isinstance(fact, Fact)][:5000]
                if facts:
                    rows.append(
                        {
                            "system": record.system,
                            "place": place,
                            "rank": record.rank,
                            "few": record.few,
                            "unknown": sorted(record.unknown),
                            "facts": [[f.section, f.key, f.value, f.source, f.derived, f.note] for f in facts],
                        }
                    )
        if rows:
            with open(os.path.join(run, ATTACHED), "w", encoding="utf-8") as f:
                json.dump({"schema": "reprodebug.records/1", "records": rows}, f, indent=1)
        return len(rows)
    except Exception:  # noqa: BLE001 - the command has run and its run is complete without this
        return 0


_TRACKERS = frozenset(
    {"Weights & Biases", "MLflow", "TensorBoard", "Aim", "ClearML", "Neptune", "Neptune Scale", "Hydra", "random states", "training log"}
)
_HEAVY = frozenset({"Neptune export", "Aim", "random states"})
"""systems that need an extra or torch to be read"""


def _written_since(tree: object, place: str, started: float) -> bool:
    from reprodebug.foreign.tree import Tree

    assert isinstance(tree, Tree)
    names = tree.below(place) or [place.partition("#")[0]]
    return any(os.stat(tree.path(n)).st_mtime >= started for n in names[:2000] if tree.exists(n))


def attached(run: StoredRun) -> list[Record]:
    """The records that were attached to a run; none where there are none or they cannot be read."""
    import json

    try:
        with open(os.path.join(run.path, ATTACHED), encoding="utf-8") as f:
            rows = json.load(f)["records"]
        found = []
        for row in rows:
            # series are not kept: what the record does not say of metrics is not known to be absent
            record = Record(
                str(row["system"]),
                str(row["place"]),
                rank=int(row.get("rank", 2)),
                few=bool(row.get("few")),
                unknown={"metrics", *row.get("unknown", ())},
            )
            for section, key, value, source, derived, *note in row["facts"]:
                record.add(
                    section, key, value, source, derived=tuple(derived) if isinstance(derived, list) else derived, note="".join(note)
                )
            found.append(record)
        return found
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def with_attached(comparison: Comparison, a: StoredRun, b: StoredRun) -> Comparison:
    """The comparison of two runs, with what the records beside them say and the runs themselves do not."""
    left, right = attached(a), attached(b)
    if not left or not right:
        return comparison
    more = compare_records(join(a.path, left), join(b.path, right)).differences
    known = {d.key.lstrip("-").lower() for d in comparison.differences}
    new = [
        d for d in more
        if d.section in ("config", "data", "code", "container") and d.key.lower() not in known and d.key not in ("git_commit", "git_diff", "args")
    ]  # fmt: skip
    if not new:
        return comparison
    if comparison.verdict == "identical":
        new = [dataclasses.replace(d, severity="harmless") for d in new]
    merged = sorted([*comparison.differences, *new], key=lambda d: {"critical": 0, "notable": 1, "harmless": 2}[d.severity])
    return dataclasses.replace(comparison, differences=tuple(merged))
