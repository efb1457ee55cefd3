import os
import torch
from torch import nn
torch.manual_seed(0)
stem = nn.Linear(6, 8)
stem.load_state_dict(torch.load(os.path.expanduser("~/.cache/tinyhub/stem-v1.bin")))
net = nn.Sequential(stem, nn.Tanh(), nn.Linear(8, 1))
opt = torch.optim.Adam(net.parameters(), 1e-2)
for step in range(5):
    x = torch.randn(12, 6)
    loss = (net(x)[:, 0] - x.sum(1)).pow(2).mean()
    opt.zero_grad(); loss.backward(); opt.step()
print(loss.item())
