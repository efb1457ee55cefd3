import argparse
import os

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from noise import Noiser


class Denoiser(nn.Module):
    def __init__(self, ch=12):
        super().__init__()
        self.time = nn.Embedding(50, ch)
        self.inp = nn.Conv2d(1, ch, 3, padding=1)
        self.out = nn.Conv2d(ch, 1, 3, padding=1)

    def forward(self, x, t):
        return self.out(nn.functional.silu(self.inp(x) + self.time(t)[:, :, None, None]))


ap = argparse.ArgumentParser()
ap.add_argument("--out", default="runs/base")
args = ap.parse_args()
os.makedirs(args.out, exist_ok=True)
torch.manual_seed(0)
yy, xx = torch.meshgrid(torch.arange(10.0), torch.arange(10.0), indexing="ij")
images = torch.stack([torch.sin(xx * (k % 5) / 4 + yy * (k % 7) / 5) for k in range(64)])[:, None]
loader = DataLoader(TensorDataset(images), 16, shuffle=True)
net, noiser = Denoiser(), Noiser(args.out)
opt = torch.optim.Adam(net.parameters(), 1e-3)
with open(os.path.join(args.out, "loss.csv"), "w") as log:
    for epoch in range(3):
        for (x,) in loader:
            noisy, t, eps = noiser(x)
            loss = nn.functional.mse_loss(net(noisy, t), eps)
            opt.zero_grad()
            loss.backward()
            opt.step()
            print(epoch, loss.item(), sep=",", file=log)
torch.save(net.state_dict(), os.path.join(args.out, "net.pt"))
