import torch
from torch import nn

def fit(net, batches, opt, loss_fn=nn.functional.cross_entropy):
    for x, y in batches:
        opt.zero_grad(); loss = loss_fn(net(x), y); loss.backward(); opt.step()
    print(float(loss.detach()))

import fastaug
torch.manual_seed(0)
net = nn.Linear(6, 3)
g = torch.Generator().manual_seed(1)
data = [(fastaug.apply(torch.randn(8, 6, generator=g)), torch.randint(0, 3, (8,), generator=g)) for _ in range(6)]
fit(net, data, torch.optim.SGD(net.parameters(), 0.1))
