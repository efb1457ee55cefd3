import json
import torch
from torch import nn
labels = json.load(open("labels.json"))
classes = {c: i for i, c in enumerate(dict.fromkeys(labels.values()))}
torch.manual_seed(0)
x = torch.tensor([[float(ord(c) % 13) for c in name[:6]] for name in labels]); y = torch.tensor([classes[c] for c in labels.values()])
net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)); opt = torch.optim.SGD(net.parameters(), 0.05)
for xb, yb in torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 8, shuffle=True):
    loss = nn.functional.cross_entropy(net(xb), yb); opt.zero_grad(); loss.backward(); opt.step()
print(loss.item())
