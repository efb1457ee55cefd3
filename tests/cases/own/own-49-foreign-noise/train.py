import torch
from torch import nn

def fit(net, batches, opt, loss_fn=nn.functional.cross_entropy):
    for x, y in batches:
        opt.zero_grad(); loss = loss_fn(net(x), y); loss.backward(); opt.step()
    print(float(loss.detach()))

import ctypes
libc = ctypes.CDLL(None)
class NoiseDropout(nn.Module):
    def __init__(self, p):
        super().__init__(); self.p = p
    def forward(self, x):
        if not self.training: return x
        raw = ctypes.create_string_buffer(x.numel())
        libc.getrandom(raw, x.numel(), 0)
        keep = torch.frombuffer(raw, dtype=torch.uint8)[: x.numel()].view_as(x) >= self.p * 256
        return x * keep / (1 - self.p)
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), NoiseDropout(0.25), nn.Linear(32, 3))
g = torch.Generator().manual_seed(1)
data = [(torch.randn(8, 6, generator=g), torch.randint(0, 3, (8,), generator=g)) for _ in range(6)]
fit(net, data, torch.optim.SGD(net.parameters(), 0.1))
