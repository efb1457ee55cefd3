"""What zoom is told of an operation's kernels, by torch's own profiler on an NVIDIA GPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from reprodebug.recorder.kernels import around

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
    pytest.mark.filterwarnings("ignore"),
]


def looked_at(work: Any) -> tuple[dict[str, Any], Any]:
    """The row of an operation, and what it gave."""
    failed: list[Any] = []
    row: dict[str, Any] = {}
    watch = SimpleNamespace(guest=SimpleNamespace(torch=torch, fault=lambda *what: failed.append(what)))
    result = around(watch, row, work, (), {})  # type: ignore[arg-type]
    assert not failed
    return row, result


def test_kernels_of_an_operation_have_names() -> None:
    x = torch.randn(256, 256, device="cuda")
    wanted = x @ x
    row, result = looked_at(lambda: x @ x)
    assert "unprofiled" not in row
    assert row["kernels"] and "aten::mm" in row["inner"], row
    assert torch.equal(result, wanted)
    row, _ = looked_at(lambda: x.cpu())
    assert row["kernels"] == []  # a copy is none


def test_nothing_is_waited_for_inside_a_capture() -> None:
    x = torch.randn(64, 64, device="cuda")
    x + 1
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        row, y = looked_at(lambda: x + 1)
    assert "captured" in row["unprofiled"]
    graph.replay()
    assert torch.equal(y, x + 1)
