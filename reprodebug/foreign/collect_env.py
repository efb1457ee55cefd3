"""The text of ``python -m torch.utils.collect_env``: versions, driver, cuDNN, GPUs, CPU, packages."""

from __future__ import annotations

import re

from reprodebug.foreign.protocol import Record
from reprodebug.foreign.tree import Tree

NAME = "torch collect_env"
_KEYS = {
    "pytorch version": "package/torch", "python version": "python", "cuda used to build pytorch": "cuda-build", "rocm used to build pytorch": "rocm-build",
    "os": "os", "gcc version": "gcc", "clang version": "clang", "cmake version": "cmake", "libc version": "libc", "python platform": "platform",
    "is cuda available": "cuda-available", "cuda runtime version": "cuda", "nvidia driver version": "driver", "cudnn version": "cudnn",
    "is xnnpack available": "xnnpack", "hip runtime version": "hip", "miopen runtime version": "miopen", "is debug build": "debug-build",
    "cuda_module_loading set to": "cuda-module-loading", "hip runtime": "hip", "xpu used to build pytorch": "xpu-build", "is xpu available": "xpu-available",
}  # fmt: skip
_CPU = {
    "model name": "cpu",
    "cpu(s)": "cpu-count",
    "flags": "cpu-flags",
    "architecture": "architecture",
    "thread(s) per core": "threads-per-core",
}


def find(tree: Tree) -> list[str]:
    """Text files that hold such a report."""
    found = []
    for f in tree.files:
        if f.endswith((".txt", ".log", ".md", ".out")) and not re.search(r"(^|/)(site-packages|node_modules|wandb|mlruns)/", f):
            head = tree.read(f, 1 << 16)
            if b"PyTorch version:" in head and b"Python version:" in head:
                found.append(f)
    return found


def read(tree: Tree, place: str) -> Record:
    """One report."""
    record = Record(NAME, place, rank=1)
    gpus: list[str] = []
    heading = ""
    for line in tree.lines(place):
        package = re.match(r"^\[(pip3?|conda)\]\s+([A-Za-z0-9][\w.-]*?)(?:==|\s+)(\d\S*)(?:\s+(\S+))?", line)
        if package:
            record.package(package[2], package[3], place)
            if package[1] == "conda" and package[4] and not package[4].startswith("pypi"):
                record.add("environment", f"package-build/{package[2]}", package[4], place)
            continue
        gpu = re.match(r"^GPU (\d+):\s*(.+?)(?:\s+\(UUID.*)?$", line)
        if gpu:
            gpus.append(gpu[2])
            continue
        library = re.search(r"/libcudnn\.so\.(\d+\.\d[\d.]*)\s*$", line)
        if library:  # the report lists every copy that it found
            record.add("environment", "cudnn", library[1], place)
            continue
        name, colon, value = line.partition(":")
        key, value = name.strip().lower(), value.strip()
        if not colon:
            continue
        if not value and not line.startswith(" "):
            heading = key
            continue
        if key in _KEYS:
            if key == "python version":
                value = value.split()[0]
            if _KEYS[key].startswith("package/"):
                record.package(_KEYS[key][8:], value, place)
            elif not value.startswith(("Probably", "Could not collect")):
                record.add("environment", _KEYS[key], value, place)
        elif key in _CPU and ("cpu" in heading or key in ("architecture", "model name")):
            record.add("hardware", _CPU[key], " ".join(sorted(value.split())) if key == "flags" else value, place)
    if gpus:
        record.add("hardware", "gpus", gpus, place)
    return record
