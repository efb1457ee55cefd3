"""What differs around two runs and did nothing does not take the place of the cause."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from reprodebug import api
from tests.diagnose.winners import SAMPLES

SAMPLE_RUNS = Path(__file__).resolve().parents[2] / "sample_runs"


def _variables(m: dict[str, Any]) -> None:
    m["environment"]["variables"] |= {"COLOUR_SCHEME": "dark", "FOO_LEVEL": "7"}


def _machine(m: dict[str, Any]) -> None:
    m["environment"]["system"] |= {"kernel": "Linux 5.4", "libc": "glibc 2.31", "host": "elsewhere"}
    m["environment"]["hardware"] |= {"logical_cpus": 64, "cores": 32}


def _package(m: dict[str, Any]) -> None:
    m["environment"]["packages"] |= {"typing_extensions": "4.0.1"}


def _output(m: dict[str, Any]) -> None:
    m["command"] = [*m["command"], "--out", "elsewhere"]


def _commit(m: dict[str, Any]) -> None:
    m["code"] |= {"vcs": "git", "commit": "b" * 40, "branch": "other"}


@pytest.mark.parametrize("decoy", [_variables, _machine, _package, _output, _commit])
@pytest.mark.parametrize("pair", SAMPLES)
def test_the_cause_stays(pair: str, decoy: Any, tmp_path: Path) -> None:
    if pair == "threads" and decoy is _machine:
        pytest.skip("there the number of cores may well be the cause")
    for side in ("a", "b"):
        shutil.copytree(SAMPLE_RUNS / pair / side, tmp_path / side)
    record = tmp_path / "b" / "run.json"
    manifest = json.loads(record.read_text())
    decoy(manifest)
    record.write_text(json.dumps(manifest))
    first = api.compare(str(tmp_path / "a"), str(tmp_path / "b")).causes[0]
    assert first.rule == SAMPLES[pair][0], first
    assert first.confidence >= 0.5


def test_a_machine_does_not_explain_a_difference_that_is_no_rounding(tmp_path: Path) -> None:
    for side in ("a", "b"):
        shutil.copytree(SAMPLE_RUNS / "forgotten-train-mode" / side, tmp_path / side)
    record = tmp_path / "b" / "run.json"
    manifest = json.loads(record.read_text())
    manifest["environment"]["hardware"]["cpu"] = "Another CPU"
    record.write_text(json.dumps(manifest))
    causes = api.compare(str(tmp_path / "a"), str(tmp_path / "b")).causes
    assert causes[0].rule == "train or eval mode"
    assert not [c for c in causes if c.rule == "processor" and c.confidence > 0.3]
