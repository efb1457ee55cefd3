"""The random-state view: every generator, where its states part, and how many numbers were drawn between two looks at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rich.text import Text

from reprodebug._base.text import plural, visible
from reprodebug.compare.evidence import Evidence, Observation
from reprodebug.compare.generators import Story
from reprodebug.model.comparison import Comparison, Difference
from reprodebug.report import words
from reprodebug.tui.page import Page, fit
from reprodebug.tui.palette import style
from reprodebug.tui.views.base import CURSOR, MARKS, View

_LEAD = 2
"""equal looks that are shown before the states part"""
_LOOK_AHEAD = 100_000
"""draws to look ahead when those between two states are counted for a row"""


@dataclass(frozen=True, slots=True)
class Generator:
    """One generator in one process; its looks are the rows below it."""

    process: int
    story: Story
    looks: tuple[Observation, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """One row of a generator's timeline."""

    of: Generator
    number: int


class RandomStateView(View):
    """Rows are generators, and below an unfolded one where its state was seen to be new in either run."""

    name: ClassVar[str] = "random state"
    short: ClassVar[str] = "random"
    parts: ClassVar[str] = "random-state,draws"
    question: ClassVar[str] = "where each generator's states part, and the draws between two looks at it"
    sections: ClassVar[tuple[str, ...]] = ("random-state",)
    heavy: ClassVar[bool] = True

    def __init__(self, comparison: Comparison, evidence: Evidence | None) -> None:
        super().__init__(comparison, evidence)
        self._all: list[Generator] = []
        self._open: set[str] = set()
        self._distances: dict[str, tuple[str, str]] = {}
        self._draws: dict[tuple[int, int, int, int], str] = {}

    def prepare(self) -> None:
        if self.evidence is None:
            return
        pairs = self.evidence.pairs
        self._all = [Generator(pairs.index(p), s, tuple(self.evidence.observations(p, s))) for p, s in self.evidence.generators]
        self._distances = {self._key(g): self._distance(g) for g in self._all if g.story.at >= 0}
        first = self.c.first
        for g in self._all:
            parted = g.story.at >= 0 and first is not None and self._judged(g) not in ("harmless", "")
            if parted and g.story.name.startswith("torch"):
                self._open.add(self._key(g))

    def _key(self, g: Generator) -> str:
        return f"{g.story.name}#{g.process}"

    def _difference(self, g: Generator) -> Difference | None:
        rank = self.evidence.pairs[g.process].rank if self.evidence else 0
        key = g.story.name + (f" (rank {rank})" if rank else "")
        return next((d for d in self.of_sections() if d.key == key), None)

    def of_sections(self) -> list[Difference]:
        """Also the states that other systems saved, which are listed among the environment as well."""
        return [d for d in self.c.differences if words.belongs(d, self.sections)]

    def _judged(self, g: Generator) -> str:
        d = self._difference(g)
        return d.severity if d is not None else ""

    def every(self) -> list[Any]:
        if not self._all:
            return list(self.differences())
        out: list[Any] = []
        for g in sorted(self._all, key=lambda g: {"critical": 0, "notable": 1}.get(self._judged(g), 2)):
            if g.story.at < 0 and not self.everything and any(x.story.at >= 0 for x in self._all):
                continue
            out.append(g)
            if self._key(g) in self._open:
                parted = next((n for n, o in enumerate(g.looks) if not o.equal), len(g.looks))
                out += [Look(g, n) for n in range(len(g.looks)) if self.everything or n >= parted - _LEAD or parted == len(g.looks)]
        return out

    def start(self) -> int:
        return next((n for n, r in enumerate(self.rows) if isinstance(r, Look) and not r.of.looks[r.number].equal), 0)

    def tab(self) -> str:
        if self._all:
            parted = sum(g.story.at >= 0 for g in self._all)
            return f"{parted} of {len(self._all)} part"
        found = self.of_sections()
        return f"{len(found)} part" if found else ""

    def toggle(self, index: int, way: int = 0) -> int | None:
        if not self.rows or isinstance(self.rows[index], Difference):
            return None
        row = self.rows[index]
        g = row if isinstance(row, Generator) else row.of
        key = self._key(g)
        opened = key in self._open
        if (way > 0 and opened) or (way < 0 and not opened):
            return None
        self._open.symmetric_difference_update({key})
        self.build()
        return self.find(g)

    def text(self, row: Any) -> str:
        if isinstance(row, Difference):
            return super().text(row)
        if isinstance(row, Generator):
            return f"{row.story.name} {row.story.algorithm}"
        o = row.of.looks[row.number]
        return f"{row.of.story.name} step {o.step} {o.phase} {o.place}"

    def group(self, row: Any) -> Any:
        if isinstance(row, Difference):
            return row.key
        g = row if isinstance(row, Generator) else row.of
        return self._key(g), isinstance(row, Look) and not row.of.looks[row.number].equal

    def header(self, width: int) -> Text:
        if not self._all:
            return super().header(width)
        phase = fit("phase", 11) if _phase(width) else ""
        sides = "".join("  " + fit(f"{name} and draws since", _side(width)) for name in ("  A", "B"))
        return Text(f"  {'step':>6}  {phase}{fit('seen at', _place(width))}{sides}", "dim", no_wrap=True)

    def row(self, index: int, width: int, selected: bool) -> Text:
        row = self.rows[index]
        if isinstance(row, Difference):
            return self.difference_row(index, width, selected)
        out = Text(CURSOR if selected else "  ", no_wrap=True)
        if isinstance(row, Generator):
            fold = "▾" if self._key(row) in self._open else "▸"
            d = self._difference(row)
            glyph, role = MARKS[d.severity] if d is not None else ("=", "good")
            out.append(f"{fold} ").append(f"{glyph} {visible(row.story.name, 60)}", style("bold", role))
            return out.append(fit(f"  {self._summary(row)}", width - out.cell_len), "dim")
        o = row.of.looks[row.number]
        out.append(f"{o.step:>6,}  {fit(o.phase, 11) if _phase(width) else ''}").append(
            fit(visible(o.place, 80), _place(width), keep_end=True)
        )
        equal = "= " if o.equal else "≠ "
        for k, role in ((0, "a"), (1, "b")):
            out.append("  ").append(
                fit((equal if k == 0 else "") + self._state(row, k), _side(width)), style("dim") if o.equal else style(role)
            )
        return out

    def _summary(self, g: Generator) -> str:
        new = f"{plural(len(g.looks), 'look')}"
        if g.story.at < 0:
            return f"{visible(g.story.algorithm, 40)}, equal at every look ({new})"
        pair = self.evidence.pairs[g.process] if self.evidence else None
        step = Evidence.where(pair, g.story.at)[0] if pair is not None else 0
        d = self._difference(g)
        why = f"; {d.severity}: {visible(d.reason, 120)}" if d is not None else ""
        return f"{visible(g.story.algorithm, 40)}, differs from step {step} on{why}"

    def _state(self, row: Look, side: int) -> str:
        """The state of one run at a look: its first digits, and the draws since that run's look before."""
        o = row.of.looks[row.number]
        index = o.row_b if side else o.row_a
        if index < 0:
            return "not seen yet"
        states = self._table(row.of, side)
        text = f"{int(states[index]['lo']) & 0xFFFFFFFF:08x}"
        before = row.of.looks[row.number - 1] if row.number else None
        earlier = -1 if before is None else before.row_b if side else before.row_a
        if earlier == index:
            return f"{text} unmoved"
        return text if earlier < 0 else f"{text} {self._drawn(row.of, side, earlier, index)}"

    def _table(self, g: Generator, side: int) -> Any:
        assert self.evidence is not None
        pair = self.evidence.pairs[g.process]
        trace, number = (pair.b, g.story.number_b) if side else (pair.a, g.story.number_a)
        return Evidence.states(trace, number)

    def _drawn(self, g: Generator, side: int, first: int, second: int) -> str:
        """``+48`` where the draws between two states can be counted, else ``+?``."""
        key = (self._all.index(g), side, first, second)
        if key not in self._draws:
            n, _ = self._count(g, side, first, second)
            self._draws[key] = "+?" if n is None else f"+{n:,}"
        return self._draws[key]

    def _count(self, g: Generator, side: int, first: int, second: int) -> tuple[int | None, str]:
        from reprodebug.diagnose.draws import between

        assert self.evidence is not None
        pair = self.evidence.pairs[g.process]
        trace, number = (pair.b, g.story.number_b) if side else (pair.a, g.story.number_a)
        rows = self._table(g, side)
        bodies = [trace.state(number, int(rows[k]["lo"]), int(rows[k]["hi"])) for k in (first, second)]
        if bodies[0] is None or bodies[1] is None:
            return None, "the states were not kept whole"
        found = between(g.story.name, g.story.algorithm, bodies[0], bodies[1], limit=_LOOK_AHEAD)
        return found.count, found.unit if found.count is not None else found.reason

    def detail(self, index: int) -> Page:
        row, out = self.rows[index], Page()
        if isinstance(row, Difference):
            return self.difference_detail(row)
        g = row if isinstance(row, Generator) else row.of
        if isinstance(row, Generator):
            out.line(visible(g.story.name, 100), "bold")
            out.line(self._summary(g))
            out.field("looks", f"a new state was seen at {plural(len(g.looks), 'record')}, in one run or both")
            self._apart(out, g)
            out.figure(lambda width: self._timeline(g, width))
            return out
        o = g.looks[row.number]
        out.line(f"{visible(g.story.name, 100)} at step {o.step}, {o.phase}", "bold")
        out.field("seen at", visible(o.place, 200))
        for side, name in ((0, "A"), (1, "B")):
            i = o.row_b if side else o.row_a
            if i < 0:
                out.field(name, "no state was seen yet", "dim")
                continue
            rows = self._table(g, side)
            position = int(rows[i]["position"])
            out.field(
                name, f"state {int(rows[i]['lo']):016x}" + (f", position {position} in its block" if position >= 0 else ""), name.lower()
            )
            before = g.looks[row.number - 1] if row.number else None
            earlier = -1 if before is None else before.row_b if side else before.row_a
            if earlier == i:
                out.field("", "not moved since the look before")
            elif earlier >= 0:
                n, unit = self._count(g, side, earlier, i)
                out.field("", f"{n:,} {unit} since the look before" if n is not None else f"draws since the look before: unknown ({unit})")
        out.field("", "= equal in both runs" if o.equal else "≠ the states differ", "good" if o.equal else "bad")
        if not o.equal and (row.number == 0 or g.looks[row.number - 1].equal):
            self._apart(out, g)
        return out

    def _apart(self, out: Page, g: Generator) -> None:
        """How far the states are apart where they part."""
        if self._key(g) in self._distances:
            out.field("apart", *self._distances[self._key(g)])

    def _distance(self, g: Generator) -> tuple[str, str]:
        """(sentence, colour): how far the states are apart where they part."""
        from reprodebug.diagnose.draws import apart

        assert self.evidence is not None
        pair, s = self.evidence.pairs[g.process], g.story
        bodies = [t.state(k, int(r["lo"]), int(r["hi"])) for t, k, r in ((pair.a, s.number_a, s.row_a), (pair.b, s.number_b, s.row_b))]
        if bodies[0] is None or bodies[1] is None:
            return "unknown: the states were not kept whole", ""
        n, how = apart(s.name, s.algorithm, bodies[0], bodies[1], limit=10 * _LOOK_AHEAD)
        if n is None:
            return f"unknown: {how.reason}", ""
        if n == 0:
            return f"0 {how.unit}: {how.reason}", "warn"
        unit = how.unit.replace("words", "word", 1).replace("draws", "draw", 1) if abs(n) == 1 else how.unit
        return f"{'B' if n > 0 else 'A'} is {abs(n):,} {unit} ahead where they part", "warn"

    def _timeline(self, g: Generator, width: int) -> Text:
        """One character for each look: equal or not."""
        cells = max(8, width - 2)
        looks = g.looks
        out = Text("\n", no_wrap=True)
        groups = [looks[k * len(looks) // cells : max(k * len(looks) // cells + 1, (k + 1) * len(looks) // cells)] for k in range(cells)]
        for piece in groups if len(looks) > cells else [[o] for o in looks]:
            equal = all(o.equal for o in piece)
            out.append("━" if equal else "╳", style("good" if equal else "bad"))
        return out.append("\n━ equal, ╳ apart, in the order of the looks", "dim")

    def empty(self) -> str:
        if self.foreign() and not self.of_sections():
            return "These records of other systems hold no state of a random generator that differs."
        if self.c.counts.compared and not self.of_sections():
            return "No state of a random generator was recorded in both runs."
        return super().empty()


def _phase(width: int) -> bool:
    return width >= 74


def _side(width: int) -> int:
    return max(15, min(24, (width - 22 - 11 * _phase(width)) // 2))


def _place(width: int) -> int:
    return max(6, width - 2 * _side(width) - 14 - 11 * _phase(width))
