"""What the frame of the compare screen says: verdict, first divergence and cause, tabs, coverage.

Owns the wording; the words for one divergence are those of the report. Refuses markup: every string goes through ``visible``
into a Text, glyph and word first, colour second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.text import Text

from reprodebug._base.text import plural, visible
from reprodebug.model.comparison import Comparison
from reprodebug.report import words
from reprodebug.tui import actions
from reprodebug.tui.page import Page, fit, wrap
from reprodebug.tui.palette import style
from reprodebug.tui.plot import bar
from reprodebug.tui.views import View
from reprodebug.tui.views.layers import size_fields, when

ROLES = {"identical": "good", "equivalent": "good", "divergent": "bad", "incomparable": "warn"}


def verdict(c: Comparison, width: int, lines: int) -> Text:
    """Glyph, word and reason; a line for each run that was cut short. In at most ``lines`` lines, or one for each."""
    notes = []
    for name, side in (("A", c.a), ("B", c.b)):
        if not side.complete:
            why = visible(side.notes[0], 200) if side.notes else "the recording stopped before the program ended"
            notes.append((f"! {name} is incomplete: ", why))
    reason = c.reason
    if c.first is not None and len(c.first.module) > 60:
        reason = reason.replace(c.first.module, visible(c.first.module, 60))
    head = f"{words.GLYPHS[c.verdict]} {c.verdict}"
    pieces = wrap(f"{head}: {visible(reason, 400)}", width)
    room = max(1, lines - len(notes))
    if len(pieces) > room:
        pieces = [*pieces[: room - 1], fit(f"{pieces[room - 1]} {pieces[room]}", width).rstrip()]
    text = Text("\n".join(pieces), no_wrap=True)
    text.stylize(style("bold", ROLES[c.verdict]), 0, min(len(head), len(pieces[0])))
    for mark, why in notes:
        text.append("\n" + mark, style("warn")).append(fit(why, max(10, width - cell_len(mark))).rstrip())
    return text


def cause(c: Comparison, width: int, lines: int = 1) -> Text:
    """The top cause with its confidence, in at most ``lines`` lines; where the others stand, if there are any."""
    if not c.causes:
        if c.verdict != "divergent":
            return Text()
        return Text("why? ", style("bold", "hint")).append("no cause was found in what was recorded; w leads on, b finds out by experiment")
    top = c.causes[0]
    text = (
        Text(no_wrap=True).append(f"why? {top.confidence:.2f} ", style("bold", "hint")).append(bar(top.confidence, 5) + " ", style("hint"))
    )
    more = f"  (+{len(c.causes) - 1}: 6)" if len(c.causes) > 1 else ""
    indent = cell_len(text.plain)
    room = max(10, width - indent - len(more))
    pieces = wrap(visible(top.summary, 400), room)
    shown = pieces[:lines]
    if len(pieces) > lines:
        shown[-1] = fit(f"{shown[-1]} {pieces[lines]}", room).rstrip()
    for n, piece in enumerate(shown):
        text.append("\n" + " " * indent if n else "").append(piece, style("hint"))
    return text.append(more, "dim")


def first(c: Comparison) -> Page:
    """The panel of the first divergence; where there is none, what was compared and what to do."""
    d, out = c.first, Page()
    if d is None:
        _none(out, c)
        return out
    out.field("what", f"{d.kind} {words.tensor(d)} of {words.place(d)}", "bold")
    if d.call or d.rank or len(c.first_by_rank) > 1:  # the verdict tells the rest
        out.field("when", when(d, ranks=len(c.first_by_rank) > 1))
    unlike = [row for row in c.equal_before if not row.endswith("equal")]
    alike = [row.removesuffix(": equal").removesuffix(" before it") for row in c.equal_before if row.endswith("equal")]
    for row in unlike:
        out.field("before", "≠ " + visible(row, 200), "warn")
    if d.numbers.max_abs is not None:  # the details tell how to get it
        size_fields(out, d)
    for other in c.first_by_rank[1:]:
        out.field(f"rank {other.rank}", f"step {other.step}, {other.phase}, {words.place(other)} {visible(other.tensor, 60)}")
    if alike:
        out.field("equal", "= " + "; ".join(visible(row, 120) for row in alike))
    return out


def _none(out: Page, c: Comparison) -> None:
    n = c.counts
    for name, side in (("A", c.a), ("B", c.b)):
        out.field(name, f"{visible(side.path, 120)} ({words.recorded(side)})")
    compared = plural(n.compared, "record")
    if c.verdict == "identical":
        out.line(f"✓ {compared} compared, all equal bit for bit", "good")
    elif c.verdict == "equivalent":
        out.line(f"≈ {n.differing:,} of {compared} differ, none of them by more than is allowed", "good")
    elif c.verdict == "incomparable":
        out.line(f"? {compared} compared: too little to say whether the runs are equal", "warn")
        out.line(f"→ what one run recorded: reprodebug show {visible(c.a.path, 120)}", "hint")
    s = c.smallest_tolerance
    if s is not None and s.max_abs is not None:
        parts = [f"max abs {s.max_abs:.3g}"]
        parts += [f"max rel {s.max_rel or 0.0:.3g}"] * (s.max_rel is not None) + [f"{s.max_ulp or 0:,} ULP"] * (s.max_ulp is not None)
        out.line("the least that would have passed: " + ", ".join(parts))


def tabs(views: Sequence[View], opened: int, everything: bool, width: int) -> tuple[Text, list[int]]:
    """The views with their keys, the open one marked and with its count, and the cell at which each ends; names cut where
    the window is narrow."""
    note = " all shown" if everything else ""
    for whole, about in ((True, 2), (True, 1), (False, 1), (False, 0)):
        out, ends = Text(no_wrap=True, overflow="ellipsis"), []
        for n, view in enumerate(views):
            name = view.name if whole else view.short
            few = f" {view.tab()}" if about > (n != opened) else ""
            out.append(f" {n + 1} {name}{few if few.strip() else ''} ", "bold reverse" if n == opened else "").append(" ")
            ends.append(cell_len(out.plain))
        if cell_len(out.plain) + len(note) <= width:
            break
    if note and cell_len(out.plain) + len(note) <= width:
        out.append(note, style("warn"))
    return out, ends


def coverage(c: Comparison, width: int, filtered: str = "") -> Text:
    """How much was looked at, and how many blind spots are named in the report; the less important left out where narrow."""
    n, blind = c.counts, len(c.coverage.unobserved)
    out = Text(no_wrap=True)
    if filtered:
        out.append(f"filter: {fit(visible(filtered, 40), min(40, len(filtered)))} ", style("warn")).append("(/ changes it) · ", "dim")
    if c.a.level == c.b.level == "foreign":
        return out.append(f"{n.differing:,} of {n.compared:,} recorded facts and metrics differ · r shows the whole report")
    if not n.compared:
        out.append("coverage: no record of the one run has a partner in the other, ", style("warn"))
    else:
        out.append(f"coverage {c.coverage.share:.0%}, ")
    if blind:
        out.append(f"{plural(blind, 'blind spot')} (r names {'it' if blind == 1 else 'them'})", style("warn"))
    else:
        out.append("no blind spot" if c.coverage.share >= 1 else "blind spots unnamed")
    rest = [f"{n.differing:,} of {n.compared:,} records differ"]
    rest += [f"{n.only_a:,} only in A"] * bool(n.only_a) + [f"{n.only_b:,} only in B"] * bool(n.only_b)
    rest += [f"{n.unobserved:,} unreadable"] * bool(n.unobserved)
    for piece in rest:
        if cell_len(out.plain) + len(piece) + 3 <= width:
            out.append(" · ", "dim").append(piece)
    return out


def key_line(screen: str, width: int, now: Mapping[str, str] | None = None) -> Text:
    """The keys of a screen that matter most, as many as fit; ``now`` (action to word) narrows them to what can be done at the moment."""
    out = Text(no_wrap=True, overflow="ellipsis")
    for key, word in actions.hints(screen, width, now):
        out.append(f"{key} ", "bold").append(f"{word}  ", "dim")
    return out
