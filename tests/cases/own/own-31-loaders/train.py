import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Noisy(Dataset):
    def __init__(self):
        self.x = torch.linspace(0, 1, 48).reshape(24, 2)

    def __len__(self):
        return 24

    def __getitem__(self, i):
        return self.x[i] + 0.1 * torch.rand(2)


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--loaders", type=int, default=1)
    args = p.parse_args()
    torch.manual_seed(4)
    net = nn.Linear(2, 1)
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    for x in DataLoader(Noisy(), batch_size=6, num_workers=args.loaders):
        loss = net(x).square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
