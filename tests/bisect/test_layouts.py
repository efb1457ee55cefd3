"""Projects that are laid out otherwise: src folders, subdirectories, editable installs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

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


def project(repo: Path, *, first: int = 0) -> None:
    """Five commits, the third of which changes the activation; the module is there from commit ``first`` on."""
    (repo / "scripts").mkdir(parents=True)
    git(repo, "init", "-q", "-b", "main")
    (repo / "pyproject.toml").write_text('[project]\nname = "mynet"\nversion = "1"\n')
    (repo / "scripts" / "train.py").write_text(TRAIN)
    for n in range(5):
        if n >= first:
            (repo / "src" / "mynet").mkdir(parents=True, exist_ok=True)
            (repo / "src" / "mynet" / "__init__.py").write_text("")
            (repo / "src" / "mynet" / "model.py").write_text(MODEL.format(act="Tanh" if n < 2 else "ReLU", n=n))
        (repo / "README.md").write_text(str(n))
        git(repo, "add", "-A")
        git(repo, "commit", "-q", "-m", f"commit {n}")


def editable(repo: Path, folder: Path) -> dict[str, str]:
    """An environment in which the project is installed editable, as setuptools and hatch leave it; its variables."""
    site = folder / "site"
    site.mkdir()
    (site / "usercustomize.py").write_text("")
    (site / "__editable__.mynet-1.pth").write_text(f"{repo}/src\n")
    starter = folder / "bin"
    starter.mkdir()
    python = starter / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (folder / "start").mkdir()
    return {"PATH": f"{starter}{os.pathsep}{surroundings(folder)['PATH']}", "EDITABLE": str(site)}


def search(repo: Path, tmp_path: Path, env: dict[str, str] | None = None, *, cwd: str = "") -> dict[str, object]:
    words = ["bisect", "--good", "main~4", "--bad", "main", "--json", "-", "--", "python", "train.py" if cwd else "scripts/train.py"]
    done = tool(*words, cwd=repo / cwd, sessions=tmp_path / "s", env=env)
    assert done.stdout, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.parametrize("cwd", ["", "scripts"])
def test_a_src_layout_without_an_installation(tmp_path: Path, cwd: str) -> None:
    project(tmp_path / "repo")
    found = search(tmp_path / "repo", tmp_path, cwd=cwd)
    assert found["culprit"]["subject"] == "commit 2", found["reason"]  # type: ignore[index]
    assert not any("noisy" in note for note in found["notes"])  # type: ignore[union-attr, attr-defined]


@pytest.mark.slow
def test_an_editable_installation_leads_into_the_commit(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    project(repo)
    found = search(repo, tmp_path, {"PYTHONPATH": f"{repo}/src"})
    assert found["culprit"]["subject"] == "commit 2", found["reason"]  # type: ignore[index]
