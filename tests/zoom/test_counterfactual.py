"""Each of the four outcomes of a counterfactual, from real pairs of runs for which it is the truth."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.zoom.cases import surroundings, zoom

PROGRAM = """\
import sys, torch
mode, b = sys.argv[1], "--b" in sys.argv
torch.manual_seed(0)
act = torch.nn.GELU("tanh" if b and mode == "formula" else "none")
net = torch.nn.Sequential(torch.nn.Linear(4, 8), act, torch.nn.Linear(8, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
data = torch.full((8, 4), 0.5)
if b and mode in ("batch", "rounded"):
    data += 2 ** -12
for (x,) in torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data), batch_size=4):
    if mode == "rounded" and not b:
        x = x.bfloat16().float()
    loss = net(x).square().mean()
    if b and mode == "loss":
        loss = loss * 0.5
    opt.zero_grad(); loss.backward(); opt.step()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "necessary", "sufficient", "said"),
    [
        ("batch", True, True, "the batch is necessary and sufficient: with A's in B the divergence disappears"),
        # the change of the batch is lost where the batch is rounded, as A does it
        ("rounded", True, False, "the batch is necessary, not sufficient: with A's in B the divergence disappears"),
        # with the value of the other formula the backward pass still follows its own
        ("formula", False, True, "is sufficient, not necessary: with A's in B this divergence disappears, but the runs part again, at gradient"),
        # gradients follow the factor, not the value of the loss, which nothing reads
        ("loss", False, False, "is neither necessary nor sufficient: with A's in B this divergence disappears, but the runs part again, at gradient"),
    ],
)  # fmt: skip
def test_every_outcome(mode: str, necessary: bool, sufficient: bool, said: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROGRAM)
    for name, extra in (("a", []), ("b", ["--b"])):
        command = [sys.executable, "-m", "reprodebug", "capture", "-o", name, "--", "python", "train.py", mode, *extra]
        subprocess.run(command, cwd=tmp_path, env=surroundings(tmp_path), check=True, capture_output=True)
    done = zoom(tmp_path, "a", "b", "--counterfactual", "--json", "-")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["counterfactual"]
    assert (found["necessary"], found["sufficient"]) == (necessary, sufficient), found
    assert said in found["reason"], found["reason"]
    assert ("with B's in A it appears" if sufficient else "with B's in A it does not appear (") in found["reason"]
