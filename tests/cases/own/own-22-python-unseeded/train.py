import random

import torch
from torch import nn

torch.manual_seed(3)
SENTENCES = [[(7 * i + 3 * j) % 40 for j in range(12)] for i in range(48)]


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(40, 8)
        self.out = nn.Linear(8, 2)

    def forward(self, ids):
        return self.out(self.table(ids).mean(1))


model = Bag()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(2):
    order = list(range(48))
    random.shuffle(order)
    for start in range(0, 48, 8):
        rows = order[start : start + 8]
        ids = torch.tensor([SENTENCES[r] for r in rows])
        target = torch.tensor([r % 2 for r in rows])
        loss = nn.functional.cross_entropy(model(ids), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
