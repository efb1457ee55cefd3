"""What an experiment imposes on a program before it starts: seeds, determinism and precision switches, an order of files.

Only a trial of ``reprodebug bisect`` or ``check --minimize`` sets any of it, through one variable; a recording never does. What
torch reads from the environment (thread counts, CPU capability, cuBLAS workspace) the parent sets there; here is what
needs a call. Runs in the program's Python, so it stays in syntax that Python 3.9 reads.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from typing import Any

VARIABLE = "REPRODEBUG_IMPOSE"
"""JSON: name of the setting -> value"""


def imposed() -> dict[str, Any]:
    """What is asked for; empty in a plain recording."""
    try:
        found = json.loads(os.environ.get(VARIABLE) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def at_start(wanted: dict[str, Any]) -> None:
    """Before the program's first line: Python's and NumPy's generators, the order in which directories are listed."""
    if "python_random_seed" in wanted:
        import random

        random.seed(int(wanted["python_random_seed"]))
    if "numpy_seed" in wanted:
        try:
            import numpy

            numpy.random.seed(int(wanted["numpy_seed"]))
        except ImportError:
            pass
    if wanted.get("file_order"):
        _sorted_listings()


def at_torch(torch: Any, wanted: dict[str, Any]) -> list[str]:
    """As soon as torch is imported. Returns the names that this torch does not know."""
    unknown = []
    for name, value in wanted.items():
        impose = _TORCH.get(name)
        if impose is None:
            continue
        try:
            impose(torch, value)
            _hold(torch, functools.partial(impose, torch, value), _SETTERS.get(name, ()))
        except (AttributeError, RuntimeError, TypeError, ValueError):
            unknown.append(name)
    return unknown


def _hold(torch: Any, again: Any, names: tuple[str, ...]) -> None:
    """A program that sets such a switch itself, e.g. from its options, gets what is imposed all the same."""
    busy = False

    def held(original: Any) -> Any:
        @functools.wraps(original)
        def setter(*args: Any, **kwargs: Any) -> Any:
            nonlocal busy
            result = None if original.__name__ in _ONCE else original(*args, **kwargs)
            if not busy:
                busy = True
                try:
                    again()
                except RuntimeError:  # too late for this one
                    pass
                finally:
                    busy = False
            return result

        return setter

    properties = [p for m in (torch.backends.cudnn, torch.backends.mkldnn) for p in vars(type(m)).values() if hasattr(p, "setter")]
    for name in names:
        owner = torch if hasattr(torch, name) else torch._C
        original = getattr(owner, name, None)
        if original is None:  # this torch has it not
            continue
        replacement = held(original)
        setattr(owner, name, replacement)
        for p in properties:  # which keep the function itself
            if p.setter is original:
                p.setter = replacement
            elif name == "_set_fp32_precision_setter" and getattr(p.setter, "__name__", "") == "inner":
                p.setter = held(p.setter)


def _sorted_listings() -> None:
    listdir, scandir = os.listdir, os.scandir

    class Sorted:
        """What ``os.scandir`` gives, in order of the names."""

        def __init__(self, entries: Any) -> None:
            with entries:
                self._entries = iter(sorted(entries, key=lambda e: e.name))

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            return next(self._entries)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: Any) -> None:
            self.close()

        def close(self) -> None:
            self._entries = iter(())

    def sorted_listdir(*args: Any, **kwargs: Any) -> Any:
        return sorted(listdir(*args, **kwargs))

    def sorted_scandir(*args: Any, **kwargs: Any) -> Any:
        return Sorted(scandir(*args, **kwargs))

    os.listdir = sorted_listdir
    os.scandir = sorted_scandir  # type: ignore[assignment]
    for name in ("posix", "nt"):
        module = sys.modules.get(name)
        if module is not None:
            module.listdir = sorted_listdir  # type: ignore[attr-defined]


def _seed(torch: Any, value: Any) -> None:
    torch.manual_seed(int(value))


def _deterministic(torch: Any, value: Any) -> None:
    torch.use_deterministic_algorithms(bool(value), warn_only=bool(value))


def _threads(torch: Any, value: Any) -> None:
    torch.set_num_threads(int(value))


def _interop(torch: Any, value: Any) -> None:
    torch.set_num_interop_threads(int(value))


def _tf32(torch: Any, value: Any) -> None:
    torch.backends.cuda.matmul.allow_tf32 = bool(value)
    torch.backends.cudnn.allow_tf32 = bool(value)


def _reduced(torch: Any, value: Any) -> None:
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = bool(value)
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = bool(value)


def _sdp(torch: Any, value: Any) -> None:
    """``math`` leaves only the mathematical kernel; a mapping says of each whether it may be used."""
    chosen = value if isinstance(value, dict) else {name: name == value for name in ("flash", "mem_efficient", "cudnn", "math")}
    for name, allowed in chosen.items():
        switch = getattr(torch.backends.cuda, f"enable_{'mem_efficient' if name == 'mem_efficient' else name}_sdp", None)
        if switch is not None:
            switch(bool(allowed))


def _workers(torch: Any, value: Any) -> None:
    from torch.utils.data import DataLoader

    original = DataLoader.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        asked = kwargs.get("num_workers", args[5] if len(args) > 5 else 0)
        if asked and not int(value):
            for name in ("prefetch_factor", "persistent_workers", "multiprocessing_context", "timeout"):
                kwargs.pop(name, None)
        if asked:
            args = (*args[:5], int(value), *args[6:9]) if len(args) > 5 else args
            kwargs = kwargs if len(args) > 5 else {**kwargs, "num_workers": int(value)}
        original(self, *args, **kwargs)

    DataLoader.__init__ = init  # type: ignore[method-assign]


def _fused(torch: Any, value: Any) -> None:
    """One parameter at a time, for every optimizer made from now on."""
    original = torch.optim.Optimizer.__init__

    def init(self: Any, params: Any, defaults: dict[str, Any]) -> None:
        for name in ("foreach", "fused"):
            if name in defaults:
                defaults[name] = bool(value) and name == "fused"
        original(self, params, defaults)

    torch.optim.Optimizer.__init__ = init


def _autocast(torch: Any, value: Any) -> None:
    original = torch.amp.autocast_mode.autocast.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self._enabled = bool(value) and self._enabled

    torch.amp.autocast_mode.autocast.__init__ = init


def _benchmark(torch: Any, value: Any) -> None:
    torch.backends.cudnn.benchmark = bool(value)


def _cudnn_deterministic(torch: Any, value: Any) -> None:
    torch.backends.cudnn.deterministic = bool(value)


def _mkldnn(torch: Any, value: Any) -> None:
    torch._C._set_mkldnn_enabled(bool(value))


def _fill(torch: Any, value: Any) -> None:
    torch.utils.deterministic.fill_uninitialized_memory = bool(value)


def _dtype(torch: Any, value: Any) -> None:
    torch.set_default_dtype(getattr(torch, str(value).removeprefix("torch.")))


_TORCH = {
    "torch_seed": _seed,
    "deterministic_algorithms": _deterministic,
    "cudnn_benchmark": _benchmark,
    "cudnn_deterministic": _cudnn_deterministic,
    "tf32": _tf32,
    "reduced_precision_reduction": _reduced,
    "sdp_backend": _sdp,
    "mkldnn": _mkldnn,
    "intra_op_threads": _threads,
    "inter_op_threads": _interop,
    "dataloader_workers": _workers,
    "fused_optimizer": _fused,
    "autocast": _autocast,
    "fill_uninitialized_memory": _fill,
    "default_dtype": _dtype,
}

_SETTERS = {
    "deterministic_algorithms": ("_set_deterministic_algorithms",),
    "cudnn_benchmark": ("_set_cudnn_benchmark",),
    "cudnn_deterministic": ("_set_cudnn_deterministic",),
    "tf32": (
        "_set_cublas_allow_tf32", "_set_cudnn_allow_tf32", "_set_float32_matmul_precision", "_set_fp32_precision_setter",
    ),
    "reduced_precision_reduction": (
        "_set_cublas_allow_fp16_reduced_precision_reduction", "_set_cublas_allow_bf16_reduced_precision_reduction",
    ),
    "sdp_backend": ("_set_sdp_use_flash", "_set_sdp_use_mem_efficient", "_set_sdp_use_math", "_set_sdp_use_cudnn"),
    "mkldnn": ("_set_mkldnn_enabled",),
    "intra_op_threads": ("set_num_threads",),
    "inter_op_threads": ("set_num_interop_threads",),
    "fill_uninitialized_memory": ("_set_deterministic_fill_uninitialized_memory",),
}  # fmt: skip
"""what is imposed -> torch's functions that set it"""
_ONCE = ("set_num_interop_threads",)
"""of these, those that torch lets be called once only"""
