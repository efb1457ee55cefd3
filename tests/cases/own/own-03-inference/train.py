"""Inference only: a program without an optimizer. In one of the runs the fourth input is rounded."""

import sys

import torch
from torch import nn

torch.manual_seed(5)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).eval()
with torch.no_grad():
    for n in range(5):
        x = torch.linspace(0.01, 0.99, 12).view(3, 4) * (n + 1)
        if n == 3 and "--round" in sys.argv:
            x = x.round(decimals=2)
        print(model(x).sum().item())
