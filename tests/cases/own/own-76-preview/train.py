import sys, numpy as np, torch
rng = np.random.default_rng(5)
torch.manual_seed(5)
def augment(x): return x + rng.normal(0, 0.1, x.shape)
x = rng.normal(size=(48, 6))
for k in range(int(sys.argv[1]) if len(sys.argv) > 1 else 0):
    print("example", augment(x[k]).round(2))
class Enc(torch.nn.Module):
    def __init__(self):
        super().__init__(); self.l = torch.nn.TransformerEncoderLayer(6, 2, 12, dropout=0.0, batch_first=True)
    def forward(self, x): return self.l(x)
m = Enc(); o = torch.optim.AdamW(m.parameters())
for i in range(6):
    b = torch.from_numpy(augment(x[i * 8:(i + 1) * 8])).float()[:, None]
    l = (m(b) - b).abs().mean(); o.zero_grad(); l.backward(); o.step()
print(l.item())
