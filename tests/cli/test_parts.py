"""``compare --only``: one part of the report alone."""

from __future__ import annotations

from pathlib import Path

from tests.cli.program import reprodebug

SAMPLES = Path(__file__).parents[2] / "sample_runs"


def test_one_part_of_the_report_alone() -> None:
    pair = [str(SAMPLES / "changed-package" / name) for name in "ab"]
    whole = reprodebug("compare", *pair, "--headless").stdout.decode()
    for part in ("verdict", "first", "environment", "random-state", "data", "layers", "loss", "causes", "coverage"):
        done = reprodebug("compare", *pair, "--only", part)
        assert done.returncode == 1 and done.stdout.decode().strip()
        assert len(done.stdout.decode()) < len(whole)
        if "nothing differs" not in done.stdout.decode() and "harmless" not in done.stdout.decode().splitlines()[0]:
            assert done.stdout.decode().splitlines()[0] in whole
    everything = reprodebug("compare", *pair, "--only", "steps,draws,batches,records", "--verbose").stdout.decode()
    assert everything.count("\n  = ") + everything.count("\n  ≠ ") >= 707 and "… and" not in everything  # each record once
    some = reprodebug("compare", *pair, "--only", "records").stdout.decode()
    assert len(some.splitlines()) == 202 and some.splitlines()[-1].startswith("  … and 455 more")
    assert "tinyaug" in reprodebug("compare", *pair, "--only", "environment,causes").stdout.decode()
    refused = reprodebug("compare", *pair, "--only", "colours")
    assert refused.returncode == 2 and "no part of the report" in refused.stderr.decode() and "Traceback" not in refused.stderr.decode()


def test_show_says_where_a_run_was_recorded() -> None:
    said = reprodebug("show", str(SAMPLES / "gpu" / "tf32" / "a")).stdout.decode()
    assert "python    3.12.3, torch 2.11.0\n" in said
    assert "16 cores, NVIDIA H100 80GB HBM3, driver 580." in said
    assert " cores\n" in reprodebug("show", str(SAMPLES / "missing-seed" / "a")).stdout.decode()
