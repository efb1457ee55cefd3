import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.2), nn.Linear(16, 1))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
data = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
for step in range(10):
    x = data[step * 4 : step * 4 + 8]
    loss = model(x).square().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step == 5:
        print("at half time", loss.item())
