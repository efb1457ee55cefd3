"""What readers of container records share: finding JSON by its content, environment lists, NVIDIA's settings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

LIMIT = 16 << 20
_HEAD = 256 << 10
_MOST_FILES = 2_000
_NVIDIA = {
    "CUDA_VERSION": "cuda",
    "NV_CUDNN_VERSION": "cudnn",
    "CUDNN_VERSION": "cudnn",
    "NV_LIBNCCL_PACKAGE_VERSION": "nccl",
    "NCCL_VERSION": "nccl",
    "NVIDIA_VISIBLE_DEVICES": "visible-devices",
    "NVIDIA_DRIVER_CAPABILITIES": "driver-capabilities",
    "NVIDIA_REQUIRE_CUDA": "require-cuda",
}


def holding(tree: Tree, suffix: str, *needles: bytes) -> list[str]:
    """Files of a suffix whose beginning holds all of the needles."""
    found = []
    for name in [f for f in tree.files if f.lower().endswith(suffix)][:_MOST_FILES]:
        try:
            head = tree.read(name, _HEAD)
        except OSError:
            continue
        if all(n in head for n in needles):
            found.append(name)
    return found


def load_json(tree: Tree, place: str) -> Any:
    """The JSON of a file; several documents one after the other give a list. Raises Unreadable."""
    text = tree.text(place, LIMIT + 1)
    if len(text) > LIMIT:
        raise Unreadable(f"more than {LIMIT >> 20} MiB of JSON")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    decoder, at = json.JSONDecoder(), 0
    found: list[Any] = []
    try:
        while at < len(text) and len(found) < 1000:
            value, at = decoder.raw_decode(text, at + len(text[at:]) - len(text[at:].lstrip()))
            found.append(value)
            if not text[at:].strip():
                return found
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not JSON: {str(error)[:120]}") from None
    raise Unreadable("not JSON")


def environment(value: Any) -> dict[str, str]:
    """An environment given as a list of ``NAME=value`` or as a mapping."""
    if isinstance(value, dict):
        return {str(k): "" if v is None else _scalar(v) for k, v in value.items()}
    if isinstance(value, list):
        return {k: v for k, _, v in (str(e).partition("=") for e in value if isinstance(e, str)) if k}
    return {}


def _scalar(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def nvidia_facts(record: Record, variables: Mapping[str, str], source: str, prefix: str = "") -> None:
    """What NVIDIA's variables in a container say: versions into ``environment``, the rest into ``container``."""
    for name, key in _NVIDIA.items():
        value = variables.get(name)
        if not value or "$" in value:
            continue
        if key in ("cuda", "cudnn", "nccl"):
            if key != "cuda":
                value = re.sub(r"-\d+(?:\+cuda[\d.]+)?$|\+cuda[\d.]+$", "", value)
            if ("environment", prefix + key) not in record.facts:
                record.add("environment", prefix + key, value, source, derived=f"{prefix}env/{name}")
        else:
            record.add(
                "container", prefix + key, devices(value) if key == "visible-devices" else value, source, derived=f"{prefix}env/{name}"
            )


def devices(value: Any) -> Any:
    """A list of devices in one form: ``all``, ``none``, or a list of text."""
    if isinstance(value, str):
        value = [v.strip() for v in value.split(",") if v.strip()]
    if not isinstance(value, list):
        return value
    value = [str(v) for v in value]
    return value[0] if len(value) == 1 else value
