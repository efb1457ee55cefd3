"""Run bisect cases with known truth: commits, settings, packages. Used by the runner and the tests."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import Any

from tests.cases import runner


@dataclass(frozen=True, slots=True)
class Answer:
    """What a bisect case gave."""

    name: str
    right: bool
    found: str
    trials: int
    most: float
    """trials that the answer may take"""
    seconds: float
    error: str = ""


def cases() -> list[str]:
    """Paths of all cases with an experiment, in order of their names."""
    found = []
    for folder in runner.folders():
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if os.path.isfile(os.path.join(path, "case.toml")) and "bisect" in runner.load(path):
                found.append(path)
    return found


def run(case: str, *, recorded: bool = False) -> Answer:
    """Run one case as a user would; ``recorded``: from two recorded runs instead of from the command (settings only)."""
    truth = runner.load(case)
    with tempfile.TemporaryDirectory() as folder:
        try:
            found, log = _bisect(case, truth["bisect"], folder, recorded)
        except (subprocess.SubprocessError, ValueError, OSError) as error:
            return Answer(os.path.basename(case), False, "", 0, 0.0, 0.0, str(error)[-1500:])
    return _judge(os.path.basename(case), truth["truth"], found, log)


def _bisect(case: str, b: dict[str, Any], folder: str, recorded: bool) -> tuple[dict[str, Any], str]:
    project = os.path.join(folder, "project")
    environment = runner._environment({"env": b.get("env", {}), "unset": b.get("unset", [])}, project)
    environment["REPRODEBUG_SESSIONS"] = os.path.join(folder, "sessions")
    tool = [sys.executable, "-m", "reprodebug"]
    words = [*tool, "bisect", "--json", "-"]
    if b["mode"] == "git":
        subprocess.run([sys.executable, os.path.join(case, b["build"]), project], check=True, capture_output=True)
        words += ["--good", b["good"], "--bad", b["bad"], "--", *b["command"]]
    else:
        shutil.copytree(case, project, ignore=shutil.ignore_patterns("case.toml", "__pycache__"))
        if b["mode"] == "packages":
            wheels = os.path.join(folder, "wheels")
            subprocess.run([sys.executable, os.path.join(project, b["build"]), wheels], check=True, capture_output=True)
            environment |= {"PIP_FIND_LINKS": wheels, "PIP_NO_INDEX": "1"}
            words += ["--axis", "packages", "--good", " ".join(b["good"]), "--bad", " ".join(b["bad"]), "--", *b["command"]]
        elif recorded:
            runs = [os.path.join(folder, side) for side in ("a", "b")]
            for out in runs:
                subprocess.run([*tool, "capture", "-o", out, "--", *b["command"]], cwd=project, env=environment, capture_output=True)
            words = [*tool, "bisect", *runs, "--axis", "settings", "--json", "-"]
        else:
            words += ["--axis", "settings", "--", *b["command"]]
    done = subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True, timeout=1200)
    if not done.stdout.startswith("{"):
        raise ValueError(done.stderr)
    return json.loads(done.stdout), done.stderr


def _judge(name: str, truth: dict[str, Any], found: dict[str, Any], log: str) -> Answer:
    culprit, trials = found["culprit"], found["trial_count"]
    if "subject" in truth:
        right, said = culprit["subject"] == truth["subject"], culprit["subject"]
        most = math.ceil(math.log2(truth["commits"])) + 6
    elif "culprits" in truth:
        said = sorted(culprit["settings"])
        right = said in [sorted(c) for c in truth["culprits"]] if truth["culprits"] else found["outcome"] == "not-found"
        most = 1.6 * math.log2(math.comb(23, max(1, len(said)))) + 5
    else:
        said = {n: c.get("first_bad") for n, c in culprit["packages"].items()}
        right = said == truth["packages"]
        most = 1.6 * math.log2(3) + 5 + 3
    return Answer(name, right, str(said), trials, most, found["wall_seconds"], "" if right else log[-3000:])


def main(names: list[str]) -> int:
    """Run the chosen cases and print what was found."""
    wrong = 0
    print(f"{'case':26} {'right':6} {'trials':>6} {'most':>6} {'s':>6}  found")
    for case in cases():
        if names and not any(n in os.path.basename(case) for n in names):
            continue
        a = run(case)
        wrong += not a.right or a.trials > a.most
        print(
            f"{a.name:26} {'yes' if a.right else 'NO':6} {a.trials:6} {a.most:6.1f} {a.seconds:6.1f}  {a.found}{' ' + a.error if a.error else ''}"
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
