"""A training cut into several processes, or of which the later part alone was recorded, meets one that was not cut; other programs
in a row do not become one."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from reprodebug._base.errors import NothingComparable
from reprodebug.compare.runs import examine
from reprodebug.model.events import Flag, Phase
from reprodebug.model.run import Process
from reprodebug.store.run import StoredRun
from tests.compare.traces import event, run, trace, training


def several(*parts: list[dict[str, Any]], scripts: tuple[str, ...] = (), starts: tuple[str, ...] = ()) -> StoredRun:
    """A run whose processes of rank 0 recorded these events, one after the other."""
    traces, processes = [], []
    for n, events in enumerate(parts):
        started = starts[n] if starts else f"2026-01-01T00:0{n}:00+00:00"
        notes = [{"type": "start", "started": started, "seq": 0}, {"type": "optimizer", "number": 0, "step": 0, "class": "SGD", "seq": 0}]
        traces.append(trace(events, notes))
        traces[-1].events["time_ms"] = range(len(events))
        script = scripts[n] if scripts else "train.py"
        steps = max(e["step"] for e in events) + 1
        processes.append(Process(0, n, 100 + n, ("python", script, str(n)), f"trace-rank0-{n}.h5", len(events), steps, True))
    whole = run(traces[0])
    return StoredRun("run", dataclasses.replace(whole.manifest, processes=tuple(processes)), (), {(0, n): t for n, t in enumerate(traces)})


def cut(events: list[dict[str, Any]], at: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One training as two, the second of which counts its steps from 0."""
    return [e for e in events if e["step"] < at], [{**e, "step": e["step"] - at} for e in events if e["step"] >= at]


def test_a_training_in_two_processes_is_compared_as_one() -> None:
    whole = several(training(4))
    for a, b in ((whole, several(*cut(training(4), 2))), (several(*cut(training(4), 2)), whole)):
        c = examine(a, b).comparison
        assert c.verdict == "identical" and "goes on for" not in c.reason
        assert c.counts.compared == len(training(4)) and not c.counts.only_a and not c.counts.only_b
        assert not c.coverage.unobserved and (c.a.steps, c.b.steps) == (4, 4)


def test_what_differs_after_the_restart_is_found_at_its_step() -> None:
    changed = several(*cut(training(4, change=(3, "b")), 2))
    examined = examine(several(training(4)), changed)
    first = examined.comparison.first
    assert first is not None and (first.step, first.module, first.kind) == (3, "b", "activation")
    assert examined.pair is not None
    numbers = [(n["number"], n["step"]) for n in examined.pair.b.notes_meta if n["type"] == "optimizer"]
    assert numbers == [(0, 0), (1, 2)], "the second process makes another optimizer, as one process that resumes does"


@pytest.mark.parametrize(
    "how",
    [
        {"scripts": ("train.py", "evaluate.py")},
        {"starts": ("2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00")},
    ],
    ids=["another program", "at the same time"],
)
def test_other_processes_stay_apart_and_are_named(how: dict[str, Any]) -> None:
    c = examine(several(training(4)), several(*cut(training(4), 2), **how)).comparison
    assert c.verdict == "identical" and "not compared: process 2 of rank 0 of run B" in c.reason
    assert [u.what for u in c.coverage.unobserved] == ["process 2 of rank 0 of run B"]


def test_a_second_training_does_not_go_on_from_a_whole_one() -> None:
    c = examine(several(training(2)), several(training(2), training(2, change=(0, "a")))).comparison
    assert c.verdict == "identical" and "not compared" in c.reason


def part_two(events: list[dict[str, Any]], at: int, *options: str, weights: int = 400) -> StoredRun:
    """The second part of a training, recorded by itself: it begins with the weights that the first part ended with."""
    rest = cut(events, at)[1]
    notes = [{"type": "optimizer", "number": 0, "step": 0, "class": "SGD", "seq": 0}]
    initial = [{**e, "value": weights + at - 1} for e in events if e["phase"] == Phase.INIT]
    found = run(trace(initial + rest, notes))
    return dataclasses.replace(found, manifest=dataclasses.replace(found.manifest, command=("python", "train.py", *options)))


RESUME = ("--resume", "ck.pt")


@pytest.mark.parametrize("turned", [False, True])
def test_the_second_part_of_a_training_meets_the_whole_where_it_goes_on(turned: bool) -> None:
    whole = run(trace(training(4), [{"type": "optimizer", "number": 0, "step": 0, "class": "SGD", "seq": 0}]))
    for change, verdict in ((None, "identical"), ((3, "b"), "divergent")):
        part = part_two(training(4, change=change), 2, *RESUME)
        c = (examine(part, whole) if turned else examine(whole, part)).comparison
        assert c.verdict == verdict
        assert ("A begins with the weights that B" if turned else "B begins with the weights that A") + " had after 2 steps" in c.reason
        assert c.counts.compared == len(cut(training(4), 2)[1]) and not c.counts.only_a and not c.counts.only_b
        if c.first is not None:
            assert (c.first.step, c.first.module, c.first.kind) == (3, "b", "activation")
            assert not any("initial parameter" in text for text in c.equal_before), "those were not compared"


def test_a_run_that_was_not_told_to_go_on_has_come_apart_at_its_start() -> None:
    """It found weights that an earlier run left. The same where the weights are none that the other run ever had."""
    whole = run(trace(training(4)))
    for other in (part_two(training(4), 2), part_two(training(4), 2, *RESUME, weights=900)):
        c = examine(whole, other).comparison
        assert c.verdict == "divergent" and c.first is not None and (c.first.step, c.first.phase) == (0, "init")
        assert "begins with the weights" not in c.reason


@pytest.mark.parametrize("evaluated", [False, True])
def test_two_parts_of_one_training_have_no_step_in_common(evaluated: bool) -> None:
    first = training(2) + ([event("a", 7, step=2, flags=Flag(0))] if evaluated else [])
    with pytest.raises(NothingComparable, match="B begins with the weights that the other run ended with"):
        examine(run(trace(first)), part_two(training(4), 2, *RESUME))
