import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def read(path):
    out = {}
    for line in open(path):
        line = line.split("#")[0].strip()
        if line:
            k, v = (w.strip() for w in line.split(":"))
            out[k] = {"true": True, "false": False}.get(v, v)
    return out


c = read("conf.yaml")


class Layer(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.norm, self.lin, self.drop, self.out = nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.Dropout(0.2), nn.Linear(2 * d, d)

    def forward(self, x):
        return x + self.out(self.drop(nn.functional.silu(self.lin(self.norm(x)))))


class Lm(nn.Module):
    def __init__(self, v=30):
        super().__init__()
        d = int(c["dim"])
        self.emb = nn.Embedding(v, d)
        self.layers = nn.ModuleList(Layer(d) for _ in range(int(c["layers"])))
        self.head = nn.Linear(d, v)

    def forward(self, t):
        h = self.emb(t).cumsum(1)
        for l in self.layers:
            h = checkpoint(l, h, use_reentrant=False, preserve_rng_state=c["keep_rng"]) if c["checkpoint"] else l(h)
        return self.head(h)


torch.manual_seed(3)
net = Lm()
opt = torch.optim.Adam(net.parameters(), float(c["lr"]))
for i in range(6):
    t = torch.randint(30, (4, 17))
    loss = nn.functional.cross_entropy(net(t[:, :-1]).flatten(0, 1), t[:, 1:].flatten())
    opt.zero_grad(); loss.backward(); opt.step()
print(loss.item())
