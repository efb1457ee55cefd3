"""Every recorded sample pair gives its expected answer, and recording it again gives the same."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from reprodebug import api
from reprodebug.store.trace import read_trace
from tests.cases.runner import first_is_right

SAMPLES = Path(__file__).resolve().parents[2] / "sample_runs"
PAIRS = sorted(p.parent for p in SAMPLES.glob("*/pair.toml"))
ON_GPUS = sorted(p.parent for p in SAMPLES.glob("gpu/*/pair.toml"))
ALL = [*PAIRS, *ON_GPUS]


def truth(pair: Path) -> dict:
    return tomllib.loads((pair / "pair.toml").read_text())


def compare(a: Path, b: Path, *options: str) -> tuple[int, dict]:
    command = [sys.executable, "-m", "reprodebug", "compare", str(a), str(b), *options, "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def check(pair: Path, a: Path, b: Path) -> None:
    expected = truth(pair)["truth"]
    code, found = compare(a, b)
    assert found["verdict"] == expected["verdict"], found["reason"]
    assert code == {"identical": 0, "divergent": 1}[expected["verdict"]]
    assert first_is_right(found["first_divergence"], expected), found["first_divergence"]
    if expected["explains"]:
        named = [d["key"] for d in found["differences"] if d["severity"] != "harmless"]
        assert any(expected["explains"] in key for key in named), named


@pytest.mark.parametrize("pair", ALL, ids=lambda p: p.name)
def test_recorded_pair(pair: Path) -> None:
    check(pair, pair / "a", pair / "b")


@pytest.mark.parametrize("pair", ON_GPUS, ids=lambda p: p.name)
def test_why_a_pair_from_a_gpu_parts(pair: Path) -> None:
    causes = api.compare(str(pair / "a"), str(pair / "b")).causes
    assert causes[0].category in truth(pair)["truth"]["accept"], causes[:2]
    assert causes[0].confidence >= 0.5


@pytest.mark.parametrize("pair", ALL, ids=lambda p: p.name)
def test_recorded_pair_through_the_api(pair: Path) -> None:
    expected = truth(pair)["truth"]
    found = api.compare(str(pair / "a"), str(pair / "b"))
    assert found.verdict == expected["verdict"]
    assert first_is_right(dataclasses.asdict(found.first) if found.first else None, expected), found.first
    assert found.coverage.share == 1.0


@pytest.mark.parametrize("pair", ALL, ids=lambda p: p.name)
def test_a_recorded_pair_tells_nothing_of_the_machine_that_made_it(pair: Path) -> None:
    for side in ("a", "b"):
        texts = [(pair / side / "run.json").read_text()]
        texts += [json.dumps(read_trace(str(path)).notes_meta) for path in (pair / side).glob("*.h5")]
        named = [
            n for t in texts for n in re.findall(r"/(?:home|root|Users|work|mnt)/[\w./-]*|/tmp/(?!reprodebug-samples\b|\w{8}\b)[\w./-]*", t)
        ]
        assert not named, f"{side}: {named[:3]}; `make samples` puts neutral names there"


def test_there_are_enough_and_they_are_small() -> None:
    assert len(PAIRS) >= 9
    assert sum(f.stat().st_size for f in SAMPLES.rglob("*") if f.is_file()) < 5_000_000


def test_level_summary_gives_numbers() -> None:
    _, found = compare(SAMPLES / "fused-optimizer" / "a", SAMPLES / "fused-optimizer" / "b")
    first = found["first_divergence"]
    assert 0 < first["max_abs"] < 1e-6
    assert 1 <= first["max_ulp"] < 100
    assert 0 < first["differing"] <= first["elements"]


def test_level_fingerprint_guesses_no_number() -> None:
    _, found = compare(SAMPLES / "precision" / "a", SAMPLES / "precision" / "b")
    assert found["first_divergence"]["max_abs"] is None
    assert found["first_divergence"]["differing"] is None


@pytest.mark.parametrize(
    ("tolerance", "code", "verdict"),
    [
        (["--atol", "1e-5"], 0, "equivalent"),
        (["--rtol", "1e-2"], 0, "equivalent"),
        (["--atol", "1e-12"], 1, "divergent"),
        (["--ulps", "1"], 1, "divergent"),
    ],
)
def test_tolerances_decide_where_everything_is_kept(tolerance: list[str], code: int, verdict: str) -> None:
    pair = SAMPLES / "full-level"
    done, found = compare(pair / "a", pair / "b", *tolerance)
    assert (done, found["verdict"]) == (code, verdict), found["reason"]
    assert found["first_divergence"]["module"] == "blocks.0"
    assert found["first_divergence"]["max_ulp"] > 1


def test_a_tolerance_is_not_called_met_where_numbers_are_missing() -> None:
    """Level fingerprint keeps no tensor: no number, no tolerance."""
    done, found = compare(SAMPLES / "precision" / "a", SAMPLES / "precision" / "b", "--atol", "1e9")
    assert (done, found["verdict"]) == (1, "divergent")


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: p.name)
def test_recording_it_again_gives_the_same_answer(pair: Path, tmp_path: Path) -> None:
    expected = truth(pair)
    if (os.cpu_count() or 1) < expected.get("needs_cores", 1):
        pytest.skip("needs more cores")
    if expected.get("needs_cpu", "") not in Path("/proc/cpuinfo").read_text():
        pytest.skip(f"needs a CPU with {expected['needs_cpu']}")
    spec = importlib.util.spec_from_file_location("make", SAMPLES / "make.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    for side in ("a", "b"):
        make.record(pair, side, tmp_path / side, tmp_path / "work")
    check(pair, tmp_path / "a", tmp_path / "b")
