"""What a process says about itself: interpreter, torch build, determinism and precision settings, libraries, modules.

Owns the questions and their names. Refuses every question whose answer would change the program: CUDA is never
initialised, nothing heavy is imported, and what torch reads from the environment on first use (CPU capability, thread
counts) is asked only once torch has computed (``used=True``, or from the first ``SettingsWatch.changed()`` on): asked
right after ``import torch`` it would freeze the value before the program sets the variable.
"""

from __future__ import annotations

import os
import re
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reprodebug.recorder.handlers import pass_on

UNREADABLE = "unreadable"
"""the value of a setting whose getter raised, e.g. when old and new TF32 switches were mixed"""
_MAX_VALUE = 4096
"""characters kept of one environment variable"""
_FP32 = (
    ("fp32_precision", "generic", "all"),
    ("fp32_precision_cuda_matmul", "cuda", "matmul"),
    ("fp32_precision_cudnn_conv", "cuda", "conv"),
    ("fp32_precision_cudnn_rnn", "cuda", "rnn"),
    ("fp32_precision_mkldnn_matmul", "mkldnn", "matmul"),
    ("fp32_precision_mkldnn_conv", "mkldnn", "conv"),
    ("fp32_precision_mkldnn_rnn", "mkldnn", "rnn"),
)
_GETTERS = (
    ("deterministic_algorithms", "_get_deterministic_algorithms"),
    ("deterministic_warn_only", "_get_deterministic_algorithms_warn_only"),
    ("fill_uninitialized_memory", "_get_deterministic_fill_uninitialized_memory"),
    ("cudnn_enabled", "_get_cudnn_enabled"),
    ("cudnn_benchmark", "_get_cudnn_benchmark"),
    ("cudnn_deterministic", "_get_cudnn_deterministic"),
    ("mkldnn", "_get_mkldnn_enabled"),
    ("mkldnn_deterministic", "_get_mkldnn_deterministic"),
    ("nnpack", "_get_nnpack_enabled"),
    ("sdp_flash", "_get_flash_sdp_enabled"),
    ("sdp_mem_efficient", "_get_mem_efficient_sdp_enabled"),
    ("sdp_math", "_get_math_sdp_enabled"),
    ("sdp_cudnn", "_get_cudnn_sdp_enabled"),
    ("sdp_math_reduced_precision", "_get_math_sdp_allow_fp16_bf16_reduction"),
    ("reduced_precision_reduction_fp16", "_get_cublas_allow_fp16_reduced_precision_reduction"),
    ("reduced_precision_reduction_bf16", "_get_cublas_allow_bf16_reduced_precision_reduction"),
    ("fp16_accumulation", "_get_cublas_allow_fp16_accumulation"),
    ("cpu_fp16_reduced_precision_reduction", "_get_cpu_allow_fp16_reduced_precision_reduction"),
    ("default_dtype", "get_default_dtype"),
    ("grad_anomaly", "is_anomaly_enabled"),
)
"""setting -> its getter in torch._C: pure reads of a flag, 0.05 to 0.2 µs each"""
_LEGACY_TF32 = (
    ("tf32_matmul", "_get_cublas_allow_tf32"),
    ("tf32_cudnn", "_get_cudnn_allow_tf32"),
    ("float32_matmul_precision", "_get_float32_matmul_precision"),
)
"""only where torch has no per-backend precision: beside those, these raise or warn (once: the program's own warning is lost)"""
_INDUCTOR = (
    "deterministic", "fallback_random", "max_autotune", "max_autotune_gemm", "max_autotune_pointwise",
    "coordinate_descent_tuning", "emulate_precision_casts", "emulate_divison_rounding", "freezing", "layout_optimization",
    "epilogue_fusion", "pattern_matcher", "split_reductions", "benchmark_kernel", "fx_graph_cache", "cpp_wrapper",
)  # fmt: skip
_DYNAMO = ("suppress_errors", "assume_static_by_default", "automatic_dynamic_shapes", "disable", "recompile_limit")


def start_facts() -> dict[str, Any]:
    """Interpreter, command line, paths, locale and environment variables of this process; needs no torch. Secrets masked."""
    from reprodebug._base import redact

    key = redact.machine_key()
    facts: dict[str, Any] = {
        "executable": sys.executable,
        "version": ".".join(map(str, sys.version_info[:3])),
        "build": sys.version,
        "implementation": sys.implementation.name,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "flags": {name: getattr(sys.flags, name) for name in dir(sys.flags) if name[0] != "_" and name not in ("count", "index")
                  and not name.startswith("n_")},
        "hash_seed": _hash_seed(),
        "hash_probe": f"{hash('reprodebug') & 0xFFFFFFFF:08x}",
        "argv": redact.redact_argv(list(map(str, sys.argv)), key),
        "orig_argv": redact.redact_argv(list(getattr(sys, "orig_argv", [])), key),
        "sys_path": [str(p) for p in sys.path],
        "filesystem_encoding": sys.getfilesystemencoding(),
        "stdout_encoding": getattr(sys.stdout, "encoding", None),
        "timezone": list(time.tzname),
        "pid": os.getpid(),
        "platform": sys.platform,
        "byteorder": sys.byteorder,
        "cpu_count": os.cpu_count(),
    }  # fmt: skip
    for name, ask in (
        ("cwd", os.getcwd),
        ("locale", _locale),
        ("umask", _umask),
        ("cpus_allowed", _cpus_allowed),
        ("machine", _machine),
    ):
        try:
            facts[name] = ask()
        except Exception as error:
            facts[name] = f"{UNREADABLE}: {type(error).__name__}"
    facts["variables"] = {k: redact.redact_value(k, v, key)[:_MAX_VALUE] for k, v in sorted(os.environ.items())}
    return facts


def _hash_seed() -> str:
    """The seed of string hashing in force: a number, or ``random``."""
    seed = "" if sys.flags.ignore_environment else os.environ.get("PYTHONHASHSEED", "")
    return seed if seed.isdigit() else "random"


def _locale() -> str:
    import _locale as c

    return str(c.setlocale(c.LC_ALL, None))


def _umask() -> str | None:
    """From /proc: reading it by ``os.umask`` would change it for a moment, for every thread."""
    if sys.platform != "linux":
        return None
    with open("/proc/self/status", "rb") as f:
        found = re.search(rb"^Umask:\s*(\d+)", f.read(4096), re.M)
    return found[1].decode() if found else None


def _cpus_allowed() -> int | None:
    ask = getattr(os, "sched_getaffinity", None)
    return None if ask is None else len(ask(0))


def _machine() -> str:
    return os.uname().machine


def torch_facts(torch: Any, *, used: bool = False) -> dict[str, Any]:
    """Versions of torch and what it was built with. ``used`` says that torch has computed already: then the build
    string, CPU capability, thread counts and (where CUDA is in use) the devices are read as well."""
    version = torch.version
    facts: dict[str, Any] = {
        "version": str(torch.__version__),
        "git_version": getattr(version, "git_version", None),
        "debug": getattr(version, "debug", None),
        "cuda": getattr(version, "cuda", None),
        "hip": getattr(version, "hip", None),
    }
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        facts["numpy"] = numpy.__dict__.get("__version__")
    if not used:
        return facts
    for name, ask in (
        ("build", lambda: parse_build(torch.__config__.show())),
        ("parallel", lambda: parse_parallel(torch.__config__.parallel_info())),
        ("cpu_capability", torch.backends.cpu.get_cpu_capability),
        ("intra_op_threads", torch.get_num_threads),
        ("inter_op_threads", torch.get_num_interop_threads),
        ("cuda_devices", lambda: _cuda_devices(torch)),
    ):
        try:
            facts[name] = ask()
        except Exception as error:
            facts[name] = f"{UNREADABLE}: {type(error).__name__}"
    try:
        if facts["cuda_devices"]:
            facts["cudnn"] = torch.backends.cudnn.version()
            nccl = getattr(torch._C, "_nccl_version", None)
            facts["nccl"] = nccl() if nccl is not None else None
    except Exception as error:
        facts["cudnn"] = f"{UNREADABLE}: {type(error).__name__}"
    return facts


def _cuda_devices(torch: Any) -> list[dict[str, Any]]:
    """The visible GPUs, only where the program has initialised CUDA itself."""
    if not torch.cuda.is_initialized():
        return []
    from reprodebug._base import redact

    devices = []
    for n in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(n)
        uuid = getattr(p, "uuid", None)
        devices.append({
            **({"id": redact.mask_device(str(uuid), redact.machine_key())} if uuid is not None else {}),
            "name": p.name, "capability": f"{p.major}.{p.minor}", "memory_gib": round(p.total_memory / 2**30),
            "multi_processors": p.multi_processor_count,
        })  # fmt: skip
    return devices


def parse_build(text: str) -> dict[str, str]:
    """The key facts of ``torch.__config__.show()``: BLAS, MKL, oneDNN, OpenMP, compiler, CPU capability, CUDA, cuDNN."""
    facts: dict[str, str] = {}
    for name, pattern in (
        ("compiler", r"^\s*- (GCC [\d.]+|clang [\d.]+|MSVC \d+)"),
        ("mkl", r"Math Kernel Library Version ([\d.]+)"),
        ("onednn", r"MKL-DNN v(\S+)"),
        ("openmp", r"- OpenMP (\d+)"),
        ("cpu_capability", r"CPU capability usage: (\S+)"),
        ("cuda_runtime", r"CUDA Runtime ([\d.]+)"),
        ("cuda_archs", r"NVCC architecture flags: (.+)"),
        ("cudnn", r"CuDNN ([\d.]+)"),
        ("magma", r"Magma ([\d.]+)"),
        ("blas", r"BLAS_INFO=(\w+)"),
        ("lapack", r"LAPACK_INFO=(\w+)"),
        ("build_type", r"BUILD_TYPE=(\w+)"),
    ):
        found = re.search(pattern, text, re.M)
        if found:
            facts[name] = found[1].strip()
    return facts


def parse_parallel(text: str) -> dict[str, str]:
    """The key facts of ``torch.__config__.parallel_info()``: back end, OpenMP and MKL thread counts."""
    facts: dict[str, str] = {}
    for name, pattern in (
        ("backend", r"ATen parallel backend: (.+)"),
        ("omp_threads", r"omp_get_max_threads\(\) : (\d+)"),
        ("mkl_threads", r"mkl_get_max_threads\(\) : (\d+)"),
        ("hardware_concurrency", r"hardware_concurrency\(\) : (\d+)"),
    ):
        found = re.search(pattern, text)
        if found:
            facts[name] = found[1].strip()
    return facts


def plain(value: Any) -> Any:
    """A setting's value as JSON holds it."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [plain(v) for v in value]
    return str(value)


def _getters(torch: Any) -> list[tuple[str, Callable[..., Any], tuple[Any, ...]]]:
    """Every cheap getter that this torch has: (setting, function, arguments)."""
    c = torch._C
    found: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = []
    for name, getter in _GETTERS:
        ask = getattr(c, getter, None) or getattr(torch, getter, None)
        if ask is not None:
            found.append((name, ask, ()))
    precision = getattr(c, "_get_fp32_precision_getter", None)
    if precision is not None:
        found += [(name, precision, (backend, op)) for name, backend, op in _FP32]
    else:
        found += [(name, getattr(c, getter), ()) for name, getter in _LEGACY_TF32 if hasattr(c, getter)]
    autocast = getattr(torch, "get_autocast_dtype", None)
    if autocast is not None:
        for device in ("cpu", "cuda"):
            found += [
                (f"autocast_{device}", torch.is_autocast_enabled, (device,)),
                (f"autocast_{device}_dtype", autocast, (device,)),
            ]
    found.append(("cublas_workspace", os.environ.get, ("CUBLAS_WORKSPACE_CONFIG",)))
    found.append(("default_device", _default_device, (torch,)))
    return found


def _default_device(torch: Any) -> str:
    """As set by ``torch.set_default_device``; ``torch.get_default_device`` may make a tensor and so initialise CUDA."""
    context = getattr(getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None), "device_context", None)
    return "cpu" if context is None else str(context.device)


def settings(torch: Any, *, used: bool = False) -> dict[str, Any]:
    """Every setting of torch that can change bits, by name; ``used`` as in :func:`torch_facts`."""
    return _settings(torch, _getters(torch), used)


def _settings(torch: Any, getters: list[tuple[str, Callable[..., Any], tuple[Any, ...]]], used: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, ask, args in getters:
        try:
            found[name] = plain(ask(*args))
        except Exception:
            found[name] = UNREADABLE
    c = torch._C
    more: list[tuple[str, Callable[[], Any]]] = [("autocast_cache", torch.is_autocast_cache_enabled)]
    for name, getter in (("jit_optimize", "_get_graph_executor_optimize"), ("jit_profiled_runs", "_jit_get_num_profiled_runs"),
                         ("sdp_order", "_get_sdp_priority_order")):  # fmt: skip
        if hasattr(c, getter):
            more.append((name, getattr(c, getter)))
    if used:
        more += [
            ("cpu_capability", torch.backends.cpu.get_cpu_capability),
            ("intra_op_threads", torch.get_num_threads),
            ("inter_op_threads", torch.get_num_interop_threads),
        ]
        if torch.cuda.is_initialized():
            more += [(f"{kind}_library", getattr(c, f"_get_{kind}_preferred_backend")) for kind in ("blas", "linalg")
                     if hasattr(c, f"_get_{kind}_preferred_backend")]  # fmt: skip
    for name, ask in more:
        try:
            found[name] = plain(ask())
        except Exception:
            found[name] = UNREADABLE
    if found.get("float32_matmul_precision") is None and "fp32_precision_mkldnn_matmul" in found:
        # what set_float32_matmul_precision leaves behind in the per-backend switches
        found["float32_matmul_precision"] = {"bf16": "medium", "tf32": "high"}.get(found["fp32_precision_mkldnn_matmul"], "highest")
    for prefix, module, names in (("inductor", "torch._inductor.config", _INDUCTOR), ("dynamo", "torch._dynamo.config", _DYNAMO)):
        config = sys.modules.get(module)
        if config is not None:
            for name in names:
                try:
                    found[f"{prefix}_{name}"] = plain(getattr(config, name))
                except Exception:
                    continue
    return found


class SettingsWatch:
    """Says when a setting changed; cheap enough to be asked after every step."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._getters = _getters(torch)
        self._ask = [(f, args) for _, f, args in self._getters]
        self._threads = torch.get_num_threads
        self._last: tuple[Any, ...] | None = None

    def changed(self) -> dict[str, Any] | None:
        """All settings where one has changed since the last call, else None. The first call always answers: it adds
        what could not be asked before torch was used (``settings(used=True)``)."""
        try:
            now: tuple[Any, ...] = (
                self._threads(),
                "torch._inductor.config" in sys.modules,
                *[f(*args) for f, args in self._ask],
            )
        except Exception as error:
            pass_on(error)
            now = (self._threads(), "torch._inductor.config" in sys.modules, *[self._one(f, args) for f, args in self._ask])
        if now == self._last:
            return None
        self._last = now
        return _settings(self._torch, self._getters, True)

    @staticmethod
    def _one(f: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        try:
            return f(*args)
        except Exception as error:
            pass_on(error)
            return UNREADABLE


def script(command: Sequence[str]) -> str:
    """The script that an interpreter's command line names; empty where it runs a module, a string or nothing."""
    for n, word in enumerate(command[1:], 1):
        if word.startswith(("-m", "-c")):
            return ""
        if not word.startswith("-") and command[n - 1] not in ("-W", "-X"):
            return word
    return ""


def modules() -> dict[str, str]:
    """Imported modules and their files. Reads dictionaries only: looking up an attribute could load a lazy module."""
    found: dict[str, str] = {}
    for name, module in list(sys.modules.items()):
        try:
            own: Mapping[str, Any] = object.__getattribute__(module, "__dict__")
            file = own.get("__file__")
        except Exception:
            continue
        if isinstance(file, str) and isinstance(name, str):
            found[name] = file
    return found


def mapped_libraries(limit: int = 2000) -> list[dict[str, Any]]:
    """Shared libraries mapped into this process: path, name, size. Linux; elsewhere empty. The interpreter's own
    extension modules are left out."""
    if sys.platform != "linux":
        return []
    own = os.path.join(os.path.dirname(os.__file__), "lib-dynload") + os.sep
    paths: dict[str, None] = {}
    try:
        with open("/proc/self/maps", "rb") as f:
            for line in f:
                at = line.find(b"/")
                if at > 0 and b".so" in line:
                    paths[os.fsdecode(line[at:].rstrip(b"\n"))] = None
    except OSError:
        return []
    found: list[dict[str, Any]] = []
    for path in sorted(paths):
        name = os.path.basename(path)
        if ".so" not in name or path.startswith((own, "/dev/", "/memfd:")) or path.endswith(" (deleted)"):
            continue
        try:
            found.append({"path": path, "name": name, "size": os.stat(path).st_size})
        except OSError:
            continue
        if len(found) >= limit:
            break
    return found


def build_id(path: str) -> str | None:
    """The GNU build id of an ELF file in hexadecimal, None where it has none or is no ELF file.

    ELF: System V ABI, "Object Files" (program headers, PT_NOTE); the note NT_GNU_BUILD_ID has type 3 and name ``GNU``.
    """
    try:
        with open(path, "rb") as f:
            head = f.read(64)
            if len(head) < 52 or head[:4] != b"\x7fELF" or head[4] not in (1, 2) or head[5] not in (1, 2):
                return None
            order = "<" if head[5] == 1 else ">"
            wide = head[4] == 2
            table = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)[0]
            size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
            if size < (56 if wide else 32) or count > 256:
                return None
            f.seek(table)
            headers = f.read(size * count)
            for at in range(0, len(headers) - size + 1, size):
                if struct.unpack_from(order + "I", headers, at)[0] != 4:  # PT_NOTE
                    continue
                if wide:
                    offset, nbytes = struct.unpack_from(order + "8xQ16xQ", headers, at)
                else:
                    offset, nbytes = struct.unpack_from(order + "4xI8xI", headers, at)
                f.seek(offset)
                found = _gnu_note(f.read(min(nbytes, 65536)), order)
                if found:
                    return found
    except (OSError, OverflowError, ValueError, struct.error):
        pass
    return None


def _gnu_note(notes: bytes, order: str) -> str | None:
    at = 0
    while at + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from(order + "III", notes, at)
        start = at + 12 + (name_size + 3) // 4 * 4
        if kind == 3 and notes[at + 12 : at + 16] == b"GNU\0" and size <= 64:
            return notes[start : start + size].hex() or None
        at = start + (size + 3) // 4 * 4
    return None
