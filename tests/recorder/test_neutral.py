"""A recorded run is bit-identical to an unrecorded one: output, every parameter and gradient, every generator's state."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cases import runner

PROGRAMS = Path(__file__).parent / "programs"
NOT_REPEATABLE = {"pub-01", "pub-05", "pub-12"}
"""without a seed, by hash order, by a race: these do not agree with themselves"""


def run(script: str, arguments: list[str], cwd: Path, out: Path | None, level: str, environment: dict[str, str]) -> str:
    command = [sys.executable, str(PROGRAMS / "probe.py"), script, *arguments]
    if out is not None:
        command = [sys.executable, "-m", "reprodebug", "capture", "-o", str(out), "--level", level, "--", *command]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    if out is not None:
        assert "recorded" in done.stderr
        notes = [line for line in done.stderr.splitlines() if "note:" in line and "layout jagged" not in line]
        assert not notes, done.stderr
    return done.stdout


def environment(**more: str) -> dict[str, str]:
    keep = {k: os.environ[k] for k in ("PATH", "HOME", "LANG") if k in os.environ}
    return keep | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "PYTHONPATH": runner.ROOT, "REPRODEBUG_DEBUG": "1"} | more


@pytest.mark.parametrize(
    ("program", "level", "says"),
    [
        ("kitchen.py", "fingerprint", "probe 24 "), ("kitchen.py", "full", "probe 24 "),
        ("watchful.py", "fingerprint", "limits 20\n"),
        ("rare.py", "fingerprint", "alive True True\nalive True True"), ("rare.py", "summary", "alive True True\nalive True True"),
    ],
)  # fmt: skip
def test_a_program_with_one_of_everything(tmp_path: Path, program: str, level: str, says: str) -> None:
    script = str(PROGRAMS / program)
    plain = run(script, [], tmp_path, None, level, environment())
    recorded = run(script, [], tmp_path, tmp_path / "run", level, environment())
    assert recorded == plain
    assert says in plain


def _shared() -> list[str]:
    return [c for c in runner.cases(own=False) if os.path.basename(c)[:6] not in NOT_REPEATABLE]


@pytest.mark.cases
@pytest.mark.slow
@pytest.mark.parametrize("case", _shared(), ids=os.path.basename)
def test_every_repeatable_case(tmp_path: Path, case: str) -> None:
    truth = runner.load(case)
    side = truth["run"]["a"]
    words = side["command"][1:]
    outputs = []
    for out in (None, tmp_path / "run"):
        workdir = tmp_path / ("plain" if out is None else "recorded")
        runner.prepare(case, side, truth, str(workdir))
        extra = {k: v.replace("{workdir}", str(workdir)) for k, v in side.get("env", {}).items()}
        text = run(words[0], words[1:], workdir, out, "fingerprint", environment(**extra))
        outputs.append([line for line in text.splitlines() if line.startswith("probe")])
    assert outputs[0] == outputs[1]
    assert outputs[0]
