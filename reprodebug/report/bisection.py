"""What an experiment found, as text, as Markdown, and as JSON (schema ``reprodebug.bisect/1``)."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from reprodebug._base.text import code, markdown, plural, visible
from reprodebug.model.experiment import Bisection, Trial
from reprodebug.report import words
from reprodebug.report.json import plain

_SHOWN = 200
"""trials listed in a report"""


def to_json(result: Bisection) -> str:
    """The document of the contract, pure ASCII."""
    first = dataclasses.asdict(result.first) if result.first is not None else None
    if first is not None:
        numbers = first.pop("numbers")
        first |= {k: numbers[k] for k in ("elements", "differing", "max_abs", "max_rel", "max_ulp")}
        for name in ("statistics", "index_a", "index_b", "call"):
            first.pop(name, None)
    c = result.culprit
    document = {
        "schema": "reprodebug.bisect/1",
        "outcome": result.outcome,
        "axis": result.axis,
        "reason": result.reason,
        "culprit": {
            "commit": c.commit or None, "subject": c.subject or None, "range": list(c.range), "files": list(c.files),
            "settings": c.settings, "packages": c.packages, "env": c.env, "config": c.config,
        },
        "first_divergence": first,
        "confidence": result.confidence,
        "bound": result.bound,
        "trials": [
            {
                "candidate": t.candidate, "verdict": t.verdict, "seconds": t.seconds, "stopped_at_step": t.stopped_at_step, "log": t.log,
                "reason": t.reason,
            }
            for t in result.trials
        ],
        "trial_count": len(result.trials),
        "wall_seconds": result.wall_seconds,
        "proof": list(result.proof),
        "notes": list(result.notes),
        "session": result.session,
    }  # fmt: skip
    return json.dumps(plain(document), indent=2, ensure_ascii=True, allow_nan=False)


def to_text(result: Bisection, width: int = 100) -> str:
    """For a terminal, a log or a screen reader."""
    import textwrap

    def wrap(text: str, indent: str = "  ") -> list[str]:
        return textwrap.wrap(text, max(40, width), initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False) or [
            indent
        ]

    out = [f"{result.outcome.upper().replace('-', ' ')}  {visible(result.reason, 600)}"]
    out = textwrap.wrap(out[0], max(40, width), subsequent_indent="  ", break_on_hyphens=False)
    for name, a, b in _rows(result):
        out += wrap(f"{name}: {a} in A, {b} in B")
    if result.culprit.commit:
        out += wrap(f"commit {result.culprit.commit}  {visible(result.culprit.subject, 200)}")
    for one in result.culprit.files[:_SHOWN]:
        out += wrap(f"changed and not committed: {visible(one, 200)}")
    for one in result.culprit.range if len(result.culprit.range) <= 20 else [*result.culprit.range[:19], "..."]:
        out += wrap(f"candidate {one}{_subject(result, one)}")
    if result.first is not None:
        d = result.first
        out += wrap(f"first divergence: {d.kind}, {words.tensor(d)} of {words.place(d)}, step {d.step}, phase {d.phase}")
    if result.outcome == "found":
        out += wrap(
            f"confidence {result.confidence:.2f} after {plural(len(result.trials), 'trial')} in {result.wall_seconds:.0f} s ({result.bound})"
        )
    if result.proof:
        out += ["", "proof" if result.axis != "settings" else "remedy or proof"]
        for line in result.proof:
            out += wrap(visible(line, 600))
    if result.trials:
        out += ["", "trials"]
        for t in result.trials[:_SHOWN]:
            out += wrap(_row(t))
    if result.notes:
        out += ["", "notes", *(line for n in result.notes for line in wrap(visible(n, 600)))]
    if result.session:
        out += ["", f"session {visible(result.session, 300)} (logs and runs; `reprodebug bisect --clean` removes it)"]
    return "\n".join(out)


def to_markdown(result: Bisection) -> str:
    """To paste into an issue."""
    out = [f"# {result.outcome}: {markdown(result.reason, 600)}", ""]
    if result.culprit.commit:
        out += [f"Commit {code(result.culprit.commit)}: {markdown(result.culprit.subject, 200)}", ""]
    if result.culprit.files:
        out += ["Changed and not committed:", "", *(f"- {code(f)}" for f in result.culprit.files[:_SHOWN]), ""]
    if result.culprit.range:
        out += ["One of:", "", *(f"- {code(c)}{markdown(_subject(result, c), 200)}" for c in result.culprit.range[:_SHOWN]), ""]
    rows = _rows(result)
    if rows:
        out += ["| what | A | B |", "|---|---|---|", *(f"| {code(n)} | {code(a)} | {code(b)} |" for n, a, b in rows), ""]
    if result.first is not None:
        d = result.first
        out += [f"First divergence: {d.kind}, {code(words.tensor(d))} of {code(words.place(d))}, step {d.step}, phase {d.phase}.", ""]
    took = f"{plural(len(result.trials), 'trial')}, {result.wall_seconds:.0f} s"
    out += [f"Confidence {result.confidence:.2f}, {took}, {result.bound}." if result.outcome == "found" else f"{took}.", ""]
    if result.proof:
        out += ["## Proof", "", *(f"- {code(line, 600)}" for line in result.proof), ""]
    out += ["## Trials", "", "| candidate | verdict | seconds | stopped at step | reason |", "|---|---|---|---|---|"]
    for t in result.trials[:_SHOWN]:
        stopped = "-" if t.stopped_at_step is None else str(t.stopped_at_step)
        out.append(f"| {markdown(t.candidate, 200)} | {t.verdict} | {t.seconds:.1f} | {stopped} | {markdown(t.reason, 200)} |")
    if result.notes:
        out += ["", "## Notes", "", *(f"- {markdown(n, 600)}" for n in result.notes)]
    return "\n".join([*out, ""])


def _subject(result: Bisection, commit: str) -> str:
    """The first line of the message of one commit of a range, to be put behind its hash."""
    said = dict(zip(result.culprit.range, result.culprit.subjects, strict=False)).get(commit)
    return f"  {visible(said, 200)}" if said else ""


def _rows(result: Bisection) -> list[tuple[str, str, str]]:
    c = result.culprit
    found = []
    for axis in (c.settings, c.packages, c.env, c.config):
        for name, values in axis.items():
            extra = f" (first bad release {values['first_bad']})" if values.get("first_bad") else ""
            found.append((visible(name, 120), _value(values.get("a")), _value(values.get("b")) + extra))
    return found


def _value(value: Any) -> str:
    return "(absent)" if value is None else visible(str(value), 120)


def _row(t: Trial) -> str:
    stopped = f", stopped at step {t.stopped_at_step}" if t.stopped_at_step is not None else ""
    return f"{t.verdict:11}  {visible(t.candidate, 120)}  {t.seconds:.1f} s{stopped}{': ' + visible(t.reason, 160) if t.reason else ''}"
