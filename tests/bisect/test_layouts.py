"""Projects that are laid out otherwise: src folders, subdirectories, editable installs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bisect.test_whole import git, surroundings, tool

TRAIN = """\
import torch
from mynet.model import make
torch.manual_seed(0)
net = make()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(3):
    opt.zero_grad(); net(torch.randn(8, 4)).square().mean().backward(); opt.step()
"""
MODEL = "import torch\ndef make():\n    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.{act}(), torch.nn.Linear(8, 1))\n# {n}\n"


def project(repo: Path) -> None:
    """Five commits, the third of which changes the activation."""
    (repo / "scripts").mkdir(parents=True)
    git(repo, "init", "-q", "-b", "main")
    (repo / "pyproject.toml").write_text('[project]\nname = "mynet"\nversion = "1"\n')
    (repo / "scripts" / "train.py").write_text(TRAIN)
    for n in range(5):
        (repo / "src" / "mynet").mkdir(parents=True, exist_ok=True)
        (repo / "src" / "mynet" / "__init__.py").write_text("")
        (repo / "src" / "mynet" / "model.py").write_text(MODEL.format(act="Tanh" if n < 2 else "ReLU", n=n))
        (repo / "README.md").write_text(str(n))
        git(repo, "add", "-A")
        git(repo, "commit", "-q", "-m", f"commit {n}")


def search(repo: Path, tmp_path: Path, env: dict[str, str] | None = None, *, cwd: str = "") -> dict[str, Any]:
    words = ["bisect", "--good", "main~4", "--bad", "main", "--json", "-", "--", "python", "train.py" if cwd else "scripts/train.py"]
    done = tool(*words, cwd=repo / cwd, sessions=tmp_path / "s", env=env)
    assert done.stdout, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.parametrize("cwd", ["", "scripts"])
def test_a_src_layout_without_an_installation(tmp_path: Path, cwd: str) -> None:
    project(tmp_path / "repo")
    found = search(tmp_path / "repo", tmp_path, cwd=cwd)
    assert found["culprit"]["subject"] == "commit 2", found["reason"]
    assert not any("noisy" in note for note in found["notes"])


@pytest.mark.slow
@pytest.mark.parametrize("there", [0, 1])
def test_an_editable_installation_leads_into_the_commit(tmp_path: Path, there: int) -> None:
    """A virtual environment with a path file into the checkout, as setuptools and hatch leave it."""
    repo, venv = tmp_path / "repo", tmp_path / "venv"
    project(repo)
    if there:  # the module was not in the oldest commit: the checkout's must not stand in for it
        git(repo, "rm", "-rqf", "src")
        git(repo, "commit", "-q", "-m", "without the module")
        git(repo, "branch", "old")
        git(repo, "checkout", "-q", "main~1")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    site = next((venv / "lib").glob("python*")) / "site-packages"
    (site / "__editable__.mynet-1.pth").write_text(f"{repo}/src\n")
    base = [p for p in sys.path if p.endswith("site-packages")]
    (site / "zz_base.pth").write_text("".join(f"{p}\n" for p in base))
    env = {"PATH": f"{venv}/bin{os.pathsep}{surroundings(tmp_path)['PATH']}"}
    if there:
        words = ["bisect", "--good", "main~3", "--bad", "old", "--json", "-", "--", "python", "scripts/train.py"]
        done = tool(*words, cwd=repo, sessions=tmp_path / "s", env=env)
        found = json.loads(done.stdout)
        assert found["outcome"] == "inconclusive" and found["trials"][-1]["verdict"] == "untestable"
        assert "from your checkout" in found["reason"] or "No module named" in found["reason"]
        return
    found = search(repo, tmp_path, env)
    assert found["culprit"]["subject"] == "commit 2", found["reason"]
