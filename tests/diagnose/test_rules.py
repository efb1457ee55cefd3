"""Every rule wins on a pair that was recorded for it, and stays silent on one of another cause."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import reprodebug.diagnose.rules  # registers the rules  # noqa: F401
from reprodebug import api
from reprodebug.diagnose.rule import CATEGORIES, RULES
from reprodebug.store.trace import read_trace, write_trace
from tests.diagnose.winners import CASES, SAMPLES, SILENT

SAMPLE_RUNS = Path(__file__).resolve().parents[2] / "sample_runs"


@pytest.mark.parametrize("pair", SAMPLES)
def test_the_rule_of_a_sample_pair_wins(pair: str) -> None:
    wins, silent = SAMPLES[pair]
    causes = api.compare(str(SAMPLE_RUNS / pair / "a"), str(SAMPLE_RUNS / pair / "b")).causes
    assert causes[0].rule == wins, causes[0]
    assert causes[0].category in CATEGORIES
    assert causes[0].confidence >= 0.5
    assert not [c for c in causes if c.rule in silent and c.confidence >= SILENT]


@pytest.mark.parametrize(("pair", "line"), [("atomics-scatter-add", ".gather(0, bins)"), ("atomics-index-add", ".index_add(0, cell")])
def test_the_operation_named_is_one_of_the_module_s_own(pair: str, line: str) -> None:
    """The program holds both; only one of them stands in the module that parted, and the one's forward has no atomics."""
    cause = api.compare(str(SAMPLE_RUNS / "gpu" / pair / "a"), str(SAMPLE_RUNS / "gpu" / pair / "b")).causes[0]
    (named,) = [row for row in cause.evidence if row.startswith("in the source")]
    assert line in named
    assert cause.confidence >= 0.75


@pytest.mark.parametrize(
    ("facts", "wins"),
    [
        (({"name": "NVIDIA A100"}, {"name": "NVIDIA H100"}), True),
        (({"name": "NVIDIA H100", "multi_processors": 132}, {"name": "NVIDIA H100", "multi_processors": 114}), True),
        (({"name": "NVIDIA H100", "sm_clock_now": 345, "id": "a"}, {"name": "NVIDIA H100", "sm_clock_now": 1980, "id": "b"}), False),
    ],
)  # fmt: skip
def test_another_gpu(tmp_path: Path, facts: tuple[dict[str, object], dict[str, object]], wins: bool) -> None:
    """Two runs that differ in the bits of a kernel, made those of two GPUs. Cards of one kind, with other clocks and neighbours, are no
    cause."""
    notes = None
    for side, gpu in zip("ab", facts, strict=True):
        pair = SAMPLE_RUNS / "cpu-capability"
        shutil.copytree(pair / side, tmp_path / side)
        manifest = json.loads((pair / "a" / "run.json").read_text())  # all else is alike
        manifest["environment"]["hardware"]["gpus"] = [gpu]
        (tmp_path / side / "run.json").write_text(json.dumps(manifest))
        (file,) = (tmp_path / side).glob("*.h5")
        trace = read_trace(str(file))
        notes = notes or [*trace.notes_meta, {"type": "device-fingerprint", "algorithm": "mix64-sum-128", "seq": 0}]
        trace.notes_meta = notes
        trace.metas = [(shape, dtype, device.replace("cpu", "cuda:0"), *rest) for shape, dtype, device, *rest in trace.metas]
        write_trace(trace, str(file))
    found = api.compare(str(tmp_path / "a"), str(tmp_path / "b"))
    assert found.verdict == "divergent"
    best = found.causes[0]
    assert (best.rule == "graphics processor" and best.confidence >= 0.5) is wins, found.causes
    assert wins or not [c for c in found.causes if c.rule == "graphics processor"]


def test_every_rule_has_a_pair_that_it_wins() -> None:
    won = {wins for wins, _ in [*CASES.values(), *SAMPLES.values()]}
    names = {r.name for r in RULES}
    assert len(names) == len(RULES)
    assert won == names


def test_every_rule_has_a_pair_on_which_it_is_silent() -> None:
    silent = {name for _, names in [*CASES.values(), *SAMPLES.values()] for name in names}
    assert not {r.name for r in RULES} - silent - {"train or eval mode", "file content"}
    assert not silent - {r.name for r in RULES}
