"""How many draws lie between two recorded states of a random generator.

Owns the arithmetic of the generators; what cannot be told is said as unknown, with the reason. Refuses to guess: a count
is given only where the second state was reached, or is reached by a closed form. Byte layouts are those that
``recorder/randomness.py`` keeps.

- Mersenne Twister: M. Matsumoto, T. Nishimura, "Mersenne Twister", ACM TOMACS 8 (1998). What is left of a block of 624
  words: PyTorch, aten/src/ATen/core/MT19937RNGEngine.h (``left_`` is 1 both after seeding and after a whole block);
  CPython, Modules/_randommodule.c (``index``); NumPy, numpy/random/src/mt19937/mt19937.h (``pos``).
- PCG64, PCG64DXSM: the state is a 128-bit linear congruential generator. F. Brown, "Random number generation with
  arbitrary strides", Trans. Am. Nucl. Soc. 71 (1994), turned round bit by bit as in M. O'Neill, "PCG", HMC-CS-2014-0905
  (``distance``). Multipliers: NumPy, numpy/random/src/pcg64/pcg64.h.
- Philox4x64: J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011; four outputs per count of the
  counter, NumPy, numpy/random/src/philox/philox.h.
- SFC64: the fourth word counts the outputs, NumPy, numpy/random/src/sfc64/sfc64.h.
- CUDA's Philox: PyTorch, aten/src/ATen/cuda/CUDAGeneratorImpl.cpp (seed, offset).
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from typing import Any

WORDS = "words of 32 bits"
OUTPUTS = "64-bit outputs"
HALVES = "32-bit halves of 64-bit outputs"
OFFSET = "Philox offset"

_BLOCK = 624
"""words that one twist makes"""
_STRIDE = 64
"""blocks between two looks at a walking Mersenne Twister"""
_FAR = 1 << 64
"""no program draws as often; further apart means a jump along the stream"""
_MULTIPLIERS = {"pcg64": 0x2360ED051FC65DA44385DF649FCCF645, "pcg64dxsm": 0xDA942042E4DD58B5}
_UNREADABLE = (ValueError, KeyError, IndexError, TypeError, OverflowError, RecursionError, struct.error)


@dataclass(frozen=True, slots=True)
class Between:
    """How far one state of a generator is ahead of another."""

    count: int | None
    """draws from the first state to the second; None: unknown"""
    unit: str
    """what ``count`` counts: one of ``WORDS``, ``OUTPUTS``, ``HALVES``, ``OFFSET``, or "draws" """
    reason: str = ""
    """why ``count`` is None; beside a count of 0, what differs although nothing was drawn"""
    same_stream: bool | None = None
    """True: the same seed or stream is proven; False: different seeding is proven; None: unknown"""


def between(name: str, algorithm: str, first: bytes, second: bytes, *, limit: int = 40_000_000) -> Between:
    """Draws forwards from ``first`` to ``second``, two states of the generator ``name``; raises nothing on damaged bytes.

    ``limit`` is the most draws to look ahead where only stepping tells (Mersenne Twister, SFC64: about 0.1 s for the default on one core).
    """
    n, how = _measure(name, algorithm, first, second, limit, both=False)
    if n is None or n >= 0:
        return how
    return Between(None, how.unit, f"the second state is {-n:,} {how.unit} behind the first", how.same_stream)


def apart(name: str, algorithm: str, a: bytes, b: bytes, *, limit: int = 40_000_000) -> tuple[int | None, Between]:
    """``(n, how)``: state ``b`` is ``n`` draws ahead of ``a``, behind it where ``n`` is negative; None: unknown.

    ``how`` is ``between`` from the state that is behind to the one ahead. ``limit`` holds for each direction, so unrelated
    states take twice the time of ``between``.
    """
    return _measure(name, algorithm, a, b, limit, both=True)


def seed_of(name: str, algorithm: str, body: bytes) -> int | None:
    """The seed (0 to 2**64 - 1) that a torch CPU or CUDA generator was given; None for any other, and for damaged bytes."""
    if not name.startswith("torch"):
        return None
    whole = len(body) >= 24 + 4 * _BLOCK if algorithm == "mt19937" else len(body) == 16 if algorithm == "philox" else False
    return int.from_bytes(body[:8], "little") if whole else None


def _measure(name: str, algorithm: str, a: bytes, b: bytes, limit: int, *, both: bool) -> tuple[int | None, Between]:
    """``apart``; with ``both`` False no steps are taken from ``b``."""
    numpys = name.startswith("numpy.default_rng")
    unit = WORDS if algorithm == "mt19937" else OFFSET if algorithm == "philox" and not numpys else OUTPUTS
    try:
        if algorithm == "mt19937":
            return _mersenne(name, a, b, limit, both)
        if algorithm == "philox" and not numpys:
            return _cuda(a, b)
        if algorithm in _MULTIPLIERS:
            return _pcg(_MULTIPLIERS[algorithm], json.loads(a), json.loads(b))
        if algorithm == "philox":
            return _philox(json.loads(a), json.loads(b))
        if algorithm == "sfc64":
            return _sfc(json.loads(a), json.loads(b), limit)
    except _UNREADABLE as error:
        return _unknown(unit, f"a recorded state cannot be read ({type(error).__name__}: {error})")
    return _unknown("draws", f"draws of {algorithm or 'an unnamed algorithm'!r} cannot be counted")


def _unknown(unit: str, reason: str, same_stream: bool | None = None) -> tuple[None, Between]:
    return None, Between(None, unit, reason, same_stream)


def _known(n: int, unit: str, reason: str = "") -> tuple[int, Between]:
    return n, Between(abs(n), unit, reason, True)


# Mersenne Twister


@dataclass(frozen=True, slots=True)
class _Twister:
    key: Any
    """the current block, 624 words uint32; right after seeding: what the first block is twisted from"""
    used: int
    """words of the block already drawn; 624: the next draw twists"""
    seed: int | None
    """torch's, modulo 2**32, the part that the block is made from"""
    rest: bytes
    """kept normal deviates"""


def _mersenne(name: str, a: bytes, b: bytes, limit: int, both: bool) -> tuple[int | None, Between]:
    x, y = _twister(name, a), _twister(name, b)
    blocks = _blocks(x.key, y.key, max(0, limit) // _BLOCK + 1, both)
    if blocks is not None:
        n = blocks * _BLOCK + y.used - x.used
        if abs(n) <= limit:
            return _known(n, WORDS, "the kept normal deviate differs" if n == 0 and x.rest != y.rest else "")
        return _unknown(WORDS, f"the states are {abs(n):,} {WORDS} apart, beyond the limit of {limit:,}", True)
    same = None if x.seed is None else x.seed == y.seed
    if same is False:
        return _unknown(WORDS, "the states come from different seeds", False)
    way = "in either direction" if both else "ahead"
    return _unknown(WORDS, f"the second state is not found within {limit:,} {WORDS} {way} of the first", same)


def _twister(name: str, body: bytes) -> _Twister:
    import numpy as np

    seed = None
    if name.startswith("numpy.default_rng"):
        state = json.loads(body)["state"]
        key, used, rest = np.array(_integers(state["key"], _BLOCK, 32), np.uint32), _integer(state["pos"]), b""
    elif name in ("python.random", "numpy.random"):
        key, rest = np.frombuffer(body, "<u4", _BLOCK), body[4 * _BLOCK + 4 :]
        (used,) = struct.unpack_from("<i", body, 4 * _BLOCK)
    else:
        seed32, left = struct.unpack_from("<I4xi", body)
        wide = len(body) >= 24 + 8 * _BLOCK  # as torch gives it; the recorder keeps the lower half of each word
        key = np.frombuffer(body, "<u8" if wide else "<u4", _BLOCK, 24).astype(np.uint32)
        seed, used, rest = seed32, _BLOCK + 1 - left, body[24 + (8 if wide else 4) * _BLOCK :]
        if left > _BLOCK:
            raise ValueError(f"{left} words left of a block")
    if not 0 <= used <= _BLOCK:
        raise ValueError(f"{used} words used of a block")
    return _Twister(key, used, seed, rest)


def _blocks(a: Any, b: Any, most: int, both: bool) -> int | None:
    """Twists from block ``a`` to block ``b``, negative where ``b`` comes first; None: not within ``most``.

    Baby steps and giant steps: the ``_STRIDE`` blocks from the goal onwards are kept, so the walker is looked at only once
    per ``_STRIDE`` blocks. Blocks are compared by their 624 outputs: tempering is one to one.
    """
    import numpy as np

    def walker(key: Any) -> Any:
        bits = np.random.MT19937(0)
        bits.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": 0}}
        return bits

    def onwards(key: Any) -> dict[bytes, int]:
        outputs = walker(key).random_raw(_STRIDE * _BLOCK).reshape(_STRIDE, _BLOCK)
        return {outputs[n].tobytes(): n for n in reversed(range(_STRIDE))}

    ways = [(walker(a), onwards(b), 1)]
    if both:
        ways.append((walker(b), onwards(a), -1))
    for at in range(0, most + _STRIDE, _STRIDE):
        for bits, goal, sign in ways:
            beyond = goal.get(bits.random_raw(_BLOCK).tobytes())
            if beyond is not None:
                return sign * (at - beyond)
            bits.random_raw((_STRIDE - 1) * _BLOCK, output=False)
    return None


# NumPy's generators of 64 bits: states as JSON, arrays in it as their repr


def _pcg(multiplier: int, a: Any, b: Any) -> tuple[int | None, Between]:
    (x, inc_x), (y, inc_y) = (_wide(s["state"]["state"], s["state"]["inc"]) for s in (a, b))
    if not inc_x & inc_y & 1:
        raise ValueError("the increment is even")
    if inc_x != inc_y:
        return _unknown(OUTPUTS, "the states have different increments: they come from different seeds", False)
    return _outputs(_signed(_lcg_distance(x, y, multiplier, inc_x), 128), a, b)


def _lcg_distance(state: int, goal: int, multiplier: int, increment: int) -> int:
    """Steps of ``x -> multiplier * x + increment`` modulo 2**128 from ``state`` to ``goal``, 0 to 2**128 - 1.

    The lowest n bits of the state have period 2**n (``multiplier`` is 1 modulo 4, ``increment`` odd), so each bit of the
    distance follows from one bit of the state.
    """
    mask, distance = (1 << 128) - 1, 0
    for n in range(128):
        if (state ^ goal) >> n & 1:
            state = (state * multiplier + increment) & mask
            distance |= 1 << n
        increment = (multiplier + 1) * increment & mask
        multiplier = multiplier * multiplier & mask
    return distance


def _philox(a: Any, b: Any) -> tuple[int | None, Between]:
    if _integers(a["state"]["key"], 2, 64) != _integers(b["state"]["key"], 2, 64):
        return _unknown(OUTPUTS, "the states have different keys: they come from different seeds", False)
    at = []
    for s in (a, b):
        used = _integer(s["buffer_pos"])
        if used > 4:
            raise ValueError(f"{used} outputs used of 4")
        at.append(4 * sum(w << 64 * n for n, w in enumerate(_integers(s["state"]["counter"], 4, 64))) + used)
    return _outputs(_signed(at[1] - at[0], 258), a, b)


def _sfc(a: Any, b: Any, limit: int) -> tuple[int | None, Between]:
    import numpy as np

    x, y = (_integers(s["state"]["state"], 4, 64) for s in (a, b))
    n = _signed(y[3] - x[3], 64)
    if abs(n) > limit:
        return _unknown(OUTPUTS, f"their counters are {abs(n):,} apart: more than {limit:,}, too many to verify by stepping")
    start, goal = (x, y) if n >= 0 else (y, x)
    bits = np.random.SFC64(0)
    bits.state = {"bit_generator": "SFC64", "state": {"state": np.array(start, np.uint64)}, "has_uint32": 0, "uinteger": 0}
    bits.random_raw(abs(n), output=False)
    if bits.state["state"]["state"].tolist() != goal:
        return _unknown(OUTPUTS, "their counters do not lead from one to the other: they come from different seeds", False)
    return _outputs(n, a, b)


def _outputs(n: int, a: Any, b: Any) -> tuple[int | None, Between]:
    """The answer for ``n`` outputs, with the half output that a draw of 32 bits leaves behind.

    Where one state holds such a half and the other none, the count is in halves: it has no whole number of outputs.
    """
    if abs(n) > _FAR:
        return _unknown(OUTPUTS, f"same stream, more than 2**64 {OUTPUTS} apart: a jump, no draws", True)
    (held_a, half_a), (held_b, half_b) = ((_integer(s["has_uint32"]), _integer(s["uinteger"])) for s in (a, b))
    if held_a > 1 or held_b > 1:
        raise ValueError("has_uint32 is neither 0 nor 1")
    if held_a != held_b:
        return _known(2 * n + held_a - held_b, HALVES)
    return _known(n, OUTPUTS, "the kept half output differs" if n == 0 and held_a and half_a != half_b else "")


def _signed(n: int, bits: int) -> int:
    """``n`` modulo 2**bits, as the nearest to 0."""
    n &= (1 << bits) - 1
    return n - (1 << bits) if n >> (bits - 1) else n


def _integer(value: Any) -> int:
    """An integer from 0, or one as a NumPy scalar's ``repr`` shows it."""
    found = re.fullmatch(r"(?:np\.\w+\()?(\d+)\)?", str(value) if type(value) is int else value, re.ASCII)
    if found is None:
        raise ValueError("no integer")
    return int(found[1])


def _wide(*values: Any) -> list[int]:
    """Integers of 128 bits."""
    found = [_integer(v) for v in values]
    if any(v >> 128 for v in found):
        raise ValueError("more than 128 bits")
    return found


def _integers(value: Any, count: int, bits: int) -> list[int]:
    """``count`` integers of at most ``bits`` bits: a list, or an array as ``repr`` shows it (ValueError where it is shortened)."""
    if isinstance(value, str):
        found = re.fullmatch(r"array\(\[([\d,\s]*)\](?:,\s*dtype=\w+)?\)", value, re.ASCII)
        if found is None:
            raise ValueError("no array of integers")
        value = found[1].split(",")
    numbers = [_integer(v.strip() if isinstance(v, str) else v) for v in value]
    if len(numbers) != count or any(v >> bits for v in numbers):
        raise ValueError(f"no {count} integers of {bits} bits")
    return numbers


# CUDA


def _cuda(a: bytes, b: bytes) -> tuple[int | None, Between]:
    (seed_a, offset_a), (seed_b, offset_b) = struct.unpack("<QQ", a), struct.unpack("<QQ", b)
    if seed_a != seed_b:
        return _unknown(OFFSET, "the states have different seeds", False)
    return _known(offset_b - offset_a, OFFSET)
