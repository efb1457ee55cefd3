"""Fingerprints of an accelerator, without one: the algorithm in all its forms, and what happens while answers are on their way."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from reprodebug.model.events import EVENT, Flag, Kind, Phase
from reprodebug.recorder import device, device_kernel, device_results
from reprodebug.recorder.device_results import is_token
from reprodebug.recorder.loading import Loading
from reprodebug.recorder.writer import Writer
from reprodebug.store.trace import read_journal
from tests.recorder.far import FarBackend, FarFingerprinter
from tests.recorder.test_fingerprint import BYTE_DTYPES, CHANGES, make

SIZES = [0, 1, 7, 8, 9, 15, 16, 17, 24, 63, 64, 65, 1000, 4096, 16384, 100_003, 300_000]


def reference(data: bytes, seed: int) -> bytes:
    """The algorithm once more, in NumPy."""
    words = np.frombuffer(data + bytes(-len(data) % 8), "<u8")
    words = np.concatenate([np.array([len(data)], np.uint64), words])
    with np.errstate(over="ignore"):
        y = words ^ (np.uint64(seed) + np.arange(len(words), dtype=np.uint64) * np.uint64(device_kernel.STEP))
        y = (y ^ (y >> np.uint64(32))) * np.uint64(device_kernel.M1)
        y = (y ^ (y >> np.uint64(29))) * np.uint64(device_kernel.M2)
        y = y ^ (y >> np.uint64(32))
        z = y * np.uint64(device_kernel.M3)
        return bytes(np.array([y.sum(), (z ^ (z >> np.uint64(32))).sum()], "<u8").tobytes())


def by_torch(data: bytes, seed: int) -> bytes:
    if not data:
        return device_kernel.empty(seed)
    t = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return bytes(device_kernel.torch_sums(torch, t, seed).numpy().tobytes())


def data_of(n: int) -> bytes:
    return random.Random(n).randbytes(n)


SEED = 0xFEDCBA9876543210


@pytest.mark.parametrize("n", SIZES)
def test_torch_operations_agree_with_the_reference(n: int) -> None:
    assert by_torch(data_of(n), SEED) == reference(data_of(n), SEED)


def test_torch_operations_agree_across_chunks_and_alignments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_kernel, "_CHUNK_WORDS", 100)
    raw = data_of(10_005)
    whole = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
    for at in (0, 1, 4, 8):
        assert device_kernel.torch_sums(torch, whole[at:], SEED).numpy().tobytes() == reference(raw[at:], SEED)


SHIM = r"""
#define ON_HOST
#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)
struct Dim { unsigned x, y; };
static Dim blockIdx, threadIdx, gridDim;
static void atomicAdd(unsigned long long* p, unsigned long long n) { *p += n; }
static void deliver(unsigned long long lo, unsigned long long hi, unsigned long long* out) { out[0] += lo; out[1] += hi; }
%s
extern "C" void run_one(const unsigned char* p, u64 nbytes, u64 seed, unsigned blocks, unsigned rows, u64* out) {
    gridDim = {blocks, rows};
    for (blockIdx.y = 0; blockIdx.y < rows; blockIdx.y++)
        for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
            for (threadIdx.x = 0; threadIdx.x < THREADS; threadIdx.x++) fingerprint(p, nbytes, seed, out);
}
extern "C" void run_many(const Table* table, unsigned blocks) {
    gridDim = {blocks, 1};
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
        for (threadIdx.x = 0; threadIdx.x < THREADS; threadIdx.x++) fingerprints(*table);
}
extern "C" void run_thread(const unsigned char* p, u64 nbytes, u64 seed, u64 thread, u64 threads, u64* out) {
    sums(p, nbytes, seed, thread, threads, out[0], out[1]);
}
extern "C" unsigned long long table_bytes() { return sizeof(Table); }
"""


@pytest.fixture(scope="module")
def on_host(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The CUDA source compiled for this processor, its threads run one after the other."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    folder = tmp_path_factory.mktemp("kernel")
    (folder / "kernel.cpp").write_text(SHIM % device_kernel.SOURCE)
    subprocess.run(["g++", "-O1", "-std=c++17", "-shared", "-fPIC", "-o", folder / "kernel.so", folder / "kernel.cpp"], check=True)
    library = ctypes.CDLL(str(folder / "kernel.so"))
    library.run_one.argtypes = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p)
    library.run_many.argtypes = (ctypes.c_void_p, ctypes.c_uint)
    library.run_thread.argtypes = (ctypes.c_void_p, *[ctypes.c_uint64] * 4, ctypes.c_void_p)
    library.table_bytes.restype = ctypes.c_uint64
    return library


@pytest.mark.parametrize("shift", [0, 8, 4, 1, 3, 7, 12, 15])
def test_the_kernel_agrees_with_the_reference(on_host: Any, shift: int) -> None:
    for n in SIZES:
        room = ctypes.create_string_buffer(b"\xa5" * (n + 64))  # what lies around it is no part of it
        base = -(-ctypes.addressof(room) // 16) * 16 + 16 + shift
        ctypes.memmove(base, data_of(n), n)
        for blocks in (1, 3):
            out = np.zeros(2, np.uint64)
            on_host.run_one(base, n, SEED, blocks, 1, out.ctypes.data)
            assert out.tobytes() == reference(data_of(n), SEED), (n, blocks)


@pytest.mark.skipif(sys.platform != "linux", reason="takes memory that is not there")
@pytest.mark.parametrize("shift", [0, 8, 5])
def test_a_thread_of_a_tensor_of_five_gigabytes(on_host: Any, shift: int) -> None:
    """What one of many threads reads of it; positions and sizes do not fit into 32 bits."""
    nbytes, threads, thread = 5 * (1 << 30) + 11, 1 << 26, (1 << 26) - 3
    size = nbytes + 64
    unbacked = 0x4000  # MAP_NORESERVE of Linux, which Python names from 3.13 on
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | unbacked) as room:
        view = (ctypes.c_char * size).from_buffer(room)
        words, wide = nbytes // 8, 2 if shift == 0 else 1
        mine = [wide * i + n for i in range(thread, words // wide, threads) for n in range(wide)]
        assert len(mine) > 3 and max(mine) * 8 > 1 << 32
        lo = hi = 0
        for number, word in enumerate(mine):
            value = data_of(number + 1000)[:8]
            room[shift + 8 * word : shift + 8 * word + 8] = value
            more = device_kernel.add_word(int.from_bytes(value, "little"), (SEED + (word + 1) * device_kernel.STEP) & device_kernel.MASK)
            lo, hi = (lo + more[0]) & device_kernel.MASK, (hi + more[1]) & device_kernel.MASK
        out = np.zeros(2, np.uint64)
        on_host.run_thread(ctypes.addressof(view) + shift, nbytes, SEED, thread, threads, out.ctypes.data)
        del view
    assert out.tolist() == [lo, hi]


def test_the_kernel_hashes_rows_and_tables(on_host: Any) -> None:
    from reprodebug.recorder.device_cuda import _Table

    assert on_host.table_bytes() == ctypes.sizeof(_Table) <= 4096
    raw = np.frombuffer(data_of(6 * 1001), np.uint8).copy()
    out = np.zeros((6, 2), np.uint64)
    on_host.run_one(raw.ctypes.data, 1001, 5, 2, 6, out.ctypes.data)
    assert [row.tobytes() for row in out] == [reference(raw[1001 * n : 1001 * (n + 1)].tobytes(), 5) for n in range(6)]
    tensors = [np.frombuffer(data_of(n), np.uint8).copy() for n in (10, 100_000, 1, 64, 50_000)]
    table, out = _Table(n=len(tensors)), np.zeros((5, 2), np.uint64)
    table.out = out.ctypes.data
    first = 0
    for n, t in enumerate(tensors):
        table.address[n], table.nbytes[n], table.seed[n], table.first[n] = t.ctypes.data, t.nbytes, n, first
        first += max(1, t.nbytes // 30_000)
    table.first[len(tensors)] = first
    on_host.run_many(ctypes.addressof(table), first)
    assert [row.tobytes() for row in out] == [reference(t.tobytes(), n) for n, t in enumerate(tensors)]


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_the_kernel_compiles_for_gpus(tmp_path: Path, architecture: str) -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc here")
    (tmp_path / "kernel.cu").write_text(device_kernel.SOURCE)
    command = ["nvcc", f"-arch={architecture}", "-cubin", "--resource-usage", "-o", tmp_path / "k", tmp_path / "kernel.cu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads") == 4, done.stderr
    used = [int(n) for n in re.findall(r"Used (\d+) registers", done.stderr)]
    assert len(used) == 4 and max(used) * device_kernel.THREADS * device_kernel.RESIDENT <= 65536  # all of a launch fits at once


# which changes are seen


@pytest.fixture
def far(tmp_path: Path) -> FarFingerprinter:
    return FarFingerprinter(torch, Writer(str(tmp_path)))


def settled(far: FarFingerprinter, t: torch.Tensor) -> bytes:
    """The fingerprint itself, once it is back."""
    digest, _, flags = far(t)
    assert not flags & Flag.UNOBSERVED
    assert far.device is not None
    far.device.finish()
    found = far.device.results.of(digest) if is_token(digest) else digest
    assert isinstance(found, bytes)
    return found


@pytest.mark.filterwarnings("ignore:B?Complex(Half|32) support")
@pytest.mark.parametrize("dtype", BYTE_DTYPES, ids=str)
def test_every_kind_of_change_is_seen(far: FarFingerprinter, dtype: torch.dtype) -> None:
    t = make(dtype)
    same = settled(far, t)
    assert settled(far, t.clone()) == same
    assert {name: settled(far, change(t)) != same for name, change in CHANGES.items()} == dict.fromkeys(CHANGES, True)


def test_any_two_signs_of_many_are_seen() -> None:
    """Top bits of two words: weights of positions alone would let them cancel."""
    t = torch.randn(64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    before = reference(t.numpy().tobytes(), 3)
    for i in range(64):
        for j in range(i):
            u = t.clone()
            u[[i, j]] = -u[[i, j]]
            assert reference(u.numpy().tobytes(), 3) != before


def test_layouts_dtypes_and_lazy_bits(far: FarFingerprinter) -> None:
    t = torch.randn(5, 7, 3)
    assert settled(far, t.transpose(0, 2)) == settled(far, t.transpose(0, 2).contiguous())
    assert far(t.transpose(0, 2))[2] == Flag.NONCONTIGUOUS
    z = torch.randn(4, dtype=torch.complex64)
    assert settled(far, z.conj()) == settled(far, z.conj().resolve_conj()) != settled(far, z)
    assert settled(far, torch.tensor([0.0])) != settled(far, torch.tensor([-0.0]))
    assert settled(far, torch.empty(0)) != settled(far, torch.empty(0, 3))
    assert settled(far, torch.arange(8)) != settled(far, torch.arange(8).view(2, 4))
    assert settled(far, t[1:]) == settled(far, t[1:].clone())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for sparse in (torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr):
            assert settled(far, sparse(torch.eye(4))) == settled(far, sparse(torch.eye(4))) != settled(far, sparse(2 * torch.eye(4)))


# while answers are on their way


class Journal:
    """A writer with a far device, and what it has put on the disk."""

    def __init__(self, folder: Path) -> None:
        self.writer = Writer(str(folder))
        self.far = FarFingerprinter(torch, self.writer)
        self.backend: FarBackend = self.far.far()
        assert self.far.device is not None
        self.device = self.far.device

    def row(
        self, digest: bytes, meta: int = 0, kind: Kind = Kind.ACTIVATION, *, site: str = "x", step: int = 0, phase: Phase = Phase.FORWARD
    ) -> int:
        return self.writer.event(self.writer.site("net", "", "", site), meta, step, 0, 0, 0, int(kind), int(phase), 0, 0, 0, digest)

    def flush(self) -> list[tuple[int, int, bytes, int]]:
        """(seq, kind, digest, flags) of every event on the disk."""
        self.writer.flush()
        if not os.path.exists(self.writer.path):
            return []
        self.trace = read_journal(self.writer.path)
        assert not self.trace.cut
        return [
            (int(e["seq"]), int(e["kind"]), int(e["lo"]).to_bytes(8, "little") + int(e["hi"]).to_bytes(8, "little"), int(e["flags"]))
            for e in self.trace.events
        ]

    def back(self) -> None:
        self.backend.arrived = True
        for lane in self.device._lanes.values():
            lane.sent = 0.0
        self.device.tick()


@pytest.fixture
def at(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


def seeded(far: FarFingerprinter, t: torch.Tensor) -> bytes:
    return reference(t.numpy().tobytes(), far._metas[(t.shape, t.dtype, t.device)][1])


def test_records_wait_in_order_for_their_fingerprints(at: Journal) -> None:
    at.backend.arrived = False
    t, u = torch.randn(10), torch.randn(11)
    known = bytes(range(16))
    at.row(known)
    token, meta, _ = at.far(t)
    at.row(token, meta)
    at.row(known)
    other, meta, _ = at.far(u)
    at.row(other, meta)
    at.row(token, meta)
    at.device.tick()
    assert [seq for seq, *_ in at.flush()] == [0]
    at.back()
    assert [(seq, digest) for seq, _, digest, _ in at.flush()] == [
        (0, known), (1, seeded(at.far, t)), (2, known), (3, seeded(at.far, u)), (4, seeded(at.far, t)),
    ]  # fmt: skip
    assert at.backend.launches == 2


def test_a_full_block_is_sent_and_used_again(at: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "SLOTS", 8)
    tensors = [torch.full((3,), float(n)) for n in range(50)]
    for t in tensors:
        token, meta, _ = at.far(t)
        at.row(token, meta)
        if int(t[0]) % 20 == 19:
            at.back()
    at.back()
    assert [digest for _, _, digest, _ in at.flush()] == [seeded(at.far, t) for t in tensors]
    lanes = list(at.device._lanes.values())
    assert len(lanes) == 1
    assert not lanes[0].away


def test_streams_have_lanes_of_their_own(at: Journal) -> None:
    tensors = [torch.full((3,), float(n)) for n in range(6)]
    for n, t in enumerate(tensors):
        at.backend.queue = n % 2
        token, meta, _ = at.far(t)
        at.row(token, meta)
    assert len(at.device._lanes) == 2
    at.back()
    assert [digest for _, _, digest, _ in at.flush()] == [seeded(at.far, t) for t in tensors]


def test_a_failed_device_makes_records_unobserved(at: Journal) -> None:
    token, meta, _ = at.far(torch.randn(3))
    at.row(token, meta)
    at.row(bytes(range(16)))
    at.backend.broken = "an illegal memory access was encountered"
    at.back()
    rows = at.flush()
    assert [bool(flags & Flag.UNOBSERVED) for *_, flags in rows] == [True, False]
    assert rows[0][2] == bytes(16)
    shape, dtype, _, _, reason = at.trace.metas[at.trace.events[0]["meta"]]
    assert (shape, dtype) == ((3,), "float32")
    assert "illegal memory access" in reason


def test_nothing_is_queued_into_a_capture(at: Journal) -> None:
    at.backend.under_capture = True
    for t in (torch.randn(3), torch.randn(3, 4).t()):
        digest, meta, flags = at.far(t)
        assert flags & Flag.UNOBSERVED
        assert digest == bytes(16)
        at.row(digest, meta)
    at.device.tick()
    at.flush()
    assert device.CAPTURED in at.trace.metas[at.trace.events[0]["meta"]][4]
    assert at.backend.launches == 0


def test_the_end_waits_but_not_for_ever(at: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "WAIT_S", 0.01)
    at.backend.arrived = False
    token, meta, _ = at.far(torch.randn(3))
    at.row(token, meta)
    at.device.finish()
    rows = at.flush()
    assert len(rows) == 1
    assert rows[0][3] & Flag.UNOBSERVED


def test_a_buffer_counts_only_where_it_changed(at: Journal) -> None:
    t = torch.zeros(4)

    def look() -> None:
        token, meta, _ = at.far(t)
        at.device.results.conditional.add(token)
        at.row(token, meta, Kind.PARAMETER, site="running_mean")

    token, meta, _ = at.far(t)
    at.row(token, meta, Kind.PARAMETER, site="running_mean")
    look()
    t += 1
    look()
    look()
    at.back()
    assert [seq for seq, *_ in at.flush()] == [0, 2]
    look()
    at.back()
    assert [seq for seq, *_ in at.flush()] == [0, 2]


def test_what_another_outermost_module_computed_is_no_data(at: Journal) -> None:
    t, u = torch.randn(4), torch.randn(4)
    token, meta, _ = at.far(t)
    at.device.results.outermost.add(token)
    at.row(token, meta, Kind.ACTIVATION)
    for x in (t.clone(), u):
        token, meta, _ = at.far(x)
        at.row(token, meta, Kind.DATA)
    token, meta, _ = at.far(t)
    at.row(token, meta, Kind.DATA, step=1)
    at.back()
    assert [kind for _, kind, _, _ in at.flush()] == [Kind.ACTIVATION, Kind.ACTIVATION, Kind.DATA, Kind.DATA]


def test_one_fingerprint_of_several(at: Journal) -> None:
    at.backend.arrived = False
    t, u = torch.randn(4), torch.randn(5)

    def both(text: bytes) -> bytes:
        return at.device.results.combined([at.far(t)[0], text, at.far(u)[0]])

    for text in (b"step=1", b"step=1", b"step=2"):
        at.row(both(text), kind=Kind.OPTIMIZER)
    u[0] += 1
    at.row(both(b"step=1"), kind=Kind.OPTIMIZER)
    at.device.tick()
    assert at.flush() == []
    at.back()
    a, b, c, d = (digest for _, _, digest, _ in at.flush())
    assert a == b
    assert len({a, c, d}) == 3
    assert at.device.results.combined([b"x"]) == at.far._digest(b"x")


def test_the_value_of_a_loss_arrives_with_the_fingerprints(at: Journal) -> None:
    found: dict[str, float | None] = {}
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64):
        name = str(dtype).removeprefix("torch.")
        at.device.value(torch.tensor(-2.5).to(dtype), lambda raw, name=name: found.__setitem__(name, device.decoded(raw, name)))  # type: ignore[misc]
    at.back()
    assert found == {"float32": -2.5, "float64": -2.5, "float16": -2.5, "bfloat16": -2.5, "int64": -2.0}
    assert device.decoded(b"\0" * 8, "complex64") is None


def test_rows_of_a_batch(at: Journal) -> None:
    t, found = torch.randn(6, 5), []
    at.device.rows(t, 6, found.append)
    at.back()
    assert found[0] is not None
    assert [found[0][16 * n : 16 * n + 16] for n in range(6)] == [reference(t[n].numpy().tobytes(), 0) for n in range(6)]


def test_samples_of_a_batch_on_the_device(at: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at.far, "_hashable", lambda t: (0, 0))
    loading = Loading(SimpleNamespace(fingerprint=at.far, writer=at.writer, step=0))  # type: ignore[arg-type]
    x, y = torch.randn(3, 5), torch.arange(3)
    kept = []
    for change in (False, True):
        x[1, 4] += change
        for tensors in ([x, y], [x]):
            seq = at.row(bytes(range(16)), kind=Kind.DATA)
            loading._samples_elsewhere(tensors, seq, [4, 2, 9])
            kept.append(seq)
    at.back()
    at.flush()
    found = [at.trace.samples(seq) for seq in kept]
    assert all(f is not None and f[1].tolist() == [4, 2, 9] and len(set(f[0].tolist())) == 3 for f in found)
    for before, after in zip(found[:2], found[2:], strict=True):
        assert before is not None and after is not None
        assert (before[0] == after[0]).tolist() == [True, False, True]
    at.backend.broken = "gone"
    seq = at.row(bytes(range(16)), kind=Kind.DATA)
    loading._samples_elsewhere([x], seq, [1])
    at.back()
    at.flush()
    lost = at.trace.samples(seq)
    assert lost is not None
    assert [part.tolist() for part in lost] == [[], [1]]


def test_a_handler_in_the_middle_of_a_record_spoils_nothing(at: Journal) -> None:
    seen = []

    def handler(*_: Any) -> None:
        seen.append(at.far(torch.randn(2))[2])

    real, t = at.backend.hash, torch.randn(3)

    def interrupted(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        real(*arguments)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        at.backend.hash = interrupted  # type: ignore[method-assign]
        token, meta, _ = at.far(t)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen
    assert seen[0] & Flag.UNOBSERVED
    at.row(token, meta)
    at.back()
    assert at.flush()[0][2] == seeded(at.far, t)


def test_results_stay_until_the_records_that_wait_for_them_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_results, "_KEEP_BLOCKS", 0)
    writer = Writer(str(tmp_path))
    results = device_results.Results(writer, lambda raw: raw[:16], {})
    serials = [results.expect() for _ in range(9)]
    tokens = [device_results.token(serial, 3) for serial in serials]
    for token in tokens:
        writer.event(0, 0, 0, 0, 0, 0, int(Kind.GRADIENT), 0, 0, 0, 0, token)
    for serial in serials[:0:-1]:  # the first is the last to come
        results.arrived(serial, bytes(48) + bytes([serial]) * 16)
        assert results.take(writer.records, 9) == []
    assert results.of(tokens[0]) is None
    results.arrived(serials[0], "lost")
    rows = results.take(writer.records, 9)
    assert [row[-16:] for row in rows] == [bytes(16)] + [bytes([serial]) * 16 for serial in serials[1:]]
    assert int.from_bytes(rows[0][28:30], "little") & Flag.UNOBSERVED
    assert {results.of(token) for token in tokens} == {device_results.LOST}


def test_positions_inside_a_record() -> None:
    row = EVENT.pack(1, 2, 3, 4, 5, 6, 7, 1, 2, 8, 9, 10, device_results.TOKEN + bytes(8))
    fields = [(device_results._AT_SITE, 4, 2), (device_results._AT_META, 4, 3), (device_results._AT_STEP, 4, 4)]
    fields += [(device_results._AT_FLAGS, 2, 7), (device_results._AT_KIND, 1, 1), (device_results._AT_PHASE, 1, 2)]
    assert [int.from_bytes(row[at : at + n], "little") for at, n, _ in fields] == [value for *_, value in fields]
    assert row[device_results._AT_DIGEST : device_results._AT_END] == device_results.TOKEN


# whole programs


PROGRAM = """
import os, sys
import torch
import reprodebug.recorder.guest as guest
from tests.recorder.far import DriverFingerprinter, FarFingerprinter
if sys.argv[1] != "near":
    guest.Fingerprinter = DriverFingerprinter if sys.argv[1] == "driver" else FarFingerprinter
if sys.argv[1] == "driver":
    from reprodebug.recorder.optimizers import Optimizers
    Optimizers._state = lambda self, state, site, buffers: self._device_state(state, site, {})
import reprodebug
recording = reprodebug.record(sys.argv[2]) if sys.argv[1] != "plain" else None
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
head = torch.nn.Linear(3, 1)
optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], lr=0.01)
x, y = torch.randn(5, 4, 6), torch.randn(5, 4, 1)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x.flatten(0, 1), y.flatten(0, 1)), batch_size=4, shuffle=True)
for step, (a, b) in enumerate(loader):
    if sys.argv[1] == "stuck" and step == 3:
        import reprodebug.recorder.device
        reprodebug.recorder.device.WAIT_S = 0.05
        guest.current().fingerprint.device.backend.arrived = False
    if sys.argv[1] == "killed" and step == 4:
        os.kill(os.getpid(), 9)
    loss = (head(net(a).detach() if step == 2 else net(a)) - b).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
net.eval()
net(x[0])
net(x[0])
print([p.double().sum().item().hex() for p in net.parameters()])
if recording is not None:
    recording.stop()
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs the program in one of its ways, once: (what it printed, its run directory)."""
    folder = tmp_path_factory.mktemp("programs")
    done: dict[str, tuple[str, Path]] = {}

    def run(how: str, expect: int = 0) -> tuple[str, Path]:
        if how not in done:
            script, out = folder / "program.py", folder / how
            script.write_text(PROGRAM)
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", "REPRODEBUG_DEBUG": "1"}
            command = [sys.executable, str(script), how, str(out)]
            ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
            assert ended.returncode == expect, ended.stderr
            done[how] = ended.stdout, out
        return done[how]

    return run


def in_words(run: Path) -> list[tuple[Any, ...]]:
    """Every event without its fingerprint and place in the count."""
    from reprodebug.store.run import open_run

    opened = open_run(str(run))
    assert not [n for n in opened.notes if "recorder failed" in n], opened.notes
    trace = opened.trace(*next(iter(opened.traces)))
    names = ("step", "call", "flags", "kind", "phase")
    return [(trace.sites[e["site"]], *(int(e[n]) for n in names), trace.metas[e["meta"]][:2]) for e in trace.events]


def test_a_program_is_recorded_as_on_the_cpu(program: Any) -> None:
    """The same events with the same words, whatever had to wait for an answer; the same result."""
    plain, _ = program("plain")
    near_said, near = program("near")
    far_said, far = program("far")
    assert plain == near_said == far_said
    assert in_words(far) == in_words(near)
    again_said, again = program("far2")
    assert again_said == plain
    from reprodebug.compare.runs import compare_runs
    from reprodebug.store.run import open_run

    found = compare_runs(open_run(str(far)), open_run(str(again)))
    assert found.verdict == "identical", found.reason
    assert found.coverage.share > 0.9
    losses = [len(open_run(str(r)).trace(*next(iter(open_run(str(r)).traces))).stats) for r in (near, far)]
    assert losses == [5, 5]


def test_a_killed_program_leaves_a_prefix(program: Any) -> None:
    _, whole = program("far")
    _, killed = program("killed", expect=-9)
    journals = list((killed / "journal").glob("*.rdj"))
    assert len(journals) == 1
    trace = read_journal(str(journals[0]))
    assert not trace.complete
    rows = [(trace.sites[e["site"]], int(e["step"]), int(e["lo"]), int(e["hi"])) for e in trace.events]
    from reprodebug.store.run import open_run

    opened = open_run(str(whole))
    other = opened.trace(*next(iter(opened.traces)))
    assert rows == [(other.sites[e["site"]], int(e["step"]), int(e["lo"]), int(e["hi"])) for e in other.events[: len(rows)]]
    assert rows


def test_a_device_that_never_answers_costs_only_what_waits(program: Any) -> None:
    _, whole = program("far")
    _, stuck = program("stuck")
    assert [row[:3] for row in in_words(whole) if row[4] != Kind.PARAMETER] == [
        row[:3] for row in in_words(stuck) if row[4] != Kind.PARAMETER
    ]
    assert any(row[3] & Flag.UNOBSERVED for row in in_words(stuck))
