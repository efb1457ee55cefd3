"""Fingerprints of tensors on an accelerator: queued on the program's own stream, read back late, never waited for.

Owns what is on its way. A tensor is hashed where it lies by one kernel on the stream that is current, so the memory is
read after what the program queued before and before what it queues next; no tensor is kept. The result goes into a slot of a block;
a block is copied to pinned memory on the same stream and asked about now and then. Until it is back a token stands in the
event's record (``device_results``).

Only the end of the recording waits, and not for long. Nothing is queued while a stream is captured into a CUDA graph: what would
have to be is unobserved, as is the inside of the graph.
"""

from __future__ import annotations

import struct
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from reprodebug.recorder import device_kernel as kernel
from reprodebug.recorder.device_results import SLOT_BITS, TOKEN, Results, pack_token, token
from reprodebug.recorder.lately import key_of
from reprodebug.recorder.writer import Writer

SLOTS = 4096
"""results of 16 bytes in one block"""
assert SLOTS <= 1 << SLOT_BITS
BLOCKS = 4
"""blocks made at a time"""
SEND_AFTER_S = 0.05
"""a block with results in it is sent back at the end of a step, after this long, or when it is half full"""
WAIT_S = 30.0
"""the end of the recording waits this long for the device"""
CAPTURED = "a CUDA graph was being captured on its stream: nothing may be added to it"
LOW_ADDRESS = 1 << 36
"""a tensor whose storage was freed has its offset for an address: below this the storage is looked at"""
WORTH_BYTES = 16 << 20
"""from this size on reading a tensor takes the device longer than the program's thread needs to look whether it was read lately"""
_LATELY = 16
"""big tensors that are remembered"""
_PLACES = 2048
"""kinds of tensors for which a launch is kept prepared"""
_BUSY = "it was used in the middle of another record (a signal handler?)"


class Unreadable(Exception):
    """This tensor's bytes cannot be had; the message is the reason."""


class Block:
    """Results of one stream that travel together."""

    __slots__ = ("address", "event", "host", "late", "memory", "serial", "used")

    def __init__(self, memory: Any, address: int, host: Any, event: Any) -> None:
        self.memory = memory
        self.address = address
        """of the slots on the device"""
        self.host = host
        self.event = event
        self.serial = 0
        """of its filling, unique in this process"""
        self.used = 0
        self.late: list[tuple[int, int, Callable[[bytes | None], None]]] = []
        """(slot, slots, who is given their bytes, or None when they are lost)"""


class Lane:
    """One stream of one device."""

    __slots__ = ("away", "block", "free", "index", "lent", "sent", "stream")

    def __init__(self, index: int, stream: int, lent: bool) -> None:
        self.index = index
        self.stream = stream
        self.lent = lent
        """made outside of torch: it may be gone as soon as it is not current, so nothing waits to be sent"""
        self.block: Block | None = None
        self.free: deque[Block] = deque()
        """the longest unused first: what was noted in one lasts as long as it can"""
        self.away: deque[Block] = deque()
        self.sent = time.monotonic()

    def due(self, now: float, step_done: bool) -> bool:
        """Whether what it has gathered should be sent back."""
        block = self.block
        return block is not None and block.used > 0 and (step_done or block.used * 2 > SLOTS or now - self.sent > SEND_AFTER_S)


class Plan:
    """Tensors that are hashed together after every step, as long as they stay where they are."""

    __slots__ = ("rows", "tables")

    def __init__(self, rows: list[tuple[int, Any, Any, int]], tables: Any) -> None:
        self.rows = rows
        """(address, shape, dtype, meta) of each"""
        self.tables = tables
        """what the back end made of them"""


class DeviceFingerprints:
    """Fingerprints of one process that are on their way, and those that came back."""

    def __init__(self, torch: Any, writer: Writer, backend: Any, digest: Callable[..., bytes], described: dict[int, Any]) -> None:
        """``backend`` reaches the device (``device_cuda``); ``digest`` hashes bytes on the host; ``described``: meta -> (shape,
        dtype, device, layout)."""
        self.backend = backend
        self._torch = torch
        self._lanes: dict[tuple[int, int], Lane] = {}
        self._lock = threading.RLock()
        self._busy = False
        self._lane: Lane | None = None
        """the one used last"""
        self._lately: dict[int, Any] = {}
        """key of a big tensor -> (weak reference, version, (lane, address, seed), block, its filling, slot of its fingerprint)"""
        self._places: dict[tuple[int, int, int], Callable[[Any], bytes | None]] = {}
        """(device, bytes, seed) -> what ``place`` gave"""
        self.results = Results(writer, digest, described)
        writer.late = self.results
        writer.meta_event({"type": "device-fingerprint", "algorithm": kernel.ALGORITHM, "by": backend.name})

    # what is queued

    def hash(self, t: Any, seed: int) -> bytes:
        """Queue the fingerprint of a dense contiguous tensor with elements; its token. Raises Unreadable."""
        address = address_of(t)
        with self._lock:
            block, slot, lane = self._slots(t.get_device(), 1)
            given = token(block.serial, slot)
            try:
                self.backend.hash(block, slot, lane, t, address, t.nbytes, seed, 1)
            finally:
                self._busy = False
            if lane.lent:
                self._send(lane)
        return given

    def place(self, t: Any, seed: int) -> Callable[[Any], bytes | None]:
        """``hash_again`` for tensors of the shape, dtype and device of ``t``, with all prepared that does not depend on the one at hand:
        this runs for each output, input and gradient of a step. None where it does not apply; ``hash`` then says why."""
        index, nbytes = t.get_device(), t.nbytes
        if not self.backend.notes or nbytes >= WORTH_BYTES:
            return lambda t: self.hash_again(t, seed)
        known = self._places.get((index, nbytes, seed))
        if known is None:
            if len(self._places) >= _PLACES:  # lengths that are never the same again
                self._places.clear()
            known = self._places[index, nbytes, seed] = self._place(index, nbytes, seed)
        return known

    def _place(self, index: int, nbytes: int, seed: int) -> Callable[[Any], bytes | None]:
        lock, pack, launch = self._lock, pack_token, self.backend.prepared(index, nbytes, seed)
        current_stream, (current_device, capturing) = self.backend.stream, self.backend.questions()

        def queue(t: Any) -> bytes | None:
            address = t.data_ptr()
            if address < LOW_ADDRESS and address == t.storage_offset() * t.itemsize:
                return None
            with lock:
                if self._busy or current_device() != index or capturing():
                    return None
                self._busy = True
                try:
                    stream = current_stream(index)
                    lane = self._lane
                    if lane is None or lane.stream != stream or lane.index != index:
                        lane = self._lane = self._lane_of(index, stream)
                    block = lane.block
                    if block is None or block.used == SLOTS:
                        block = self._room(lane, 1)
                    slot = block.used
                    block.used = slot + 1
                    launch(address, block.address + 16 * slot, stream)
                finally:
                    self._busy = False
                given = pack(TOKEN, block.serial << SLOT_BITS | slot)
                if lane.lent:
                    self._send(lane)
            return given

        return queue

    def hash_again(self, t: Any, seed: int) -> bytes:
        """Like ``hash``, for what goes from module to module and from term to term: a big tensor that was hashed lately is
        read again only where the device finds that it was written since.

        The same object, version counter, address and stream make it a candidate; the kernel then compares words at places spread over
        its memory, since collectives and kernels of other packages write without moving the counter.
        """
        if not self.backend.notes or t.nbytes < WORTH_BYTES or type(t) is not self._torch.Tensor or t.is_inference():
            return self.hash(t, seed)
        address, key, lately = address_of(t), key_of(t), self._lately
        with self._lock:
            row = lately.pop(key, None)
            block, slot, lane = self._slots(t.get_device(), 2)
            given = token(block.serial, slot)
            try:
                noted = None
                if row is not None:
                    ref, version, where, old, serial, first = row
                    if ref() is t and version == t._version and where == (lane, address, seed) and old.serial == serial:
                        noted = old.address + 16 * first
                self.backend.note(block, slot, lane, address, t.nbytes, seed, noted)
                if noted is None:
                    row = (weakref.ref(t), t._version, (lane, address, seed), block, block.serial, slot)
            finally:
                self._busy = False
            if lane.lent:
                self._send(lane)
                return given
            if len(lately) >= _LATELY:
                del lately[next(iter(lately))]
            lately[key] = row
        return given

    def check(self, t: Any) -> None:
        """Raises Unreadable where nothing may be queued for this tensor now."""
        index = t.get_device()
        if self.backend.capturing(index, self.backend.stream(index)):
            raise Unreadable(CAPTURED)

    def rows(self, t: Any, n: int, then: Callable[[bytes | None], None]) -> None:
        """Queue a fingerprint of each of the ``n`` rows of a dense contiguous tensor; ``then`` is given 16 bytes for each."""
        address = address_of(t)
        self._later(t, n, lambda block, slot, lane: self.backend.hash(block, slot, lane, t, address, t.nbytes // n, 0, n), then)

    def value(self, t: Any, then: Callable[[bytes | None], None]) -> None:
        """Queue a copy of the bytes of a tensor of one element."""
        nbytes, address = t.itemsize, address_of(t)
        self._later(
            t, 1, lambda block, slot, lane: self.backend.copy(block, slot, lane, t, address, nbytes),
            lambda raw: then(None if raw is None else raw[:nbytes]),
        )  # fmt: skip

    def _later(self, t: Any, n: int, queue: Callable[[Block, int, Lane], None], then: Callable[[bytes | None], None]) -> None:
        with self._lock:
            block, slot, lane = self._slots(t.get_device(), n)
            try:
                queue(block, slot, lane)
            finally:
                self._busy = False
            block.late.append((slot, n, then))
            if lane.lent:
                self._send(lane)

    def together(self, plan: Plan | None, tensors: list[Any], look_up: Callable[[Any], Any]) -> tuple[Plan | None, list[Any]]:
        """Queue the fingerprints of many tensors at once: (plan for the next time, (token, meta, flags) of each, or None where
        it has to go alone). ``look_up(t)``: (meta, seed) of a tensor that can be hashed as it lies, else None."""
        if plan is None or not self._fits(plan, tensors):
            plan = self._planned(tensors, look_up)
        found: list[Any] = [None] * len(tensors)
        for index, positions, table in plan.tables:
            with self._lock:
                block, slot, lane = self._slots(index, len(positions))
                try:
                    self.backend.launch(block, slot, lane, table)
                finally:
                    self._busy = False
                for n, at in enumerate(positions):
                    found[at] = (token(block.serial, slot + n), plan.rows[at][3], 0)
                if lane.lent:
                    self._send(lane)
        return plan, found

    @staticmethod
    def _fits(plan: Plan, tensors: list[Any]) -> bool:
        rows = plan.rows
        if len(rows) != len(tensors):
            return False
        for (address, shape, dtype, _), t in zip(rows, tensors):
            if address and (t.data_ptr() != address or t.shape != shape or t.dtype is not dtype or not t.is_contiguous()):
                return False
        return True

    def _planned(self, tensors: list[Any], look_up: Callable[[Any], Any]) -> Plan:
        rows, by_device = [], {}  # type: ignore[var-annotated]
        for at, t in enumerate(tensors):
            known = look_up(t)
            if known is None:
                rows.append((0, None, None, 0))
                continue
            rows.append((t.data_ptr(), t.shape, t.dtype, known[0]))
            by_device.setdefault(t.get_device(), []).append((at, t.data_ptr(), t.nbytes, known[1]))
        tables = []
        for index, found in by_device.items():
            for start in range(0, len(found), kernel.TABLE):
                part = found[start : start + kernel.TABLE]
                tables.append((index, [at for at, _, _, _ in part], self.backend.table(index, [row[1:] for row in part])))
        return Plan(rows, tables)

    def _slots(self, index: int, n: int) -> tuple[Block, int, Lane]:
        """``n`` slots of the current stream's block. Leaves ``_busy`` set: the caller queues, then clears it."""
        if self._busy:
            raise Unreadable(_BUSY)
        self._busy = True
        try:
            stream = self.backend.stream(index)
            if self.backend.capturing(index, stream):
                raise Unreadable(CAPTURED)
            lane = self._lane_of(index, stream)
            block = lane.block
            if block is None or block.used + n > SLOTS:
                block = self._room(lane, n)
            slot = block.used
            block.used = slot + n
            return block, slot, lane
        except BaseException:
            self._busy = False
            raise

    def _lane_of(self, index: int, stream: int) -> Lane:
        lane = self._lanes.get((index, stream))
        if lane is None:
            lane = self._lanes[index, stream] = Lane(index, stream, self.backend.lent(index, stream))
        return lane

    def _room(self, lane: Lane, n: int) -> Block:
        """An empty block for a lane; that in use is sent."""
        if lane.block is not None:
            self._send(lane)
        if not lane.free:
            lane.free += self.backend.blocks(lane, BLOCKS, SLOTS)
        block = lane.free[0]
        self.backend.clear(block, lane)
        block.serial = self.results.expect()
        lane.block = lane.free.popleft()
        return block

    # what comes back

    def tick(self, step_done: bool = False) -> None:
        """Send what has waited long enough, and all of a step that is over; take what has come. Never waits."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            self.forget()
            now = time.monotonic()
            lanes = [lane for lane in self._lanes.values() if lane.away or lane.due(now, step_done)]
            if not lanes or self._busy or self.backend.any_capture():
                return
            with self.backend.relaxed():
                for lane in lanes:
                    if lane.due(now, step_done) and not self.backend.held(lane):
                        lane.sent = now
                        self._send(lane)
                    self._receive(lane)
        finally:
            self._lock.release()

    def forget(self) -> None:
        """Big tensors are read anew from here on: one that comes again much later may have been written in few places, and so may
        one that a CUDA graph writes."""
        self._lately = {}  # another thread may be at work on the old one

    def finish(self) -> None:
        """The recording ends: send everything, and wait for it, but not for ever."""
        with self._lock:
            end = time.monotonic() + WAIT_S
            with self.backend.relaxed():
                for lane in self._lanes.values():
                    block = lane.block
                    if block is not None and block.used:
                        if self.backend.held(lane):
                            self._lose(block, CAPTURED)
                        else:
                            self._send(lane)
                for lane in self._lanes.values():
                    self._receive(lane)
                    while lane.away and time.monotonic() < end:
                        time.sleep(0.0005)
                        self._receive(lane)
                    while lane.away:
                        self._lose(lane.away.popleft(), "the device had not finished when the recording ended")

    def _send(self, lane: Lane) -> None:
        block = lane.block
        assert block is not None
        lane.block = None
        try:
            self.backend.send(block, lane)
            lane.away.append(block)
        except Exception as error:
            self._lose(block, f"the device reports: {error}"[:200])

    def _receive(self, lane: Lane) -> None:
        while lane.away:
            block = lane.away[0]
            try:
                if not self.backend.done(block, lane):
                    return
                raw = self.backend.bytes_of(block, block.used)
            except Exception as error:
                lane.away.popleft()
                self._lose(block, f"the device reports: {error}"[:200])
                continue
            lane.away.popleft()
            self.results.arrived(block.serial, raw)
            for slot, n, then in block.late:
                then(raw[16 * slot : 16 * (slot + n)])
            block.late, block.used = [], 0
            lane.free.append(block)

    def _lose(self, block: Block, why: str) -> None:
        """Its results will not come; the memory is not used again, something may still write to it."""
        self.results.arrived(block.serial, why)
        for _, _, then in block.late:
            then(None)
        block.late, block.used = [], 0


def address_of(t: Any) -> int:
    """Where a dense tensor lies. Raises Unreadable where its storage has been freed: then its offset is all that is left of it."""
    address: int = t.data_ptr()
    if address < LOW_ADDRESS and address == t.storage_offset() * t.itemsize:
        raise Unreadable("its storage has been freed")
    return address


def decoded(raw: bytes, dtype: str) -> float | None:
    """The number in the bytes of one element; None for a dtype that is no real number. ``dtype`` as in ``float32``."""
    form = {"float64": "<d", "float32": "<f", "float16": "<e", "int64": "<q", "int32": "<i", "int16": "<h", "int8": "<b", "uint8": "<B",
            "bool": "<?"}.get(dtype)  # fmt: skip
    if dtype == "bfloat16":
        raw, form = b"\0\0" + raw, "<f"
    return None if form is None else float(struct.unpack(form, raw)[0])
