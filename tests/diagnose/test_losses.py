"""Trainings whose loss becomes infinite and NaN: the numbers leave, the statements stay true."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

from reprodebug import api
from reprodebug.cli.details import render

TRAIN = """\
import sys, torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=float(sys.argv[1]))
x = torch.randn(16, 4)
for _ in range(6):
    loss = (net(x) ** 4).mean() * 1e7
    opt.zero_grad(); loss.backward(); opt.step()
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("overflow")
    (folder / "train.py").write_text(TRAIN)
    for name, rate in (("high", "0.05"), ("higher", "0.5"), ("low", "1e-9")):
        words = [sys.executable, "-m", "reprodebug", "capture", "-o", name, "--", sys.executable, "train.py", rate]
        subprocess.run(words, cwd=folder, check=True, capture_output=True)
    return {name: str(folder / name) for name in ("high", "higher", "low")}


def test_a_loss_that_is_nan_is_a_loss(runs: dict[str, str]) -> None:
    c = api.compare(runs["high"], runs["low"])
    last = c.losses[-1]
    assert last[0] == 5
    assert last[1] is not None and math.isnan(last[1])
    assert last[2] is not None and math.isfinite(last[2])
    assert "the loss is NaN or infinite from step 2 on in A, and a number in B" in c.nature
    assert next(x.state for x in c.levels if x.name == "results") == "fails"
    assert "A nan" in render(c, None, "steps", verbose=False)
    json.dumps(c.to_json(), allow_nan=False)


def test_two_losses_that_are_nan_are_alike(runs: dict[str, str]) -> None:
    c = api.compare(runs["higher"], runs["high"])
    assert all(math.isnan(x) for x in c.losses[-1][1:] if x is not None)
    assert next(x.state for x in c.levels if x.name == "results") == "unknown"
    shown = render(c, None, "steps", verbose=False).splitlines()
    assert not [line for line in shown if line.split()[:2] == ["step", "5"] and "differ" not in line]
