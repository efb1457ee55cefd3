import numpy as np
import torch
from torch import nn

from feeder import Feeder

np.random.seed(0)
torch.manual_seed(0)
y = np.random.randint(0, 2, 200)
x = np.random.randn(200, 24).astype(np.float32)
x[y == 1, 8:14] += 1.5

model = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 2))
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
for step, (xb, yb) in enumerate(Feeder(x, y, 60, 32)):
    noise = np.random.normal(0, 0.05, xb.shape).astype(np.float32)
    out = model(torch.from_numpy(xb + noise))
    loss = nn.functional.cross_entropy(out, torch.from_numpy(yb))
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 10 == 9:
        print(step, loss.item())
