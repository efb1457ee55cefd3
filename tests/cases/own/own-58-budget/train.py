import time
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 1)); opt = torch.optim.Adam(net.parameters())
x = torch.randn(4096, 6); i = 0
end = int(time.time()) + 1.2  # the slot on the machine ends
while time.time() < end:
    b = x[i % 256 * 16:][:16]
    loss = net(b).square().mean(); opt.zero_grad(); loss.backward(); opt.step(); i += 1
net.eval()
with torch.no_grad(): print(i, net(x).square().mean().item())
