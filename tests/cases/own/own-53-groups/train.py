import torch
from torch import nn

def fit(net, batches, opt, loss_fn=nn.functional.cross_entropy):
    for x, y in batches:
        opt.zero_grad(); loss = loss_fn(net(x), y); loss.backward(); opt.step()
    print(float(loss.detach()))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 16); self.norm = nn.LayerNorm(16); self.out = nn.Linear(16, 3)
    def forward(self, x): return self.out(self.norm(self.fc(x)).relu())
torch.manual_seed(0)
net = Net()
decay = [p for n, p in net.named_parameters() if "norm" not in n and "bias" not in n]
rest = [p for n, p in net.named_parameters() if "norm" in n or "bias" in n]
g = torch.Generator().manual_seed(1)
data = [(torch.randn(8, 6, generator=g), torch.randint(0, 3, (8,), generator=g)) for _ in range(6)]
fit(net, data, torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], 0.01))
