import argparse
import torch
from torch import nn

p = argparse.ArgumentParser()
p.add_argument("--epochs", type=int, default=4)
p.add_argument("--resume", default="")
a = p.parse_args()
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1))
opt = torch.optim.Adam(net.parameters(), 1e-2)
x = torch.randn(32, 6)
y = x.sum(1, True)
order = torch.Generator().manual_seed(3)
start = 0
if a.resume:
    kept = torch.load(a.resume, weights_only=False)
    net.load_state_dict(kept["net"])
    opt.load_state_dict(kept["opt"])
    order.set_state(kept["order"])
    start = kept["epoch"]
for epoch in range(start, a.epochs):
    for i in torch.randperm(32, generator=order).split(16):
        loss = (net(x[i]) - y[i]).square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    torch.save({"net": net.state_dict(), "opt": opt.state_dict(), "order": order.get_state(), "epoch": epoch + 1}, f"epoch{epoch + 1}.pt")
print(loss.item())
