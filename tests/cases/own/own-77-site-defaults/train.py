import torch
from chatter import say
from recipes import optim
from torch import nn


class Tagger(nn.Module):
    def __init__(self, words=30, width=12):
        super().__init__()
        self.emb = nn.Embedding(words, width)
        self.rnn = nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(width, 5)

    def forward(self, ids):
        return self.out(self.rnn(self.emb(ids))[0])


torch.manual_seed(0)
net = Tagger()
opt = optim.usual(net.parameters(), 1e-2)
for step in range(3):
    ids = torch.randint(0, 30, (4, 8))
    loss = nn.functional.cross_entropy(net(ids).flatten(0, 1), (ids % 5).flatten())
    opt.zero_grad()
    loss.backward()
    opt.step()
    say(step, loss.item())
