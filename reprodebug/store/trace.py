"""The trace: everything that one process recorded, as columns. In memory, from a journal, to and from HDF5.

Opening a trace reads columns, never one object per event. A reader follows no link out of the file, unpickles
nothing, and checks every size against the file before it allocates.

HDF5 layout: ``events/``, ``rng/``, ``stats/`` one dataset per field; ``tables`` JSON (places, shapes, generators, notes);
``samples/`` and ``states/`` as counts and one long array; ``tensors/<seq>`` raw bytes with ``dtype`` and ``shape``.
"""

from __future__ import annotations

import json
import mmap
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reprodebug._base.errors import RunUnreadable, SchemaTooNew
from reprodebug.model.events import EVENT_FIELDS, RNG_FIELDS, SCHEMA_VERSION, STATS_FIELDS
from reprodebug.store import journal

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_CHUNK = 1 << 16
_BLOCK = 1 << 13
_TENSOR_CHUNK = 1 << 18
_SAMPLE = 1 << 14
_WORTH = 0.25
"""a tensor is compressed where that leaves no more than this of its bytes"""
_RAW = frozenset({"lo", "hi"})
"""digest words: random bytes, not worth compressing"""
_MAX_RATIO = 1100
"""gzip cannot do better than about 1030:1, so a column that claims more than this is a lie"""
_DAMAGED = (
    OSError, KeyError, ValueError, TypeError, RuntimeError, IndexError, AttributeError, MemoryError, RecursionError, ArithmeticError
)  # fmt: skip
"""what h5py and the checks raise for bytes that are no trace"""
_HINT = "record it again, or point at the directory that `reprodebug capture` made"


@dataclass(slots=True)
class Trace:
    """All records of one process, in execution order."""

    events: Array
    """structured, fields of ``model.events.EVENT_FIELDS``, sorted by seq"""
    sites: list[tuple[str, str, str, str]]
    """site id -> (outermost module, module, module type, tensor)"""
    metas: list[tuple[tuple[int, ...], str, str, str, str]]
    """meta id -> (shape, dtype, device, layout, reason why unobserved)"""
    generators: list[tuple[str, str]]
    """generator id -> (name, algorithm)"""
    rng: Array
    stats: Array
    """sorted by seq"""
    notes_meta: list[dict[str, Any]]
    """the journal's META objects, in order"""
    complete: bool
    cut: str = ""
    """where and why the reading ended early; empty when it did not"""
    source: Any = None
    """where samples, states and tensors are read from when asked for"""
    _samples: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    _states: dict[tuple[int, int, int], tuple[int, int]] = field(default_factory=dict)
    _tensors: dict[int, tuple[int, int, str, tuple[int, ...]]] = field(default_factory=dict)

    def samples(self, seq: int) -> tuple[Array, Array] | None:
        """(fingerprints uint64[n], sampler indices int64[m]) of the batch recorded as event ``seq``; None for none."""
        import numpy as np

        row = self._samples.get(seq)
        if row is None:
            return None
        at, n, m = row
        raw = self.source.samples(at, 8 * (n + m))
        return np.frombuffer(raw, "<u8", n), np.frombuffer(raw, "<i8", m, 8 * n)

    def state(self, generator: int, lo: int, hi: int) -> bytes | None:
        """The bytes of a generator's state, by the two words of its fingerprint; None where it was not kept."""
        row = self._states.get((generator, lo, hi))
        return None if row is None else bytes(self.source.states(*row))

    @property
    def tensor_seqs(self) -> list[int]:
        return sorted(self._tensors)

    def tensor(self, seq: int) -> tuple[Array, str, tuple[int, ...]] | None:
        """(raw bytes uint8[n], dtype, shape) of the tensor of event ``seq``; None where it was not kept."""
        import numpy as np

        row = self._tensors.get(seq)
        if row is None:
            return None
        at, nbytes, dtype, shape = row
        return np.frombuffer(self.source.tensor(seq, at, nbytes), np.uint8), dtype, shape


class _Memory:
    """Samples, states and tensors inside a mapped journal: every position is one of its bytes."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def samples(self, at: int, nbytes: int) -> memoryview:
        return self._data[at : at + nbytes]

    states = samples

    def tensor(self, seq: int, at: int, nbytes: int) -> memoryview:
        return self._data[at : at + nbytes]


class _File:
    """The same inside an HDF5 file, opened for each read: a trace holds no file open."""

    def __init__(self, path: str) -> None:
        self._path = path

    def _read(self, name: str, at: int, nbytes: int) -> bytes:
        import h5py

        try:
            with h5py.File(self._path, "r", locking=False) as f:
                found = bytes(f[name][at : at + nbytes].tobytes())
        except _DAMAGED as error:
            raise RunUnreadable(f"{os.path.basename(self._path)} changed or vanished while it was read", hint=_HINT) from error
        if len(found) != nbytes:
            raise RunUnreadable(f"{os.path.basename(self._path)} changed while it was read", hint=_HINT)
        return found

    def samples(self, at: int, nbytes: int) -> bytes:
        return self._read("samples/data", at, nbytes)

    def states(self, at: int, nbytes: int) -> bytes:
        return self._read("states/data", at, nbytes)

    def tensor(self, seq: int, at: int, nbytes: int) -> bytes:
        return self._read(f"tensors/{seq}", 0, nbytes)


# journal -> trace


def map_journal(path: str) -> memoryview:
    """A journal's bytes, mapped. Raises RunUnreadable."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for its writer
            raise RunUnreadable(f"{path} is no plain file", hint=_HINT)
        with open(path, "rb") as f:
            if os.fstat(f.fileno()).st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise RunUnreadable(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from error


def read_journal(path: str) -> Trace:
    """The trace of a journal, up to the byte at which it was cut. Raises RunUnreadable when it cannot be read at all."""
    return parse_journal(map_journal(path))


def parse_journal(data: memoryview) -> Trace:
    """The trace in a journal's bytes, whatever they are: what cannot be parsed ends the reading and is said in ``cut``."""
    import numpy as np

    parts: dict[int, list[Any]] = {journal.EVENTS: [], journal.RNG: [], journal.STATS: []}
    tables: dict[str, dict[int, list[Any]]] = {"sites": {}, "metas": {}, "generators": {}}
    notes: list[dict[str, Any]] = []
    trace = Trace(np.empty(0), [], [], [], np.empty(0), np.empty(0), notes, False, source=_Memory(data))
    sizes = {journal.EVENTS: EVENT_FIELDS, journal.RNG: RNG_FIELDS, journal.STATS: STATS_FIELDS}
    dtypes = {kind: np.dtype(list(fields)) for kind, fields in sizes.items()}
    at = len(journal.MAGIC)
    if len(data) < at or bytes(data[:at]) != journal.MAGIC:
        trace.cut = "the journal has no beginning" if len(data) else "the journal is empty"
    for kind, payload, whole in journal.frames(data):
        at += journal.FRAME.size
        try:
            if kind in dtypes:
                n = len(payload) // dtypes[kind].itemsize
                parts[kind].append(np.frombuffer(payload, dtypes[kind], n))
            elif whole:
                _frame(trace, kind, payload, at, tables, notes)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError, struct.error) as error:
            trace.cut = f"the journal is damaged at byte {at}: {type(error).__name__}"
            break
        if not whole:
            trace.cut = f"the journal ends in the middle of a record, at byte {len(data)}"
        at += len(payload)
    joined = {k: np.concatenate(v) if v else np.empty(0, dtypes[k]) for k, v in parts.items()}
    events = joined[journal.EVENTS]
    if len(events) > 1 and (np.diff(events["seq"].astype(np.int64)) < 0).any():
        events = events[np.argsort(events["seq"], kind="stable")]
    trace.events = events
    trace.rng = joined[journal.RNG]
    stats = joined[journal.STATS]
    trace.stats = stats[np.argsort(stats["seq"], kind="stable")]
    n_sites = int(events["site"].max()) + 1 if len(events) else 0
    n_metas = int(events["meta"].max()) + 1 if len(events) else 0
    trace.sites = [_site(tables["sites"].get(n)) for n in range(_bounded(n_sites, tables["sites"], trace))]
    trace.metas = [_meta(tables["metas"].get(n)) for n in range(_bounded(n_metas, tables["metas"], trace))]
    trace.generators = [_generator(r) for _, r in sorted(tables["generators"].items())]
    if len(events):
        keep = (events["site"] < len(trace.sites)) & (events["meta"] < len(trace.metas)) & (events["kind"] < 7) & (events["phase"] < 5)
        if not keep.all():
            trace.events = events[keep]
            trace.cut = trace.cut or "records name places that the journal does not define"
    trace.complete = not trace.cut and any(n.get("type") == "end" for n in notes)
    return trace


def _bounded(wanted: int, table: dict[int, Any], trace: Trace) -> int:
    """Table length: what the events use, but never more than was defined plus one flush's worth."""
    most = min(max(table, default=-1) + 1, len(table) + 65536)
    return max(most, 0) if wanted > most + 65536 else max(wanted, most)


def _site(row: list[Any] | None) -> tuple[str, str, str, str]:
    if row is None:
        return ("(lost)", "", "", "")
    return (str(row[0]), str(row[1]), str(row[2]), str(row[3]))


def _meta(row: list[Any] | None) -> tuple[tuple[int, ...], str, str, str, str]:
    if row is None:
        return ((), "unknown", "", "", "its description was lost")
    return (tuple(int(n) for n in row[0]), str(row[1]), str(row[2]), str(row[3]), str(row[4]))


def _generator(row: list[Any]) -> tuple[str, str]:
    return (str(row[0]), str(row[1]))


def _frame(
    trace: Trace, kind: int, payload: memoryview, at: int, tables: dict[str, dict[int, list[Any]]], notes: list[dict[str, Any]]
) -> None:
    if kind == journal.META:
        note = json.loads(bytes(payload))
        if isinstance(note, dict) and note.get("type") != "reserve":
            notes.append(note)
    elif kind == journal.NAMES:
        names = json.loads(bytes(payload))
        for table, rows in tables.items():
            for row in names.get(table, ()):
                if 0 <= int(row[0]) < 1 << 24:
                    # tried before it is kept: the tables are built of these rows without another check
                    (_meta if table == "metas" else _site if table == "sites" else _generator)(row[1:])
                    rows[int(row[0])] = row[1:]
    elif kind == journal.SAMPLES:
        seq, n, m = journal.SAMPLES_HEAD.unpack_from(payload)
        if journal.SAMPLES_HEAD.size + 8 * (n + m) != len(payload):
            raise ValueError("sample counts do not fit their frame")
        trace._samples[seq] = (at + journal.SAMPLES_HEAD.size, n, m)
    elif kind == journal.STATE:
        number, digest = journal.STATE_HEAD.unpack_from(payload)
        lo, hi = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
        trace._states[(number, lo, hi)] = (at + journal.STATE_HEAD.size, len(payload) - journal.STATE_HEAD.size)
    elif kind == journal.TENSOR:
        seq, length = journal.TENSOR_HEAD.unpack_from(payload)
        head = journal.TENSOR_HEAD.size + length
        if head > len(payload):
            raise ValueError("a tensor's header does not fit its frame")
        header = json.loads(bytes(payload[journal.TENSOR_HEAD.size : head]))
        shape = tuple(int(n) for n in header["shape"])
        if not all(0 <= n < 1 << 63 for n in shape):
            raise ValueError("a tensor's shape is impossible")
        trace._tensors[seq] = (at + head, len(payload) - head, str(header["dtype"]), shape)


# trace -> HDF5


def write_trace(trace: Trace, path: str) -> None:
    """Write under a temporary name beside ``path``, sync, and rename: ``path`` is whole or absent. Raises OSError."""
    import h5py
    import numpy as np

    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with h5py.File(temporary, "w", libver="latest") as f:
            f.attrs["schema"] = np.bytes_(b"reprodebug.trace")
            f.attrs["schema_version"] = SCHEMA_VERSION
            f.attrs["complete"] = trace.complete
            for name, table in (("events", trace.events), ("rng", trace.rng), ("stats", trace.stats)):
                for column in table.dtype.names or ():
                    _column(f, f"{name}/{column}", np.ascontiguousarray(table[column]), column not in _RAW)
            tables = {
                "sites": trace.sites, "metas": trace.metas, "generators": trace.generators, "notes": trace.notes_meta, "cut": trace.cut,
            }  # fmt: skip
            text = np.frombuffer(json.dumps(tables, separators=(",", ":")).encode("ascii"), np.uint8)
            _column(f, "tables", text, True)
            _blobs(f, "samples", [(s, n, m) for s, (_, n, m) in trace._samples.items()], _sample_bytes(trace))
            _blobs(f, "states", [(g, lo, hi, n) for (g, lo, hi), (_, n) in trace._states.items()], _state_bytes(trace))
            for seq, (at, nbytes, dtype, shape) in trace._tensors.items():
                raw = np.frombuffer(trace.source.tensor(seq, at, nbytes), np.uint8)
                more: Any = {"chunks": (min(len(raw), _TENSOR_CHUNK),), "compression": "gzip", "compression_opts": 1} if pays(raw) else {}
                dataset = f.create_dataset(f"tensors/{seq}", data=raw, **more)
                dataset.attrs["dtype"] = np.bytes_(dtype.encode("utf-8", "replace") or b"unknown")
                dataset.attrs["shape"] = np.array(shape, np.int64)
        fd = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except BaseException:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        raise


def pays(raw: Array) -> bool:
    """Whether a tensor's bytes are worth compressing, by a sample of them: 32 KiB tell the ratio of the whole to a few per cent.

    Measured with gzip at level 1: zeros, one-hot rows, sparse gradients and masks shrink to 0.00-0.23 of their size in about the
    time that ten times as much takes to be written plain; weights, activations and their gradients to 0.8-0.93 in fifty times it."""
    if len(raw) < 2 * _SAMPLE:
        return False
    middle = len(raw) // 2
    sample = raw[:_SAMPLE].tobytes() + raw[middle : middle + _SAMPLE].tobytes()
    return len(zlib.compress(sample, 1)) <= _WORTH * len(sample)


def _column(f: Any, name: str, values: Array, compress: bool) -> None:
    if compress and values.nbytes > 512:
        f.create_dataset(name, data=values, chunks=(min(len(values), _CHUNK),), compression="gzip", compression_opts=1, shuffle=True)
    else:
        f.create_dataset(name, data=values)


def _sample_bytes(trace: Trace) -> Iterator[Any]:
    for at, n, m in trace._samples.values():
        yield trace.source.samples(at, 8 * (n + m))


def _state_bytes(trace: Trace) -> Iterator[Any]:
    for at, n in trace._states.values():
        yield trace.source.states(at, n)


def _blobs(f: Any, name: str, rows: list[tuple[int, ...]], bodies: Iterator[Any]) -> None:
    import numpy as np

    if not rows:
        return
    _column(f, f"{name}/rows", np.array(rows, np.uint64).ravel(), True)
    _column(f, f"{name}/data", np.frombuffer(b"".join(bytes(b) for b in bodies), np.uint8), False)


# HDF5 -> trace


def read_trace(path: str) -> Trace:
    """Read a trace's columns; samples, states and tensors stay in the file until asked for.

    Raises RunUnreadable for a file that is no trace or is damaged, SchemaTooNew for one from a newer reprodebug.
    """
    import h5py

    name = os.path.basename(path)
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):  # opening a pipe would wait for its writer
            raise RunUnreadable(f"{name} is no plain file", hint=_HINT)
        size = info.st_size
        with h5py.File(path, "r", locking=False) as f:
            if _text(f.attrs.get("schema")) != "reprodebug.trace":
                raise RunUnreadable(f"{name} is an HDF5 file, but no reprodebug trace", hint=_HINT)
            version = int(f.attrs.get("schema_version", 0))
            if version > SCHEMA_VERSION:
                raise SchemaTooNew(
                    f"{name} was written by a newer reprodebug (schema {version}, this one reads up to {SCHEMA_VERSION})",
                    hint="pip install --upgrade reprodebug",
                )
            return _read(f, path, size)
    except FileNotFoundError as error:
        raise RunUnreadable(f"{name} is missing", hint=_HINT) from error
    except PermissionError as error:
        raise RunUnreadable(f"{name} cannot be read: {error.strerror}", hint="check its permissions") from error
    except _DAMAGED as error:
        raise RunUnreadable(f"{name} is damaged or no trace at all", hint=_HINT) from error


def _text(value: Any) -> str:
    """A string attribute. Ours have a fixed length: those of any length lie where HDF5 keeps no checksum, and damage there can
    make the library loop for ever."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _read(f: Any, path: str, size: int) -> Trace:
    import numpy as np

    tables = json.loads(_dataset(f, "tables", size, "u1").tobytes())
    trace = Trace(
        _table(f, "events", EVENT_FIELDS, size), [_site(r) for r in tables["sites"]], [_meta(r) for r in tables["metas"]],
        [(str(a), str(b)) for a, b in tables["generators"]], _table(f, "rng", RNG_FIELDS, size), _table(f, "stats", STATS_FIELDS, size),
        [n for n in tables["notes"] if isinstance(n, dict)], bool(f.attrs["complete"]), str(tables.get("cut", "")), _File(path),
    )  # fmt: skip
    events = trace.events
    if len(events) and (
        int(events["site"].max()) >= len(trace.sites) or int(events["meta"].max()) >= len(trace.metas)
        or int(events["kind"].max()) > 6 or int(events["phase"].max()) > 4
    ):  # fmt: skip
        raise ValueError("events point outside their tables")
    for name, width in (("samples", 3), ("states", 4)):
        if f.get(name, getlink=True) is None:
            continue
        _hard(f, name)
        rows = _dataset(f, f"{name}/rows", size, "<u8").reshape(-1, width)
        length = len(_checked(f, f"{name}/data", size, "u1"))
        at = 0
        for row in rows.tolist():
            n = 8 * (row[1] + row[2]) if name == "samples" else row[3]
            if at + n > length:
                raise ValueError(f"{name} point outside their data")
            if name == "samples":
                trace._samples[row[0]] = (at, row[1], row[2])
            else:
                trace._states[(row[0], row[1], row[2])] = (at, row[3])
            at += n
    if f.get("tensors", getlink=True) is not None:
        _hard(f, "tensors")
        for name in f["tensors"]:
            dataset = _checked(f, f"tensors/{name}", size, "u1")
            shape = tuple(int(n) for n in np.asarray(dataset.attrs["shape"]).tolist())
            trace._tensors[int(name)] = (0, len(dataset), _text(dataset.attrs["dtype"]), shape)
    return trace


def _table(f: Any, name: str, fields: tuple[tuple[str, str], ...], size: int) -> Array:
    import numpy as np

    columns = {column: _dataset(f, f"{name}/{column}", size, kind) for column, kind in fields}
    lengths = {len(c) for c in columns.values()}
    if len(lengths) != 1:
        raise ValueError("columns of different length")
    n = lengths.pop()
    table = np.empty(n, np.dtype(list(fields)))
    for at in range(0, n, _BLOCK):  # a block of rows stays in the cache while its columns are filled in
        rows = table[at : at + _BLOCK]
        for column, values in columns.items():
            rows[column] = values[at : at + _BLOCK]
    return table


def _hard(f: Any, name: str) -> None:
    """Only hard links: a soft or external link could lead anywhere. Raises ValueError."""
    import h5py

    at = f
    for part in name.split("/"):
        if not isinstance(at.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is no plain part of the file")
        at = at[part]


def _checked(f: Any, name: str, size: int, kind: str) -> Any:
    """A one-dimensional dataset of the expected type, inside this file, not larger than the file can hold."""
    import h5py
    import numpy as np

    _hard(f, name)
    dataset = f[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 1 or dataset.dtype != np.dtype(kind):
        raise ValueError(f"{name} has another form")
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{name} lies outside the file")
    most = size * (_MAX_RATIO if dataset.compression == "gzip" else 1)
    if dataset.compression not in (None, "gzip") or dataset.size * dataset.dtype.itemsize > most:
        raise ValueError(f"{name} is larger than its file")
    if dataset.chunks is not None and dataset.chunks[0] * dataset.dtype.itemsize > most:
        raise ValueError(f"{name} has chunks larger than its file")  # one is held in memory whole
    return dataset


def _dataset(f: Any, name: str, size: int, kind: str) -> Array:
    values: Array = _checked(f, name, size, kind)[:]
    return values


def convert(journal_path: str, trace_path: str) -> Trace:
    """Journal to HDF5; returns the trace as it was in the journal. Raises OSError, RunUnreadable."""
    trace = read_journal(journal_path)
    write_trace(trace, trace_path)
    return trace
