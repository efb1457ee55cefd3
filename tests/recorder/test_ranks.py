"""Several ranks: parameters in shards are read, each rank has its trace, the first divergence is the first over all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprodebug.compare.runs import compare_runs
from reprodebug.model.events import Flag, Phase
from tests.compare.traces import run as made
from tests.compare.traces import trace, training
from tests.recorder.recorded import capture, rows

PHASES = {p.word: int(p) for p in Phase}
PROGRAM = """
import sys
import torch, torch.distributed as dist
from torch import nn
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
if sys.argv[1] == "ddp":
    net = nn.parallel.DistributedDataParallel(net)
else:
    from torch.distributed.fsdp import fully_shard
    for part in (net[0], net[2], net):
        fully_shard(part)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
g = torch.Generator().manual_seed(100 + rank)
for step in range(3):
    x = torch.randn(5, 6, generator=g)
    if sys.argv[2] == "b" and rank == 1 and step == 1:
        x[0, 0] += 1e-3
    loss = net(x).square().mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step()
dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("wrapper", "port"), [("ddp", 29631), ("fsdp", 29633)])
def test_the_first_divergence_is_on_the_rank_where_it_began(tmp_path: Path, wrapper: str, port: int) -> None:
    (tmp_path / "ranks.py").write_text(PROGRAM)
    launcher = f"""
    import subprocess, sys
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "{port}"]
    sys.exit(subprocess.call([*command, "ranks.py", "{wrapper}", *sys.argv[1:]]))
    """
    a, b = (capture(tmp_path, launcher, side) for side in ("a", "b"))
    for run in (a, b):
        assert sorted(run.traces) == [(0, 0), (1, 0)]
        for rank in (0, 1):
            assert not [r for r in rows(run, rank) if r.flags & Flag.UNOBSERVED]
            assert {r.module for r in rows(run, rank, kind="parameter")} == {"0", "2"}
            assert {r.module for r in rows(run, rank, kind="gradient", tensor="weight.grad")} == {"0", "2"}
    found = compare_runs(a, b)
    assert found.first is not None
    assert (found.first.rank, found.first.step, found.first.kind, found.first.module) == (1, 1, "data", "")
    assert found.layers[0].first.rank == 1
    assert {x.first.rank for x in found.layers} == {0, 1}


def test_places_of_all_ranks_stand_in_the_order_in_which_they_parted() -> None:
    same, late, early = training(), training(change=(2, "a")), training(change=(1, "c"))
    found = compare_runs(made(trace(same), trace(same)), made(trace(late), trace(early)))
    assert found.first is not None
    assert (found.first.rank, found.first.step) == (1, 1)
    order = [(x.first.step, PHASES[x.first.phase], x.first.rank) for x in found.layers]
    assert order[0] == (1, int(Phase.FORWARD), 1)
    assert order == sorted(order)
