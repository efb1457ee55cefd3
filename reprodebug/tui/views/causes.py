"""The causes view: ranked explanations, and what is said about size, growth and reproducibility."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.text import Text

from reprodebug._base.text import plural, visible
from reprodebug.model.comparison import Cause, Level
from reprodebug.tui.page import Page, fit
from reprodebug.tui.palette import style
from reprodebug.tui.plot import bar
from reprodebug.tui.views.base import CURSOR, View

_STATES = {"holds": ("✓", "good", "yes"), "fails": ("✗", "bad", "no"), "unknown": ("?", "warn", "unknown")}
_LEVELS = {
    "code": "the code (code, configuration and packages)",
    "results": "the result (the last loss)",
    "inference": "inference (equal inputs give equal outputs)",
    "training": "training (every record, bit for bit)",
}


class CausesView(View):
    """Rows are causes, then statements on the size of the difference, then levels of reproducibility."""

    name: ClassVar[str] = "causes"
    short: ClassVar[str] = "causes"
    parts: ClassVar[str] = "causes,loss"
    question: ClassVar[str] = "why the runs differ: ranked causes with evidence and remedy"

    def every(self) -> list[Any]:
        return [*enumerate(self.c.causes, 1), *self.c.nature, *self.c.levels]

    def tab(self) -> str:
        return f"{self.c.causes[0].confidence:.2f}" if self.c.causes else "none"

    def header(self, width: int) -> Text:
        return Text(f"  {'confidence':<18}{'category':<16}cause", "dim", no_wrap=True)

    def text(self, row: Any) -> str:
        if isinstance(row, tuple):
            cause: Cause = row[1]
            return " ".join((cause.category, cause.summary, *cause.evidence, cause.remedy))
        return f"{row.name} {row.state} {row.evidence}" if isinstance(row, Level) else str(row)

    def group(self, row: Any) -> Any:
        return row if isinstance(row, tuple) else type(row)

    def row(self, index: int, width: int, selected: bool) -> Text:
        row = self.rows[index]
        out = Text(CURSOR if selected else "  ", no_wrap=True)
        if isinstance(row, tuple):
            n, cause = row
            out.append(f"{n:>2}. {cause.confidence:.2f} ", style("bold")).append(bar(cause.confidence, 7) + "  ", style("hint"))
            return out.append(f"{cause.category:<16}").append(fit(visible(cause.summary, 400), width - 36))
        if isinstance(row, Level):
            glyph, role, word = _STATES[row.state]
            out.append(fit(f"{glyph} same {row.name}?", 18), style(role)).append(f"{word:<16}")
            return out.append(fit(visible(row.evidence, 300), width - 36))
        return out.append(f"{'size and growth':<18}", "dim").append(fit(visible(row, 400), width - 20))

    def detail(self, index: int) -> Page:
        row, out = self.rows[index], Page()
        if isinstance(row, tuple):
            n, cause = row
            out.line(f"{n}. {visible(cause.summary, 600)}", "bold")
            out.field("kind", f"{cause.category}, confidence {cause.confidence:.2f}")
            for k, fact in enumerate(cause.evidence):
                out.field("because" if k == 0 else "", visible(fact, 600))
            out.field("remedy", "→ " + visible(cause.remedy, 600), "hint")
            if self.c.verdict == "divergent":
                out.field("prove", "b proves it by experiment: the program is run again under both circumstances", "dim")
        elif isinstance(row, Level):
            glyph, role, word = _STATES[row.state]
            out.line(f"{glyph} is {_LEVELS.get(row.name, row.name)} reproduced? {word}", "bold", role)
            out.line(visible(row.evidence, 600))
        else:
            out.line("size and growth of the difference", "bold")
            out.line(visible(row, 800))
        return out

    def empty(self) -> str:
        if self.c.verdict == "divergent":
            return "No cause was found in what was recorded. That is an answer too: w leads on, b finds the cause by experiment."
        return (
            f"The runs are {self.c.verdict}: there is nothing to explain. {plural(len(self.c.differences), 'difference')} changed nothing."
        )
