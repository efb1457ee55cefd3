import torch
from torch import nn

class Sentence:
    def __init__(self, ids):
        self.ids = ids

torch.manual_seed(0)
pool = {Sentence(torch.randint(0, 40, (8,))) for _ in range(4000)}
class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(40, 10); self.out = nn.Linear(10, 2)
    def forward(self, x):
        return self.out(self.emb(x).mean(1))
net = Tagger(); opt = torch.optim.Adam(net.parameters(), 1e-2)
corpus = list(pool)
for k in range(0, 4000, 1000):
    x = torch.stack([s.ids for s in corpus[k:k + 1000]])
    loss = nn.functional.cross_entropy(net(x), (x.sum(1) > 150).long())
    opt.zero_grad(); loss.backward(); opt.step()
print(loss.item())
