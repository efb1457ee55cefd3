"""Real records of other systems: what must be reported is, what must not is not, and nothing in the directory changes.

The pairs lie in REPRODEBUG_FOREIGN_RUNS, or in ``../shared/foreign_runs`` beside the checkout; without them these tests are skipped.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reprodebug import api

ROOT = Path(__file__).resolve().parents[2]
PAIRS = Path(os.environ.get("REPRODEBUG_FOREIGN_RUNS") or ROOT.parent / "shared" / "foreign_runs")
SYSTEMS = sorted(p.parent.name for p in PAIRS.glob("*/EXPECTED.json")) if PAIRS.is_dir() else []

pytestmark = pytest.mark.skipif(not SYSTEMS, reason="the recorded pairs are not here")


def digest(folder: Path) -> str:
    """Names, times and bytes of everything below a folder."""
    h = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        h.update(f"{path.relative_to(folder)} {status.st_mode:o} {status.st_mtime_ns}\n".encode())
        if path.is_file():
            h.update(path.read_bytes())
    return h.hexdigest()


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_pair_gives_what_is_expected_and_is_left_as_it_was(system: str, tmp_path: Path) -> None:
    pair = PAIRS / system
    before = digest(pair)
    comparison = api.compare(str(pair / "a"), str(pair / "b"))
    assert digest(pair) == before
    assert comparison.verdict == "divergent"
    report = tmp_path / "report.json"
    report.write_text(json.dumps(comparison.to_json()["differences"]))
    done = subprocess.run([sys.executable, str(PAIRS / "check_expected.py"), str(pair), str(report)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_side_equals_itself(system: str) -> None:
    side = str(PAIRS / system / "a")
    comparison = api.compare(side, side)
    assert comparison.verdict == "identical", [d for d in comparison.differences if d.severity != "harmless"]
    assert not comparison.causes


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_first_causes_are_no_consequences(system: str) -> None:
    comparison = api.compare(str(PAIRS / system / "a"), str(PAIRS / system / "b"))
    followers = {d.key for d in comparison.differences if d.reason.startswith("follows")}
    assert not any(key in cause.summary.split() for cause in comparison.causes for key in followers)
    assert all(0 < c.confidence <= 0.85 for c in comparison.causes)
