"""Checkpoints read with torch's restricted unpickler; nothing in them is executed."""

from __future__ import annotations

from typing import Any


def load_weights_only(path: str, *, mmap: bool = False) -> Any:
    """What ``torch.load(weights_only=True)`` gives, with numpy's arrays, dtypes and scalars allowed. Raises what torch raises."""
    import numpy as np
    import torch

    core = np._core if hasattr(np, "_core") else np.core
    allowed: list[Any] = [core.multiarray._reconstruct, np.ndarray, np.dtype, core.multiarray.scalar]
    allowed += [(core.multiarray._reconstruct, f"numpy.{n}.multiarray._reconstruct") for n in ("core", "_core")]
    allowed += [(core.multiarray.scalar, f"numpy.{n}.multiarray.scalar") for n in ("core", "_core")]
    dtypes = getattr(np, "dtypes", None)
    allowed += [getattr(dtypes, n) for n in dir(dtypes) if n.endswith("DType") and isinstance(getattr(dtypes, n), type)] if dtypes else []
    with torch.serialization.safe_globals(allowed):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap or None)


def flat_tensors(found: Any) -> dict[str, Any]:
    """Every tensor of nested mappings and lists, by dotted path, in order. Raises nothing."""
    import torch

    out: dict[str, Any] = {}
    stack: list[tuple[str, Any, int]] = [("", found, 0)]
    while stack:
        path, node, depth = stack.pop()
        if isinstance(node, torch.Tensor):
            out[path or "tensor"] = node
        elif isinstance(node, dict) and depth < 32:
            stack += [(f"{path}.{k}" if path else str(k), v, depth + 1) for k, v in reversed(list(node.items()))]
        elif isinstance(node, (list, tuple)) and depth < 32:
            stack += [(f"{path}.{n}" if path else str(n), v, depth + 1) for n, v in reversed(list(enumerate(node)))]
    return out


def raw_bytes(tensor: Any) -> tuple[Any, str, tuple[int, ...]]:
    """(uint8[n] bytes row by row, dtype without ``torch.``, shape) of a CPU tensor."""
    import torch

    dense = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    flat = dense.cpu().contiguous().reshape(-1)
    raw = flat.view(torch.uint8).numpy() if flat.numel() else torch.empty(0, dtype=torch.uint8).numpy()
    return raw, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
