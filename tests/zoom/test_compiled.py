"""Zoom on programs that ``torch.compile`` runs: a backend that changes one operation, so that the truth is known, and the real one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.zoom.cases import surroundings, zoom

PROGRAM = """\
import sys, torch
torch.manual_seed(0)

def approximating(gm, inputs):
    for n in gm.graph.nodes:
        if n.target is torch._C._nn.gelu and "--changed" in sys.argv:
            n.kwargs = {"approximate": "tanh"}
    gm.recompile()
    return gm.forward

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = torch.nn.Linear(8, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 4)
    def forward(self, x):
        x = self.a(x)
        x = torch.nn.functional.gelu(x, approximate="tanh" if "--tanh" in sys.argv else "none")
        x = Halved.apply(x) if "--function" in sys.argv else x
        return self.b(self.norm(x))

class Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x / 2
    @staticmethod
    def backward(ctx, g):
        return g * (0.51 if "--other" in sys.argv else 0.5)

net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
backend = "inductor" if "--inductor" in sys.argv else "aot_eager" if "--aot" in sys.argv else approximating
call = net if "--eager" in sys.argv else torch.compile(net, backend=backend)
for step in range(3):
    loss = call(torch.randn(4, 8)).square().mean()
    opt.zero_grad(); loss.backward(); opt.step()
"""


def record(folder: Path, name: str, *words: str) -> str:
    command = [sys.executable, "-m", "reprodebug", "capture", "-o", name, "--", "python", "train.py", *words]
    done = subprocess.run(command, cwd=folder, env=surroundings(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return name


def zoomed(folder: Path, a: list[str], b: list[str]) -> dict[str, Any]:
    (folder / "train.py").write_text(PROGRAM)
    done = zoom(folder, record(folder, "a", *a), record(folder, "b", *b), "--json", "-", "--markdown", "z.md")
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["repeats"] == {"a": True, "b": True}, "looking changed the run: a compiled program has to stay compiled"
    return found


def test_eager_against_compiled_names_the_operation_inside(tmp_path: Path) -> None:
    found = zoomed(tmp_path, ["--eager"], ["--changed"])
    inside = found["region"]
    assert found["kind"] == "sequence"
    assert inside["reason"].startswith(
        "run eagerly, B's graph gives A's values bit for bit: compiling makes the difference, first in x_1 (torch._C._nn.gelu"
    )
    assert inside["node"].startswith("x_1 = torch._C._nn.gelu(") and inside["line"] == "train.py:17"
    assert inside["operations"] == ["aten.gelu.default"] and inside["between"] == "run eagerly and compiled (B)"
    assert inside["graphs"] == ["B: compiled graph 0 of Net.forward, train.py:15: 4 operations, compiled by approximating"]
    assert inside["size"]["numbers"]["differing"] > 0 and inside["notes"] == []
    a, b = found["operation"]["a"], found["operation"]["b"]
    assert (a["name"], a["line"]) == ("aten.gelu.default", "train.py:17"), "the eager operation that it stands for"
    assert b["name"] == "compiled graph 0" and "a.weight" in [v["name"] for v in b["inputs"]]
    assert "### Inside the compiled region" in (tmp_path / "z.md").read_text()


@pytest.mark.slow
def test_two_compiled_runs_are_held_against_each_other_inside(tmp_path: Path) -> None:
    found = zoomed(tmp_path, [], ["--changed"])
    assert found["kind"] == "operation"
    assert found["operation"]["a"]["name"] == found["operation"]["b"]["name"] == "compiled graph 0"
    inside = found["region"]
    assert inside["reason"] == (
        "the first operation inside whose compiled values differ between A and B is x_1 (torch._C._nn.gelu, aten.gelu.default) at train.py:17; "
        "run eagerly it gives both the same"
    )
    assert inside["graphs"] == ["A and B: compiled graph 0 of Net.forward, train.py:15: 4 operations, compiled by approximating"]
    assert inside["between"] == "A and B, compiled" and inside["same_graph"]


@pytest.mark.slow
def test_a_module_that_the_compiler_made_lies_inside_its_region(tmp_path: Path) -> None:
    """What AOTAutograd calls is a module, whose result is seen before the region has returned."""
    found = zoomed(tmp_path, ["--aot"], ["--aot", "--tanh"])
    assert found["kind"] == "sequence" and found["operation"]["a"]["name"] == "compiled graph 0"
    inside = found["region"]
    assert inside["reason"].startswith("the two graphs are not the same, first at: x_1 = torch._C._nn.gelu("), inside
    assert inside["line"] == "train.py:17" and inside["operations"] == ["aten.gelu.default"]


@pytest.mark.slow
def test_the_backward_pass_of_a_function_lies_in_a_graph_of_its_own(tmp_path: Path) -> None:
    found = zoomed(tmp_path, ["--aot", "--function"], ["--aot", "--function", "--other"])
    assert found["kind"] == "sequence" and found["operation"]["a"]["name"] == "compiled graph 0 (backward)"
    said = found["region"]["reason"]
    assert said.startswith("the two graphs are not the same, first at: bwd_body_0: "), said
    assert "0.5) in A" in said and "0.51) in B" in said and not found["region"]["same_graph"]


@pytest.mark.slow
def test_inductor_against_eager(tmp_path: Path) -> None:
    """The first difference is one of rounding in the kernel that Inductor wrote; every claim is checked against the numbers."""
    found = zoomed(tmp_path, ["--eager"], ["--inductor"])
    inside = found["region"]
    assert "gives A's values bit for bit: compiling makes the difference" in inside["reason"], inside
    if inside["node"]:  # which operation rounds otherwise depends on the processor
        assert inside["size"]["numbers"]["max_abs"] < 1e-5 and inside["line"].startswith("train.py:")
    assert "compiled by inductor" in inside["graphs"][0]
