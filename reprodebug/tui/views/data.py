"""The data view: each batch, and whether its samples are the same, reordered, changed or others; then files and listings."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.text import Text

from reprodebug._base.text import visible
from reprodebug.compare.evidence import Batch, Evidence
from reprodebug.model.comparison import Comparison, Difference
from reprodebug.tui.page import Page, fit
from reprodebug.tui.palette import style
from reprodebug.tui.views.base import CURSOR, View

RELATIONS = {
    "same": ("=", "good"), "reordered": ("⇄", "warn"), "changed": ("~", "bad"), "other": ("✗", "bad"), "differs": ("≠", "bad"),
}  # fmt: skip
_SAMPLES = 24
_AHEAD = 100
"""batches whose samples are compared before the view opens; the others when they are seen"""


class DataView(View):
    """Rows are differences of data (files, listings), then batches."""

    name: ClassVar[str] = "data"
    short: ClassVar[str] = "data"
    parts: ClassVar[str] = "data,batches"
    question: ClassVar[str] = "which batches and samples differ: same, reordered, changed; files read"
    sections: ClassVar[tuple[str, ...]] = ("data",)
    heavy: ClassVar[bool] = True

    def __init__(self, comparison: Comparison, evidence: Evidence | None) -> None:
        super().__init__(comparison, evidence)
        self._batches: list[Batch] = []
        self._known: dict[int, tuple[str, str]] = {}

    def prepare(self) -> None:
        self._batches = self.evidence.batches if self.evidence is not None else []
        for batch in [b for b in self._batches if b.differing][:_AHEAD]:
            self._relation(batch)

    def every(self) -> list[Any]:
        return [*self.differences(), *(b for b in self._batches if self.everything or b.differing)]

    def start(self) -> int:
        return next((n for n, r in enumerate(self.rows) if isinstance(r, Batch) and r.differing), 0)

    def tab(self) -> str:
        wrong = sum(1 for b in self._batches if b.differing)
        if self._batches:
            return f"{wrong:,} of {len(self._batches):,} batches"
        found = len(self.differences())
        return f"{found:,} differ" if found else ""

    def _relation(self, b: Batch) -> tuple[str, str]:
        if b.at not in self._known:
            assert self.evidence is not None
            self._known[b.at] = self.evidence.relation(b)
        return self._known[b.at]

    def header(self, width: int) -> Text:
        if not self._batches:
            return super().header(width)
        return Text(f"  {'':<11}  {'step':>6}  {fit('batch of', self._source(width))}  tensors  samples", "dim", no_wrap=True)

    def _source(self, width: int) -> int:
        """Cells for where a batch comes from."""
        return max(8, min(24, width - 44, max((len(b.source) for b in self._batches), default=0)))

    def text(self, row: Any) -> str:
        return super().text(row) if isinstance(row, Difference) else f"step {row.step} {row.source}"

    def group(self, row: Any) -> Any:
        return ("file", row.key) if isinstance(row, Difference) else (row.step, row.source)

    def row(self, index: int, width: int, selected: bool) -> Text:
        row = self.rows[index]
        if isinstance(row, Difference):
            return self.difference_row(index, width, selected)
        word, sentence = self._relation(row)
        glyph, role = RELATIONS[word]
        out = Text(CURSOR if selected else "  ", no_wrap=True).append(f"{glyph} {word:<9}", style(role))
        source = self._source(width)
        out.append(f"  {row.step:>6,}  {fit(visible(row.source, 80), source)}  ")
        return out.append(f"{row.differing:>3}/{row.tensors:<3}  ").append(fit(sentence, max(8, width - source - 34)), "dim")

    def detail(self, index: int) -> Page:
        row, out = self.rows[index], Page()
        if isinstance(row, Difference):
            return self.difference_detail(row)
        word, sentence = self._relation(row)
        glyph, role = RELATIONS[word]
        out.line(f"batch of {visible(row.source, 80)} at step {row.step}" + (f", rank {row.rank}" if row.rank else ""), "bold")
        out.line(f"{glyph} {word}: {sentence}", role)
        out.field("tensors", f"{row.differing} of {row.tensors} differ")
        assert self.evidence is not None
        pair = self.evidence.pair_of(row.rank)
        sides = [pair.a.samples(row.seq_a), pair.b.samples(row.seq_b)]
        if sides[0] is None or sides[1] is None:
            return out
        (prints_a, index_a), (prints_b, index_b) = sides[0], sides[1]
        if len(index_a) or len(index_b):
            out.field("index A", _numbers(index_a), "a")
            out.field("index B", _numbers(index_b), "b")
        where = {int(p): n for n, p in enumerate(prints_b.tolist())}
        shown = [
            f"{n}={n}" if n < len(prints_b) and prints_b[n] == p else f"{n}→{where[p]}" if p in where else f"{n}✗"
            for n, p in enumerate(prints_a.tolist()[:_SAMPLES])
        ]
        out.field("samples", "  ".join(shown) + (" …" if len(prints_a) > _SAMPLES else ""))
        out.field("", "place in A = the same place in B, → another place in B, ✗ not in B's batch", "dim")
        return out

    def empty(self) -> str:
        if self._batches and not self.everything:
            return f"All {len(self._batches):,} batches are equal; d lists them."
        if self.foreign() and not self.of_sections():
            return "These records of other systems say nothing that differs of the data."
        if not self._batches and not self.of_sections():
            return "No batch was recorded in both runs: neither a DataLoader nor an input of an outermost module was seen."
        return super().empty()


def _numbers(values: Any) -> str:
    shown = values.tolist()[:_SAMPLES]
    return " ".join(str(v) for v in shown) + (" …" if len(values) > _SAMPLES else "") if len(values) else "not recorded"
