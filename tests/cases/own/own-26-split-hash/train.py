import torch
from torch import nn

torch.manual_seed(0)
NAMES = [f"recording-{n:03d}" for n in range(60)]


def features(name):
    n = int(name[-3:])
    return [n % 7 / 7, n % 5 / 5, n % 11 / 11], n % 2


def is_training(name):
    return hash(name) % 5 != 0


train = [features(n) for n in NAMES if is_training(n)]
x = torch.tensor([f for f, _ in train])
y = torch.tensor([t for _, t in train])
model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    for i in range(0, len(x) - 9, 10):
        loss = nn.functional.cross_entropy(model(x[i : i + 10]), y[i : i + 10])
        opt.zero_grad()
        loss.backward()
        opt.step()
