"""The words that text and Markdown share: what a divergence is, how large, and what to type next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from reprodebug._base.text import listed_words, plural, visible
from reprodebug.model.comparison import Comparison, Difference, Divergence, LayerDifference, Numbers, Portrait, RunSide, loss_gap

GLYPHS = {"identical": "✓", "equivalent": "≈", "divergent": "✗", "incomparable": "?"}
SPARKS = "▁▂▃▄▅▆▇█"


def place(d: Divergence) -> str:
    """Module and type, or the kind of thing where there is no module."""
    if not d.module and d.kind in ("data", "loss"):
        return visible(d.root or d.module_type, 60) or "the program"
    name = visible(d.module, 120) if d.module else "(outermost)"
    name += f" of {visible(d.root, 60)}" if d.root else ""
    return f"{name} ({visible(d.module_type, 60)})" if d.module_type else name


def tensor(d: Divergence) -> str:
    """Tensor name, shape and dtype; both sides' where they differ."""
    text = visible(d.tensor, 80)
    if d.shape is None:
        return text
    text += f" {list(d.shape)} {visible(d.dtype, 40)}"
    if d.shape_b is not None or d.dtype_b is not None:
        shape = d.shape if d.shape_b is None else d.shape_b
        text += f" in A, {list(shape)} {visible(d.dtype_b or d.dtype, 40)} in B"
    return text


def size(d: Divergence) -> str:
    """How large the difference is, as far as it was recorded."""
    n = d.numbers
    if n.max_abs is None:
        if d.kind == "optimizer":
            return "not recorded: an optimizer's state is kept as a fingerprint"
        return "not recorded: only fingerprints of it were kept"
    parts = largest(n)
    if n.differing is not None and n.elements:
        parts.append(f"{n.differing:,} of {n.elements:,} elements ({n.differing / n.elements:.1%})")
    if n.worst_index:
        parts.append(f"largest at {list(n.worst_index)}")
    return ", ".join(parts)


def largest(n: Numbers) -> list[str]:
    """The largest differences in words; an element that is NaN or infinite in one run alone is called that."""
    if n.max_abs is None:
        return []
    parts = [f"max abs {n.max_abs:.3g}"] + ([f"max rel {n.max_rel:.3g}"] if n.max_rel is not None else [])
    if n.max_abs == float("inf"):
        parts = ["NaN or infinite in one run alone"]
    if n.max_ulp is not None:
        parts.append(f"max {n.max_ulp:,} ULP" + (" elsewhere" if n.max_abs == float("inf") else ""))
    if n.nan_only:
        parts.append("only payloads of NaN differ")
    if n.signed_zero_only:
        parts.append("only -0.0 against 0.0")
    return parts


def statistics(d: Divergence) -> list[tuple[str, str, str]]:
    """(statistic, A, B) for each that was recorded."""
    return [(name, f"{a:.6g}", f"{b:.6g}") for name, (a, b) in d.statistics.items()]


def layer_row(x: LayerDifference) -> tuple[str, str, str, str, str]:
    """(step, phase, kind, module and tensor, share of records that differ)."""
    d = x.first
    name = (
        visible(d.module, 60) + (f" of {visible(d.root, 40)}" if d.root else "")
        if d.module
        else f"({visible(x.root or d.module_type, 40)})"
    )
    return str(d.step), d.phase, d.kind, f"{name} {visible(d.tensor, 40)}", f"{x.differing:,}/{x.compared:,}"


def by_severity(differences: tuple[Difference, ...]) -> tuple[list[Difference], list[Difference]]:
    """(those that may matter, the harmless)."""
    return [d for d in differences if d.severity != "harmless"], [d for d in differences if d.severity == "harmless"]


def belongs(d: Difference, sections: Sequence[str]) -> bool:
    """Whether a difference is of these sections; states of generators that another system saved are random state too."""
    return d.section in sections or ("random-state" in sections and d.key.startswith("rng/"))


def of_records(c: Comparison) -> bool:
    """Whether both sides are records of other systems alone, which hold no tensors."""
    return c.a.level == c.b.level == "foreign"


def counted(c: Comparison) -> str:
    """How much was compared, and how much of it differs."""
    n = c.counts
    if of_records(c):
        return f"recorded by both: {n.compared:,} (facts and metric values); {n.differing:,} differ or stand on one side alone; no tensor was recorded"
    return (
        f"{n.compared:,} records compared, {n.differing:,} differ; {n.only_a:,} only in A, {n.only_b:,} only in B; "
        f"{n.unobserved:,} could not be read"
    )


def recorded(side: RunSide) -> str:
    """How much a run holds."""
    if side.level == "foreign":
        named = [visible(system, 40) for system in side.systems]
        if len(named) > 4:
            named[3:] = [f"{len(named) - 3} more"]
        return f"records of {listed_words(named)}" if named else "nothing that is read"
    return f"{plural(side.events, 'record')}, {plural(side.steps, 'step')}, level {visible(side.level, 40)}"


def paths(c: Comparison) -> str:
    """The two runs as arguments, quoted for a shell."""
    return f"{shlex.quote(visible(c.a.path, None))} {shlex.quote(visible(c.b.path, None))}"


def command(c: Comparison, *flags: str) -> str:
    """The headless command that says the same."""
    extra = [f"--rtol {c.tolerance.rtol:g}"] * bool(c.tolerance.rtol) + [f"--atol {c.tolerance.atol:g}"] * bool(c.tolerance.atol)
    extra += [f"--ulps {c.tolerance.ulps}"] * bool(c.tolerance.ulps)
    extra += [f"--noise {shlex.quote(visible(path, None))}" for path in c.noise]
    return " ".join(["reprodebug compare", paths(c), *extra, *flags])


def can_run_again(c: Comparison) -> bool:
    """Whether the commands of both runs are known, so that an experiment can decide."""
    return c.a.level != "foreign" != c.b.level and bool(c.a.command) and bool(c.b.command)


def sparkline(values: list[float | None], low: float, high: float) -> str:
    """One character for each value between ``low`` and ``high``: a space where there is none, ``?`` for NaN, ``!`` for what is infinite."""

    def spark(v: float | None) -> str:
        if v is None:
            return " "
        if not math.isfinite(v):
            return "?" if v != v else "!"
        # halves: the distance of two large numbers may be infinite
        share = (v / 2 - low / 2) / ((high / 2 - low / 2) or 1.0)
        return SPARKS[int(min(1.0, max(0.0, share)) * 7.999)]

    return "".join(map(spark, values))


def loss_curves(c: Comparison, width: int = 60) -> list[str]:
    """The two loss curves as sparklines on one scale; empty where no loss was recorded."""
    rows = c.losses
    finite = [v for _, a, b in rows for v in (a, b) if v is not None and math.isfinite(v)]
    if len(rows) < 2 or not finite:
        return []
    at = rows if len(rows) <= width else [rows[i * (len(rows) - 1) // (width - 1)] for i in range(width)]
    low, high = min(finite), max(finite)
    lines = [
        f"loss A {sparkline([a for _, a, _ in at], low, high)}",
        f"loss B {sparkline([b for _, _, b in at], low, high)}",
        f"       steps {at[0][0]} to {at[-1][0]}, {low:.4g} to {high:.4g}",
    ]
    parted = next((s for s, a, b in rows if loss_gap(a, b)), None)
    if parted is not None:
        lines.append(f"       the recorded losses differ from step {parted} on")
        lines += _gap_curve(at)
    return lines


SHADES = " ░▒▓█"


def shaded(cells: Sequence[Sequence[float]], low: float, high: float) -> list[str]:
    """A heat map as lines: from blank (``low`` or less) to full (``high`` or more); ``?`` for NaN, ``!`` for what is infinite."""
    span = (high - low) or 1.0

    def shade(v: float) -> str:
        if v != v:
            return "?"
        if math.isinf(v):
            return "!"
        if v <= low and high > low:
            return SHADES[0]
        return SHADES[min(4, max(1, 1 + int((v - low) / span * 3.999)))] if high > low else SHADES[2]

    return ["".join(shade(v) for v in row) for row in cells]


def portrait(p: Portrait, width: int = 100) -> list[str]:
    """Two tensors and their difference as lines: heat maps, histograms, ULP classes, the elements that are furthest apart."""
    folded = f"{list(p.shape)}" + (" folded to a matrix, last dimension across" if len(p.shape) > 2 else "")
    lines = [f"{folded}; a cell of A or B: mean, of |A-B|: largest; ! infinite, ? NaN", *heat_maps(p, width)]
    top = max((*p.histogram_a, *p.histogram_b, 1))
    lines += [f"values from {p.low:.4g} to {p.high:.4g}"]
    lines += [f"  {name} {sparkline([float(n) if n else None for n in counts], 0.0, float(top))}"
              for name, counts in (("A", p.histogram_a), ("B", p.histogram_b))]  # fmt: skip
    if p.ulps:
        shown = [*p.ulps[:9], *([(p.ulps[-1][0], sum(n for _, n in p.ulps[9:]))] if len(p.ulps) > 9 else [])]
        lines.append("ULP: " + ", ".join(f"{'' if u < 2 else 'up to '}{u:,}: {n:,}" for u, n in shown))
    for title, rows in (("furthest apart", p.worst), ("first to differ", p.first)):
        for index, a, b, ulp in rows[:3]:
            lines.append(f"{title}: {list(index)} A {a:.9g}, B {b:.9g}" + (f" ({ulp:,} ULP)" if ulp is not None else ""))
    return lines


def heat_maps(p: Portrait, width: int) -> list[str]:
    """A, B and |A-B|, side by side where they fit into ``width`` columns, else one below the other."""
    finite = [v for grid in (p.a, p.b) for row in grid for v in row if math.isfinite(v)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    worst = max((v for row in p.difference for v in row if math.isfinite(v)), default=0.0)
    maps = [
        (f"A, {low:.3g} to {high:.3g}", shaded(p.a, low, high)), (f"B, {low:.3g} to {high:.3g}", shaded(p.b, low, high)),
        (f"|A-B|, 0 to {worst:.3g}", shaded(p.difference, 0.0, worst)),
    ]  # fmt: skip
    cells = max(len(p.a[0]) if p.a else 0, *(len(title) for title, _ in maps))
    abreast = 3 if 3 * cells + 6 <= width else 1
    lines = []
    for start in range(0, 3, abreast):
        chosen = maps[start : start + abreast]
        lines.append("  " + "  ".join(f"{title:<{cells}}" for title, _ in chosen).rstrip())
        lines += ["  " + "  ".join(f"{rows[n]:<{cells}}" for _, rows in chosen) for n in range(len(chosen[0][1]))]
    return lines


def _gap_curve(rows: Sequence[tuple[int, float | None, float | None]]) -> list[str]:
    """How far the losses are apart, on a logarithmic scale."""
    gaps = [loss_gap(a, b) for _, a, b in rows]
    logs = [math.log10(g) if g is not None and 0 < g < math.inf else None for g in gaps]
    known = [v for v in logs if v is not None]
    if len(known) < 2:
        return []
    low, high = min(known), max(known)
    return [f"|A-B|  {sparkline(logs, low, high)}", f"       {10**low:.1g} to {10**high:.1g}, logarithmic"]
