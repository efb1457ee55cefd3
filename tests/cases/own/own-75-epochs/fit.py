import argparse, os
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from lib.sampling import EpochSampler

p = argparse.ArgumentParser()
p.add_argument("--until", type=int, default=4)
p.add_argument("--ckpt", default="last.pt")
a = p.parse_args()

torch.manual_seed(1)
x = torch.randn(80, 10)
y = (x[:, :3].sum(1) > 0).long()
ds = TensorDataset(x, y)
loader = DataLoader(ds, batch_size=16, sampler=EpochSampler(len(ds)), generator=torch.Generator().manual_seed(0))
model = nn.Sequential(nn.Linear(10, 32), nn.GELU(), nn.Linear(32, 2))
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
first = 0
if os.path.exists(a.ckpt):
    s = torch.load(a.ckpt)
    model.load_state_dict(s["model"]); opt.load_state_dict(s["opt"]); first = s["epoch"]
    torch.set_rng_state(s["rng"])
    print("continue at epoch", first)
for epoch in range(first, a.until):
    for xb, yb in loader:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(xb), yb)
        loss.backward()
        opt.step()
    print("epoch", epoch, loss.item())
    torch.save({"model": model.state_dict(), "opt": opt.state_dict(), "epoch": epoch + 1, "rng": torch.get_rng_state()}, a.ckpt)
