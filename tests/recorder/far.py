"""An accelerator that is not one: CPU tensors hashed by the device's algorithm, whose answers come when a test lets them.

Only the hardware is faked. Tokens, blocks, read-back, resolution and order are those of the recorder.
"""

from __future__ import annotations

import ctypes
import os
from types import SimpleNamespace
from typing import Any

import torch

from reprodebug.recorder import device_cuda
from reprodebug.recorder.device import Block, DeviceFingerprints, Lane
from reprodebug.recorder.device_torch import TorchBackend
from reprodebug.recorder.fingerprint import Fingerprinter


class FarBackend(TorchBackend):
    """CPU memory in the place of a device's."""

    def __init__(self) -> None:
        super().__init__(torch, "cpu")
        self.arrived = True
        """whether what was sent has come back"""
        self.broken = ""
        self.under_capture = False
        self.launches = 0
        self.queue = 0
        """the stream that is current"""

    def stream(self, index: int) -> int:
        return self.queue

    def any_capture(self) -> bool:
        return self.under_capture

    def hash(self, *arguments: Any) -> None:
        self.launches += 1
        super().hash(*arguments)

    def send(self, block: Block, lane: Lane) -> None:
        block.host[: block.used].copy_(block.memory[: block.used])

    def done(self, block: Block, lane: Lane) -> bool:
        if self.broken:
            raise RuntimeError(self.broken)
        return self.arrived


class FarFingerprinter(Fingerprinter):
    """Takes every plain dense tensor for one on the accelerator."""

    def far(self) -> FarBackend:
        if self.device is None:
            self.device = DeviceFingerprints(self._torch, self._writer, FarBackend(), self._digest, self._described)
        backend = self.device.backend
        assert isinstance(backend, FarBackend)
        return backend

    def __call__(self, t: Any) -> tuple[bytes, int, int]:
        if type(t) not in self.plain or t.layout is not torch.strided or t.is_quantized:
            return super().__call__(t)
        self.far()
        try:
            key = (t.shape, t.dtype, t.device)
            meta, seed, _ = self._metas.get(key) or self._intern(t, key)
            self._described[meta] = (list(t.shape), str(t.dtype).removeprefix("torch."), "cpu", "strided")
            return self._device_strided(t, meta, seed)
        except Exception as error:
            return bytes(16), self._reason(t, str(error)), 64

    def at(self, t: Any, site: int) -> tuple[bytes, int, int]:
        return self(t)


class Cards:
    """What a CUDA build of torch says about devices and streams, over the driver in ``driver.cpp``. Tensors in main memory are on
    device -1; one on another device is made by ``on``."""

    def __init__(self, library: str) -> None:
        self.driver = ctypes.CDLL(library)
        self.driver.set_device(-1)
        self.device = -1
        self.contexts = {-1}
        """devices in use"""
        self.streams: dict[int, int] = {}
        """device -> the current stream: 0, or one that ``stream`` named"""
        self.lent: set[int] = set()
        """streams made outside of torch"""
        self._C = SimpleNamespace(
            _cuda_getCurrentRawStream=lambda index: self.streams.get(index, 0), _cuda_getDevice=lambda: self.device,
            _cuda_isCurrentStreamCapturing=lambda: self.streams.get(self.device, 0) in self.captured,
            _cuda_getCurrentStream=self._numbered, _cuda_exchangeDevice=self._exchange, _cuda_maybeExchangeDevice=self._maybe,
        )  # fmt: skip
        properties = SimpleNamespace(major=9, minor=0, multi_processor_count=2)
        self.cuda = SimpleNamespace(get_device_properties=lambda index: properties)
        self.version = torch.version
        self.captured: set[int] = set()

    @staticmethod
    def stream(index: int, n: int) -> int:
        """The handle of the n-th stream of a device."""
        return 1000 * (index + 1) + n

    def capture(self, stream: int, on: bool) -> None:
        self.driver.capture(ctypes.c_void_p(stream), int(on))
        (self.captured.add if on else self.captured.discard)(stream)

    def _numbered(self, index: int) -> tuple[int, int, int]:
        stream = self.streams.get(index, 0)
        return stream if stream in self.lent else 8 * stream + 3, index, 1

    def _exchange(self, index: int) -> int:
        before, self.device = self.device, index
        self.contexts.add(index)
        self.driver.set_device(index)
        return before

    def _maybe(self, index: int) -> int:
        before, self.device = self.device, index
        if index in self.contexts:
            self.driver.set_device(index)
        return before


class on:
    """A tensor that says that it is on another device."""

    def __init__(self, t: torch.Tensor, index: int) -> None:
        self._t, self._index = t, index

    def __getattr__(self, name: str) -> Any:
        return getattr(self._t, name)

    def get_device(self) -> int:
        return self._index


def cuda_over_memory(library: str, cards: Cards | None = None) -> device_cuda.CudaBackend:
    """The way to an NVIDIA GPU, with the driver in ``library`` (made of ``driver.cpp``)."""
    device_cuda.DRIVER = library
    device_cuda.find_nvrtc = lambda torch: None
    device_cuda.compiled = lambda nvrtc, capability: b"image" if capability == (9, 0) else b""
    return device_cuda.CudaBackend(cards or Cards(library), -1)


class DriverFingerprinter(FarFingerprinter):
    """The same through the driver: launches, tables and read-back as on a GPU."""

    def far(self) -> Any:
        if self.device is None:
            backend = cuda_over_memory(os.environ["FAR_DRIVER"])
            self.device = DeviceFingerprints(self._torch, self._writer, backend, self._digest, self._described)
        return self.device.backend

    def _hashable(self, t: Any) -> Any:
        self.far()
        if type(t) not in self.plain or not t.is_contiguous() or not t.nbytes or t.is_complex():
            return None
        key = (t.shape, t.dtype, t.device)
        return (self._metas.get(key) or self._intern(t, key))[:2]

    def at(self, t: Any, site: int) -> tuple[bytes, int, int]:
        return self.elsewhere(t, site)
