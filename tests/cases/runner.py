"""Run irreproducibility cases with known truth, and say for each whether reprodebug found it.

A case is a folder with ``case.toml`` (two runs and what is true of them) and the project that they run. The
project's own cases lie in ``tests/cases/own``; more are taken from the folder in REPRODEBUG_CASES, or from
``../shared/cases`` beside the checkout where that exists.

    python -m tests.cases.runner [NAME...]
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


@dataclass(frozen=True, slots=True)
class Result:
    """What was expected of a case and what came out."""

    name: str
    verdict: str
    expected: str
    first: dict[str, Any] | None
    verdict_right: bool
    first_right: bool
    seconds: float
    error: str = ""
    causes: tuple[dict[str, Any], ...] = ()
    category_right: bool = True
    pinpoint_right: bool = True

    @property
    def right(self) -> bool:
        return self.verdict_right and self.first_right and self.category_right and self.pinpoint_right and not self.error


def folders() -> list[str]:
    """Every folder that holds cases."""
    found = [os.path.join(HERE, "own")]
    shared = os.environ.get("REPRODEBUG_CASES") or os.path.join(os.path.dirname(ROOT), "shared", "cases")
    if os.path.isdir(shared):
        found.append(shared)
    return found


def cases(*, own: bool = True, shared: bool = True) -> list[str]:
    """Paths of all cases with two runs, in order of their names."""
    found = []
    for folder in folders():
        mine = folder.startswith(HERE)
        if not os.path.isdir(folder) or (mine and not own) or (not mine and not shared):
            continue
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if os.path.isfile(os.path.join(path, "case.toml")) and "run" in load(path):
                found.append(path)
    return found


def load(path: str) -> dict[str, Any]:
    with open(os.path.join(path, "case.toml"), "rb") as f:
        return tomllib.load(f)


def lacks(path: str) -> str:
    """What this machine lacks that a case needs; empty where it lacks nothing."""
    needed = load(path).get("needs_cpu", "")
    if not needed:
        return ""
    with open("/proc/cpuinfo") as f:
        return "" if needed in f.read() else f"needs a CPU with {needed}"


def _environment(run: dict[str, Any], workdir: str) -> dict[str, str]:
    found = {
        "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
    }
    found |= {k: v.replace("{workdir}", workdir) for k, v in run.get("env", {}).items()}
    for name in run.get("unset", []):
        found.pop(name, None)
    return found


def _words(command: list[str] | str, workdir: str) -> list[str]:
    words = shlex.split(command) if isinstance(command, str) else command
    words = [w.replace("{workdir}", workdir) for w in words]
    return [sys.executable, *words[1:]] if words[0] in ("python", "python3") else words


def prepare(case: str, run: dict[str, Any], truth: dict[str, Any], workdir: str) -> None:
    """A fresh copy of the project, set up and patched for one run."""
    if not os.path.exists(workdir):
        shutil.copytree(case, workdir, ignore=shutil.ignore_patterns("case.toml", "*.patch", "__pycache__"))
        if "setup" in truth:
            setup = truth["setup"]
            command = setup["command"] if isinstance(setup, dict) else setup
            subprocess.run(_words(command, workdir), cwd=workdir, env=_environment({}, workdir), check=True, capture_output=True)
    for command in run.get("prepare", []):
        subprocess.run(_words(command, workdir), cwd=workdir, env=_environment(run, workdir), check=True, capture_output=True)
    if "patch" in run:
        subprocess.run(["git", "apply", os.path.join(case, run["patch"])], cwd=workdir, check=True, capture_output=True)


def record(case: str, folder: str, level: str = "fingerprint") -> list[str]:
    """Record both runs of a case into ``folder``; returns the two run directories."""
    truth = load(case)
    runs = []
    for side in ("a", "b"):
        run = truth["run"][side]
        workdir = os.path.join(folder, "work" if truth.get("shared_workdir") else f"work-{side}")
        prepare(case, run, truth, workdir)
        out = os.path.join(folder, f"run-{side}")
        command = [sys.executable, "-m", "reprodebug", "capture", "-o", out, "--level", level, "--", *_words(run["command"], workdir)]
        environment = _environment(run, workdir)
        cwd = os.path.join(workdir, run.get("cwd", truth.get("cwd", ".")))
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise RuntimeError(f"run {side} ended with {done.returncode}: {done.stderr[-2000:]}")
        runs.append(out)
    return runs


def first_is_right(found: dict[str, Any] | None, truth: dict[str, Any]) -> bool:
    """Whether a first divergence is the true one or an alternative that the case accepts."""
    expected = truth.get("first_divergence")
    if expected is None:
        return found is None
    if found is None:
        return False
    for one in [expected, *expected.get("alternatives", [])]:
        if (
            found["kind"] == one["kind"]
            and (found["step"] in [one["step"], *one.get("accept_steps", [])] or one.get("any_step"))  # where a clock decides
            and found["phase"] in [one["phase"], *one.get("accept_phases", [])]
            and found["module"] in [one["module"], *one.get("accept_modules", [])]
        ):
            return True
    return False


def causes_are_right(causes: list[dict[str, Any]], case: dict[str, Any]) -> tuple[bool, bool]:
    """(category, pinpoint): of the first cause where the runs differ; a control must have none that is more than a guess."""
    truth = case["truth"]
    if truth["verdict"] != "divergent":
        calm = all(c["confidence"] <= 0.2 for c in causes)
        return calm, calm
    if not causes:
        return False, False
    first = causes[0]
    text = " ".join([first["summary"], *first["evidence"], first["remedy"]]).lower()
    groups = truth.get("pinpoint", [])
    return first["category"] in case["accept"], not groups or any(all(word in text for word in group) for group in groups)


def judge(case: str, runs: list[str], started: float) -> Result:
    """Compare the two runs headless, as a user would, and hold the answer against the truth."""
    whole = load(case)
    truth = whole["truth"]
    done = subprocess.run(
        [sys.executable, "-m", "reprodebug", "compare", *runs, "--json", "-"], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    name = os.path.basename(case)
    if done.returncode not in (0, 1, 3):
        return Result(name, "", truth["verdict"], None, False, False, time.time() - started, done.stderr[-1500:])
    found = json.loads(done.stdout)
    first = found["first_divergence"]
    category, pinpoint = causes_are_right(found["causes"], whole)
    return Result(
        name, found["verdict"], truth["verdict"], first, found["verdict"] == truth["verdict"], first_is_right(first, truth),
        time.time() - started, "", tuple(found["causes"]), category, pinpoint,
    )  # fmt: skip


def run_case(case: str) -> Result:
    """Record and judge one case in a temporary folder."""
    started = time.time()
    with tempfile.TemporaryDirectory() as folder:
        try:
            return judge(case, record(case, folder), started)
        except Exception as error:
            truth = load(case)["truth"]
            return Result(os.path.basename(case), "", truth["verdict"], None, False, False, time.time() - started, str(error))


def main(names: list[str]) -> int:
    chosen = [c for c in cases() if (not names or any(n in os.path.basename(c) for n in names)) and not lacks(c)]
    wrong = 0
    print(f"{'case':26} {'verdict':10} {'first divergence':52} {'right':6} {'first cause':22} {'right':6} {'s':>5}")
    bands: dict[str, list[bool]] = {}
    for case in chosen:
        r = run_case(case)
        f = r.first
        where = f"{f['kind']} step {f['step']} {f['phase']} {f['module'] or '(outermost)'} {f['tensor']}" if f else "-"
        said = f"{r.causes[0]['confidence']:.2f} {r.causes[0]['category']}" if r.causes else "-"
        located, explained = r.verdict_right and r.first_right, r.category_right and r.pinpoint_right
        marks = ["yes" if ok else "NO" for ok in (located, explained)]
        print(f"{r.name:26} {r.verdict or 'ERROR':10} {where[:52]:52} {marks[0]:6} {said:22} {marks[1]:6} {r.seconds:5.1f}", flush=True)
        if r.causes:
            bands.setdefault(f"{int(r.causes[0]['confidence'] * 10) / 10:.1f}", []).append(explained)
        if r.error:
            print("   " + r.error.replace("\n", "\n   "))
        wrong += not r.right
    for band in sorted(bands, reverse=True):
        hits = bands[band]
        print(f"first causes with confidence {band} to {float(band) + 0.1:.1f}: {sum(hits)} of {len(hits)} right")
    print(f"{len(chosen) - wrong} of {len(chosen)} right")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
