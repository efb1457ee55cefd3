"""A program that would notice a recorder: iterators that are read once, modes that count, a handler that raises, warnings by line."""

import signal
import sys
import time
import traceback
from collections import Counter

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Tanh())
optimizer = torch.optim.Adam(model.parameters())

# an iterator of losses
torch.autograd.backward(model(torch.randn(4, 2)).square().mean() for _ in range(2))
optimizer.step()
print("iterator", model[0].weight.grad.sum().item().hex())

# modes that count what they are shown
seen = Counter()


class Functions(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        seen[getattr(function, "__name__", str(function))] += 1
        return function(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):
    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        seen[str(operation)] += 1
        return operation(*args, **(kwargs or {}))


with Functions(), Operations():
    for x, _ in DataLoader(TensorDataset(torch.ones(4, 2), torch.zeros(4)), 2, shuffle=True):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
    model(torch.randn(2, 8).t()[:, :2]).mean().backward()
    torch.manual_seed(1)
print("modes", sorted(seen.items()))


# a value that answers whatever it is asked for
class Asked:
    def __init__(self):
        self.names = []

    def __getattr__(self, name):
        self.names.append(name)
        return lambda *_: ()


class Takes(nn.Module):
    def forward(self, x, asked):
        return x


asked = Asked()
Takes()(torch.ones(1), asked)
print("asked", asked.names)


# a time limit: most of the time of so small a model would be the recorder's
class Late(Exception):
    pass


def late(number, frame):
    raise Late


small = nn.Sequential(*[nn.Identity() for _ in range(20)])
x, reached = torch.ones(3), 0
signal.signal(signal.SIGALRM, late)
for n in range(20):
    ends = time.monotonic() + 2
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.003 + 0.0001 * n)
        while time.monotonic() < ends:
            small(x)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Late:
        reached += 1
print("limits", reached)

# a frame more would show in the traceback
try:
    torch.ones(1).sum().backward()
except RuntimeError:
    print(traceback.format_exc(), file=sys.stdout)
