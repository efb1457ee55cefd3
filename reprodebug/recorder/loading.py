"""What the program's DataLoaders gave it: batches, samples, the sampler's indices, worker seeds.

A batch is recorded when the program receives it, so prefetching and workers change nothing of the order.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from reprodebug.model.events import Kind, Phase
from reprodebug.recorder.calls import leaves
from reprodebug.recorder.handlers import pass_on

if TYPE_CHECKING:
    from reprodebug.recorder.guest import Guest

_DATA_KIND, _DATA_PHASE = int(Kind.DATA), int(Phase.DATA)
_MAX_SAMPLES = 4096
_SAMPLE_BYTES = 64 << 20
"""a batch above this many bytes gets no fingerprint per sample"""
_SCALARS = (int, float, str, bool, bytes)


class _Iteration:
    """One pass over one DataLoader."""

    __slots__ = ("in_order", "indices", "label", "type_name")

    def __init__(self, label: str, type_name: str, in_order: bool) -> None:
        self.label = label
        self.type_name = type_name
        self.in_order = in_order
        self.indices: deque[list[int]] = deque()


def _samplers(loader: Any) -> list[Any]:
    """What chooses the loader's samples, each followed by the one that it wraps. With a batch sampler of the program's own,
    ``loader.sampler`` is one that nobody asks. Instances' own attributes alone are looked at: no code of theirs runs."""
    found: list[Any] = []
    sampler = loader.batch_sampler if loader.batch_sampler is not None else loader.sampler
    while sampler is not None and len(found) < 8:
        found.append(sampler)
        own = getattr(sampler, "__dict__", {})
        sampler = own.get("batch_sampler") if own.get("batch_sampler") is not None else own.get("sampler")
    return found


def _of_batches(loader: Any, name: str) -> Any:
    """A setting that the batch sampler holds where the program made it, and the loader where the loader did."""
    own = getattr(loader.batch_sampler, "__dict__", {})
    value = own.get(name)
    return value if isinstance(value, int) else getattr(loader, name)


class Loading:
    """Wraps the DataLoader's iterator: its making, its next batch, its next indices."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.reset()

    def reset(self) -> None:
        """After a fork."""
        self._iterations: weakref.WeakKeyDictionary[Any, _Iteration] = weakref.WeakKeyDictionary()
        self._loaders: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._count = 0
        self._step = -1
        self.batches: set[bytes] = set()
        """fingerprints of this step's batches: a model's input that is one of them is known already"""
        self._calls: dict[str, int] = {}

    def install(self) -> None:
        """Wrap the iterator classes of ``torch.utils.data``."""
        from torch.utils.data import dataloader as d

        base = d._BaseDataLoaderIter
        self.guest.wrap(base, "__init__", before=self._before_iteration, after=self._started)
        self.guest.wrap(base, "_reset", after=self._restarted)
        self.guest.wrap(base, "_next_index", after=self._indices)
        self.guest.wrap(base, "__next__", after=self._batch)

    def _before_iteration(self, args: Any, kwargs: Any) -> None:
        """Whatever the batches are for has been built by now: record it before the data."""
        loader = args[1]
        self.guest.randomness.observe()
        self._generators(loader)
        self.guest.parameters.settle()

    def _started(self, args: Any, result: Any) -> None:
        iterator, loader = args[0], args[1]
        number = self._loaders.get(loader)
        if number is None:
            number = self._loaders[loader] = self._count
            self._count += 1
        dataset = type(loader.dataset).__name__
        workers = int(loader.num_workers)
        self._iterations[iterator] = _Iteration(f"DataLoader#{number}", dataset, bool(getattr(loader, "in_order", True)) or workers == 0)
        samplers = _samplers(loader)
        batches = loader.batch_sampler
        try:
            size = len(loader.dataset)
        except Exception as error:
            pass_on(error)
            size = None
        self.guest.writer.meta_event(
            {
                "type": "loader", "step": self.guest.step, "number": number, "dataset": dataset, "size": size,
                "batch_size": _of_batches(loader, "batch_size"), "num_workers": workers, "drop_last": bool(_of_batches(loader, "drop_last")),
                "sampler": " of ".join(type(s).__name__ for s in samplers if s is not batches), "batch_sampler": type(batches).__name__,
                "persistent_workers": bool(loader.persistent_workers), "prefetch_factor": loader.prefetch_factor,
                "in_order": bool(getattr(loader, "in_order", True)),
                "worker_init_fn": getattr(loader.worker_init_fn, "__qualname__", None) if loader.worker_init_fn else None,
                "generator": "own" if loader.generator is not None else "global",
                "base_seed": getattr(iterator, "_base_seed", None),
                "start_method": getattr(loader.multiprocessing_context, "_name", None) if workers else None,
            }
        )  # fmt: skip

    def _restarted(self, args: Any, result: Any) -> None:
        iteration = self._iterations.get(args[0])
        if iteration is not None:
            iteration.indices.clear()

    def _generators(self, loader: Any) -> None:
        number = self._loaders.get(loader, self._count)
        seen = set()
        for owner in (loader, *_samplers(loader)):
            generator = getattr(owner, "generator", None)
            if generator is not None and id(generator) not in seen and hasattr(generator, "get_state"):
                seen.add(id(generator))
                self.guest.randomness.torch_generator(f"torch.Generator of DataLoader#{number}", generator)

    def _indices(self, args: Any, result: Any) -> None:
        iteration = self._iterations.get(args[0])
        if iteration is None:
            return
        found = result if isinstance(result, (list, tuple)) else [result]
        whole = [i for i in found[:_MAX_SAMPLES] if isinstance(i, int)]
        iteration.indices.append(whole if len(whole) == min(len(found), _MAX_SAMPLES) else [])

    def _batch(self, args: Any, batch: Any) -> None:

        guest = self.guest
        guest.thread.state.stack.clear()
        iteration = self._iterations.get(args[0])
        if iteration is None:
            return
        indices = iteration.indices.popleft() if iteration.indices else []
        if not iteration.in_order:
            indices = []
        if guest.step != self._step:
            self._step = guest.step
            self._calls.clear()
            self.batches.clear()
        call = self._calls.get(iteration.label, -1) + 1
        self._calls[iteration.label] = call
        guest.randomness.observe()
        found = leaves(batch, "batch", guest._tensor)
        if len(found) == 1 and found[0][0] == "batch":
            found = [("batch.0", found[0][1])]
        first = -1
        for path, t in found:
            site = guest.writer.site(iteration.label, "", iteration.type_name, path)
            digest, seq = guest.record(t, site, _DATA_KIND, _DATA_PHASE, 0, call, guest.randomness.torch_row)
            self.batches.add(digest)
            if first < 0:
                first = seq
        if first >= 0:
            self.samples_of([t for _, t in found], first, indices)
        guest.boundary()

    def samples_of(self, tensors: list[Any], seq: int, indices: list[int]) -> None:
        """A 64-bit fingerprint of each sample: of its rows in every tensor whose first axis is the batch."""
        guest = self.guest
        dense = guest.torch.strided
        rows = [t for t in tensors if t.dim() > 0 and t.shape[0] > 0 and t.layout is dense]
        if not rows:
            return
        if guest.fingerprint.device is not None and not rows[0].is_cpu:
            self._samples_elsewhere(rows, seq, indices)
            return
        rows = [t for t in rows if t.is_cpu]
        if not rows:
            return
        n = int(rows[0].shape[0])
        rows = [t for t in rows if int(t.shape[0]) == n]
        if n > _MAX_SAMPLES or n < 1 or sum(t.nbytes for t in rows) > _SAMPLE_BYTES:
            if indices:
                guest.writer.samples(seq, [], indices)
            return
        digest = guest.fingerprint._digest
        try:
            views = []
            for t in rows:
                size = t.nbytes // n
                views.append((memoryview(guest.fingerprint.memory(t)).cast("B"), size))
        except Exception as error:
            pass_on(error)
            return
        prints = []
        if len(views) == 1:
            view, size = views[0]
            for at in range(0, n * size, size) if size else ():
                prints.append(int.from_bytes(digest(view[at : at + size])[:8], "little"))
        else:
            for i in range(n):
                parts = b"".join([digest(view[i * size : (i + 1) * size]) for view, size in views])
                prints.append(int.from_bytes(digest(parts)[:8], "little"))
        guest.writer.samples(seq, prints, indices)

    def _samples_elsewhere(self, tensors: list[Any], seq: int, indices: list[int]) -> None:
        """``samples_of`` for a batch on an accelerator; where a DataLoader gave this step's batch in main memory, it is known."""
        guest = self.guest
        device, n = guest.fingerprint.device, int(tensors[0].shape[0])
        rows = [t for t in tensors if int(t.shape[0]) == n and guest.fingerprint._hashable(t) is not None]
        if device is None or not rows or n > _MAX_SAMPLES or (not indices and self.batches and self._step == guest.step):
            if indices:
                guest.writer.samples(seq, [], indices)
            return
        parts: list[bytes | None] = []

        def arrived(raw: bytes | None) -> None:
            parts.append(raw)
            if len(parts) < len(rows):
                return
            found = [p for p in parts if p is not None]
            prints = []
            if len(found) == len(rows):
                for i in range(n):
                    row = b"".join([p[16 * i : 16 * i + 16] for p in found])
                    prints.append(int.from_bytes((row if len(found) == 1 else guest.fingerprint._digest(row))[:8], "little"))
            guest.writer.samples(seq, prints, indices)

        try:
            for t in rows:
                device.rows(t, n, arrived)
        except Exception as error:  # the batch's event says why
            pass_on(error)
            if indices:
                guest.writer.samples(seq, [], indices)
