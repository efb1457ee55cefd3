"""Which stretch of each run is looked at: from the last point at which all that went in was equal, to the first divergence.

A stretch is bounded by events. It begins inside the divergent call where the divergence is a module's output; with the
backward of the module where it is a gradient; behind the last gradient where it is a parameter after a step; and at the
program's beginning where it is a parameter before its first use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reprodebug.model.events import Flag, Kind, Phase

if TYPE_CHECKING:
    from reprodebug.compare.runs import Pair
    from reprodebug.store.trace import Trace


@dataclass(frozen=True, slots=True)
class Bounds:
    """A stretch of one run, in events."""

    arm: int
    """events recorded before operations are followed"""
    start: int
    """events recorded before the first operation that is written down; 0: the program's beginning"""
    target: int
    """position of the divergent event"""
    stop: int
    """position of the event at which the stretch ends: that one, or the last of the batch that it belongs to"""

    @property
    def whole(self) -> bool:
        """Whether it begins with the program."""
        return self.start == 0


def bounds(pair: Pair, at: int) -> tuple[Bounds, Bounds]:
    """The stretch of A and of B for the divergence at position ``at`` of the alignment."""
    at = _reaching(pair, at)
    ia, ib = int(pair.align.a[at]), int(pair.align.b[at])
    kind, phase, flags = (int(pair.a.events[n][ia]) for n in ("kind", "phase", "flags"))
    if kind == Kind.PARAMETER and phase == Phase.INIT:
        return _made(pair.a, -1, ia), _made(pair.b, -1, ib)
    own = _output if kind == Kind.ACTIVATION and not flags & Flag.INPUT else _gradient if kind == Kind.GRADIENT else None
    if own is not None:
        ja, jb = own(pair.a, ia), own(pair.b, ib)
        if ja is not None and jb is not None and _place(pair.a, ja) != _place(pair.b, jb):  # one side shows less of its backward pass
            ja, jb = _before_backward(pair.a, ia), _before_backward(pair.b, ib)
        if ja is not None and jb is not None:
            return _made(pair.a, ja, ia), _made(pair.b, jb, ib)
    if kind in (Kind.PARAMETER, Kind.OPTIMIZER) and phase == Phase.OPTIMIZER:
        return _made(pair.a, _before_phase(pair.a, ia), ia), _made(pair.b, _before_phase(pair.b, ib), ib)
    if kind == Kind.PARAMETER:
        return _made(pair.a, _same_site(pair.a, ia), ia), _made(pair.b, _same_site(pair.b, ib), ib)
    k = _last_equal(pair, at)
    if k < 0:
        return _made(pair.a, -1, ia), _made(pair.b, -1, ib)
    ja, jb = int(pair.align.a[k]), int(pair.align.b[k])
    return _made(pair.a, ja, ia), _made(pair.b, jb, _soonest(pair, jb, ia, ib))


def widest(narrow: Bounds) -> Bounds:
    """The same end, from the program's beginning on."""
    return Bounds(0, 0, narrow.target, narrow.stop)


def _reaching(pair: Pair, at: int) -> int:
    """An optimizer's state is no tensor that a stretch can end with: the parameter that it reached is."""
    if int(pair.a.events["kind"][pair.align.a[at]]) != Kind.OPTIMIZER:
        return at
    for m in pair.mismatch.tolist():
        if m > at and int(pair.a.events["kind"][pair.align.a[m]]) == Kind.PARAMETER:
            return int(m)
    return at


def _made(trace: Trace, last: int, stop: int) -> Bounds:
    """``last``: position of the last event before the stretch, -1 for none."""
    events = trace.events
    end = stop
    while events["kind"][stop] == Kind.DATA and end + 1 < len(events) and _burst(trace, end + 1) == _burst(trace, stop):
        end += 1
    ends = int(events["seq"][stop]), int(events["seq"][end])
    if last < 0:
        return Bounds(0, 0, *ends)
    arm = last
    phases, recomputed = events["phase"], events["flags"] & Flag.RECOMPUTE
    backward = bool(Phase.BACKWARD in (phases[stop], phases[last]) or recomputed[stop] or recomputed[last])
    while arm >= 0 and (phases[arm] == Phase.BACKWARD or (backward and phases[arm] == Phase.FORWARD)):
        arm -= 1
    return Bounds(int(events["seq"][arm]) + 1 if arm >= 0 else 0, int(events["seq"][last]) + 1, *ends)


def _place(trace: Trace, i: int) -> tuple[str, str, str]:
    root, module, _, tensor = trace.sites[int(trace.events["site"][i])]
    return root, module, tensor


def _output(trace: Trace, i: int) -> int | None:
    """The last input event of the call whose output event ``i`` is."""
    e = trace.events
    root, module, _ = _place(trace, i)
    step, call = e["step"][i], e["call"][i]
    for j in range(i - 1, -1, -1):
        if e["step"][j] != step:
            break
        if e["flags"][j] & Flag.INPUT and e["call"][j] == call and _place(trace, j)[:2] == (root, module):
            return j
    return None


def _gradient(trace: Trace, i: int) -> int | None:
    """For a parameter's gradient: the first gradient of an output of its module in this backward; else where backward began."""
    e = trace.events
    root, module, tensor = _place(trace, i)
    own: int | None = None
    j = i - 1
    while j >= 0 and e["phase"][j] == Phase.BACKWARD:
        there = _place(trace, j)
        if there[:2] == (root, module) and there[2].startswith("output") and not tensor.startswith("output"):
            own = j
        j -= 1
    return own if own is not None else (j if j >= 0 else None)


def _before_backward(trace: Trace, i: int) -> int | None:
    """The last event before the backward pass in which event ``i`` stands; None for none, and outside of one."""
    phases = trace.events["phase"]
    j = i
    while j >= 0 and phases[j] == Phase.BACKWARD:
        j -= 1
    return j if 0 <= j < i else None


def _before_phase(trace: Trace, i: int) -> int:
    """The last event before the optimizer's step in which event ``i`` stands."""
    e = trace.events
    j = i
    while j >= 0 and e["phase"][j] == Phase.OPTIMIZER and e["step"][j] == e["step"][i]:
        j -= 1
    return j


def _same_site(trace: Trace, i: int) -> int:
    """The last event of the same parameter before event ``i``; -1 where there is none."""
    e = trace.events
    for j in range(i - 1, -1, -1):
        if e["site"][j] == e["site"][i]:
            return j
    return -1


def _soonest(pair: Pair, after: int, ia: int, ib: int) -> int:
    """Where B first records the place of event ``ia`` of A after its event ``after``, if that differs; its partner ``ib`` otherwise.

    A run that does a thing twice in a step may have its second time for a partner: what differs came in with the first.
    """
    mine = _place(pair.a, ia)
    a, b = pair.a.events, pair.b.events
    shape = pair.a.metas[int(a["meta"][ia])][:2]
    for j in range(after + 1, ib):
        alike = all(b[n][j] == a[n][ia] for n in ("kind", "phase", "flags")) and pair.b.metas[int(b["meta"][j])][:2] == shape
        alike = alike and _place(pair.b, j) == mine
        if alike and (b["lo"][j], b["hi"][j]) != (a["lo"][ia], a["hi"][ia]):
            return j
    return ib


def _last_equal(pair: Pair, at: int) -> int:
    """The last pair of the alignment before ``at`` that is no part of the same batch, or of the same call's inputs."""

    mine = _burst(pair.a, int(pair.align.a[at]))
    k = at - 1
    while k >= 0 and _burst(pair.a, int(pair.align.a[k])) == mine:
        k -= 1
    return k


def _burst(trace: Trace, i: int) -> tuple[Any, ...]:
    """What the tensors of one batch, or the inputs of one call, have in common."""
    e = trace.events
    root, module, _ = _place(trace, i)
    return root, module, int(e["kind"][i]), int(e["phase"][i]), int(e["step"][i]), int(e["call"][i])
