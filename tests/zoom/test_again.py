"""Runs that were recorded elsewhere, or whose source is not what it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reprodebug.bisect.recorded import outward
from reprodebug.store.run import open_run
from tests.zoom.cases import surroundings, zoom

SCRIPT = """\
import sys, torch, util
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
open("../results.txt", "w").write(sys.argv[1])
util.loss(net, "--b" in sys.argv).backward()
"""
MODULE = """\
import torch
def loss(net, b):
    return net(torch.ones(3, 4)).mul(1.1 if b else 1.0).sum()
"""


def test_a_script_outside_of_the_directory_that_is_edited_and_then_gone(tmp_path: Path) -> None:
    scripts, work = tmp_path / "scripts", tmp_path / "work"
    scripts.mkdir()
    work.mkdir()
    (scripts / "train.py").write_text(SCRIPT)
    (scripts / "util.py").write_text(MODULE)
    (tmp_path / "data").mkdir()
    for name, words in (("a", []), ("b", ["--b"])):
        command = ["python", "../scripts/train.py", "--data=../data", "../results.txt", *words]
        done = subprocess.run(
            [sys.executable, "-m", "reprodebug", "capture", "-o", name, "--", *command],
            cwd=work,
            env=surroundings(tmp_path),
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
    run = open_run(str(work / "a"))
    assert outward(run, [*run.manifest.command, "../nowhere", "x=y"], str(work)) == [
        "python", str(scripts / "train.py"), f"--data={tmp_path / 'data'}", "../results.txt", "../nowhere", "x=y",
    ], "what the run wrote is not written again"  # fmt: skip
    assert outward(run, run.manifest.command, str(tmp_path)) == list(run.manifest.command), "all of it is copied"

    (scripts / "util.py").write_text("# a line more\n" + MODULE)
    (tmp_path / "results.txt").write_text("mine")
    done = zoom(work, "a", "b")
    said = " ".join(done.stdout.split())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "aten.mul.Tensor at" in said and "util.py:4 is called with another argument: other = 1.0 in A, 1.1 in B" in said
    assert "A: util.py was edited after A was recorded" in said and "train.py was edited" not in said
    assert (tmp_path / "results.txt").read_text() == "mine"

    (scripts / "train.py").unlink()
    done = zoom(work, "a", "b")
    assert done.returncode == 1
    assert " ".join(done.stdout.split()).startswith("not-repeatable: A could not be run again: ../scripts/train.py is not there any more")


@pytest.mark.slow
def test_a_directory_that_is_not_there_any_more(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "train.py").write_text("import sys, torch\ntorch.nn.Linear(2, 2)(torch.ones(1, 2) * len(sys.argv))\n")
    for name, words in (("a", []), ("b", ["--b"])):
        command = [sys.executable, "-m", "reprodebug", "capture", "-o", str(tmp_path / name), "--", "python", "train.py", *words]
        subprocess.run(command, cwd=tmp_path / "project", env=surroundings(tmp_path), check=True, capture_output=True)
    (tmp_path / "project").rename(tmp_path / "moved")
    done = zoom(tmp_path, "a", "b")
    assert done.returncode == 1 and "is not there any more" in done.stdout and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_program_that_asks_for_what_was_typed(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import torch\nk = float(input())\ntorch.nn.Linear(2, 2)(torch.ones(1, 2) * k)\n")
    for name, typed in (("a", "1\n"), ("b", "2\n")):
        command = [sys.executable, "-m", "reprodebug", "capture", "-o", name, "--", "python", "train.py"]
        subprocess.run(command, cwd=tmp_path, env=surroundings(tmp_path), check=True, capture_output=True, text=True, input=typed)
    done = zoom(tmp_path, "a", "b")
    said = " ".join(done.stdout.split())
    assert done.returncode == 1
    assert said.startswith(
        "not-repeatable: A could not be run again: it asks for standard input, which is not recorded and is empty here (EOF"
    )
