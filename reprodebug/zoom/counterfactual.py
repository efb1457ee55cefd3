"""What would have been: the suspected thing of one run put into the other, and whether the divergence goes with it.

Necessary: with A's put into B the two runs no longer part. Sufficient: with B's put into A they do. Each is an execution of
its own, from the program's beginning to the end of the step in which the runs part; what lies beyond is not looked at.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reprodebug._base.errors import ReprodebugError
from reprodebug._base.text import listed_words, plural
from reprodebug.bisect.trial import Untestable
from reprodebug.model import zoom as model
from reprodebug.model.events import Flag, Kind
from reprodebug.model.zoom import Counterfactual
from reprodebug.recorder.stretch import FOLDER, Stretch
from reprodebug.zoom.log import Log, Op
from reprodebug.zoom.origin import Origin
from reprodebug.zoom.rerun import NotRepeatable, Repeat, Runner, first_apart, place
from reprodebug.zoom.window import Bounds

if TYPE_CHECKING:
    from reprodebug.compare.runs import Pair
    from reprodebug.store.trace import Trace

_MOST_EVENTS = 200_000
"""events behind the divergence that are looked at"""


@dataclass(frozen=True, slots=True)
class _Puts:
    """The suspected thing, ready to be put in."""

    what: str
    into: tuple[dict[str, Any], dict[str, Any]]
    """what goes into A (B's), and into B (A's)"""
    behind: int
    """events from the divergent one on that are not compared: their fingerprints were made before anything was put in"""


def decide(
    runners: list[Runner], pair: Pair, runs: tuple[Repeat, Repeat], within: tuple[Bounds, Bounds], origin: Origin, kind: str
) -> Counterfactual:  # fmt: skip
    """Run both counterfactuals. ``kind``: of the first divergence."""
    puts = _suspect(runs, within, origin, kind)
    if isinstance(puts, str):
        return Counterfactual("", None, None, f"nothing could be put in: {puts}")
    references = [
        (pair.a, pair.b)[n] if runs[n].same else runs[n].run.trace(*runners[n].process) for n in (0, 1)
    ]  # fmt: skip
    try:
        necessary = _execute(runners[1], pair.b, within[1], puts, 1)
        gone, how = _parts(references[0], runners[0].index, necessary, runners[1].index, puts.behind)
        sufficient = _execute(runners[0], pair.a, within[0], puts, 0)
        stays, other = _parts(references[0], runners[0].index, sufficient, runners[0].index, puts.behind)
    except (Untestable, NotRepeatable) as error:
        return Counterfactual(puts.what, None, None, f"{puts.what} could not be put in: {error.message}")
    if gone is None or stays is None:
        return Counterfactual(puts.what, None, None, f"with {puts.what} put in there was nothing left to compare up to the end of the step")
    necessary_, sufficient_ = not gone, stays
    word = {
        (True, True): "necessary and sufficient", (True, False): "necessary, not sufficient", (False, True): "sufficient, not necessary",
        (False, False): "neither necessary nor sufficient",
    }[necessary_, sufficient_]  # fmt: skip
    first = f"with A's in B the divergence disappears ({how})" if necessary_ else f"with A's in B {how}"
    second = "with B's in A it appears" if sufficient_ else f"with B's in A it does not appear ({other})"
    return Counterfactual(puts.what, necessary_, sufficient_, f"{puts.what} is {word}: {first}; {second}")


def _suspect(runs: tuple[Repeat, Repeat], within: tuple[Bounds, Bounds], origin: Origin, kind: str) -> _Puts | str:
    """What is put in, or why nothing can be."""
    logs = runs[0].log, runs[1].log
    x, y = origin.a, origin.b
    if origin.kind == model.RANDOM and x is not None and y is not None:
        states = [_value(log, op.random or "", "uint8", ()) for log, op in zip(logs, (x, y), strict=True)]
        if states[0] is None or states[1] is None:
            return "the states of the generator were not kept"
        return _Puts(
            f"the state of the generator before {x.name}", (_at(x, "before", state=states[1]), _at(y, "before", state=states[0])), 0
        )
    if kind != "data" and x is not None and y is not None and x.name == y.name:
        before = origin.kind in (model.INPUT, model.OUTSIDE)
        if before or origin.kind in (model.OPERATION, model.ARGUMENT):
            operands = _operands(logs, x, y, before)
            if operands is None:
                return "its tensors were not kept, or have another shape or dtype in the other run"
            names, mine, others = operands
            when = "before" if before else "after"
            what = f"{'the input' if before else 'the result'} {listed_words(names)} of {x.name}"
            return _Puts(what, (_at(x, when, others), _at(y, when, mine)), 0)
    events = [sorted(log.events) for log in logs]
    values = [[log.events[n] for n in e] for log, e in zip(logs, events, strict=True)]
    if (
        not events[0]
        or len(events[0]) != len(events[1])
        or any((p.dtype, p.shape) != (q.dtype, q.shape) for p, q in zip(*values, strict=True))
    ):
        return "the divergent tensor has another shape or dtype in the other run"
    sources = [[_value(log, v.digest, v.dtype, v.shape) for v in vs] for log, vs in zip(logs, values, strict=True)]
    if any(s is None for side in sources for s in side):
        return "the divergent tensor was not kept"
    into = tuple({"events": dict(zip(events[n], sources[1 - n], strict=True))} for n in (0, 1))
    return _Puts("the batch" if kind == "data" else "the divergent tensor", (into[0], into[1]), len(events[0]))


def _at(op: Op, when: str, operands: list[list[Any]] | None = None, *, state: list[Any] | None = None) -> dict[str, Any]:
    return {"op": op.n, "when": when, "operands": operands or [], "generator": state}


def _operands(logs: tuple[Log, Log], x: Op, y: Op, before: bool) -> tuple[list[str], list[list[Any]], list[list[Any]]] | None:
    """(names, A's values, B's values) of the differing operands of two calls of one operation."""
    names: list[str] = []
    found: tuple[list[list[Any]], list[list[Any]]] = ([], [])
    for p, q in zip(x.reads if before else x.outputs, y.reads if before else y.outputs, strict=False):
        if p.digest == q.digest:
            continue
        values = [_value(log, v.digest, v.dtype, v.shape) for log, v in zip(logs, (p, q), strict=True)]
        if (p.name, p.dtype, p.shape) != (q.name, q.dtype, q.shape) or values[0] is None or values[1] is None:
            return None
        names.append(p.name)
        for n in (0, 1):
            found[n].append([p.name, values[n]])
    return (names, *found) if names else None


def _value(log: Log, digest: str, dtype: str, shape: tuple[int, ...]) -> list[Any] | None:
    where = log.place(digest)
    return None if where is None else [*where, dtype, list(shape)]


def _execute(runner: Runner, recorded: Trace, within: Bounds, puts: _Puts, side: int) -> Trace:
    """One side to the end of the step, with the other's put in. Raises Untestable or NotRepeatable."""
    name, other = ("A", "B") if side == 0 else ("B", "A")
    runner.say(f"running {name} again with {puts.what} of {other}")
    stop = _horizon(recorded, runner.index)
    stretch = Stretch(*runner.process, within.arm, within.start, within.target, max(stop, within.stop), 1 << 40, [], puts.into[side])
    executed = runner.execute(stretch)
    from reprodebug.store.run import open_run

    try:
        with open(os.path.join(executed.run, FOLDER, "put.json"), encoding="utf-8") as f:
            why = str(json.load(f)["why"])
    except (OSError, ValueError, KeyError, TypeError):
        why = f"{name} did not come to the place again"
    if why:
        raise Untestable(why)
    try:
        trace = open_run(executed.run).trace(*runner.process)
    except (ReprodebugError, KeyError) as error:
        raise Untestable(str(error)) from error
    before = first_apart(recorded, trace, runner.index)
    if before is not None:
        raise NotRepeatable(f"{name} left its recording at {before}, before anything was put in")
    return trace


def _horizon(trace: Trace, at: int) -> int:
    """Position of the last event of the step in which event ``at`` stands."""
    from reprodebug.compare.align import steps

    step = steps(trace)
    end = at
    while end + 1 < len(step) and step[end + 1] == step[at] and end - at < _MOST_EVENTS:
        end += 1
    return int(trace.events["seq"][end])


def _parts(reference: Trace, index: int, made: Trace, own: int, behind: int) -> tuple[bool | None, str]:
    """Whether an execution parts from ``reference`` from its divergent event on (``index`` there, ``own`` in the execution), and
    where or how far they agree; None where nothing was left to compare."""
    import numpy as np

    from reprodebug.compare.align import align

    found = align(reference, made)
    e, f = reference.events[found.a], made.events[found.b]
    counts = (found.a >= index + behind) & (found.b >= own + behind)
    counts &= ((e["flags"] | f["flags"]) & Flag.UNOBSERVED) == 0
    counts &= e["kind"] != Kind.RNG
    other = counts & ((e["lo"] != f["lo"]) | (e["hi"] != f["hi"]))
    if not counts.any():
        return None, ""
    where = np.flatnonzero(other)
    if len(where):
        at = int(found.a[where[0]])
        said = "the runs part at the same place all the same" if at == index else "this divergence disappears, but the runs part again"
        return True, f"{said}, at {place(reference, at)}"
    last = int(e["step"][np.flatnonzero(counts)[-1]])
    return False, f"{plural(int(counts.sum()), 'record')} from there on are equal, up to step {last}"
