"""Cases with known truth. In the fast suite of our own one for each rule and those for something else, and three of the shared
collection; in the slow one all of both."""

from __future__ import annotations

import os

import pytest

from tests.cases import runner
from tests.diagnose.winners import CASES, SILENT

FAST = ("pub-03", "pub-06", "pub-14")
OWN = runner.cases(shared=False)
SHARED = runner.cases(own=False)
FIRST = {wins: name for name, (wins, _) in reversed(CASES.items())}
"""rule -> the first case that it wins"""
REPEATED = {name for name, (wins, _) in CASES.items() if FIRST[wins] != name}


def own(case: str) -> object:
    name = os.path.basename(case)
    return pytest.param(case, id=name, marks=pytest.mark.slow if name in REPEATED else ())


def check(case: str) -> runner.Result:
    if missing := runner.lacks(case):
        pytest.skip(missing)
    result = runner.run_case(case)
    assert not result.error, result.error
    assert result.verdict == result.expected
    assert result.first_right, result.first
    assert result.category_right, result.causes[:2]
    assert result.pinpoint_right, result.causes[:2]
    return result


@pytest.mark.parametrize("case", map(own, OWN))
def test_own_case(case: str) -> None:
    causes = check(case).causes
    wins, silent = CASES.get(os.path.basename(case), ("", ()))
    assert not wins or causes[0]["rule"] == wins, causes[:2]
    assert not [c for c in causes if c["rule"] in silent and c["confidence"] >= SILENT]


@pytest.mark.cases
@pytest.mark.parametrize("case", [c for c in SHARED if os.path.basename(c)[:6] in FAST], ids=os.path.basename)
def test_some_shared_cases(case: str) -> None:
    check(case)


@pytest.mark.cases
@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in SHARED if os.path.basename(c)[:6] not in FAST], ids=os.path.basename)
def test_every_shared_case(case: str) -> None:
    check(case)
