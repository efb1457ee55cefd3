"""The way to an NVIDIA GPU: the kernel compiled by NVRTC, queued and read back through the driver's own interface.

Calls the driver by ctypes and torch only for the current device and stream: no torch operation, nothing from its
allocators, nothing that its dispatch modes or its autograd could see; a profile of the GPU shows the kernels. Needs no
compiler and no package beyond what a CUDA build of torch brings.

CUDA Driver API and NVRTC: NVIDIA, CUDA Toolkit Documentation.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from reprodebug.recorder import device_kernel as kernel
from reprodebug.recorder.device import SLOTS, Block, Lane

DRIVER = "libcuda.so.1"
_OTHER_CONTEXT = (201, 400)
"""none is current, or one of another device is: handles are then invalid"""
_NOT_READY = 600
_CAPTURE_ELSEWHERE = 906
_NO_TIMING = 2
_PORTABLE = 1
_RELAXED = 2
_P, _N, _U, _L, _I = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuLaunchKernelEx": (_P, _P, _P, _P),
    "cuMemAlloc_v2": (_P, _N),
    "cuMemFree_v2": (_L,),
    "cuMemHostAlloc": (_P, _N, _U),
    "cuMemsetD8Async": (_L, ctypes.c_ubyte, _N, _P),
    "cuMemcpyDtoHAsync_v2": (_P, _L, _N, _P),
    "cuMemcpyDtoDAsync_v2": (_L, _L, _N, _P),
    "cuEventCreate": (_P, _U),
    "cuEventRecord": (_P, _P),
    "cuEventQuery": (_P,),
    "cuModuleLoadData": (_P, _P),
    "cuModuleGetFunction": (_P, _P, ctypes.c_char_p),
    "cuDeviceGet": (_P, _I),
    "cuDevicePrimaryCtxRetain": (_P, _I),
    "cuCtxGetCurrent": (_P,),
    "cuCtxSetCurrent": (_P,),
    "cuStreamIsCapturing": (_P, _P),
    "cuThreadExchangeStreamCaptureMode": (_P,),
    "cuGetErrorString": (_I, _P),
}


_FUNCTIONS = (b"fingerprint", b"fingerprint_noted", b"fingerprint_again", b"fingerprints")


class DeviceError(Exception):
    """The driver refused; the message is its own."""


class _Table(ctypes.Structure):
    """``Table`` of the kernel's source."""

    _fields_ = [
        ("out", _L), ("n", _L), ("address", _L * kernel.TABLE), ("nbytes", _L * kernel.TABLE), ("seed", _L * kernel.TABLE),
        ("first", ctypes.c_uint32 * (kernel.TABLE + 1)),
    ]  # fmt: skip


class _Config(ctypes.Structure):
    """``CUlaunchConfig``: a launch by this takes ctypes a fourth of the time that one by eleven arguments takes."""

    _fields_ = [("grid", _U * 3), ("block", _U * 3), ("shared", _U), ("stream", _L), ("attributes", _P), ("n_attributes", _U)]


class _Loaded:
    """The kernel on one device."""

    __slots__ = ("again", "context", "many", "most", "noted", "one")

    def __init__(self, context: Any, functions: list[Any], most: int) -> None:
        self.context = context
        self.one, self.noted, self.again, self.many = functions
        self.most = most
        """blocks of one launch"""


def _pointers(values: Any) -> Any:
    """The addresses of a kernel's arguments, each of 8 bytes; valid while ``values`` is."""
    at = ctypes.addressof(values)
    return (_P * len(values))(*(at + 8 * n for n in range(len(values))))


def _blocks(nbytes: int, most: int) -> int:
    return min(most, max(1, -(-nbytes // kernel.BLOCK_BYTES)))


class CudaBackend:
    """Kernels, copies and events on the GPUs that torch uses in this process."""

    name = "cuda"
    kind = "cuda"
    many = notes = True

    def __init__(self, torch: Any, index: int) -> None:
        """``index``: a device that is in use. Raises OSError where the driver or NVRTC is not there, DeviceError where it cannot compile."""
        self._torch = torch
        self._driver = ctypes.CDLL(DRIVER)
        for name, signature in _SIGNATURES.items():
            getattr(self._driver, name).argtypes = signature
        self._compiler = find_nvrtc(torch)
        c = torch._C
        self.stream: Callable[[int], int] = c._cuda_getCurrentRawStream
        """the handle of the stream that is current in this thread for a device"""
        self._current_device = c._cuda_getDevice
        self._capturing = c._cuda_isCurrentStreamCapturing
        self._launch = self._driver.cuLaunchKernelEx
        self._loaded: dict[int, _Loaded] = {}
        self._images: dict[tuple[int, int], bytes] = {}
        # the arguments of the kernels for one tensor, and where they lie
        self._values = (_L * 5)()
        self._arguments = _pointers(self._values)
        self._config = _Config((1, 1, 1), (kernel.THREADS, 1, 1))
        self._load(index)

    # where

    def capturing(self, index: int, stream: int) -> bool:
        """Whether that stream is being captured into a graph."""
        return bool(self._capturing()) if index == self._current_device() else self._captured(stream)

    def questions(self) -> tuple[Callable[[], int], Callable[[], bool]]:
        """What tells the device that is current in this thread, and whether its current stream is being captured."""
        return self._current_device, self._capturing

    def held(self, lane: Lane) -> bool:
        """The same of a lane's stream, which need not be current in any thread."""
        return self._captured(lane.stream)

    def _captured(self, stream: int) -> bool:
        state = _I(0)
        code = self._driver.cuStreamIsCapturing(stream, ctypes.byref(state))
        return state.value != 0 if code == 0 else code == _CAPTURE_ELSEWHERE

    def any_capture(self) -> bool:
        return bool(self._capturing())

    def lent(self, index: int, stream: int) -> bool:
        """Whether the current stream was made outside of torch, and may end any time: torch's number of such a one is its handle."""
        return stream != 0 and self._torch._C._cuda_getCurrentStream(index)[0] == stream

    @contextlib.contextmanager
    def relaxed(self) -> Iterator[None]:
        """What is asked inside does not spoil a capture that another thread has under way."""
        mode = _I(_RELAXED)
        self._driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))
        try:
            yield
        finally:
            self._driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))

    @contextlib.contextmanager
    def _on(self, index: int) -> Iterator[None]:
        if self._current_device() == index:
            yield
            return
        before = self._torch._C._cuda_exchangeDevice(index)
        try:
            yield
        finally:
            self._torch._C._cuda_maybeExchangeDevice(before)  # makes no context where there was none

    @contextlib.contextmanager
    def _at(self, index: int) -> Iterator[None]:
        """On a device and in its context: the default stream is that of whichever context is current."""
        with self._on(index), self._inside(self._load(index).context):
            yield

    # memory

    def blocks(self, lane: Lane, n: int, slots: int) -> list[Block]:
        """New blocks on the lane's device."""
        nbytes = 16 * slots
        with self._at(lane.index), self.relaxed():
            memory, host = _L(0), _P()
            self._do(lane.index, self._driver.cuMemAlloc_v2, ctypes.byref(memory), n * nbytes)
            made = []
            try:
                self._do(lane.index, self._driver.cuMemHostAlloc, ctypes.byref(host), n * nbytes, _PORTABLE)
                for k in range(n):
                    event = _P()
                    self._do(lane.index, self._driver.cuEventCreate, ctypes.byref(event), _NO_TIMING)
                    made.append(Block(None, memory.value + k * nbytes, (host.value or 0) + k * nbytes, event))
            except DeviceError:  # it is asked for again with the next tensor
                self._driver.cuMemFree_v2(memory)
                raise
        return made

    def clear(self, block: Block, lane: Lane) -> None:
        """Queue zeros for all of its slots."""
        with self._at(lane.index):
            self._do(lane.index, self._driver.cuMemsetD8Async, block.address, 0, 16 * SLOTS, lane.stream)

    # work

    def hash(self, block: Block, slot: int, lane: Lane, t: Any, address: int, nbytes: int, seed: int, rows: int) -> None:
        """Queue the fingerprints of ``rows`` stretches of ``nbytes`` from ``address`` on."""
        if self._current_device() != lane.index:
            with self._on(lane.index):
                self.hash(block, slot, lane, t, address, nbytes, seed, rows)
            return
        loaded = self._loaded[lane.index]
        self._values[:4] = [address, nbytes, seed, block.address + 16 * slot]
        self._run(lane, loaded.one, _blocks(nbytes, loaded.most if rows == 1 else max(1, loaded.most // rows)), rows, self._arguments)

    def prepared(self, index: int, nbytes: int, seed: int) -> Callable[[int, int, int], None]:
        """``launch(address, out, stream)``: what queues the fingerprint of such a tensor while its device is current."""
        loaded = self._load(index)
        values = (_L * 4)(0, nbytes, seed, 0)
        arguments = values.pointers = _pointers(values)  # type: ignore[attr-defined] # kept as long as these
        config = _Config((_blocks(nbytes, loaded.most), 1, 1), (kernel.THREADS, 1, 1))
        given = ctypes.addressof(config), loaded.one.value, ctypes.addressof(arguments), None
        run, last = self._launch, 0

        def launch(address: int, out: int, stream: int) -> None:
            nonlocal last
            values[0], values[3] = address, out
            if stream != last:
                config.stream = last = stream
            code = run(*given)
            if code:
                self._again(code, index, run, *given)

        return launch

    def _run(self, lane: Lane, function: Any, blocks: int, rows: int, arguments: Any) -> None:
        """Queue one launch; the lane's device is current."""
        config = self._config
        config.grid[0], config.grid[1], config.stream = blocks, rows, lane.stream
        self._do(lane.index, self._launch, ctypes.byref(config), function, arguments, None)

    def note(self, block: Block, slot: int, lane: Lane, address: int, nbytes: int, seed: int, noted: int | None) -> None:
        """Queue the fingerprint of a big tensor: with the sums over its places into the next slot; or, where ``noted`` is the
        address of both from an earlier time, with no more reading than these need as long as they are the same."""
        with self._on(lane.index):
            loaded = self._loaded[lane.index]
            self._values[:] = [address, nbytes, seed, block.address + 16 * slot, noted or 0]
            self._run(lane, loaded.noted if noted is None else loaded.again, _blocks(nbytes, loaded.most), 1, self._arguments)

    def table(self, index: int, rows: list[tuple[int, int, int]]) -> Any:
        """(address, bytes, seed) of up to ``TABLE`` tensors as one launch takes them: (table, blocks, arguments)."""
        table = _Table(n=len(rows))
        most = 4 * self._load(index).most
        total = sum(nbytes for _, nbytes, _ in rows)
        share = max(kernel.BLOCK_BYTES, -(-total // most))
        first = 0
        for n, (address, nbytes, seed) in enumerate(rows):
            table.address[n], table.nbytes[n], table.seed[n], table.first[n] = address, nbytes, seed, first
            first += max(1, -(-nbytes // share))
        table.first[len(rows)] = first
        return table, first, (_P * 1)(ctypes.addressof(table))

    def launch(self, block: Block, slot: int, lane: Lane, made: Any) -> None:
        """Queue the fingerprints of a table's tensors, into slots in its order."""
        table, blocks, arguments = made
        table.out = block.address + 16 * slot
        with self._on(lane.index):
            self._run(lane, self._loaded[lane.index].many, blocks, 1, arguments)

    def copy(self, block: Block, slot: int, lane: Lane, t: Any, address: int, nbytes: int) -> None:
        """Queue a copy of up to 16 bytes into a slot."""
        with self._at(lane.index):
            self._do(lane.index, self._driver.cuMemcpyDtoDAsync_v2, block.address + 16 * slot, address, nbytes, lane.stream)

    def send(self, block: Block, lane: Lane) -> None:
        """Queue the copy to the host, and an event behind it."""
        with self._at(lane.index):
            self._do(lane.index, self._driver.cuMemcpyDtoHAsync_v2, block.host, block.address, 16 * block.used, lane.stream)
            self._do(lane.index, self._driver.cuEventRecord, block.event, lane.stream)

    def done(self, block: Block, lane: Lane) -> bool:
        """Whether it has arrived. Raises DeviceError when it never will."""
        code = self._driver.cuEventQuery(block.event)
        if code and code != _NOT_READY:
            code = self._once_more(code, lane.index, self._driver.cuEventQuery, block.event)
        if code == _NOT_READY:
            return False
        self._check(code)
        return True

    def bytes_of(self, block: Block, slots: int) -> bytes:
        return ctypes.string_at(block.host, 16 * slots)

    # inside

    def _load(self, index: int) -> _Loaded:
        """The kernel on a device, compiled at its first use; the device is current."""
        loaded = self._loaded.get(index)
        if loaded is not None:
            return loaded
        with self._on(index), self.relaxed():
            properties = self._torch.cuda.get_device_properties(index)
            capability = (int(properties.major), int(properties.minor))
            image = self._images.get(capability)
            if image is None:
                image = self._images[capability] = compiled(self._compiler, capability)
            number, context, module, functions = _I(), _P(), _P(), [_P() for _ in _FUNCTIONS]
            self._check(self._driver.cuDeviceGet(ctypes.byref(number), index))
            self._check(self._driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), number))  # the one that torch uses
            with self._inside(context):
                self._check(self._driver.cuModuleLoadData(ctypes.byref(module), ctypes.c_char_p(image)))
                for function, name in zip(functions, _FUNCTIONS):
                    self._check(self._driver.cuModuleGetFunction(ctypes.byref(function), module, name))
            most = kernel.RESIDENT * int(properties.multi_processor_count)
            loaded = self._loaded[index] = _Loaded(context, functions, most)
        return loaded

    def _do(self, index: int, function: Any, *arguments: Any) -> None:
        code = function(*arguments)
        if code:
            self._again(code, index, function, *arguments)

    def _again(self, code: int, index: int, function: Any, *arguments: Any) -> None:
        self._check(self._once_more(code, index, function, *arguments))

    def _once_more(self, code: int, index: int, function: Any, *arguments: Any) -> int:
        """A thread that has not used the device yet has no context, or another's: try again in the right one."""
        if code in _OTHER_CONTEXT:
            with self._inside(self._loaded[index].context):
                code = function(*arguments)
        return code

    @contextlib.contextmanager
    def _inside(self, context: Any) -> Iterator[None]:
        """In this context. It stays the thread's where that had none, as after any call of torch's."""
        before = _P()
        self._check(self._driver.cuCtxGetCurrent(ctypes.byref(before)))
        self._check(self._driver.cuCtxSetCurrent(context))
        try:
            yield
        finally:
            if before.value:
                self._driver.cuCtxSetCurrent(before)

    def _check(self, code: int) -> None:
        if code:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorString(code, ctypes.byref(text))
            raise DeviceError(f"{(text.value or b'unknown error').decode('ascii', 'replace')} (CUDA error {code})")


# compiling


def find_nvrtc(torch: Any) -> Any:
    """NVRTC: the one that this process has loaded, else the one beside torch. Raises OSError."""
    major = str(torch.version.cuda or "").split(".", 1)[0]
    for path in [*_mapped(), *_beside(torch, major), f"libnvrtc.so.{major}", "libnvrtc.so"]:
        try:
            return ctypes.CDLL(path)
        except OSError:
            continue
    raise OSError("NVRTC was not found: neither beside torch nor in the system")


def _mapped() -> list[str]:
    if sys.platform != "linux":
        return []
    with open("/proc/self/maps", "rb") as f:
        found = {os.fsdecode(line[line.index(b"/") :].rstrip()) for line in f if b"/libnvrtc" in line or b"/libnvrtc-" in line}
    return sorted(p for p in found if "builtins" not in p)


def _beside(torch: Any, major: str) -> list[str]:
    home = os.path.dirname(os.path.abspath(torch.__file__))
    site = os.path.dirname(home)
    places = [
        os.path.join(home, "lib"),
        os.path.join(site, "nvidia", "cuda_nvrtc", "lib"),
        os.path.join(site, "nvidia", f"cu{major}", "lib"),
    ]
    places += [os.path.join(os.environ.get(v, ""), "lib64") for v in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(v)]
    places += ["/usr/local/cuda/lib64", os.path.join(sys.prefix, "lib")]
    found = [p for place in places for p in sorted(glob.glob(os.path.join(place, "libnvrtc*.so*")))]
    return [p for p in found if "builtins" not in p and ".alt." not in p]


def compiled(nvrtc: Any, capability: tuple[int, int]) -> bytes:
    """The kernel for a device of this compute capability: machine code, or PTX where this NVRTC does not know the device.

    Raises DeviceError with the compiler's words.
    """
    major, minor = capability
    log = ""
    for option in (f"sm_{major}{minor}", "compute_80", "compute_75"):
        program = _P()
        source = kernel.SOURCE.encode()
        if nvrtc.nvrtcCreateProgram(ctypes.byref(program), ctypes.c_char_p(source), b"reprodebug.cu", 0, None, None):
            raise DeviceError("NVRTC does not start")
        try:
            options = (ctypes.c_char_p * 2)(f"--gpu-architecture={option}".encode(), b"--std=c++17")
            code = nvrtc.nvrtcCompileProgram(program, 2, options)
            if code:
                log = log or _text(nvrtc, "ProgramLog", program).decode("utf-8", "replace").strip() or f"NVRTC error {code}"
                continue
            return _text(nvrtc, "CUBIN" if option.startswith("sm_") else "PTX", program)
        finally:
            nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    raise DeviceError(f"NVRTC could not compile the kernel: {log[:300]}")


def _text(nvrtc: Any, what: str, program: Any) -> bytes:
    size = _N(0)
    if getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) or not size.value:
        return b""
    text = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{what}")(program, text)
    return text.raw
