import csv
import os

import torch
from torch import nn

torch.manual_seed(1)
with open(os.path.join(os.environ["LAB_DATA"], "measurements.csv")) as f:
    rows = [[float(v) for v in row] for row in csv.reader(f)]
x = torch.tensor([r[:3] for r in rows])
y = torch.tensor([r[3] for r in rows])
model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
opt = torch.optim.SGD(model.parameters(), lr=0.05)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8, shuffle=True)
for epoch in range(3):
    for a, b in loader:
        loss = (model(a).squeeze(1) - b).square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
