"""The way to the driver, with a driver made of main memory: what is handed over by ctypes arrives as it should.

The driver's functions are compiled against NVIDIA's header where there is one; they run the recorder's own kernel on the host.
"""

from __future__ import annotations

import ctypes
import glob
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from reprodebug.model.events import Flag, Kind
from reprodebug.recorder import device_cuda, device_kernel
from reprodebug.recorder.device import DeviceFingerprints
from reprodebug.recorder.writer import Writer
from reprodebug.store.run import open_run
from tests.recorder.far import FarFingerprinter, cuda_over_memory
from tests.recorder.test_device import SIZES, data_of, in_words, program, reference, seeded  # noqa: F401


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> str:
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "kernel.inc").write_text(device_kernel.SOURCE)
    headers = [
        f"-I{os.path.dirname(p)}"
        for p in glob.glob("/usr/local/cuda*/include/cuda.h") + glob.glob("/usr/local/cuda*/targets/*/include/cuda.h")
    ]
    source = str(Path(__file__).with_name("driver.cpp"))
    command = ["g++", "-O1", "-std=c++17", "-shared", "-fPIC", f"-I{folder}", *headers[:1], "-o", str(folder / "libcuda.so"), source]
    subprocess.run(command, check=True)
    return str(folder / "libcuda.so")


@pytest.fixture
def far(driver: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    for name in ("DRIVER", "find_nvrtc", "compiled"):
        monkeypatch.setattr(device_cuda, name, getattr(device_cuda, name))  # put back afterwards
    monkeypatch.setattr("reprodebug.recorder.device.WORTH_BYTES", 256 << 10)
    fingerprint = FarFingerprinter(torch, Writer(str(tmp_path)))
    backend = cuda_over_memory(driver)
    fingerprint.device = DeviceFingerprints(torch, fingerprint._writer, backend, fingerprint._digest, fingerprint._described)
    fingerprint.far = lambda: backend  # type: ignore[method-assign, assignment, return-value]
    return fingerprint


def library(far: Any) -> Any:
    return far.device.backend._driver


def launches(far: Any) -> int:
    return int(ctypes.c_int.in_dll(library(far), "launches").value)


def back(far: Any, found: tuple[bytes, int, int]) -> bytes:
    assert not found[2] & Flag.UNOBSERVED, far._reasons
    far.device.finish()
    result = far.device.results.of(found[0])
    assert isinstance(result, bytes), result
    return result


def test_single_tensors(far: Any) -> None:
    before = launches(far)
    for n in SIZES[1:]:
        t = torch.frombuffer(bytearray(data_of(n)), dtype=torch.uint8)
        assert back(far, far(t)) == seeded(far, t), n
    assert launches(far) - before == len(SIZES) - 1


def test_many_blocks_of_results(far: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reprodebug.recorder.device.SLOTS", 16)
    monkeypatch.setattr(device_cuda, "SLOTS", 16)
    tensors = [torch.full((5,), float(n)) for n in range(200)]
    found = [far(t) for t in tensors]
    assert [back(far, f) for f in found] == [seeded(far, t) for t in tensors]
    assert [back(far, far(t)) for t in tensors] == [seeded(far, t) for t in tensors]


def test_tables_of_tensors(far: Any) -> None:
    g = torch.Generator().manual_seed(1)
    tensors = [torch.randn(int(n), generator=g) for n in torch.randint(1, 9000, (2 * device_kernel.TABLE + 9,), generator=g)]

    def look_up(t: torch.Tensor) -> tuple[int, int] | None:
        return None if t is tensors[4] else far._intern(t, (t.shape, t.dtype, t.device))[:2]

    before = launches(far)
    plan, found = far.device.together(None, tensors, look_up)
    assert launches(far) - before == 3
    assert found[4] is None
    for t, row in zip(tensors, found, strict=True):
        assert row is None or back(far, row) == seeded(far, t)
    again, found = far.device.together(plan, tensors, look_up)
    assert again is plan
    tensors[7] = torch.randn(tensors[7].shape)
    assert far.device.together(plan, tensors, look_up)[0] is not plan
    assert back(far, found[0]) == seeded(far, tensors[0])


def test_a_big_tensor_is_read_again_only_if_it_was_written(far: Any) -> None:
    t = torch.randn(100_000)
    seed = far._intern(t, (t.shape, t.dtype, t.device))[1]
    threads = library(far).threads_that_read

    def read() -> tuple[bool, bool]:
        """(the fingerprint is right, the memory was read)"""
        before = threads()
        token = far.device.hash_again(t, seed)
        far.device.finish()
        return far.device.results.of(token) == seeded(far, t), threads() > before

    assert read() == (True, True)
    assert read() == (True, False)
    assert read() == (True, False)
    t.numpy()[:] += 1  # moves no version counter
    assert read() == (True, True)
    t.add_(1)
    assert read() == (True, True)
    assert read() == (True, False)
    others = [torch.full((70_000,), float(n)) for n in range(30)]
    for other in others:  # more than are remembered
        far.device.hash_again(other, seed)
    far.device.finish()
    assert read() == (True, True)


def test_what_is_remembered_ends_with_its_block(far: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reprodebug.recorder.device.SLOTS", 4)
    monkeypatch.setattr(device_cuda, "SLOTS", 4)
    t = torch.randn(100_000)
    seed = far._intern(t, (t.shape, t.dtype, t.device))[1]
    for n in range(12):
        token = far.device.hash_again(t, seed)
        for _ in range(n % 5):
            far(torch.randn(3))
        if n % 3 == 0:
            far.device.finish()
        far.device.finish()
        assert far.device.results.of(token) == seeded(far, t), n


def test_rows_and_values(far: Any) -> None:
    t, found = torch.randn(70, 9), []
    far.device.rows(t, 70, found.append)
    far.device.value(torch.tensor(1.5, dtype=torch.float64), found.append)
    far.device.finish()
    assert [found[0][16 * n : 16 * n + 16] for n in range(70)] == [reference(t[n].numpy().tobytes(), 0) for n in range(70)]
    assert found[1] == torch.tensor(1.5, dtype=torch.float64).numpy().tobytes()


def test_a_thread_without_a_context_is_given_one(far: Any) -> None:
    t = torch.randn(100)
    assert back(far, far(t)) == seeded(far, t)
    library(far).forget_context()
    assert back(far, far(t)) == seeded(far, t)


def test_nothing_is_waited_for_and_errors_are_reasons(far: Any) -> None:
    t = torch.randn(100)
    token = far(t)[0]
    pending = ctypes.c_int.in_dll(library(far), "pending")
    pending.value = 1
    for lane in far.device._lanes.values():
        lane.sent = 0.0
    far.device.tick()
    assert far.device.results.of(token) is None
    pending.value = 0
    far.device.tick()
    assert far.device.results.of(token) == seeded(far, t)
    token = far(t)[0]
    library(far).break_device(719)
    far.device.finish()
    assert far.device.results.of(token) == "the device reports: made up (CUDA error 719)"
    assert far(t)[2] & Flag.UNOBSERVED
    library(far).break_device(0)


def test_nvrtc_where_it_is_installed() -> None:
    """The real compiler, which needs no GPU."""
    try:
        nvrtc = device_cuda.find_nvrtc(SimpleNamespace(version=SimpleNamespace(cuda="12"), __file__=torch.__file__))
    except OSError:
        pytest.skip("no NVRTC here")
    assert device_cuda.compiled(nvrtc, (9, 0))[:4] == b"\x7fELF"
    assert b".target sm_" in device_cuda.compiled(nvrtc, (99, 0))


def test_a_program_recorded_through_the_driver(program: Any, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Every record as on the CPU, every fingerprint as by torch operations; buffers and parameters are hashed by tables."""
    monkeypatch.setenv("FAR_DRIVER", driver)
    said, through = program("driver")
    plain, far = program("far")
    assert said == plain
    assert in_words(through) == in_words(far)
    tables = []
    for run in (through, far):
        opened = open_run(str(run))
        tables.append(opened.trace(*next(iter(opened.traces))).events)
    same = tables[0]["kind"] != Kind.OPTIMIZER  # its fingerprint is one of fingerprints here, one of bytes there
    for column in ("seq", "lo", "hi"):
        assert (tables[0][column][same] == tables[1][column][same]).all()
    states = tables[0][~same]
    # in one step the six parameters of the first module have no gradient, and keep their state
    assert len({(int(e["lo"]), int(e["hi"])) for e in states}) == len(states) - 6
