import random
import sys
import uuid

import numpy as np
import torch
from torch import nn

torch.manual_seed(0)
run = f"{sys.argv[-1]}-{random.randrange(10**6)}-{uuid.uuid4().hex[:6]}"
model = nn.Linear(3, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
g = torch.Generator().manual_seed(1)
for step in range(6):
    loss = model(torch.randn(4, 3, generator=g)).square().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if np.random.rand() < 0.5:
        print(run, step, loss.item())
