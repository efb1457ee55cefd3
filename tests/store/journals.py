"""Synthetic journals and run directories of a plain training, of any size, made without torch.

``training`` gives the records as columns, ``journal_bytes`` the journal that a guest would have written of them, ``build_run`` a whole
run directory. A million events take about a second.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reprodebug.model.events import EVENT_FIELDS, RNG_FIELDS, STATS_FIELDS, Flag, Kind, Phase
from reprodebug.model.run import Manifest
from reprodebug.store import journal
from reprodebug.store.manifest import write_manifest
from reprodebug.store.run import finish_run
from reprodebug.store.trace import Trace

Array = np.ndarray[Any, Any]
ROOT = "Net"
SHAPE = (4, 8)
_NAMES = (("weight", (8, 8)), ("bias", (8,)))


@dataclass(slots=True)
class Records:
    """What one process saw."""

    events: Array
    sites: list[tuple[str, str, str, str]]
    metas: list[tuple[tuple[int, ...], str, str, str, str]]
    generators: list[tuple[str, str]]
    rng: Array
    stats: Array
    samples: dict[int, tuple[Array, Array]] = field(default_factory=dict)
    states: dict[tuple[int, int, int], bytes] = field(default_factory=dict)
    tensors: dict[int, tuple[bytes, str, tuple[int, ...]]] = field(default_factory=dict)
    notes: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0


def _mixed(x: Array, salt: int) -> Array:
    """A word of 64 well-mixed bits for each number (splitmix64)."""
    with np.errstate(over="ignore"):
        z = (x.astype(np.uint64) + np.uint64(salt)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _step_of(modules: int) -> list[tuple[tuple[str, str, str, str], int, Kind, Phase, Flag]]:
    """One step's records: (site, meta, kind, phase, flags) in execution order."""
    seen = Flag.TRAINING | Flag.GRAD
    rows: list[tuple[tuple[str, str, str, str], int, Kind, Phase, Flag]] = [
        (("DataLoader#0", "", "Data", "batch.0"), 0, Kind.DATA, Phase.DATA, Flag(0))
    ]
    names = [f"layers.{n}" for n in range(modules)]
    for m in names:
        rows.append(((ROOT, m, "Linear", "input.0"), 0, Kind.ACTIVATION, Phase.FORWARD, seen | Flag.INPUT))
        rows.append(((ROOT, m, "Linear", "output.0"), 0, Kind.ACTIVATION, Phase.FORWARD, seen | Flag.REQUIRES_GRAD))
    rows.append(((ROOT, "", ROOT, "output.0"), 0, Kind.ACTIVATION, Phase.FORWARD, seen | Flag.REQUIRES_GRAD))
    rows.append((("loss", "", "", "loss.0"), 3, Kind.LOSS, Phase.FORWARD, Flag.SCALAR))
    for m in reversed(names):
        rows.append(((ROOT, m, "Linear", "output.0.grad"), 0, Kind.GRADIENT, Phase.BACKWARD, Flag(0)))
        rows += [((ROOT, m, "Linear", f"{t}.grad"), n + 1, Kind.GRADIENT, Phase.BACKWARD, Flag(0)) for n, (t, _) in enumerate(_NAMES)]
    for m in names:
        for n, (t, _) in enumerate(_NAMES):
            rows.append(((ROOT, m, "Linear", t), n + 1, Kind.PARAMETER, Phase.OPTIMIZER, Flag(0)))
            rows.append(((ROOT, m, "Linear", f"{t}.state"), n + 1, Kind.OPTIMIZER, Phase.OPTIMIZER, Flag(0)))
    return rows


def events_per_step(modules: int) -> int:
    return len(_step_of(modules))


def training(
    steps: int = 10, modules: int = 4, *, change_at: float | None = None, seed: int = 0, extras: bool = False, events: int | None = None,
    complete: bool = True, pid: int = 4242, rank: int = 0,
) -> Records:  # fmt: skip
    """A training of ``steps`` steps (or of exactly ``events`` records) over ``modules`` linear layers.

    From the share ``change_at`` of all records on every fingerprint differs, but for the batches. With ``extras`` it also has statistics,
    sample indices, generator states and kept tensors.
    """
    block = _step_of(modules)
    sites: dict[tuple[str, str, str, str], int] = {}
    for row in block:
        sites.setdefault(row[0], len(sites))
    start = [(r[0], r[1], r[2]) for r in block if r[3] == Phase.OPTIMIZER and r[2] == Kind.PARAMETER]
    n = len(start) + steps * len(block) if events is None else events
    table = np.zeros(n, np.dtype(list(EVENT_FIELDS)))
    seq = np.arange(n)
    table["seq"] = seq
    head = min(len(start), n)
    for column, values in (("site", [sites[r[0]] for r in start]), ("meta", [r[1] for r in start]), ("kind", [int(r[2]) for r in start])):
        table[column][:head] = values[:head]
    which = (seq[head:] - head) % len(block)
    step = (seq[head:] - head) // len(block)
    columns = {
        "site": [sites[r[0]] for r in block], "meta": [r[1] for r in block], "kind": [int(r[2]) for r in block],
        "phase": [int(r[3]) for r in block], "flags": [int(r[4]) for r in block],
    }  # fmt: skip
    for column, values in columns.items():
        table[column][head:] = np.array(values)[which]
    table["step"][head:] = step + (table["phase"][head:] == Phase.OPTIMIZER)  # an update belongs to the step that it finishes
    table["turn"][head:] = (step + (which >= 2 * modules + 2)) % (1 << 16)
    table["time_ms"][head:] = step * 12 + which // 8
    table["lo"], table["hi"] = _mixed(seq, 2 * seed + 1), _mixed(seq, 2 * seed + 2)
    if change_at is not None:
        first = int(change_at * max(n - 1, 0))
        changed = table[first:]
        changed["lo"] ^= (changed["kind"] != Kind.DATA).astype(np.uint64)

    batches = seq[head:][which == 0]
    rng = np.zeros(len(batches), np.dtype(list(RNG_FIELDS)))
    rng["id"], rng["seq"] = np.arange(len(batches)) + 1, batches
    rng["position"] = np.arange(len(batches)) % 624
    rng["lo"], rng["hi"] = _mixed(batches, 77), _mixed(batches, 78)
    table["rng"][batches] = rng["id"]
    records = Records(
        table, list(sites), [(SHAPE, "float32", "cpu", "strided", ""), *((s, "float32", "cpu", "strided", "") for _, s in _NAMES),
                             ((), "float32", "cpu", "strided", "")],
        [("torch.cpu", "mt19937"), ("numpy.random", "mt19937")], rng, np.zeros(0, np.dtype(list(STATS_FIELDS))),
        steps=int(table["step"].max(initial=0)),
    )  # fmt: skip
    records.notes = [
        {"type": "start", "role": "main", "rank": rank, "pid": pid, "ppid": 1, "argv": ["python", "train.py"],
         "started": "2026-01-01T00:00:00+00:00", "level": "full" if extras else "fingerprint", "fingerprint": "xxh3-128",
         "facts": {"executable": "/usr/bin/python", "version": "3.11.7"}, "seq": 0},
        {"type": "facts", "facts": {"torch": {"version": "2.6.0"}}, "seq": 0},
        {"type": "settings", "step": 0, "settings": {"deterministic_algorithms": False}, "seq": 0},
    ]  # fmt: skip
    if complete:
        records.notes.append({"type": "end", "steps": records.steps, "seq": n})
    if extras:
        _extras(records, batches)
    return records


def _extras(records: Records, batches: Array) -> None:
    losses = records.events["seq"][records.events["kind"] == Kind.LOSS]
    stats = np.zeros(len(losses), np.dtype(list(STATS_FIELDS)))
    stats["seq"] = losses
    stats["value"] = 1.0 / (1 + np.arange(len(losses)))
    stats["minimum"], stats["nans"] = -0.0, np.nan
    records.stats = stats
    for n, at in enumerate(batches.tolist()):
        prints = _mixed(np.arange(4) + 4 * n, 5)
        records.samples[at] = (prints, np.arange(4) - (n % 3))
    for n, row in enumerate(records.rng[:3]):
        body = bytes([n]) * (200 + n)
        records.states[(0, int(row["lo"]), int(row["hi"]))] = body
    values = np.linspace(-1, 1, 32).astype("<f4")
    for n, at in enumerate(losses.tolist()):
        records.tensors[at] = ((values + n).tobytes(), "float32", SHAPE)
    if len(losses):  # a tensor without an element and one without a dimension
        records.tensors[int(losses[0]) + 1] = (b"", "int64", (0, 3))
        records.tensors[int(losses[0]) + 2] = (b"\x01", "bool", ())


def journal_bytes(records: Records, flush: int = 1 << 16) -> bytes:
    """The journal of ``records``, ``flush`` events to a frame."""
    out = [journal.MAGIC, journal.frame(journal.META, b'{"type":"reserve"}'.ljust(512))]
    first = [n for n in records.notes if not n.get("seq")]
    out += [journal.json_frame(journal.META, n) for n in first]
    names = {
        "sites": [[n, *s] for n, s in enumerate(records.sites)],
        "metas": [[n, list(m[0]), *m[1:]] for n, m in enumerate(records.metas)],
        "generators": [[n, *g] for n, g in enumerate(records.generators)],
    }
    out.append(journal.json_frame(journal.NAMES, names))
    for (generator, lo, hi), body in records.states.items():
        digest = lo.to_bytes(8, "little") + hi.to_bytes(8, "little")
        out.append(journal.frame(journal.STATE, journal.STATE_HEAD.pack(generator, digest) + body))
    seqs = records.rng["seq"]
    for at in range(0, len(records.events), flush):
        rows = records.events[at : at + flush]
        low, high = np.searchsorted(seqs, [at, at + flush])
        if high > low:
            out.append(journal.frame(journal.RNG, records.rng[low:high].tobytes()))
        out.append(journal.frame(journal.EVENTS, rows.tobytes()))
    if len(records.stats):
        out.append(journal.frame(journal.STATS, records.stats.tobytes()))
    for seq, (prints, indices) in records.samples.items():
        head = journal.SAMPLES_HEAD.pack(seq, len(prints), len(indices))
        out.append(journal.frame(journal.SAMPLES, head + prints.astype("<u8").tobytes() + indices.astype("<i8").tobytes()))
    for seq, (body, dtype, shape) in records.tensors.items():
        out.append(tensor_frame(seq, body, dtype, shape))
    out += [journal.json_frame(journal.META, n) for n in records.notes if n not in first]
    return b"".join(out)


def tensor_frame(seq: int, body: bytes, dtype: str, shape: tuple[int, ...]) -> bytes:
    import json

    header = json.dumps({"dtype": dtype, "shape": list(shape)}).encode()
    return journal.frame(journal.TENSOR, journal.TENSOR_HEAD.pack(seq, len(header)) + header + body)


def build_run(
    path: str | Path, steps: int = 10, modules: int = 4, change_at: float | None = None, *, form: str = "trace", manifest: bool = True,
    data: bytes | None = None, name: str = "4242-1", ended: bool = True, **more: Any,
) -> str:  # fmt: skip
    """A run directory of a synthetic training; returns its path.

    ``form`` is ``journal`` (as a killed capture leaves it) or ``trace`` (as a finished one). ``data`` replaces the journal's bytes;
    ``manifest=False`` leaves ``run.json`` out. The rest goes to ``training``.
    """
    path = os.fspath(path)
    os.makedirs(os.path.join(path, "journal"), exist_ok=True)
    if data is None:
        data = journal_bytes(training(steps, modules, change_at=change_at, **more))
    with open(os.path.join(path, "journal", f"{name}.rdj"), "wb") as f:
        f.write(data)
    if manifest:
        write_manifest(
            path,
            Manifest(("python", "train.py"), "/project", "2026-01-01T00:00:00.000+00:00", level="full" if more.get("extras") else "fingerprint",
                     label=os.path.basename(path)),
        )  # fmt: skip
    if form == "trace":
        done = {"ended": "2026-01-01T00:01:00.000+00:00", "exit_code": 0} if ended else {}
        finish_run(path, **done)
    return path


def assert_equal(a: Trace, b: Trace) -> None:
    """Two traces hold the same, down to the last sample, state and tensor."""
    for name in ("events", "rng", "stats"):
        one, other = getattr(a, name), getattr(b, name)
        assert one.dtype == other.dtype and one.tobytes() == other.tobytes(), name
    assert a.sites == b.sites
    assert a.metas == b.metas
    assert a.generators == b.generators
    assert a.notes_meta == b.notes_meta
    assert (a.complete, a.cut) == (b.complete, b.cut)
    assert sorted(a._samples) == sorted(b._samples)
    for seq in a._samples:
        one, other = a.samples(seq), b.samples(seq)
        assert one is not None and other is not None
        assert [x.tolist() for x in one] == [x.tolist() for x in other]
    assert sorted(a._states) == sorted(b._states)
    for key in a._states:
        assert a.state(*key) == b.state(*key)
    assert a.tensor_seqs == b.tensor_seqs
    for seq in a.tensor_seqs:
        one, other = a.tensor(seq), b.tensor(seq)
        assert one is not None and other is not None
        assert (one[0].tobytes(), *one[1:]) == (other[0].tobytes(), *other[1:])
