import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from .features import read_table, scale_columns, split
from .net import ChurnNet


def run(cfg):
    torch.manual_seed(cfg.seed)
    x, y = read_table(cfg.data)
    x = scale_columns(x)
    (xa, ya), (xv, yv) = split(x, y)
    tr = TensorDataset(torch.tensor(xa, dtype=torch.float32), torch.tensor(ya, dtype=torch.float32))
    loader = DataLoader(tr, batch_size=cfg.batch, shuffle=True)
    net = ChurnNet(x.shape[1], cfg.hidden)
    opt = torch.optim.Adam(net.parameters(), lr=cfg.lr)
    crit = nn.BCEWithLogitsLoss()
    for epoch in range(cfg.epochs):
        net.train()
        for bx, by in loader:
            opt.zero_grad()
            loss = crit(net(bx), by)
            loss.backward()
            opt.step()
        net.eval()
        with torch.no_grad():
            v = net(torch.tensor(xv, dtype=torch.float32))
            acc = ((v > 0).float() == torch.tensor(yv, dtype=torch.float32)).float().mean()
        print(f"epoch {epoch} loss {loss.item():.4f} val acc {acc:.3f}")
    return net
