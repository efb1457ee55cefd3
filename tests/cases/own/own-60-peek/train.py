import argparse, logging
import torch
from torch import nn
p = argparse.ArgumentParser(); p.add_argument("-v", "--verbose", action="count", default=0); p.add_argument("--tag", default=""); a = p.parse_args()
logging.basicConfig(level=logging.DEBUG if a.verbose else logging.WARNING)
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 2)); opt = torch.optim.SGD(net.parameters(), 0.1)
ds = torch.utils.data.TensorDataset(torch.randn(48, 4), torch.randint(0, 2, (48,)))
loader = torch.utils.data.DataLoader(ds, 8, shuffle=True)
if a.verbose:
    logging.debug("a batch: %s", [t.shape for t in next(iter(loader))])
for x, y in loader:
    loss = nn.functional.cross_entropy(net(x), y); opt.zero_grad(); loss.backward(); opt.step()
print(loss.item())
