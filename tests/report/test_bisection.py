"""What an experiment found, in words."""

from __future__ import annotations

from reprodebug.model.experiment import FOUND, NOT_FOUND, Bisection, Culprit
from reprodebug.report import bisection


def test_commits_of_which_one_is_guilty_are_told_by_their_subjects() -> None:
    culprit = Culprit(range=("a" * 40, "b" * 40), subjects=("Another seed", "Fini\x1b[31msh"), files=("data/rows.csv",))
    result = Bisection(FOUND, "commits", "one of 2 commits", culprit)
    text, markdown = bisection.to_text(result), bisection.to_markdown(result)
    assert f"candidate {'a' * 40}  Another seed" in text and "Another seed" in markdown
    assert "\x1b" not in text + markdown
    assert "changed and not committed: data/rows.csv" in text and "- `data/rows.csv`" in markdown


def test_only_an_answer_has_a_confidence() -> None:
    said = bisection.to_markdown(Bisection(NOT_FOUND, "settings", "no setting helps", bound="log2 of 16"))
    assert "Confidence" not in said and "\n0 trials, 0 s.\n" in said
    assert "Confidence 0.90" in bisection.to_markdown(Bisection(FOUND, "commits", "", confidence=0.9, bound="log2(4)"))
