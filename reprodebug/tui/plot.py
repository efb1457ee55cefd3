"""Small plots of characters: curves in braille dots, bars, heat.

Braille: a cell holds 2 x 4 dots, Unicode block U+2800, dot bits as in ISO/TR 11548-1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.text import Text

from reprodebug.tui.palette import style

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_HEAT = "▁▂▃▄▅▆▇█"

Series = Sequence[tuple[float, float]]


def curves(series: Sequence[tuple[str, str, Series]], width: int, height: int, mark: float | None = None, log: bool = False) -> Text:
    """Curves on one scale in ``height`` lines of ``width`` cells, and a line of the x axis under them.

    ``series`` are (name, role of its colour, points (x, y)); of two that meet in one cell the later one's colour is seen. Several
    have their names, one letter each, behind their ends. ``mark`` is an x that gets a bar under the axis. With ``log`` the y axis is
    logarithmic and points that are not above 0 are left out.
    """
    points = [[(x, math.log10(y) if log else y) for x, y in s if math.isfinite(y) and (y > 0 or not log)] for _, _, s in series]
    every = [p for s in points for p in s]
    if not every:
        return Text("nothing to draw: no finite value was recorded", style("dim"))
    x0, x1 = min(x for x, _ in every), max(x for x, _ in every)
    y0, y1 = min(y for _, y in every), max(y for _, y in every)
    labels = [_number(10**y if log else y) for y in (y1, y0)]
    left = max(len(t) for t in labels) + 1
    names = len(series) if len(series) > 1 else 0
    cells = max(4, width - left - names)
    ends_at: dict[int, list[int]] = {}
    """line -> the series that end there"""
    grid = [[0] * cells for _ in range(height)]
    owner = [[-1] * cells for _ in range(height)]

    def column(x: float) -> int:
        return round((x - x0) / ((x1 - x0) or 1.0) * (cells * 2 - 1))

    for n, s in enumerate(points):
        before: tuple[int, int] | None = None
        for x, y in s:
            here = column(x), round((1 - (y - y0) / ((y1 - y0) or 1.0)) * (height * 4 - 1))
            for cx, cy in _line(before or here, here):
                grid[cy // 4][cx // 2] |= _DOTS[cx % 2][cy % 4]
                owner[cy // 4][cx // 2] = n
            before = here
        if names and before is not None:
            ends_at.setdefault(before[1] // 4, []).append(n)
    out = Text(no_wrap=True)
    for k, row in enumerate(grid):
        out.append(f"{labels[0] if k == 0 else labels[1] if k == height - 1 else '':>{left - 1}} ", style("dim"))
        for bits, who in zip(row, owner[k], strict=True):
            out.append(chr(0x2800 + bits) if bits else " ", style(series[who][1]) if who >= 0 else "")
        for n in ends_at.get(k, ()):
            out.append(series[n][0][:1], style("bold", series[n][1]))
        out.append("\n")
    axis = [" "] * cells
    ends = (f"{x0:g}", f"{x1:g}")
    axis[: len(ends[0])] = ends[0]
    if x1 > x0 and len(ends[0]) + len(ends[1]) < cells:
        axis[-len(ends[1]) :] = ends[1]
    text = Text(" " * left + "".join(axis[:cells]), style("dim"))
    if mark is not None and x0 <= mark <= x1:
        at = left + column(mark) // 2
        text = Text(text.plain[:at], style("dim")).append("▲", style("bad")).append(text.plain[at + 1 :], style("dim"))
    return out.append_text(text)


def _number(y: float) -> str:
    return f"{y:.3g}"


def _line(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """The dots between two dots, both included."""
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    return [
        (round(start[0] + (end[0] - start[0]) * k / steps), round(start[1] + (end[1] - start[1]) * k / steps)) for k in range(steps + 1)
    ]


def bar(share: float, width: int) -> str:
    """``share`` (0 to 1) as a bar of ``width`` cells; anything above 0 shows."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8) or (1 if share > 0 else 0)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")).ljust(width)[:width]


def heat(values: Sequence[float | None], width: int) -> str:
    """One character for each stretch: blank where nothing was compared, ``·`` where all is equal, else the share that differs."""
    if len(values) > width > 0:  # the hottest of what shares a cell
        cuts = [k * len(values) // width for k in range(width + 1)]
        groups = [[v for v in values[cuts[k] : cuts[k + 1]] if v is not None] for k in range(width)]
        values = [max(g) if g else None for g in groups]
    return "".join(" " if v is None else "·" if v == 0 else _HEAT[min(7, int(v * 7.999))] for v in values).ljust(width)
