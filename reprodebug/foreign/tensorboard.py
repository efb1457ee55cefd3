"""TensorBoard event files: scalars of both kinds, text, and the hparams plugin.

Owns trees of ``events.out.tfevents.*``. Of a step written twice the later file wins; a cut last record is tolerated. TensorBoard
records no environment and no code. Formats: TFRecord, ``event.proto``, ``summary.proto``, ``tensor.proto``, plugin
``hparams/plugin_data.proto``.
"""

from __future__ import annotations

import posixpath
import re
import struct
from typing import Any

from reprodebug.foreign import _wire
from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

NAME = "TensorBoard"
_FILE = re.compile(r"(^|/)[^/]*tfevents\.(\d+)[^/]*$")
_MAX_FILE = 1 << 30
_ELSEWHERE = re.compile(r"(^|/)(wandb|mlruns|\.neptune)/")


def find(tree: Tree) -> list[str]:
    """The folder that holds every event file."""
    folders = {posixpath.dirname(f) for f in tree.files if _FILE.search(f) and (tree.single or not _ELSEWHERE.search(f))}
    if not folders:
        return []
    return [posixpath.commonpath(folders) if len(folders) > 1 and "" not in folders else next(iter(folders)) if len(folders) == 1 else ""]


def read(tree: Tree, place: str) -> Record:
    """All event files below a folder, in order of their times. Raises Unreadable where none can be read."""
    record = Record(NAME, place, single=True)
    files = sorted((f for f in tree.below(place) if _FILE.search(f)), key=lambda f: (int(_FILE.search(f)[2]), f))  # type: ignore[index]
    several: dict[str, set[str]] = {}
    read_files = 0
    found: list[tuple[str, str, list[int], list[float], bool]] = []
    for path in files:
        run = posixpath.relpath(posixpath.dirname(path) or ".", place or ".")
        before = len(found) + len(record.facts)
        if _file(tree.read(path, _MAX_FILE), run, record, path, found) or len(found) + len(record.facts) > before:
            read_files += 1
    labels = _labels([run for run, *_ in found])
    found = [(labels[run], *rest) for run, *rest in found]  # type: ignore[misc]
    for run, tag, *_ in found:
        several.setdefault(tag, set()).add(run)
    results: set[str] = set()
    for run, tag, steps, values, wide in found:
        ambiguous = len(several[tag]) > 1
        name = f"{run}/{tag}" if ambiguous and run not in (".", "") else tag
        record.points(name, steps, values)
        results |= {name} if tag in record.summary else set()
        if wide:
            record.doubles.add(name)
    # a result of a session is written once, at a step that means nothing
    record.summary = {name for name in results if len(record.series[name]) == 1}
    if not read_files:
        raise Unreadable(f"{place or '.'}: no event file can be read")
    record.notes.append("TensorBoard records neither packages nor code")
    return record


_DATED = re.compile(r"\d{9,10}(\.\d+)?|[A-Z][a-z]{2}\d\d_\d\d-\d\d-\d\d_.*|\d{4}-?\d\d-?\d\d[T_ -]?\d\d[-:]?\d\d[-:]?\d\d.*")
"""folders that a writer names after the time: of hparams in torch and tensorboardX, and of a run without a name"""


def _labels(runs: list[str]) -> dict[str, str]:
    """Folder -> what its tags are told apart by: names of the time are numbered, as the next run has others."""
    found: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for run in sorted(set(runs)):
        parts = run.split("/")
        if not any(map(_DATED.fullmatch, parts)):
            found[run] = run
            continue
        plain = "/".join("session" if _DATED.fullmatch(p) else p for p in parts)
        numbers[plain] = number = numbers.get(plain, 0) + 1
        found[run] = plain if number == 1 else f"{plain} {number}"
    return found


class _Scalars:
    """The 32-bit scalars of one tag in one file."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.steps: list[int] = []
        self.values: list[float] = []


def _file(data: bytes, run: str, record: Record, path: str, found: list[tuple[str, str, list[int], list[float], bool]]) -> bool:
    """One file up to its first bad record; whether it was read to its end.

    Most records are one 32-bit scalar: wall time, step, and a summary that ends with the value. What stands between step and value
    is the same for every record of a tag, so it is parsed once; and where a loop writes the same records again and again, all
    of its rounds are taken at once (``_rounds``).
    """
    known: dict[bytes, _Scalars | None] = {}
    slow: dict[tuple[str, bool], tuple[list[int], list[float]]] = {}
    recent: list[tuple[int, int, bytes]] = []
    right: dict[int, int] = {}
    at, look, whole = 0, 2 * _LONGEST_ROUND, True
    try:
        while at < len(data):
            if len(recent) >= look:
                taken = _rounds(data, at, recent, known)
                look = 2 * _LONGEST_ROUND if taken else min(2 * look, 1 << 16)  # an irregular file is not looked at for ever
                recent.clear()
                if taken:
                    at += taken
                    continue
            start, end = _wire.tf_record(data, at, right)
            at = end + 4
            if end - start > 24 and data[start] == 9 and data[start + 9] == 16 and data[end - 5] == 21:
                step, behind = _wire.varint(memoryview(data)[: end - 4], start + 10)
                middle = data[behind : end - 4]
                if middle not in known:
                    tag = _plain_tag(middle)
                    known[middle] = _Scalars(tag) if tag is not None else None
                scalars = known[middle]
                if scalars is not None:
                    scalars.steps.append(_wire.signed(step))
                    scalars.values.append(_FLOAT.unpack_from(data, end - 4)[0])
                    recent.append((end - start, behind - start - 10, middle))
                    continue
            recent.clear()
            try:
                _event(_wire.message(memoryview(data)[start:end]), record, path, slow)
            except _wire.Cut:
                continue
    except _wire.Cut as error:
        record.cut(f"{path} was cut ({error}): what stands before the cut was read")
        record.unknown.add("config")
        whole = False
    found += [(run, s.tag, s.steps, s.values, False) for s in known.values() if s is not None]
    found += [(run, tag, *points, wide) for (tag, wide), points in slow.items()]
    return whole


_LONGEST_ROUND = 64
"""records after which a loop has to begin again to be seen as one"""
_FLOAT = struct.Struct("<f")


def _rounds(data: bytes, at: int, recent: list[tuple[int, int, bytes]], known: dict[bytes, _Scalars | None]) -> int:
    """Bytes from ``at`` on that repeat the last records with other times, steps and values; these are added to ``known``.

    Every byte else is compared with that of the last round, so that nothing is taken for what it is not.
    """
    import numpy as np

    period = next((k for k in range(1, _LONGEST_ROUND + 1) if recent[-k:] == recent[-2 * k : -k]), 0)
    if not period:
        return 0
    cycle = recent[-period:]
    size = sum(length + 16 for length, _, _ in cycle)
    count = (len(data) - at) // size
    if not count:
        return 0
    rows = np.frombuffer(data, np.uint8, count * size, at).reshape(count, size)
    last = np.frombuffer(data, np.uint8, size, at - size)
    fixed = np.ones(size, bool)
    fields: list[tuple[int, int, int, bytes]] = []
    place = 0
    for length, width, middle in cycle:
        step, value = place + 12 + 10, place + 12 + length - 4
        fixed[place + 13 : place + 21] = False  # wall time
        fixed[step : step + width] = False
        fixed[value : value + 8] = False  # the value, and the checksum of the data
        fields.append((step, width, value, middle))
        place += length + 16
    good = (rows[:, fixed] == last[fixed]).all(axis=1)
    for step, width, _, _ in fields:
        good &= (rows[:, step : step + width - 1] > 127).all(axis=1) & (rows[:, step + width - 1] < 128)
    count = count if good.all() else int(np.argmin(good))
    for step, width, value, middle in fields:
        parts = (rows[:count, step : step + width] & 127).astype(np.uint64)
        numbers = (parts << (7 * np.arange(width, dtype=np.uint64))).sum(axis=1, dtype=np.uint64).view(np.int64)
        scalars = known[middle]
        if scalars is not None:
            scalars.steps += numbers.tolist()
            scalars.values += rows[:count, value : value + 4].copy().view("<f4")[:, 0].astype(float).tolist()
    return count * size


def _plain_tag(middle: bytes) -> str | None:
    """The tag of a record that holds one scalar, from the bytes between its step and its value; None for any other."""
    try:
        event = _wire.message(middle + b"\0\0\0\0")
        values = _wire.message(event[5][0])[1] if set(event) == {5} and len(event[5]) == 1 else []
        value = _wire.message(values[0]) if len(values) == 1 else {}
    except (_wire.Cut, KeyError):
        return None
    alone = 2 in value and len(value[2]) == 1 and len(value.get(1, ())) == 1 and 8 not in value and _plugin(value)[0] in ("", "scalars")
    return _wire.text(value[1][0]) if alone else None


def _event(event: dict[int, list[Any]], record: Record, path: str, found: dict[tuple[str, bool], tuple[list[int], list[float]]]) -> None:
    step = _wire.signed(event[2][0]) if 2 in event else 0
    for summary in event.get(5, ()):
        for raw in _wire.message(summary).get(1, ()):
            _value(_wire.message(raw), step, record, path, found)


def _value(
    value: dict[int, list[Any]], step: int, record: Record, path: str, found: dict[tuple[str, bool], tuple[list[int], list[float]]]
) -> None:
    tag = _wire.text(value[1][0]) if 1 in value else ""
    plugin, content = _plugin(value)
    if plugin == "hparams":
        _hparams(content, record, path)
        return
    number: float | None = None
    wide = False
    if 2 in value:
        number = _wire.single(value[2][0])
    elif 8 in value:
        tensor = _wire.message(value[8][0])
        if plugin == "text" or (plugin == "" and 8 in tensor and tensor.get(1, [0])[0] == 7):
            words = [_wire.text(t) for t in tensor.get(8, ())]
            record.add("config", f"text/{tag.removesuffix('/text_summary')}", words[0] if len(words) == 1 else words, path)
        elif plugin in ("scalars", "") and _shape(tensor) == 1:
            number, wide = _scalar(tensor)
    if number is not None:
        steps, values = found.setdefault((tag, wide), ([], []))
        steps.append(step)
        values.append(number)


def _plugin(value: dict[int, list[Any]]) -> tuple[str, Any]:
    if 9 not in value:
        return "", b""
    data = _wire.message(value[9][0]).get(1)
    if not data:
        return "", b""
    own = _wire.message(data[0])
    return (_wire.text(own[1][0]) if 1 in own else ""), (own[2][0] if 2 in own else b"")


def _shape(tensor: dict[int, list[Any]]) -> int:
    size = 1
    for shape in tensor.get(2, ()):
        for dimension in _wire.message(shape).get(2, ()):
            size *= int(_wire.message(dimension).get(1, [0])[0])
    return size


def _scalar(tensor: dict[int, list[Any]]) -> tuple[float | None, bool]:
    kind = tensor.get(1, [1])[0]
    if 4 in tensor:
        raw = bytes(tensor[4][0])
        form = {1: "<f", 2: "<d", 3: "<i", 9: "<q", 19: "<e"}.get(kind)
        if form and len(raw) == struct.calcsize(form):
            return float(struct.unpack(form, raw)[0]), kind in (2, 3, 9)
    for number, form in ((5, "<f"), (6, "<d")):
        if number in tensor:
            raw = bytes(tensor[number][0])
            if len(raw) >= struct.calcsize(form):
                return float(struct.unpack_from(form, raw)[0]), number == 6
    for number in (7, 10):
        if number in tensor:
            first = tensor[number][0]
            if isinstance(first, memoryview):
                first, _ = _wire.varint(first, 0)
            return float(_wire.signed(first)), True
    return None, False


def _hparams(content: Any, record: Record, path: str) -> None:
    """``session_start_info``: the hyper-parameters of one session; ``experiment``: which tags are its results."""
    for experiment in _wire.message(content).get(2, ()):
        for metric in _wire.message(experiment).get(5, ()):
            for name in _wire.message(metric).get(1, ()):
                record.summary |= {_wire.text(tag) for tag in _wire.message(name).get(2, ())}
    for start in _wire.message(content).get(3, ()):
        for pair in _wire.message(start).get(1, ()):
            own = _wire.message(pair)
            name = _wire.text(own[1][0]) if 1 in own else ""
            value = _wire.message(own[2][0]) if 2 in own else {}
            if 2 in value:
                record.add("config", name, _wire.double(value[2][0]), path)
            elif 3 in value:
                record.add("config", name, _wire.text(value[3][0]), path)
            elif 4 in value:
                record.add("config", name, bool(value[4][0]), path)
            else:
                record.add("config", name, None, path)
