"""Every rule wins on a pair that was recorded for it, and stays silent on one of another cause."""

from __future__ import annotations

from pathlib import Path

import pytest

import reprodebug.diagnose.rules  # registers the rules  # noqa: F401
from reprodebug import api
from reprodebug.diagnose.rule import CATEGORIES, RULES
from tests.diagnose.winners import CASES, SAMPLES, SILENT, UNTRIED

SAMPLE_RUNS = Path(__file__).resolve().parents[2] / "sample_runs"


@pytest.mark.parametrize("pair", SAMPLES)
def test_the_rule_of_a_sample_pair_wins(pair: str) -> None:
    wins, silent = SAMPLES[pair]
    causes = api.compare(str(SAMPLE_RUNS / pair / "a"), str(SAMPLE_RUNS / pair / "b")).causes
    assert causes[0].rule == wins, causes[0]
    assert causes[0].category in CATEGORIES
    assert causes[0].confidence >= 0.5
    assert not [c for c in causes if c.rule in silent and c.confidence >= SILENT]


def test_every_rule_has_a_pair_that_it_wins_or_a_reason() -> None:
    won = {wins for wins, _ in [*CASES.values(), *SAMPLES.values()]}
    names = {r.name for r in RULES}
    assert len(names) == len(RULES)
    assert won | set(UNTRIED) == names
    assert not won & set(UNTRIED)


def test_every_rule_has_a_pair_on_which_it_is_silent() -> None:
    silent = {name for _, names in [*CASES.values(), *SAMPLES.values()] for name in names}
    assert not {r.name for r in RULES} - silent - {"train or eval mode", "file content"}
    assert not silent - {r.name for r in RULES}
