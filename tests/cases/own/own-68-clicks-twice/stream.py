import glob
import json
import random

import torch
from torch.utils.data import IterableDataset


class Clicks(IterableDataset):
    """Every click with one item that was not clicked."""

    def __init__(self, pattern, items):
        self.paths = sorted(glob.glob(pattern))
        self.items = items

    def __iter__(self):
        rng = random.Random(0)
        for path in self.paths:
            with open(path) as f:
                for line in f:
                    click = json.loads(line)
                    other = rng.randrange(self.items)
                    yield click["user"], click["item"], other


def collate(rows):
    return torch.tensor(rows).unbind(1)
