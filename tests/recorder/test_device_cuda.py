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

from reprodebug.model.events import Flag
from reprodebug.recorder import device_cuda, device_kernel
from reprodebug.recorder.device import DeviceFingerprints
from reprodebug.recorder.writer import Writer
from tests.recorder.far import FarFingerprinter
from tests.recorder.test_device import SIZES, data_of, reference, seeded


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


class CudaOverMemory(device_cuda.CudaBackend):
    """The back end itself; ``get_device`` of a CPU tensor is -1, the only device here."""

    arrived = True


@pytest.fixture
def far(driver: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setattr(device_cuda, "DRIVER", driver)
    monkeypatch.setattr(device_cuda, "find_nvrtc", lambda torch: None)
    monkeypatch.setattr(device_cuda, "compiled", lambda nvrtc, capability: b"image" if capability == (9, 0) else b"")
    c = SimpleNamespace(
        _cuda_getCurrentRawStream=lambda index: 0, _cuda_getDevice=lambda: -1, _cuda_isCurrentStreamCapturing=lambda: False,
        _cuda_setDevice=lambda index: None,
    )  # fmt: skip
    properties = SimpleNamespace(major=9, minor=0, multi_processor_count=2)
    like = SimpleNamespace(
        _C=c, cuda=SimpleNamespace(get_device_properties=lambda index: properties), version=torch.version, __file__=torch.__file__
    )
    fingerprint = FarFingerprinter(torch, Writer(str(tmp_path)))
    backend = CudaOverMemory(like)
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
    result = far.device._result(found[0])
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
    assert far.device._result(token) is None
    pending.value = 0
    far.device.tick()
    assert far.device._result(token) == seeded(far, t)
    token = far(t)[0]
    library(far).break_device(719)
    far.device.finish()
    assert far.device._result(token) == "the device reports: made up (CUDA error 719)"
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
