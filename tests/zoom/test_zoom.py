"""Zoom on cases with known truth, each answer held against a brute-force trace of the two whole programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cases import runner
from tests.zoom import oracle

ORACLE = os.path.abspath(oracle.__file__)
FAST = ("own-01", "own-29")
OWN = [c for c in runner.cases(shared=False) if runner.load(c)["truth"]["verdict"] == "divergent"]
SHARED = [c for c in runner.cases(own=False) if runner.load(c)["truth"]["verdict"] == "divergent"]


def surroundings(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8",
        "REPRODEBUG_SESSIONS": str(folder / "sessions"),
    }  # fmt: skip


def zoom(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reprodebug", "zoom", *words]
    return subprocess.run(command, cwd=folder, env=surroundings(folder), capture_output=True, text=True, timeout=280)


def traced(case: str, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The plain traces of both runs of a case, each in a fresh copy of the project."""
    truth = runner.load(case)
    found = []
    for side in ("a", "b"):
        run = truth["run"][side]
        workdir = str(folder / ("oracle" if truth.get("shared_workdir") else f"oracle-{side}"))
        runner.prepare(case, run, truth, workdir)
        words = runner._words(run["command"], workdir)
        log = str(folder / f"{side}.jsonl")
        done = subprocess.run(
            [words[0], ORACLE, log, *words[1:]], cwd=os.path.join(workdir, run.get("cwd", truth.get("cwd", "."))),
            env=runner._environment(run, workdir), capture_output=True, text=True, timeout=280,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(oracle.rows(log))
    return found[0], found[1]


def named(op: dict[str, Any] | None) -> tuple[str, str] | None:
    """Operation and source line, the same in both worlds."""
    return None if op is None else (op.get("op") or op["name"], os.path.basename(op["line"]))


def check(case: str, folder: Path) -> dict[str, Any]:
    """Zoom into a case, and hold what it names against the oracle."""
    runs = runner.record(case, str(folder))
    done = zoom(folder, *runs, "--json", "-")
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["outcome"] == "found"
    assert not list((folder / "sessions").iterdir()), "an execution was left behind"
    a, b = traced(case, folder)
    where = found["first_divergence"]
    truth = [oracle.first(a, b, where), oracle.first(b, a, where)]
    said = [found["operation"]["a"], found["operation"]["b"]]
    if said == [None, None]:  # no operation of the main thread made it: then none gave what the first one that differs was given
        assert found["kind"] == "outside"
        source = truth[0]
        assert source is not None
        made = {v for r in a[: a.index(source)] for v in r["gave"]}
        assert not set(source["given"]) <= made
        return found
    assert any(s is not None and named(s) == named(t) for s, t in zip(said, truth, strict=True)), (found["reason"], truth)
    if found["kind"] in ("operation", "argument", "random") and named(said[0]) == named(truth[0]):
        assert truth[0] is not None
        partners = [r for r in b if named(r) == named(truth[0]) and r["given"] == truth[0]["given"] and r["step"] == truth[0]["step"]]
        unfilled = truth[0]["op"].endswith(("_.default", "_.float"))  # it overwrites memory that may have held anything
        assert partners or unfilled, "the oracle knows no call with equal inputs"
        if found["kind"] == "argument":
            assert all(p["args"] != truth[0]["args"] for p in partners)
        else:
            assert unfilled or any(p["args"] == truth[0]["args"] and p["gave"] != truth[0]["gave"] for p in partners)
    return found


@pytest.mark.parametrize("case", [c for c in OWN if os.path.basename(c)[:6] in FAST], ids=os.path.basename)
def test_some_own_cases(case: str, tmp_path: Path) -> None:
    found = check(case, tmp_path)
    kinds = {"own-01": "argument", "own-29": "random"}
    assert found["kind"] == kinds[os.path.basename(case)[:6]]


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in OWN if os.path.basename(c)[:6] not in FAST], ids=os.path.basename)
def test_every_own_case(case: str, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.cases
@pytest.mark.slow
@pytest.mark.parametrize("case", SHARED, ids=os.path.basename)
def test_every_shared_case(case: str, tmp_path: Path) -> None:
    check(case, tmp_path)
