import json
import os

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(80, 5, generator=torch.Generator().manual_seed(2)) * 3 + 1


def statistics():
    if os.path.isfile("stats.json"):
        with open("stats.json") as f:
            s = json.load(f)
        return torch.tensor(s["mean"]), torch.tensor(s["std"])
    mean, std = x.mean(0), x.std(0)
    with open("stats.json", "w") as f:
        json.dump({"mean": [round(v, 3) for v in mean.tolist()], "std": [round(v, 3) for v in std.tolist()]}, f)
    return mean, std


mean, std = statistics()
model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))
opt = torch.optim.SGD(model.parameters(), lr=0.05)
for i in range(0, 80, 16):
    batch = (x[i : i + 16] - mean) / std
    loss = (model(batch).squeeze(1) - batch.sum(1)).square().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
