"""Programs that the tests on a GPU run, plain and recorded: ``python -m tests.gpu.programs NAME RUN [LEVEL [FILE]]``.

RUN ``-``: plain. FILE, which is not there yet: where the ranks of a program find each other.
"""

from __future__ import annotations

import hashlib
import os
import sys
from typing import Any


def record(run: str, level: str) -> None:
    """Let the guest into this process, as ``capture`` does, without anything of the parent."""
    if run == "-":
        return
    import torch

    from reprodebug.recorder.detail import Options
    from reprodebug.recorder.guest import start

    os.makedirs(os.path.join(run, "journal"))
    start(torch, run, Options(level))


def said(**values: Any) -> None:
    """Print a hash of the bits of every value: tensors, lists of them, bytes."""
    for name, value in values.items():
        h = hashlib.blake2b(digest_size=8)
        for t in value if isinstance(value, list) else [value]:
            h.update(t.detach().cpu().contiguous().reshape(-1).view(__import__("torch").uint8).numpy().tobytes())
        print(name, h.hexdigest())


def deterministic() -> None:
    import torch

    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def kitchen() -> None:
    """Convolution, batch norm, dropout, attention, an embedding, AMP with a scaler, fused and foreach optimizers, workers, a
    frozen part in evaluation mode, a generator of its own, a second stream."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    deterministic()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 32, 3, padding=1)
            self.norm = nn.BatchNorm2d(32)
            self.token = nn.Embedding(50, 32)
            self.attend = nn.MultiheadAttention(32, 4, dropout=0.1, batch_first=True)
            self.drop = nn.Dropout(0.2)
            self.mlp = nn.Sequential(nn.Linear(32, 64), nn.ReLU(inplace=True), nn.Linear(64, 10))

        def forward(self, x: Any, ids: Any) -> Any:
            h = F.relu(self.norm(self.conv(x))).flatten(2).transpose(1, 2)
            h = torch.cat([h[:, ::4], self.token(ids)], 1)
            h = h + self.attend(h, h, h, need_weights=False)[0]
            return self.mlp(self.drop(h).mean(1))

    net = Net().cuda()
    data = torch.utils.data.TensorDataset(torch.randn(96, 3, 16, 16), torch.randint(50, (96, 12)), torch.randint(10, (96,)))
    loader = torch.utils.data.DataLoader(data, batch_size=16, shuffle=True, num_workers=2, pin_memory=True)
    own = torch.Generator("cuda").manual_seed(5)
    optimizers = [torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True), torch.optim.SGD(net.mlp.parameters(), lr=1e-3, momentum=0.9)]
    scaler = torch.amp.GradScaler("cuda", init_scale=1024.0)
    side = torch.cuda.Stream()
    losses = []
    for x, ids, y in loader:
        x, ids, y = x.cuda(non_blocking=True), ids.cuda(non_blocking=True), y.cuda(non_blocking=True)
        x = x + 0.01 * torch.randn(x.shape, device="cuda", generator=own)
        with torch.autocast("cuda", torch.float16):
            loss = F.cross_entropy(net(x, ids), y)
        for o in optimizers:
            o.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizers[0])
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for o in optimizers[:1]:
            scaler.step(o)
        scaler.update()
        optimizers[1].step()
        losses.append(loss.detach())
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), torch.no_grad():
            net.eval()
            net(x, ids)
            net.train()
        torch.cuda.current_stream().wait_stream(side)
    said(
        losses=losses, parameters=list(net.parameters()), buffers=list(net.buffers()), grads=[p.grad for p in net.parameters()],
        generator=torch.cuda.get_rng_state(), own=own.get_state(), cpu=torch.get_rng_state(), x=x,
    )  # fmt: skip


def quiet() -> None:
    """Steps during which torch reports every synchronisation as an error, once everything has warmed up."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    deterministic()
    net = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.GELU(), nn.Linear(128, 8)).cuda()
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    x, y = torch.randn(10, 32, 64, device="cuda"), torch.randint(8, (10, 32), device="cuda")
    for n in range(10):
        torch.cuda.set_sync_debug_mode("error" if n >= 2 else "default")
        loss = F.cross_entropy(net(x[n]), y[n])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.cuda.set_sync_debug_mode("default")
    said(parameters=list(net.parameters()))


def graph() -> None:
    """A forward captured into a CUDA graph and replayed, between plain ones."""
    import torch
    from torch import nn

    deterministic()
    net = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)).cuda()
    x = torch.randn(8, 16, device="cuda")
    plain = net(x)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            net(x)
    torch.cuda.current_stream().wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        out = net(x)
    x.add_(1)
    captured.replay()
    said(plain=plain, out=out, after=net(x))


def graphed() -> None:
    """A part of the net whose forward and backward torch captures and replays in every step, beside one that runs as written."""
    import torch
    from torch import nn

    deterministic()
    part = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)).cuda()
    head = nn.Linear(16, 4).cuda()
    optimizer = torch.optim.Adam([*part.parameters(), *head.parameters()])
    x = torch.randn(5, 8, 16, device="cuda")
    replayed = torch.cuda.make_graphed_callables(part, (torch.zeros_like(x[0]),))
    for n in range(5):
        loss = head(replayed(x[n])).pow(2).mean()
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()
    said(loss=loss, parameters=[*part.parameters(), *head.parameters()])


def compiled(mode: str | None = None) -> None:
    """A net that torch compiles, forward and backward, with a shape that changes once."""
    import torch
    from torch import nn

    deterministic()
    net = nn.Sequential(nn.Linear(32, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 8)).cuda()
    fast = torch.compile(net, mode=mode)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    losses = []
    for n in range(6):
        loss = fast(torch.randn(16 if n < 4 else 24, 32, device="cuda")).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach().clone())
    said(losses=losses, parameters=list(net.parameters()))


def reduced() -> None:
    """The same with the graphs that torch.compile captures by itself."""
    compiled("reduce-overhead")


def spread() -> None:
    """One rank of NCCL: DDP, then fully sharded parameters."""
    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.distributed.fsdp import fully_shard

    deterministic()
    dist.init_process_group("nccl", init_method=f"file://{sys.argv[4]}", rank=0, world_size=1, device_id=torch.device("cuda", 0))
    results = []
    for wrap in (lambda m: nn.parallel.DistributedDataParallel(m, device_ids=[0]), fully_shard):
        net = wrap(nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8)).cuda())
        optimizer = torch.optim.AdamW(net.parameters())
        for _ in range(4):
            loss = net(torch.randn(16, 32, device="cuda")).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        results += [p.full_tensor() if hasattr(p, "full_tensor") else p for p in net.parameters()]
    said(parameters=results)
    dist.destroy_process_group()


def kinds() -> None:
    """Tensors of many kinds on the device: fp8, complex, bool, sparse gradients, jagged, channels last, checkpointed, offloaded."""
    import torch
    import torch.nn.functional as F
    from torch import nn
    from torch.utils.checkpoint import checkpoint

    deterministic()
    torch.use_deterministic_algorithms(False)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(20, 16, sparse=True)
            self.mix = nn.Linear(16, 16, dtype=torch.bfloat16)
            self.conv = nn.Conv2d(1, 4, 3, padding=1)

        def forward(self, ids: Any, image: Any) -> Any:
            wave = torch.fft.rfft(self.table(ids).float()).abs()
            low = checkpoint(self.mix, wave.repeat(1, 1, 2)[..., :16].bfloat16(), use_reentrant=False)
            small = low.detach().to(torch.float8_e4m3fn).float()
            seen = self.conv(image.to(memory_format=torch.channels_last))
            return low.float().mean() + 0.0 * small.sum() + torch.where(seen > 0, seen, 0.5 * seen).mean()

    net = Net().cuda()
    optimizers = [torch.optim.SparseAdam(net.table.parameters()), torch.optim.AdamW([*net.mix.parameters(), *net.conv.parameters()])]
    kept = torch.empty(8, 16, dtype=torch.bfloat16, pin_memory=True)
    jagged = torch.nested.nested_tensor([torch.ones(n, 16) for n in (2, 5)], layout=torch.jagged, device="cuda")
    for n in range(4):
        ids = torch.arange(6, device="cuda").view(2, 3) + n
        with torch.autograd.graph.save_on_cpu(pin_memory=True):
            loss = net(ids, torch.randn(2, 1, 8, 8, device="cuda"))
        for o in optimizers:
            o.zero_grad()
        loss.backward()
        for o in optimizers:
            o.step()
        kept.copy_(net.mix(torch.ones(8, 16, device="cuda", dtype=torch.bfloat16)).detach(), non_blocking=True)
        F.linear(jagged, torch.eye(16, device="cuda"))
    torch.cuda.synchronize()
    said(loss=loss, parameters=[p.float() for p in net.parameters()], kept=kept.float())


def broken() -> None:
    """An index out of range: a device-side assertion ends the program."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).cuda()
    net(torch.randn(2, 4, device="cuda"))
    torch.cuda.synchronize()
    rows = torch.randn(3, 4, device="cuda")[torch.tensor([0, 7], device="cuda")]
    net(rows)
    print(rows.sum().item())


PROGRAMS = {f.__name__: f for f in (kitchen, quiet, graph, graphed, compiled, reduced, spread, kinds, broken)}

if __name__ == "__main__":
    record(sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "fingerprint")
    PROGRAMS[sys.argv[1]]()
