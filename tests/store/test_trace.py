"""Journal to HDF5 and back; cut, damaged and hostile files."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from reprodebug._base.errors import RunUnreadable, SchemaTooNew
from reprodebug.model.events import EVENT_FIELDS, Kind
from reprodebug.store import journal
from reprodebug.store.trace import Trace, convert, parse_journal, read_journal, read_trace, write_trace
from tests.store.journals import assert_equal, events_per_step, journal_bytes, tensor_frame, training

SMALL = journal_bytes(training(2, 2, extras=True), flush=7)


def parsed(data: bytes) -> Trace:
    return parse_journal(memoryview(data))


def written(tmp_path: Path, data: bytes = SMALL) -> str:
    """The trace file of a journal."""
    path = str(tmp_path / "trace-rank0.h5")
    write_trace(parsed(data), path)
    return path


# round trip


@pytest.mark.parametrize("extras", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 30])
def test_round_trip(tmp_path: Path, steps: int, extras: bool) -> None:
    records = training(steps, 3, extras=extras)
    source = tmp_path / "1-1.rdj"
    source.write_bytes(journal_bytes(records, flush=50))
    first = convert(str(source), str(tmp_path / "t.h5"))
    assert first.events.tobytes() == records.events.tobytes()
    assert first.rng.tobytes() == records.rng.tobytes() and first.stats.tobytes() == records.stats.tobytes()
    assert first.complete and not first.cut
    assert first.tensor_seqs == sorted(records.tensors)
    for seq, (body, dtype, shape) in records.tensors.items():
        found = first.tensor(seq)
        assert found is not None and (found[0].tobytes(), found[1], found[2]) == (body, dtype, shape)
    for seq, (prints, indices) in records.samples.items():
        found_samples = first.samples(seq)
        assert found_samples is not None
        assert found_samples[0].tolist() == prints.tolist() and found_samples[1].tolist() == indices.tolist()
    for key, body in records.states.items():
        assert first.state(*key) == body
    assert_equal(first, read_trace(str(tmp_path / "t.h5")))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1-1.rdj", "t.h5"]


def test_a_trace_without_records_reads_back(tmp_path: Path) -> None:
    for data in (b"", b"garbage", journal.MAGIC):
        assert_equal(parsed(data), read_trace(written(tmp_path, data)))


def test_what_was_not_kept_is_none(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path))
    assert trace.samples(10**9) is None and trace.tensor(10**9) is None and trace.state(9, 9, 9) is None


def test_a_million_events_come_back(tmp_path: Path) -> None:
    modules = 50
    records = training(events=1_000_000, modules=modules)
    assert (
        len({(int(s), int(k)) for s, k in zip(records.events["site"], records.events["kind"], strict=True)}) >= events_per_step(modules) - 1
    )
    path = str(tmp_path / "t.h5")
    trace = parsed(journal_bytes(records))
    assert len(trace.events) == 1_000_000
    write_trace(trace, path)
    again = read_trace(path)
    assert again.events.tobytes() == records.events.tobytes()


def test_out_of_order_frames_are_put_in_order() -> None:
    records = training(3, 2)
    data = journal_bytes(records, flush=10)
    names = [f for f in journal.frames(memoryview(data)) if f[0] != journal.EVENTS]
    events = [f for f in journal.frames(memoryview(data)) if f[0] == journal.EVENTS]
    shuffled = b"".join([journal.MAGIC, *(journal.frame(k, bytes(p)) for k, p, _ in names + events[::-1])])
    assert parsed(shuffled).events.tobytes() == records.events.tobytes()


# every dtype of torch


def test_every_torch_dtype_comes_back_bit_for_bit(tmp_path: Path) -> None:
    import torch

    names = sorted(
        {str(v).removeprefix("torch.") for v in vars(torch).values() if isinstance(v, torch.dtype)}
        - {"quint8", "qint8", "qint32", "quint4x2", "quint2x4"}
    )
    assert {"float8_e4m3fn", "float8_e5m2", "bfloat16", "complex32", "bool", "float64", "uint64"} <= set(names)
    frames, bodies = [], []
    generator = torch.Generator().manual_seed(3)
    for name in names:
        raw = torch.randint(0, 256, (3 * 5 * 16,), dtype=torch.uint8, generator=generator)
        if name == "bool":
            raw = raw % 2
        try:
            tensor = raw.view(getattr(torch, name))
        except RuntimeError:  # a dtype of less than a byte: the storage is all there is
            tensor = raw
        body = tensor.contiguous().view(torch.uint8).numpy().tobytes()
        assert body == bytes(tensor.untyped_storage())
        frames.append(tensor_frame(len(bodies), body, name, tuple(tensor.shape)))
        bodies.append((name, body, tuple(tensor.shape)))
    trace = read_trace(written(tmp_path, journal.MAGIC + b"".join(frames)))
    for seq, (name, body, shape) in enumerate(bodies):
        found = trace.tensor(seq)
        assert found is not None
        assert (found[0].tobytes(), found[1], found[2]) == (body, name, shape)


# cut


def test_every_cut_of_a_journal_gives_a_prefix() -> None:
    whole = parsed(SMALL)
    rows = whole.events.tobytes()
    width = whole.events.dtype.itemsize
    most = 0
    for at in range(len(SMALL) + 1):
        trace = parsed(SMALL[:at])
        assert rows.startswith(trace.events.tobytes())
        assert len(trace.events) >= most
        most = len(trace.events)
        assert [trace.sites[e["site"]] for e in trace.events] == [whole.sites[e["site"]] for e in whole.events[:most]]
        assert len(trace.rng) <= len(whole.rng) and whole.rng.tobytes().startswith(trace.rng.tobytes())
        assert set(trace.tensor_seqs) <= set(whole.tensor_seqs)
        assert trace.complete == (at == len(SMALL))
        if at < len(journal.MAGIC):
            assert trace.cut
    assert most * width == len(rows)


def test_cut_journals_convert(tmp_path: Path) -> None:
    for at in random.Random(1).sample(range(len(SMALL)), 40):
        trace = parsed(SMALL[:at])
        path = str(tmp_path / "t.h5")
        write_trace(trace, path)
        assert_equal(trace, read_trace(path))


# damaged


def mutated(data: bytes, rng: random.Random) -> bytes:
    """``data`` with a few bytes changed, a piece taken out, doubled or zeroed, or the end missing."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(out))
        how = rng.randrange(6)
        if how < 3:
            out[at] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256), out[at] ^ (1 << rng.randrange(8))))
        elif how == 3:
            del out[at : at + rng.randrange(1, 40)]
        elif how == 4:
            out[at:at] = out[at : at + rng.randrange(1, 60)]
        else:
            end = min(at + rng.randrange(1, 80), len(out))
            out[at:end] = bytes(end - at)
        if len(out) < 16:
            break
    return bytes(out)


def use(trace: Trace) -> None:
    """Touch all of a trace as its readers do."""
    for row in trace.events:
        assert trace.sites[row["site"]] and trace.metas[row["meta"]]
        Kind(int(row["kind"]))
    for seq in list(trace._samples)[:20]:
        trace.samples(seq)
    for key in list(trace._states)[:20]:
        trace.state(*key)
    for seq in trace.tensor_seqs[:20]:
        trace.tensor(seq)


def test_damaged_journals_give_a_trace(tmp_path: Path) -> None:
    rng = random.Random(20)
    for n in range(150):
        data = mutated(SMALL, rng)
        trace = parsed(data)
        use(trace)
        if n % 20 == 0:
            path = str(tmp_path / "t.h5")
            try:
                write_trace(trace, path)
            except (ValueError, OverflowError):  # open_run then reads the journal as it is
                continue
            assert_equal(trace, read_trace(path))


HOSTILE = {
    "short site": (journal.NAMES, {"sites": [[0, "Net"]]}),
    "site of numbers": (journal.NAMES, {"sites": [0, 1]}),
    "site without a row": (journal.NAMES, {"sites": [[]]}),
    "names as a list": (journal.NAMES, [1, 2]),
    "names null": (journal.NAMES, {"sites": None}),
    "short meta": (journal.NAMES, {"metas": [[0]]}),
    "endless meta": (journal.NAMES, {"metas": [[0, [1e999], "float32", "cpu", "strided", ""]]}),
    "generator without a name": (journal.NAMES, {"generators": [[0]]}),
    "far site": (journal.NAMES, {"sites": [[(1 << 24) - 1, "a", "b", "c", "d"]]}),
    "endless site": (journal.NAMES, {"sites": [[1e999, "a", "b", "c", "d"]]}),
    "meta list": (journal.META, [1]),
    "start of other types": (journal.META, {"type": "start", "started": 3, "rank": "x", "pid": [], "argv": 9, "facts": 3}),
    "tensor header list": (journal.TENSOR, None),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_well_formed_frames_of_other_types(name: str) -> None:
    kind, value = HOSTILE[name]
    frame = journal.frame(kind, journal.TENSOR_HEAD.pack(1, 2) + b"[]") if value is None else journal.json_frame(kind, value)
    events = np.zeros(3, np.dtype(list(EVENT_FIELDS)))
    for data in (journal.MAGIC + frame + journal.frame(journal.EVENTS, events.tobytes()), SMALL + frame, journal.MAGIC + frame + SMALL[8:]):
        use(parsed(data))


@pytest.mark.parametrize("kind", [journal.SAMPLES, journal.STATE, journal.TENSOR, journal.META, journal.NAMES, 0, 99, 255])
@pytest.mark.parametrize("payload", [b"", b"\xff", b"\xff" * 15, b"\xff" * 64, b"[" * 100_000])
def test_frames_too_short_for_their_kind(kind: int, payload: bytes) -> None:
    use(parsed(SMALL + journal.frame(kind, payload)))


FUZZ = """
import random, sys
sys.path[:0] = sys.argv[3:]
from reprodebug._base.errors import RunUnreadable
from reprodebug.store.trace import read_trace
from tests.store.test_trace import mutated, use
with open(sys.argv[1], "rb") as f:
    whole = f.read()
rng = random.Random(11)
path, opened, refused = sys.argv[1] + ".bad", 0, 0
while opened + refused < 150:
    with open(path, "wb") as f:
        f.write(mutated(whole, rng))
    try:
        use(read_trace(path))
        opened += 1
    except RunUnreadable:
        refused += 1
print(opened, refused)
"""


def test_damaged_traces_are_read_or_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    # in a process of its own, because a damaged file may bring the HDF5 library itself down
    done = subprocess.run([sys.executable, "-W", "error", "-c", FUZZ, path, "", *sys.path], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    _, refused = map(int, done.stdout.split())
    assert refused > 20


def test_every_cut_of_a_trace_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = Path(path).read_bytes()
    for at in {0, 1, 7, 8, 100, len(whole) - 1, *random.Random(2).sample(range(len(whole)), 60)}:
        Path(path).write_bytes(whole[:at])
        with pytest.raises(RunUnreadable):
            read_trace(path)


# hostile HDF5


def refused(path: str, why: str = "damaged") -> None:
    with pytest.raises(RunUnreadable, match=why) as found:
        read_trace(path)
    assert found.value.hint


def test_links_out_of_the_file_are_not_followed(tmp_path: Path) -> None:
    other = str(tmp_path / "other.h5")
    os.rename(written(tmp_path), other)
    for part in ("events", "events/seq", "rng/id", "tables", "samples", "samples/data", "states/rows", "tensors"):
        for link in (h5py.SoftLink(f"/copy/{part}"), h5py.ExternalLink(other, part), h5py.ExternalLink("/dev/zero", part)):
            path = written(tmp_path)
            with h5py.File(path, "a") as f:
                f.copy(part, f.require_group("copy"), part)
                del f[part]
                f[part] = link
            refused(path)
            os.unlink(path)
    path = written(tmp_path)
    with h5py.File(path, "a") as f:
        name = next(iter(f["tensors"]))
        del f[f"tensors/{name}"]
        f[f"tensors/{name}"] = h5py.ExternalLink(other, f"tensors/{name}")
    refused(path)


def test_a_dangling_link_is_refused_not_overlooked(tmp_path: Path) -> None:
    for part in ("samples", "states", "tensors"):
        path = written(tmp_path)
        with h5py.File(path, "a") as f:
            del f[part]
            f[part] = h5py.ExternalLink("nowhere.h5", "/x")
        refused(path)
        os.unlink(path)


def replaced(path: str, name: str, **dataset: Any) -> None:
    with h5py.File(path, "a") as f:
        del f[name]
        f.create_dataset(name, **dataset)


def test_bytes_outside_the_file_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 4096)
    path = written(tmp_path)
    replaced(path, "tables", shape=(64,), dtype="u1", external=[(str(secret), 0, 64)])
    refused(path)
    path = written(tmp_path)
    layout = h5py.VirtualLayout(shape=(64,), dtype="u1")
    with h5py.File(tmp_path / "source.h5", "w") as f:
        f["x"] = np.zeros(64, np.uint8)
    layout[:] = h5py.VirtualSource(str(tmp_path / "source.h5"), "x", shape=(64,))
    with h5py.File(path, "a") as f:
        del f["samples/data"]
        f.create_virtual_dataset("samples/data", layout)
    refused(path)


@pytest.mark.parametrize("how", [{}, {"chunks": (1024,)}, {"chunks": (1024,), "compression": "gzip"}, {"chunks": (1 << 30,)}])
def test_a_claim_of_a_huge_size_is_refused(tmp_path: Path, how: dict[str, Any]) -> None:
    for name, dtype in (("tables", "u1"), ("events/seq", "<u8"), ("samples/data", "u1"), ("states/rows", "<u8")):
        path = written(tmp_path)
        options = {"maxshape": (None,)} | how if how else {}
        replaced(path, name, shape=(1 << 40,) if how.get("chunks") != (1 << 30,) else (8,), dtype=dtype, **options)
        refused(path)
        os.unlink(path)


def test_other_forms_are_refused(tmp_path: Path) -> None:
    for name, dataset in (
        ("events/seq", {"data": np.zeros((2, 2), "<u8")}),
        ("events/seq", {"data": np.zeros(2, "<f4")}),
        ("events/seq", {"data": np.zeros(2, "<u8")}),
        ("events/site", {"data": np.full(9, 77, "<u4")}),
        ("tables", {"data": np.frombuffer(b"{}", np.uint8)}),
        ("tables", {"data": np.frombuffer(b"[1]", np.uint8)}),
        ("tables", {"data": np.frombuffer(b"\xff\xfe", np.uint8)}),
        ("tables", {"data": np.frombuffer(b"[" * 100_000, np.uint8)}),
        ("tables", {"data": np.frombuffer(json.dumps({"sites": [], "metas": [[[1e999], "", "", "", ""]], "generators": [], "notes": []}).encode(),
                                          np.uint8)}),
        ("samples/rows", {"data": np.array([2**63, 2**63, 2**63], "<u8")}),
        ("samples/rows", {"data": np.array([1, 2], "<u8")}),
        ("states/rows", {"data": np.array([0, 1, 2, 1 << 40], "<u8")}),
        ("events", {"data": np.zeros(3)}),
        ("tensors", {"data": np.zeros(3)}),
        ("tensors/x", {"data": np.zeros(3, np.uint8)}),
    ):  # fmt: skip
        path = written(tmp_path)
        with h5py.File(path, "a") as f:
            if name in f:
                del f[name]
            f.create_dataset(name, **dataset)
        refused(path)
        os.unlink(path)


def test_newer_older_and_foreign_files(tmp_path: Path) -> None:
    path = written(tmp_path)
    with h5py.File(path, "a") as f:
        f.attrs["schema_version"] = 99
    with pytest.raises(SchemaTooNew, match="newer reprodebug"):
        read_trace(path)
    for value in ("x", np.zeros(3), np.nan, np.inf):
        with h5py.File(path, "a") as f:
            f.attrs["schema_version"] = value
        refused(path)
    with h5py.File(path, "a") as f:
        f.attrs["schema"] = np.zeros(3)
    refused(path, "no reprodebug trace")
    with h5py.File(path, "w") as f:
        f["x"] = np.zeros(3)
    refused(path, "no reprodebug trace")
    refused(str(tmp_path / "none.h5"), "missing")
    refused(str(tmp_path), "no plain file")
    os.mkfifo(tmp_path / "pipe.h5")
    refused(str(tmp_path / "pipe.h5"), "no plain file")


def test_bytes_that_vanish_later_are_an_error_of_ours(tmp_path: Path) -> None:
    path = written(tmp_path)
    trace = read_trace(path)
    seq = trace.tensor_seqs[0]
    Path(path).write_bytes(Path(path).read_bytes()[:500])
    with pytest.raises(RunUnreadable):
        trace.tensor(seq)
    os.unlink(path)
    for ask in (
        lambda: trace.tensor(seq),
        lambda: trace.samples(next(iter(trace._samples))),
        lambda: trace.state(*next(iter(trace._states))),
    ):
        with pytest.raises(RunUnreadable):
            ask()


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        write_trace(parsed(SMALL), str(tmp_path / "t.h5"))
    assert list(tmp_path.iterdir()) == []


def test_reading_a_journal_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunUnreadable):
        read_journal(str(tmp_path / "x.rdj"))
