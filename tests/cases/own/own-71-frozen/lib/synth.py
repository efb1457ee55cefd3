import math
import random

import torch


def make_chirp(rng, kind, n):
    f0, f1 = (0.02, 0.12) if kind == 0 else (0.12, 0.02) if kind == 1 else (0.06, 0.06)
    out = []
    for i in range(n):
        f = f0 + (f1 - f0) * i / n
        out.append([math.sin(2 * math.pi * f * i) + rng.gauss(0, 0.2), f * 10 * rng.random()])
    return out


def dataset(n=96, seed=0):
    rng = random.Random(seed)
    return [(torch.tensor(make_chirp(rng, i % 3, rng.randint(12, 30))), i % 3) for i in range(n)]


def collate(items):
    lengths = torch.tensor([len(s) for s, _ in items])
    seqs = torch.nn.utils.rnn.pad_sequence([s for s, _ in items], batch_first=True)
    return seqs, lengths, torch.tensor([k for _, k in items])
