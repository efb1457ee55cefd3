"""Streams, captures, contexts and memory as a GPU has them, with a driver made of main memory that does what is queued only when told."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reprodebug.model.events import Flag
from reprodebug.recorder import device, device_cuda
from reprodebug.recorder.device import DeviceFingerprints, Unreadable
from reprodebug.recorder.device_torch import TorchBackend
from reprodebug.recorder.writer import Writer
from tests.recorder.far import Cards, FarFingerprinter, cuda_over_memory, on
from tests.recorder.test_device import reference
from tests.recorder.test_device_cuda import driver  # noqa: F401

SEED = 77


class Machine:
    """Two cards, the recorder's way to them, and what happened there."""

    def __init__(self, library: str, folder: Path, cards: Cards | None = None) -> None:
        self.cards = cards or Cards(library)
        self.driver = self.cards.driver
        self.reset()
        self.backend = cuda_over_memory(library, self.cards)
        self.fingerprint = FarFingerprinter(torch, Writer(str(folder)))
        self.device = self.fingerprint.device = DeviceFingerprints(
            torch, self.fingerprint._writer, self.backend, self.fingerprint._digest, self.fingerprint._described
        )
        self.fingerprint.far = lambda: self.backend  # type: ignore[method-assign, assignment, return-value]

    def reset(self) -> None:
        for name in ("launches", "pending", "deferred", "into_graphs", "spoilt", "implicit", "no_host_memory"):
            self.say(name, 0)
        self.driver.break_device(0)

    def say(self, name: str, value: int) -> None:
        ctypes.c_int.in_dll(self.driver, name).value = value

    def ask(self, name: str) -> int:
        return int(ctypes.c_int.in_dll(self.driver, name).value)

    def go_on(self, stream: int, most: int = 1 << 30) -> int:
        return int(self.driver.go_on(ctypes.c_void_p(stream), most))

    def back(self) -> None:
        for lane in self.device._lanes.values():
            lane.sent = 0.0
        self.device.tick()

    def result(self, token: bytes) -> Any:
        return self.device.results.of(token)


@pytest.fixture
def machine(driver: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:  # noqa: F811
    for name in ("DRIVER", "find_nvrtc", "compiled"):
        monkeypatch.setattr(device_cuda, name, getattr(device_cuda, name))  # put back afterwards
    monkeypatch.setattr(device, "WORTH_BYTES", 256 << 10)
    made = Machine(driver, tmp_path)
    yield made
    made.reset()


def wanted(t: torch.Tensor) -> bytes:
    return reference(t.numpy().tobytes(), SEED)


# streams


def test_streams_that_lag_behind_each_other(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three streams, small blocks, work that is done late and in another order than it was queued: no block is used again too early."""
    monkeypatch.setattr(device, "SLOTS", 6)
    monkeypatch.setattr(device_cuda, "SLOTS", 6)
    machine.say("deferred", 1)
    streams = [0, machine.cards.stream(-1, 1), machine.cards.stream(-1, 2)]
    g = torch.Generator().manual_seed(4)
    found = []
    for n in range(300):
        machine.cards.streams[-1] = streams[n % 3 if n < 150 else int(torch.randint(3, (1,), generator=g))]
        t = torch.full((n % 7 + 1,), float(n))
        found.append((machine.device.hash(t, SEED), t))
        if n % 11 == 0:
            machine.go_on(streams[int(torch.randint(3, (1,), generator=g))], int(torch.randint(9, (1,), generator=g)))
            machine.back()
    for stream in reversed(streams):
        assert all(machine.result(token) in (None, wanted(t)) for token, t in found)
        machine.go_on(stream)
        machine.back()
        machine.go_on(stream)
        machine.back()
    assert [machine.result(token) for token, _ in found] == [wanted(t) for _, t in found]


def test_arguments_go_along_with_a_launch(machine: Machine) -> None:
    """The next launch fills the same memory with its own arguments, before the first has run."""
    machine.say("deferred", 1)
    tensors = [torch.randn(n + 1) for n in range(40)]
    plan, first = machine.device.together(None, tensors, lambda t: (0, SEED))
    alone = machine.device.hash(tensors[3], SEED)
    _, second = machine.device.together(plan, tensors, lambda t: (0, SEED))
    machine.back()
    machine.go_on(0)
    machine.back()
    for rows in (first, second):
        assert [machine.result(row[0]) for row in rows] == [wanted(t) for t in tensors]
    assert machine.result(alone) == wanted(tensors[3])


def test_a_stream_made_outside_of_torch_may_end_at_once(machine: Machine) -> None:
    """What was queued on it is sent behind it while it is there; afterwards its handle is not touched."""
    other = machine.cards.stream(-1, 9)
    machine.cards.streams[-1] = other
    machine.cards.lent.add(other)
    t = torch.randn(100_000)
    found: list[Any] = []
    tokens = [machine.device.hash(t, SEED), machine.device.hash_again(t, SEED), machine.device.hash_again(t, SEED)]
    tokens += [row[0] for row in machine.device.together(None, [t], lambda t: (0, SEED))[1]]
    machine.device.value(torch.tensor(2.5), found.append)
    lane = machine.device._lanes[-1, other]
    assert lane.block is None
    machine.cards.streams[-1] = 0
    machine.cards.capture(other, True)  # what would be queued on it now is counted
    machine.back()
    machine.device.finish()
    assert machine.ask("into_graphs") == 0
    assert [machine.result(token) for token in tokens] == [wanted(t)] * 4
    assert found == [torch.tensor(2.5).numpy().tobytes()]
    machine.cards.capture(other, False)


def test_what_is_prepared_for_a_place(machine: Machine) -> None:
    """The same fingerprints on whichever stream is current, and none where something else has to be looked at first."""
    small, big = (machine.device.place(torch.empty(n), SEED) for n in (33, 100_000))
    tensors = [torch.randn(33) for _ in range(9)]
    found = []
    for n, t in enumerate(tensors):
        machine.cards.streams[-1] = machine.cards.stream(-1, n % 3)
        found.append((small(t), t))
    machine.cards.streams[-1] = 0
    t = torch.randn(100_000)
    found += [(big(t), t), (big(t), t)]
    launches = machine.ask("launches")
    machine.cards.capture(0, True)
    assert small(tensors[0]) is None
    machine.cards.capture(0, False)
    machine.cards._exchange(0)
    assert small(tensors[0]) is None
    machine.cards._exchange(-1)
    assert machine.ask("launches") == launches
    other = machine.cards.stream(-1, 9)
    machine.cards.streams[-1] = other
    machine.cards.lent.add(other)
    found.append((small(tensors[1]), tensors[1]))
    assert machine.device._lanes[-1, other].block is None  # it has been sent: the stream may end
    machine.cards.streams[-1] = 0
    machine.device.finish()
    assert [machine.result(token) for token, _ in found] == [wanted(t) for _, t in found]


def test_a_place_fills_one_block_after_another(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "SLOTS", 4)
    monkeypatch.setattr(device_cuda, "SLOTS", 4)
    queue = machine.device.place(torch.empty(5), SEED)
    assert machine.device.place(torch.empty(5), SEED) is queue
    tensors = [torch.full((5,), float(n)) for n in range(50)]
    tokens = [queue(t) for t in tensors]
    machine.device.finish()
    assert [machine.result(token) for token in tokens] == [wanted(t) for t in tensors]


# captures


def test_nothing_is_queued_on_a_stream_that_another_thread_captures(machine: Machine) -> None:
    stream, t = machine.cards.stream(-1, 5), torch.randn(20)
    machine.cards.streams[-1] = stream
    token = machine.device.hash(t, SEED)
    machine.cards.streams[-1] = 0
    machine.cards.capture(stream, True)
    machine.device.tick(step_done=True)
    assert (machine.ask("into_graphs"), machine.ask("spoilt"), machine.result(token)) == (0, 0, None)
    machine.cards.capture(stream, False)
    machine.device.tick(step_done=True)
    assert machine.result(token) == wanted(t)


def test_a_recording_that_ends_inside_a_capture(machine: Machine) -> None:
    stream, t = machine.cards.stream(-1, 5), torch.randn(20)
    machine.cards.streams[-1] = stream
    token = machine.device.hash(t, SEED)
    machine.cards.capture(stream, True)
    with pytest.raises(Unreadable, match="captured"):
        machine.device.hash(t, SEED)
    machine.device.finish()
    assert machine.ask("into_graphs") == 0
    assert machine.result(token) == device.CAPTURED
    machine.cards.capture(stream, False)


def test_no_question_of_ours_spoils_a_capture_elsewhere(machine: Machine) -> None:
    """Memory for another stream, another device's kernel, events: all are asked for while a stream is captured."""
    machine.cards.capture(machine.cards.stream(-1, 5), True)
    tensors = [torch.randn(20), torch.randn(30)]
    machine.cards.streams[-1] = machine.cards.stream(-1, 6)
    tokens = [machine.device.hash(tensors[0], SEED), machine.device.hash(on(tensors[1], 1), SEED)]
    machine.back()
    machine.device.finish()
    assert machine.ask("spoilt") == machine.ask("into_graphs") == 0
    assert [machine.result(token) for token in tokens] == [wanted(t) for t in tensors]


def test_the_default_stream_beside_a_capture_that_blocks_it(machine: Machine) -> None:
    t = torch.randn(20)
    token = machine.device.hash(t, SEED)
    machine.say("implicit", 1)
    machine.back()
    assert machine.result(token) is None
    machine.say("implicit", 0)
    machine.back()
    assert machine.result(token) == wanted(t)


# devices, contexts, threads


def test_the_device_that_was_current_is_left_without_a_context(machine: Machine) -> None:
    machine.cards.device = 0  # current by name alone: nothing was ever made there
    t = torch.randn(20)
    tokens = [machine.device.hash(on(t, 1), SEED) for _ in range(3)]
    machine.back()
    assert machine.cards.contexts == {-1, 1}
    assert machine.cards.device == 0
    assert [machine.result(token) for token in tokens] == [wanted(t)] * 3


def test_devices_have_kernels_of_their_own(machine: Machine) -> None:
    tensors = [torch.randn(n + 10) for n in range(6)]
    tokens = [machine.device.hash(on(t, n % 3), SEED) for n, t in enumerate(tensors)]
    every = [on(t, n % 3) for n, t in enumerate(tensors)]
    _, rows = machine.device.together(None, every, lambda t: (0, SEED))
    machine.driver.set_device(2)  # torch says -1, the thread's context is another's
    tokens.append(machine.device.hash(tensors[0], SEED))
    machine.back()
    machine.device.finish()
    assert [machine.result(token) for token in tokens] == [wanted(t) for t in [*tensors, tensors[0]]]
    assert [machine.result(row[0]) for row in rows] == [wanted(t) for t in tensors]


def in_a_thread(work: Callable[[], Any]) -> Any:
    """A thread of Python's that has not used the device: it has no context."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_without_a_context_may_be_first_and_last(machine: Machine, driver: str, tmp_path: Path) -> None:  # noqa: F811
    cards = Cards(driver)
    made = in_a_thread(lambda: Machine(driver, tmp_path / "other", cards))
    t = torch.randn(20)
    token = in_a_thread(lambda: made.device.hash(t, SEED))
    in_a_thread(made.back)
    in_a_thread(made.device.finish)
    assert made.result(token) == wanted(t)


# memory


def test_freed_storage_is_not_read(machine: Machine) -> None:
    """A view with an offset has a small address then, which is not null: a kernel that reads it ends the program."""
    whole = torch.randn(200_000)
    views = [whole[10:], whole[:100_000], whole[5:6], whole[8:28].view(4, 5)]
    look_up = machine.fingerprint._hashable
    plan, before = machine.device.together(None, views[:2], lambda t: (0, SEED))
    launches = machine.ask("launches")
    whole.untyped_storage().resize_(0)
    for t in views:
        for way in (machine.device.hash, machine.device.hash_again):
            with pytest.raises(Unreadable, match="freed"):
                way(t, SEED)
        assert look_up(t) is None
        assert machine.device.place(torch.empty(4), SEED)(t) is None
        assert machine.fingerprint(t)[2] & Flag.UNOBSERVED
    with pytest.raises(Unreadable, match="freed"):
        machine.device.rows(views[3], 4, lambda raw: None)
    with pytest.raises(Unreadable, match="freed"):
        machine.device.value(views[2], lambda raw: None)
    plan, after = machine.device.together(plan, views[:2], look_up)
    assert (None not in before, after) == (True, [None, None])
    assert machine.ask("launches") == launches


def test_memory_is_given_back_where_only_half_can_be_had(machine: Machine) -> None:
    held = ctypes.c_longlong.in_dll(machine.driver, "device_bytes")
    held.value = 0
    machine.say("no_host_memory", 1)
    for _ in range(3):
        with pytest.raises(device_cuda.DeviceError):
            machine.device.hash(torch.randn(5), SEED)
    assert held.value == 0
    machine.say("no_host_memory", 0)
    t = torch.randn(5)
    token = machine.device.hash(t, SEED)
    machine.back()
    assert machine.result(token) == wanted(t)


def test_small_and_misplaced_tensors_in_one_launch(machine: Machine) -> None:
    """Every alignment, every tail, one launch; a neighbour's bytes are no part of any."""
    room = torch.randint(256, (40_000,), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    parts = [room[at : at + n] for at, n in zip(range(3, 39_000, 277), range(1, 300), strict=False)] + [room[1:30_000], room[16:39_001]]
    launches = machine.ask("launches")
    _, rows = machine.device.together(None, parts, lambda t: (0, SEED))
    assert machine.ask("launches") - launches <= 2
    machine.back()
    assert [machine.result(row[0]) for row in rows] == [wanted(t) for t in parts]


def test_what_is_remembered_ends_with_the_call_and_with_a_graph(machine: Machine) -> None:
    """Between two looks at a few places a kernel may write others: nothing is taken as known for long."""
    t = torch.randn(100_000)

    def read() -> bool:
        before = machine.driver.threads_that_read()
        token = machine.device.hash_again(t, SEED)
        machine.device.finish()
        assert machine.result(token) == wanted(t)
        return bool(machine.driver.threads_that_read() > before)

    assert [read(), read()] == [True, False]
    for ends in (machine.device.tick, machine.device.forget):
        ends()
        t.numpy()[1] += 1  # none of the places that are looked at, and no version counter moves
        assert [read(), read()] == [True, False]


# the way by torch operations


class Streams:
    """``torch.accelerator`` of two devices, as far as it is used."""

    class One:
        def __init__(self, index: int, stream_id: int) -> None:
            self.device_index, self.stream_id = index, stream_id

    def __init__(self) -> None:
        self.device = 0
        self.current = {0: self.One(0, 0), 1: self.One(1, 0)}

    def current_stream(self, index: int | None = None) -> Any:
        return self.current[self.device if index is None else index]

    def set_stream(self, stream: Any) -> None:
        self.device = stream.device_index
        self.current[stream.device_index] = stream

    def current_device_index(self) -> int:
        return self.device

    def set_device_index(self, index: int) -> None:
        self.device = index


def test_torch_operations_are_sent_on_the_stream_that_they_were_queued_on() -> None:
    backend, streams = TorchBackend(torch, "cpu"), Streams()
    backend._streams = streams
    mine = streams.current[1] = Streams.One(1, 7)
    lane = device.Lane(1, backend.stream(1), False)
    streams.current[1] = later = Streams.One(1, 8)
    with backend._on(lane):
        assert (streams.device, streams.current[1]) == (1, mine)
    assert (streams.device, streams.current[1]) == (0, later)
