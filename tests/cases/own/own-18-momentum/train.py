import os

import torch
from torch import nn

torch.manual_seed(0)
momentum = float(os.environ.get("MOMENTUM", "0.9"))
model = nn.LSTM(5, 9, batch_first=True)
head = nn.Linear(9, 1)
params = [*model.parameters(), *head.parameters()]
opt = torch.optim.SGD(params, lr=0.3, momentum=momentum)
g = torch.Generator().manual_seed(4)
for step in range(8):
    x = torch.randn(6, 10, 5, generator=g)
    h, _ = model(x)
    loss = (head(h[:, -1]).squeeze(1) - x.sum((1, 2))).square().mean()
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(params, 1.0)
    opt.step()
    print(step, loss.item())
