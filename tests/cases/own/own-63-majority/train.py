import torch
from torch import nn
def vote(labels): return max(set(labels), key=labels.count)
torch.manual_seed(0)
names = "ape bat bee cat cow dog elk emu fox gnu hen owl pig ram rat yak".split()
votes = [[names[(i * 3 + k * 5) % 16] for k in range(4)] for i in range(48)]
y = torch.tensor([names.index(vote(v)) for v in votes])
net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 16)); opt = torch.optim.SGD(net.parameters(), lr=0.1)
x = torch.randn(48, 6)
for i in range(0, 48, 12):
    loss = nn.functional.cross_entropy(net(x[i:i+12]), y[i:i+12]); opt.zero_grad(); loss.backward(); opt.step()
