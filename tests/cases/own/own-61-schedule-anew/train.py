import argparse
import torch
from torch import nn
p = argparse.ArgumentParser(); p.add_argument("--stop-after", type=int, default=0); a = p.parse_args()
def build():
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)); opt = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    return net, opt, torch.optim.lr_scheduler.CosineAnnealingLR(opt, 8)
def epoch(net, opt, sched, x):
    for i in range(0, 32, 8):
        loss = (net(x[i:i+8]) - 1).square().mean(); opt.zero_grad(); loss.backward(); opt.step()
    sched.step(); return loss.item()
torch.manual_seed(0)
net, opt, sched = build(); x = torch.randn(32, 6)
for e in range(3):
    if a.stop_after and e == a.stop_after:  # a new job takes over
        net, opt, sched = build()
        ck = torch.load("last.pt", weights_only=True); net.load_state_dict(ck["net"])
        state = ck["opt"]; state["param_groups"] = opt.state_dict()["param_groups"]; opt.load_state_dict(state)
    print(epoch(net, opt, sched, x))
    torch.save({"net": net.state_dict(), "opt": opt.state_dict()}, "last.pt")
