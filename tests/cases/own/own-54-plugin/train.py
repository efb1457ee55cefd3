import torch
from torch import nn

def fit(net, batches, opt, loss_fn=nn.functional.cross_entropy):
    for x, y in batches:
        opt.zero_grad(); loss = loss_fn(net(x), y); loss.backward(); opt.step()
    print(float(loss.detach()))

import glob, importlib.util
torch.manual_seed(0)
for f in sorted(glob.glob("plugins/*.py")):
    spec = importlib.util.spec_from_file_location("plugin", f); m = importlib.util.module_from_spec(spec); spec.loader.exec_module(m)
net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
g = torch.Generator().manual_seed(1)
data = [(torch.randn(8, 6, generator=g), torch.randint(0, 3, (8,), generator=g)) for _ in range(6)]
fit(net, data, torch.optim.SGD(net.parameters(), 0.1))
