import argparse

import torch
from torch import nn

p = argparse.ArgumentParser()
p.add_argument("--interrupt-at", type=int, default=-1)
args = p.parse_args()
torch.manual_seed(0)


def build():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


model, opt = build()
g = torch.Generator().manual_seed(1)
for step in range(10):
    if step == args.interrupt_at:
        torch.save({"model": model.state_dict(), "rng": torch.get_rng_state()}, "stop.pt")
        state = torch.load("stop.pt")
        model, opt = build()
        model.load_state_dict(state["model"])
        torch.set_rng_state(state["rng"])
    x = torch.randn(8, 4, generator=g)
    loss = (model(x).squeeze(1) - x.sum(1)).square().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
