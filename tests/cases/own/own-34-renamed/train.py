import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(6, 12)
        self.drop = nn.Dropout(0.1)
        self.fc2 = nn.Linear(12, 2)
    def forward(self, x):
        return self.fc2(self.drop(self.fc1(x).relu()))

torch.manual_seed(0)
x = torch.randn(60, 6); y = x.sum(1).gt(0).long()
net = Net(); opt = torch.optim.AdamW(net.parameters(), 1e-2)
for epoch in range(2):
    for a, b in DataLoader(TensorDataset(x, y), 20, shuffle=True):
        loss = nn.functional.cross_entropy(net(a), b)
        opt.zero_grad(); loss.backward(); opt.step()
    print(loss.item())
