import sys

import torch
from torch import nn

torch.manual_seed(0)
fold = sys.argv[sys.argv.index("--fold") + 1]
with open(f"fold-{fold}.txt") as f:
    x = torch.tensor([[float(v) for v in line.split()] for line in f])
net = nn.Linear(3, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for i in range(0, len(x), 4):
    loss = net(x[i : i + 4]).square().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
