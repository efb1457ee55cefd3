"""Hardware: threads, vector instructions, processor, GPU: the same operation computed by other kernels or in another order."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from reprodebug.diagnose.rule import Draft, leading, listed, named, rule, said
from reprodebug.diagnose.scene import Scene
from reprodebug.diagnose.triggers import best
from reprodebug.model.comparison import Difference

_THREADS = re.compile(
    r"threads|^OMP_|^MKL_NUM|^OPENBLAS_NUM|^GOMP_|^KMP_|^cores$|logical_cpus|cpus_allowed|hardware_concurrency|NUM_THREADS$", re.I
)
_CAPABILITY = re.compile(
    r"cpu_capability|ATEN_CPU_CAPABILITY|CPU instructions|^cpu$|machine|DNNL_MAX_CPU_ISA|ONEDNN_MAX_CPU_ISA|NPY_|CORETYPE|MKL_ENABLE|MKL_CBWR|MKL_DEBUG",
    re.I,
)
_HOW = ("kernels sum in another order", "kernels compute the initial values in another order")
_GPU = re.compile(r"gpu|cuda_devices|nvidia_driver|driver|cudnn(?!_[a-z])|cublas(?!_workspace)|CUDA_VISIBLE", re.I)
_KERNEL = re.compile(
    r"^mkldnn|^nnpack|onednn|sdp_|cudnn_(benchmark|enabled|deterministic)|deterministic_algorithms|cublas_workspace|blas_library|linalg_library|inductor_|dynamo_|jit_",
    re.I,
)


@rule("threads", "settings")
def threads(s: Scene) -> Iterator[Draft]:
    """Sums are split among another number of threads."""
    found = _machine(s, _THREADS)
    effective = [d for d in found if d.key == "intra_op_threads"]
    if not found:
        return
    likely = {"forward": 0.93, "loss": 0.93, "backward": 0.95, "optimizer": 0.9, "init": 0.35, "data": 0.12, "loaded": 0.4}[s.stage]
    if not effective:
        known = [side.part("settings").get("intra_op_threads") for side in s.sides]
        likely *= 0.1 if known[0] is not None and known[0] == known[1] else 0.35
    if s.rounding is False:
        likely *= 0.3
    if s.inputs_equal is False:
        likely *= 0.3
    if s.stage == "optimizer" and not _split(s):
        likely *= 0.15
    d = effective[0] if effective else found[0]
    variables = [x for x in found if x.key.isupper() and x is not d]
    summary = f"the number of threads differs ({named(d)}{'; ' + named(variables[0]) if variables else ''}): sums are split otherwise and round otherwise"
    trigger = [] if variables else s.variables_used[:1] or [x for x in best(s) if re.search("thread", x.key + x.a + x.b, re.I)][:1]
    summary += leading(trigger)
    evidence = [*(said(x) for x in [*found[:4], *trigger]), *_before(s)]
    remedy = (
        "Set the same number of threads in both runs (OMP_NUM_THREADS, torch.set_num_threads); one thread gives the same order everywhere."
    )
    yield Draft("hardware", summary, tuple(evidence), remedy, likely, frozenset(x.key for x in [*found, *trigger]))


_GRAIN = 32_768
"""elements of one tensor below which torch splits no element-wise operation and no sum over all of it among threads"""


def _split(s: Scene) -> bool:
    """Whether an optimizer's step can be split among threads: a tensor is large enough, or the step multiplies matrices."""
    large = any(math.prod(shape) >= _GRAIN for shape, *_ in s.pair.a.metas)
    return large or any(re.search("LBFGS|Muon|Shampoo|SOAP", str(n.get("class"))) for n in s.notes("optimizer")[0])


@rule("number of cores", "sources")
def cores(s: Scene) -> Iterator[Draft]:
    """The program asks how many cores it has and does something else with another number: shards, workers, folds."""
    found, lines = s.find(r"^(cpus_allowed|logical_cpus|cores)$", "hardware"), s.hint("cores")
    if not found or not lines or s.rounding or s.find(r"^DataLoader#\d+\.num_workers$|^intra_op_threads$"):
        return
    summary = (
        f"the program goes by the number of cores, at {lines[0].file}:{lines[0].line} ({lines[0].text}): {listed(map(named, found), 2)}"
    )
    evidence = [*(said(d) for d in found), *(f"asks for it: {h.place}" for h in lines[:3]), f"first to differ: {s.place}"]
    given = {d.key for d in s.given} <= {d.key for d in found}
    strength = {"data": 0.85, "init": 0.7}.get(s.stage, 0.5) * (1.0 if given else 0.6) * (0.5 if s.torch_parted else 1.0)
    remedy = "Give the number as an option, the same in both runs."
    yield Draft("hardware", summary, tuple(evidence), remedy, strength, frozenset(d.key for d in found))


@rule("processor", "settings")
def processor(s: Scene) -> Iterator[Draft]:
    """Other vector instructions: other kernels, other order of sums, other approximations of functions."""
    found = _machine(s, _CAPABILITY)
    if not found:
        return
    effective = [d for d in found if re.search("capability", d.key, re.I)]
    likely = {"forward": 0.93, "loss": 0.93, "backward": 0.93, "optimizer": 0.9, "init": 0.85, "data": 0.4, "loaded": 0.6}[s.stage]
    if not effective:
        likely *= 0.75
    if s.rounding is False and s.numeric:
        likely *= 0.3
    if s.inputs_equal is False or (s.torch_parted and s.stage in ("init", "data")):
        likely *= 0.4
    chosen = effective or found
    summary = f"other vector instructions are used ({listed((named(d) for d in chosen), 3)}): {_HOW[s.stage == 'init']} and round otherwise"
    remedy = "Pin the instruction set (ATEN_CPU_CAPABILITY=default or avx2; ONEDNN_MAX_CPU_ISA, MKL_CBWR=COMPATIBLE for the libraries), or compare with a tolerance."
    yield Draft("hardware", summary, (*(said(x) for x in found[:4]), *_before(s)), remedy, likely, frozenset(x.key for x in found))


@rule("graphics processor", "hardware")
def gpu(s: Scene) -> Iterator[Draft]:
    """Another GPU, driver or CUDA library."""
    found = _machine(s, _GPU)
    if not found:
        return
    used = "cuda" in str(s.pair.a.metas[s.events[0]["meta"]][2]) or any("cuda" in str(m[2]) for m in s.pair.a.metas[:200])
    likely = {"forward": 0.9, "loss": 0.9, "backward": 0.9, "optimizer": 0.85, "init": 0.5, "data": 0.2, "loaded": 0.3}[s.stage] * (
        1 if used else 0.05
    )
    summary = f"another GPU, driver or CUDA library ({listed((named(d) for d in found), 3)}): other kernels are chosen"
    yield Draft(
        "hardware",
        summary,
        (*(said(x) for x in found[:4]), *_before(s)),
        "Run both on the same GPU model, driver and CUDA libraries, or compare with a tolerance.",
        likely,
        frozenset(x.key for x in found),
    )


@rule("kernel settings", "settings")
def kernel_settings(s: Scene) -> Iterator[Draft]:
    """A switch that selects kernels or algorithms is set otherwise."""
    found = [d for d in s.find(r".", "config", "hardware") if _KERNEL.search(d.key)]
    if not found:
        return
    likely = {"forward": 0.93, "loss": 0.9, "backward": 0.9, "optimizer": 0.7, "init": 0.3, "data": 0.1, "loaded": 0.2}[s.stage]
    if all(re.match(r"jit_|inductor_|dynamo_|cudnn_", d.key) for d in found) and "cpu" in str(s.pair.a.metas[s.events[0]["meta"]][2]):
        likely *= 0.4
    if s.inputs_equal is False or s.rounding is False:
        likely *= 0.4
    trigger = [
        d
        for d in s.find(r".", "config", "environment")
        if re.search(r"mkldnn|onednn|determin|benchmark|compile|sdp|backend|cudnn|cublas|nnpack", d.key, re.I)
        and (d.section == "config" or d.key.isupper())  # not the library that another kernel brings along
        and d not in found
    ]
    trigger += [d for d in s.variables_read if d not in trigger]
    summary = f"torch chooses other kernels: {listed((named(d) for d in found), 3)}" + leading(trigger[:2])
    evidence = [*(said(x) for x in [*found[:4], *trigger[:2]]), *_before(s)]
    yield Draft(
        "environment" if trigger and trigger[0].section == "environment" else "configuration",
        summary,
        tuple(evidence),
        "Set the switch alike in both runs.",
        likely,
        frozenset(x.key for x in [*found, *trigger]),
    )


def _machine(s: Scene, pattern: re.Pattern[str]) -> list[Difference]:
    return [
        d
        for d in s.differences
        if d.section in ("hardware", "environment", "config") and pattern.search(d.key) and not d.key.startswith(("DataLoader", "-"))
    ]


def _before(s: Scene) -> list[str]:
    rows = [f"equal before: {row.removesuffix(': equal')}" for row in s.equal[-4:]]
    return [f"first to differ: {s.place}", *rows]
