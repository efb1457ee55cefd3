import os

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

with open(os.path.expanduser("~/.fitrc")) as f:
    settings = dict(line.replace(" ", "").strip().split("=") for line in f if "=" in line)


class Waves(IterableDataset):
    def __iter__(self):
        generator = torch.Generator().manual_seed(9)
        for i in range(24):
            yield torch.randn(2, 16, generator=generator), float(i % 2)


class Net(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.conv = nn.Conv1d(2, 8, 5)
        self.drop = nn.Dropout(p)
        self.out = nn.Linear(8, 1)

    def forward(self, x):
        return self.out(self.drop(self.conv(x).relu()).amax(2)).squeeze(1)


torch.manual_seed(0)
net = Net(float(settings["dropout"]))
opt = torch.optim.Adam(net.parameters())
for epoch in range(int(settings["epochs"])):
    for x, y in DataLoader(Waves(), batch_size=8):
        loss = nn.functional.binary_cross_entropy_with_logits(net(x), y.float())
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
