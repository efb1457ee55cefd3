"""The comparison as plain text for a terminal, a log or a screen reader. Reads well at 80 columns."""

from __future__ import annotations

import dataclasses
import textwrap

from reprodebug._base.text import plural, visible
from reprodebug.model.comparison import SECTIONS, Comparison, Difference, Divergence
from reprodebug.report import words

_LAYERS = 12
_DIFFERENCES = 20
_CODES = {"bold": "1", "red": "31", "green": "32", "yellow": "33", "dim": "2"}
_VERDICT = {"identical": "green", "equivalent": "green", "divergent": "red", "incomparable": "yellow"}


class _Page:
    """Lines of at most ``width`` columns, with colour where it is wanted."""

    def __init__(self, color: bool, width: int) -> None:
        self.color = color
        self.width = max(40, width)
        self.lines: list[str] = []

    def paint(self, text: str, *styles: str) -> str:
        if not self.color:
            return text
        return f"\x1b[{';'.join(_CODES[s] for s in styles)}m{text}\x1b[0m"

    def title(self, text: str) -> None:
        self.lines += ["", self.paint(_plain(text), "bold")]

    def line(self, text: str, indent: int = 2, hanging: int = 2) -> None:
        self.lines += textwrap.wrap(
            _plain(text), self.width, initial_indent=" " * indent, subsequent_indent=" " * (indent + hanging), break_on_hyphens=False
        ) or [""]  # fmt: skip

    def field(self, name: str, text: str) -> None:
        head = f"  {name:<9}"
        wrapped = textwrap.wrap(_plain(text), self.width - len(head), break_on_hyphens=False) or [""]
        self.lines += [head + wrapped[0]] + [" " * len(head) + w for w in wrapped[1:]]

    def table(self, rows: list[tuple[str, ...]], wide: int) -> None:
        """Aligned columns; column ``wide`` is cut to what is left of the width."""
        if not rows:
            return
        widths = [max(len(r[n]) for r in rows) for n in range(len(rows[0]))]
        rest = self.width - 2 - sum(w + 2 for n, w in enumerate(widths) if n != wide)
        widths[wide] = min(widths[wide], max(rest, 16))
        for row in rows:
            cells = [_cut(_plain(cell), w).ljust(w) for cell, w in zip(row, widths, strict=True)]
            self.lines.append(("  " + "  ".join(cells)).rstrip())


def _plain(text: str) -> str:
    """Whoever forgot to make a name of a run visible: it reaches no terminal raw all the same."""
    return text if text.isprintable() else visible(text, None)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


PARTS = ("verdict", "first", "environment", "random-state", "data", "layers", "loss", "causes", "coverage")
"""what ``render`` can be narrowed to"""


def render(
    comparison: Comparison, *, color: bool = False, width: int = 80, verbose: bool = False, only: tuple[str, ...] = ()
) -> str:  # fmt: skip
    """The whole report, or the parts named in ``only``, each one of ``PARTS``. ``verbose`` lists harmless differences and every
    differing layer too."""
    c, page = comparison, _Page(color, width)
    if only:
        for part in only:
            _part(page, c, part, verbose)
        return "\n".join(page.lines[1:] if page.lines and not page.lines[0] else page.lines) + "\n"
    _verdict(page, c)
    _runs(page, c)
    if c.first is not None:
        _first(page, c, c.first)
    _causes(page, c)
    _nature(page, c)
    _layers(page, c, verbose)
    _gaps(page, c)
    _differences(page, c, verbose)
    _loss(page, c)
    _levels(page, c)
    _coverage(page, c)
    if c.not_recorded:
        page.title("Not recorded")
        for row in c.not_recorded:
            page.line("- " + visible(row, 400))
    page.title("Next")
    page.line(_next(c))
    return "\n".join(page.lines) + "\n"


def _part(page: _Page, c: Comparison, part: str, verbose: bool) -> None:
    """One part alone; it says so where it has nothing to tell."""
    before = len(page.lines)
    if part == "verdict":
        _verdict(page, c)
        _runs(page, c)
    elif part == "first" and c.first is not None:
        _first(page, c, c.first)
    elif part in ("environment", "random-state", "data"):
        sections = (
            tuple(s for s in SECTIONS if s not in ("random-state", "data", "metrics", "tensors")) if part == "environment" else (part,)
        )
        _differences(page, dataclasses.replace(c, differences=tuple(d for d in c.differences if words.belongs(d, sections))), verbose)
    elif part == "layers":
        _layers(page, c, verbose)
        _gaps(page, c)
    elif part == "loss":
        _loss(page, c)
        _nature(page, c)
    elif part == "causes":
        _causes(page, c)
        _levels(page, c)
    elif part == "coverage":
        _coverage(page, c)
    if len(page.lines) == before:
        page.lines.append("")
        page.line(f"{part}: nothing differs, as far as it was recorded")


def _verdict(page: _Page, c: Comparison) -> None:
    verdict = page.paint(f"{words.GLYPHS[c.verdict]} {c.verdict}", "bold", _VERDICT[c.verdict])
    reason = textwrap.wrap(f"{words.GLYPHS[c.verdict]} {c.verdict}: {visible(c.reason, 600)}", page.width, subsequent_indent="  ")
    plain = f"{words.GLYPHS[c.verdict]} {c.verdict}"
    page.lines += [verdict + reason[0][len(plain) :], *reason[1:]]


def _nature(page: _Page, c: Comparison) -> None:
    if c.nature:
        page.title("Size and growth")
        for row in c.nature:
            page.line("- " + visible(row, 400))


def _loss(page: _Page, c: Comparison) -> None:
    curves = words.loss_curves(c, page.width - 10)
    if curves:
        page.title("Loss")
        page.lines += ["  " + line for line in curves]


def _runs(page: _Page, c: Comparison) -> None:
    for name, side in (("A", c.a), ("B", c.b)):
        page.line(f"{name}: {visible(side.path, 200)} ({words.recorded(side)})", hanging=3)
        for note in side.notes[:4]:
            page.line(f"! {visible(note, 300)}", indent=5)


def _first(page: _Page, c: Comparison, d: Divergence) -> None:
    page.title("First divergence")
    page.field("what", f"{d.kind}, {words.tensor(d)}")
    page.field("where", words.place(d))
    rank = f", rank {d.rank}" if d.rank or len(c.first_by_rank) > 1 else ""
    again = f", call {d.call + 1} of this step" if d.call else ""
    page.field("when", f"step {d.step}, phase {d.phase}{again}{rank}")
    page.field("size", words.size(d))
    for name, a, b in words.statistics(d):
        page.field("", f"{name}: A {a}, B {b}")
    if c.portrait is not None:
        page.lines += ["  " + row for row in words.portrait(c.portrait, page.width - 2)]
    if c.equal_before:
        page.title("Just before it")
        for row in c.equal_before:
            page.line("- " + visible(row, 300))
    for other in c.first_by_rank[1:8]:
        page.line(f"rank {other.rank}: step {other.step}, {other.phase}, {words.place(other)} {visible(other.tensor)}")


def _layers(page: _Page, c: Comparison, verbose: bool) -> None:
    if not c.layers:
        return
    page.title(f"What differs, in order of its first difference ({len(c.layers):,} places)")
    shown = c.layers if verbose else c.layers[:_LAYERS]
    page.table([("step", "phase", "kind", "module and tensor", "differing"), *(words.layer_row(x) for x in shown)], wide=3)
    if len(shown) < len(c.layers):
        page.line(f"… and {len(c.layers) - len(shown):,} more (--verbose lists them)")


def _causes(page: _Page, c: Comparison) -> None:
    if c.causes:
        page.title("Causes, the most likely first")
        for n, cause in enumerate(c.causes, 1):
            page.line(f"{n}. {visible(cause.summary, 400)} ({cause.category}, confidence {cause.confidence:.2f})", hanging=3)
            for fact in cause.evidence:
                page.line("- " + visible(fact, 300), indent=5)
            page.line("remedy: " + visible(cause.remedy, 400), indent=5)


def _levels(page: _Page, c: Comparison) -> None:
    if c.levels:
        page.title("Reproducibility")
        for x in c.levels:
            page.line(f"- {x.name} {x.state}: {visible(x.evidence, 300)}")


def _gaps(page: _Page, c: Comparison) -> None:
    if not c.gaps:
        return
    page.title("In one run only")
    for g in c.gaps[:6]:
        name = visible(g.module, 80) if g.module else visible(g.module_type, 80)
        page.line(f"{g.side.upper()} has {plural(g.records, 'record')} more at step {g.step}, phase {g.phase}, from {name} on")
    if len(c.gaps) > 6:
        page.line(f"… and {len(c.gaps) - 6} more stretches")


def _differences(page: _Page, c: Comparison, verbose: bool) -> None:
    matter, harmless = words.by_severity(c.differences)
    if matter:
        page.title("Differences around it, those that can change numbers first")
        for d in matter if verbose else matter[:_DIFFERENCES]:
            _difference(page, d)
        if not verbose and len(matter) > _DIFFERENCES:
            page.line(f"… and {len(matter) - _DIFFERENCES} more (--verbose lists them)")
    if harmless:
        if verbose:
            page.title("Harmless differences")
            for d in harmless:
                _difference(page, d)
        else:
            page.lines.append("")
            page.line(f"{plural(len(harmless), 'harmless difference')} (--verbose lists them with the reason)")


def _difference(page: _Page, d: Difference) -> None:
    style = {"critical": "red", "notable": "yellow", "harmless": "dim"}[d.severity]
    text = f"{d.severity}: {d.section} {visible(d.key, 80)}: A {visible(d.a)}, B {visible(d.b)}"
    if d.reason:
        text += f" ({visible(d.reason, 300)})"
    start = len(page.lines)
    page.line(text, hanging=4)
    page.lines[start] = page.lines[start].replace(d.severity, page.paint(d.severity, style), 1)


def _coverage(page: _Page, c: Comparison) -> None:
    page.title("Coverage" if words.of_records(c) else f"Coverage {c.coverage.share:.0%}")
    page.line(words.counted(c))
    for u in c.coverage.unobserved[:8]:
        page.line(f"- not seen: {visible(u.what, 200)}: {visible(u.why, 300)}")
    if len(c.coverage.unobserved) > 8:
        page.line(f"… and {len(c.coverage.unobserved) - 8} more")


def _next(c: Comparison) -> str:
    if c.verdict == "divergent" and c.first is not None and c.first.numbers.max_abs is None:
        return f"the operation, and how large the difference is: reprodebug zoom {words.paths(c)}"
    if c.verdict == "incomparable":
        return f"what one run recorded: reprodebug show {visible(c.a.path)}"
    return f"the report for an issue: {words.command(c, '--markdown -')}"
