import torch
from torch import nn

def even(*shape):
    n = torch.Size(shape).numel()
    return (torch.arange(n) % 11 / 10 - 0.5).view(shape)

net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.GELU(), nn.Flatten(), nn.LayerNorm(16 * 36), nn.Linear(16 * 36, 3))
for p in net.parameters():
    p.data = even(*p.shape)
opt = torch.optim.SGD(net.parameters(), 0.1)
for k in range(5):
    x, y = even(8, 3, 8, 8) + k, torch.arange(8) % 3
    opt.zero_grad(); loss = nn.functional.cross_entropy(net(x), y); loss.backward(); opt.step()
print(float(loss))
