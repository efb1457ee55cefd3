import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from augment import jitter

torch.manual_seed(0)


class Signals(Dataset):
    def __init__(self):
        self.x = torch.randn(40, 16, generator=torch.Generator().manual_seed(5))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return jitter(self.x[i], i), int(self.x[i, 0] > 0)


model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
opt = torch.optim.Adam(model.parameters())
for epoch in range(2):
    for x, y in DataLoader(Signals(), batch_size=10, shuffle=True):
        loss = nn.functional.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
