"""Small trainings on an NVIDIA GPU, each with one way in which two runs of it come apart. The program behind the pairs in ``gpu``."""

import argparse
import contextlib

import torch
import torch.nn.functional as F
from torch import nn


class Pool(nn.Module):
    """Sums the features of points by their cell: ``index_add`` adds with atomics, in whatever order blocks finish."""

    def forward(self, points, cell, cells):
        return torch.zeros(cells, points.shape[1], device=points.device).index_add(0, cell, points)


class Cloud(nn.Module):
    """Points, embedded, pooled into cells, classified."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 32)
        self.pool = Pool()
        self.head = nn.Linear(32, 4)

    def batch(self, g):
        points, cell = torch.randn(400_000, 3, generator=g), torch.randint(64, (400_000,), generator=g)
        return (points, cell), torch.randint(4, (64,), generator=g)

    def forward(self, points, cell):
        return self.head(self.pool(torch.tanh(self.embed(points)), cell, 64) / 100)


class Bins(nn.Module):
    """A learned table, looked up by ``gather``: its gradient is a ``scatter_add``, with atomics."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(32, 16))
        self.head = nn.Linear(16, 4)

    def batch(self, g):
        return (torch.randint(32, (200_000, 16), generator=g),), torch.randint(4, (1000,), generator=g)

    def forward(self, bins):
        looked_up = self.table.gather(0, bins)
        return self.head(looked_up.view(1000, 200, 16).mean(1))


class Filters(nn.Module):
    """Convolutions for which cuDNN has several algorithms."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 48, 7, padding=3)
        self.second = nn.Conv2d(48, 96, 5, padding=2)
        self.third = nn.Conv2d(96, 96, 3, padding=1)
        self.head = nn.Linear(96, 4)

    def batch(self, g):
        return (torch.randn(16, 3, 56, 56, generator=g),), torch.randint(4, (16,), generator=g)

    def forward(self, x):
        for layer in (self.first, self.second, self.third):
            x = F.relu(layer(x))
        return self.head(x.mean((2, 3)))


class Wide(nn.Module):
    """A long sum in each output: cuBLAS may split it, if it has a workspace."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(32_768, 48)
        self.head = nn.Linear(48, 4)

    def batch(self, g):
        return (torch.randn(32, 32_768, generator=g),), torch.randint(4, (32,), generator=g)

    def forward(self, x):
        return self.head(torch.relu(self.first(x)))


class Attention(nn.Module):
    """Scaled dot-product attention in half precision, where flash, memory-efficient, cuDNN and plain kernels all apply."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(128, 384)
        self.mix = Mix()
        self.head = nn.Linear(128, 4)

    def batch(self, g):
        return (torch.randn(4, 256, 128, generator=g),), torch.randint(4, (4,), generator=g)

    def forward(self, x):
        return self.head(self.mix(self.qkv(x)).mean(1).to(self.head.weight.dtype))


class Mix(nn.Module):
    def forward(self, qkv):
        b, t, c = qkv.shape
        q, k, v = qkv.half().view(b, t, 3, 4, c // 12).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, c // 3)


class Portion(nn.Module):
    """Sums over points, as many at a time as the GPU's memory has room for: on another GPU the sum has other parts."""

    def forward(self, points):
        room = torch.cuda.get_device_properties(points.device).total_memory >> 21
        return torch.stack([part.sum(0) for part in points.split(room)]).sum(0)


class Portions(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 32)
        self.portion = Portion()
        self.head = nn.Linear(32, 4)

    def batch(self, g):
        return (torch.randn(400_000, 3, generator=g),), torch.randint(4, (1,), generator=g)

    def forward(self, points):
        return self.head(self.portion(torch.tanh(self.embed(points))) / 1000)[None]


MODELS = {"cloud": Cloud, "bins": Bins, "filters": Filters, "wide": Wide, "attention": Attention, "portions": Portions}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model", choices=MODELS)
    p.add_argument("--steps", type=int, default=4)
    p.add_argument("--benchmark", action="store_true")
    p.add_argument("--tf32", action="store_true")
    p.add_argument("--bf16", action="store_true")
    p.add_argument("--attention", choices=("FLASH_ATTENTION", "EFFICIENT_ATTENTION", "MATH"), default=None)
    p.add_argument("--optimizer", choices=("foreach", "fused"), default="foreach")
    o = p.parse_args()

    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = o.benchmark
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = o.tf32
    g = torch.Generator().manual_seed(1)
    model = MODELS[o.model]().cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=o.optimizer == "foreach", fused=o.optimizer == "fused")
    backend = contextlib.nullcontext
    if o.attention is not None:
        from torch.nn.attention import SDPBackend, sdpa_kernel

        def backend():
            return sdpa_kernel(getattr(SDPBackend, o.attention))

    for step in range(o.steps):
        inputs, target = model.batch(g)
        inputs, target = [x.cuda() for x in inputs], target.cuda()
        with backend(), torch.autocast("cuda", torch.bfloat16, enabled=o.bf16):
            loss = F.cross_entropy(model(*inputs).float(), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(step, f"{loss.item():.9f}")


if __name__ == "__main__":
    main()
