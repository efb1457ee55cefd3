import torch
from torch import nn


class ChurnNet(nn.Module):
    def __init__(self, n_in, hidden):
        super().__init__()
        dims = [n_in] + list(hidden)
        self.body = nn.ModuleList([nn.Linear(a, b) for a, b in zip(dims, dims[1:])])
        self.out = nn.Linear(dims[-1], 1)

    def forward(self, x):
        for layer in self.body:
            x = torch.relu(layer(x))
        return self.out(x).squeeze(-1)
