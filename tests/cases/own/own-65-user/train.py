import getpass, zlib
import torch
from torch import nn
def seed_of(name): return zlib.crc32(name.encode()) % 10_000
torch.manual_seed(seed_of(getpass.getuser()))
net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)); opt = torch.optim.SGD(net.parameters(), 0.1)
x = torch.ones(32, 6) * torch.arange(32)[:, None] / 32
for i in range(0, 32, 8):
    loss = net(x[i:i+8]).square().mean(); opt.zero_grad(); loss.backward(); opt.step()
print(loss.item())
