"""Recognise small synthetic digits with a convolutional network. The program behind most of the sample pairs.

Everything is seeded; each option is one way in which two runs of the same project come apart.
"""

import argparse
import contextlib
import os
import pathlib

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self, width=12, classes=10):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        h = F.relu(self.norm(self.stem(x)))
        h = self.body(h).mean((2, 3))
        return self.head(self.drop(h))


def shards(folder, seed=7, files=6, rows=32, size=16):
    """Write the data once: a few files of images and labels, in an order of their names and another of their dates."""
    folder.mkdir(exist_ok=True)
    g = torch.Generator().manual_seed(seed)
    shapes = torch.randn(10, size, size, generator=g)
    for n in range(files):
        y = torch.randint(10, (rows,), generator=g)
        x = shapes[y].unsqueeze(1) + 0.8 * torch.randn(rows, 1, size, size, generator=g)
        path = folder / f"part-{n}.pt"
        torch.save({"x": x, "y": y}, path)
        os.utime(path, (1_700_000_000 - n, 1_700_000_000 - n))


def load(folder, order):
    paths = sorted(folder.glob("*.pt")) if order == "name" else sorted(folder.glob("*.pt"), key=lambda p: p.stat().st_mtime)
    parts = [torch.load(p) for p in paths]
    return torch.cat([p["x"] for p in parts]), torch.cat([p["y"] for p in parts])


@torch.no_grad()
def accuracy(model, x, y):
    model.eval()
    share = (model(x).argmax(1) == y).float().mean().item()
    model.train()
    return share


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=0, help="-1: none, take what the system gives")
    p.add_argument("--epochs", type=int, default=2)
    p.add_argument("--lr", type=float, default=0.01)
    p.add_argument("--order", choices=["name", "date"], default="name", help="in which order the data files are read")
    p.add_argument("--print-sample", action="store_true", help="print a random sample between the epochs")
    p.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    p.add_argument("--fused", action="store_true", help="the fused implementation of the optimizer")
    p.add_argument("--augment", action="store_true", help="scale each batch with the package tinyaug")
    args = p.parse_args()

    if args.seed >= 0:
        torch.manual_seed(args.seed)
    else:
        torch.seed()
    folder = pathlib.Path("data")
    shards(folder)
    x, y = load(folder, args.order)
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, fused=args.fused)
    cast = torch.autocast("cpu", dtype=torch.bfloat16) if args.precision == "bf16" else contextlib.nullcontext()
    if args.augment:
        import tinyaug

    for epoch in range(args.epochs):
        for images, labels in loader:
            if args.augment:
                images = tinyaug.scale(images)
            with cast:
                loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch} loss {loss.item():.6f} accuracy {accuracy(model, x, y):.3f}")
        if args.print_sample:
            print("a sample:", y[torch.randint(len(y), (1,))].item())


if __name__ == "__main__":
    main()
