"""The tensor view: A, B and their difference as heat maps, histograms, ULP, and the elements that are furthest apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.text import Text

from reprodebug._base.text import visible
from reprodebug.model.comparison import Portrait
from reprodebug.report import words
from reprodebug.tui.page import wrap
from reprodebug.tui.palette import style
from reprodebug.tui.plot import bar
from reprodebug.tui.screens.reading import ReadingScreen


class TensorScreen(ReadingScreen):
    """One record of A and its partner in B; ``title`` names it."""

    def __init__(self, title: str, portrait: Portrait) -> None:
        super().__init__(visible(title, 200), lambda width: lines(portrait, width))


def lines(p: Portrait, width: int) -> list[Text]:
    """The page as lines of at most ``width`` cells."""
    finite = [v for grid in (p.a, p.b) for row in grid for v in row if math.isfinite(v)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    worst = max((v for row in p.difference for v in row if math.isfinite(v)), default=0.0)
    maps = [
        (f"A, {low:.3g} to {high:.3g}", "a", words.shaded(p.a, low, high)),
        (f"B, {low:.3g} to {high:.3g}", "b", words.shaded(p.b, low, high)),
        (f"|A-B|, 0 to {worst:.3g}", "bad", words.shaded(p.difference, 0.0, worst)),
    ]
    cells = max(len(p.a[0]) if p.a else 0, 22)
    how = f"shape {list(p.shape)}" + (", folded to a matrix with the last dimension across" if len(p.shape) > 2 else "")
    how += "; a cell of A or B is the mean of its elements, a cell of |A-B| their largest; ! infinite, ? NaN"
    out = [Text(piece, "dim") for piece in wrap(how, width)] + [Text()]
    side_by_side = max(1, min(3, (width + 2) // (cells + 2)))
    for start in range(0, 3, side_by_side):
        chosen = maps[start : start + side_by_side]
        out.append(Text("  ").join(Text(f"{title:<{cells}}", style("bold", role)) for title, role, _ in chosen))
        for n in range(max(len(rows) for _, _, rows in chosen)):
            out.append(Text("  ").join(Text(f"{rows[n] if n < len(rows) else '':<{cells}}", style(role)) for _, role, rows in chosen))
        out.append(Text())
    out += [Text("values", "bold")]
    top = float(max((*p.histogram_a, *p.histogram_b, 1)))
    for name, role, counts in (("A", "a", p.histogram_a), ("B", "b", p.histogram_b)):
        out.append(Text(f"{name} ", style(role)).append(words.sparkline([float(n) if n else None for n in counts], 0.0, top), style(role)))
    out += [Text(f"  {p.low:.4g} to {p.high:.4g}", "dim"), Text()]
    if p.ulps:
        out.append(Text("distance in units in the last place (ULP)", "bold"))
        most = max(n for _, n in p.ulps)
        for ulp, n in p.ulps[:24]:
            name = f"{ulp:,}" if ulp < 2 else f"up to {ulp:,}"
            out.append(Text(f"{name:>26} ").append(bar(n / most, max(8, min(40, width - 42))), style("warn")).append(f" {n:,}"))
        out.append(Text())
    for title, rows in (("furthest apart", p.worst), ("first to differ, in memory order", p.first)):
        out.append(Text(title, "bold"))
        out += _elements(rows)
        out.append(Text())
    return out


def _elements(rows: Sequence[tuple[tuple[int, ...], float, float, int | None]]) -> list[Text]:
    if not rows:
        return [Text("  none", "dim")]
    out = [Text(f"  {'element':<18} {'A':>16} {'B':>16}  |A-B|", "dim")]
    for index, a, b, ulp in rows:
        line = Text(f"  {list(index)!s:<18} ").append(f"{a:>16.9g}", style("a")).append(f" {b:>16.9g}", style("b"))
        out.append(line.append(f"  {abs(a - b):.3g}" + (f"  {ulp:,} ULP" if ulp is not None else ""), style("warn")))
    return out
