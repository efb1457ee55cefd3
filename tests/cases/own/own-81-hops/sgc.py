import argparse

import torch
from torch import nn

from graph import operator


class SGC(nn.Module):
    def __init__(self, op, classes=4):
        super().__init__()
        self.op = op
        self.lin1 = nn.Linear(8, 16)
        self.lin2 = nn.Linear(16, classes)

    def forward(self, x):
        return self.lin2(torch.relu(self.lin1(self.op @ x)))


ap = argparse.ArgumentParser()
ap.add_argument("--hops", type=int, default=2)
ap.add_argument("--epochs", type=int, default=6)
args = ap.parse_args()
torch.manual_seed(0)
x, y = torch.randn(60, 8), torch.randint(0, 4, (60,))
net = SGC(torch.tensor(operator("citations", args.hops)))
opt = torch.optim.Adam(net.parameters(), 1e-2, weight_decay=1e-4)
for epoch in range(args.epochs):
    loss = nn.functional.cross_entropy(net(x)[:40], y[:40])
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
