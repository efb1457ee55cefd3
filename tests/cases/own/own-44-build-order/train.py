import torch
from nets import Critic
torch.manual_seed(7)
net = Critic(); opt = torch.optim.Adam(net.parameters(), 1e-2)
for step in range(5):
    s = torch.randn(16, 6)
    a, b, v = net(s)
    loss = ((a - b) ** 2 + (v - s.sum(1, keepdim=True)) ** 2).mean()
    opt.zero_grad(); loss.backward(); opt.step()
print(loss.item())
