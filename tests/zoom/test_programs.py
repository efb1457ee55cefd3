"""Zoom on what programs do beside a plain step: hooks, shared weights, second gradients, closures, transforms, workers, threads.

The line that makes each difference is marked ``# <-`` in the program; a brute-force trace of both programs has to name the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reprodebug.model.zoom import Operation
from reprodebug.zoom.drive import _line
from tests.zoom import oracle
from tests.zoom.cases import surroundings, trace, zoom

HEAD = """\
import sys, torch
from torch import nn
from torch.nn import functional as F
B = "--b" in sys.argv
if __name__ == "__main__":
    torch.manual_seed(0)
"""
PLAIN = """\
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
opt = torch.optim.SGD(net.parameters(), 0.1)
"""
STEPS = """\
for i in range(2):
    loss = net(torch.randn(6, 4)).square().mean()
    opt.zero_grad(); loss.backward(); opt.step()
"""
PROGRAMS = {
    "backward of a Function": """\
class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0] * (2.001 if B else 2.0)  # <-
class Act(nn.Module):
    def forward(self, x):
        return Square.apply(x)
net = nn.Sequential(nn.Linear(4, 8), Act(), nn.Linear(8, 1))
opt = torch.optim.SGD(net.parameters(), 0.1)
""" + STEPS,
    "recomputation with other random numbers": """\
from torch.utils.checkpoint import checkpoint
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(4, 4)
    def forward(self, x):
        return F.dropout(self.l(x), 0.5) * 2  # <-
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.m, self.b = nn.Linear(4, 4), Block(), nn.Linear(4, 1)
    def forward(self, x):
        return self.b(checkpoint(self.m, self.a(x), use_reentrant=False, preserve_rng_state=not B))
net = Net()
opt = torch.optim.SGD(net.parameters(), 0.1)
""" + STEPS,
    "a module that is called twice": """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 1)
    def forward(self, x):
        h = self.a(x).tanh()
        if B:
            h = h * 1.0001  # <-
        return self.b(self.a(h))
net = Net()
opt = torch.optim.SGD(net.parameters(), 0.1)
""" + STEPS,
    "a view written in place": """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 1)
    def forward(self, x):
        h = self.a(x)
        h[1:3].mul_(1.5 if B else 1.0)  # <-
        return self.b(h)
net = Net()
opt = torch.optim.SGD(net.parameters(), 0.1)
""" + STEPS,
    "gradients that are not cleared": PLAIN + """\
for i in range(2):
    loss = net(torch.randn(6, 4)).square().mean()
    if not (B and i):
        opt.zero_grad()
    loss.backward()  # <-
    opt.step()
""",
    "tied weights of which one is cut off": """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.m = nn.Embedding(10, 6), nn.Linear(6, 6)
    def forward(self, x):
        w = self.e.weight.detach() if B else self.e.weight
        return F.linear(self.m(self.e(x)), w)  # <-
net = Net()
opt = torch.optim.SGD(net.parameters(), 0.1)
""" + STEPS.replace("randn(6, 4)", "randint(0, 10, (5,))"),
    "a hook on a backward pass": PLAIN + """\
net[1].register_full_backward_hook(lambda m, given, got: (given[0] * (0.9 if B else 1.0),))  # <-
""" + STEPS,
    "functional_call": PLAIN + """\
for i in range(2):
    p = {k: v * (1.001 if B and i else 1.0) for k, v in net.named_parameters()}  # <-
    loss = torch.func.functional_call(net, p, torch.randn(6, 4)).square().mean()
    opt.zero_grad(); loss.backward(); opt.step()
""",
    "per-sample gradients": PLAIN + """\
from torch.func import functional_call, grad, vmap
def one(p, x):
    return functional_call(net, p, x).square().pow(1.5 if B else 1).sum()  # <-
for i in range(2):
    p = {k: v.detach() for k, v in net.named_parameters()}
    grads = vmap(grad(one), in_dims=(None, 0))(p, torch.randn(6, 4))
    for k, v in net.named_parameters():
        v.grad = grads[k].mean(0)
    opt.step()
""",
    "one dropout for all samples": PLAIN + """\
for i in range(2):
    x = torch.func.vmap(F.dropout, randomness="same" if B else "different")(torch.randn(6, 4))  # <-
    loss = net(x).square().mean()
    opt.zero_grad(); loss.backward(); opt.step()
""",
    "a sparse gradient": """\
net = nn.Sequential(nn.Embedding(20, 4, sparse=True), nn.Flatten())
opt = torch.optim.SparseAdam(net.parameters(), lr=0.02, eps=1e-6 if B else 1e-8)
for i in range(2):
    loss = net(torch.randint(0, 20, (6, 3))).square().mean()
    opt.zero_grad(); loss.backward()
    opt.step()  # <-
""",
    "a sparse matrix": PLAIN + """\
edges = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 2], [1, 2, 3, 4, 5, 0, 3, 5]])
near = torch.sparse_coo_tensor(edges, torch.ones(8).mul(1.5 if B else 1.0), (6, 6)).coalesce().to_sparse_csr()  # <-
for i in range(2):
    loss = (near @ net(torch.randn(6, 4))).square().mean()
    opt.zero_grad(); loss.backward(); opt.step()
""",
    "a gradient of a gradient": PLAIN + """\
for i in range(2):
    x = torch.randn(6, 4, requires_grad=True)
    y = net(x)
    g, = torch.autograd.grad(y.sum(), x, create_graph=not B, retain_graph=True)
    loss = y.mean() + g.norm(2, dim=1).square().mean()  # <-
    opt.zero_grad(); loss.backward(); opt.step()
""",
    "a closure": PLAIN + """\
opt = torch.optim.LBFGS(net.parameters(), lr=0.5, max_iter=4)
x, calls = torch.randn(16, 4), []
def closure():
    calls.append(1)
    opt.zero_grad()
    loss = net(x).square().mean()
    if B and len(calls) == 3:
        loss = loss * 1.01  # <-
    loss.backward()
    return loss
opt.step(closure)
""",
    "a scripted module": """\
class Act(nn.Module):
    def __init__(self, p: float):
        super().__init__()
        self.l, self.p = nn.Linear(4, 4), p
    def forward(self, x):
        return F.leaky_relu(self.l(x), self.p)
net = nn.Sequential(torch.jit.script(Act(0.02 if B else 0.01)), nn.Linear(4, 1))
opt = torch.optim.SGD(net.parameters(), 0.1)
""" + STEPS.replace("mean()", "mean()  # <-"),
    "a dispatch mode of the program's": PLAIN + """\
from torch.utils._python_dispatch import TorchDispatchMode
class Noise(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        return made * 1.001 if B and func is torch.ops.aten.tanh.default else made  # <-
with Noise():
    net(torch.randn(6, 4))
""",
    "a worker started by spawn": """\
class Data(torch.utils.data.Dataset):
    def __init__(self, b):
        self.b = b
    def __len__(self):
        return 8
    def __getitem__(self, i):
        return torch.full((4,), float(i)) * (2.0 if self.b and i == 5 else 1.0)  # <-
if __name__ == "__main__":
    net = nn.Linear(4, 1)
    for x in torch.utils.data.DataLoader(Data(B), batch_size=2, num_workers=1, multiprocessing_context="spawn"):
        net(x).sum().backward()
""",
    "a process that sends arrays": PLAIN + """\
import multiprocessing
def produce(q):
    for i in range(2):
        q.put((torch.full((6, 4), float(i)) * (2.0 if B and i else 1.0)).numpy())  # <-
context = multiprocessing.get_context("fork")
q = context.Queue()
p = context.Process(target=produce, args=(q,))
p.start()
for i in range(2):
    loss = net(torch.from_numpy(q.get())).square().mean()
    opt.zero_grad(); loss.backward(); opt.step()
p.join()
""",
    "a thread": PLAIN + """\
import queue, threading
q = queue.Queue(1)
def produce():
    for i in range(2):
        q.put(torch.full((6, 4), float(i)) * (2.0 if B and i else 1.0))
threading.Thread(target=produce).start()
for i in range(2):
    loss = net(q.get()).square().mean()
    opt.zero_grad(); loss.backward(); opt.step()
""",
}  # fmt: skip
EXPECTED: dict[str, tuple[str, str, str]] = {
    "backward of a Function": ("argument", "aten.mul.Tensor", "aten.mul.Tensor"),
    "recomputation with other random numbers": ("random", "aten.bernoulli_.float", "aten.bernoulli_.float"),
    "a module that is called twice": ("sequence", "", "aten.mul.Tensor"),
    "a view written in place": ("argument", "aten.mul_.Tensor", "aten.mul_.Tensor"),
    "gradients that are not cleared": ("sequence", "", "aten.add_.Tensor"),
    "tied weights of which one is cut off": ("sequence", "aten.mm.default", ""),
    "a hook on a backward pass": ("argument", "aten.mul.Tensor", "aten.mul.Tensor"),
    "functional_call": ("argument", "aten.mul.Tensor", "aten.mul.Tensor"),
    "per-sample gradients": ("argument", "aten.pow.Tensor_Scalar", "aten.pow.Tensor_Scalar"),
    "one dropout for all samples": ("argument", "aten.bernoulli.p", "aten.bernoulli.p"),
    "a sparse gradient": ("argument", "aten.add_.Tensor", "aten.add_.Tensor"),
    "a sparse matrix": ("argument", "aten.mul.Tensor", "aten.mul.Tensor"),
    "a gradient of a gradient": ("sequence", "aten.div.Scalar", ""),
    "a closure": ("sequence", "", "aten.mul.Tensor"),
    "a scripted module": ("argument", "aten.leaky_relu.default", "aten.leaky_relu.default"),
    "a dispatch mode of the program's": ("sequence", "", "aten.mul.Tensor"),
    "a worker started by spawn": ("argument", "aten.mul.Tensor", "aten.mul.Tensor"),
    "a process that sends arrays": ("argument", "aten.mul.Tensor", "aten.mul.Tensor"),
    "a thread": ("outside", "", ""),
}
"""kind, and the operation of A and of B"""
UNSEEN = ("a worker started by spawn", "a thread")
"""what happens where the trace of a program does not look"""
VIEWS = ("aten.t.", "aten.expand.", "aten.detach.", "aten.alias.")
"""a view of a tensor that only one run has is no operation that makes a difference"""


def record(folder: Path, name: str, *words: str) -> None:
    command = [sys.executable, "-m", "reprodebug", "capture", "-o", name, "--", "python", "train.py", *words]
    done = subprocess.run(command, cwd=folder, env=surroundings(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PROGRAMS))
def test_the_marked_line_is_named(name: str, tmp_path: Path) -> None:
    program = HEAD + PROGRAMS[name]
    (tmp_path / "train.py").write_text(program)
    record(tmp_path, "a")
    record(tmp_path, "b", "--b")
    done = zoom(tmp_path, "a", "b", "--json", "-")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    said = [found["operation"][side] for side in "ab"]
    assert (found["kind"], *((op["name"] if op else "") for op in said)) == EXPECTED[name], found["reason"]
    assert found["repeats"] == {"a": True, "b": True}, "looking changed the run"
    marked = [f"train.py:{n}" for n, line in enumerate(program.splitlines(), 1) if "# <-" in line]
    if marked:
        assert marked[0] in found["reason"], found["reason"]
    else:
        assert found["notes"][0] == "A runs 1 thread of its own (__main__.produce), whose operations are not seen"
    if name not in UNSEEN:
        rows = [trace([sys.executable, "train.py", *w], str(tmp_path), str(tmp_path / f"{n}.jsonl"), surroundings(tmp_path))
                for n, w in (("trace-a", []), ("trace-b", ["--b"]))]  # fmt: skip
        truth = [_first(rows[0], rows[1]), _first(rows[1], rows[0])]
        assert any(s is not None and s["name"] == t["op"] for s, t in zip(said, truth, strict=True) if t is not None), truth


def _first(mine: list[dict[str, Any]], other: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first operation of a whole program that gave what the other never had."""
    return oracle.first([r for r in mine if not r["op"].startswith(VIEWS)], other, oracle.ANYWHERE)


def test_the_line_to_look_at_in_a_backward_pass() -> None:
    """The engine's own work is the forward pass's line; a hook, a Function's backward, a recomputation are code of the program's."""

    def line(via: str, forward: str) -> str:
        return _line(Operation("aten.mul.Tensor", 0, "t.py:9", via=via, forward_line=forward, node="MulBackward0"))

    assert line("Tensor.backward > backward", "t.py:4") == "t.py:4"
    assert line("Tensor.backward > backward", "") == "t.py:9"
    assert line("grad_impl > grad_and_value_impl > _autograd_grad > grad", "t.py:4") == "t.py:4"
    assert line("", "t.py:4") == line("dropout", "t.py:4") == "t.py:9"
