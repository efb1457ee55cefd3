"""How many draws lie between two recorded states of a random generator.

Owns the arithmetic of the generators; unknown is said as unknown, with the reason. Byte layouts are those of
``recorder/randomness.py``.

- Mersenne Twister: M. Matsumoto, T. Nishimura, "Mersenne Twister", ACM TOMACS 8 (1998). Blocks of 624 words are stepped
  until the wanted one comes.
- PCG64, PCG64DXSM: 128-bit linear congruential state. Distance as in F. Brown, "Random Number Generation with Arbitrary
  Strides", Trans. Am. Nucl. Soc. 71 (1994), inverted bit by bit (M. O'Neill, PCG, HMC-CS-2014-0905). Multipliers: NumPy,
  numpy/random/src/pcg64/pcg64.h.
- Philox 4x64 (NumPy): a counter of blocks of four. SFC64: its fourth word counts the outputs. CUDA: seed and offset.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

_WORDS = 624
_PCG_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
_DXSM_MULTIPLIER = 0xDA942042E4DD58B5
_MASK = (1 << 128) - 1


@dataclass(frozen=True, slots=True)
class Between:
    """How far one state of a generator is ahead of another."""

    count: int | None
    """draws from the first state to the second; None: unknown"""
    unit: str
    reason: str = ""
    """why ``count`` is None"""
    same_stream: bool | None = None
    """True: one is proven to follow from the other, or they share a seed; False: they were seeded otherwise; None: unknown"""


def between(name: str, algorithm: str, first: bytes, second: bytes, *, limit: int = 20_000_000) -> Between:
    """Draws forward from ``first`` to ``second``; looks at most ``limit`` draws ahead. Never raises."""
    try:
        if first == second:
            return Between(0, _unit(algorithm, name), same_stream=True)
        if algorithm == "mt19937":
            return _mersenne(name, first, second, limit)
        if name.startswith("torch") and algorithm == "philox":
            return _cuda(first, second)
        a, b = json.loads(first), json.loads(second)
        if algorithm in ("pcg64", "pcg64dxsm"):
            return _pcg(algorithm, a, b)
        if algorithm == "philox":
            return _philox(a, b)
        if algorithm == "sfc64":
            return _sfc(a, b, limit)
    except (ValueError, KeyError, TypeError, IndexError, struct.error, OverflowError, AttributeError):
        return Between(None, _unit(algorithm, name), "the recorded state cannot be read")
    return Between(None, "draws", f"draws of {algorithm or 'this generator'} cannot be counted")


def apart(name: str, algorithm: str, a: bytes, b: bytes, *, limit: int = 20_000_000) -> tuple[int | None, Between]:
    """``(n, how)``: B is ``n`` draws ahead of A, A ahead of B where negative, None where neither is found."""
    ahead = between(name, algorithm, a, b, limit=limit)
    if ahead.count is not None or ahead.same_stream is False:
        return ahead.count, ahead
    behind = between(name, algorithm, b, a, limit=limit)
    if behind.count is not None:
        return -behind.count, behind
    return None, ahead


def seed_of(name: str, algorithm: str, body: bytes) -> int | None:
    """The seed that a torch generator was given; None for any other, and for bytes that are no such state."""
    if name.startswith("torch") and len(body) >= (16 if algorithm == "philox" else 24 + 4 * _WORDS):
        return int(struct.unpack_from("<Q", body)[0])
    return None


def _unit(algorithm: str, name: str) -> str:
    if algorithm == "mt19937":
        return "words of 32 bits"
    if algorithm == "philox" and name.startswith("torch"):
        return "counts of the Philox offset"
    return "outputs of 64 bits"


# Mersenne Twister


def _mersenne(name: str, first: bytes, second: bytes, limit: int) -> Between:
    key_a, position_a, key_b, position_b = *_words(name, first), *_words(name, second)
    found = _blocks(key_a, key_b, position_a, position_b, limit)
    if found is not None:
        return Between(found, _unit("mt19937", ""), same_stream=True)
    seeds = seed_of(name, "mt19937", first), seed_of(name, "mt19937", second)
    if None not in seeds and seeds[0] != seeds[1]:
        return Between(None, _unit("mt19937", ""), "they were seeded otherwise", False)
    return Between(None, _unit("mt19937", ""), f"the second state does not come within {limit:,} draws of the first", None)


def _words(name: str, body: bytes) -> tuple[Any, int]:
    """(624 words uint32, number of them already used: 0 to 624)."""
    import numpy as np

    at = 24 if name.startswith("torch") else 0
    if len(body) < at + 4 * _WORDS + (0 if at else 4):
        raise ValueError("too short for a Mersenne Twister state")
    key = np.frombuffer(body, "<u4", _WORDS, at)
    if at:
        left, seeded, following = struct.unpack_from("<iiQ", body, 8)
        # left counts down to the next block; 1 right after seeding, when no word of the first block was made
        used = _WORDS if left <= 1 and following == 0 else _WORDS - left if left > 0 else _WORDS
        del seeded
    else:
        used = struct.unpack_from("<i", body, 4 * _WORDS)[0]
    if not 0 <= used <= _WORDS:
        raise ValueError("no position of a Mersenne Twister")
    return key, used


def _blocks(key_a: Any, key_b: Any, position_a: int, position_b: int, limit: int) -> int | None:
    """Draws from one (block, position) to the other; None where they do not meet within ``limit`` draws."""
    import numpy as np

    if np.array_equal(key_a, key_b) and position_b >= position_a:
        return position_b - position_a
    bits = np.random.MT19937()
    bits.state = {"bit_generator": "MT19937", "state": {"key": key_a, "pos": _WORDS}}
    # comparing tempered outputs of whole blocks: tempering is one to one, so equal outputs mean equal words
    other = np.random.MT19937()
    other.state = {"bit_generator": "MT19937", "state": {"key": key_b, "pos": 0}}
    wanted = other.random_raw(8)
    most = max(1, limit // _WORDS)
    done = 0
    batch = 64
    while done < most:
        n = min(batch, most - done)
        heads = bits.random_raw(n * _WORDS).reshape(n, _WORDS)[:, :8]
        hit = np.flatnonzero((heads == wanted).all(axis=1))
        if len(hit):
            return (done + int(hit[0]) + 1) * _WORDS - position_a + position_b
        done += n
        batch = min(batch * 4, 4096)
    return None


# counters


def _cuda(first: bytes, second: bytes) -> Between:
    (seed_a, offset_a), (seed_b, offset_b) = struct.unpack("<QQ", first[:16]), struct.unpack("<QQ", second[:16])
    unit = _unit("philox", "torch")
    if seed_a != seed_b:
        return Between(None, unit, "they were seeded otherwise", False)
    if offset_b < offset_a:
        return Between(None, unit, "the second state lies before the first", True)
    return Between(offset_b - offset_a, unit, same_stream=True)


def _pcg(algorithm: str, a: dict[str, Any], b: dict[str, Any]) -> Between:
    unit = _unit(algorithm, "")
    x, y = a["state"], b["state"]
    if int(x["inc"]) != int(y["inc"]):
        return Between(None, unit, "they were seeded otherwise", False)
    multiplier = _PCG_MULTIPLIER if algorithm == "pcg64" else _DXSM_MULTIPLIER
    distance = _lcg_distance(int(x["state"]), int(y["state"]), multiplier, int(x["inc"]))
    if distance is None or distance >= 1 << 100:
        return Between(None, unit, "the second state lies before the first, or they were seeded otherwise")
    return Between(distance, unit, same_stream=True)


def _lcg_distance(state: int, wanted: int, multiplier: int, increment: int) -> int | None:
    """Steps of ``x -> multiplier * x + increment`` modulo 2**128 from ``state`` to ``wanted``."""
    bit, distance = 1, 0
    while state != wanted:
        if bit > _MASK:
            return None
        if (state & bit) != (wanted & bit):
            state = (state * multiplier + increment) & _MASK
            distance |= bit
        bit <<= 1
        increment = ((multiplier + 1) * increment) & _MASK
        multiplier = (multiplier * multiplier) & _MASK
    return distance


def _philox(a: dict[str, Any], b: dict[str, Any]) -> Between:
    unit = _unit("philox", "")
    if _numbers(a["state"]["key"]) != _numbers(b["state"]["key"]):
        return Between(None, unit, "they were seeded otherwise", False)
    at = [sum(w << (64 * n) for n, w in enumerate(_numbers(s["state"]["counter"]))) * 4 + int(s["buffer_pos"]) for s in (a, b)]
    if at[1] < at[0]:
        return Between(None, unit, "the second state lies before the first", True)
    return Between(at[1] - at[0], unit, same_stream=True)


def _sfc(a: dict[str, Any], b: dict[str, Any], limit: int) -> Between:
    import numpy as np

    unit = _unit("sfc64", "")
    x, y = _numbers(a["state"]["state"]), _numbers(b["state"]["state"])
    distance = (y[3] - x[3]) & (2**64 - 1)
    if distance > limit:
        return Between(None, unit, f"the second state does not come within {limit:,} draws of the first")
    bits = np.random.SFC64()
    bits.state = {"bit_generator": "SFC64", "state": {"state": np.array(x, np.uint64)}, "has_uint32": 0, "uinteger": 0}
    if distance:
        bits.random_raw(distance, output=False)
    if [int(w) for w in bits.state["state"]["state"]] != y:
        return Between(None, unit, "they were seeded otherwise", False)
    return Between(distance, unit, same_stream=True)


def _numbers(value: Any) -> list[int]:
    """Integers of a list, or of an array as ``repr`` shows it."""
    if isinstance(value, str):
        import re

        inner = value[value.index("[") : value.index("]")]
        return [int(w) for w in re.findall(r"\d+", inner)]
    return [int(w) for w in value]
