"""DataLoaders whose batches are made by a batch sampler of the program's own, as accelerate and transformers do."""

from __future__ import annotations

from pathlib import Path

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
