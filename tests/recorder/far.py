"""An accelerator that is not one: CPU tensors hashed by the device's algorithm, whose answers come when a test lets them.

Only the hardware is faked. Tokens, blocks, read-back, resolution and order are those of the recorder.
"""

from __future__ import annotations

from typing import Any

import torch

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

    def done(self, block: Block) -> bool:
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
