"""The steps view: both loss curves, how far they are apart, and how much differs in each step."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.text import Text

from reprodebug._base.text import visible
from reprodebug.model.comparison import Difference, loss_gap
from reprodebug.tui.page import Page, fit
from reprodebug.tui.palette import style
from reprodebug.tui.plot import bar, curves
from reprodebug.tui.views.base import CURSOR, View

_LEAD = 2
"""equal steps that are shown before the first divergent one"""


class StepsView(View):
    """Rows are (step, loss of A, loss of B, differing records, compared records); then differences of metrics."""

    name: ClassVar[str] = "steps"
    short: ClassVar[str] = "steps"
    parts: ClassVar[str] = "steps,loss"
    question: ClassVar[str] = "when they part and how the difference grows: losses step by step"
    sections: ClassVar[tuple[str, ...]] = ("metrics",)

    def _steps(self) -> list[tuple[int, float | None, float | None, int, int]]:
        losses = {s: (a, b) for s, a, b in self.c.losses}
        counts = {s: (d, n) for s, d, n in self.c.steps_differing}
        return [(s, *losses.get(s, (None, None)), *counts.get(s, (0, 0))) for s in sorted({*losses, *counts})]

    @property
    def first(self) -> int | None:
        """The step of the first divergence."""
        return None if self.c.first is None else self.c.first.step

    def every(self) -> list[Any]:
        rows = self._steps()
        if not self.everything and self.first is not None:
            rows = [r for r in rows if r[0] >= self.first - _LEAD]
        return [*rows, *self.differences()]

    def start(self) -> int:
        return next((n for n, r in enumerate(self.rows) if isinstance(r, tuple) and r[0] == self.first), 0)

    def tab(self) -> str:
        if self.first is not None:
            return f"from {self.first}"
        found = len(self.differences())
        return f"{found:,} differ" if found else ""

    def header(self, width: int) -> Text:
        gap = f"{'|A-B|':>10}  " if width >= 62 else ""
        return Text(fit(f"  {'step':>9}  {'loss A':>12}  {'loss B':>12}  {gap}differing", width), "dim", no_wrap=True)

    def text(self, row: Any) -> str:
        return super().text(row) if isinstance(row, Difference) else f"step {row[0]}"

    def group(self, row: Any) -> Any:
        return ("metrics", row.key) if isinstance(row, Difference) else row[3] > 0

    def next(self, index: int, sign: int) -> int | None:
        """Steps that differ are one stop each."""
        end = len(self.rows) if sign > 0 else -1

        def differs(row: Any) -> bool:
            return isinstance(row, Difference) or bool(row[3]) or bool(loss_gap(row[1], row[2]))

        return next((n for n in range(index + sign, end, sign) if differs(self.rows[n])), None)

    def row(self, index: int, width: int, selected: bool) -> Text:
        row = self.rows[index]
        if isinstance(row, Difference):
            return self.difference_row(index, width, selected)
        step, a, b, differing, compared = row
        out = Text(CURSOR if selected else "  ", no_wrap=True)
        out.append(f"{'◆' if step == self.first else ' '}{step:>8,}", style("bad", "bold") if step == self.first else "")
        out.append(f"  {_loss(a)}", style("a")).append(f"  {_loss(b)}", style("b"))
        gap = loss_gap(a, b)
        if width >= 62:
            shown = "" if gap is None else f"{gap:.3g}" if gap else "="
            out.append(" " * (12 - len(shown))).append(shown, style("warn") if gap else "dim")
        if not differing and (a is None) != (b is None):
            out.append(f"  only {'B' if a is None else 'A'}", style("warn"))  # the other run did not get there
        elif not differing and gap:
            out.append("  ≠ loss", style("bad"))
        elif not differing:
            out.append("  = equal" if self.c.counts.compared and self.evidence is not None else "  = loss", style("dim"))
        else:
            cells = 8 if width >= 58 else 4
            out.append("  " + bar(differing / max(1, compared), cells), style("bad")).append(f" {differing:,}/{compared:,}")
        return out

    def detail(self, index: int) -> Page:
        row = self.rows[index]
        if isinstance(row, Difference):
            return self.difference_detail(row)
        step, a, b, differing, compared = row
        out = Page()
        losses = self.c.losses
        series = [(name, role, [(s, row[k]) for s, *row in losses if row[k] is not None]) for k, (name, role) in enumerate(_SIDES)]
        if any(points for _, _, points in series):
            out.figure(self._legend)
            out.figure(lambda width: curves(series, width, 6, self.first))  # type: ignore[arg-type]
        gaps = [(s, gap) for s, x, y in losses if (gap := loss_gap(x, y))]
        if len(gaps) > 1:
            out.line("")
            out.line("|A-B| of the loss, logarithmic", "dim")
            out.figure(lambda width: curves([("gap", "warn", gaps)], width, 4, self.first, log=True))
        if out:
            out.line("")
        out.line(f"step {step}" + (" ◆ the first divergent one" if step == self.first else ""), "bold")
        if a is not None or b is not None:
            out.both("loss", *("not recorded" if x is None else repr(x) for x in (a, b)))
        if self.evidence is not None:
            out.field("records", f"{differing:,} of {compared:,} differ" if compared else "none differs")
        for statement in self.c.nature:
            out.field("growth", visible(statement, 400))
        return out

    def _legend(self, width: int) -> Text:
        text = Text("loss of ", "dim").append("A", style("not dim", "bold", "a")).append(" and ")
        text.append("B", style("not dim", "bold", "b"))
        if self.first is not None:
            text.append(", ").append("▲", style("not dim", "bad")).append(" first divergence")
        text.truncate(width)
        return text

    def empty(self) -> str:
        if self.c.losses or self.of_sections():
            return super().empty()
        return "No loss was recorded and no step differs."


_SIDES = (("A", "a"), ("B", "b"))


def _loss(value: float | None) -> str:
    """In 12 cells, with as many digits as fit."""
    if value is None:
        return " " * 12
    return f"{next(text for digits in (8, 7, 6, 5, 4) if len(text := f'{value:.{digits}g}') <= 12):>12}"
