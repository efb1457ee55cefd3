"""The event: one tensor (or batch, or state) seen at one place, in execution order.

Owns the codes that journal and trace store as integers. Must stay importable on the standard library alone:
the guest inside the recorded program imports it.
"""

from __future__ import annotations

import enum
import struct

SCHEMA_VERSION = 1
"""Version of run.json, journal and trace together. Readers refuse a newer one and upgrade an older one."""


class Kind(enum.IntEnum):
    """What was looked at. The lower-case name is the word of the contract."""

    DATA = 0
    PARAMETER = 1
    ACTIVATION = 2
    GRADIENT = 3
    OPTIMIZER = 4
    RNG = 5
    LOSS = 6

    @property
    def word(self) -> str:
        return self.name.lower()


class Phase(enum.IntEnum):
    """Where in a step it was seen. The lower-case name is the word of the contract."""

    INIT = 0
    DATA = 1
    FORWARD = 2
    BACKWARD = 3
    OPTIMIZER = 4

    @property
    def word(self) -> str:
        return self.name.lower()


class Flag(enum.IntFlag):
    """Circumstances of one event."""

    TRAINING = 1
    """module.training was true"""
    GRAD = 2
    """gradients were being recorded (torch.is_grad_enabled)"""
    AUTOCAST = 4
    """autocast was on for the tensor's device type"""
    RECOMPUTE = 8
    """forward ran again inside backward (activation checkpointing)"""
    NONCONTIGUOUS = 16
    """the tensor was not laid out contiguously; the fingerprint is of its contiguous order all the same"""
    INPUT = 32
    """activation event: an input of the module, not an output"""
    UNOBSERVED = 64
    """the bytes could not be fingerprinted; the meta row says why, the digest is zero"""
    REQUIRES_GRAD = 128
    """the tensor was part of an autograd graph"""
    SCALAR = 256
    """one element; its value is kept beside the fingerprint"""
    BUFFER = 512
    """parameter event: a buffer, not a parameter"""


# seq, site, meta, step, call, rng, flags, kind, phase, thread, turn, time_ms, digest
# turn: calls of outermost modules with parameters finished, modulo 2**16; the steps of a program without an optimizer
EVENT = struct.Struct("<QIIiIIHBBHHI16s")
EVENT_FIELDS: tuple[tuple[str, str], ...] = (
    ("seq", "<u8"),
    ("site", "<u4"),
    ("meta", "<u4"),
    ("step", "<i4"),
    ("call", "<u4"),
    ("rng", "<u4"),
    ("flags", "<u2"),
    ("kind", "u1"),
    ("phase", "u1"),
    ("thread", "<u2"),
    ("turn", "<u2"),
    ("time_ms", "<u4"),
    ("lo", "<u8"),
    ("hi", "<u8"),
)
"""The same record as NumPy fields: ``digest`` is the two little-endian words ``lo`` and ``hi``."""

# id, generator, reserved, seq, position, digest  (seq: number of events before the observation; position -1: unknown)
RNG_ROW = struct.Struct("<IHHQq16s")
RNG_FIELDS: tuple[tuple[str, str], ...] = (
    ("id", "<u4"),
    ("generator", "<u2"),
    ("reserved", "<u2"),
    ("seq", "<u8"),
    ("position", "<i8"),
    ("lo", "<u8"),
    ("hi", "<u8"),
)

# seq, value, minimum, maximum, mean, std, l2, nans, infs, zeros   (float64; NaN: not computed)
STATS_ROW = struct.Struct("<Q9d")
STATS_FIELDS: tuple[tuple[str, str], ...] = (
    ("seq", "<u8"),
    ("value", "<f8"),
    ("minimum", "<f8"),
    ("maximum", "<f8"),
    ("mean", "<f8"),
    ("std", "<f8"),
    ("l2", "<f8"),
    ("nans", "<f8"),
    ("infs", "<f8"),
    ("zeros", "<f8"),
)

LEVELS = ("fingerprint", "summary", "full")
"""How much is kept of a tensor: its hash; statistics and small tensors too; all of it."""
