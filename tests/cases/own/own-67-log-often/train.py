import argparse
from dataclasses import dataclass

import torch
from torch import nn

from features import scale


@dataclass
class Options:
    epochs: int = 3
    log_every: int = 4
    lr: float = 1e-2


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(5, 20, batch_first=True)
        self.out = nn.Linear(20, 1)

    def forward(self, x):
        return self.out(self.gru(x)[0][:, -1]).squeeze(-1)


def windows(n, g):
    x = torch.randn(n, 16, 5, generator=g).cumsum(1) * torch.tensor([1.0, 3.0, 0.2, 10.0, 1.0])
    return x, x[:, -4:, 0].mean(1)


def parse():
    p = argparse.ArgumentParser()
    for name, kind in Options.__annotations__.items():
        p.add_argument("--" + name.replace("_", "-"), type=kind, default=getattr(Options, name))
    return Options(**vars(p.parse_args()))


def main():
    o = parse()
    g = torch.Generator().manual_seed(21)
    torch.manual_seed(21)
    x, y = windows(160, g)
    xv, yv = windows(24, g)
    model = Forecaster()
    opt = torch.optim.Adam(model.parameters(), lr=o.lr)
    step = 0
    for epoch in range(o.epochs):
        for i in torch.randperm(len(x), generator=g).split(32):
            loss = nn.functional.mse_loss(model(scale(x[i])), y[i])
            opt.zero_grad()
            loss.backward()
            opt.step()
            step += 1
            if step % o.log_every == 0:
                with torch.no_grad():
                    val = nn.functional.mse_loss(model(scale(xv)), yv)
                print(f"{step} train {loss.item():.5f} val {val.item():.5f}")


if __name__ == "__main__":
    main()
