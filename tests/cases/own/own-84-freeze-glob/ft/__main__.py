import json
import torch
from torch import nn
from torch.utils.data import DataLoader
from .ds import Stream
from .freeze import freeze

c = json.load(open("ft.json"))
torch.manual_seed(5)
net = nn.Sequential()
net.add_module("stem", nn.Sequential(nn.Conv1d(3, 8, 3), nn.InstanceNorm1d(8, affine=True)))
net.add_module("stem2", nn.Sequential(nn.ReLU(), nn.Conv1d(8, 8, 3)))
net.add_module("head", nn.Sequential(nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(8, 2)))
opt = torch.optim.SGD(freeze(net, c["freeze"]), c["lr"], momentum=0.9)
for e in range(c["epochs"]):
    for b in DataLoader(Stream(40), 8):
        loss = nn.functional.cross_entropy(net(b["x"]), b["y"])
        opt.zero_grad(); loss.backward(); opt.step()
    print(e, loss.item())
