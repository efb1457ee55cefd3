"""Digits with a little noise on every batch."""
import random

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn


def noisy(x, scale=0.1):
    return x + scale * np.random.standard_normal(x.shape)


random.seed(0)
torch.manual_seed(0)
digits = load_digits()
images, labels = digits.data[:320] / 16.0, digits.target[:320]
net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in range(2):
    for i in range(0, len(images), 64):
        x = torch.tensor(noisy(images[i : i + 64]), dtype=torch.float32)
        y = torch.tensor(labels[i : i + 64])
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
