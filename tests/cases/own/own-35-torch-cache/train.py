import pathlib
import torch
from torch import nn

CACHE = pathlib.Path("features/train.pt")

def features():
    if CACHE.is_file():
        blob = torch.load(CACHE)
        return blob["x"].float(), blob["y"]
    g = torch.Generator().manual_seed(8)
    x = torch.randn(200, 10, generator=g).cumsum(1)
    y = (x[:, -1] > 0).float()
    CACHE.parent.mkdir(exist_ok=True)
    torch.save({"x": x.half(), "y": y}, CACHE)
    return x, y

torch.manual_seed(1)
x, y = features()
net = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 1))
opt = torch.optim.RMSprop(net.parameters(), 1e-3)
for step in range(8):
    i = torch.randperm(200)[:50]
    loss = nn.functional.binary_cross_entropy_with_logits(net(x[i]).squeeze(1), y[i])
    opt.zero_grad(); loss.backward(); opt.step()
    print(step, loss.item())
