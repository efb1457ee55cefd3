"""A training that a script cuts into two processes: complete checkpoints make no alarm, and what one lacks is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reprodebug import api
from reprodebug.compare.live import Live
from reprodebug.store.run import open_run

TRAIN = """\
import os, sys
import numpy as np
import torch

until, lacks = int(sys.argv[1]), sys.argv[2]
np.random.seed(1)
torch.manual_seed(1)
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
first, memory = 0, []
if os.path.exists("last.pt"):
    c = torch.load("last.pt", weights_only=False)
    net.load_state_dict(c["net"])
    opt.load_state_dict(c["opt"])
    first = c["step"]
    if lacks != "torch":
        torch.set_rng_state(c["torch"])
    if lacks != "numpy":
        np.random.set_state(c["numpy"])
    if lacks != "memory":
        memory = c["memory"]
for step in range(first, until):
    net.eval()(torch.zeros(1, 4))
    net.train()
    memory.append(torch.tensor(np.random.randn(6, 4), dtype=torch.float32))
    x = torch.cat([memory[i] for i in np.random.permutation(len(memory))[:2]])
    loss = (net(x) - x.sum(1, keepdim=True)).square().mean()
    opt.zero_grad(); loss.backward(); opt.step()
torch.save({"net": net.state_dict(), "opt": opt.state_dict(), "step": until, "torch": torch.get_rng_state(),
            "numpy": np.random.get_state(), "memory": memory}, "last.pt")
"""


def recorded(folder: Path, name: str, command: str) -> str:
    out = f"{folder}/{name}"
    subprocess.run(["mkdir", f"{out}-work"], check=True)
    with open(f"{out}-work/train.py", "w") as f:
        f.write(TRAIN)
    words = [sys.executable, "-m", "reprodebug", "capture", "-o", out, "--", "sh", "-ec", command.replace("python", sys.executable)]
    subprocess.run(words, cwd=f"{out}-work", check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    return recorded(tmp_path_factory.mktemp("whole"), "a", "python train.py 6 nothing")


@pytest.mark.parametrize(("lacks", "module"), [("nothing", None), ("numpy", ""), ("memory", "")])
def test_a_restart(lacks: str, module: str | None, whole: str, tmp_path: Path) -> None:
    cut = recorded(tmp_path, "b", f"python train.py 3 {lacks}; python train.py 6 {lacks}")
    for a, b in ((whole, cut), (cut, whole)):  # while the second of them is recorded
        live = Live(open_run(a), b)
        live._look()
        assert (live.first is not None, live.outran) == (module is not None, False)
    c = api.compare(whole, cut)
    assert (c.a.steps, c.b.steps) == (6, 6)
    if module is None:
        assert c.verdict == "identical" and not c.coverage.unobserved, (c.reason, c.first)
        return
    assert c.first is not None and (c.first.step, c.first.module) == (3, module)
    assert "last.pt" in c.causes[0].summary
    if lacks == "memory":  # every generator was restored, and other numbers are drawn from it later
        assert c.causes[0].rule == "resume without place in the data", c.causes[:2]
        assert any("numpy.random was the same in both runs after the checkpoint was read" in row for row in c.causes[0].evidence)
        assert "replay memory" in c.causes[0].remedy
    else:
        assert c.causes[0].rule == "resume without random state" and lacks in c.causes[0].summary, c.causes[:2]
    assert "B trains in 2 processes, one after the other" in c.causes[0].evidence
