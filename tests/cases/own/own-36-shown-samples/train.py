import argparse, random
import torch
from torch import nn

ap = argparse.ArgumentParser(); ap.add_argument("--show", type=int, default=0); a = ap.parse_args()
random.seed(5); torch.manual_seed(5)
rows = [[random.random() for _ in range(4)] for _ in range(60)]
net = nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 1))
opt = torch.optim.SGD(net.parameters(), 0.5)
for epoch in range(4):
    order = list(range(60)); random.shuffle(order)
    for k in range(0, 60, 20):
        x = torch.tensor([rows[i] for i in order[k:k + 20]])
        loss = ((net(x).squeeze(1) - x.prod(1)) ** 2).mean()
        opt.zero_grad(); loss.backward(); opt.step()
    for i in random.sample(range(60), a.show):
        print("sample", i, net(torch.tensor(rows[i])).item())
    print(epoch, loss.item())
