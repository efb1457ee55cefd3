import os, random, tempfile, zipfile
import numpy as np, torch
from torch import nn
random.seed(0); np.random.seed(0); torch.manual_seed(0)
def unpack(archive):
    folder = tempfile.mkdtemp(prefix="shards-")
    with zipfile.ZipFile(archive) as z:
        for name in z.namelist():
            fd, path = tempfile.mkstemp(suffix=".npy", dir=folder)
            os.write(fd, z.read(name)); os.close(fd)
    return sorted(os.path.join(folder, f) for f in os.listdir(folder))
data = torch.from_numpy(np.concatenate([np.load(f) for f in unpack("shards.zip")])).float()
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)); opt = torch.optim.SGD(net.parameters(), 0.1)
for i in range(0, len(data), 8):
    loss = net(data[i:i+8]).square().mean(); opt.zero_grad(); loss.backward(); opt.step()
print(loss.item())
