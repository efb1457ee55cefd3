"""Facts about the GPUs of this machine, from the driver through NVML: asked by the parent, never inside the recorded program.

Starts no CUDA context. A machine without the driver, or without nvidia-ml-py, gives nothing.

NVIDIA Management Library (NVML) API Reference.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from reprodebug._base.redact import mask_device

_MARKS = ("/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/dxg")
"""files that a machine with the driver has, the last under WSL"""


def read(key: bytes) -> dict[str, object]:
    """``{"driver": ..., "cuda": ..., "gpus": [{...}]}``; empty without a driver. Clocks are in MHz, power in W, memory in GiB; an
    identifier is a keyed hash. What a GPU does not tell is left out. The number of processes is that of the moment of asking."""
    if not any(os.path.exists(path) for path in _MARKS):
        return {}
    try:
        import pynvml as nvml

        nvml.nvmlInit()
    except Exception:  # noqa: BLE001  # not installed, no library, no permission: there is nothing to be had
        return {}
    try:
        return _facts(nvml, key)
    except Exception as error:  # noqa: BLE001
        return {"error": type(error).__name__}
    finally:
        nvml.nvmlShutdown()


def _facts(nvml: Any, key: bytes) -> dict[str, object]:
    found: dict[str, object] = {}
    _ask(found, "driver", lambda: _text(nvml.nvmlSystemGetDriverVersion()))
    _ask(found, "cuda", lambda: _cuda(nvml.nvmlSystemGetCudaDriverVersion_v2()))
    found["gpus"] = [_gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(n), key) for n in range(nvml.nvmlDeviceGetCount())]
    return found


def _gpu(nvml: Any, handle: Any, key: bytes) -> dict[str, object]:
    gpu: dict[str, object] = {}
    clocks = (("sm", nvml.NVML_CLOCK_SM), ("memory", nvml.NVML_CLOCK_MEM))
    asked: list[tuple[str, Callable[[], object]]] = [
        ("name", lambda: _text(nvml.nvmlDeviceGetName(handle))),
        ("id", lambda: mask_device(_text(nvml.nvmlDeviceGetUUID(handle)), key)),
        ("capability", lambda: ".".join(str(n) for n in nvml.nvmlDeviceGetCudaComputeCapability(handle))),
        ("memory_gib", lambda: round(nvml.nvmlDeviceGetMemoryInfo(handle).total / 2**30)),
        ("ecc", lambda: bool(nvml.nvmlDeviceGetEccMode(handle)[0])),
        ("mig", lambda: bool(nvml.nvmlDeviceGetMigMode(handle)[0])),
        ("persistence", lambda: bool(nvml.nvmlDeviceGetPersistenceMode(handle))),
        ("compute_mode", lambda: int(nvml.nvmlDeviceGetComputeMode(handle))),
        ("power_limit_w", lambda: round(nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000)),
        ("vbios", lambda: _text(nvml.nvmlDeviceGetVbiosVersion(handle))),
        *((f"{name}_clock_max", lambda c=clock: int(nvml.nvmlDeviceGetMaxClockInfo(handle, c))) for name, clock in clocks),
        *((f"{name}_clock_set", lambda c=clock: int(nvml.nvmlDeviceGetApplicationsClock(handle, c))) for name, clock in clocks),
        *((f"{name}_clock_now", lambda c=clock: int(nvml.nvmlDeviceGetClockInfo(handle, c))) for name, clock in clocks),
        ("processes", lambda: len(nvml.nvmlDeviceGetComputeRunningProcesses(handle))),
    ]  # fmt: skip
    for name, ask in asked:
        _ask(gpu, name, ask)
    return gpu


def described(seen: object, key: bytes) -> dict[str, object]:
    """What the hardware record holds about GPUs. ``seen``: the devices that the program itself used, as its guest named them
    (``id``: the keyed hash, where torch tells it); they come in that order, and get what the driver knows about them."""
    known = read(key)
    listed = known.get("gpus")
    cards: list[dict[str, object]] = [dict(c) for c in listed] if isinstance(listed, list) else []
    record: dict[str, object] = {}
    if isinstance(seen, list) and seen:
        gpus = []
        for device in seen:
            facts = dict(device) if isinstance(device, dict) else {}
            card = next((c for c in cards if facts.get("id") and c.get("id") == facts["id"]), None)
            if card is None and len(cards) == 1 and not facts.get("id"):
                card = cards[0]
            gpus.append({**(card or {}), **facts})
        record["gpus"] = gpus
    elif cards:
        record["gpus"] = cards
    for name, key_of in (("driver", "nvidia_driver"), ("cuda", "cuda_driver")):
        if known.get(name):
            record[key_of] = known[name]
    return record


def _ask(found: dict[str, object], name: str, ask: Callable[[], object]) -> None:
    try:
        found[name] = ask()
    except Exception:  # noqa: BLE001  # "not supported" is what many cards answer to some of it
        pass


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _cuda(version: int) -> str:
    """12080 is CUDA 12.8."""
    return f"{version // 1000}.{version % 1000 // 10}"
