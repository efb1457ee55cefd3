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
    found: list[tuple[str, str, int, float, bool]] = []
    for path in files:
        run = posixpath.relpath(posixpath.dirname(path) or ".", place or ".")
        try:
            for raw in _wire.tf_records(tree.read(path, _MAX_FILE)):
                try:
                    _event(_wire.message(raw), run, record, path, found)
                except _wire.Cut:
                    continue
            read_files += 1
        except _wire.Cut as error:
            record.notes.append(f"{path} was cut ({error}): what stands before the cut was read")
            read_files += bool(found or record.facts)
    for run, tag, *_ in found:
        several.setdefault(tag, set()).add(run)
    for run, tag, step, value, wide in found:
        ambiguous = len(several[tag]) > 1
        name = f"{run}/{tag}" if ambiguous and run not in (".", "") else tag
        record.point(name, step, value)
        if wide:
            record.doubles.add(name)
    if not read_files:
        raise Unreadable(f"{place or '.'}: no event file can be read")
    record.notes.append("TensorBoard records neither packages nor code")
    return record


def _event(event: dict[int, list[Any]], run: str, record: Record, path: str, found: list[tuple[str, str, int, float, bool]]) -> None:
    step = _wire.signed(event[2][0]) if 2 in event else 0
    for summary in event.get(5, ()):
        for raw in _wire.message(summary).get(1, ()):
            _value(_wire.message(raw), step, run, record, path, found)


def _value(
    value: dict[int, list[Any]], step: int, run: str, record: Record, path: str, found: list[tuple[str, str, int, float, bool]]
) -> None:
    tag = _wire.text(value[1][0]) if 1 in value else ""
    plugin, content = _plugin(value)
    if plugin == "hparams":
        _hparams(content, run, record, path)
        return
    if 2 in value:
        found.append((run, tag, step, _wire.single(value[2][0]), False))
        return
    if 8 not in value:
        return
    tensor = _wire.message(value[8][0])
    if plugin == "text" or (8 in tensor and tensor.get(1, [0])[0] == 7):
        words = [_wire.text(t) for t in tensor.get(8, ())]
        record.add("config", f"text/{tag.removesuffix('/text_summary')}", words[0] if len(words) == 1 else words, path)
        return
    if plugin in ("scalars", "") and _shape(tensor) == 1:
        number, wide = _scalar(tensor)
        if number is not None:
            found.append((run, tag, step, number, wide))


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


def _hparams(content: Any, run: str, record: Record, path: str) -> None:
    """``session_start_info``: the hyper-parameters of one session."""
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
