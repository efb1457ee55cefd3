"""The states of the program's random generators: fingerprint and position, without drawing.

Owns the table of generators: Python's ``random``, NumPy's global generator and those that
``numpy.random.default_rng`` makes, torch's CPU generator, torch generators that a DataLoader is
given, and every CUDA generator once CUDA runs.

Layouts read here: ``at::CPUGeneratorImpl`` legacy state (PyTorch, aten/src/ATen/CPUGeneratorImpl.cpp: seed u64,
left i32, seeded i32, next u64, 624 words) and NumPy's ``mt19937_state`` (624 words u32, position i32), through the
address that NumPy publishes as ``bit_generator.ctypes.state_address``.
"""

from __future__ import annotations

import ctypes
import json
import struct
import sys
from collections.abc import Callable
from typing import Any

from reprodebug.recorder.handlers import pass_on
from reprodebug.recorder.writer import Writer

UNKNOWN = -1
_KEEP_BYTES = 32 << 20
"""states kept whole, per process"""
_MAX_GENERATORS = 64
_MT_WORDS = 624


class Randomness:
    """Observes every known generator; writes a row when a state is new."""

    def __init__(self, torch: Any, writer: Writer, digest: Callable[..., bytes]) -> None:
        self._torch = torch
        self._writer = writer
        self._digest = digest
        self._rows = 0
        self._kept = 0
        self._numbers: dict[str, int] = {}
        self._last: dict[int, tuple[Any, int]] = {}
        self._states_seen: set[bytes] = set()
        self._torch_number: int | None = None
        self._torch_last = b""
        self._torch_body = b""
        self.torch_row = 0
        self._numpy_mt: Any = None
        self._numpy_made: list[tuple[int, Any]] = []
        self._numpy_count = 0
        self.numpy_untracked = 0
        self._python_last: Any = None

    def reset(self) -> None:
        """After a fork: the new journal has no rows yet."""
        made, count = self._numpy_made, self._numpy_count
        self.__init__(self._torch, self._writer, self._digest)  # type: ignore[misc]
        self._numpy_made, self._numpy_count = made, count

    # torch's CPU generator: read before every module call

    def torch_cpu(self) -> int:
        """The row of torch's default CPU generator now; about 1 µs while nothing was drawn."""
        state = self._torch.default_generator.get_state()
        n = state.numel()
        body = (ctypes.c_char * n).from_address(state.data_ptr())
        digest = self._digest(body)
        if digest != self._torch_last:
            self._torch_body = body.raw
            if self._torch_number is None:
                self._torch_number = self._number("torch.cpu", "mt19937")
            self._torch_last = digest
            self.torch_row = self._row(self._torch_number, _torch_position(self._torch_body), digest)
        return self.torch_row

    # all of them: read at the boundaries of batches, root calls and steps

    def observe(self) -> None:
        """Look at every generator, and keep the states that are new."""
        self.torch_cpu()
        if self._torch_number is not None:
            self._keep(self._torch_number, self._torch_last, lambda: _packed(self._torch_body))
        self._python()
        self._numpy()
        self._cuda()

    def torch_generator(self, name: str, generator: Any) -> None:
        """One generator object of the program's own, under the name of its owner."""
        try:
            state = generator.get_state()
            n = state.numel()
            body = (ctypes.c_char * n).from_address(state.data_ptr()).raw if state.device.type == "cpu" else b""
        except Exception as error:
            pass_on(error)
            return
        algorithm = "mt19937" if len(body) > 4096 else "philox" if body else "unknown"
        position = _torch_position(body) if algorithm == "mt19937" else UNKNOWN
        if algorithm == "philox" and len(body) == 16:  # seed and offset, as of the default generators
            position = struct.unpack("<qq", body)[1]
        self._seen(name, algorithm, position, body, _packed(body))

    def numpy_generator(self, generator: Any) -> None:
        """A generator that ``numpy.random.default_rng`` just made."""
        self._numpy_count += 1
        if len(self._numpy_made) < _MAX_GENERATORS:
            self._numpy_made.append((self._numpy_count - 1, generator))
        else:
            self.numpy_untracked += 1

    def _python(self) -> None:
        random = sys.modules.get("random")
        if random is None:
            return
        state = random.getstate()  # type: ignore[attr-defined]
        quick = hash(state)
        if quick == self._python_last:
            return
        self._python_last = quick
        words = state[1]
        body = struct.pack(f"<{len(words)}I", *words) + repr(state[2]).encode()
        self._seen("python.random", "mt19937", int(words[-1]), body)

    def _numpy(self) -> None:
        np_random = sys.modules.get("numpy.random")
        if np_random is None:
            return
        if self._numpy_mt is None:
            bits = np_random.mtrand._rand._bit_generator  # type: ignore[attr-defined]
            if type(bits).__name__ != "MT19937":
                self._numpy_mt = (None, 0, None)
            else:
                self._numpy_mt = (bits, bits.ctypes.state_address, None)
        bits, address, _ = self._numpy_mt
        if bits is not None:
            words = (ctypes.c_char * (4 * _MT_WORDS + 4)).from_address(address)
            quick = self._digest(words)
            if quick != self._numpy_mt[2]:
                self._numpy_mt = (bits, address, quick)
                legacy = np_random.get_state(legacy=False)  # type: ignore[attr-defined]
                gauss = f"{legacy.get('has_gauss', 0)} {float(legacy.get('gauss', 0.0)).hex()}".encode()
                body = words.raw
                self._seen("numpy.random", "mt19937", int.from_bytes(body[-4:], "little"), body + gauss)
        alive = []
        for entry in self._numpy_made:
            if _references(entry) <= _ALONE:  # the program has let it go
                continue
            alive.append(entry)
            number, bits = entry[0], entry[1].bit_generator
            body = json.dumps(bits.state, default=repr, sort_keys=True).encode()
            self._seen(f"numpy.default_rng#{number}", type(bits).__name__.lower(), UNKNOWN, body)
        self._numpy_made = alive

    def _cuda(self) -> None:
        cuda = self._torch.cuda
        if not cuda.is_initialized() or cuda.is_current_stream_capturing():  # their state may not be asked for inside a capture
            return
        for n, generator in enumerate(cuda.default_generators):
            seed, offset = generator.initial_seed(), generator.get_offset()
            self._seen(f"torch.cuda:{n}", "philox", int(offset), struct.pack("<QQ", seed & (2**64 - 1), offset))

    # rows

    def _seen(self, name: str, algorithm: str, position: int, body: bytes, kept: bytes | None = None) -> None:
        number = self._number(name, algorithm)
        digest = self._digest(body)
        last = self._last.get(number)
        if last is not None and last[0] == digest:
            return
        self._last[number] = (digest, self._row(number, position, digest))
        self._keep(number, digest, lambda: body if kept is None else kept)

    def _number(self, name: str, algorithm: str) -> int:
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self._numbers)
            self._writer.generator(number, name, algorithm)
        return number

    def _row(self, number: int, position: int, digest: bytes) -> int:
        self._rows += 1  # row 0 means: not observed
        self._writer.rng(self._rows, number, position, digest)
        return self._rows

    def _keep(self, number: int, digest: bytes, body: Callable[[], bytes]) -> None:
        if digest in self._states_seen or self._kept > _KEEP_BYTES:
            return
        self._states_seen.add(digest)
        state = body()
        self._kept += len(state)
        self._writer.state(number, digest, state)


def _references(entry: tuple[int, Any]) -> int:
    """References to what an entry holds. Whether Python counts that of an argument among them differs between its releases."""
    return sys.getrefcount(entry[1])


_ALONE = _references((0, object()))
"""of what nothing but its entry holds"""


def _torch_position(body: bytes) -> int:
    """Words of the current block already used: 624 - left; UNKNOWN for a state of another size."""
    if len(body) < 5016:
        return UNKNOWN
    left = struct.unpack_from("<i", body, 8)[0]
    return int(_MT_WORDS - left)


def _packed(body: bytes) -> bytes:
    """torch's CPU state without the empty upper half of each word: 24 bytes head, 624 words u32, the rest."""
    if len(body) < 5016 or sys.byteorder != "little":
        return body
    return body[:24] + memoryview(body)[24:5016].cast("I")[::2].tobytes() + body[5016:]
