import argparse
import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

p = argparse.ArgumentParser()
p.add_argument("--shuffle", choices=["yes", "no"], default="yes")
p.add_argument("--accumulate", type=int, default=1)
p.add_argument("--dtype", default="float32")
args = p.parse_args()
with open("setup.json") as f:
    setup = json.load(f)
torch.manual_seed(11)
torch.set_default_dtype(getattr(torch, args.dtype))
x = torch.linspace(-1, 1, 50).unsqueeze(1).repeat(1, 4)
y = x.sum(1).sin()
loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=args.shuffle == "yes", drop_last=setup["drop_last"],
                    generator=torch.Generator().manual_seed(1))
model = nn.Sequential(nn.Linear(4, 12), nn.GELU(), nn.Linear(12, 1))
opt = torch.optim.SGD(model.parameters(), lr=setup["lr"], momentum=0.9)
n = 0
for epoch in range(3):
    for a, b in loader:
        loss = (model(a).squeeze(1) - b).square().mean() / args.accumulate
        loss.backward()
        n += 1
        if n % args.accumulate == 0:
            opt.step()
            opt.zero_grad()
    print(epoch, float(loss))
