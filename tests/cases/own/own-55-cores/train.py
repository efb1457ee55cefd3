import os
import torch
from torch import nn
torch.manual_seed(0)
def shards(rows):
    n = len(os.sched_getaffinity(0))
    return [rows[k::n] for k in range(n)]
rows = torch.randn(64, 6)
data = torch.cat(shards(rows))
net = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 1)); opt = torch.optim.Adam(net.parameters())
for i in range(0, 64, 16):
    opt.zero_grad(); loss = net(data[i:i + 16]).pow(2).mean(); loss.backward(); opt.step()
print(loss.item())
