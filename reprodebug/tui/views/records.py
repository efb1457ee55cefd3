"""The records view: every record of both runs side by side, in execution order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.text import Text

from reprodebug._base.text import visible
from reprodebug.compare.evidence import Evidence
from reprodebug.model.comparison import Comparison
from reprodebug.model.events import Flag, Kind, Phase
from reprodebug.tui.page import Page, fit
from reprodebug.tui.palette import style
from reprodebug.tui.views.base import CURSOR, View


class RecordsView(View):
    """Rows are numbers of records; a million cost no more than a screenful."""

    name: ClassVar[str] = "records"
    short: ClassVar[str] = "records"
    parts: ClassVar[str] = "records"
    question: ClassVar[str] = "every single record of both runs, in execution order"
    heavy: ClassVar[bool] = True

    def __init__(self, comparison: Comparison, evidence: Evidence | None) -> None:
        super().__init__(comparison, evidence)
        self._wrong: Any = ()

    def prepare(self) -> None:
        if self.evidence is not None:
            import numpy as np

            self._wrong = np.flatnonzero(self.evidence.records.wrong)

    def build(self) -> None:
        import numpy as np

        if self.evidence is None or not self.ready:
            self.rows = ()
            return
        rows: Any = np.arange(len(self.evidence.records)) if self.everything else self._wrong
        if self.filter:
            rows = np.intersect1d(rows, self.evidence.records.matching(self.filter), assume_unique=True)
        self.rows = rows

    def every(self) -> Sequence[Any]:
        return self.rows

    def find(self, row: Any) -> int:
        import numpy as np

        return min(int(np.searchsorted(self.rows, row)), max(0, len(self.rows) - 1))

    def start(self) -> int:
        if self.c.first is None or self.evidence is None or not len(self.rows):
            return 0
        at = self.evidence.records.of(self.c.first.rank, self.c.first.index_a, self.c.first.index_b)
        return 0 if at is None else self.find(at)

    def next(self, index: int, sign: int) -> int | None:
        if self.evidence is None or not len(self.rows):
            return None
        found = self.evidence.records.next(int(self.rows[index]), sign)
        while found is not None:
            at = self.find(found)
            if int(self.rows[at]) == found:
                return at
            found = self.evidence.records.next(found, sign)
        return None

    def tab(self) -> str:
        return f"{self.c.counts.differing + self.c.counts.only_a + self.c.counts.only_b:,} differ" if self.evidence is not None else ""

    def header(self, width: int) -> Text:
        phase, kind = ("phase      " if _phase(width) else ""), ("kind        " if _kind(width) else "")
        return Text(f"  {'':<6} {'step':>6}  {phase}{kind}{fit('module and tensor', _place(width))}  {'A':<8}  B", "dim", no_wrap=True)

    def row(self, index: int, width: int, selected: bool) -> Text:
        assert self.evidence is not None
        n = int(self.rows[index])
        pair, ia, ib = self.evidence.records.row(n)
        trace, i = (pair.a, ia) if ia >= 0 else (pair.b, ib)
        event = trace.events[i]
        root, module, _, tensor = trace.sites[event["site"]]
        step = int((pair.align.step_a if ia >= 0 else pair.align.step_b)[i])
        mark, role = (
            ("only A", "warn")
            if ib < 0
            else ("only B", "warn")
            if ia < 0
            else ("≠", "bad")
            if self.evidence.records.wrong[n]
            else ("=", "good")
        )
        prints = [f"{int(t.events[k]['hi']) >> 32:08x}" if k >= 0 else " " * 8 for t, k in ((pair.a, ia), (pair.b, ib))]
        out = Text(CURSOR if selected else "  ", no_wrap=True).append(f"{mark:<6} ", style(role))
        out.append(f"{step:>6,}  ")
        if _phase(width):
            out.append(f"{Phase(int(event['phase'])).word:<9}  ")
        if _kind(width):
            out.append(f"{Kind(int(event['kind'])).word:<10}  ")
        name = f"{visible(module, 120) if module else '(' + visible(root, 40) + ')'} {visible(tensor, 60)}"
        out.append(fit(name, _place(width), keep_end=True))
        return out.append(f"  {prints[0]}", style("a")).append(f"  {prints[1]}", style("b"))

    def record(self, row: Any) -> tuple[int, int, int] | None:
        assert self.evidence is not None
        pair, ia, ib = self.evidence.records.row(int(row))
        return pair.rank, ia, ib

    def detail(self, index: int) -> Page:
        assert self.evidence is not None
        pair, ia, ib = self.evidence.records.row(int(self.rows[index]))
        out = Page()
        for name, trace, i, steps in (("A", pair.a, ia, pair.align.step_a), ("B", pair.b, ib, pair.align.step_b)):
            if i < 0:
                out.field(name, "has no such record", "warn")
                continue
            e = trace.events[i]
            root, module, kind, tensor = trace.sites[e["site"]]
            shape, dtype, device, layout, why = trace.metas[e["meta"]]
            place = visible(module or root, 200) + (f" ({visible(kind, 80)})" if kind else "")
            out.field(name, f"record {int(e['seq']):,} of rank {pair.rank}: {place} {visible(tensor, 100)}", name.lower())
            out.field("", f"step {int(steps[i])}, {Phase(int(e['phase'])).word}, call {int(e['call']) + 1}, {Kind(int(e['kind'])).word}")
            out.field(
                "",
                f"{list(shape)} {visible(dtype, 40)} on {visible(device, 40)}{'' if layout == 'strided' else ', ' + visible(layout, 40)}",
            )
            flags = [f.name.lower().replace("_", " ") for f in Flag if int(e["flags"]) & f and f.name]
            if flags:
                out.field("", "flags: " + ", ".join(flags))
            out.field("", f"unobserved: {visible(why, 200)}" if why else f"fingerprint {int(e['hi']):016x}{int(e['lo']):016x}")
            out.field("", f"{int(e['time_ms']) / 1000:.3f} s after the recorder's start")
        return out

    def empty(self) -> str:
        if self.evidence is None:
            return "Only runs of `reprodebug capture` hold records in execution order; at least one of these is none."
        return "No record differs; d lists all." if not self.everything else "No record."


def _phase(width: int) -> bool:
    return width >= 66


def _kind(width: int) -> bool:
    return width >= 78


def _place(width: int) -> int:
    return max(8, width - 37 - 11 * _phase(width) - 12 * _kind(width))
