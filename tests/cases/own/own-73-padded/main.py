import dataclasses, json, os
import torch
from torch import nn
from torch.utils.data import Dataset, DataLoader


@dataclasses.dataclass
class Cfg:
    parts: str = "parts"
    batch: int = 16
    epochs: int = 2
    lr: float = 0.01


class Parts(Dataset):
    def __init__(self, folder):
        self.rows = []
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name)) as f:
                self.rows += [[float(v) for v in line.split()] for line in f]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        r = self.rows[i]
        return torch.tensor(r[:-1]), torch.tensor(r[-1])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Dropout(0.1))
        self.head = nn.Linear(24, 1)

    def forward(self, x):
        return self.head(self.body(x)).squeeze(1)


if __name__ == "__main__":
    cfg = Cfg(**json.load(open("cfg.json")))
    torch.manual_seed(0)
    loader = DataLoader(Parts(cfg.parts), cfg.batch, shuffle=True)
    net = Net()
    opt = torch.optim.AdamW(net.parameters(), cfg.lr)
    for e in range(cfg.epochs):
        for x, y in loader:
            loss = nn.functional.binary_cross_entropy_with_logits(net(x), y)
            opt.zero_grad(); loss.backward(); opt.step()
        print(e, float(loss))
