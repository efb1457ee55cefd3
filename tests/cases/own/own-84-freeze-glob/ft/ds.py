import torch
from torch.utils.data import IterableDataset


class Stream(IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        g = torch.Generator().manual_seed(9)
        for _ in range(self.n):
            x = torch.randn(3, 12, generator=g)
            yield {"x": x, "y": (x[0, 0] > 0).long()}
