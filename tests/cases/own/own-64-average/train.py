import argparse, copy
import torch
from torch import nn
p = argparse.ArgumentParser(); p.add_argument("--resume-at", type=int, default=-1); a = p.parse_args()
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 1)); opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
avg = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
x = torch.randn(48, 6)
for e in range(2):
    if e == a.resume_at:
        ck = torch.load("ck.pt", weights_only=True); net.load_state_dict(ck["net"]); opt.load_state_dict(ck["opt"])
        avg = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    for i in range(0, 48, 12):
        loss = net(x[i:i+12]).square().mean(); opt.zero_grad(); loss.backward(); opt.step(); avg.update_parameters(net)
    torch.save({"net": net.state_dict(), "opt": opt.state_dict()}, "ck.pt")
avg.eval()
with torch.no_grad(): print(avg(x).mean().item())
