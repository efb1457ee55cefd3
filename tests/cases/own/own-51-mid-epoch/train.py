import torch
from torch import nn

import sys, random
from torch.utils.data import TensorDataset, DataLoader
torch.manual_seed(0)
g = torch.Generator().manual_seed(1)
ds = TensorDataset(torch.randn(64, 6, generator=g), torch.randint(0, 3, (64,), generator=g))
def make():
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    return net, torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
net, opt = make()
def loader(): return DataLoader(ds, 8, shuffle=True, generator=torch.Generator().manual_seed(7))
it = iter(loader())
for step in range(8):
    if step == 3 and "--interrupt" in sys.argv:
        torch.save([net.state_dict(), opt.state_dict(), torch.get_rng_state()], "ck.pt")
        net, opt = make()
        a, b, c = torch.load("ck.pt")
        net.load_state_dict(a); opt.load_state_dict(b); torch.set_rng_state(c)
        it = iter(loader())
    x, y = next(it)
    opt.zero_grad(); loss = nn.functional.cross_entropy(net(x), y); loss.backward(); opt.step()
