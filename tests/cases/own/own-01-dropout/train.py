"""A regression whose dropout probability comes from a configuration file."""

import json

import torch
from torch import nn

with open("config.json") as f:
    config = json.load(f)
torch.manual_seed(1)
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(config["dropout"]), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
data = torch.Generator().manual_seed(2)
for _ in range(5):
    x = torch.randn(8, 6, generator=data)
    loss = (model(x).squeeze(1) - x.sum(1)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())
