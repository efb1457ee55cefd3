"""Sparse and quantised tensors as dense ones: against torch, and numbers of two that differ."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from reprodebug.compare.numbers import compare_bytes
from reprodebug.compare.packed import dense
from reprodebug.compare.portrait import portrait
from reprodebug.model.comparison import Tolerance
from reprodebug.recorder.detail import _PARTS
from reprodebug.recorder.fingerprint import Fingerprinter
from reprodebug.store.journal import pack


def kept(t: torch.Tensor) -> tuple[Any, str, tuple[int, ...]]:
    """A tensor as level ``full`` keeps it."""
    layout = "quantized" if t.is_quantized else str(t.layout).removeprefix("torch.").lstrip("_")
    form: dict[str, Any] = {"layout": layout, "dtype": str(t.dtype), "parts": []}
    bodies = []
    for name, part in zip(_PARTS[layout], Fingerprinter._parts(_Torch(), t), strict=False):  # type: ignore[arg-type]
        if isinstance(part, torch.Tensor):
            part = part.contiguous()
            body = bytes(part.reshape(-1).view(torch.uint8).numpy()) if part.numel() else b""
            form["parts"].append({"name": name, "dtype": str(part.dtype)[6:], "shape": list(part.shape), "nbytes": len(body)})
            bodies.append(body)
        else:
            form[name] = part
    return np.frombuffer(pack(form, bodies), np.uint8), layout, tuple(t.shape)


class _Torch:
    _torch = torch


def examples() -> dict[str, torch.Tensor]:
    full = torch.tensor([[0.0, 1.0, 0.0, 2.0], [0.0, 0.0, 3.0, 0.0]])
    return {
        "coo": full.to_sparse_coo(), "hybrid": torch.sparse_coo_tensor([[2, 0]], torch.tensor([[1.0, 2.0], [3.0, 4.0]]), (3, 2)),
        "half": full.to(torch.bfloat16).to_sparse_coo(), "csr": full.to_sparse_csr(), "csc": full.to_sparse_csc(),
        "bsr": full.to_sparse_bsr((1, 2)), "bsc": full.to_sparse_bsc((2, 2)),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["coo", "hybrid", "half", "csr", "csc", "bsr", "bsc"])
def test_it_is_what_torch_makes_of_it(name: str) -> None:
    t = examples()[name]
    found = dense(*kept(t))
    assert found is not None
    raw, dtype, shape = found
    assert torch.equal(torch.frombuffer(bytearray(raw.tobytes()), dtype=getattr(torch, dtype)).reshape(shape), t.to_dense())


@pytest.mark.filterwarnings("ignore")
def test_numbers_and_a_picture_of_two_that_differ() -> None:
    full = torch.tensor([[0.0, 1.0, 0.0, 2.0], [0.0, 0.0, 3.0, 0.0]])
    other = full.clone()
    other[1, 2] = 3.5
    other[0, 0] = 0.25
    a, b = kept(full.to_sparse_csr()), kept(other.to_sparse_csr())
    numbers = compare_bytes(a[0], b[0], a[1], a[2], Tolerance())
    assert (numbers.elements, numbers.differing, numbers.max_abs, numbers.worst_index) == (8, 2, 0.5, (1, 2))
    p = portrait(a[0], b[0], a[1], a[2])
    assert p is not None and p.worst[0][:3] == ((1, 2), 3.0, 3.5)
    q = [kept(torch.quantize_per_tensor(full + x, 0.1, 3, torch.qint8)) for x in (0.0, 0.1)]
    numbers = compare_bytes(q[0][0], q[1][0], q[0][1], q[0][2], Tolerance())
    assert (numbers.differing, numbers.max_abs) == (8, 1.0), "their integers"


def test_what_has_no_dense_form_has_no_numbers() -> None:
    twice = torch.sparse_coo_tensor([[0, 0]], [1.0, 2.0], (3,))
    assert dense(*kept(twice)) is None, "one element given twice"
    raw, layout, _ = kept(torch.tensor([0.0, 1.0]).to_sparse_coo())
    assert dense(raw, layout, (1,)) is None, "an index out of range"
    assert dense(raw, layout, (1 << 40,)) is None, "far too large"
    generator = random.Random(0)
    for _ in range(300):
        damaged = raw.copy()
        damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        dense(damaged, layout, (2,))  # nonsense of any kind is no traceback
