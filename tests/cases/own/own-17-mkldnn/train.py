import os

import torch
from torch import nn

if os.environ.get("PLAIN_KERNELS"):
    torch.backends.mkldnn.enabled = False
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.Flatten(), nn.Linear(16 * 144, 4))
opt = torch.optim.SGD(model.parameters(), lr=0.05)
g = torch.Generator().manual_seed(6)
for step in range(5):
    x = torch.randn(4, 3, 12, 12, generator=g)
    loss = nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 2, 3]))
    opt.zero_grad()
    loss.backward()
    opt.step()
