"""What zoom found, as text, as Markdown, and as JSON (schema ``reprodebug.zoom/1``)."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections import Counter
from typing import Any

from reprodebug._base.text import code, listed_words, markdown, plural, visible
from reprodebug.model.zoom import Element, Kernels, Operand, Operation, Region, Size, Zoom
from reprodebug.report import words
from reprodebug.report.json import plain

_OPERANDS = 8
_HOW = "How "


def to_json(z: Zoom) -> str:
    """The document, pure ASCII; numbers that are not finite are text."""
    document = {
        "schema": "reprodebug.zoom/1",
        "outcome": z.outcome,
        "kind": z.kind or None,
        "reason": z.reason,
        "first_divergence": _divergence(z),
        "operation": {"a": _operation(z.a), "b": _operation(z.b)},
        "size": None if z.size is None else _size(z.size),
        "operations": {"a": z.operations[0], "b": z.operations[1]},
        "repeats": {"a": z.repeats[0], "b": z.repeats[1]},
        "counterfactual": None if z.counterfactual is None else dataclasses.asdict(z.counterfactual),
        "region": None if z.region is None else _region_json(z.region),
        "kernels": None if z.kernels is None else {n: dataclasses.asdict(k) for n, k in zip("ab", z.kernels, strict=True)},
        "notes": list(z.notes),
        "remedy": z.remedy or None,
        "wall_seconds": z.seconds,
    }
    return json.dumps(plain(document), indent=2, ensure_ascii=True) + "\n"


def _divergence(z: Zoom) -> object:
    from reprodebug.model.comparison import divergence_json

    return None if z.first is None else divergence_json(z.first)


def _operation(op: Operation | None) -> dict[str, Any] | None:
    return None if op is None else dataclasses.asdict(op)


def _size(s: Size) -> dict[str, Any]:
    found = dataclasses.asdict(s)
    del found["portrait"]  # a picture: its numbers are the others
    found["ulp_histogram"] = [{"up_to": ulp, "elements": n} for ulp, n in s.ulp_histogram]
    return found


def _region_json(r: Region) -> dict[str, Any]:
    return {**dataclasses.asdict(r), "size": None if r.size is None else _size(r.size)}


def to_text(z: Zoom, width: int = 100) -> str:
    """The answer for a terminal, a log or a screen reader."""
    lines: list[str] = []

    def line(text: str, indent: int = 0, hanging: int = 2) -> None:
        lines.extend(
            textwrap.wrap(text, max(40, width), initial_indent=" " * indent, subsequent_indent=" " * (indent + hanging), break_on_hyphens=False)
        )  # fmt: skip

    for title, rows in _parts(z):
        if title:
            lines.extend(["", title])
        for row in rows:
            line(visible(row, 1000), 2 if title else 0)
        if title.startswith(_HOW) and z.size is not None and z.size.portrait is not None:
            lines += ["", *words.heat_maps(z.size.portrait, width)]
    return "\n".join(lines) + "\n"


def to_markdown(z: Zoom) -> str:
    """The answer for an issue."""
    lines = []
    for title, rows in _parts(z):
        if title:
            lines += ["", f"### {title}", ""]
            lines += [f"- {markdown(row, 1000)}" for row in rows]
            if title.startswith(_HOW) and z.size is not None and z.size.portrait is not None:
                lines += ["", "```text", *words.heat_maps(z.size.portrait, 100), "```"]
        else:
            lines += [f"**{markdown(rows[0], 1000)}**", *(markdown(r, 1000) for r in rows[1:])]
    lines += ["", f"{code(words_command(z))}"]
    return "\n".join(lines) + "\n"


def words_command(z: Zoom) -> str:
    """The command that says the same again."""
    import shlex

    return f"reprodebug zoom {' '.join(shlex.quote(p) for p in z.paths)}"


def _parts(z: Zoom) -> list[tuple[str, list[str]]]:
    head = [f"{z.outcome}: {visible(z.reason, 600)}"]
    parts: list[tuple[str, list[str]]] = [("", head)]
    if z.first is not None:
        d = z.first
        parts.append(("First divergence", [f"{d.kind}, {words.tensor(d)}, {words.place(d)}, step {d.step}, phase {d.phase}"]))
    if z.a is not None or z.b is not None:
        parts += _operations(z)
    if z.size is not None:
        parts.append((f"{_HOW}{visible(z.size.operand, 60)} differs", _numbers(z.size)))
    if z.region is not None:
        parts.append(("Inside the compiled region", _region_rows(z.region)))
    if z.kernels is not None and (rows := _kernel_rows(*z.kernels)):
        parts.append(("Kernels", rows))
    if z.counterfactual is not None:
        parts.append(("Counterfactual", [visible(z.counterfactual.reason, 600)]))
    about = [f"{plural(z.operations[0], 'operation')} of A and {z.operations[1]:,} of B were looked at"] if any(z.operations) else []
    same = [name for name, value in zip("AB", z.repeats, strict=True) if value]
    if same:
        about.append(f"run again, {listed_words(same)} had the recorded values, those of the first divergence included")
    about += [visible(n, 600) for n in z.notes]
    if about:
        parts.append(("Notes", about))
    if z.remedy:
        parts.append(("Next", [visible(z.remedy, 400)]))
    return parts


def _region_rows(r: Region) -> list[str]:
    rows = [visible(r.reason, 600), *(f"graph of {visible(g, 300)}" for g in r.graphs)]
    if r.node:
        rows.append(f"operation inside: {visible(r.node, 300)}" + (f", at {visible(r.line, 200)}" if r.line else ""))
    if r.operations:
        rows.append(
            f"run eagerly: {listed_words([visible(o, 80) for o in r.operations[:6]])}{' and others' if len(r.operations) > 6 else ''}"
        )
    if r.size is not None:
        rows += [f"{visible(r.between, 60)}: {row}" for row in _numbers(r.size)[:2]] + _numbers(r.size)[2:]
    return rows + [visible(n, 400) for n in r.notes]


def _kernel_rows(a: Kernels, b: Kernels) -> list[str]:
    """One row for what both sides launched, or one for each where they launched other things."""
    rows = []
    for title, p, q in (("torch runs", a.inner, b.inner), ("oneDNN runs", a.primitives, b.primitives), ("GPU kernels", a.device, b.device)):
        if not p and not q:
            continue
        if Kernels() in (a, b):  # a side without such an operation, or one that is compiled
            n = 0 if b == Kernels() else 1
            rows.append(f"{title} in {'AB'[n]}: {_run((p, q)[n])}")
        elif p == q:
            rows.append(f"{title} the same on both sides: {_run(p)}")
        else:
            rows += [f"{title} in A: {_run(p)}", f"{title} in B: {_run(q)}"]
    return rows + [f"{n} could not be profiled: {visible(k.why, 200)}" for n, k in (("A", a), ("B", b)) if k.why]


def _run(names: tuple[str, ...]) -> str:
    counted = Counter(names)
    said = [f"{visible(n, 160)}{f' ({k} times)' if k > 1 else ''}" for n, k in list(counted.items())[:8]]
    return (", then ".join(said) or "nothing") + (f" and {len(counted) - 8} more" if len(counted) > 8 else "")


def _operations(z: Zoom) -> list[tuple[str, list[str]]]:
    a, b = z.a, z.b
    if a is not None and b is not None and a.name == b.name:
        return [(f"Operation {visible(a.name, 100)}", _operation_rows(a, b))]
    found = []
    for side, op in (("A", a), ("B", b)):
        if op is not None:
            found.append((f"Operation in {side}: {visible(op.name, 100)}", _operation_rows(op, None)))
    return found


def _operation_rows(op: Operation, other: Operation | None) -> list[str]:
    rows = []
    if op.line:
        rows.append(
            f"line: {visible(op.line, 200)}, in {visible(op.function, 80)}" + (f", through {visible(op.via, 300)}" if op.via else "")
        )
    else:
        rows.append("line: not known: no Python of the program's was running")
    if other is not None and other.line.rpartition("/")[2] != op.line.rpartition("/")[2] and other.line:
        rows.append(f"line in B: {visible(other.line, 200)}")
    if op.node:
        forward = visible(op.forward_line, 200) if op.forward_line else "not known"
        rows.append(f"backward of: {visible(op.node, 80)}, made in the forward pass at {forward}")
    if op.module or op.module_type:
        rows.append(f"module: {visible(op.module, 120) or '(outermost)'} ({visible(op.module_type, 60)})")
    for name in dict.fromkeys([*op.arguments, *(other.arguments if other is not None else ())]):
        x = op.arguments.get(name, "(default)")
        y = other.arguments.get(name, "(default)") if other is not None else x
        said = visible(x, 120) if x == y else f"{visible(x, 120)} in A, {visible(y, 120)} in B"
        rows.append(f"argument {visible(name, 60)} = {said}")
    partners = {v.name: v for v in other.inputs} if other is not None else {}
    for v in op.inputs[:_OPERANDS]:
        rows.append(f"input {_operand(v, partners.get(v.name))}")
    if len(op.inputs) > _OPERANDS:
        rows.append(f"… and {len(op.inputs) - _OPERANDS} more inputs")
    partners = {v.name: v for v in other.outputs} if other is not None else {}
    for v in op.outputs[:_OPERANDS]:
        rows.append(f"result {_operand(v, partners.get(v.name))}")
    if len(op.outputs) > _OPERANDS:
        rows.append(f"… and {len(op.outputs) - _OPERANDS} more results")
    return rows


def _operand(v: Operand, other: Operand | None) -> str:
    text = f"{visible(v.name, 60)}: {v.dtype} {list(v.shape)}"
    if list(v.strides) != _contiguous(v.shape) and v.strides:
        text += f" strides {list(v.strides)}"
    if other is not None and (other.dtype, other.shape) != (v.dtype, v.shape):
        text += f" in A, {other.dtype} {list(other.shape)} in B"
    state = {True: "equal", False: "differs", None: ""}[v.equal]
    text += f", {state}" if state else ""
    return text + (f" ({visible(v.origin, 160)})" if v.origin else "")


def _contiguous(shape: tuple[int, ...]) -> list[int]:
    found, step = [], 1
    for n in reversed(shape):
        found.append(step)
        step *= max(1, n)
    return found[::-1]


def _numbers(s: Size) -> list[str]:
    n = s.numbers
    rows = []
    if n.differing is not None and n.elements:
        rows.append(f"{n.differing:,} of {n.elements:,} elements differ ({n.differing / n.elements:.1%})")
    if n.max_abs is not None:
        rows.append(", ".join(words.largest(n)))
    if s.ulp_histogram:
        rows.append("ULP: " + ", ".join(f"{'' if ulp < 2 else 'up to '}{ulp:,}: {count:,}" for ulp, count in _folded(s.ulp_histogram)))
    if s.first:
        rows.append("first: " + "; ".join(_element(e) for e in s.first[:3]))
    if s.worst:
        rows.append("largest: " + "; ".join(_element(e) for e in s.worst[:3]))
    if s.judgement:
        rows.append(s.judgement)
    return rows


def _folded(histogram: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    """At most ten classes: the last ones are put together."""
    if len(histogram) <= 10:
        return list(histogram)
    return [*histogram[:9], (histogram[-1][0], sum(n for _, n in histogram[9:]))]


def _element(e: Element) -> str:
    ulp = f" ({e.ulp:,} ULP)" if e.ulp is not None else ""
    return f"{list(e.index)} A {e.a:.9g}, B {e.b:.9g}{ulp}"
