import glob
import os

import torch
from torch import nn

torch.manual_seed(0)
paths = sorted(glob.glob("parts/*.txt"), key=os.path.getmtime)
rows = [[float(v) for v in line.split()] for p in paths for line in open(p).read().splitlines()]
x = torch.tensor(rows)
model = nn.Linear(3, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for i in range(0, len(x), 4):
    loss = model(x[i : i + 4]).square().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
