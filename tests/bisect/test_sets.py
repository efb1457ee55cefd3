"""The search over sets: exact on monotone questions, few questions, honest where sets cannot be tried."""

from __future__ import annotations

import math
import random
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprodebug.bisect.search.belief import Sets
from reprodebug.bisect.search.noise import decided, rate, runs_needed
from reprodebug.bisect.search.sets import solve
from tests.bisect import simulated


@given(st.integers(1, 30), st.data())
@settings(max_examples=200, deadline=None)
def test_the_smallest_set_is_found(n: int, data: st.DataObject) -> None:
    items = [f"i{k}" for k in range(n)]
    culprits = data.draw(st.sets(st.sampled_from(items), min_size=1, max_size=4))
    weights = data.draw(st.dictionaries(st.sampled_from(items), st.floats(0.01, 50)))
    asked = []

    def bad(chosen: frozenset[str]) -> bool:
        asked.append(chosen)
        return culprits <= chosen

    assert set(solve(items, weights, bad).items) == culprits
    assert frozenset() not in asked


@given(st.integers(1, 30), st.integers(2, 5), st.data())
@settings(max_examples=100, deadline=None)
def test_several_sets_at_once_find_the_same(n: int, width: int, data: st.DataObject) -> None:
    items = [f"i{k}" for k in range(n)]
    culprits = data.draw(st.sets(st.sampled_from(items), min_size=1, max_size=3))
    batches = []
    found = solve(items, None, lambda chosen: culprits <= chosen, width=width, ahead=batches.append)
    assert set(found.items) == culprits
    assert all(len(set(b)) == len(b) <= width for b in batches)
    assert n < 8 or width < 3 or len(batches) <= len(culprits) * (math.ceil(math.log2(n)) // 2 + 3)


@pytest.mark.parametrize(("n", "k", "most"), [(20, 3, 15), (200, 3, 26), (23, 1, 7), (3, 1, 3)])
def test_questions_stay_few(n: int, k: int, most: int) -> None:
    rng = random.Random(n)
    items = [str(i) for i in range(n)]
    for _ in range(300):
        culprits, asked = set(rng.sample(items, k)), []
        solve(items, None, lambda chosen, c=culprits, a=asked: a.append(1) or c <= chosen)  # type: ignore[misc,func-returns-value]
        assert len(asked) <= most


def test_a_right_suspicion_takes_one_question() -> None:
    items = [str(i) for i in range(16)]
    asked: list[frozenset[str]] = []

    def bad(chosen: frozenset[str]) -> bool:
        asked.append(chosen)
        return "11" in chosen

    assert solve(items, {"11": 100.0}, bad).items == ("11",)
    assert asked == [frozenset({"11"})]


def test_items_that_cannot_be_tried_apart_are_named_together() -> None:
    def bad(chosen: frozenset[str]) -> bool | None:
        return None if ("b" in chosen) != ("c" in chosen) else "c" in chosen

    found = solve(["a", "b", "c", "d"], None, bad)
    assert set(found.items) == {"b", "c"}
    assert found.together == (("b", "c"),)


def test_a_sequential_test_decides_only_when_it_may() -> None:
    assert decided(1, 0, 0.0, 0.0) is True
    assert decided(0, 1, 0.0, 0.5) is None
    assert decided(0, 8, 0.02, 0.5) is False
    assert decided(1, 0, 0.05, 0.05) is None
    assert decided(2, 0, 0.05, 0.05) is True


def test_rates_and_runs() -> None:
    assert 0 < rate(0, 5) < 0.1
    assert rate(5, 5) > 0.9
    assert runs_needed(1.0) == 1
    assert runs_needed(0.5, 0.99) == 7
    assert runs_needed(0.0) == 12


@pytest.mark.parametrize(
    ("n", "k"), [*((n, 1) for n in (1, 2, 3, 5, 8, 9, 23, 200)), *((n, 2) for n in (2, 3, 5, 8, 20)), (20, 3), (200, 3), (40, 5)]
)
def test_a_steady_program_takes_few_trials_ends_and_confirmation_included(n: int, k: int) -> None:
    rng = random.Random(n)
    for _ in range(25):
        found, right, trials = simulated.smallest(n, k, rng)
        assert right and found.necessary and (0.9 if k < 5 else 0.8) <= found.confidence <= 0.99
        assert trials <= min(1.6 * math.log2(math.comb(n, k)) + 5, {(20, 3): 20, (200, 3): 34}.get((n, k), 99))


@pytest.mark.parametrize(("n", "k"), [(5, 1), (20, 1), (8, 2), (20, 2)])
@pytest.mark.parametrize("how", [{"shows": 0.5}, {"shows": 0.7, "like_b": 0.0}, {"odd": 0.1}], ids=str)
def test_a_set_that_shows_only_at_times_is_seldom_mistaken(how: dict[str, float], n: int, k: int) -> None:
    rng = random.Random(5)
    said = [simulated.smallest(n, k, rng, **how) for _ in range(24)]
    found = [(d, right) for d, right, _ in said if d.outcome == "found"]
    assert len(found) >= 14
    assert sum(not right for _, right in found) <= 6
    assert all(trials <= 320 for *_, trials in said)


def test_an_answer_that_holds_too_much_is_taken_back() -> None:
    """B varies, and showed the difference in its first trials: a set that lacks nothing but showed nothing once is tried again."""
    sets = Sets([frozenset("x"), frozenset("y")], frozenset("vwxyz"))
    answers = {frozenset("vwxyz"): (0, 2, 0), frozenset("vwx"): (1, 0, 0), frozenset("xy"): (0, 1, 0), frozenset("y"): (1, 0, 0)}
    before = sets.weigh(answers)
    assert before.leader == frozenset("xy") and before.settled and before.probability < 0.99
    assert before.question == frozenset("x")
    answers[frozenset("x")] = (0, 1, 0)
    after = sets.weigh(answers)
    assert after.leader == frozenset("x") and after.contradicted


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("n", [2, 3, 6, 10, 11, 30])
def test_independent_causes_are_found_one_after_the_other(n: int, slots: int) -> None:
    rng = random.Random(n)
    for _ in range(8):
        items = [f"i{i}" for i in range(n)]
        some = rng.sample(items, min(n, 4))
        causes = [{some[0]}, {some[1]}] if n < 10 or rng.random() < 0.5 else [set(some[:2]), set(some[2:])]
        found, trials = simulated.whole(n, causes, rng, slots=slots)
        assert sorted(map(sorted, found.causes)) == sorted(map(sorted, causes))
        assert found.necessary and found.sufficient and trials <= 45


@pytest.mark.parametrize("n", [3, 6, 10, 11])
def test_one_item_that_needs_either_of_two_others(n: int) -> None:
    rng = random.Random(n)
    for _ in range(6):
        items = [f"i{i}" for i in range(n)]
        one, *others = rng.sample(items, 3)
        found, trials = simulated.whole(n, [{one, x} for x in others], rng)
        assert one in found.items and len(found.items) == 2 and set(found.items) <= {one, *others}
        assert found.necessary and found.sufficient and trials <= 35


def test_what_is_found_was_tried_itself() -> None:
    for n in (1, 2, 3, 4, 6, 9):
        items = [f"i{i}" for i in range(n)]
        for k in range(1, min(n, 3) + 1):
            for culprits in random.Random(n).sample(list(combinations(items, k)), min(4, math.comb(n, k))):
                found, trials = simulated.whole(n, [set(culprits)], random.Random(0))
                assert set(found.items) == set(culprits) and found.sufficient and found.necessary
                assert trials <= 1.6 * math.log2(math.comb(n, k)) + (5 if k < 3 else 7)


@pytest.mark.parametrize("n", [2, 6, 10, 14])
def test_two_items_that_cannot_be_tried_apart_are_all_that_is_named(n: int) -> None:
    rng = random.Random(n)
    for guilty in (1, 2):
        for _ in range(4):
            items = [f"i{i}" for i in range(n)]
            pair = set(rng.sample(items, 2))
            found, trials = simulated.whole(n, [set(sorted(pair)[:guilty])], rng, runs=lambda chosen, p=pair: len(chosen & p) != 1)  # type: ignore[misc]
            assert set(found.items) == pair and list(map(set, found.together)) == [pair] and found.confidence == 0.75
            assert found.necessary and found.sufficient and trials <= 35


@pytest.mark.parametrize("n", [2, 6, 10, 14])
def test_an_item_that_cannot_be_tried_alone_takes_what_it_needs_along(n: int) -> None:
    rng = random.Random(n)
    for _ in range(8):
        items = [f"i{i}" for i in range(n)]
        one, needed = rng.sample(items, 2)
        found, trials = simulated.whole(n, [{one}], rng, runs=lambda chosen, x=one, y=needed: x not in chosen or y in chosen)  # type: ignore[misc]
        assert set(found.items) == {one, needed} and found.confidence == 0.75 and trials <= 35
        assert any(f"{one} could not be tried without {needed}" in n or "could not be told apart" in n for n in found.notes)
