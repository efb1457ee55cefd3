import torch
from torch.utils.data import Sampler


class EpochSampler(Sampler):
    """Shuffles with seed + epoch, as DistributedSampler does."""

    def __init__(self, n, seed=11):
        self.n, self.seed, self.epoch = n, seed, 0

    def __len__(self):
        return self.n

    def __iter__(self):
        g = torch.Generator()
        g.manual_seed(self.seed + self.epoch)
        self.epoch += 1
        return iter(torch.randperm(self.n, generator=g).tolist())
