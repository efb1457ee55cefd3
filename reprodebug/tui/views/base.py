"""What a view of the compare screen is: rows with a cursor, a header, the details of a row, and which rows belong together.

Owns what all views share: showing differences only, the filter, and rows for ``Difference``. Refuses keys and widgets: the
screen has those.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from rich.text import Text

from reprodebug._base.text import plural, visible
from reprodebug.compare.evidence import Evidence
from reprodebug.model.comparison import Comparison, Difference
from reprodebug.tui.page import Page, fit
from reprodebug.tui.palette import style

CURSOR = "❯ "
"""before the row under the cursor; another sign than that of a folded row"""
MARKS = {"critical": ("✗", "bad"), "notable": ("!", "warn"), "harmless": ("·", "dim")}
GRAVITY = {"critical": 0, "notable": 1, "harmless": 2}
SECTIONS_ELSEWHERE = {"random-state": "random state", "data": "data", "metrics": "steps", "tensors": "layers"}
"""section of a difference -> the view that lists it; every other section is of the environment"""


class View:
    """One way to look at a comparison. ``rows`` holds what is listed, after the filter."""

    name: ClassVar[str]
    short: ClassVar[str]
    """for a narrow window"""
    parts: ClassVar[str]
    """of the report without a screen, as ``compare --only`` takes them"""
    question: ClassVar[str]
    """what a user who opens it wants to know, for help and palette"""
    sections: ClassVar[tuple[str, ...]] = ()
    """sections whose differences are listed here"""
    heavy: ClassVar[bool] = False
    """``prepare`` may take long: the screen calls it in a thread"""

    def __init__(self, comparison: Comparison, evidence: Evidence | None) -> None:
        self.c = comparison
        self.evidence = evidence
        self.everything = False
        self.filter = ""
        self.rows: Sequence[Any] = ()
        self.ready = not self.heavy or evidence is None

    # what a view may have of its own

    def prepare(self) -> None:
        """Read what the rows are made of."""

    def every(self) -> Sequence[Any]:
        """The rows before the filter, with ``everything`` regarded."""
        return self.differences()

    def start(self) -> int:
        """The row to open on."""
        return 0

    def tab(self) -> str:
        """A few words behind the name of the view, e.g. ``12 differ``."""
        return ""

    def header(self, width: int) -> Text:
        return difference_header(width, sections=self._sectioned(width))

    def row(self, index: int, width: int, selected: bool) -> Text:
        return self.difference_row(index, width, selected)

    def detail(self, index: int) -> Page:
        """The row in full."""
        return self.difference_detail(self.rows[index])

    def text(self, row: Any) -> str:
        """What the filter looks at."""
        return f"{row.section} {row.key} {row.a} {row.b} {row.severity}"

    def group(self, row: Any) -> Any:
        """Rows of one group are one stop of ``n``."""
        return row.section

    def empty(self) -> str:
        """Why no row is listed."""
        hidden = len(self.of_sections())
        if hidden:
            return f"Nothing that could change numbers differs here. {plural(hidden, 'harmless difference')} hidden: d shows everything."
        return "Nothing differs here, as far as it was recorded."

    def toggle(self, index: int, way: int = 0) -> int | None:
        """Fold (-1), unfold (1) or turn (0) a row; returns where the cursor belongs, or None where there is nothing to fold."""
        return None

    def record(self, row: Any) -> tuple[int, int, int] | None:
        """(rank, index in A's events, index in B's events) of the record that a row stands for; None where it stands for none."""
        return None

    # shared

    def build(self) -> None:
        """Make the rows anew."""
        rows = self.every()
        if self.filter:
            wanted = self.filter.lower()
            rows = [r for r in rows if wanted in self.text(r).lower()]
        self.rows = rows

    def next(self, index: int, sign: int) -> int | None:
        """The next (or previous) row of another group; None where there is none."""
        if not self.rows:
            return None
        here = self.group(self.rows[index])
        end = len(self.rows) if sign > 0 else -1
        return next((n for n in range(index + sign, end, sign) if self.group(self.rows[n]) != here), None)

    def reveal(self, row: Any) -> int:
        """Where a row stands now; what hides it is unfolded."""
        return self.find(row)

    def find(self, row: Any) -> int:
        """Where a row went when the rows were made anew; 0 where it is gone."""
        return next((n for n, r in enumerate(self.rows) if r == row), 0)

    def of_sections(self) -> list[Difference]:
        return [d for d in self.c.differences if d.section in self.sections]

    def differences(self) -> list[Difference]:
        """Those of this view: named by a cause first, then by gravity, section by section."""
        shown = [d for d in self.of_sections() if self.everything or d.severity != "harmless"]
        keys: dict[str, tuple[int, int]] = {}
        for d in shown:
            keys[d.section] = min(keys.get(d.section, (99, 9)), (self.cause_of(d) or 99, GRAVITY[d.severity]))
        return sorted(shown, key=lambda d: (keys[d.section], d.section, self.cause_of(d) or 99, GRAVITY[d.severity]))

    def cause_of(self, row: Any) -> int | None:
        """The number of the first cause that names a difference; None where none does."""
        if not isinstance(row, Difference):
            return None
        named = re.compile(rf"(?<![\w.-]){re.escape(row.key)}(?![\w-])")
        for n, cause in enumerate(self.c.causes, 1):
            if named.search(cause.summary) or any(named.search(fact) for fact in cause.evidence):
                return n
        return None

    def difference_row(self, index: int, width: int, selected: bool) -> Text:
        d, above = self.rows[index], self.rows[index - 1] if index else None
        section = None if not self._sectioned(width) else "" if isinstance(above, Difference) and above.section == d.section else d.section
        return _row(d, section, width, selected, self.cause_of(d))

    def _sectioned(self, width: int) -> bool:
        """Whether differences have a column for their section."""
        return len(self.sections) > 1 and width >= 64

    def foreign(self) -> bool:
        """Neither run is one of ours, so that nothing was recorded in execution order."""
        return self.c.a.level == self.c.b.level == "foreign"

    def difference_detail(self, d: Difference) -> Page:
        out = Page()
        glyph, role = MARKS[d.severity]
        out.line(visible(d.key, 300), "bold")
        out.line(f"{glyph} {d.severity}, in {d.section}", role)
        out.field("A", visible(d.a, 2000), "a")
        out.field("B", visible(d.b, 2000), "b")
        if d.reason:
            out.field("why", visible(d.reason, 600))
        n = self.cause_of(d)
        if n is not None:
            cause = self.c.causes[n - 1]
            out.field("cause", f"named by cause {n} (confidence {cause.confidence:.2f}): {visible(cause.summary, 300)}", "hint")
        return out


def _widths(width: int, sections: bool) -> tuple[int, int, int]:
    """Cells of section, key and each value; the key takes what is left over."""
    section = 11 * sections
    rest = width - 12 - (section + 2) * sections - 6
    value = max(6, rest // (3 if width >= 64 else 4))
    return section, max(10, rest - 2 * value), value


def difference_header(width: int, sections: bool) -> Text:
    section, key, value = _widths(width, sections)
    cells = ["  " + fit("severity", 10), *[fit("section", section)] * sections, fit("what", key), fit("A", value), fit("B", value)]
    return Text("  ".join(cells), "dim", no_wrap=True)


def _row(d: Difference, section: str | None, width: int, selected: bool, cause: int | None) -> Text:
    """One difference; the number of the cause that names it before the key. No column for the section where it is None."""
    wide, key, value = _widths(width, section is not None)
    glyph, role = MARKS[d.severity]
    out = Text(CURSOR if selected else "  ", no_wrap=True).append(fit(f"{glyph} {d.severity}", 10), style(role))
    told = f"({cause}) " if cause is not None else ""
    out.append("  " + ("" if section is None else fit(section, wide) + "  ")).append(told, style("hint", "bold"))
    out.append(fit(visible(d.key, 120), key - len(told), keep_end=True))
    a, b = _parted(visible(d.a), visible(d.b), value)
    if a == b and d.reason:  # they part on the way and meet again
        b = f"({visible(d.reason)})"
    return out.append("  ").append(fit(a, value), style("a")).append("  ").append(fit(b, value), style("b"))


def _parted(a: str, b: str, width: int) -> tuple[str, str]:
    """Both values, from shortly before where they part if that would be cut off."""
    same = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    if same < width - 4 or max(len(a), len(b)) <= width:
        return a, b
    return "…" + a[same - 2 :], "…" + b[same - 2 :]
