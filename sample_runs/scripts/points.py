"""Points are drawn into a grid; where two of them meet, one stays. Trains a small network on the grids."""

import torch
from torch import nn

torch.manual_seed(0)


class Grid(nn.Module):
    """Writes a feature of every point into its cell."""

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.size, self.channels = size, channels

    def forward(self, cells: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        grid = features.new_zeros(self.size * self.size, self.channels)
        return grid.index_put((cells,), features).view(1, self.size, self.size, self.channels).permute(0, 3, 1, 2)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(3, 4)
        self.grid = Grid(16, 4)
        self.head = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 1))

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        cells = (points[:, 0] * 16).long() * 16 + (points[:, 1] * 16).long()
        return self.head(self.grid(cells, torch.tanh(self.encode(points))))


net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(6):
    points = torch.rand(40_000, 3)
    loss = (net(points) - points.mean()).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, loss.item())
