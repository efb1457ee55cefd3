import torch
from torch import nn

def fit(net, batches, opt, loss_fn=nn.functional.cross_entropy):
    for x, y in batches:
        opt.zero_grad(); loss = loss_fn(net(x), y); loss.backward(); opt.step()
    print(float(loss.detach()))

import os, zlib
names = sorted(os.listdir("parts"))
train = [n for n in names if zlib.crc32(os.path.abspath("parts/" + n).encode()) % 3]
rows = [[float(v) for v in open("parts/" + n).read().split()] for n in train]
torch.manual_seed(0)
x = torch.tensor(rows); y = torch.arange(len(rows)) % 3
net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
fit(net, zip(x.split(3), y.split(3)), torch.optim.SGD(net.parameters(), 0.01))
