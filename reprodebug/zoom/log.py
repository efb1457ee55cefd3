"""What the guest wrote about the operations of a stretch: read back, line by line, never trusted.

A line that is cut or says nonsense ends the reading; values are found by their fingerprint and checked against the file's size.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reprodebug.recorder.stretch import FOLDER

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of an operation."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    device: str
    storage: int
    digest: str
    """'' where the values could not be read"""
    overwritten: bool = False
    """what it held before does not matter: the operation overwrites it"""
    written: bool = False
    """an argument that the operation wrote"""


@dataclass(slots=True)
class Op:
    """One operation."""

    n: int
    name: str
    line: str
    function: str
    via: str
    module: str
    module_type: str
    node: str
    forward: str
    arguments: dict[str, str]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    view: bool
    undefined: bool
    random: str | None
    """fingerprint of the generator's state before it; None where it draws nothing, '' where the state could not be asked"""
    region: dict[str, Any] | None = None
    """of a call of a compiled region: which ``graph``, which ``call`` of it, which ``phase``"""
    inner: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    primitives: tuple[str, ...] = ()
    """torch's inner operations, kernels on a device, what oneDNN ran; of the operation that was profiled"""
    unprofiled: str = ""

    @property
    def place(self) -> str:
        """``line`` without the folders of the file."""
        return self.line.rpartition("/")[2]

    @property
    def reads(self) -> tuple[Value, ...]:
        return tuple(v for v in self.inputs if not v.overwritten)


@dataclass(frozen=True, slots=True)
class Node:
    """One operation inside a compiled region; of a backward pass: one gradient."""

    name: str
    line: str
    code: str
    operations: tuple[str, ...]
    """ATen operations that it is made of where it runs eagerly"""
    eager: Value
    compiled: Value | None
    """None where the compiled value could not be had"""


@dataclass(slots=True)
class Opened:
    """One call of a compiled region, opened."""

    phase: str
    backend: str
    operations: int
    same: bool | None
    """whether the graph gave the program's bits when it was compiled with every intermediate value as a result"""
    why: str
    """what could not be had"""
    nodes: list[Node]
    outputs: list[tuple[str, Value, Value]]
    """(name, eager, compiled) of each result"""
    source: list[str] = field(default_factory=list)
    """the graph and those that it calls, line by line"""


@dataclass(slots=True)
class Log:
    """The operations of one process's stretch."""

    path: str
    ops: list[Op] = field(default_factory=list)
    target: Value | None = None
    """the tensor of the first divergence"""
    events: dict[int, Value] = field(default_factory=dict)
    """the divergent event and those of the same batch behind it, by position"""
    names: dict[int, str] = field(default_factory=dict)
    """storage -> parameter or buffer"""
    first_names: dict[int, str] = field(default_factory=dict)
    """the same as the stretch began"""
    complete: bool = False
    dropped: int = 0
    """bytes of tensors for which there was no room"""
    full: bool = False
    """operations were left out: the log had reached its bound"""
    armed: bool = True
    opened: dict[int, Opened] = field(default_factory=dict)
    """compiled regions that were opened, by number of the operation"""
    _values: dict[str, tuple[int, int]] = field(default_factory=dict)
    _bytes: str = ""

    def place(self, digest: str) -> tuple[str, int, int] | None:
        """(file, position, bytes) of a value by its fingerprint; None where it was not kept."""
        row = self._values.get(digest)
        return None if row is None else (self._bytes, *row)

    def raw(self, value: Value) -> Array | None:
        """uint8[n]: the bytes of a value in contiguous order; None where they were not kept."""
        import numpy as np

        row = self._values.get(value.digest)
        if row is None:
            return None
        try:
            with open(self._bytes, "rb") as f:
                f.seek(row[0])
                data = f.read(row[1])
        except OSError:
            return None
        return np.frombuffer(data, np.uint8) if len(data) == row[1] else None


def read(run: str) -> Log | None:
    """The log of a run's process that reached its stretch; None where there is none."""
    folder = os.path.join(run, FOLDER)
    try:
        names = sorted(n for n in os.listdir(folder) if n.endswith(".jsonl"))
    except OSError:
        return None
    logs = [_read(os.path.join(folder, n)) for n in names if not n.startswith("worker-")]
    return next((x for x in logs if x.complete), logs[0] if logs else None)


def workers(run: str, main: Log) -> list[Log]:
    """The logs of the other processes, such as a DataLoader's workers, in order of their process ids. ``main``: the one that ``read`` gave."""
    folder = os.path.join(run, FOLDER)
    try:
        names = sorted((n for n in os.listdir(folder) if n.endswith(".jsonl")), key=lambda n: (len(n), n))
    except OSError:
        return []
    paths = [os.path.join(folder, n) for n in names]
    return [_read(p) for p in paths if p != main.path]


def _read(path: str) -> Log:
    log = Log(path, _bytes=path.removesuffix(".jsonl") + ".bin")
    try:
        size = os.path.getsize(log._bytes)
        with open(path, encoding="utf-8", errors="replace") as f:
            for line in f:
                row = json.loads(line)
                kind = row["kind"]
                if kind == "op":
                    log.ops.append(_op(row))
                elif kind == "value":
                    at, nbytes = int(row["at"]), int(row["nbytes"])
                    if at >= 0 and at + nbytes <= size:
                        log._values[str(row["digest"])] = (at, nbytes)
                elif kind == "graph":
                    log.opened[int(row["n"])] = _opened(row)
                elif kind == "event":
                    log.events[int(row["seq"])] = _value(row["value"])
                elif kind == "head":
                    log.first_names = {int(k): str(v) for k, v in row["names"].items()}
                elif kind == "end":
                    log.names = {int(k): str(v) for k, v in row["names"].items()}
                    log.target = _value(row["target"]) if row["target"] else None
                    log.dropped, log.full, log.armed = int(row["dropped"]), bool(row["full"]), bool(row["armed"])
                    log.complete = True
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        pass
    mark_fresh(log.ops)
    return log


def mark_fresh(ops: list[Op]) -> None:
    """A tensor that is laid over memory to which nothing was written yet, as ``copy.deepcopy`` lays it: what is done next with that memory
    overwrites it, so that what lay there before is no value."""
    overwritten: dict[int, bool] = {}
    for op in reversed(ops):
        if op.name == "aten.set_.source_Storage":
            op.undefined = op.undefined or any(overwritten.get(v.storage, False) for v in op.outputs)
        overwritten.update((v.storage, v.overwritten) for v in op.inputs if v.storage >= 0)


def _value(row: list[Any]) -> Value:
    return Value(
        str(row[0]), str(row[1]), tuple(int(n) for n in row[2]), tuple(int(n) for n in row[3]), str(row[4]), int(row[5]), str(row[6]),
        "o" in row[7], "w" in row[7],
    )  # fmt: skip


def _op(row: dict[str, Any]) -> Op:
    random = row.get("random")
    return Op(
        int(row["n"]), str(row["op"]), str(row["line"]), str(row["in"]), str(row.get("via", "")), str(row.get("module", "")),
        str(row.get("module_type", "")), str(row.get("node", "")), str(row.get("forward", "")),
        {str(k): str(v) for k, v in row["args"].items()}, tuple(_value(v) for v in row["inputs"]), tuple(_value(v) for v in row["outputs"]),
        bool(row.get("view")), bool(row.get("undefined")), None if random is None else str(random), _region(row.get("region")),
        *_kernels(row), str(row.get("unprofiled", "")),
    )  # fmt: skip


def _kernels(row: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    inner, kernels, primitives = (tuple(str(n) for n in row.get(k, ())) for k in ("inner", "kernels", "primitives"))
    return inner, kernels, primitives


def _region(row: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if row is None else {"graph": int(row["graph"]), "call": int(row["call"]), "phase": str(row["phase"])}


def _opened(row: dict[str, Any]) -> Opened:
    nodes = [
        Node(
            str(n["name"]), str(n.get("line", "")), str(n.get("code", "")), tuple(str(o) for o in n.get("ops", ())), _value(n["eager"]),
            None if n["compiled"] is None else _value(n["compiled"]),
        )
        for n in row["nodes"]
    ]  # fmt: skip
    outputs = [(str(n), _value(e), _value(c)) for n, e, c in row["outputs"]]
    same = row["same"]
    return Opened(
        str(row["phase"]),
        str(row["backend"]),
        int(row["operations"]),
        None if same is None else bool(same),
        str(row["why"]),
        nodes,
        outputs,
        [str(line) for line in row.get("source", ())],
    )
