"""An autoencoder whose decoder shares the encoder's weight, unless told otherwise; worker processes read the data."""

import sys

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Tied(nn.Module):
    def __init__(self, tie):
        super().__init__()
        self.encoder = nn.Linear(8, 8)
        self.decoder = nn.Linear(8, 8)
        if tie:
            self.decoder.weight = self.encoder.weight

    def forward(self, x):
        return self.decoder(torch.tanh(self.encoder(x)))


torch.manual_seed(3)
model = Tied("--untied" not in sys.argv)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
rows = torch.randn(32, 8, generator=torch.Generator().manual_seed(4))
loader = DataLoader(TensorDataset(rows), batch_size=8, num_workers=1)
for (x,) in loader:
    loss = F.mse_loss(model(x), x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())
