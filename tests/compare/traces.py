"""Traces and runs made by hand, one tuple for an event."""

from __future__ import annotations

from typing import Any

import numpy as np

from reprodebug.model.events import EVENT_FIELDS, RNG_FIELDS, STATS_FIELDS, Flag, Kind, Phase
from reprodebug.model.run import Manifest, Process
from reprodebug.store.run import StoredRun
from reprodebug.store.trace import Trace, _Memory


def event(
    module: str,
    value: int,
    *,
    step: int = 0,
    tensor: str = "output.0",
    kind: Kind = Kind.ACTIVATION,
    phase: Phase = Phase.FORWARD,
    shape: tuple[int, ...] = (4,),
    flags: Flag = Flag.TRAINING,
    dtype: str = "float32",
    root: str = "Net",
    of: str = "Linear",
    turn: int = 0,
    thread: int = 0,
    device: str = "cpu",
    prints: tuple[int, ...] = (),
    chosen: tuple[int, ...] = (),
) -> dict[str, Any]:
    """One event of a module ``of`` some type; ``value`` stands for the fingerprint, ``prints`` for those of a batch's samples,
    ``chosen`` for their indices."""
    return dict(locals())


def trace(events: list[dict[str, Any]], notes: list[dict[str, Any]] | None = None) -> Trace:
    table = np.zeros(len(events), np.dtype(list(EVENT_FIELDS)))
    sites: dict[tuple[str, str, str, str], int] = {}
    metas: dict[tuple[Any, ...], int] = {}
    for n, e in enumerate(events):
        row = table[n]
        row["seq"], row["step"], row["kind"], row["phase"], row["flags"] = n, e["step"], e["kind"], e["phase"], e["flags"]
        row["site"] = sites.setdefault((e["root"], e["module"], e["of"], e["tensor"]), len(sites))
        row["meta"] = metas.setdefault((e["shape"], e["dtype"], e["device"], "strided", ""), len(metas))
        row["lo"], row["turn"], row["thread"] = e["value"], e["turn"], e["thread"]
    found = Trace(
        table, list(sites), list(metas), [], np.zeros(0, np.dtype(list(RNG_FIELDS))), np.zeros(0, np.dtype(list(STATS_FIELDS))),
        notes or [], True,
    )  # fmt: skip
    body = b""
    for n, e in enumerate(events):
        if e["prints"]:
            found._samples[n] = (len(body), len(e["prints"]), len(e["chosen"]))
            body += np.array(e["prints"], "<u8").tobytes() + np.array(e["chosen"], "<i8").tobytes()
    found.source = _Memory(memoryview(body))
    return found


def run(*traces: Trace, complete: bool = True, path: str = "run", **manifest: Any) -> StoredRun:
    processes = tuple(
        Process(n, 0, 100 + n, ("train.py",), f"trace-rank{n}.h5", len(t.events), int(t.events["step"].max(initial=0)), complete)
        for n, t in enumerate(traces)
    )
    m = Manifest(("python", "train.py"), "/x", "2026-01-01", ended="2026-01-01", complete=complete, processes=processes, **manifest)
    return StoredRun(path, m, (), {(n, 0): t for n, t in enumerate(traces)})


def training(steps: int = 3, modules: tuple[str, ...] = ("a", "b", "c"), change: tuple[int, str] | None = None) -> list[dict[str, Any]]:
    """A plain training: parameters, then batch, forward, loss, backward, update in each step. From ``change`` = (step, module) on
    the outputs differ, and everything after them."""
    rows = [event(m, 1, tensor="weight", kind=Kind.PARAMETER, phase=Phase.INIT, flags=Flag(0)) for m in modules]
    off = 0
    for s in range(steps):
        rows.append(event("", 10 + s, step=s, tensor="batch.0", kind=Kind.DATA, phase=Phase.DATA, root="DataLoader#0", flags=Flag(0)))
        for m in modules:
            if change == (s, m):
                off = 1000
            rows.append(event(m, 100 + s + off, step=s))
        rows.append(event("", 200 + s + off, step=s, tensor="loss.0", kind=Kind.LOSS, root="loss", flags=Flag(0)))
        rows += [
            event(m, 300 + s + off, step=s, tensor="weight.grad", kind=Kind.GRADIENT, phase=Phase.BACKWARD, flags=Flag(0))
            for m in modules[::-1]
        ]
        rows += [
            event(m, 400 + s + off, step=s, tensor="weight", kind=Kind.PARAMETER, phase=Phase.OPTIMIZER, flags=Flag(0)) for m in modules
        ]
        rows += [
            event(m, 500 + s + off, step=s, tensor="weight.state", kind=Kind.OPTIMIZER, phase=Phase.OPTIMIZER, flags=Flag(0))
            for m in modules
        ]
    return rows
