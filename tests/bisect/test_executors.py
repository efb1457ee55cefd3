"""Trials side by side: on this machine, on its GPUs, and as jobs of a cluster (submitit's local executor in its place)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from reprodebug.bisect.executors import Local, gpus
from tests.bisect.test_whole import MODEL, TRAIN, git, tool


def history(repo: Path, commits: int, culprit: int) -> None:
    """A repository in which one commit changes the activation."""
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    (repo / "train.py").write_text(TRAIN.format(lr=0.1))
    for n in range(commits):
        (repo / "model.py").write_text(MODEL.format(act="Tanh" if n < culprit else "ReLU") + f"# {n}\n")
        git(repo, "add", "-A")
        git(repo, "commit", "-q", "-m", f"commit {n}")


def test_two_trials_at_once_find_the_commit(tmp_path: Path) -> None:
    history(tmp_path / "repo", 5, 2)
    words = ["bisect", "--good", "main~4", "--bad", "main", "--jobs", "2", "--json", "-", "--", "python", "train.py"]
    done = tool(*words, cwd=tmp_path / "repo", sessions=tmp_path / "s")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["culprit"]["subject"] == "commit 2"
    assert not list((tmp_path / "s").glob("*/work*")) and not list((tmp_path / "s").glob("*/repository"))
    # both ends were started before either had ended
    said = [line.split()[0] for line in done.stderr.splitlines() if line.startswith(("trial ", "  same"))]
    assert said[:2] == ["trial", "trial"]
    assert re.search(r"^  commit \w{10} \(commit 0\): same-as-a", done.stderr, re.M), "a verdict that stands alone says whose it is"
    counts = re.findall(r"^trial (\d+):", done.stderr, re.M)
    assert len(set(counts)) == len(counts)


@pytest.mark.slow
def test_jobs_of_a_cluster_find_the_commit(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    history(tmp_path / "repo", 3, 1)
    words = ["bisect", "--good", "main~2", "--bad", "main", "--slurm", "cluster=local", "--jobs", "2", "--json", "-"]
    done = tool(*words, "--", "python", "train.py", cwd=tmp_path / "repo", sessions=tmp_path / "s")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["culprit"]["subject"] == "commit 1"
    assert list((tmp_path / "s").glob("*/slurm/*_result.pkl"))


@pytest.mark.parametrize("words", [["--slurm", "nonsense"], ["--slurm", "weather=fine"], ["--jobs", "0"], ["--jobs", "many"]])
def test_what_no_executor_can_do_is_said(tmp_path: Path, words: list[str]) -> None:
    history(tmp_path / "repo", 2, 1)
    done = tool(
        "bisect", "--good", "main~1", "--bad", "main", *words, "--", "python", "x.py", cwd=tmp_path / "repo", sessions=tmp_path / "s"
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_one_trial_for_each_gpu() -> None:
    assert gpus({"CUDA_VISIBLE_DEVICES": "3, GPU-ab,5"}) == ["3", "GPU-ab", "5"]
    assert gpus({"CUDA_VISIBLE_DEVICES": ""}) == gpus({"CUDA_VISIBLE_DEVICES": "-1"}) == []
    both = Local(4, {"CUDA_VISIBLE_DEVICES": "0,1"})
    assert both.slots == 2 and "one for each GPU" in both.note
    assert Local(4, {"CUDA_VISIBLE_DEVICES": ""}).slots == 4
