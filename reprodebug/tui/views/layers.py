"""The layers view: the module tree with what differs in it, opened at the first divergence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.text import Text

from reprodebug._base.text import visible
from reprodebug.compare.evidence import Evidence, Node
from reprodebug.model.comparison import Comparison, Difference, Divergence, LayerDifference
from reprodebug.model.events import Flag
from reprodebug.report import words
from reprodebug.tui.page import Page, fit, squeeze
from reprodebug.tui.palette import style
from reprodebug.tui.plot import heat
from reprodebug.tui.views.base import CURSOR, View

_ROLES = {
    "source": "a source: everything that went into it was equal",
    "carrier": "a carrier: what went into it differed already",
    "unexplained": "unexplained: nothing seen explains it",
}


@dataclass(frozen=True, slots=True)
class Module:
    """A row of the tree that is a module."""

    number: int
    """its place in the tree of the evidence"""


class LayersView(View):
    """Rows are modules and, below an unfolded one, its tensors that differ. Without records of ours: tensors alone."""

    name: ClassVar[str] = "layers"
    short: ClassVar[str] = "layers"
    parts: ClassVar[str] = "layers"
    question: ClassVar[str] = "what differs in the model, from the first divergent layer on"
    sections: ClassVar[tuple[str, ...]] = ("tensors",)

    def __init__(self, comparison: Comparison, evidence: Evidence | None) -> None:
        super().__init__(comparison, evidence)
        self._columns = _Columns(comparison.layers)
        self._tree: list[Node] = evidence.tree if evidence is not None else []
        self._tensors: dict[tuple[int, str, str], list[LayerDifference]] = {}
        for x in comparison.layers:
            self._tensors.setdefault((x.first.rank, x.root, x.first.module), []).append(x)
        self._place = {(n.rank, n.root, n.module): k for k, n in enumerate(self._tree)}
        self._open: set[int] = set()
        self._unfold_to(comparison.layers[0] if comparison.layers else None)

    @property
    def folded(self) -> bool:
        """The rows are a tree."""
        return bool(self._tree)

    def _unfold_to(self, x: LayerDifference | None) -> None:
        at = self._place.get((x.first.rank, x.root, x.first.module), -1) if x is not None else -1
        while at >= 0:
            self._open.add(at)
            at = self._tree[at].parent
        if not self._open:
            self._open |= {n for n, node in enumerate(self._tree) if node.parent < 0}

    def reveal(self, row: Any) -> int:
        if isinstance(row, LayerDifference):
            self._unfold_to(row)
            self.build()
        return self.find(row)

    def every(self) -> list[Any]:
        if not self.folded:
            return [*self.c.layers, *self.differences()]
        out: list[Any] = []
        stack = [n for n in range(len(self._tree) - 1, -1, -1) if self._tree[n].parent < 0]
        while stack:
            n = stack.pop()
            node = self._tree[n]
            if not self.everything and not node.differing and not node.alone_a and not node.alone_b:
                continue
            out.append(Module(n))
            if n in self._open or self.filter:
                out += self._tensors.get((node.rank, node.root, node.module), ())
                stack += reversed(node.children)
        return [*out, *self.differences()]

    def start(self) -> int:
        first = self.c.layers[0] if self.c.layers else None
        return self.find(first) if first is not None else 0

    def tab(self) -> str:
        return f"{len(self.c.layers):,} differ" if self.c.layers or not self.folded else "all equal"

    def header(self, width: int) -> Text:
        if not self.folded:
            return self._columns.header(width)
        phase, cells = _shape(width)
        words_ = (
            [f"{'step':>6}"]
            + [fit("phase", 9)] * phase
            + [fit("over steps" if cells > 9 else "by step", cells)] * bool(cells)
            + [f"{'differing':>11}"]
        )
        rest = width - 2 - sum(len(w) + 2 for w in words_)
        return Text("  ".join(["  " + fit("module and tensor", rest), *words_]), "dim", no_wrap=True)

    def row(self, index: int, width: int, selected: bool) -> Text:
        row = self.rows[index]
        if isinstance(row, Difference):
            return self.difference_row(index, width, selected)
        if isinstance(row, LayerDifference):
            if not self.folded:
                return self._columns.row(row, width, selected)
            return self._tensor_row(row, width, selected)
        return self._module_row(row.number, width, selected)

    def _line(
        self, width: int, selected: bool, indent: int, glyph: str, role: str, name: str, dim: tuple[str, ...], when: tuple[str, str], map_: str,
        share: str,
    ) -> Text:  # fmt: skip
        """``dim`` are words behind the name, the longest first: of those the first that fits."""
        phase, cells = _shape(width)
        rest = width - 2 - 8 - 11 * phase - (cells + 2) * bool(cells) - 13
        indent = min(indent, max(0, rest - 18))
        out = Text(CURSOR if selected else "  ", no_wrap=True).append(" " * indent)
        out.append(glyph + " ", style(role) if role else "")
        room = rest - indent - len(glyph) - 1
        more = next((d for d in dim if cell_len(name) + 1 + cell_len(d) <= room), "")
        if more:
            out.append(name).append(fit(" " + more, room - cell_len(name)), "dim")
        else:
            out.append(squeeze(name, room))
        out.append(f"  {when[0]:>6}")
        if phase:
            out.append("  " + fit(when[1], 9))
        if cells:
            out.append("  " + map_[:cells].ljust(cells), style("bad"))
        return out.append(f"  {share:>11}")

    def _module_row(self, number: int, width: int, selected: bool) -> Text:
        node = self._tree[number]
        leaf = not node.children and not self._tensors.get((node.rank, node.root, node.module))
        fold = " " if leaf else "▾" if number in self._open or self.filter else "▸"
        wrong = node.differing > 0
        alone = node.alone_a + node.alone_b
        mark, role = ("✗", "bad") if wrong else ("!", "warn") if alone else ("=", "good")
        name = visible(node.module.rpartition(".")[2] if node.module else node.root, 80)
        if not node.module and node.rank:
            name = f"rank {node.rank}: {name}"
        when = ("", "")
        if node.first >= 0 and self.evidence is not None:
            step, phase, _ = Evidence.where(self.evidence.pair_of(node.rank), node.first)
            when = (str(step), phase)
        share = f"{node.differing:,}/{node.compared:,}" if node.compared else f"only {'A' if node.alone_a else 'B'}"
        cells = _shape(width)[1]
        kind = (visible(node.kind, 60),) if node.kind != name else ()
        return self._line(width, selected, 2 * node.depth, f"{fold} {mark}", role, name, kind, when, heat(node.heat, cells), share)

    def _tensor_row(self, x: LayerDifference, width: int, selected: bool) -> Text:
        d = x.first
        depth = (d.module.count(".") + 1 if d.module else 0) + 1
        first = self.c.first is not None and (d.index_a, d.index_b, d.rank) == (
            self.c.first.index_a,
            self.c.first.index_b,
            self.c.first.rank,
        )
        name = visible(d.tensor, 60) or d.kind
        kind = d.kind if d.tensor else ""
        dim = (f"first, {kind}" if kind else "first", "first") if first else (kind,)
        size = "" if d.numbers.max_abs is None else f"max {d.numbers.max_abs:.2g}" if _shape(width)[1] > 10 else f"{d.numbers.max_abs:.1e}"
        glyph, role = ("◆", "bad") if first else ("·", "")
        share = f"{x.differing:,}/{x.compared:,}"
        return self._line(width, selected, 2 * depth + 2, glyph, role, name, dim, (str(d.step), d.phase), size, share)

    def text(self, row: Any) -> str:
        if isinstance(row, Difference):
            return super().text(row)
        if isinstance(row, LayerDifference):
            return f"{row.first.module} {row.root} {row.first.module_type} {row.first.tensor} {row.first.kind}"
        node = self._tree[row.number]
        return f"{node.module} {node.root} {node.kind}"

    def group(self, row: Any) -> Any:
        if isinstance(row, Difference):
            return (row.section,)
        if isinstance(row, LayerDifference):
            return row.first.rank, row.root, row.first.module
        node = self._tree[row.number]
        return node.rank, node.root, node.module

    def next(self, index: int, sign: int) -> int | None:
        """The next module in the order in which they first differ, unfolded."""
        if not self.folded or not self.rows or isinstance(self.rows[index], Difference):
            return super().next(index, sign)
        order = list(self._tensors)
        if self.filter:
            shown = {self.group(r) for r in self.rows if isinstance(r, LayerDifference)}
            order = [k for k in order if k in shown]
        here = self.group(self.rows[index])
        if here in order:
            at = order.index(here) + sign
        else:  # a module that differs only below: its own first difference leads
            below = [n for n, k in enumerate(order) if k[:2] == here[:2] and (not here[2] or k[2].startswith(here[2] + "."))]
            at = below[0] if below and sign > 0 else (below[0] if below else 0) - 1
        if not 0 <= at < len(order):
            return None
        x = self._tensors[order[at]][0]
        self._unfold_to(x)
        self.build()
        return self.find(x)

    def toggle(self, index: int, way: int = 0) -> int | None:
        if not self.rows or not self.folded:
            return None
        row = self.rows[index]
        if isinstance(row, Difference):
            return None
        number = row.number if isinstance(row, Module) else self._place[self.group(row)]
        node = self._tree[number]
        if isinstance(row, LayerDifference):
            if way >= 0:
                return None
            return self.find(Module(number))  # from a tensor to its module
        opened = number in self._open
        if way < 0 and (not opened or (not node.children and not self._tensors.get(self.group(row)))):
            return self.find(Module(node.parent)) if node.parent >= 0 else None
        if way > 0 and opened:
            return None
        self._open.symmetric_difference_update({number})
        self.build()
        return self.find(row)

    def record(self, row: Any) -> tuple[int, int, int] | None:
        return (row.first.rank, row.first.index_a, row.first.index_b) if isinstance(row, LayerDifference) else None

    def detail(self, index: int) -> Page:
        row = self.rows[index]
        if isinstance(row, Difference):
            return self.difference_detail(row)
        if isinstance(row, LayerDifference):
            return layer_detail(row, self.c, self._prints(row.first))
        node, out = self._tree[row.number], Page()
        name = visible(node.module, 200) if node.module else f"(outermost) {visible(node.root, 80)}"
        out.line(f"{name} {visible(node.kind, 80) if node.kind != node.root else ''}".rstrip(), "bold")
        out.field("records", f"{node.differing:,} of {node.compared:,} differ, here and below")
        if node.alone_a or node.alone_b:
            out.field("alone", f"{node.alone_a:,} records only in A, {node.alone_b:,} only in B", "warn")
        if node.first >= 0 and self.evidence is not None:
            step, phase, place = Evidence.where(self.evidence.pair_of(node.rank), node.first)
            out.field("first", f"step {step}, {phase}, in {visible(place, 120)}")
        elif node.compared:
            out.line("= equal bit for bit", "good")
        own = self._tensors.get(self.group(row), [])
        for n, x in enumerate(own):
            out.field(
                "differ" if n == 0 else "", f"{visible(x.first.tensor, 60)} ({x.first.kind}) from step {x.first.step}, {x.first.phase}"
            )
        if self.evidence is not None and any(node.heat):
            out.line("")
            out.line("share of records that differ, over the steps", "dim")
            for (low, high), share in zip(self.evidence.stretches, node.heat, strict=True):
                steps = f"{low}" if low == high else f"{low}-{high}"
                out.field(steps[:7], "nothing compared" if share is None else "=" if share == 0 else f"{heat([share], 1)} {share:.0%}")
        return out

    def _prints(self, d: Divergence) -> tuple[str, str]:
        """That half of the two fingerprints which differs; "" where there is none."""
        if self.evidence is None or d.index_a < 0 or d.index_b < 0:
            return "", ""
        pair = self.evidence.pair_of(d.rank)
        a, b = (t.events[k] for t, k in ((pair.a, d.index_a), (pair.b, d.index_b)))
        if (a["flags"] | b["flags"]) & Flag.UNOBSERVED:
            return "", ""
        half = "hi" if a["hi"] != b["hi"] else "lo"
        return f"{int(a[half]):016x}", f"{int(b[half]):016x}"

    def empty(self) -> str:
        if self.foreign():
            return "No layer was recorded: these are records of other systems. 5 shows what they say of the environment, 2 of the losses."
        if self.c.verdict == "incomparable":
            return "No record of the one run could be set against the other, so no layer is listed. r tells what was not seen."
        if self.c.first is not None:
            return "The difference belongs to no layer; it is described above."
        if not self.folded or self.everything:
            return "No layer differs."
        return "No layer differs. d shows the whole tree, w says how far that goes."


def _shape(width: int) -> tuple[bool, int]:
    """(is the phase shown, cells of the heat)."""
    return width >= 70, 12 if width >= 76 else 8 if width >= 54 else 0


class _Columns:
    """The columns of the flat list of tensors, sized once for all rows."""

    def __init__(self, layers: tuple[LayerDifference, ...]) -> None:
        self.step = max([4, *(len(str(x.first.step)) for x in layers)])
        self.phase = max([5, *(len(x.first.phase) for x in layers)])
        self.kind = max([4, *(len(x.first.kind) for x in layers)])
        self.share = max([9, *(len(f"{x.differing:,}/{x.compared:,}") for x in layers)])

    def _line(self, width: int, mark: str, step: str, phase: str, kind: str, name: str, share: str) -> str:
        cells = [mark + f"{step:>{self.step}}", fit(phase, self.phase)]
        if width >= 64:
            cells.append(fit(kind, self.kind))
        rest = width - sum(len(c) + 2 for c in cells) - self.share - 2
        return "  ".join([*cells, fit(name, rest, keep_end=True), f"{share:>{self.share}}"])

    def header(self, width: int) -> Text:
        return Text(self._line(width, "  ", "step", "phase", "kind", "module and tensor", "differing"), "dim", no_wrap=True)

    def row(self, x: LayerDifference, width: int, selected: bool) -> Text:
        return Text(self._line(width, CURSOR if selected else "  ", *words.layer_row(x)), no_wrap=True)


def layer_detail(x: LayerDifference, c: Comparison, prints: tuple[str, str] = ("", "")) -> Page:
    """One tensor in full, A against B; ``prints`` are the two fingerprints."""
    d, out = x.first, Page()
    place = words.place(d) if d.module or not x.root else visible(x.root, 60)
    out.line(f"{place} {visible(d.tensor, 80)}, {d.kind}", "bold")
    out.field("first", f"{when(d, ranks=len(c.first_by_rank) > 1)}; {x.differing:,} of {x.compared:,} records differ")
    tensors = []
    for shape, dtype, index in (
        (d.shape, d.dtype, d.index_a),
        (d.shape if d.shape_b is None else d.shape_b, d.dtype_b or d.dtype, d.index_b),
    ):
        tensors.append("no such record" if index < 0 else "shape not recorded" if shape is None else f"{list(shape)} {visible(dtype, 40)}")
    if tensors[0] == tensors[1] == "shape not recorded":
        out.field("tensor", tensors[0])
    else:
        out.both("tensor", *tensors)
    if all(prints):
        out.both("bits", *prints)
    size_fields(out, d)
    if x.role:
        out.field("role", _ROLES.get(x.role, x.role))
    if d.index_a >= 0 and d.index_b >= 0:
        out.field("at", f"record {d.index_a:,} of A, {d.index_b:,} of B")
    if d.op:
        out.field("op", visible(d.op, 120))
    if c.first is not None and (d.index_a, d.rank) == (c.first.index_a, c.first.rank):
        for n, sentence in enumerate(sorted(c.equal_before, key=lambda row: row.endswith("equal"))):
            out.field("before" if n == 0 else "", visible(sentence, 200), "" if sentence.endswith("equal") else "warn")
    return out


def when(d: Divergence, *, ranks: bool) -> str:
    """Step, phase, call and rank."""
    again = f", call {d.call + 1} of this step" if d.call else ""
    return f"step {d.step}, phase {d.phase}{again}" + (f", rank {d.rank}" if d.rank or ranks else "")


def size_fields(out: Page, d: Divergence) -> None:
    """How large the difference is: numbers, statistics, or what to type to get them."""
    if d.numbers.max_abs is None and d.kind != "optimizer":
        out.field("size", f"not recorded, fingerprints only; z measures it, or {how_to_get_numbers(d)}", "hint")
    else:
        out.field("size", words.size(d))
    for name, a, b in words.statistics(d):
        out.both(visible(name, 40)[:7], a, b)


def how_to_get_numbers(d: Divergence) -> str:
    """The flags that make the next recording keep this tensor."""
    only = f" --modules '{visible(d.module, 80)}*'" if d.module else ""
    return f"record both with --level full --steps {d.step}:{d.step + 1}{only}"
