"""Fingerprints of main memory and of an accelerator say nothing about each other: never equal, never different."""

from __future__ import annotations

from typing import Any

import pytest

from reprodebug.compare.runs import compare_runs
from tests.compare.traces import run, trace, training

NOTE = {"type": "device-fingerprint", "algorithm": "mix64-sum-128", "seq": 0}


def on(device: str, rows: list[dict[str, Any]], but: str = "DataLoader#0") -> list[dict[str, Any]]:
    """The same events with every tensor on another device, those of the DataLoader excepted."""
    return [{**r, "device": r["device"] if r["root"] == but else device} for r in rows]


def test_one_on_the_gpu_one_on_the_cpu_is_no_difference() -> None:
    here, there = trace(training()), trace(on("cuda:0", training(change=(0, "a"))), [NOTE])
    for a, b, words in ((here, there, ("cpu in A", "cuda:0 in B")), (there, here, ("cuda:0 in A", "cpu in B"))):
        found = compare_runs(run(a), run(b))
        assert found.verdict == "incomparable"
        assert "different algorithms" in found.reason
        assert found.first is None
        assert found.counts.differing == 0
        assert found.coverage.share < 0.2
        whys = {u.why for u in found.coverage.unobserved}
        assert any(words[0] in w and words[1] in w and "cannot be compared" in w for w in whys), whys


def test_what_both_have_in_main_memory_still_counts() -> None:
    changed = [{**r, "value": r["value"] + (r["root"] == "DataLoader#0" and r["step"] == 1)} for r in training()]
    found = compare_runs(run(trace(training())), run(trace(on("cuda:0", changed), [NOTE])))
    assert found.verdict == "divergent"
    assert found.first is not None
    assert (found.first.kind, found.first.step) == ("data", 1)


@pytest.mark.parametrize("other", ["cuda:0", "cuda:1"])
def test_two_gpus_are_compared(other: str) -> None:
    a, b = trace(on("cuda:0", training()), [NOTE]), trace(on(other, training(change=(1, "b"))), [NOTE])
    found = compare_runs(run(a), run(b))
    assert found.verdict == "divergent"
    assert found.first is not None
    assert (found.first.step, found.first.module) == (1, "b")
    same = compare_runs(run(a), run(trace(on(other, training()), [NOTE])))
    assert same.verdict == "identical"


def test_replayed_graphs_are_named() -> None:
    notes = [NOTE, {"type": "graphs", "replays": 12, "seq": 0}]
    found = compare_runs(run(trace(on("cuda:0", training()), notes)), run(trace(on("cuda:0", training()), notes)))
    assert [(u.what, "12 times" in u.why) for u in found.coverage.unobserved if "graph" in u.what] == [("CUDA graphs", True)]


def test_another_version_of_the_algorithm_is_not_compared() -> None:
    newer = {**NOTE, "algorithm": "another-128"}
    found = compare_runs(run(trace(on("cuda:0", training()), [NOTE])), run(trace(on("cuda:0", training(change=(0, "a"))), [newer])))
    assert found.verdict == "incomparable"
