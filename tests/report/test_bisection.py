"""What an experiment found, in words."""

from __future__ import annotations

from reprodebug.model.experiment import FOUND, Bisection, Culprit
from reprodebug.report import bisection


def test_commits_of_which_one_is_guilty_are_told_by_their_subjects() -> None:
    culprit = Culprit(range=("a" * 40, "b" * 40), subjects=("Another seed", "Fini\x1b[31msh"), files=("data/rows.csv",))
    result = Bisection(FOUND, "commits", "one of 2 commits", culprit)
    text, markdown = bisection.to_text(result), bisection.to_markdown(result)
    assert f"candidate {'a' * 40}  Another seed" in text and "Another seed" in markdown
    assert "\x1b" not in text + markdown
    assert "changed and not committed: data/rows.csv" in text and "- `data/rows.csv`" in markdown
