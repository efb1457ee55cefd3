"""The protobuf wire format, read without a schema, and the two record framings of event logs.

Owns bounds: every length is checked against what is there before a byte is taken. Formats: protobuf.dev "Encoding"; LevelDB
``doc/log_format.md``; TensorFlow ``record_writer``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

_BLOCK = 32768
_MAX_RECORD = 256 << 20


class Cut(ValueError):
    """Bytes end or break in the middle of something."""


def fields(data: bytes | memoryview) -> Iterator[tuple[int, int, Any]]:
    """(field number, wire type, value): int for varints, bytes for 64-bit, 32-bit and length-delimited. Raises Cut."""
    view = memoryview(data)
    at, end = 0, len(view)
    while at < end:
        key, at = varint(view, at)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise Cut("field number 0")
        if kind == 0:
            value, at = varint(view, at)
            yield number, kind, value
            continue
        if kind == 1:
            size = 8
        elif kind == 5:
            size = 4
        elif kind == 2:
            size, at = varint(view, at)
        else:
            raise Cut(f"wire type {kind}")
        if size > end - at:
            raise Cut("a length beyond the end")
        yield number, kind, view[at : at + size]
        at += size


def varint(view: memoryview, at: int) -> tuple[int, int]:
    """A base-128 integer and the position behind it. Raises Cut."""
    value = shift = 0
    while True:
        if at >= len(view) or shift > 63:
            raise Cut("a varint without end")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def message(data: bytes | memoryview) -> dict[int, list[Any]]:
    """Field number -> its values. Raises Cut."""
    found: dict[int, list[Any]] = {}
    for number, _, value in fields(data):
        found.setdefault(number, []).append(value)
    return found


def text(value: Any) -> str:
    """A length-delimited value as text; '' for anything else."""
    return bytes(value).decode("utf-8", "replace") if isinstance(value, memoryview) else ""


def signed(value: Any) -> int:
    """A varint as a 64-bit two's complement number."""
    return value - (1 << 64) if isinstance(value, int) and value >= 1 << 63 else int(value) if isinstance(value, int) else 0


def double(value: Any) -> float:
    """A 64-bit value as a float; nan for anything else."""
    return float(struct.unpack("<d", value)[0]) if isinstance(value, memoryview) and len(value) == 8 else float("nan")


def single(value: Any) -> float:
    """A 32-bit value as a float; nan for anything else."""
    return float(struct.unpack("<f", value)[0]) if isinstance(value, memoryview) and len(value) == 4 else float("nan")


def leveldb_records(data: bytes, header: int) -> Iterator[bytes]:
    """Records of a log in 32 KiB blocks counted from the file's start. Ends silently at a whole record; raises Cut at a bad one."""
    import zlib

    at, parts, size = header, [], 0
    while at < len(data):
        left = _BLOCK - at % _BLOCK
        if left < 7:
            at += left
            continue
        if at + 7 > len(data):
            raise Cut("a cut record header")
        crc, length, kind = struct.unpack_from("<IHB", data, at)
        if kind == 0 and length == 0 and crc == 0:
            at += left  # padding written ahead
            continue
        payload = data[at + 7 : at + 7 + length]
        if len(payload) < length:
            raise Cut("a cut record")
        if kind not in (1, 2, 3, 4) or zlib.crc32(payload, zlib.crc32(bytes([kind]))) & 0xFFFFFFFF != crc:
            raise Cut("a record whose checksum is wrong")
        at += 7 + length
        parts.append(payload)
        size += length
        if size > _MAX_RECORD:
            raise Cut("a record without end")
        if kind in (1, 4):
            yield b"".join(parts)
            parts, size = [], 0


_TF_HEAD = struct.Struct("<QI")


def tf_record(data: bytes, at: int, right: dict[int, int]) -> tuple[int, int]:
    """(start, end) of the record at ``at`` of a TFRecord file; the next one is 4 bytes behind its end. Raises Cut at a bad one.

    Checksums of lengths are checked (``right``: those found right), those of data are not: in Python that takes as long as everything else.
    """
    if at + 12 > len(data):
        raise Cut("a cut record header")
    length, crc = _TF_HEAD.unpack_from(data, at)
    if right.get(length) != crc:
        if masked_crc(data[at : at + 8]) != crc:
            raise Cut("a record whose length is broken")
        right[length] = crc
    if length > len(data) - at - 16:
        raise Cut("a cut record")
    return at + 12, at + 12 + length


_TABLE: list[int] = []


def masked_crc(data: bytes) -> int:
    """CRC-32C (Castagnoli), rotated and offset as TFRecord has it."""
    if not _TABLE:
        for n in range(256):
            c = n
            for _ in range(8):
                c = (c >> 1) ^ 0x82F63B78 if c & 1 else c >> 1
            _TABLE.append(c)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
