"""The workloads of the overhead benchmark: a small GPT, a ResNet-18-like CNN on 32x32, a tiny Llama; and a network whose
layers are so small that what a record costs beside the reading of its tensor shows.

Each is ``make() -> step``: one call of ``step`` is one training step and returns the loss as a tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def gpt(*, layers: int = 4, width: int = 128, heads: int = 4, vocabulary: int = 256, batches: int = 64) -> Callable[[], Any]:
    """4 layers, width 128, 4 heads, context 1024, batch 8; float32, AdamW."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    class Block(nn.Module):
        def __init__(self, dim: int, heads: int) -> None:
            super().__init__()
            self.heads = heads
            self.ln1 = nn.LayerNorm(dim)
            self.qkv = nn.Linear(dim, 3 * dim)
            self.proj = nn.Linear(dim, dim)
            self.ln2 = nn.LayerNorm(dim)
            self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
            self.drop = nn.Dropout(0.1)

        def forward(self, x: Any) -> Any:
            b, t, c = x.shape
            q, k, v = (z.view(b, t, self.heads, -1).transpose(1, 2) for z in self.qkv(self.ln1(x)).split(c, 2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, c)
            x = x + self.drop(self.proj(y))
            return x + self.drop(self.mlp(self.ln2(x)))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tok = nn.Embedding(vocabulary, width)
            self.pos = nn.Embedding(1024, width)
            self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(layers)])
            self.ln = nn.LayerNorm(width)
            self.head = nn.Linear(width, vocabulary, bias=False)

        def forward(self, idx: Any) -> Any:
            x = self.tok(idx) + self.pos(torch.arange(idx.shape[1], device=idx.device))
            return self.head(self.ln(self.blocks(x)))

    torch.manual_seed(0)
    model = GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    data = torch.randint(vocabulary, (batches, 8, 1025))
    n = 0

    def step() -> Any:
        nonlocal n
        batch = data[n % batches]
        n += 1
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def cnn() -> Callable[[], Any]:
    """18 layers, widths 64-512 as in ResNet-18, 32x32 images, batch 64; SGD with momentum; in-place ReLU."""
    import torch
    from torch import nn

    class Basic(nn.Module):
        def __init__(self, cin: int, cout: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(cout)
            self.relu = nn.ReLU(inplace=True)
            self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(cout)
            self.down: nn.Module | None = None
            if stride != 1 or cin != cout:
                self.down = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

        def forward(self, x: Any) -> Any:
            y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            return self.relu(y + (x if self.down is None else self.down(x)))

    torch.manual_seed(0)
    w = 64
    layers: list[nn.Module] = [nn.Conv2d(3, w, 3, 1, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU(inplace=True)]
    for cin, cout, stride in ((w, w, 1), (w, 2 * w, 2), (2 * w, 4 * w, 2), (4 * w, 8 * w, 2)):
        layers += [Basic(cin, cout, stride), Basic(cout, cout, 1)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * w, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    x, y = torch.randn(8, 64, 3, 32, 32), torch.randint(10, (8, 64))
    criterion = nn.CrossEntropyLoss()
    n = 0

    def step() -> Any:
        nonlocal n
        loss = criterion(model(x[n % 8]), y[n % 8])
        n += 1
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def llama() -> Callable[[], Any]:
    """Hugging Face Llama from its configuration: 4 layers, hidden 256, 4 heads, context 1024, batch 4; AdamW."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1000, hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=1024,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    data = torch.randint(1000, (64, 4, 1024))
    n = 0

    def step() -> Any:
        nonlocal n
        batch = data[n % 64]
        n += 1
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def specks() -> Callable[[], Any]:
    """100 modules: 50 times a linear layer of 16 units and a ReLU, batch 4; SGD."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(*[m for _ in range(50) for m in (nn.Linear(16, 16), nn.ReLU())])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(4, 16)

    def step() -> Any:
        loss = model(x).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


WORKLOADS: dict[str, Callable[[], Callable[[], Any]]] = {"gpt": gpt, "cnn": cnn, "llama": llama, "specks": specks}
