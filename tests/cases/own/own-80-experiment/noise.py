import zlib

import torch


class Noiser:
    """Adds noise of a random strength; every experiment gets a stream of its own."""

    def __init__(self, experiment, steps=50):
        self.gen = torch.Generator()
        self.gen.manual_seed(zlib.crc32(experiment.encode()))
        self.alpha = torch.linspace(0.999, 0.95, steps).cumprod(0)

    def __call__(self, x):
        t = torch.randint(0, len(self.alpha), (len(x),), generator=self.gen)
        eps = torch.randn(x.shape, generator=self.gen)
        a = self.alpha[t][:, None, None, None]
        return a.sqrt() * x + (1 - a).sqrt() * eps, t, eps
