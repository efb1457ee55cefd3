"""Comparisons made by hand, one for each state that the compare screen must show."""

from __future__ import annotations

from dataclasses import replace

from reprodebug.compare.evidence import Evidence
from reprodebug.model.comparison import (
    Comparison,
    Counts,
    Coverage,
    Difference,
    Divergence,
    Gap,
    LayerDifference,
    Numbers,
    RunSide,
    Tolerance,
    Unobserved,
)
from reprodebug.model.events import Kind, Phase

HOSTILE = (
    "layer[/bold]",
    "[@click=app.quit]x[/]",
    "\x1b]0;pwned\x07",
    "\x9b31m",
    "a\nb\rc\td",
    "\u202egnp.exe",
    "x" * 10_000,
    "[red",
    ":smile: $error 層層層",
    "\ud800",
)


def side(name: str, **changes: object) -> RunSide:
    return replace(RunSide(f"runs/{name}", name, True, ("python", "train.py"), steps=16, events=2000), **changes)  # type: ignore[arg-type]


def divergence(module: str = "bn", step: int = 6, **changes: object) -> Divergence:
    d = Divergence(
        "activation", 0, step, "forward", module, "BatchNorm2d", "output.0", (32, 8, 16, 16), "float32",
        index_a=900, index_b=901, numbers=Numbers(elements=65536),
    )  # fmt: skip
    return replace(d, **changes)  # type: ignore[arg-type]


DIFFERENCES = (
    Difference("code", "train.py", "133c37", "3d9a29", "critical", "a file that the command names has other content"),
    Difference("environment", "PYTHONHASHSEED", "random", "0", "notable", "no seed was fixed"),
    Difference("environment", "HOSTNAME", "alpha", "beta", "harmless", "a name, no input of the computation"),
)


def divergent(layers: int = 40) -> Comparison:
    names = [f"layer{n // 4}.conv{n % 4}" for n in range(1, layers)]
    first = divergence()
    return Comparison(
        "divergent",
        "an activation of module bn (output.0) is the first to differ, at step 6 in phase forward",
        side("a"),
        side("b", events=1900),
        first,
        equal_before=("9 batch tensors before it: equal", "train/eval mode: A train, B eval", "autocast: equal"),
        layers=(
            LayerDifference(first, 12, 20, "Net"),
            LayerDifference(replace(first, tensor="input.0"), 12, 20, "Net"),
            *(LayerDifference(divergence(name, 7), 3, 20, "Net") for name in names),
        ),
        gaps=(Gap("a", 0, 6, "optimizer", "bn", "BatchNorm2d", 18),),
        differences=DIFFERENCES,
        counts=Counts(2000, 1176, 180, 0, 0),
        coverage=Coverage(0.9, (Unobserved("module fused", "its forward was compiled"),)),
        not_recorded=("the size of the difference: record both runs with `--level full --steps 6:7 --modules 'bn*'`",),
    )


def with_numbers() -> Comparison:
    c = divergent()
    d = replace(
        divergence(),
        shape_b=(32, 8, 16, 8),
        dtype_b="float16",
        numbers=Numbers(65536, 655, 1.5e-3, 0.02, 12, worst_index=(0, 1, 2, 3)),
        statistics={"mean": (0.125, 0.25)},
    )
    return replace(c, first=d, layers=(LayerDifference(d, 1, 2, "Net"), *c.layers[1:]))


def identical() -> Comparison:
    return Comparison(
        "identical", "all 2,000 records that both runs have are equal bit for bit", side("a"), side("b"), None,
        differences=(replace(DIFFERENCES[2], reason="it changed no recorded tensor"),), counts=Counts(2000), coverage=Coverage(1.0),
    )  # fmt: skip


def equivalent() -> Comparison:
    return replace(
        divergent(), verdict="equivalent", reason="every difference is inside the tolerance", first=None,
        tolerance=Tolerance(rtol=1e-3), smallest_tolerance=Numbers(max_abs=1e-6, max_rel=1e-5, max_ulp=3),
    )  # fmt: skip


def incomparable() -> Comparison:
    return Comparison("incomparable", "no record could be compared", side("a"), side("b"), None, differences=())


def truncated() -> Comparison:
    c = divergent()
    return replace(c, b=side("b", complete=False, notes=("killed by signal 9 at step 12; 3 records were lost",)))


def hostile() -> Comparison:
    """Every string that can come from a run is one of ``HOSTILE``."""
    layers = tuple(
        LayerDifference(divergence(h, module_type=h, tensor=h, op=h, dtype=h, dtype_b=h + "b", statistics={h: (0.0, 1.0)}), 1, 2, h)
        for h in HOSTILE
    )
    everything = "".join(h for h in HOSTILE if len(h) < 100)
    return replace(
        divergent(),
        reason=everything,
        a=side("a", path=everything, label=everything, complete=False, notes=(everything,), command=(everything,), level=everything),
        b=side("b", path="x" * 10_000, notes=HOSTILE),
        first=layers[2].first,
        first_by_rank=(layers[2].first, replace(layers[3].first, rank=1)),
        equal_before=tuple(f"{h}: equal" for h in HOSTILE) + HOSTILE,
        layers=layers,
        gaps=tuple(Gap("a", 0, 1, "forward", h, h, 1) for h in HOSTILE),
        differences=tuple(Difference("environment", h, h, h + "1", "critical", h) for h in HOSTILE),
        coverage=Coverage(0.5, tuple(Unobserved(h, h) for h in HOSTILE)),
        not_recorded=HOSTILE,
    )


STATES = {
    "divergent": (divergent, 1),
    "numbers": (with_numbers, 1),
    "identical": (identical, 0),
    "equivalent": (equivalent, 0),
    "incomparable": (incomparable, 3),
    "truncated": (truncated, 1),
    "hostile": (hostile, 1),
}


def hostile_records() -> tuple[Comparison, Evidence]:
    """Two traces whose every name is one of ``HOSTILE``, compared."""
    from reprodebug.compare.runs import examine
    from reprodebug.diagnose.noise import with_noise
    from tests.compare.traces import event, run, trace

    def records(other: int) -> list[dict[str, object]]:
        out = []
        for step in range(3):
            for n, h in enumerate(HOSTILE):
                out.append(event(h, 7, step=step, tensor=h, kind=Kind.DATA, phase=Phase.DATA, root=h, dtype=h))
                out.append(event(h, 7 if (step, n) < (1, 2) else other, step=step, tensor=h, root=h, dtype=h))
        return out

    notes = [{"type": "modules", "root": h, "modules": [[h, h, h]]} for h in HOSTILE]
    a, b = run(trace(records(7), notes), path="runs/" + HOSTILE[2]), run(trace(records(8), notes), path="runs/b")
    found = examine(a, b)
    return with_noise(found, []), Evidence(list(found.pairs))
