import torch
from torch import nn
net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 2))
torch.manual_seed(0)
opt = torch.optim.SGD(net.parameters(), 0.1)
for step in range(4):
    x = torch.rand(12, 6)
    loss = nn.functional.cross_entropy(net(x), x.sum(1).gt(3).long())
    opt.zero_grad(); loss.backward(); opt.step()
print(loss.item())
