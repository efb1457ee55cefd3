"""How the samples of the first differing batch met: the same in another order, of other content, or others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reprodebug._base.text import plural
from reprodebug.model.events import Kind

if TYPE_CHECKING:
    from reprodebug.diagnose.scene import Scene

_TORCH_SAMPLERS = ("RandomSampler", "SequentialSampler", "SubsetRandomSampler", "WeightedRandomSampler")
"""samplers of torch that draw from the generator they are given, or have no state"""
_BATCHES_SEARCHED = 400


@dataclass(frozen=True, slots=True)
class Samples:
    """How the samples of the first differing batch met."""

    relation: str
    """``same samples, other order`` | ``other batches`` (they come at other steps) | ``other content`` (same sampler
    indices) | ``other samples`` | ``unknown``"""
    text: str
    same_indices: bool | None


def samples(s: Scene) -> Samples:
    """Relation of the two batches by their samples' fingerprints."""
    import numpy as np

    unknown = Samples("unknown", "samples were not fingerprinted one by one", None)
    if s.first.kind != "data":
        return unknown
    batches = [_of_step(s, side) for side in (0, 1)]
    if batches[0] is None or batches[1] is None:
        return unknown
    (prints_a, index_a), (prints_b, index_b) = batches[0], batches[1]
    alike = bool(np.array_equal(index_a, index_b)) if len(index_a) and len(index_b) else None
    indices = "" if alike is None else f"; the sampler's indices are {'the same' if alike else 'others'}"
    n = len(prints_a)
    if n == 0 or len(prints_b) == 0:
        return Samples("unknown", unknown.text + indices, alike)
    if n == len(prints_b) and np.array_equal(np.sort(prints_a), np.sort(prints_b)):
        if np.array_equal(prints_a, prints_b):
            return Samples("unknown", "the samples' rows are equal" + indices, alike)
        return Samples("same samples, other order", f"the batch holds the same {plural(n, 'sample')} in another order{indices}", alike)
    common = len(np.intersect1d(prints_a, prints_b))
    if alike:
        changed = n - int((prints_a == prints_b).sum()) if n == len(prints_b) else n
        return Samples("other content", f"the sampler chose the same samples, and {changed} of {n} have other content", True)
    elsewhere_a, elsewhere_b = (np.concatenate([prints for prints, _ in _batches(s, side)] or [np.zeros(0, np.uint64)]) for side in (0, 1))
    if len(elsewhere_a) and len(elsewhere_b):
        share = min(float(np.isin(prints_a, elsewhere_b).mean()), float(np.isin(prints_b, elsewhere_a).mean()))
        if share > 0.9:
            text = (
                f"{common} of {n} samples are shared, the others come in the other run's other batches: the same samples in another order"
            )
            return Samples("other batches", text + indices, alike)
        if share > 0.2:
            text = f"{share:.0%} of the samples come in the other run at another place: another selection or order"
            return Samples("other batches", text + indices, alike)
    text = f"{common} of {n} samples are shared, and the others are not found in the other run's batches"
    return Samples("other samples", text + indices, alike)


def _of_step(s: Scene, side: int) -> tuple[Any, Any] | None:
    """(fingerprints, indices) of the batch that the first divergence belongs to."""
    trace = (s.pair.a, s.pair.b)[side]
    align = (s.pair.align.a, s.pair.align.b)[side]
    index = int(align[s.at])
    label = trace.sites[trace.events[index]["site"]][0]
    for k in range(index, max(index - 64, -1), -1):  # samples hang on the batch's first tensor
        e = trace.events[k]
        if e["kind"] == Kind.DATA and trace.sites[e["site"]][0] == label and (row := trace.samples(int(e["seq"]))) is not None:
            return row
    return None


def repeating(s: Scene) -> int | None:
    """0 for A, 1 for B: the run whose first differing batch has the samples of its batch before once more; None for neither or both."""
    import numpy as np

    found = []
    for side, trace, align in ((0, s.pair.a, s.pair.align.a), (1, s.pair.b, s.pair.align.b)):
        label = trace.sites[trace.events[int(align[s.at])]["site"]][0]
        earlier = trace.events[: int(align[s.at]) + 1]
        rows = [trace.samples(int(e["seq"])) for e in earlier[earlier["kind"] == Kind.DATA][-16:] if trace.sites[e["site"]][0] == label]
        last = [row[0] for row in rows if row is not None][-2:]
        if len(last) == 2 and len(last[0]) and np.array_equal(last[0], last[1]):
            found.append(side)
    return found[0] if len(found) == 1 else None


def _batches(s: Scene, side: int) -> list[tuple[Any, Any]]:
    """(fingerprints of the samples, the sampler's indices) of every batch from the same source, bounded."""
    import numpy as np

    trace = (s.pair.a, s.pair.b)[side]
    index = int((s.pair.align.a, s.pair.align.b)[side][s.at])
    label = trace.sites[trace.events[index]["site"]][0]
    places = np.array([site[0] == label for site in trace.sites])
    events = trace.events
    where = np.flatnonzero((events["kind"] == Kind.DATA) & places[events["site"]])
    rows = []
    for seq in events["seq"][where][: 8 * _BATCHES_SEARCHED].tolist():
        row = trace.samples(int(seq))
        if row is not None:
            rows.append(row)
        if len(rows) >= _BATCHES_SEARCHED:
            break
    return rows


def chosen_otherwise(s: Scene) -> bool:
    """The data is the same, index by index, and the sampler chose other indices."""
    if s.samples.same_indices is not False:
        return False
    a, b = (
        {
            i: p
            for prints, chosen in _batches(s, n)
            if len(chosen) == len(prints)
            for i, p in zip(chosen.tolist(), prints.tolist(), strict=True)
        }
        for n in (0, 1)
    )
    both = a.keys() & b.keys()
    return bool(both) and all(a[i] == b[i] for i in both)


def own_sampler(s: Scene) -> str:
    """The class of a sampler, the program's own or DistributedSampler, that alone decides the order of the differing batches:
    no generator of torch has parted but the loader's, which then only seeds the workers. Empty where that is not so."""
    root = s.pair.a.sites[s.events[0]["site"]][0]
    row = next((n for n in s.notes("loader")[0] if f"DataLoader#{n.get('number')}" == root), {})
    name = str(row.get("sampler") or "").partition(" of ")[0]
    alone = all(x.name == f"torch.Generator of {root}" for x in s.torch_parted)
    ordered = row.get("generator") == "own" and s.samples.same_indices is False
    return name if alone and ordered and name not in _TORCH_SAMPLERS else ""
