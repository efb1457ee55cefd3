"""The comparison as Markdown, to paste into an issue. No name from a run can leave its code span or table cell."""

from __future__ import annotations

from reprodebug._base.text import code, markdown, plural
from reprodebug.model.comparison import Comparison, Difference, Divergence
from reprodebug.report import words

_LAYERS = 40
_DIFFERENCES = 60


def render(comparison: Comparison) -> str:
    """The whole diagnosis as Markdown."""
    c = comparison
    out = [f"# {words.GLYPHS[c.verdict]} {c.verdict}", "", markdown(c.reason, 600) + ".", ""]
    out += _runs(c)
    if c.first is not None:
        out += _first(c, c.first)
    if c.causes:
        out += ["## Causes", ""]
        for n, cause in enumerate(c.causes, 1):
            out.append(f"{n}. **{markdown(cause.summary, 400)}** ({cause.category}, confidence {cause.confidence:.2f})")
            out += [f"   - {markdown(fact, 300)}" for fact in cause.evidence]
            out += [f"   - remedy: {markdown(cause.remedy, 400)}"]
        out.append("")
    out += _layers(c)
    out += _gaps(c)
    out += _differences(c)
    curves = words.loss_curves(c)
    if curves:
        out += ["## Loss", "", "```text", *curves, "```", ""]
    if c.levels:
        out += ["## Reproducibility", "", "| level | state | evidence |", "|---|---|---|"]
        out += [*(f"| {x.name} | {x.state} | {markdown(x.evidence, 300)} |" for x in c.levels), ""]
    out += _coverage(c)
    if c.not_recorded:
        out += ["## Not recorded", "", *(f"- {markdown(row, 400)}" for row in c.not_recorded), ""]
    out += ["## How to reproduce this report", "", code(words.command(c, "--markdown -"), None), ""]
    return "\n".join(out)


def _runs(c: Comparison) -> list[str]:
    rows = ["| | A | B |", "|---|---|---|"]
    both = (c.a, c.b)
    rows.append("| run | " + " | ".join(code(s.path) for s in both) + " |")
    if any(s.command or s.started for s in both):
        rows.append("| command | " + " | ".join(code(" ".join(s.command), 300) for s in both) + " |")
        rows.append("| started | " + " | ".join(code(s.started) for s in both) + " |")
    rows.append("| recorded | " + " | ".join(words.recorded(s) for s in both) + " |")
    rows.append("| complete | " + " | ".join("yes" if s.complete else "**no**" for s in both) + " |")
    notes = [f"- {name}: {markdown(n, 300)}" for name, s in zip("AB", both, strict=True) for n in s.notes[:8]]
    return [*rows, "", *notes, *([""] if notes else [])]


def _first(c: Comparison, d: Divergence) -> list[str]:
    out = ["## First divergence", "", f"- what: {d.kind}, {code(words.tensor(d))}", f"- where: {code(words.place(d))}"]
    again = f", call {d.call + 1} of this step" if d.call else ""
    rank = f", rank {d.rank}" if d.rank or len(c.first_by_rank) > 1 else ""
    out += [f"- when: step {d.step}, phase {d.phase}{again}{rank}", f"- size: {markdown(words.size(d), 300)}"]
    out += [f"- {name}: A {code(a)}, B {code(b)}" for name, a, b in words.statistics(d)]
    out.append("")
    if c.portrait is not None:
        out += ["```text", *words.portrait(c.portrait), "```", ""]
    if c.equal_before:
        out += ["Just before it:", "", *(f"- {markdown(row, 300)}" for row in c.equal_before), ""]
    if c.nature:
        out += ["Size and growth:", "", *(f"- {markdown(row, 400)}" for row in c.nature), ""]
    if len(c.first_by_rank) > 1:
        out += ["First on each rank:", ""]
        out += [f"- rank {x.rank}: step {x.step}, {x.phase}, {code(words.place(x))} {code(x.tensor)}" for x in c.first_by_rank]
        out.append("")
    return out


def _layers(c: Comparison) -> list[str]:
    if not c.layers:
        return []
    out = ["## What differs, in order of its first difference", "", "| step | phase | kind | module and tensor | role | differing | size |"]
    out.append("|---:|---|---|---|---|---:|---|")
    for x in c.layers[:_LAYERS]:
        step, phase, kind, name, share = words.layer_row(x)
        known = x.first.numbers.max_abs is not None
        out.append(
            f"| {step} | {phase} | {kind} | {code(name)} | {x.role} | {share} | {markdown(words.size(x.first), 200) if known else ''} |"
        )
    if len(c.layers) > _LAYERS:
        out += ["", f"… and {len(c.layers) - _LAYERS:,} more places."]
    return [*out, ""]


def _gaps(c: Comparison) -> list[str]:
    if not c.gaps:
        return []
    rows = [
        f"- {g.side.upper()} has {plural(g.records, 'record')} more at step {g.step}, phase {g.phase}, "
        f"from {code(g.module or g.module_type)} on"
        for g in c.gaps
    ]
    return ["## In one run only", "", *rows, ""]


def _differences(c: Comparison) -> list[str]:
    matter, harmless = words.by_severity(c.differences)
    out: list[str] = []
    for title, rows in (("Differences around it", matter), ("Harmless differences", harmless)):
        if not rows:
            continue
        out += [f"## {title}", "", "| severity | section | what | A | B | why |", "|---|---|---|---|---|---|"]
        out += [_difference(d) for d in rows[:_DIFFERENCES]]
        if len(rows) > _DIFFERENCES:
            out += ["", f"… and {len(rows) - _DIFFERENCES:,} more."]
        out.append("")
    return out


def _difference(d: Difference) -> str:
    return f"| {d.severity} | {d.section} | {code(d.key, 80)} | {code(d.a)} | {code(d.b)} | {markdown(d.reason, 300)} |"


def _coverage(c: Comparison) -> list[str]:
    seen = "" if words.of_records(c) else f"{c.coverage.share:.0%} of the model was observed; "
    out = ["## Coverage", "", f"{seen}{words.counted(c)}.", ""]
    rows = [f"- not seen: {code(u.what)}: {markdown(u.why, 300)}" for u in c.coverage.unobserved]
    return [*out, *rows, *([""] if rows else [])]
