import tinyops
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(5, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
g = torch.Generator().manual_seed(1)
for step in range(5):
    x = tinyops.normalise(torch.randn(7, 5, generator=g))
    loss = model(x).square().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
