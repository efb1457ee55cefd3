"""NVIDIA driver and container toolkit: ``/proc/driver/nvidia/version``, CDI specifications, dumps of an environment,
the GPU part of a Compose file.

Owns: driver, CUDA, cuDNN and NCCL version, visible devices, the runtime. Refuses: asking the machine itself. The environment
of ``docker inspect`` is read by ``docker_inspect``, which gives the same keys.

Sources: NVIDIA driver README (the /proc interface); Container Device Interface specification 0.8 and ``nvidia-ctk cdi generate``;
NVIDIA Container Toolkit, "Environment variables (OCI spec)"; ``nvidia-smi``, ``nvcc --version`` (head lines).
"""

from __future__ import annotations

import re
from typing import Any

from reprodebug.foreign import _containers
from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

NAME = "NVIDIA container toolkit"
_DRIVER = re.compile(r"NVRM version:.*?(?:Kernel Module|Kernel Module for \S+)\s+(?:for \S+\s+)?(\d{3,}\.\d+(?:\.\d+)?)")
_LIBRARY = re.compile(r"lib(?:cuda|nvidia-[a-z0-9-]+|nvcuvid|EGL_nvidia|GLX_nvidia|cudadebugger|nvoptix)\.so\.(\d{3}\.\d+(?:\.\d+)?)\b")
_LINE = re.compile(r"^(?:export\s+|declare -x\s+)?([A-Za-z_]\w*)=(.*)$")
_SPECIAL = re.compile(
    rb"(?m)^(?:export\s+|declare -x\s+)?(?:NVIDIA_VISIBLE_DEVICES|NVIDIA_DRIVER_CAPABILITIES|NV_CUDNN_VERSION|CUDA_VERSION)="
)
_DUMP = re.compile(r"(?:^|[._-])(?:env|environ|environment|printenv)(?:[._-]|$)", re.I)
_LIMIT = 8 << 20


def find(tree: Tree) -> list[str]:
    """Version files of the driver, CDI specifications, and dumps of an environment with NVIDIA's variables."""
    found = []
    for name in tree.files:
        leaf = name.rsplit("/", 1)[-1].lower()
        if (
            name.endswith("driver/nvidia/version")
            or re.fullmatch(r"(?:proc[._-])?(?:driver[._-])?nvidia[._-](?:driver[._-])?version(?:\.txt)?", leaf)
            or (leaf.startswith("nvidia-smi") and leaf.endswith((".txt", ".log", "nvidia-smi")))
            or leaf in ("nvcc.txt", "nvcc-version.txt")
        ):
            found.append(name)
        elif leaf.endswith((".yaml", ".yml", ".json")):
            if ("cdi" in name.lower() or "nvidia" in leaf) and b"cdiVersion" in _head(tree, name):
                found.append(name)
        elif (
            (_DUMP.search(leaf) or leaf == "container.env")
            and not leaf.endswith((".py", ".sh", ".md"))
            and _SPECIAL.search(_head(tree, name))
        ):
            found.append(name)
    return found


def _head(tree: Tree, name: str) -> bytes:
    try:
        return tree.read(name, 256 << 10).replace(b"\0", b"\n")
    except OSError:
        return b""


def read(tree: Tree, place: str) -> Record:
    """What one of these files says."""
    record = Record(NAME, place)
    text = tree.text(place, _LIMIT)
    if place.lower().endswith((".yaml", ".yml", ".json")):
        _cdi(record, text, place)
    elif "NVRM version" in text:
        m = _DRIVER.search(text) or re.search(r"NVRM version:.*?\s(\d{3}\.\d+(?:\.\d+)?)\b", text)
        if m:
            record.add("environment", "driver", m[1], place)
            record.add("environment", "driver/kernel-module", "open" if "Open Kernel Module" in text else "proprietary", place)
        if m := re.search(r"(?m)^GCC version:\s*(.*)$", text):
            record.add("environment", "driver/gcc", m[1].strip(), place)
        record.notes.append("the driver's version file does not say which CUDA version or devices a container saw")
    elif "Driver Version:" in text or "NVIDIA-SMI" in text:
        _smi(record, text, place)
    elif m := re.search(r"Cuda compilation tools, release ([\d.]+), V([\d.]+)", text):
        record.add("environment", "cuda", m[2], place)
    else:
        variables: dict[str, str] = {m[1]: m[2] for m in map(_LINE.match, re.split(r"[\0\n]", text)) if m}
        variables = {k: v.strip().strip("\"'") for k, v in variables.items()}
        for name, value in variables.items():
            if re.match(r"(?:NVIDIA|NV|CUDA|CUBLAS|CUDNN|NCCL)_", name):
                record.add("container", f"env/{name}", value, place)
        _containers.nvidia_facts(record, variables, place)
    if not record.facts:
        raise Unreadable("no version of a driver and no setting of the toolkit in it")
    return record


def _smi(record: Record, text: str, place: str) -> None:
    """The head of what ``nvidia-smi`` prints."""
    if m := re.search(r"Driver Version:\s*([\d.]+)", text):
        record.add("environment", "driver", m[1], place)
    if m := re.search(r"CUDA Version:\s*([\d.]+)", text):
        record.add("environment", "driver/cuda", m[1], place)
    names = re.findall(r"(?m)^\|\s+\d+\s+(\S.*?)\s+(?:On|Off|N/A)\s+\|", text)
    if names:
        record.add("hardware", "gpus", names, place)


def _cdi(record: Record, text: str, place: str) -> None:
    """A CDI specification: the driver's version stands in the names of the mounted libraries."""
    from reprodebug.foreign import _yaml

    try:
        data = _yaml.load(text)
    except _yaml.BadYaml as error:
        raise Unreadable(str(error)) from None
    if not isinstance(data, dict) or "cdiVersion" not in data:
        raise Unreadable("no CDI specification")
    kind = str(data.get("kind", ""))
    record.add("container", "cdi/kind", kind, place)
    edits: list[Any] = [data.get("containerEdits"), *(d.get("containerEdits") for d in data.get("devices") or [] if isinstance(d, dict))]
    versions: dict[str, int] = {}
    variables: dict[str, str] = {}
    for edit in edits:
        if not isinstance(edit, dict):
            continue
        variables |= _containers.environment(edit.get("env"))
        paths = [str(m.get(k, "")) for m in edit.get("mounts") or [] if isinstance(m, dict) for k in ("hostPath", "containerPath")]
        hooks = [str(a) for h in edit.get("hooks") or [] if isinstance(h, dict) for a in h.get("args") or []]
        for found in _LIBRARY.findall("\n".join([*paths, *hooks])):
            versions[found] = versions.get(found, 0) + 1
    if versions:
        record.add("environment", "driver", max(sorted(versions), key=lambda v: versions[v]), place)
    else:
        record.notes.append("no mounted library names the driver's version")
    names = [str(d.get("name")) for d in data.get("devices") or [] if isinstance(d, dict)]
    record.add("container", "cdi/devices", names, place)
    for name, value in variables.items():
        record.add("container", f"env/{name}", value, place)
    _containers.nvidia_facts(record, variables, place)
    record.notes.append("a CDI specification lists the devices that a container could ask for, not those that it had, and no CUDA version")
