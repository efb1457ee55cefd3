"""The journal: what the guest appends while the program runs, readable up to any byte at which it was cut.

::

    journal := MAGIC frame*
    frame   := kind:u8 pad:3 length:u32 payload[length]

A frame that the file's end cuts is the last one. Of a cut EVENTS, RNG or STATS frame the whole records count.
Owns the format and nothing else; standard library only, because the guest imports it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

MAGIC = b"RDJRNL\x01\n"
FRAME = struct.Struct("<B3xI")

META = 1
"""JSON object with "type" and "seq" (number of events before it)"""
NAMES = 2
"""JSON {"sites": [[id, root, module, module_type, tensor]...], "metas": [[id, shape, dtype, device, layout, reason]...],
"generators": [[id, name, algorithm]...]}"""
EVENTS = 3
"""EVENT records, one behind the other"""
RNG = 4
"""RNG_ROW records"""
STATE = 5
"""generator:u16, digest[16], the state's bytes; one per distinct state kept"""
SAMPLES = 6
"""seq:u64, n_fingerprints:u32, n_indices:u32, fingerprints u64[n], indices i64[n]: the samples of one batch event"""
TENSOR = 7
"""seq:u64, header length:u32, header JSON {"dtype", "shape"}, raw contiguous bytes; of a sparse or quantised tensor "dtype" is
its layout and the bytes are those of ``pack``"""
STATS = 8
"""STATS_ROW records"""

SAMPLES_HEAD = struct.Struct("<QII")
TENSOR_HEAD = struct.Struct("<QI")
STATE_HEAD = struct.Struct("<H16s")

PARTIAL = frozenset({EVENTS, RNG, STATS})
"""kinds whose cut last frame still gives whole records"""


def last_word(path: str) -> str:
    """The link beside a journal whose target says why it ended early, where nothing could be written any more."""
    return path + ".lost"


def frame(kind: int, payload: bytes) -> bytes:
    """One frame. Raises ``struct.error`` for 4 GiB or more."""
    return FRAME.pack(kind, len(payload)) + payload


def json_frame(kind: int, value: object) -> bytes:
    """One frame with a JSON payload; text that is no valid Unicode is kept escaped."""
    return frame(kind, json.dumps(value, ensure_ascii=True, separators=(",", ":"), default=str).encode("ascii"))


def frames(data: memoryview) -> Iterator[tuple[int, memoryview, bool]]:
    """``(kind, payload, whole)`` for each frame of a journal's bytes; the last may be cut (``whole`` false).

    Yields nothing for bytes that do not start with MAGIC. Never reads outside ``data``, whatever the lengths say.
    """
    if bytes(data[: len(MAGIC)]) != MAGIC:
        return
    at, end = len(MAGIC), len(data)
    while at + FRAME.size <= end:
        kind, length = FRAME.unpack_from(data, at)
        at += FRAME.size
        if length > end - at:
            yield kind, data[at:end], False
            return
        yield kind, data[at : at + length], True
        at += length


PACKED = frozenset({"sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc", "quantized", "mkldnn"})
"""what stands for the dtype of a tensor that was kept as its parts"""
_LENGTH = struct.Struct("<I")


def pack(form: dict[str, object], bodies: list[bytes]) -> bytes:
    """A tensor as its parts: length:u32, JSON, raw bytes of each part in order. ``form["parts"]`` names them, each with dtype,
    shape and nbytes."""
    head = json.dumps(form, separators=(",", ":")).encode("ascii")
    return b"".join([_LENGTH.pack(len(head)), head, *bodies])


def unpack(data: bytes | memoryview) -> tuple[dict[str, Any], dict[str, bytes]]:
    """(form, raw bytes of each part by name) of what ``pack`` made. Raises ValueError for anything else."""
    try:
        (length,) = _LENGTH.unpack_from(data)
        form = json.loads(bytes(data[_LENGTH.size : _LENGTH.size + length]))
        at, parts = _LENGTH.size + length, {}
        for part in form["parts"]:
            nbytes = int(part["nbytes"])
            if nbytes < 0 or at + nbytes > len(data):
                raise ValueError("a part lies outside of its tensor")
            parts[str(part["name"])] = bytes(data[at : at + nbytes])
            at += nbytes
    except (struct.error, KeyError, TypeError, IndexError, RecursionError) as error:
        raise ValueError("this is no tensor kept as its parts") from error
    if at != len(data):
        raise ValueError("a tensor is longer than its parts")
    return form, parts
