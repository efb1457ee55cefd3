import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader

from stream import Clicks, collate


class Factors(nn.Module):
    def __init__(self, users, items, dim=8):
        super().__init__()
        self.user = nn.Embedding(users, dim)
        self.item = nn.Embedding(items, dim)

    def forward(self, u, i, j):
        w = self.user(u)
        return ((self.item(i) - self.item(j)) * w).sum(1)


if __name__ == "__main__":
    cli = argparse.ArgumentParser()
    cli.add_argument("--num-workers", type=int, default=1)
    cli.add_argument("--batch-size", type=int, default=32)
    args = cli.parse_args()
    torch.manual_seed(13)
    model = Factors(20, 30)
    opt = torch.optim.Adagrad(model.parameters(), lr=0.1)
    clicks = DataLoader(Clicks("logs/*.jsonl", 30), args.batch_size, collate_fn=collate, num_workers=args.num_workers)
    for epoch in range(2):
        n = 0
        for u, i, j in clicks:
            loss = -nn.functional.logsigmoid(model(u, i, j)).mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
            n += len(u)
        print(f"epoch {epoch}: {n} clicks, loss {loss.item():.5f}")
