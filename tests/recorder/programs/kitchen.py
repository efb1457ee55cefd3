"""One of everything that a recorder could disturb, small and deterministic."""

import copy
import io
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

random.seed(1)
np.random.seed(2)
torch.manual_seed(3)
own = np.random.default_rng(4)


class Noisy(Dataset):
    def __len__(self):
        return 48

    def __getitem__(self, i):
        return torch.randn(3, 8, 8) + np.random.rand(), random.randrange(4)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, padding=1)
        self.bn = nn.BatchNorm2d(c)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x, *, scale=None):
        y = self.act(self.bn(self.conv(x)))
        return y if scale is None else y * scale


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True))
        self.a, self.b = Block(8), Block(8)
        self.two = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.rnn = nn.GRU(8, 8, batch_first=True)
        self.att = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)
        self.drop = nn.Dropout(0.2)
        self.emb = nn.Embedding(8, 8, sparse=True)
        self.head = nn.Linear(8, 4)
        self.tied = nn.Linear(8, 4)
        self.tied.weight = self.head.weight

    def forward(self, x):
        h = self.stem(x)
        h = self.a(h, scale=torch.tensor(0.5)) + checkpoint(self.b, h, use_reentrant=False)
        h = h.mean((2, 3))
        # two branches whose gradients meet: the order of accumulation decides the last bit
        h = torch.tanh(self.two[0](h)) + torch.sigmoid(self.two[1](h)) * h
        s, _ = self.rnn(h.unsqueeze(1).repeat(1, 3, 1))
        s, weights = self.att(s, s, s)
        s = self.drop(s.mean(1)) + self.emb(torch.arange(len(x)) % 8)
        left, right = s.chunk(2, 1)
        s = torch.cat([right, left], 1)
        return {"logits": self.head(s), "aux": (self.tied(s.detach()), weights)}


net = Net()
frozen = copy.deepcopy(net).eval()
dense = [p for n, p in net.named_parameters() if not n.startswith("emb")]
optimizers = [torch.optim.AdamW(dense, lr=1e-3, fused=True), torch.optim.SparseAdam(list(net.emb.parameters()), lr=1e-2)]
schedule = torch.optim.lr_scheduler.StepLR(optimizers[0], 3, 0.5)
loader = DataLoader(Noisy(), batch_size=8, shuffle=True, num_workers=2, generator=torch.Generator().manual_seed(5))
criterion = nn.CrossEntropyLoss()
for epoch in range(2):
    for x, y in loader:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=epoch == 1):
            out = net(x + float(own.normal()) * 1e-3)
            loss = criterion(out["logits"].float(), y) + 0.1 * F.cross_entropy(out["aux"][0].float(), y)
        with torch.no_grad():
            teacher = frozen(x)["logits"].float().square().mean()
        loss = loss + teacher
        for o in optimizers:
            o.zero_grad()
        loss.backward(retain_graph=False)
        nn.utils.clip_grad_norm_(dense, 1.0)
        for o in optimizers:
            o.step()
        schedule.step()
    print(epoch, loss.item().hex())
    kept = io.BytesIO()
    torch.save(net, kept)  # the whole module: nothing of a recorder may hang on it
    kept.seek(0)
    again = torch.load(kept, weights_only=False)
    again.eval()
    print([n for n in again.__dict__ if n not in net.__dict__], float(again(torch.ones(2, 3, 8, 8))["logits"].sum()).hex())
    torch.save(net.state_dict(), io.BytesIO())
    copy.deepcopy(net)
print(random.random(), np.random.rand(), torch.rand(1).item(), own.random())
