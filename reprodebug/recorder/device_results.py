"""What stands for a fingerprint that is still on an accelerator, and what comes in its place.

A ``token`` of 16 bytes: equal only to itself, never written to the disk. It says which filling of a block of results and which slot
the fingerprint comes from (``device``), or that it is made of several.
"""

from __future__ import annotations

import itertools
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from reprodebug.model.events import EVENT, Flag, Kind, Phase
from reprodebug.recorder.writer import Writer

TOKEN = b"\xf1reprodb"
"""first half of every token; a fingerprint that begins like this has a chance of 2**-64. The second half is a serial number and a
slot, or ``_OF_PARTS`` and a number."""
SLOT_BITS = 12
_SLOT = (1 << SLOT_BITS) - 1
_OF_PARTS = 1 << 63
LOST = "its fingerprint was asked for again too late"
_KEEP_BLOCKS = 64
"""blocks whose results stay after every record that came before them is written: a fingerprint may be asked for once more"""
_KEEP_PARTS = 4096
_NOTHING = bytes(16)
_DATA, _ACTIVATION, _PARAMETER = int(Kind.DATA), int(Kind.ACTIVATION), int(Kind.PARAMETER)
_FORWARD = int(Phase.FORWARD)
_UNOBSERVED = int(Flag.UNOBSERVED)
pack_token = struct.Struct("<8sQ").pack
_number = struct.Struct("<8xQ").unpack
_AT_SITE, _AT_META, _AT_STEP, _AT_FLAGS, _AT_KIND, _AT_PHASE = 8, 12, 16, 28, 30, 31
"""positions inside an EVENT record"""
_AT_DIGEST = EVENT.size - 16
_AT_END = _AT_DIGEST + 8
assert EVENT.format == "<QIIiIIHBBHHI16s"


def token(serial: int, slot: int) -> bytes:
    """What stands for the result in a slot of a block's filling."""
    return pack_token(TOKEN, serial << SLOT_BITS | slot)


def is_token(digest: bytes) -> bool:
    """Whether this stands for a fingerprint that may still be away."""
    return digest[:8] == TOKEN and len(digest) == 16


class Results:
    """Results of one process that are away or back, and the records that wait for them."""

    def __init__(self, writer: Writer, digest: Callable[..., bytes], described: dict[int, Any]) -> None:
        """``digest`` hashes bytes on the host; ``described``: meta -> (shape, dtype, device, layout)."""
        self._writer = writer
        self._digest = digest
        self._described = described
        self._count = itertools.count(1).__next__
        self._away: set[int] = set()
        """serial numbers of blocks that are being filled or on their way"""
        self._back: dict[int, bytes | str] = {}
        """serial number -> the slots of a block that is back, or the reason why it never will be"""
        self._arrived: deque[tuple[int, int]] = deque()
        """(sequence number of the next record at that time, serial number) of each of these"""
        self._parts: dict[int, Any] = {}
        """number of a fingerprint made of several -> the several (list), then the fingerprint or a reason (str)"""
        self._spent: deque[int] = deque()
        """of these, those that are done"""
        self.conditional: set[bytes] = set()
        """tokens of records that only count where they differ from the last of their place"""
        self.outermost: set[bytes] = set()
        """tokens of outputs of outermost modules: what another one is given of them is no data"""
        self._last: dict[bytes, bytes] = {}
        """site -> last fingerprint of the parameter or buffer there"""
        self._step = b""
        self._outputs: set[bytes] = set()
        self._metas: dict[tuple[int, str], int] = {}

    def expect(self) -> int:
        """The serial number of a block that is going to be filled."""
        serial: int = self._count()
        self._away.add(serial)
        return serial

    def arrived(self, serial: int, found: bytes | str) -> None:
        """The slots of a block, or the reason why they will not come."""
        self._back[serial] = found
        self._arrived.append((self._writer.seq_seen, serial))
        self._away.discard(serial)

    def combined(self, parts: list[bytes]) -> bytes:
        """One fingerprint of several and of text; a token where one of them is a token."""
        if not any(map(is_token, parts)):
            return self._digest(b"".join(parts))
        number = _OF_PARTS | self._count()
        self._parts[number] = list(parts)
        return pack_token(TOKEN, number)

    def take(self, records: deque[bytes], n: int) -> list[bytes]:
        """Of the first ``n`` records those before the first whose fingerprint is still away, with the fingerprints put in."""
        out: list[bytes] = []
        results, outermost, serial, raw = self._back, self.outermost, 0, None
        for _ in range(n):
            row = records[0]
            if row[_AT_DIGEST:_AT_END] == TOKEN:
                number: int = _number(row[_AT_DIGEST:])[0]
                if number >> SLOT_BITS != serial:
                    serial = number >> SLOT_BITS
                    raw = results.get(serial)
                kind = row[_AT_KIND]
                if type(raw) is bytes and kind != _PARAMETER and kind != _DATA and row[_AT_DIGEST:] not in outermost:
                    at = 16 * (number & _SLOT)
                    row = row[:_AT_DIGEST] + raw[at : at + 16]
                else:
                    settled = self._settled(row)
                    if settled is None:
                        break
                    row = settled
            records.popleft()
            if row:
                out.append(row)
        arrived = self._arrived
        written = int.from_bytes(records[0][:8], "little") if records else self._writer.seq_seen
        while len(arrived) > _KEEP_BLOCKS and arrived[0][0] <= written:
            del results[arrived.popleft()[1]]
        while len(self._spent) > _KEEP_PARTS:
            self._parts.pop(self._spent.popleft(), None)
        return out

    def _settled(self, row: bytes) -> bytes | None:
        """The record with its fingerprint; None: not yet; empty: it is left out."""
        token = row[_AT_DIGEST:]
        found = self.of(token)
        if found is None:
            return None
        conditional, outermost = token in self.conditional, token in self.outermost
        self.conditional.discard(token)
        self.outermost.discard(token)
        if not isinstance(found, bytes):
            return self._unobserved(row, str(found))
        kind = row[_AT_KIND]
        if kind == _PARAMETER:
            site = row[_AT_SITE:_AT_META]
            same = self._last.get(site) == found
            self._last[site] = found
            if conditional and same:
                return b""
        elif kind == _DATA or outermost:
            if row[_AT_STEP : _AT_STEP + 4] != self._step:
                self._step = row[_AT_STEP : _AT_STEP + 4]
                self._outputs.clear()
            if outermost:
                self._outputs.add(found)
            elif row[_AT_PHASE] == _FORWARD and found in self._outputs:  # what another root computed is no data
                row = row[:_AT_KIND] + bytes((_ACTIVATION,)) + row[_AT_PHASE:]
        return row[:_AT_DIGEST] + found

    def of(self, token: bytes) -> bytes | str | None:
        """The fingerprint that a token stands for; None while it is away, else the reason why it will not come."""
        number: int = _number(token)[0]
        if number & _OF_PARTS:
            found = self._parts.get(number, LOST)
            if isinstance(found, list):
                parts = [self.of(p) if is_token(p) else p for p in found]
                if any(p is None for p in parts):
                    return None
                why = next((p for p in parts if isinstance(p, str)), "")
                found = self._parts[number] = why or self._digest(b"".join(parts))  # type: ignore[arg-type]
                self._spent.append(number)
            return found  # type: ignore[no-any-return]
        serial = number >> SLOT_BITS
        raw = self._back.get(serial)
        if raw is None:
            return None if serial in self._away else LOST
        return raw if isinstance(raw, str) else raw[16 * (number & _SLOT) :][:16]

    def _unobserved(self, row: bytes, why: str) -> bytes:
        meta = int.from_bytes(row[_AT_META:_AT_STEP], "little")
        known = self._metas.get((meta, why))
        if known is None:
            shape, dtype, device, layout = self._described.get(meta, ([], "state", "", ""))
            known = self._metas[meta, why] = self._writer.meta(shape, dtype, device, layout, why)
        flags = int.from_bytes(row[_AT_FLAGS:_AT_KIND], "little") | _UNOBSERVED
        return (
            row[:_AT_META]
            + known.to_bytes(4, "little")
            + row[_AT_STEP:_AT_FLAGS]
            + flags.to_bytes(2, "little")
            + row[_AT_KIND:_AT_DIGEST]
            + _NOTHING
        )
