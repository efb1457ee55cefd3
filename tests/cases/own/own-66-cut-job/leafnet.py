import argparse
import os

import torch
import torch.nn as nn


def block(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2))


class LeafNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(block(1, 6), block(6, 12))
        self.classifier = nn.Linear(12 * 4, 4)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def leaves(n, seed):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(4, (n,), generator=g)
    x = torch.rand(n, 1, 8, 8, generator=g)
    for k in range(n):
        x[k, 0, y[k] : y[k] + 4, y[k] : y[k] + 4] += 1.0
    return x, y


class Trainer:
    def __init__(self, folder):
        self.folder = folder
        self.model = LeafNet()
        self.opt = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)
        self.epoch = 0
        self.x, self.y = leaves(96, 1)
        self.xv, self.yv = leaves(32, 2)

    def save(self):
        os.makedirs(self.folder, exist_ok=True)
        weights = {k: p.detach() for k, p in self.model.named_parameters()}
        torch.save({"weights": weights, "opt": self.opt.state_dict(), "epoch": self.epoch}, f"{self.folder}/last.pt")

    def restore(self):
        c = torch.load(f"{self.folder}/last.pt")
        self.model.load_state_dict(c["weights"], strict=False)
        self.opt.load_state_dict(c["opt"])
        self.epoch = c["epoch"]

    def evaluate(self):
        self.model.eval()
        with torch.no_grad():
            loss = nn.functional.cross_entropy(self.model(self.xv), self.yv)
        self.model.train()
        return loss.item()

    def fit(self, until):
        while self.epoch < until:
            g = torch.Generator().manual_seed(100 + self.epoch)
            for idx in torch.randperm(96, generator=g).split(24):
                self.opt.zero_grad()
                nn.functional.cross_entropy(self.model(self.x[idx]), self.y[idx]).backward()
                self.opt.step()
            self.epoch += 1
            print(f"epoch {self.epoch} val {self.evaluate():.6f}")
            self.save()


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--until", type=int, default=4)
    p.add_argument("--folder", default="ckpt")
    p.add_argument("--resume", action="store_true")
    a = p.parse_args()
    torch.manual_seed(40)
    t = Trainer(a.folder)
    if a.resume:
        t.restore()
    t.fit(a.until)
