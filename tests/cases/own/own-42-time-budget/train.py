import time
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 2))
opt = torch.optim.SGD(net.parameters(), 0.1)
begin, budget = time.monotonic(), 5.0
for step in range(6):
    opt.param_groups[0]["lr"] = 0.1 * max(0.05, 1 - (time.monotonic() - begin) / budget)
    x = torch.randn(10, 6)
    loss = nn.functional.cross_entropy(net(x), x.sum(1).gt(0).long())
    opt.zero_grad(); loss.backward(); opt.step()
print(loss.item())
