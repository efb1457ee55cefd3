import importlib
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from trainer import History, Plateau, Stopper, Trainer

E = getattr(importlib.import_module("exps." + sys.argv[1]), "Exp")
torch.manual_seed(12)
x = torch.randn(160, 10)
y = ((x[:, 0] * x[:, 1]) > 0).long()
net = nn.Sequential(nn.Linear(10, E.width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(E.width, 2))
opt = torch.optim.SGD(net.parameters(), lr=E.lr, momentum=0.95)
hist = History()
tr = Trainer(net, opt, nn.CrossEntropyLoss(), [hist, Plateau(E.patience), Stopper()])
tr.fit(DataLoader(TensorDataset(x[:120], y[:120]), 30, shuffle=True), DataLoader(TensorDataset(x[120:], y[120:]), 40), E.epochs)
print([round(v, 4) for v in hist.v], opt.param_groups[0]["lr"])
