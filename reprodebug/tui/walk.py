"""The guided walk: question, evidence, next action; one page each, from the verdict to the remedy.

Owns the questions and their order. Refuses to know more than the comparison: every page names the command that prints the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reprodebug._base.text import plural, visible
from reprodebug.model.comparison import Comparison, Difference
from reprodebug.report import words
from reprodebug.tui.page import Page
from reprodebug.tui.plot import bar
from reprodebug.tui.views.base import MARKS, SECTIONS_ELSEWHERE
from reprodebug.tui.views.layers import size_fields, when

_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Question:
    """One page of the walk."""

    question: str
    answer: str
    """the answer in one sentence"""
    role: str
    """colour of the answer"""
    evidence: Page
    action: str
    """what to do next"""
    command: str
    """prints the same without a screen"""
    view: str
    """name of the view that holds the evidence"""


def questions(c: Comparison) -> list[Question]:
    """The pages for a comparison: all for runs that diverge, those that have something to say for the others."""
    makers: list[Callable[[Comparison], Question]] = [_verdict]
    if c.first is not None or c.verdict == "divergent":
        makers += [_where, _before] if c.first is not None else []
        makers += [_environment, _random_state, _data]
        makers += [_layer] if c.first is not None else []
        makers += [_cause, _remedy]
    else:
        makers += [_environment, _trust]
    return [make(c) for make in makers]


def _only(c: Comparison, part: str) -> str:
    return words.command(c, f"--only {part}")


def _verdict(c: Comparison) -> Question:
    page = Page()
    for name, side in (("A", c.a), ("B", c.b)):
        page.field(name, f"{visible(side.path, 200)} ({words.recorded(side)})", name.lower())
        if side.command:
            page.field("", visible(" ".join(side.command), 200), "dim")
        for note in side.notes[:3]:
            page.field("", "! " + visible(note, 300), "warn")
    n = c.counts
    page.field("records", f"{n.compared:,} compared, {n.differing:,} differ; {n.only_a:,} only in A, {n.only_b:,} only in B")
    if "foreign" not in (c.a.level, c.b.level):
        blind = f", {plural(len(c.coverage.unobserved), 'blind spot')}" if c.coverage.unobserved else ""
        page.field("seen", f"{c.coverage.share:.0%} of the model{blind}" if n.compared else "nothing in one run that the other has too")
    role = {"identical": "good", "equivalent": "good", "divergent": "bad"}.get(c.verdict, "warn")
    action = {
        "divergent": "go on: the next pages lead from the first difference to its cause",
        "incomparable": "record both runs with `reprodebug capture -- COMMAND`, the same program both times",
    }.get(c.verdict, "there is nothing to repair; the next pages say what differed all the same, and how far the verdict goes")
    return Question(
        "Do the two runs agree?", f"{words.GLYPHS[c.verdict]} {c.verdict}: {c.reason}", role, page, action, _only(c, "verdict"), "layers"
    )


def _where(c: Comparison) -> Question:
    d, page = c.first, Page()
    assert d is not None
    page.field("what", f"{d.kind} {words.tensor(d)}")
    page.field("where", words.place(d))
    page.field("when", when(d, ranks=len(c.first_by_rank) > 1))
    size_fields(page, d)
    for other in c.first_by_rank[1:6]:
        page.field(f"rank {other.rank}", f"step {other.step}, {other.phase}, {words.place(other)} {visible(other.tensor, 60)}")
    answer = f"✗ in {words.place(d)}, at step {d.step}, phase {d.phase}: {d.kind} {visible(d.tensor, 60)}"
    return Question(
        "What is the first thing that differs?", answer, "bad", page, "see what was still equal just before: that rules causes out",
        _only(c, "first"), "layers",
    )  # fmt: skip


def _before(c: Comparison) -> Question:
    page = Page()
    unlike = [row for row in c.equal_before if not row.endswith("equal")]
    for row in unlike:
        page.line("≠ " + visible(row, 300), "warn")
    for row in c.equal_before:
        if row.endswith("equal"):
            page.line("= " + visible(row, 300), "good")
    if not c.equal_before:
        page.line("nothing was recorded before it: it is the first record")
    answer = (
        f"≠ {plural(len(unlike), 'thing')} differed already, though no tensor did" if unlike
        else "= everything that was recorded before it was equal" if c.equal_before else "? nothing was recorded before it"
    )  # fmt: skip
    action = (
        "what differed already is the first suspect" if unlike else "so the cause acts at this place: look at what surrounds the program"
    )
    return Question(
        "What was still equal just before?",
        answer,
        "warn" if unlike or not c.equal_before else "good",
        page,
        action,
        _only(c, "first"),
        "layers",
    )


def _rows(page: Page, found: list[Difference]) -> None:
    for d in found[:_SHOWN]:
        glyph, role = MARKS[d.severity]
        page.line(f"{glyph} {d.section} {visible(d.key, 100)}", role)
        page.field("A", visible(d.a, 200), "a")
        page.field("B", visible(d.b, 200), "b")
        if d.reason:
            page.field("", visible(d.reason, 300), "dim")
    if len(found) > _SHOWN:
        page.line(f"… and {len(found) - _SHOWN} more: v shows them all", "dim")


def _section(c: Comparison, question: str, sections: tuple[str, ...], part: str, view: str, named: str, action: str) -> Question:
    """A page on the differences of some sections."""
    every = [d for d in c.differences if words.belongs(d, sections)]
    matter = sorted((d for d in every if d.severity != "harmless"), key=lambda d: d.severity != "critical")
    page = Page()
    _rows(page, matter)
    harmless = len(every) - len(matter)
    if harmless:
        page.line(
            f"· {plural(harmless, 'harmless difference')}, such as {visible(every[-1].key, 80)}: {visible(every[-1].reason, 120)}", "dim"
        )
    grave = sum(d.severity == "critical" for d in matter)
    if matter:
        answer = f"! {plural(len(matter), 'difference')} of {named}" + (f", {grave} critical" if grave else "")
    elif c.a.level == c.b.level == "foreign":
        answer = f"? nothing that these records say of {named} differs; what they do not say is not known"
    elif c.a.events and not every and not _recorded(c, part):
        answer = f"? {named}: nothing was recorded"
    else:
        answer = f"= nothing of {named} differs that could change a number"
    role = "bad" if grave else "warn" if matter or answer.startswith("?") else "good"
    return Question(question, answer, role, page, action, _only(c, part), view)


def _recorded(c: Comparison, part: str) -> bool:
    """Whether the section could be judged at all."""
    return not part.startswith("data") or not any(row.startswith("batches") for row in c.not_recorded)


def _environment(c: Comparison) -> Question:
    sections = tuple(s for s in ("environment", "config", "code", "hardware", "container") if s not in SECTIONS_ELSEWHERE)
    return _section(
        c, "Were they launched alike: environment, dependencies, code, configuration?", sections, "environment", "environment",
        "environment, dependencies, code or configuration", "a difference that acts where the runs part is a cause; go on to the random state",
    )  # fmt: skip


def _random_state(c: Comparison) -> Question:
    return _section(
        c, "Did they draw the same random numbers?", ("random-state",), "random-state", "random state", "random state",
        "v shows each generator's timeline and the draws between two looks; go on to the data",
    )  # fmt: skip


def _data(c: Comparison) -> Question:
    q = _section(
        c, "Did they read the same data?", ("data",), "data,batches", "data", "data", "v shows batches and samples; go on to the layer"
    )
    batches = [x for x in c.layers if x.first.kind == "data"]
    if batches:
        first = batches[0]
        q.evidence.line(
            f"✗ batches of {visible(first.root, 80)} differ: {first.differing:,} of {first.compared:,}, from step {first.first.step} on",
            "bad",
        )
        return Question(q.question, f"✗ batches differ from step {first.first.step} on", "bad", q.evidence, q.action, q.command, q.view)
    return q


def _layer(c: Comparison) -> Question:
    page = Page()
    order = list(dict.fromkeys((x.first.module or x.root, x.first.step) for x in c.layers))
    shown = ", then ".join(f"{visible(name, 60)} at step {step}" for name, step in order[:5])
    page.field("path", shown + (f" … and {len(order) - 5:,} more" if len(order) > 5 else ""))
    r = c.roles
    if r.source or r.carrier or r.unexplained:
        page.field("roles", f"{r.source:,} brought a difference in, {r.carrier:,} only passed one on, {r.unexplained:,} are unexplained")
    for statement in c.nature:
        page.field("size", visible(statement, 400))
    for row in words.loss_curves(c, 48):
        page.line(row)
    answer = f"✗ {plural(len({x.first.module for x in c.layers}), 'module')} of the model and {plural(len(c.layers), 'tensor')} differ in the end"
    return Question(
        "How does it spread and grow?",
        answer,
        "bad",
        page,
        "v shows the module tree; go on to the cause",
        _only(c, "layers,loss"),
        "layers",
    )


def _cause(c: Comparison) -> Question:
    page = Page()
    for n, cause in enumerate(c.causes[:4], 1):
        if n == 1:  # the answer above says what it is
            page.field("kind", f"{cause.category}, confidence {cause.confidence:.2f} {bar(cause.confidence, 5)}")
            for k, fact in enumerate(cause.evidence):
                page.field("because" if k == 0 else "", visible(fact, 400))
            if len(c.causes) > 1:
                page.line("")
                page.line("less likely:", "dim")
            continue
        page.line(f"{n}. {cause.confidence:.2f} {bar(cause.confidence, 5)} {visible(cause.summary, 400)} ({cause.category})", "dim")
    if not c.causes:
        page.line("Nothing that was recorded explains the difference. That is an answer too: an experiment decides.")
        for row in c.not_recorded[:4]:
            page.line("- not recorded: " + visible(row, 300), "dim")
    top = c.causes[0] if c.causes else None
    answer = "? not found in what was recorded" if top is None else visible(top.summary, 300)
    sure = top is not None and top.confidence >= 0.7
    action = "the last page says what to do about it" if sure else "this is not certain: the last page says how to prove it"
    return Question("Why?", answer, "bad" if sure else "warn", page, action, _only(c, "causes"), "causes")


def _remedy(c: Comparison) -> Question:
    page = Page()
    for n, cause in enumerate(c.causes[1:3], 2):
        page.field("if not", f"→ {visible(cause.remedy, 500)} (cause {n})", "dim")
    if page:
        page.line("")
    if words.can_run_again(c):
        page.line(
            "Prove it by experiment: the program is run again under mixtures of both circumstances, until the smallest cause is left."
        )
        page.line("b asks before it runs anything.", "hint")
        action, command = "b proves the cause, q goes back to the comparison", f"reprodebug bisect {words.paths(c)} --headless"
        answer = "→ let an experiment decide: press b"
    else:
        page.line("An experiment could prove it, but needs two runs of `reprodebug capture`: their commands are run again.")
        action, command = "q goes back to the comparison", _only(c, "causes")
        answer = "→ record both programs with `reprodebug capture -- COMMAND`, and compare these runs"
    if c.causes:
        answer = "→ " + visible(c.causes[0].remedy, 300)
    return Question("What to do now?", answer, "hint", page, action, command, "causes")


def _trust(c: Comparison) -> Question:
    page = Page()
    for x in c.levels:
        word, role = {"holds": ("yes", "good"), "fails": ("no", "bad")}.get(x.state, ("unknown", "warn"))
        page.line(f"same {x.name}? {word}: {visible(x.evidence, 300)}", role)
    for u in c.coverage.unobserved[:6]:
        page.line(f"! not seen: {visible(u.what, 200)}: {visible(u.why, 200)}", "warn")
    for row in c.not_recorded[:4]:
        page.line("- not recorded: " + visible(row, 300), "dim")
    if not page:
        page.line("no blind spot was met")
    return Question(
        "How far does that go?", f"{c.coverage.share:.0%} of the model was observed", "good" if c.coverage.share > 0.9 else "warn", page,
        "q goes back to the comparison", _only(c, "coverage"), "layers",
    )  # fmt: skip
