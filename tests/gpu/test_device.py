"""The recorder on an NVIDIA GPU: right fingerprints, no bit changed, nothing waited for, streams, graphs, AMP, generators."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reprodebug.diagnose.draws import apart, seed_of
from reprodebug.model.events import Flag, Kind
from reprodebug.recorder import device, device_kernel
from reprodebug.recorder.device_results import is_token
from reprodebug.recorder.fingerprint import Fingerprinter
from reprodebug.recorder.randomness import Randomness
from reprodebug.recorder.writer import Writer
from reprodebug.store.trace import Trace, read_journal
from tests.recorder.test_device import SIZES, data_of, reference
from tests.recorder.test_fingerprint import BYTE_DTYPES, CHANGES, make

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def fingerprint(tmp_path: Path) -> Fingerprinter:
    found = Fingerprinter(torch, Writer(str(tmp_path)))
    found(torch.zeros(1, device="cuda"))
    assert found.device is not None, found._unreachable
    assert found.device.backend.name == "cuda", "NVRTC or the driver could not be used"
    return found


def back(fingerprint: Fingerprinter, found: tuple[bytes, int, int]) -> bytes:
    """The fingerprint behind what was returned for a tensor."""
    digest, _, flags = found
    assert not flags & Flag.UNOBSERVED, fingerprint._reasons
    assert fingerprint.device is not None
    fingerprint.device.finish()
    result = fingerprint.device.results.of(digest) if is_token(digest) else digest
    assert isinstance(result, bytes), result
    return result


def expected(fingerprint: Fingerprinter, t: torch.Tensor) -> bytes:
    """By the reference, from the bytes on the host."""
    here = t.detach().cpu().resolve_conj().resolve_neg().contiguous()
    raw = here.reshape(-1).view(torch.uint8).numpy().tobytes() if here.numel() else b""
    return reference(raw, fingerprint._metas[(t.shape, t.dtype, t.device)][1])


def agrees(fingerprint: Fingerprinter, t: torch.Tensor) -> bool:
    return back(fingerprint, fingerprint(t)) == expected(fingerprint, t)


# the fingerprint


@pytest.mark.filterwarnings("ignore:B?Complex(Half|32) support")
@pytest.mark.parametrize("dtype", BYTE_DTYPES, ids=str)
def test_every_kind_of_change_is_seen(fingerprint: Fingerprinter, dtype: torch.dtype) -> None:
    t = make(dtype)
    there = t.cuda()
    same = back(fingerprint, fingerprint(there))
    assert same == expected(fingerprint, there)
    assert {name: back(fingerprint, fingerprint(change(t).cuda())) != same for name, change in CHANGES.items()} == dict.fromkeys(
        CHANGES, True
    )


@pytest.mark.parametrize("shift", [0, 1, 2, 4, 8])
def test_every_size_and_alignment(fingerprint: Fingerprinter, shift: int) -> None:
    for n in [*SIZES, 5_000_011]:
        room = torch.frombuffer(bytearray(bytes(shift) + data_of(n) + b"x"), dtype=torch.uint8).cuda()
        assert agrees(fingerprint, room[shift : shift + n]), n


def test_a_large_tensor(fingerprint: Fingerprinter) -> None:
    t = torch.randn(64 << 20, device="cuda")
    first = back(fingerprint, fingerprint(t))
    assert all(back(fingerprint, fingerprint(t)) == first for _ in range(3))
    assert first == expected(fingerprint, t)
    t.view(torch.int32)[-1] ^= 1
    assert back(fingerprint, fingerprint(t)) != first


@pytest.mark.filterwarnings("ignore:Sparse")
def test_views_lazy_bits_and_layouts(fingerprint: Fingerprinter) -> None:
    t = torch.randn(5, 7, 3, device="cuda")
    z = torch.randn(4, dtype=torch.complex64, device="cuda")
    for x in (t, t.transpose(0, 2), t[:, 1], t[::2], t[0, 0, 0], t.new_empty(0, 3), z, z.conj(), z.conj().imag, t.expand(2, 5, 7, 3)):
        assert agrees(fingerprint, x)
    dense = torch.eye(4, device="cuda")
    for make_sparse in (torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr):
        a, again, b = (back(fingerprint, fingerprint(make_sparse(x))) for x in (dense, dense, dense * 2))
        assert a == again != b


def test_torch_operations_agree_on_the_device() -> None:
    for n in (1, 9, 4096, 100_003):
        t = torch.frombuffer(bytearray(data_of(n)), dtype=torch.uint8).cuda()
        assert device_kernel.torch_sums(torch, t, 7).cpu().numpy().tobytes() == reference(data_of(n), 7)


def test_a_place_that_sees_tensor_after_tensor(fingerprint: Fingerprinter) -> None:
    g = torch.Generator("cuda").manual_seed(3)
    tensors = [torch.randn(n, generator=g, device="cuda") for n in [257] * 5000 + [9, 257, 257, 1 << 22, 257]]
    found = [fingerprint.at(t, 1) for t in tensors]
    assert [back(fingerprint, row) for row in found] == [expected(fingerprint, t) for t in tensors]


def test_many_at_once_and_rows(fingerprint: Fingerprinter) -> None:
    g = torch.Generator().manual_seed(3)
    tensors = [torch.randn(int(n), generator=g).cuda() for n in torch.randint(1, 60_000, (400,), generator=g)]
    tensors.insert(5, torch.randn(3, 4, device="cuda").t())
    tensors.append(torch.randn(8 << 20, device="cuda"))
    plan, found = fingerprint.together(None, tensors)
    assert [n for n, row in enumerate(found) if row is None] == [5]
    for t, row in zip(tensors, found, strict=True):
        if row is not None:
            assert back(fingerprint, row) == expected(fingerprint, t)
    again, second = fingerprint.together(plan, tensors)
    assert again is plan
    assert back(fingerprint, second[0]) == expected(fingerprint, tensors[0])
    rows: list[Any] = []
    t = torch.randn(100, 33, device="cuda")
    assert fingerprint.device is not None
    fingerprint.device.rows(t, 100, rows.append)
    fingerprint.device.finish()
    assert [rows[0][16 * n : 16 * n + 16] for n in range(100)] == [reference(t[n].cpu().numpy().tobytes(), 0) for n in range(100)]


def test_a_big_tensor_is_read_again_only_if_it_was_written(fingerprint: Fingerprinter) -> None:
    t = torch.randn(1 << 23, device="cuda")
    assert t.nbytes > device.WORTH_BYTES
    for site in (1, 1, 2, 2):
        assert back(fingerprint, fingerprint.at(t, site)) == expected(fingerprint, t)
    results = []
    for change in (lambda: None, lambda: t.data.mul_(2), lambda: t.add_(1), lambda: t.view(torch.int32).bitwise_xor_(1)):
        change()  # the second moves no version counter
        results += [(fingerprint.at(t, 1), expected(fingerprint, t)), (fingerprint.at(t, 1), expected(fingerprint, t))]
    assert [back(fingerprint, found) == wanted for found, wanted in results] == [True] * 8


def test_values(fingerprint: Fingerprinter) -> None:
    found: list[Any] = []
    assert fingerprint.device is not None
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        name = str(dtype).removeprefix("torch.")
        fingerprint.device.value(
            torch.tensor(-2.5, dtype=dtype, device="cuda"), lambda raw, name=name: found.append(device.decoded(raw, name))
        )
    fingerprint.device.finish()
    assert found == [-2.5] * 4


# when and where


def test_what_comes_later_on_the_stream_is_not_seen(fingerprint: Fingerprinter) -> None:
    t = torch.randn(4 << 20, device="cuda")
    fingerprint(t)
    before = expected(fingerprint, t)
    torch.cuda._sleep(50_000_000)
    found = fingerprint(t)
    t.zero_()
    assert back(fingerprint, found) == before != expected(fingerprint, t)


def test_memory_may_be_freed_and_used_again(fingerprint: Fingerprinter) -> None:
    found, wanted = [], []
    for n in range(50):
        t = torch.full((1 << 18,), float(n), device="cuda")
        found.append(fingerprint(t))
        wanted.append((t.shape, t.dtype, t.device, t.cpu().numpy().tobytes()))
        del t
    for row, (shape, dtype, where, raw) in zip(found, wanted, strict=True):
        assert back(fingerprint, row) == reference(raw, fingerprint._metas[(shape, dtype, where)][1])


def test_streams(fingerprint: Fingerprinter) -> None:
    streams = [torch.cuda.Stream() for _ in range(3)]
    found, tensors = [], []
    for n in range(12):
        with torch.cuda.stream(streams[n % 3]):
            torch.cuda._sleep(1_000_000)
            t = torch.full((10_000,), float(n), device="cuda")
            found.append(fingerprint(t))
            tensors.append(t)
    for row, t in zip(found, tensors, strict=True):
        assert back(fingerprint, row) == expected(fingerprint, t)


def test_a_thread_without_a_context_may_be_the_first(tmp_path: Path) -> None:
    """Its first fingerprint compiles and loads the kernel, and its question is the last."""
    t, made = torch.randn(1000, device="cuda"), Fingerprinter(torch, Writer(str(tmp_path)))
    found: list[Any] = []
    for work in (lambda: found.append(made(t)), lambda: made.device.tick(step_done=True), lambda: made.device.finish()):  # type: ignore[union-attr]
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert made.device is not None and made.device.backend.name == "cuda"
    assert back(made, found[0]) == expected(made, t)


def test_freed_storage_is_not_read(fingerprint: Fingerprinter) -> None:
    """A view with an offset into it has a small address that is not null: to read there would end the program."""
    whole = torch.randn(1 << 20, device="cuda")
    views = [whole[10:], whole[: 1 << 19]]
    assert all(agrees(fingerprint, t) for t in views)
    whole.untyped_storage().resize_(0)
    for t in views:
        assert fingerprint.at(t, 1)[2] & Flag.UNOBSERVED
    assert fingerprint.together(None, views)[1] == [None, None]
    torch.cuda.synchronize()


def test_a_stream_made_outside_of_torch(fingerprint: Fingerprinter) -> None:
    """It is destroyed right after its use: what was queued on it has been sent behind it."""
    assert fingerprint.device is not None
    driver = fingerprint.device.backend._driver
    found, wanted = [], []
    for n in range(5):
        handle = ctypes.c_void_p()
        assert driver.cuStreamCreate(ctypes.byref(handle), 1) == 0
        with torch.cuda.stream(torch.cuda.ExternalStream(handle.value)):
            t = torch.full((1 << 20,), float(n), device="cuda")
            found.append(fingerprint(t))
            wanted.append(expected(fingerprint, t))
        assert driver.cuStreamDestroy_v2(handle) == 0
    fingerprint.device.tick(step_done=True)
    assert [back(fingerprint, row) for row in found] == wanted


def test_a_capture_in_another_thread(fingerprint: Fingerprinter) -> None:
    """While it lasts this thread hashes, asks and sends, on the default stream and with a block of the captured one waiting."""
    x, side = torch.randn(100, device="cuda"), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        found = [fingerprint(x)]
        (x * 2).sum()
    torch.cuda.synchronize()
    graph, begun, asked = torch.cuda.CUDAGraph(), threading.Event(), threading.Event()
    failed: list[BaseException] = []

    def capture() -> None:
        try:
            with torch.cuda.graph(graph, stream=side):
                x.mul_(2)
                begun.set()
                asked.wait(60)
        except BaseException as error:
            failed.append(error)
            begun.set()

    thread = threading.Thread(target=capture)
    before = expected(fingerprint, x)
    thread.start()
    assert begun.wait(60)
    assert fingerprint.device is not None
    for _ in range(3):
        found.append(fingerprint(x))
        fingerprint.device.tick(step_done=True)
    asked.set()
    thread.join()
    assert not failed, failed
    assert [back(fingerprint, row) for row in found] == [before] * 4
    graph.replay()
    assert agrees(fingerprint, x)


def test_a_thread_that_never_used_the_device(fingerprint: Fingerprinter) -> None:
    t, found = torch.randn(100, device="cuda"), []
    thread = threading.Thread(target=lambda: found.append(fingerprint(t)))
    thread.start()
    thread.join()
    assert back(fingerprint, found[0]) == expected(fingerprint, t)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU only")
def test_two_devices(fingerprint: Fingerprinter) -> None:
    tensors = [torch.randn(100, device=f"cuda:{n % 2}") for n in range(4)]
    found = [fingerprint(t) for t in tensors]
    assert torch.cuda.current_device() == 0
    for row, t in zip(found, tensors, strict=True):
        assert back(fingerprint, row) == expected(fingerprint, t)


def test_nothing_is_queued_into_a_graph(fingerprint: Fingerprinter) -> None:
    x = torch.randn(100, device="cuda")
    (x * 2).sum()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    assert fingerprint.device is not None
    with torch.cuda.graph(graph):
        y = x * 2
        _, meta, flags = fingerprint(y)
        fingerprint(y.t() if y.dim() > 1 else y[::2])
        fingerprint.device.tick()
    assert flags & Flag.UNOBSERVED
    assert meta in fingerprint._reasons.values()
    graph.replay()
    assert torch.equal(y, x * 2)
    assert agrees(fingerprint, y)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_generators_are_asked_without_waiting() -> None:
    own = torch.Generator("cuda").manual_seed(7)
    torch.cuda.set_sync_debug_mode("error")
    try:
        state = own.get_state()
        torch.cuda.default_generators[0].get_offset()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert state.device.type == "cpu"
    assert state.numel() == 16


def test_draws_between_two_states_of_a_generator(tmp_path: Path) -> None:
    def state() -> bytes:
        writer = Writer(str(tmp_path))
        kept: list[bytes] = []
        writer.state = lambda number, digest, body: kept.append(body)  # type: ignore[method-assign]
        numbers: list[str] = []
        writer.generator = lambda number, name, algorithm: numbers.append(name)  # type: ignore[method-assign]
        Randomness(torch, writer, bytes).observe()
        return kept[numbers.index("torch.cuda:0")]

    torch.cuda.manual_seed_all(4)
    a = state()
    torch.rand(1000, device="cuda")
    n, how = apart("torch.cuda:0", "philox", a, state())
    assert n and n % 4 == 0 and how.same_stream
    assert seed_of("torch.cuda:0", "philox", a) == 4


# programs


def run(name: str, out: Path | None, level: str = "fingerprint", expect: int | None = 0, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "REPRODEBUG_DEBUG": "1"} | env
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.gpu.programs", name, "-" if out is None else str(out), level, f"{folder}/store"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert expect is None or done.returncode == expect, done.stderr[-3000:]
    return done


def journal(out: Path) -> Trace:
    """The trace of the main process: that with the most records."""
    traces = [read_journal(str(p)) for p in (out / "journal").glob("*.rdj")]
    trace = max(traces, key=lambda t: len(t.events))
    failed = [n for n in trace.notes_meta if n.get("type") == "lost"]
    assert not failed, failed
    return trace


def unobserved(trace: Trace) -> set[str]:
    return {trace.metas[m][4] for m in np.unique(trace.events["meta"][(trace.events["flags"] & Flag.UNOBSERVED) != 0]).tolist()}


@pytest.mark.parametrize("level", ["fingerprint", "summary", "full"])
def test_a_recorded_run_has_the_bits_of_an_unrecorded_one(tmp_path: Path, level: str) -> None:
    plain = run("kitchen", None).stdout
    assert plain == run("kitchen", None).stdout, "the program does not repeat itself"
    assert run("kitchen", tmp_path / "run", level).stdout == plain
    trace = journal(tmp_path / "run")
    assert trace.complete
    assert unobserved(trace) == set()
    if level != "fingerprint":
        assert trace.tensor_seqs


def test_two_recordings_are_equal_and_complete(tmp_path: Path) -> None:
    traces = []
    for name in ("a", "b"):
        run("kitchen", tmp_path / name)
        traces.append(journal(tmp_path / name))
    a, b = traces
    for column in ("site", "step", "call", "flags", "kind", "phase", "lo", "hi"):
        assert (a.events[column] == b.events[column]).all(), column
    kinds = {Kind(int(k)) for k in np.unique(a.events["kind"])}
    assert kinds == {Kind.DATA, Kind.PARAMETER, Kind.ACTIVATION, Kind.GRADIENT, Kind.OPTIMIZER, Kind.LOSS}
    devices = {a.metas[m][2] for m in np.unique(a.events["meta"]).tolist()}
    assert "cuda:0" in devices
    names = [name for name, _ in a.generators]
    assert "torch.cuda:0" in names
    rows = a.rng[a.rng["generator"] == names.index("torch.cuda:0")]
    assert len(rows) > 3
    assert (np.diff(rows["position"]) > 0).all()
    places = {a.sites[s] for s in np.unique(a.events["site"]).tolist()}
    assert ("GradScaler", "", "GradScaler", "scale") in places


def test_the_loss_and_the_scale_are_numbers(tmp_path: Path) -> None:
    run("kitchen", tmp_path / "run")
    trace = journal(tmp_path / "run")
    losses = trace.events["seq"][trace.events["kind"] == Kind.LOSS]
    assert len(losses) == 6
    assert set(losses.tolist()) <= set(trace.stats["seq"].tolist())
    scale = next(n for n, s in enumerate(trace.sites) if s[0] == "GradScaler")
    values = trace.stats["value"][np.isin(trace.stats["seq"], trace.events["seq"][trace.events["site"] == scale])]
    assert set(values.tolist()) <= {1024.0, 512.0, 256.0}
    assert len(values) == 6


def test_no_step_synchronises(tmp_path: Path) -> None:
    assert run("quiet", tmp_path / "run").stdout == run("quiet", None).stdout
    assert unobserved(journal(tmp_path / "run")) == set()


def test_a_program_with_a_graph(tmp_path: Path) -> None:
    assert run("graph", tmp_path / "run").stdout == run("graph", None).stdout
    trace = journal(tmp_path / "run")
    assert unobserved(trace) == {device.CAPTURED}
    assert [n["replays"] for n in trace.notes_meta if n.get("type") == "graphs"] == [1]


@pytest.mark.parametrize("name", ["graphed", "compiled", "reduced"])
def test_what_a_region_hides_is_said(tmp_path: Path, name: str) -> None:
    plain = run(name, None).stdout
    assert run(name, tmp_path / "run").stdout == plain
    trace = journal(tmp_path / "run")
    assert trace.complete
    assert len(trace.events)
    notes = {n.get("type") for n in trace.notes_meta}
    assert {"graphs", "compiled"} & notes, notes


@pytest.mark.parametrize("name", ["spread", "kinds"])
def test_ranks_and_kinds_of_tensors(tmp_path: Path, name: str) -> None:
    plain = run(name, None).stdout
    assert run(name, tmp_path / "run").stdout == plain
    trace = journal(tmp_path / "run")
    assert trace.complete
    assert unobserved(trace) == set()


@pytest.mark.parametrize("allocator", ["backend:cudaMallocAsync", "expandable_segments:True"])
def test_another_allocator(tmp_path: Path, allocator: str) -> None:
    plain = run("kitchen", None, PYTORCH_CUDA_ALLOC_CONF=allocator).stdout
    assert run("kitchen", tmp_path / "run", PYTORCH_CUDA_ALLOC_CONF=allocator).stdout == plain
    assert unobserved(journal(tmp_path / "run")) == set()


def test_a_program_that_breaks_the_device_breaks_as_before(tmp_path: Path) -> None:
    plain, recorded = (run("broken", out, expect=None) for out in (None, tmp_path / "run"))
    assert plain.returncode == recorded.returncode != 0
    assert "device-side assert" in plain.stderr
    assert "device-side assert" in recorded.stderr
    trace = max((read_journal(str(p)) for p in (tmp_path / "run" / "journal").glob("*.rdj")), key=lambda t: len(t.events))
    assert len(trace.events)
