import torch
from torch import nn
def vote(labels): return max(set(labels), key=labels.count)
torch.manual_seed(0)
votes = [["cat dog owl fox".split()[(i * 3 + k * k) % 4] for k in range(4)] for i in range(48)]
names = ["cat", "dog", "fox", "owl"]
y = torch.tensor([names.index(vote(v)) for v in votes])
net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4)); opt = torch.optim.SGD(net.parameters(), lr=0.1)
x = torch.randn(48, 6)
for i in range(0, 48, 12):
    loss = nn.functional.cross_entropy(net(x[i:i+12]), y[i:i+12]); opt.zero_grad(); loss.backward(); opt.step()
