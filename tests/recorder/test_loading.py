"""DataLoaders whose batches are made by a batch sampler of the program's own, as accelerate and transformers do."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprodebug.compare.runs import examine
from tests.recorder.recorded import capture, notes


def test_the_sampler_within_a_batch_sampler(tmp_path: Path) -> None:
    script = """
        import torch
        from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Sampler, TensorDataset

        class Shard(BatchSampler):
            def __init__(self, batch_sampler):
                self.batch_sampler, self.batch_size, self.drop_last = batch_sampler, batch_sampler.batch_size, batch_sampler.drop_last
            def __iter__(self):
                return iter(self.batch_sampler)

        data = TensorDataset(torch.arange(12.0).reshape(12, 1))
        batches = BatchSampler(RandomSampler(data, generator=torch.Generator().manual_seed(3)), 4, True)
        model = torch.nn.Linear(1, 1)
        for loader in (DataLoader(data, batch_sampler=batches), DataLoader(data, batch_sampler=Shard(batches)), DataLoader(data, batch_size=None)):
            for (x,) in loader:
                model(x)
    """
    run = capture(tmp_path, script)
    own, shard, single = notes(run, "loader")
    assert (own["batch_sampler"], own["sampler"], own["batch_size"], own["drop_last"]) == ("BatchSampler", "RandomSampler", 4, True)
    assert (shard["batch_sampler"], shard["sampler"]) == ("Shard", "BatchSampler of RandomSampler")
    assert (single["batch_sampler"], single["sampler"], single["batch_size"]) == ("NoneType", "SequentialSampler", None)
    assert "torch.Generator of DataLoader#0" in [name for name, _ in run.trace(0).generators]


@pytest.mark.parametrize("changed", ["", "c"])
def test_batches_whose_names_come_from_a_set(tmp_path: Path, changed: str) -> None:
    """Each launch has them in another order: they are compared by their names, in the batch and as keyword arguments."""
    script = """
        import sys
        import torch
        NAMES = {"a", "b", "c", "d", "e"}
        class Data(torch.utils.data.Dataset):
            def __len__(self):
                return 2
            def __getitem__(self, n):
                return {k: torch.full((3,), float(ord(k) + n + (k == sys.argv[1]) * int(sys.argv[2]))) for k in NAMES}
        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.scale = torch.nn.Parameter(torch.ones(3))
            def forward(self, more, **kwargs):
                return sum((kwargs[k] + more[k]) * self.scale for k in sorted(kwargs))
        net = Net()
        print([*NAMES])
        for batch in torch.utils.data.DataLoader(Data()):
            net({k: v + 1 for k, v in batch.items()}, **batch)
    """
    runs = [capture(tmp_path, script, changed, str(n), PYTHONHASHSEED=str(n)) for n in (0, 1)]
    found = examine(*runs).comparison
    assert not found.counts.only_a and not found.counts.only_b
    assert (found.first.tensor if found.first else "") == (f"batch.{changed}" if changed else "")
