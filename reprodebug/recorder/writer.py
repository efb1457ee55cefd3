"""The guest's end of the journal: interning, packing, flushing. One writer per process.

No thread of its own (a second thread would make ``os.fork`` warn, and would take the interpreter lock
from the program) and no open file between flushes (a program that closes every descriptor must not make
us write into its files). A failed write ends the recording of this process, never the program; a program that has
used up its file descriptors is waited for, as it may close some.
"""

from __future__ import annotations

import errno
import itertools
import os
import struct
import threading
import time
from collections import deque
from typing import Any

from reprodebug.model.events import EVENT, RNG_ROW, STATS_ROW
from reprodebug.store import journal

FLUSH_EVERY_S = (0.001, 0.25)
"""least and longest time between two flushes while events arrive: what a kill can cost"""
_FLUSH_SHARE = 1 / 40
"""of the program's time, at most, that goes into flushing"""
_SLOW_S = 0.1
"""where flushes are to be this far apart the disk is slow, and the end of a step is no reason for one"""
FLUSH_RECORDS = 2048
"""records held in memory at most"""
_RESERVE = 512
"""bytes kept at the journal's start for the reason why it ended early: a full disk still takes an overwrite"""
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
_MOST_KEPT = 64 << 20
"""bytes that wait in memory while there is no file descriptor"""


class Writer:
    """Appends records to one journal file."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.dead = False
        self._lock = threading.Lock()
        self._started: dict[str, Any] = {}
        self.reset()

    def reset(self) -> None:
        """Forget everything and start another file: a forked child calls this."""
        self._lock = threading.Lock()
        self.path = os.path.join(self.directory, f"{os.getpid()}-{time.time_ns()}.rdj")
        self._size = 0
        """bytes of the file that are done with"""
        self._kept = [journal.MAGIC + journal.frame(journal.META, b'{"type":"reserve"}'.ljust(_RESERVE))]
        """frames to be written behind those; more than one flush's where there is no file descriptor"""
        self.records: deque[bytes] = deque()
        self.rng_rows: deque[bytes] = deque()
        self.stats_rows: deque[bytes] = deque()
        self.others: deque[bytes] = deque()
        self._sites: dict[tuple[str, str, str, str], int] = {}
        self._site_keys: list[tuple[str, str, str, str]] = []
        self._new_sites: deque[list[Any]] = deque()
        self._new_metas: deque[list[Any]] = deque()
        self._new_generators: deque[list[Any]] = deque()
        self._n_metas = 0
        self.next_seq = itertools.count().__next__
        self.seq_seen = 0
        self.late: Any = None
        """``DeviceFingerprints``: knows which records wait for a fingerprint that is still on a device"""
        self.last_flush = time.monotonic()
        self.flush_after = FLUSH_EVERY_S[0]
        """seconds; longer where flushing is slow, as on a network file system"""
        self._took = 0.0
        """seconds that the last flush took"""

    # interning

    def site(self, root: str, module: str, module_type: str, tensor: str) -> int:
        """The number of a place; a new one is written before the first event that uses it."""
        key = (root, module, module_type, tensor)
        n = self._sites.get(key)
        if n is None:
            n = len(self._sites)
            self._sites[key] = n
            self._new_sites.append([n, root, module, module_type, tensor])
            self._site_keys.append(key)
        return n

    def site_key(self, n: int) -> tuple[str, str, str, str]:
        """The place that ``site`` numbered ``n``."""
        return self._site_keys[n]

    def meta(self, shape: list[int], dtype: str, device: str, layout: str, reason: str) -> int:
        """A new row of the table of shapes and dtypes; the caller keeps the number."""
        n = self._n_metas
        self._n_metas = n + 1
        self._new_metas.append([n, shape, dtype, device, layout, reason])
        return n

    def generator(self, n: int, name: str, algorithm: str) -> None:
        self._new_generators.append([n, name, algorithm])

    # records

    def event(
        self, site: int, meta: int, step: int, call: int, rng: int, flags: int, kind: int, phase: int, thread: int,
        turn: int, time_ms: int, digest: bytes,
    ) -> int:  # fmt: skip
        """One event; returns its sequence number."""
        seq: int = self.next_seq()
        self.records.append(EVENT.pack(seq, site, meta, step, call, rng, flags, kind, phase, thread, turn, time_ms, digest))
        self.seq_seen = seq + 1
        return seq

    def rng(self, row: int, generator: int, position: int, digest: bytes) -> None:
        self.rng_rows.append(RNG_ROW.pack(row, generator, 0, self.seq_seen, position, digest))

    def state(self, generator: int, digest: bytes, body: bytes) -> None:
        self.others.append(journal.frame(journal.STATE, journal.STATE_HEAD.pack(generator, digest) + body))

    def stats(self, seq: int, *values: float) -> None:
        self.stats_rows.append(STATS_ROW.pack(seq, *values))

    def meta_event(self, value: dict[str, Any]) -> None:
        """A JSON object among the events, at this place of the order."""
        value.setdefault("seq", self.seq_seen)
        self.others.append(journal.json_frame(journal.META, value))

    def samples(self, seq: int, fingerprints: list[int], indices: list[int]) -> None:
        head = journal.SAMPLES_HEAD.pack(seq, len(fingerprints), len(indices))
        body = struct.pack(f"<{len(fingerprints)}Q{len(indices)}q", *fingerprints, *indices)
        self.others.append(journal.frame(journal.SAMPLES, head + body))

    def tensor(self, seq: int, header: bytes, body: bytes) -> None:
        """One tensor's bytes, written at once: big payloads do not wait in memory."""
        self.others.append(journal.frame(journal.TENSOR, journal.TENSOR_HEAD.pack(seq, len(header)) + header + body))
        self.flush()

    # disk

    def tick(self, step_done: bool = False) -> None:
        """Flush when it is time; called at the boundaries of steps, batches and root calls.

        The end of a step is always a time, unless the disk is slow: a program that hangs afterwards leaves all of its steps.
        """
        if (
            (step_done and self.flush_after < _SLOW_S)
            or len(self.records) > FLUSH_RECORDS
            or time.monotonic() - self.last_flush > self.flush_after
        ):
            self.flush()

    def flush(self) -> None:
        """Write what is waiting. On any error the recording ends here and says why; from then on what is waiting is dropped."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            self.last_flush = time.monotonic()
            n_events = len(self.records)  # counted before the names are taken: every name they use is then among those
            events = None if self.late is None else self.late.take(self.records, n_events)
            n_rng, n_stats, n_others = len(self.rng_rows), len(self.stats_rows), len(self.others)
            out: list[bytes] = []
            names: dict[str, list[list[Any]]] = {}
            for key, queue in (("sites", self._new_sites), ("metas", self._new_metas), ("generators", self._new_generators)):
                if queue:
                    names[key] = [queue.popleft() for _ in range(len(queue))]
            if names:
                out.append(journal.json_frame(journal.NAMES, names))
            if n_rng:
                out.append(journal.frame(journal.RNG, b"".join([self.rng_rows.popleft() for _ in range(n_rng)])))
            if events is None:
                events = [self.records.popleft() for _ in range(n_events)]
            if events:
                out.append(journal.frame(journal.EVENTS, b"".join(events)))
            if n_stats:
                out.append(journal.frame(journal.STATS, b"".join([self.stats_rows.popleft() for _ in range(n_stats)])))
            out.extend(self.others.popleft() for _ in range(n_others))
            if self.dead:
                return
            self._kept += out
            if self._unwritten():
                self._write()
                took = time.monotonic() - self.last_flush
                took, self._took = min(took, self._took), took  # once may be chance: the machine was busy
                self.flush_after = min(max(took / _FLUSH_SHARE, FLUSH_EVERY_S[0]), FLUSH_EVERY_S[1])
        except OSError as error:
            if error.errno not in _NO_DESCRIPTOR or sum(map(len, self._kept)) > _MOST_KEPT:
                self._give_up(error)
        finally:
            self._lock.release()

    def finish(self) -> None:
        """Write what is waiting, for the last time."""
        self.flush()
        if not self.dead and self._lock.acquire(timeout=1):
            try:
                if self._unwritten():
                    self._give_up(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
            finally:
                self._lock.release()

    def _unwritten(self) -> bool:
        """Whether frames are kept, besides the file's beginning."""
        return len(self._kept) > (not self._size)

    def _write(self) -> None:
        """Write what is kept, at its place: a signal handler that raises in the middle of it leaves it to be written again."""
        flags = os.O_WRONLY | getattr(os, "O_CLOEXEC", 0)
        if not self._size:
            flags |= os.O_CREAT
        fd = os.open(self.path, flags, 0o644)
        try:
            data = b"".join(self._kept)
            end = self._size + len(data)
            view = memoryview(data)
            while view:
                view = view[os.pwrite(fd, view, end - len(view)) :]
            self._size, self._kept = end, []
        finally:
            os.close(fd)

    def _give_up(self, error: OSError) -> None:
        self.dead = True
        self._kept.clear()
        why = f"recording stopped: {error.strerror or error}"[:300]
        try:
            fd = os.open(self.path, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0))
            try:
                note = journal.json_frame(journal.META, {"type": "lost", "what": why, "seq": 0})[journal.FRAME.size :]
                os.pwrite(fd, note.ljust(_RESERVE), len(journal.MAGIC) + journal.FRAME.size)
            finally:
                os.close(fd)
        except OSError:
            try:
                os.symlink(why, journal.last_word(self.path))  # needs no descriptor
            except OSError:
                pass
