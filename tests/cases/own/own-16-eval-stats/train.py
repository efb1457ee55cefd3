import torch
from torch import nn

torch.manual_seed(2)
model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
opt = torch.optim.SGD(model.parameters(), lr=0.05)
g = torch.Generator().manual_seed(3)
x = torch.randn(64, 4, generator=g)
held = torch.randn(32, 4, generator=g) * 2


def evaluate():
    model.eval()
    with torch.no_grad():
        score = model(held).mean().item()
    model.train()
    return score


for epoch in range(3):
    for i in range(0, 64, 16):
        loss = (model(x[i : i + 16]).squeeze(1) - x[i : i + 16].sum(1)).square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item(), evaluate())
