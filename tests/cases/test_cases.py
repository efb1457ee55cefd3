"""Cases with known truth: our own always; three of the shared collection in the fast suite, all of it in the slow one."""

from __future__ import annotations

import os

import pytest

from tests.cases import runner
from tests.diagnose.winners import CASES, SILENT

FAST = ("pub-03", "pub-06", "pub-14")
OWN = runner.cases(shared=False)
SHARED = runner.cases(own=False)


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


@pytest.mark.parametrize("case", OWN, ids=os.path.basename)
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
