"""A classifier whose learning rate halves after each pass over the data; in one of the runs after each batch."""

import sys

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import StepLR

torch.manual_seed(8)
model = nn.Sequential(nn.Linear(6, 12), nn.LayerNorm(12), nn.Tanh(), nn.Linear(12, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
schedule = StepLR(optimizer, step_size=1, gamma=0.5)
g = torch.Generator().manual_seed(9)
x, y = torch.randn(24, 6, generator=g), torch.randint(3, (24,), generator=g)
each_batch = "--each-batch" in sys.argv
for epoch in range(2):
    for rows in torch.arange(24).split(8):
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if each_batch:
            schedule.step()
    if not each_batch:
        schedule.step()
    print(epoch, loss.item())
