"""Uncommitted changes, file by file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from reprodebug.bisect import changes
from tests.bisect.test_whole import digest, git, tool

TRAIN = """\
import torch
from scale import SCALE
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
x = torch.tensor([[float(v) for v in line.split(",")] for line in open("data/rows.csv")])
for _ in range(3):
    opt.zero_grad(); net(x * SCALE).square().mean().backward(); opt.step()
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    (folder / "data").mkdir(parents=True)
    git(tmp_path, "init", "-q", "-b", "main", str(folder))
    (folder / "train.py").write_text(TRAIN)
    (folder / "scale.py").write_text("SCALE = 1.0\n")
    (folder / "data" / "rows.csv").write_text("1,2,3,4\n2,3,4,5\n")
    (folder / "data" / "other.csv").write_text("1\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "start")
    return folder


def test_a_patch_is_taken_apart_and_put_together(repo: Path) -> None:
    def patch() -> str:
        git(repo, "add", "-A", "-N")
        return git(repo, "diff", "-M", "HEAD") + "\n"

    git(repo, "mv", "scale.py", "factor.py")
    (repo / "data" / "two words.csv").write_text("1\n")
    (repo / "train.py").write_text(TRAIN + "# diff --git a/x b/x\n")
    (repo / "data" / "other.csv").chmod(0o755)
    a = patch()
    assert changes.sections("") == {}
    assert list(changes.sections(a)) == ["data/other.csv", "data/two words.csv", "factor.py", "train.py"]
    assert "".join(changes.sections(a).values()) == a
    (repo / "data" / "two words.csv").write_text("2\n")
    (repo / "data" / "other.csv").write_bytes(b"\0\1")
    b = patch()
    assert changes.binary(b) == ["data/other.csv"]
    assert changes.differing(a, b) == ["data/other.csv", "data/two words.csv"]
    half = changes.mixed(a, b, ["data/two words.csv"])
    git(repo, "reset", "-q", "--hard")
    git(repo, "clean", "-fdq")
    (repo.parent / "half.patch").write_text(half)
    git(repo, "apply", str(repo.parent / "half.patch"))
    assert (repo / "data" / "two words.csv").read_text() == "2\n" and (repo / "factor.py").exists()
    assert os.access(repo / "data" / "other.csv", os.X_OK)


def test_of_uncommitted_changes_the_file_is_named(repo: Path, tmp_path: Path) -> None:
    """Both runs were made at one commit with changes of their own."""
    for side, rows, scale in (("a", "1,2,3,4\n2,3,4,5\n", "1.00"), ("b", "1,2,3,4\n2,3,4,6\n", "1.000")):
        (repo / "data" / "rows.csv").write_text(rows)
        (repo / "data" / "other.csv").write_text(f"{side}\n")
        (repo / "scale.py").write_text(f"SCALE = {scale}\n")
        assert tool("capture", "-o", str(tmp_path / side), "--", "python", "train.py", cwd=repo, sessions=tmp_path / "s").returncode == 0
    objects = {p: p.stat().st_mtime_ns for p in (repo / ".git" / "objects").rglob("*")}
    before = digest(repo)
    done = tool("bisect", str(tmp_path / "a"), str(tmp_path / "b"), "--json", "-", cwd=repo, sessions=tmp_path / "s")
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(done.stdout)
    assert found["culprit"]["files"] == ["data/rows.csv"] and found["culprit"]["commit"] == git(repo, "rev-parse", "HEAD")
    assert found["reason"] == "data/rows.csv, changed and not committed, makes the difference"
    assert digest(repo) == before and {p: p.stat().st_mtime_ns for p in objects} == objects
