"""Gradient accumulation over two halves of a batch; a checkpointed block; an evaluation that draws nothing."""

import sys

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp = nn.Linear(5, 12)
        self.block = nn.Sequential(nn.Linear(12, 12), nn.GELU())
        self.out = nn.Linear(12, 1)

    def forward(self, x):
        h = checkpoint(self.block, torch.tanh(self.inp(x)), use_reentrant=False)
        return self.out(h).squeeze(1)


torch.manual_seed(6)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
g = torch.Generator().manual_seed(7)
for step in range(4):
    x, y = torch.randn(8, 5, generator=g), torch.randn(8, generator=g)
    optimizer.zero_grad()
    for half in (slice(0, 4), slice(4, 8)):
        ((model(x[half]) - y[half]).square().mean() / 2).backward()
    optimizer.step()
    if "--evaluate" in sys.argv:
        model.eval()
        with torch.no_grad():
            print("evaluation", (model(x) - y).square().mean().item())
        model.train()
    print(step, x.sum().item())
