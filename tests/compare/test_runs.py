"""Which record is the partner of which, what is first, and what the verdict is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprodebug._base.errors import NothingComparable
from reprodebug.compare import align as alignment
from reprodebug.compare.align import align
from reprodebug.compare.runs import compare_runs
from reprodebug.model.comparison import Tolerance
from reprodebug.model.events import Flag, Kind, Phase
from tests.compare.traces import event, run, trace, training


def compared(a, b, **tolerance):
    return compare_runs(run(trace(a)), run(trace(b)), Tolerance(**tolerance))


def test_identical() -> None:
    c = compared(training(), training())
    assert (c.verdict, c.first, c.counts.differing) == ("identical", None, 0)
    assert c.coverage.share == 1.0


@pytest.mark.parametrize("where", [(0, "a"), (1, "c"), (2, "b")])
def test_first_is_first_in_execution_order(where: tuple[int, str]) -> None:
    c = compared(training(), training(change=where))
    assert c.verdict == "divergent"
    assert (c.first.step, c.first.module, c.first.kind, c.first.phase) == (*where, "activation", "forward")
    assert c.layers[0].first == c.first


def test_an_extra_pass_before_it_costs_a_gap_not_a_difference() -> None:
    b = training()
    at = next(n for n, e in enumerate(b) if e["step"] == 1)
    extra = [event(m, 7000 + k, step=1, shape=(1,), flags=Flag(0)) for k in range(12) for m in ("a", "b", "c")]
    c = compared(training(), b[:at] + extra + b[at:])
    assert (c.verdict, c.counts.differing, c.counts.only_b) == ("identical", 0, 36)
    assert [(g.side, g.step, g.records) for g in c.gaps] == [("b", 1, 36)]


def passes(first: int, batches: list[int], scale: int = 0) -> list[dict[str, Any]]:
    """Parameters, then for each batch a forward and a backward pass, then one update; ``scale`` changes the loss alone."""
    rows = [event("a", 1, tensor="weight", kind=Kind.PARAMETER, phase=Phase.INIT, flags=Flag(0))]
    for n, batch in enumerate(batches):
        rows += [event("", batch, tensor="input.0", kind=Kind.DATA), event("a", batch + 1), event("b", batch + 2)]
        rows.append(event("", batch + scale + 3, tensor="loss.0", kind=Kind.LOSS, root="loss"))
        rows.append(event("a", first + batch + scale + n, tensor="weight.grad", kind=Kind.GRADIENT, phase=Phase.BACKWARD))
    return [*rows, event("a", first + scale, tensor="weight", kind=Kind.PARAMETER, phase=Phase.OPTIMIZER)]


def test_accumulated_gradients_meet_those_of_the_same_batch() -> None:
    """B halves the loss and goes on with a second batch before its step: the loss of the first is what differs."""
    c = compared(passes(0, [100]), passes(0, [100, 200], scale=1000))
    assert c.first is not None
    assert (c.first.kind, c.first.index_a, c.first.index_b) == ("loss", 4, 4)


def test_a_whole_pass_of_one_run_alone_meets_nothing() -> None:
    """B tries another batch forward and backward before it begins as A does."""
    c = compared(passes(0, [100]), passes(0, [200, 100]))
    assert c.first is not None
    assert (c.first.kind, c.first.index_a, c.first.index_b) == ("gradient", 5, 10)  # it adds to what is there


def test_an_inserted_layer_costs_a_gap_in_each_step() -> None:
    c = compared(training(), training(modules=("a", "new", "b", "c")))
    assert (c.verdict, c.counts.differing) == ("identical", 0)
    assert {g.module for g in c.gaps} == {"new"}


def test_a_call_in_the_wrong_mode_still_meets_its_partner() -> None:
    b = training(change=(1, "b"))
    b = [e | {"flags": Flag(0)} if e["step"] >= 1 and e["kind"] == Kind.ACTIVATION else e for e in b]
    b.insert(5, event("a", 1, step=0, tensor="extra"))  # so that the steps are not alike record by record
    c = compared(training(), b)
    assert (c.first.step, c.first.module) == (1, "b")
    assert "train/eval mode: A train, B eval" in c.equal_before


def test_another_shape_is_a_difference_of_the_same_place() -> None:
    b = [e | {"shape": (5,), "value": e["value"] + 1} if e["phase"] == Phase.DATA else e for e in training()]
    c = compared(training(), b)
    assert (c.first.kind, c.first.shape, c.first.shape_b) == ("data", (4,), (5,))


def test_optimizer_state_alone_does_not_make_runs_divergent() -> None:
    b = [e | {"value": e["value"] + 1} if e["kind"] == Kind.OPTIMIZER else e for e in training()]
    assert compared(training(), b).verdict == "identical"


def test_optimizer_state_is_first_where_it_reaches_its_parameter() -> None:
    def touch(e, step):
        return e | {"value": e["value"] + 1}

    b = [
        touch(e, 0)
        if e["module"] == "b" and ((e["kind"] == Kind.OPTIMIZER and e["step"] == 0) or (e["kind"] == Kind.PARAMETER and e["step"] == 1))
        else e
        for e in training()
    ]
    c = compared(training(), b)
    assert (c.first.kind, c.first.step, c.first.module) == ("optimizer", 0, "b")


def test_updates_meet_their_partners_in_whatever_order_the_optimizer_takes_them() -> None:
    events = training(2)
    first = [n for n, e in enumerate(events) if e["step"] == 0 and e["kind"] == Kind.PARAMETER and e["phase"] == Phase.OPTIMIZER]
    turned = list(events)
    for n, m in zip(first, reversed(first), strict=True):
        turned[n] = events[m]
    assert compared(events, turned).verdict == "identical"
    changed = [e | {"value": e["value"] + 1} if n == first[0] else e for n, e in enumerate(turned)]
    for x, y in ((events, changed), (changed, events)):
        c = compared(x, y)
        assert (c.first.kind, c.first.step, c.first.phase, c.first.module) == ("parameter", 0, "optimizer", turned[first[0]]["module"])
        assert c.counts.only_a == c.counts.only_b == 0


def test_a_longer_run_is_identical_as_far_as_both_go() -> None:
    c = compared(training(2), training(4))
    assert c.verdict == "identical"
    assert "B goes on for 2 steps more" in c.reason
    cut = compare_runs(run(trace(training(4))), run(trace(training(4)[:20]), complete=False))
    assert cut.verdict == "identical"
    assert "B did not finish" in cut.reason


def test_too_little_in_common_is_incomparable() -> None:
    only_parameters = training(0)
    assert compared(only_parameters, only_parameters).verdict == "incomparable"
    c = compared(training(modules=("a", "b", "c")), training(modules=("x", "y", "z", "w")))
    assert c.verdict == "incomparable"


def test_nothing_recorded_is_refused() -> None:
    with pytest.raises(NothingComparable, match="run B recorded no tensor"):
        compare_runs(run(trace(training())), run(trace([])))


def test_unreadable_values_lower_coverage_and_are_never_called_equal() -> None:
    blind = [e | {"flags": e["flags"] | Flag.UNOBSERVED, "value": 0} if e["kind"] != Kind.LOSS else e for e in training()]
    c = compared(blind, blind)
    assert c.verdict == "incomparable"
    assert c.counts.unobserved > 20
    assert c.coverage.share == 0.0


def test_ranks_each_have_a_first_and_the_earliest_step_wins() -> None:
    a = run(trace(training()), trace(training()))
    b = run(trace(training(change=(2, "a"))), trace(training(change=(1, "c"))))
    c = compare_runs(a, b)
    assert (c.first.rank, c.first.step, c.first.module) == (1, 1, "c")
    assert [d.rank for d in c.first_by_rank] == [1, 0]


def test_different_hashes_are_refused() -> None:
    notes = [[{"type": "start", "fingerprint": f}] for f in ("xxh3-128", "blake2b-128")]
    with pytest.raises(NothingComparable, match="different hashes"):
        compare_runs(run(trace(training(), notes[0])), run(trace(training(), notes[1])))


def test_a_tolerance_without_tensors_cannot_be_judged() -> None:
    c = compared(training(), training(change=(1, "b")), atol=1.0)
    assert c.verdict == "divergent"
    assert "cannot be judged" in c.reason


def test_swapping_the_runs_swaps_the_answer() -> None:
    one = compared(training(), training(modules=("a", "new", "b", "c"), change=(1, "b")))
    two = compared(training(modules=("a", "new", "b", "c"), change=(1, "b")), training())
    assert (one.first.step, one.first.module) == (two.first.step, two.first.module)
    assert (one.counts.only_a, one.counts.only_b) == (two.counts.only_b, two.counts.only_a)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abcd"), max_size=30), st.lists(st.sampled_from("abcd"), max_size=30), st.booleans())
def test_alignment_pairs_equal_places_in_increasing_order(a: list[str], b: list[str], long: bool) -> None:
    ta, tb = trace([event(m, 1) for m in a]), trace([event(m, 1) for m in b])
    before = alignment._LONG
    alignment._LONG = 0 if long else before
    try:
        found = align(ta, tb)
    finally:
        alignment._LONG = before
    assert [a[i] for i in found.a] == [b[j] for j in found.b]
    assert (np.diff(found.a) > 0).all()
    assert (np.diff(found.b) > 0).all()
    assert sorted([*found.a, *found.only_a]) == list(range(len(a)))
    assert sorted([*found.b, *found.only_b]) == list(range(len(b)))
    if a == b:
        assert len(found.a) == len(a)


@pytest.mark.parametrize("parts", [False, True])
def test_threads_that_train_by_turns_are_compared_each_with_itself(parts: bool) -> None:
    def trained(turns: str, change: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for step, root in enumerate(turns):
            n = turns[:step].count(root)
            value = 100 * (n + 1) + 50 * (root == "R") + change * (root == "R" and n >= 2)
            own: dict[str, Any] = {"step": step, "thread": "LR".index(root)}
            rows.append(event("a", value, root=root, **own))
            rows.append(event("", value + 10, root="loss", kind=Kind.LOSS, **own))
            rows.append(event("a", value + 20, root=root, tensor="weight", kind=Kind.PARAMETER, phase=Phase.OPTIMIZER, **own))
        return rows

    c = compared(trained("LRLRLRLR", 0), trained("LLRLRRLR", int(parts)))
    if not parts:
        assert (c.verdict, c.counts.compared, c.counts.only_a) == ("identical", 24, 0)
    else:
        assert (c.layers[0].root, c.first.module, c.first.kind, c.first.step, c.counts.differing) == ("R", "a", "activation", 5, 6)


@pytest.mark.parametrize("change", [0, 1])
def test_which_thread_took_a_piece_of_work_is_no_difference(change: int) -> None:
    def trained(pieces: str, change: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for step in range(2):
            for n, piece in enumerate(pieces):
                value = 100 * ord(piece) + 10 * change * step
                rows += [event("a", value + k, step=step, thread=n % 3, flags=flag) for k, flag in enumerate((Flag.INPUT, Flag.TRAINING))]
            rows.append(event("a", step + change, step=step, tensor="weight", kind=Kind.PARAMETER, phase=Phase.OPTIMIZER))
        return rows

    c = compared(trained("abcd", 0), trained("dbac", change))
    if not change:
        assert (c.verdict, c.counts.compared, c.counts.only_a) == ("identical", 18, 0)
    else:
        assert (c.first.kind, c.first.step, c.counts.differing, c.counts.only_a) == ("parameter", 0, 10, 0)


def test_steps_of_a_program_without_an_optimizer_survive_the_counter_wrapping() -> None:
    rows = [event("a", 1, turn=n & 0xFFFF) for n in range(65530, 65545)]
    assert np.array_equal(np.diff(alignment.steps(trace(rows))), np.ones(14))


@pytest.mark.parametrize(("step", "reason"), [(0, "the optimizer was built differently"), (2, "the optimizer was set differently")])
def test_a_rate_that_a_schedule_changes_is_told_from_one_that_was_built_in(step: int, reason: str) -> None:
    def noted(rate: float) -> list[dict[str, Any]]:
        note = {"type": "optimizer", "number": 0, "class": "SGD"}
        rates = [(0, 0.1), (step, rate)] if step else [(0, rate)]
        return [note | {"step": s, "groups": [{"lr": r}]} for s, r in rates]

    a, b = run(trace(training(), noted(0.1))), run(trace(training(change=(step, "c")), noted(0.2)))
    found = next(d for d in compare_runs(a, b, Tolerance()).differences if d.key == "optimizer#0.lr")
    assert found.reason == reason
