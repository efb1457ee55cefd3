"""Demand by hour; the age of each record is computed when it is read."""
import time

import torch
from torch import nn

torch.manual_seed(0)
START = 1_700_000_000.0
hours = torch.arange(40, dtype=torch.float64)
age = time.time() - (START + hours * 3600)
x = torch.stack([hours / 24, age % 86400 / 3600], 1).float()
y = torch.sin(hours.float() / 4)
net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for i in range(0, 40, 10):
    loss = (net(x[i : i + 10]).squeeze(1) - y[i : i + 10]).square().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
