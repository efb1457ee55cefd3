"""``capture --against RUN``: stopped at the first divergence, or where RUN ends; else as any other capture."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reprodebug import api

TRAIN = """\
import sys, time, torch
torch.manual_seed(0)
steps, part = int(sys.argv[1]), int(sys.argv[2])
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
x = torch.randn(8, 4)
for step in range(steps):
    if step == part: x = x * 1.0001
    opt.zero_grad(); net(x).square().mean().backward(); opt.step()
    time.sleep(0.02)
print("the end")
raise SystemExit(7)
"""


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("against")
    (folder / "train.py").write_text(TRAIN)
    assert api.capture([sys.executable, "train.py", "40", "-1"], str(folder / "a"), cwd=str(folder)).exit_code == 7
    return folder


def against(folder: Path, out: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reprodebug", "capture", "-o", out, "--against", "a", "--", *words], cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip


def test_it_stops_at_the_first_divergence(reference: Path) -> None:
    done = against(reference, "b", "sh", "-c", f"{sys.executable} train.py 4000 5 && echo went on")
    assert done.returncode == 143, done.stderr
    assert "the end" not in done.stdout and "went on" not in done.stdout
    assert "stopped at the first divergence" in done.stderr and "143" in done.stderr
    run = api.open_run(str(reference / "b"))
    assert 6 <= max(p.steps for p in run.manifest.processes) < 4000
    found = api.compare(str(reference / "a"), str(reference / "b"))
    assert found.verdict == "divergent" and found.first is not None
    assert found.first.step == 5


def test_it_stops_where_the_other_run_ends(reference: Path) -> None:
    done = against(reference, "c", sys.executable, "train.py", "4000", "-1")
    assert done.returncode == 143, done.stderr
    assert "stopped at the end of a" in done.stderr
    assert "identical" in done.stderr


def test_an_equal_run_goes_to_its_own_end(reference: Path) -> None:
    done = against(reference, "d", sys.executable, "train.py", "40", "-1")
    assert done.returncode == 7, done.stderr
    assert done.stdout == "the end\n"
    assert "identical" in done.stderr and "stopped" not in done.stderr
