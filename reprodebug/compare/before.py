"""What was still equal just before the first divergence: the evidence that later reasoning starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reprodebug._base.text import plural
from reprodebug.model.events import Flag, Kind, Phase

if TYPE_CHECKING:
    from reprodebug.compare.runs import Pair


def equal_before(pair: Pair, at: int) -> tuple[str, ...]:
    """One sentence for each kind of record that was compared, and equal, before position ``at`` of the alignment."""
    import numpy as np

    index_a, index_b = pair.align.a, pair.align.b
    wrong = np.zeros(len(index_a), bool)
    wrong[pair.mismatch] = True
    kind, phase, ok = pair.a.events["kind"][index_a[:at]], pair.a.events["phase"][index_a[:at]], ~wrong[:at]
    event, partner = pair.a.events[index_a[at]], pair.b.events[index_b[at]]
    step = int(pair.align.step_a[index_a[at]])
    rows: list[str] = []

    def count(which: Any, noun: str, where: str) -> None:
        n = int((which & ok).sum())
        if n and n == int(which.sum()):
            rows.append(f"{plural(n, noun)} {where}: equal")

    count((kind == Kind.PARAMETER) & (phase == Phase.INIT), "initial parameter", "and buffers")
    count(kind == Kind.DATA, "batch tensor", "before it")
    count((kind == Kind.ACTIVATION), "activation", "before it")
    count(kind == Kind.LOSS, "loss", "before it")
    count(kind == Kind.GRADIENT, "gradient", "before it")
    count((kind == Kind.PARAMETER) & (phase == Phase.OPTIMIZER), "updated parameter", "before it")
    count(kind == Kind.OPTIMIZER, "optimizer state", "before it")
    if event["kind"] == Kind.ACTIVATION and event["phase"] == Phase.FORWARD:
        rows += _inputs(pair, at, wrong)
    rows += _circumstances(pair, event, partner, step)
    return tuple(rows)


def inputs_of_call(pair: Pair, at: int, wrong: Any) -> tuple[int, int]:
    """(inputs of the call of the record at ``at`` that were compared, how many of them differ)."""
    event = pair.a.events[pair.align.a[at]]
    place = pair.a.sites[event["site"]][:2]
    seen = different = 0
    for k in range(at - 1, max(at - 4000, -1), -1):
        other = pair.a.events[pair.align.a[k]]
        if other["step"] != event["step"]:
            break
        if pair.a.sites[other["site"]][:2] == place and other["flags"] & Flag.INPUT and other["call"] == event["call"]:
            seen += 1
            different += bool(wrong[k])
    return seen, different


def _inputs(pair: Pair, at: int, wrong: Any) -> list[str]:
    """Were the inputs of this very call equal?"""
    place = pair.a.sites[pair.a.events[pair.align.a[at]]["site"]][:2]
    seen, different = inputs_of_call(pair, at, wrong)
    if not seen:
        return []
    name = place[1] or "the model"
    if different:
        return [f"{plural(different, 'input')} of {name} in this call: different already"]
    return [f"{plural(seen, 'input')} of {name} in this call: equal"]


def _circumstances(pair: Pair, event: Any, partner: Any, step: int) -> list[str]:
    rows = []
    states = []
    for trace, e in ((pair.a, event), (pair.b, partner)):
        rows_by_id = rng_digests(trace)
        states.append(rows_by_id.get(int(e["rng"])))
    if states[0] is not None and states[1] is not None:
        same = "equal" if states[0] == states[1] else "different already"
        rows.append(f"state of torch's CPU generator just before: {same}")
    if event["phase"] == Phase.FORWARD:
        for flag, name in ((Flag.TRAINING, "train/eval mode"), (Flag.GRAD, "gradient mode"), (Flag.AUTOCAST, "autocast")):
            a, b = bool(event["flags"] & flag), bool(partner["flags"] & flag)
            if event["kind"] == Kind.ACTIVATION:
                words = {Flag.TRAINING: ("train", "eval")}.get(flag, ("on", "off"))
                rows.append(f"{name}: equal" if a == b else f"{name}: A {words[0 if a else 1]}, B {words[0 if b else 1]}")
    return rows


def rng_digests(trace: Any) -> dict[int, tuple[int, int]]:
    """Row number of a generator state -> its fingerprint as two words."""
    return {int(i): (int(lo), int(hi)) for i, lo, hi in zip(trace.rng["id"], trace.rng["lo"], trace.rng["hi"], strict=True)}
