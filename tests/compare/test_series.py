"""Series of two loggers: equal, parted, shorter, logged less often, or at other steps; what cannot be told is not called equal."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from reprodebug import api
from reprodebug.model.comparison import Comparison


def compared(tmp_path: Path, a: dict[int, float], b: dict[int, float]) -> Comparison:
    for side, points in (("a", a), ("b", b)):
        (tmp_path / side).mkdir()
        rows: Iterable[str] = (f"{step},{value}\n" for step, value in points.items())
        (tmp_path / side / "metrics.csv").write_text("step,loss\n" + "".join(rows))
    return api.compare(str(tmp_path / "a"), str(tmp_path / "b"))


VALUES = {0: 0.5, 1: 0.25, 2: 0.125, 3: 0.0625}


def test_the_same_values_at_other_steps_are_equal(tmp_path: Path) -> None:
    comparison = compared(tmp_path, VALUES, {100 + 10 * s: v for s, v in VALUES.items()})
    assert comparison.verdict == "identical"
    (difference,) = comparison.differences
    assert difference.severity == "harmless"
    assert difference.reason == "the same 4 values at other steps: 0 to 3 in A, 100 to 130 in B"


@pytest.mark.parametrize("other", [{10: 0.5, 11: 0.25, 12: 0.125}, {10: 0.5, 11: 0.3, 12: 0.125, 13: 0.0625}])
def test_what_was_logged_at_no_common_step_is_not_compared(other: dict[int, float], tmp_path: Path) -> None:
    comparison = compared(tmp_path, VALUES, other)
    assert comparison.verdict == "incomparable" and not comparison.differences
    assert "1 metric that both logged at no common step (loss): not compared" in comparison.not_recorded


def test_a_logger_that_logs_less_often_is_no_divergence(tmp_path: Path) -> None:
    comparison = compared(tmp_path, VALUES, {s: v for s, v in VALUES.items() if s % 2 == 0})
    assert comparison.verdict == "identical" and "B logged less often" in comparison.differences[0].reason


def test_a_run_that_ended_earlier_is_one(tmp_path: Path) -> None:
    comparison = compared(tmp_path, VALUES, {s: v for s, v in VALUES.items() if s < 2})
    assert comparison.verdict == "divergent" and "A ends at step 3, B at step 1" in comparison.differences[0].reason


@pytest.mark.parametrize("name", ["time/forward", "time_this_iter_s", "train_samples_per_second", "tokens/sec", "step_time_ms", "fps"])
def test_a_duration_or_a_rate_makes_no_run_divergent(name: str, tmp_path: Path) -> None:
    for side, took in (("a", 0.3), ("b", 0.4)):
        (tmp_path / side).mkdir()
        (tmp_path / side / "metrics.csv").write_text(f"step,loss,{name}\n0,0.5,{took}\n1,0.25,{took}\n")
    comparison = api.compare(str(tmp_path / "a"), str(tmp_path / "b"))
    assert comparison.verdict == "identical" and "2 metric values are equal" in comparison.reason
    assert all(d.severity == "harmless" for d in comparison.differences)


@pytest.mark.parametrize("name", ["time_step", "eta", "meta", "one_time_loss", "loss/time_weighted", "permeability"])
def test_a_name_that_only_sounds_like_a_duration_counts(name: str, tmp_path: Path) -> None:
    for side, value in (("a", 0.3), ("b", 0.4)):
        (tmp_path / side).mkdir()
        (tmp_path / side / "metrics.csv").write_text(f"step,loss,{name}\n0,0.5,{value}\n1,0.25,{value}\n")
    assert api.compare(str(tmp_path / "a"), str(tmp_path / "b")).verdict == "divergent"


def test_the_state_of_a_search_of_ray_is_no_configuration(tmp_path: Path) -> None:
    for n, side in enumerate(("a", "b")):
        (tmp_path / side).mkdir()
        (tmp_path / side / "experiment_state-2026-11-26_07-44-36.json").write_text(f'{{"runner_data": {{"_start_time": {n}.5}}}}')
        (tmp_path / side / "params.json").write_text('{"lr": 0.1}')
    comparison = api.compare(str(tmp_path / "a"), str(tmp_path / "b"))
    assert comparison.verdict == "identical" and not comparison.differences
