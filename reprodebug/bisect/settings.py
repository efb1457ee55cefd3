"""The settings that an experiment can impose, by the names of the contract: how each is set, seen, and said.

What torch reads from the environment is set there before the program starts; the rest the guest sets as soon as torch is
imported. Either way the recorded run is asked afterwards whether it took.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reprodebug.store.run import StoredRun


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the catalogue."""

    name: str
    cure: Any
    """the value under which runs repeat"""
    variables: tuple[str, ...] = ()
    """environment variables that carry it; the value as text"""
    guest: bool = True
    """the guest imposes it, or also imposes it"""
    seen: tuple[str, ...] = ()
    """recorded settings in which it shows"""
    expected: Any = None
    """what these show when the cure took; None: not checked"""
    gpu: bool = False
    """acts on a GPU alone"""
    prior: float = 1.0
    """suspicion before anything is known"""
    remedy: str = ""
    """how a user sets it"""


CATALOGUE = (
    Setting("python_hash_seed", 0, ("PYTHONHASHSEED",), False, ("hash_seed",), "0", prior=3.0, remedy="export PYTHONHASHSEED=0"),
    Setting("torch_seed", 0, prior=4.0, remedy="torch.manual_seed(0) before the model is built"),
    Setting("numpy_seed", 0, prior=3.0, remedy="numpy.random.seed(0) at the start"),
    Setting("python_random_seed", 0, prior=3.0, remedy="random.seed(0) at the start"),
    Setting(
        "deterministic_algorithms", True, seen=("deterministic_algorithms",), expected=True, prior=3.0,
        remedy="torch.use_deterministic_algorithms(True)",
    ),
    Setting(
        "intra_op_threads", 1, ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
        seen=("intra_op_threads",), expected=1, prior=1.5, remedy="export OMP_NUM_THREADS=1, or torch.set_num_threads(1)",
    ),
    Setting("inter_op_threads", 1, seen=("inter_op_threads",), expected=1, prior=0.5, remedy="torch.set_num_interop_threads(1)"),
    Setting("dataloader_workers", 0, prior=1.5, remedy="DataLoader(num_workers=0), or a worker_init_fn that seeds each worker"),
    Setting("file_order", True, prior=1.5, remedy="sort what os.listdir, glob or iterdir give"),
    Setting("fill_uninitialized_memory", True, seen=("fill_uninitialized_memory",), expected=True, prior=0.5,
            remedy="torch.utils.deterministic.fill_uninitialized_memory = True, with deterministic algorithms"),
    Setting("mkldnn", False, seen=("mkldnn",), expected=False, prior=0.4, remedy="torch.backends.mkldnn.enabled = False"),
    Setting("cpu_capability", "default", ("ATEN_CPU_CAPABILITY",), False, ("cpu_capability",), "DEFAULT", prior=0.2,
            remedy="export ATEN_CPU_CAPABILITY=default"),
    Setting("sdp_backend", "math", seen=("sdp_flash",), expected=False, prior=0.5, remedy="torch.nn.attention.sdpa_kernel(SDPBackend.MATH)"),
    Setting("compile", False, ("TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE"), False, prior=0.5, remedy="export TORCHDYNAMO_DISABLE=1"),
    Setting("fused_optimizer", False, prior=0.4, remedy="make the optimizer with foreach=False, fused=False"),
    Setting("autocast", False, prior=0.3, remedy="torch.autocast(..., enabled=False)"),
    Setting("cudnn_benchmark", False, seen=("cudnn_benchmark",), expected=False, gpu=True, prior=2.0, remedy="torch.backends.cudnn.benchmark = False"),
    Setting("cudnn_deterministic", True, seen=("cudnn_deterministic",), expected=True, gpu=True, prior=2.0,
            remedy="torch.backends.cudnn.deterministic = True"),
    Setting("cublas_workspace", ":4096:8", ("CUBLAS_WORKSPACE_CONFIG",), False, ("cublas_workspace",), ":4096:8", gpu=True, prior=1.0,
            remedy="export CUBLAS_WORKSPACE_CONFIG=:4096:8"),
    Setting("tf32", False, gpu=True, prior=0.5, remedy="torch.backends.cuda.matmul.allow_tf32 = False"),
    Setting("reduced_precision_reduction", False, gpu=True, prior=0.3,
            remedy="torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False"),
    Setting("launch_blocking", True, ("CUDA_LAUNCH_BLOCKING",), False, gpu=True, prior=0.3, remedy="export CUDA_LAUNCH_BLOCKING=1"),
    Setting("nccl_algorithm", "Ring", ("NCCL_ALGO",), False, gpu=True, prior=0.3, remedy="export NCCL_ALGO=Ring"),
)  # fmt: skip
BY_NAME = {s.name: s for s in CATALOGUE}

_RECORDED = {
    "deterministic_algorithms": "deterministic_algorithms", "cudnn_benchmark": "cudnn_benchmark", "cudnn_deterministic": "cudnn_deterministic",
    "mkldnn": "mkldnn", "intra_op_threads": "intra_op_threads", "inter_op_threads": "inter_op_threads", "cpu_capability": "cpu_capability",
    "fill_uninitialized_memory": "fill_uninitialized_memory", "cublas_workspace": "cublas_workspace", "default_dtype": "default_dtype",
}  # fmt: skip
"""setting of the contract -> recorded setting with the same value"""


def facts(run: StoredRun) -> dict[str, Any]:
    """The settings that the main process of a run recorded, with the seed of string hashing."""
    for process in run.manifest.processes:
        settings = process.environment.get("settings")
        if isinstance(settings, dict):
            return {**settings, "hash_seed": process.environment.get("hash_seed")}
    return {}


def uses_gpu(run: StoredRun) -> bool:
    """Whether the program of a run had initialised CUDA."""
    for process in run.manifest.processes:
        torch = process.environment.get("torch")
        if isinstance(torch, dict) and torch.get("cuda_devices"):
            return True
    return False


def differing(a: StoredRun, b: StoredRun) -> dict[str, dict[str, Any]]:
    """The settings in which two runs differ: name -> {"a": value, "b": value}."""
    fa, fb = facts(a), facts(b)
    found: dict[str, dict[str, Any]] = {}

    def add(name: str, x: Any, y: Any) -> None:
        if x != y:
            found[name] = {"a": x, "b": y}

    for name, key in _RECORDED.items():
        if key in fa and key in fb:
            add(name, fa[key], fb[key])
    add("tf32", _tf32(fa), _tf32(fb))
    add("reduced_precision_reduction", _reduced(fa), _reduced(fb))
    add("sdp_backend", _sdp(fa), _sdp(fb))
    if fa.get("hash_seed") != fb.get("hash_seed"):
        found["python_hash_seed"] = {"a": fa.get("hash_seed"), "b": fb.get("hash_seed")}
    return found


def _tf32(f: Mapping[str, Any]) -> bool | None:
    for key in ("tf32_matmul", "fp32_precision_cuda_matmul"):
        if key in f:
            return f[key] in (True, "tf32")
    return None


def _reduced(f: Mapping[str, Any]) -> bool | None:
    value = f.get("reduced_precision_reduction_fp16")
    return bool(value[0] if isinstance(value, list) else value) if value is not None else None


def _sdp(f: Mapping[str, Any]) -> dict[str, bool] | None:
    names = ("flash", "mem_efficient", "math", "cudnn")
    return {n: bool(f[f"sdp_{n}"]) for n in names if f"sdp_{n}" in f} or None


def enter(values: Mapping[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    """Put settings into an environment; returns what is left for the guest to impose."""
    guest: dict[str, Any] = {}
    for name, value in values.items():
        setting = BY_NAME.get(name)
        if setting is None or setting.guest:
            guest[name] = value
        if setting is None:
            continue
        for variable in setting.variables:
            if name == "python_hash_seed" and value in (None, "random"):
                environment.pop(variable, None)
            elif name == "compile":
                environment[variable] = "1" if not value else "0"
            elif (name == "cpu_capability" and str(value).upper() not in ("DEFAULT", "AVX2", "AVX512")) or value is None:
                environment.pop(variable, None)
            else:
                environment[variable] = (
                    str(value).lower() if name == "cpu_capability" else str(int(value) if isinstance(value, bool) else value)
                )
    return guest


def not_taken(run: StoredRun, values: Mapping[str, Any]) -> str:
    """A sentence where the program did not run under the settings asked for; '' where it did, or it cannot be seen."""
    seen = facts(run)
    if not seen:
        return ""
    for name, value in values.items():
        setting = BY_NAME.get(name)
        if setting is None or setting.expected is None:
            continue
        wanted = setting.expected if value == setting.cure else value
        for key in setting.seen:
            if key in seen and key != "sdp_flash" and _plain(seen[key]) != _plain(wanted) and value not in (None, "random"):
                return f"{name} did not take: the program ran with {seen[key]} instead of {wanted}"
    return ""


def _plain(value: Any) -> str:
    return json.dumps(value).strip('"').upper()
