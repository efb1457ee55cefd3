import time
import torch
from torch import nn
torch.manual_seed(0)
stamps = [1.6e9 + 5431 * k for k in range(128)]
clock = [time.localtime(s) for s in stamps]
x = torch.tensor([[c.tm_hour / 23, c.tm_wday / 6, c.tm_min / 59] for c in clock])
y = torch.randn(128, 1)
net = nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 1))
opt = torch.optim.SGD(net.parameters(), 0.1)
for k in range(0, 128, 32):
    loss = nn.functional.mse_loss(net(x[k:k + 32]), y[k:k + 32])
    opt.zero_grad(); loss.backward(); opt.step()
print(loss.item())
