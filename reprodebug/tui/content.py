"""What the compare screen says, as ``rich.text.Text``: verdict, first divergence, rows, details, coverage.

Owns the wording and the colours of the screen; the words for one divergence are those of the report. Refuses markup: every
string goes through ``visible`` into a Text, glyph and word first, colour second.
"""

from __future__ import annotations

import textwrap

from rich.cells import cell_len
from rich.text import Text

from reprodebug._base.text import plural, visible
from reprodebug.model.comparison import Comparison, Difference, Divergence, LayerDifference
from reprodebug.report import words
from reprodebug.tui import actions

STYLES = {"identical": "bold green", "equivalent": "bold green", "divergent": "bold red", "incomparable": "bold yellow"}
MARKS = {"critical": ("✗", "bold red"), "notable": ("!", "yellow"), "harmless": ("·", "dim")}
_NAME = 8
_ORDER = {"critical": 0, "notable": 1, "harmless": 2}


def fit(text: str, width: int, *, keep_end: bool = False) -> str:
    """``text`` in exactly ``width`` cells: padded, or cut with an ellipsis at the end (or the start)."""
    if width <= 0:
        return ""
    if cell_len(text) > width:
        while cell_len(text) > width - 1:
            text = text[1:] if keep_end else text[:-1]
        text = "…" + text if keep_end else text + "…"
    return text + " " * (width - cell_len(text))


def verdict(c: Comparison) -> Text:
    """Glyph, word and reason; a line for each run that was cut short."""
    text = Text.assemble((f"{words.GLYPHS[c.verdict]} {c.verdict}", STYLES[c.verdict]), ": ", visible(c.reason, 400))
    for name, side in (("A", c.a), ("B", c.b)):
        if not side.complete:
            why = visible(side.notes[0], 200) if side.notes else "the recording stopped before the program ended"
            text.append(f"\n! {name} is incomplete: ", "yellow").append(why)
    return text


class Page:
    """Named fields and plain lines, laid out for a width when it is known: values hang under values."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []

    def line(self, text: str, style: str = "") -> None:
        self.rows.append(("", text, style))

    def field(self, name: str, value: str, style: str = "") -> None:
        self.rows.append((name or " ", value, style))

    def lay(self, width: int) -> Text:
        """As text of at most ``width`` columns."""
        out = Text()
        for name, value, style in self.rows:
            indent = _NAME if name else 0
            for n, piece in enumerate(textwrap.wrap(value, max(12, width - indent), break_on_hyphens=False) or [""]):
                out.append("\n" if out else "")
                out.append(f"{name if n == 0 else '':<{indent}}" if indent else "", "dim").append(piece, style)
        return out

    def plain(self) -> str:
        """As lines that are not wrapped, for the clipboard."""
        return "\n".join(f"{name:<{_NAME}}{value}" if name else value for name, value, _ in self.rows)


def first(c: Comparison) -> Page:
    """The panel of the first divergence; where there is none, what was compared and what to do."""
    d, out = c.first, Page()
    if d is None:
        _none(out, c)
        return out
    out.field("what", f"{d.kind} {words.tensor(d)}", "bold")
    out.field("where", words.place(d), "bold")
    out.field("when", when(d, ranks=len(c.first_by_rank) > 1))
    unlike = [row for row in c.equal_before if not row.endswith("equal")]
    alike = [row.removesuffix(": equal").removesuffix(" before it") for row in c.equal_before if row.endswith("equal")]
    for row in unlike:
        out.field("before", "≠ " + visible(row, 200), "yellow")
    _size(out, d)
    for other in c.first_by_rank[1:]:
        out.field(f"rank {other.rank}", f"step {other.step}, {other.phase}, {words.place(other)} {visible(other.tensor, 60)}")
    if alike:
        out.field("equal", "= " + "; ".join(visible(row, 120) for row in alike))
    return out


def when(d: Divergence, *, ranks: bool) -> str:
    """Step, phase, call and rank."""
    again = f", call {d.call + 1} of this step" if d.call else ""
    return f"step {d.step}, phase {d.phase}{again}" + (f", rank {d.rank}" if d.rank or ranks else "")


def _size(out: Page, d: Divergence) -> None:
    out.field("size", words.size(d))
    if d.numbers.max_abs is None and d.kind != "optimizer":
        out.field("", "→ " + how_to_get_numbers(d), "cyan")
    for name, a, b in words.statistics(d):
        out.field("", f"{visible(name, 40)}: A {a}, B {b}")


def how_to_get_numbers(d: Divergence) -> str:
    """The flags that make the next recording keep this tensor."""
    only = f" --modules '{visible(d.module, 80)}*'" if d.module else ""
    return f"record both with --level full --steps {d.step}:{d.step + 1}{only}"


def _none(out: Page, c: Comparison) -> None:
    n = c.counts
    for name, side in (("A", c.a), ("B", c.b)):
        about = f"{plural(side.events, 'record')}, {plural(side.steps, 'step')}, level {side.level}"
        out.field(name, f"{visible(side.path, 120)} ({about})")
    compared = plural(n.compared, "record")
    if c.verdict == "identical":
        out.line(f"✓ {compared} compared, all equal bit for bit", "green")
    elif c.verdict == "equivalent":
        out.line(f"≈ {n.differing:,} of {compared} differ, all inside the tolerance asked for", "green")
    elif c.verdict == "incomparable":
        out.line(f"? {compared} compared: too little to say whether the runs are equal", "yellow")
        out.line(f"→ what one run recorded: reprodebug show {visible(c.a.path, 120)}", "cyan")
    s = c.smallest_tolerance
    if s is not None and s.max_abs is not None:
        parts = [f"max abs {s.max_abs:.3g}"]
        parts += [f"max rel {s.max_rel or 0.0:.3g}"] * (s.max_rel is not None) + [f"{s.max_ulp or 0:,} ULP"] * (s.max_ulp is not None)
        out.line("the least that would have passed: " + ", ".join(parts))


def no_layers(c: Comparison) -> str:
    """Why the list of layers is empty."""
    if c.verdict == "incomparable":
        return "No record of the one run could be set against the other, so no layer is listed."
    if c.first is not None:
        return "The difference belongs to no layer; it is described above."
    return "No layer differs."


def no_differences(c: Comparison, hidden: int) -> str:
    """Why the list of the environment is empty."""
    if hidden:
        one = "it" if hidden == 1 else "them"
        return f"Nothing that could change numbers differs. {plural(hidden, 'harmless difference')} hidden: d shows {one}."
    return "Nothing around the tensors differs: environment, code, data, hardware and random state are equal as far as recorded."


def sorted_differences(c: Comparison, harmless: bool) -> list[Difference]:
    """By section, the section with the gravest difference first; inside it the gravest first."""
    shown = [d for d in c.differences if harmless or d.severity != "harmless"]
    worst: dict[str, int] = {}
    for d in shown:
        worst[d.section] = min(worst.get(d.section, 9), _ORDER[d.severity])
    return sorted(shown, key=lambda d: (worst[d.section], d.section, _ORDER[d.severity]))


class LayerColumns:
    """The columns of the list of layers, sized once for all rows."""

    def __init__(self, layers: tuple[LayerDifference, ...]) -> None:
        self.step = max([4, *(len(str(x.first.step)) for x in layers)])
        self.phase = max([5, *(len(x.first.phase) for x in layers)])
        self.kind = max([4, *(len(x.first.kind) for x in layers)])
        self.share = max([9, *(len(f"{x.differing:,}/{x.compared:,}") for x in layers)])

    def _line(self, width: int, mark: str, step: str, phase: str, kind: str, name: str, share: str) -> str:
        cells = [mark + f"{step:>{self.step}}", fit(phase, self.phase)]
        if width >= 64:
            cells.append(fit(kind, self.kind))
        rest = width - sum(cell_len(c) + 2 for c in cells) - self.share - 2
        return "  ".join([*cells, fit(name, rest, keep_end=True), f"{share:>{self.share}}"])

    def header(self, width: int) -> Text:
        return Text(self._line(width, "  ", "step", "phase", "kind", "module and tensor", "differing"), "dim", no_wrap=True)

    def row(self, x: LayerDifference, width: int, selected: bool) -> Text:
        return Text(self._line(width, "▸ " if selected else "  ", *words.layer_row(x)), no_wrap=True)


def difference_header(width: int) -> Text:
    section, key, value = _widths(width)
    cells = ["  " + fit("severity", 10), fit("section", section), fit("what", key), fit("A", value), fit("B", value)]
    return Text("  ".join(cells), "dim", no_wrap=True)


def _widths(width: int) -> tuple[int, int, int]:
    section = 12 if width >= 70 else 8
    key = max(10, (width - section - 20) * 2 // 5)
    return section, key, max(6, (width - section - key - 20) // 2)


def difference_row(d: Difference, above: Difference | None, width: int, selected: bool) -> Text:
    """One difference; the section is printed where it changes."""
    section, key, value = _widths(width)
    glyph, style = MARKS[d.severity]
    out = Text(("▸ " if selected else "  "), no_wrap=True).append(fit(f"{glyph} {d.severity}", 10), style)
    name = "" if above is not None and above.section == d.section else d.section
    out.append("  " + fit(name, section) + "  " + fit(visible(d.key, 120), key, keep_end=True))
    a, b = _parted(visible(d.a), visible(d.b), value)
    return out.append(f"  {fit(a, value)}  {fit(b, value)}")


def _parted(a: str, b: str, width: int) -> tuple[str, str]:
    """Both values, from shortly before where they part if that would be cut off."""
    same = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    if same < width - 4 or max(len(a), len(b)) <= width:
        return a, b
    return "…" + a[same - 2 :], "…" + b[same - 2 :]


def layer_detail(x: LayerDifference, c: Comparison) -> Page:
    """One row of the layers in full, A against B."""
    d, out = x.first, Page()
    place = words.place(d) if d.module or not x.root else f"(outermost) {visible(x.root, 60)}"
    out.line(f"{place} {visible(d.tensor, 80)}, {d.kind}", "bold")
    out.field("first", when(d, ranks=len(c.first_by_rank) > 1))
    out.field("records", f"{x.differing:,} of {x.compared:,} differ")
    for name, shape, dtype, index in (
        ("A", d.shape, d.dtype, d.index_a),
        ("B", d.shape if d.shape_b is None else d.shape_b, d.dtype_b or d.dtype, d.index_b),
    ):
        out.field(name, "no such record" if index < 0 else "shape not recorded" if shape is None else f"{list(shape)} {dtype}")
    _size(out, d)
    if d.index_a >= 0 and d.index_b >= 0:
        out.field("at", f"record {d.index_a:,} of A, {d.index_b:,} of B")
    if d.op:
        out.field("op", visible(d.op, 120))
    return out


def difference_detail(d: Difference) -> Page:
    """One difference in full."""
    out = Page()
    glyph, style = MARKS[d.severity]
    out.line(visible(d.key, 300), "bold")
    out.line(f"{glyph} {d.severity}, in {d.section}", style)
    out.field("A", visible(d.a, 2000))
    out.field("B", visible(d.b, 2000))
    if d.reason:
        out.field("why", visible(d.reason, 600))
    return out


def tabs(c: Comparison, view: str, harmless: bool) -> Text:
    """The two views, the open one marked."""
    matter, rest = words.by_severity(c.differences)
    around = f"{len(matter):,}" + (f" + {len(rest):,} harmless" + ("" if harmless else " hidden") if rest else "")
    out = Text(no_wrap=True, overflow="ellipsis")
    for key, name, about in (("1", "layers", f"{len(c.layers):,} differ"), ("2", "environment", around)):
        out.append(f" {key} {name}: {about} ", "bold reverse" if name == view else "").append(" ")
    return out


def coverage(c: Comparison, width: int) -> Text:
    """How much was looked at, and how many blind spots are named in the report; the less important left out where narrow."""
    n, blind = c.counts, len(c.coverage.unobserved)
    out = Text(f"coverage {c.coverage.share:.0%}, ", no_wrap=True)
    if blind:
        out.append(f"{plural(blind, 'blind spot')} (r names {'it' if blind == 1 else 'them'})", "yellow")
    else:
        out.append("no blind spot" if c.coverage.share >= 1 else "blind spots unnamed")
    rest = [f"{n.differing:,} of {n.compared:,} records differ"]
    rest += [f"{n.only_a:,} only in A"] * bool(n.only_a) + [f"{n.only_b:,} only in B"] * bool(n.only_b)
    rest += [f"{n.unobserved:,} unreadable"] * bool(n.unobserved)
    for piece in rest:
        if cell_len(out.plain) + len(piece) + 3 <= width:
            out.append(" · ", "dim").append(piece)
    return out


def key_line(width: int) -> Text:
    """The keys that matter most, as many as fit."""
    out = Text(no_wrap=True, overflow="ellipsis")
    for key, word in actions.hints(width):
        out.append(f"{key} ", "bold").append(f"{word}  ", "dim")
    return out
