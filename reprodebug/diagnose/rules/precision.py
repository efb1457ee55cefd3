"""Precision: autocast, dtypes, TF32 and other reduced precision."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reprodebug.diagnose.rule import Draft, leading, listed, named, rule, said
from reprodebug.diagnose.scene import Scene
from reprodebug.diagnose.triggers import best, triggers
from reprodebug.model.comparison import Difference
from reprodebug.model.events import Flag

_SETTINGS = re.compile(
    r"^(default_dtype|tf32|float32_matmul_precision|fp32_precision|reduced_precision|fp16_accumulation|cpu_fp16|autocast_|sdp_math_reduced)",
    re.I,
)
_OPTIONS = r"precision|matmul|amp|bf16|fp16|fp32|float|half|dtype|autocast|tf32|double"


@rule("dtype or autocast")
def dtype(s: Scene) -> Iterator[Draft]:
    """The first differing tensor has another dtype, or was computed under autocast in one run only."""
    d = s.first
    other = d.dtype_b is not None and d.dtype_b != d.dtype
    cast = s.flag(Flag.AUTOCAST) if s.stage in ("forward", "loss", "backward") and d.kind == "activation" else (False, False)
    settings = [x for x in s.find(r".", "config") if _SETTINGS.search(x.key)]
    if not other and cast[0] == cast[1]:
        return
    trigger = [x for x in best(s, _OPTIONS) if x.section in ("config", "code")] or s.variables_used[:2]
    evidence = []
    if other:
        evidence.append(f"{s.place} is {d.dtype} in A and {d.dtype_b} in B")
    if cast[0] != cast[1]:
        evidence.append(f"autocast is {'on' if cast[0] else 'off'} in A and {'on' if cast[1] else 'off'} in B at {s.place}")
    evidence += [said(x) for x in [*settings[:3], *trigger]]
    how = f"autocast is on in {'A' if cast[0] else 'B'} only" if cast[0] != cast[1] else "another dtype is computed with"
    kinds = f" ({d.dtype} in A, {d.dtype_b} in B)" if other else ""
    summary = f"the precision differs: {how}{kinds}" + leading(trigger)
    if settings:
        summary += f"; {listed(named(x) for x in settings[:2])}"
    strength = 0.95 if s.stage != "data" else 0.7
    yield Draft(
        "precision",
        summary,
        tuple(evidence),
        "Use the same precision (autocast, dtype) in both runs.",
        strength,
        frozenset(x.key for x in [*settings, *trigger]),
    )


@rule("reduced precision", "settings")
def reduced(s: Scene) -> Iterator[Draft]:
    """TF32, reduced-precision reductions or the default dtype are set otherwise."""
    found = [x for x in s.find(r".", "config", "environment") if _SETTINGS.search(x.key) or x.key == "NVIDIA_TF32_OVERRIDE"]
    if not found or (s.first.dtype_b is not None and s.first.dtype_b != s.first.dtype):
        return
    device = str(s.pair.a.metas[s.events[0]["meta"]][2])
    fits = [x for x in found if ("mkldnn" in x.key or ("cuda" not in x.key and "cudnn" not in x.key)) or device.startswith("cuda")]
    likely = {"forward": 0.92, "loss": 0.9, "backward": 0.9, "optimizer": 0.6, "init": 0.4, "data": 0.2, "loaded": 0.3}[s.stage] * (
        1 if fits else 0.15
    )
    if s.inputs_equal is False:
        likely *= 0.4
    trigger = _led(s, found)
    summary = f"the precision of computation is set otherwise: {listed((named(x) for x in fits or found), 3)}"
    summary += leading(trigger, one_of=True)
    yield Draft(
        "precision",
        summary,
        tuple(said(x) for x in [*(fits or found)[:5], *trigger]),
        "Set torch.set_float32_matmul_precision, torch.backends.*.allow_tf32 and the default dtype alike.",
        likely,
        frozenset(x.key for x in [*found, *trigger]),
    )


def _led(s: Scene, found: list[Difference]) -> list[Difference]:
    """What made the program set its precision otherwise: an option, a variable or a source that is named for it, else the likeliest."""
    rated = [t.difference for t in triggers(s) if t.difference not in found]
    named = [d for d in [*rated, *s.variables_read] if re.search(_OPTIONS, f"{d.key} {d.a} {d.b}", re.I)]
    return (named or s.variables_used or rated)[:2]
