"""What the diagnosis of two runs makes suspicious: rules of ``reprodebug.diagnose`` -> settings worth trying first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reprodebug.model.comparison import Comparison

_RULES: dict[str, tuple[str, ...]] = {
    "hash order": ("python_hash_seed",),
    "missing or other seed": ("torch_seed", "numpy_seed", "python_random_seed"),
    "random module": ("torch_seed",),
    "extra draws": ("torch_seed",),
    "loader workers": ("dataloader_workers",),
    "loader settings": ("torch_seed", "dataloader_workers"),
    "reading order": ("file_order",),
    "order of arrival": ("dataloader_workers", "intra_op_threads"),
    "nondeterministic kernel": ("deterministic_algorithms", "intra_op_threads"),
    "threads": ("intra_op_threads",),
    "uninitialised memory": ("deterministic_algorithms", "fill_uninitialized_memory"),
    "kernel settings": ("mkldnn", "cudnn_benchmark", "sdp_backend"),
    "reduced precision": ("tf32", "reduced_precision_reduction"),
    "processor": ("cpu_capability",),
}


def named(a: str, b: str, items: list[str]) -> Mapping[str, float]:
    """Item -> how much the diagnosis of two runs (directories) suspects it: the causes that name it."""
    comparison = _diagnosed(a, b)
    found: dict[str, float] = {}
    for cause in comparison.causes if comparison else ():
        text = f"{cause.summary} {' '.join(cause.evidence)}".lower()
        for item in items:
            if re.search(rf"(?<![a-z0-9]){re.escape(item.lower())}(?![a-z0-9])", text):
                found[item] = max(found.get(item, 0.0), cause.confidence)
    return found


def _diagnosed(a: str, b: str) -> Comparison | None:
    from reprodebug._base.errors import ReprodebugError
    from reprodebug.compare.runs import examine
    from reprodebug.diagnose.ranking import diagnose
    from reprodebug.store.run import open_run

    try:
        return diagnose(examine(open_run(a), open_run(b)))
    except ReprodebugError:
        return None


_SEEDS = {"torch_seed": 0.2, "numpy_seed": 0.15, "python_random_seed": 0.15, "python_hash_seed": 0.15}
_KERNELS = {"deterministic_algorithms": 0.4, "intra_op_threads": 0.3}
_KINDS: dict[str, Mapping[str, float]] = {
    "data": {**_SEEDS, "file_order": 0.1, "dataloader_workers": 0.1},
    "parameter": _SEEDS, "activation": _KERNELS, "loss": _KERNELS, "gradient": _KERNELS, "optimizer": _KERNELS,
}  # fmt: skip
"""what a kind of first divergence makes worth trying, where no rule knows better"""


def suspects(a: str, b: str) -> Mapping[str, float]:
    """Setting -> how much the diagnosis of two runs (directories) suspects it, 0 to 1."""
    comparison = _diagnosed(a, b)
    if comparison is None:
        return {}
    first = comparison.first
    trained = first is not None and first.kind == "parameter" and first.phase != "init"
    found = dict(_KERNELS if trained else _KINDS.get(first.kind if first else "", {}))
    for cause in comparison.causes:
        text = f"{cause.summary} {' '.join(cause.evidence)}".lower()
        for n, name in enumerate(_RULES.get(cause.rule, ())):
            weight = cause.confidence / (n + 1)
            if cause.rule == "missing or other seed" and name.split("_")[0] in text:
                weight = cause.confidence
            found[name] = max(found.get(name, 0.0), weight)
    return found
