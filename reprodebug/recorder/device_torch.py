"""The way to every other accelerator, and to an NVIDIA GPU without NVRTC: the fingerprint as torch operations.

Slower than a kernel of its own, the same bits. The program's dispatch modes and autograd do not see these operations;
its allocator does. Nothing is waited for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from reprodebug.recorder import device_kernel as kernel
from reprodebug.recorder.device import Block, Lane, Unreadable


class TorchBackend:
    """Blocks are int64[slots, 2] tensors on the device and pinned ones on the host."""

    name = "torch"
    many = notes = False

    def __init__(self, torch: Any, kind: str) -> None:
        """``kind``: type of the device, as ``torch.device.type`` says it."""
        self._torch = torch
        self.kind = kind
        self._streams: Any = getattr(torch, "accelerator", None)
        self._cuda = torch.cuda if kind == "cuda" else None
        self._seen: dict[tuple[int, int], Any] = {}
        """(device, number) -> the stream"""

    def stream(self, index: int) -> int:
        """A number of the stream that is current for a device; 0 where there are no streams."""
        if self._streams is None:
            return 0
        try:
            found = self._streams.current_stream(index if index >= 0 else None)
            number = int(found.stream_id)
        except (RuntimeError, AttributeError, NotImplementedError):
            return 0
        self._seen[index, number] = found
        return number

    def capturing(self, index: int, stream: int) -> bool:
        return self.any_capture()

    def held(self, lane: Lane) -> bool:
        return self.any_capture()

    def lent(self, index: int, stream: int) -> bool:
        return False

    def any_capture(self) -> bool:
        return self._cuda is not None and bool(self._cuda.is_current_stream_capturing())

    @contextlib.contextmanager
    def relaxed(self) -> Iterator[None]:
        yield

    @contextlib.contextmanager
    def unseen(self) -> Iterator[None]:
        """No autograd, no mode of the program's."""
        torch = self._torch
        from torch.utils._python_dispatch import _disable_current_modes

        with torch.no_grad(), torch._C.DisableTorchFunction(), _disable_current_modes():
            yield

    def blocks(self, lane: Lane, n: int, slots: int) -> list[Block]:
        torch = self._torch
        with self.unseen():
            device = torch.device(self.kind, lane.index) if lane.index >= 0 else torch.device(self.kind)
            return [Block(torch.empty(slots, 2, dtype=torch.int64, device=device), 0, self._host(slots), None) for _ in range(n)]

    def _host(self, slots: int) -> Any:
        torch = self._torch
        try:
            return torch.empty(slots, 2, dtype=torch.int64, pin_memory=self.kind in ("cuda", "xpu"))
        except RuntimeError:
            return torch.empty(slots, 2, dtype=torch.int64)

    def clear(self, block: Block, lane: Lane) -> None:
        """Every slot is written before it is read: nothing to do."""

    def hash(self, block: Block, slot: int, lane: Lane, t: Any, address: int, nbytes: int, seed: int, rows: int) -> None:
        with self.unseen():
            t = t.detach()
            if rows == 1:
                block.memory[slot] = kernel.torch_sums(self._torch, t, seed)
                return
            for n in range(rows):
                block.memory[slot + n] = kernel.torch_sums(self._torch, t[n].contiguous(), seed)

    def table(self, index: int, rows: list[tuple[int, int, int]]) -> Any:
        raise Unreadable("many tensors at once need a kernel")

    launch = table  # type: ignore[assignment]

    def copy(self, block: Block, slot: int, lane: Lane, t: Any, address: int, nbytes: int) -> None:
        torch = self._torch
        with self.unseen():
            block.memory[slot].view(torch.uint8)[:nbytes] = t.detach().reshape(1).view(torch.uint8)

    def send(self, block: Block, lane: Lane) -> None:
        torch = self._torch
        with self.unseen(), self._on(lane):
            block.host[: block.used].copy_(block.memory[: block.used], non_blocking=True)
            block.event = torch.Event(self.kind)
            block.event.record()

    @contextlib.contextmanager
    def _on(self, lane: Lane) -> Iterator[None]:
        """On the stream of a lane, whichever is current: behind what filled its block."""
        streams, stream = self._streams, self._seen.get((lane.index, lane.stream))
        if stream is None:
            yield
            return
        device, before = streams.current_device_index(), streams.current_stream(lane.index)
        if device == lane.index and before == stream:
            yield
            return
        streams.set_stream(stream)
        try:
            yield
        finally:
            streams.set_stream(before)
            streams.set_device_index(device)

    def done(self, block: Block, lane: Lane) -> bool:
        return bool(block.event.query())

    def bytes_of(self, block: Block, slots: int) -> bytes:
        with self.unseen():
            return bytes(block.host[:slots].contiguous().view(self._torch.uint8).numpy().tobytes())


def reach(torch: Any, kind: str, index: int) -> Any:
    """The best way to devices of this type, of which ``index`` is in use. Raises RuntimeError where the process cannot use them, e.g. after a fork."""
    if kind == "cuda":
        if getattr(torch.cuda, "_is_in_bad_fork", lambda: False)():
            raise RuntimeError("a forked process cannot use CUDA")
        if torch.version.cuda and not getattr(torch.version, "hip", None):
            from reprodebug.recorder.device_cuda import CudaBackend, DeviceError

            try:
                return CudaBackend(torch, index)
            except (OSError, AttributeError, DeviceError):  # no NVRTC, or one that cannot compile for this GPU
                pass
    return TorchBackend(torch, kind)
