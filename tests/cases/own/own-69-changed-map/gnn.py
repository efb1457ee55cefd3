import json

import numpy as np
import torch
from torch import nn


class MolGraphs:
    def __init__(self):
        m = json.load(open("meta.json"))
        self.per = m["nodes"]
        self.x = np.memmap("nodes.f32", dtype="<f4", mode="r+", shape=(m["graphs"] * m["nodes"], m["features"]))
        self.edges = np.fromfile("edges.i64", dtype="<i8").reshape(-1, 2)
        self.y = np.load("targets.npy")
        self.x -= self.x.mean(0)
        self.x /= self.x.max()

    def batch(self, ids):
        rows = np.concatenate([np.arange(g * self.per, (g + 1) * self.per) for g in ids])
        at = {r: k for k, r in enumerate(rows)}
        e = np.array([(at[a], at[b]) for g in ids for a, b in self.edges[g * self.per : (g + 1) * self.per]])
        return torch.tensor(self.x[rows]), torch.tensor(e).T, torch.tensor(self.y[ids])


class Conv(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.own, self.nb = nn.Linear(i, o), nn.Linear(i, o, bias=False)

    def forward(self, x, e):
        agg = torch.zeros_like(x).index_add(0, e[1], x[e[0]])
        return torch.relu(self.own(x) + self.nb(agg))


class GNN(nn.Module):
    def __init__(self, per):
        super().__init__()
        self.per = per
        self.convs = nn.ModuleList([Conv(4, 16), Conv(16, 16)])
        self.read = nn.Linear(16, 1)

    def forward(self, x, e):
        for c in self.convs:
            x = c(x, e)
        return self.read(x.view(-1, self.per, 16).mean(1)).squeeze(1)


def main():
    torch.manual_seed(5)
    order = np.random.default_rng(5)
    ds = MolGraphs()
    net = GNN(ds.per)
    opt = torch.optim.Adam(net.parameters(), 0.01)
    for epoch in range(3):
        for ids in np.split(order.permutation(64), 4):
            x, e, y = ds.batch(ids)
            loss = ((net(x, e) - y) ** 2).mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
        print("epoch", epoch, "mse", float(loss))


main()
