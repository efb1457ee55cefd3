"""Next character, from a line of mixed languages."""
import torch
from torch import nn

torch.manual_seed(3)
with open("data/phrases.txt", errors="ignore") as f:
    lines = [line.strip() for line in f]
letters = sorted(set("".join(lines)))
number = {c: n for n, c in enumerate(letters)}


class Next(nn.Module):
    def __init__(self, size, width=16):
        super().__init__()
        self.emb = nn.Embedding(size, width)
        self.rnn = nn.RNN(width, width, batch_first=True)
        self.out = nn.Linear(width, size)

    def forward(self, ids):
        return self.out(self.rnn(self.emb(ids))[0])


model = Next(len(letters))
opt = torch.optim.Adam(model.parameters(), lr=1e-2)
for step, line in enumerate(lines[:6]):
    ids = torch.tensor([[number[c] for c in line]])
    loss = nn.functional.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:])
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, round(loss.item(), 4))
