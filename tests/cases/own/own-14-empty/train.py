import os

import torch
from torch import nn

torch.manual_seed(0)


class Attention(nn.Module):
    def __init__(self, dim=32, memory=64):
        super().__init__()
        self.q = nn.Linear(dim, dim)
        self.register_buffer("slots", torch.empty(memory, dim))
        self.out = nn.Linear(dim, 2)

    def forward(self, x):
        keys = torch.nan_to_num(self.slots).clamp(-1, 1)
        weights = (self.q(x) @ keys.T).softmax(-1)
        return self.out(x + weights @ keys)


def warm_up():
    # lets the allocator hand out recycled memory
    junk = [torch.frombuffer(bytearray(os.urandom(64 * 32 * 4)), dtype=torch.float32).clone() for _ in range(64)]
    return sum(float(torch.nan_to_num(j).clamp(-1, 1).sum()) for j in junk)


warm_up()
model = Attention()
opt = torch.optim.SGD(model.parameters(), lr=0.1)
g = torch.Generator().manual_seed(1)
for step in range(6):
    x = torch.randn(8, 32, generator=g)
    loss = nn.functional.cross_entropy(model(x), (x[:, 0] > 0).long())
    opt.zero_grad()
    loss.backward()
    opt.step()
