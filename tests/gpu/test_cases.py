"""Every pair in sample_runs/gpu, recorded on this GPU: where it parts, why, down to which operation, and by which setting."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]
for needed in ("h5py", "scipy", "git", "deepdiff"):  # what recording, comparing and explaining take; a bare machine has none
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed", allow_module_level=True)

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("make_samples", ROOT / "sample_runs" / "make.py")
assert _spec is not None and _spec.loader is not None
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)
PAIRS = [p / "pair.toml" for p in make.pairs(gpu=True) if make.one_machine(p)]


def reprodebug(*words: str, cwd: Path = ROOT) -> tuple[int, dict[str, Any]]:
    """A command's exit code and its JSON."""
    command = [sys.executable, "-m", "reprodebug", *words, "--json", "-"]
    done = subprocess.run(command, cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=900)
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Records a pair, once: its folder with a and b."""
    os.environ["PYTHONPATH"] = str(ROOT)
    made: dict[str, Path] = {}

    def of(pair: Path) -> Path:
        folder = pair.parent
        if folder.name not in made:
            out = tmp_path_factory.mktemp(folder.name)
            for side in ("a", "b"):
                make.record(folder, side, out / side, out / "work")
            made[folder.name] = out
        return made[folder.name]

    return of


def first_is_right(found: dict[str, Any], truth: dict[str, Any]) -> bool:
    expected = truth["first_divergence"]
    return any(
        found["kind"] == one["kind"] and found["step"] in [one["step"], *one.get("accept_steps", [])]
        and found["phase"] == one["phase"] and found["module"] == one["module"]
        for one in [expected, *expected.get("alternatives", [])]
    )  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: p.parent.name)
def test_where_and_why(recorded: Any, pair: Path) -> None:
    truth = tomllib.loads(pair.read_text())["truth"]
    out = recorded(pair)
    code, found = reprodebug("compare", str(out / "a"), str(out / "b"))
    assert (code, found["verdict"]) == (1, "divergent"), found["reason"]
    assert first_is_right(found["first_divergence"], truth), found["first_divergence"]
    assert found["causes"][0]["category"] in truth["accept"], found["causes"][:2]
    if truth["explains"]:
        named = [d["key"] for d in found["differences"] if d["severity"] != "harmless"]
        assert any(truth["explains"] in key for key in named), named


@pytest.mark.parametrize("name", ["tf32", "bf16", "attention-backend", "atomics-index-add"])
def test_zoom_names_the_operation(recorded: Any, name: str) -> None:
    out = recorded(next(p for p in PAIRS if p.parent.name == name))
    code, found = reprodebug("zoom", str(out / "a"), str(out / "b"))
    assert code in (0, 1), found
    operation = {"tf32": "addmm", "bf16": "", "attention-backend": "attention", "atomics-index-add": "index_add"}[name]
    assert operation in json.dumps(found), json.dumps(found)[:2000]


@pytest.mark.parametrize(("name", "setting"), [("tf32", "tf32"), ("atomics-index-add", "deterministic_algorithms")])
def test_the_setting_is_found(recorded: Any, name: str, setting: str) -> None:
    out = recorded(next(p for p in PAIRS if p.parent.name == name))
    code, found = reprodebug("bisect", str(out / "a"), str(out / "b"), "--axis", "settings", "--headless")
    assert code == 0, found
    assert setting in found["culprit"]["settings"], found["culprit"]


def test_the_facts_of_the_gpu_are_recorded(recorded: Any) -> None:
    out = recorded(PAIRS[0])
    manifest = (out / "a" / "run.json").read_text()
    gpu = _hardware(json.loads(manifest))["gpus"][0]
    assert gpu["name"] == torch.cuda.get_device_name(0)
    assert gpu["capability"] == ".".join(map(str, torch.cuda.get_device_capability(0)))
    uuid = str(getattr(torch.cuda.get_device_properties(0), "uuid", "absent"))
    assert uuid not in manifest
    if importlib.util.find_spec("pynvml") is not None:
        assert gpu["sm_clock_max"] > 100
        assert "ecc" in gpu


def _hardware(value: Any) -> Any:
    """The hardware record, wherever the manifest keeps it."""
    if isinstance(value, dict):
        if isinstance(value.get("hardware"), dict) and "gpus" in value["hardware"]:
            return value["hardware"]
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return next((h for h in map(_hardware, value) if h is not None), None)
    return None
