"""A second look at the operation that was found: which kernels each side launched for it, and what lies inside a compiled region.

Each is one more execution of the side that needs it. Owns what is concluded from an opened region: of two compiled sides the first
node whose compiled values differ, of an eager and a compiled one the first whose eager and compiled values differ, and whether the
compiler makes the difference at all.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from reprodebug._base.text import listed_words, plural, visible
from reprodebug.bisect.trial import Untestable
from reprodebug.model import zoom as model
from reprodebug.model.zoom import Kernels, Region
from reprodebug.zoom.log import Log, Node, Op, Opened, Value
from reprodebug.zoom.origin import Origin, Side, make_relative
from reprodebug.zoom.rerun import NotRepeatable, Repeat, Runner
from reprodebug.zoom.sizes import size_of
from reprodebug.zoom.window import Bounds

_DULL = frozenset({"aten::empty", "aten::as_strided_", "aten::resize_", "aten::empty_strided", "aten::as_strided", "aten::detach"})


def needed(origin: Origin) -> bool:
    """Whether a second look can tell more: at a compiled region, or at an operation that turns equal inputs into different results."""
    if any(op is not None and op.region is not None for op in (origin.a, origin.b)):
        return True
    return origin.kind == model.OPERATION


def again(
    runners: list[Runner], runs: tuple[Repeat, Repeat], within: tuple[Bounds, Bounds], origin: Origin, max_bytes: int, notes: list[str]
) -> tuple[Repeat, Repeat]:
    """Both once more with the operation looked into; a side whose operation is not there, or that fails, stays as it was."""
    found = list(runs)
    for n, op in enumerate((origin.a, origin.b)):
        if op is None:
            continue
        region = op.region is not None
        what = f", to look {'into its compiled region' if region else f'at the kernels of {op.name}'}"
        look: dict[str, Any] = dict(op.region) if op.region is not None else {"op": op.n}
        try:
            made = runners[n].run(within[n], max_bytes, keep=[op.n], look=look, what=what)
        except (NotRepeatable, Untestable) as error:
            notes.append(f"there was no second look at {op.name}: {error.message}")
            continue
        if len(made.log.ops) > op.n and made.log.ops[op.n].name == op.name:
            found[n] = made
    return found[0], found[1]


def kernels(looked: tuple[Repeat, Repeat], origin: Origin) -> tuple[Kernels, Kernels] | None:
    """What each side launched; None where no side was profiled."""
    found = []
    for run, op in zip(looked, (origin.a, origin.b), strict=True):
        row = run.log.ops[op.n] if op is not None and op.n < len(run.log.ops) else None
        if row is None or row.region is not None:
            found.append(Kernels())
        else:
            found.append(Kernels(tuple(n for n in row.inner if n not in _DULL), row.kernels, row.primitives, row.unprofiled))
    return (found[0], found[1]) if any(k != Kernels() for k in found) else None


def region(looked: tuple[Repeat, Repeat], origin: Origin, first: tuple[Side, Side], roots: list[str]) -> Region | None:
    """What lies inside; None where no side's operation is a compiled region. ``first``: the two logs of the first look.

    Where one side runs eagerly, its operation becomes the one that the region's operation stands for."""
    ops = origin.a, origin.b
    compiled = [op is not None and op.region is not None for op in ops]
    if not any(compiled):
        return None
    opened = [None if op is None else run.log.opened.get(op.n) for run, op in zip(looked, ops, strict=True)]
    names = [n for n, c in zip("AB", compiled, strict=True) if c]
    graphs = tuple(
        f"{'A and B' if len(names) == 2 and _alike(opened) else n}: {_described(op, o, root)}"
        for n, op, o, root in zip("AB", ops, opened, roots, strict=True)
        if op is not None and op.region is not None
    )
    if len(names) == 2 and _alike(opened):
        graphs = graphs[:1]
    missing = [n for n, c, o in zip("AB", compiled, opened, strict=True) if c and (o is None or not o.nodes)]
    if missing:
        why = next((o.why for o in opened if o is not None and o.why), "the region was not called again")
        return Region(f"the compiled region of {listed_words(missing)} could not be opened: {visible(why, 300)}", graphs)
    notes = _notes(opened, ops)
    if all(compiled):
        assert opened[0] is not None and opened[1] is not None
        found = _both(looked, opened[0], opened[1])
        same = _alike(opened)
    else:
        n = compiled.index(True)
        o = opened[n]
        assert o is not None
        found = _one(looked[n].log, o, n, first[1 - n])
        if (node := found[1]) is not None:
            partner = _maker(first[1 - n], node.eager)
            if partner is not None and n == 0:
                origin.b = partner
            elif partner is not None:
                origin.a = partner
        same = True
    reason, node, size, between = found
    return Region(
        reason, graphs, node.code or node.name if node else "", _relative(node, roots) if node else "", node.operations if node else (), size,
        between, same, tuple(notes),
    )  # fmt: skip


def _maker(side: Side, value: Value) -> Op | None:
    """The first operation that gave a value, by itself or seen through a view."""
    for op in side.ops:
        for v in op.outputs:
            if v.digest == value.digest:
                return side.maker(v, op.n) if op.view else op
    return None


def _alike(opened: list[Opened | None]) -> bool:
    a, b = opened
    return a is not None and b is not None and (a.backend, a.source, _codes(a)) == (b.backend, b.source, _codes(b))


def _codes(o: Opened) -> list[str]:
    return [n.code for n in o.nodes]


def _described(op: Op, o: Opened | None, root: str) -> str:
    where = f"{op.name} of {op.function}, {make_relative(op.line, root)}" if op.function else op.name
    return where + (f": {plural(o.operations, 'operation')}, compiled by {o.backend}" if o is not None else "")


def _relative(node: Node, roots: list[str]) -> str:
    return next((found for root in roots if (found := make_relative(node.line, root)) != node.line), node.line)


def _notes(opened: list[Opened | None], ops: tuple[Op | None, Op | None]) -> list[str]:
    found = []
    for name, o, op in zip("AB", opened, ops, strict=True):
        if o is None:
            continue
        if o.same is False:
            found.append(
                f"{name}'s graph, compiled with its intermediate values as results, is fused otherwise and gives other bits than in the "
                "program: what is said of its operations is of that compilation"
            )
        if o.why:
            found.append(f"of {name}'s graph: {visible(o.why, 300)}")
        if op is not None and op.random is not None:
            found.append(f"{name}'s graph draws random numbers; compiled it may draw others than eagerly from the same state")
        if o.phase == "backward":
            found.append(
                f"{name}'s compiled backward pass gives gradients only, not what lies between them: the operation is the one before which "
                "all gradients were equal"
            )
    return found


_Found = tuple[str, "Node | None", "model.Size | None", str]


def _both(looked: tuple[Repeat, Repeat], a: Opened, b: Opened) -> _Found:
    """Two compiled sides."""
    if a.source != b.source and _codes(a) == _codes(b):  # within a graph that is called
        x, y = next((p, q) for p, q in zip_longest(a.source, b.source, fillvalue="nothing more") if p != q)
        return f"the two graphs are not the same, first at: {visible(x, 160)} in A, {visible(y, 160)} in B", None, None, ""
    for p, q in zip(a.nodes, b.nodes, strict=False):
        if p.code != q.code:
            said = (
                f"the two graphs are not the same, first at: {visible(p.code or p.name, 160)} in A, {visible(q.code or q.name, 160)} in B"
            )
            return said, p, _size((looked[0].log, p.compiled), (looked[1].log, q.compiled)), "A and B, compiled"
        if p.compiled is not None and q.compiled is not None and p.compiled.digest != q.compiled.digest:
            if p.eager.digest == q.eager.digest:
                also = "run eagerly it gives both the same"
            else:
                also = "run eagerly they differ there too, so the compiler is not needed for it"
            said = f"the first operation inside whose compiled values differ between A and B is {_word(p)}; {also}"
            return said, p, _size((looked[0].log, p.compiled), (looked[1].log, q.compiled)), "A and B, compiled"
    for p, q in zip(a.nodes, b.nodes, strict=False):
        if p.eager.digest != q.eager.digest:
            said = f"no compiled value inside differs between A and B as far as they could be had; run eagerly the first to differ is {_word(p)}"
            return said, p, _size((looked[0].log, p.eager), (looked[1].log, q.eager)), "A and B, run eagerly"
    if len(a.nodes) != len(b.nodes):
        return f"the two graphs are not the same: {plural(len(a.nodes), 'operation')} in A, {len(b.nodes)} in B", None, None, ""
    return "with their intermediate values as results the two compiled graphs agree: how operations are fused decides", None, None, ""


def _one(log: Log, o: Opened, n: int, eager_side: Side) -> _Found:
    """Side ``n`` is compiled, the other runs eagerly."""
    name, other = "AB"[n], "BA"[n]
    apart = next((k for k in o.nodes if k.compiled is not None and k.compiled.digest != k.eager.digest), None)
    foreign = next((k for k in o.nodes if k.eager.digest and k.eager.digest not in eager_side.values), None)
    results = [v.digest for _, v, _ in o.outputs] if o.outputs else [k.eager.digest for k in o.nodes]

    def size(k: Node) -> tuple[model.Size | None, str]:
        both = [(log, k.eager), (log, k.compiled)]
        return _size(*(both[::-1] if n == 0 else both)), "compiled (A) and run eagerly" if n == 0 else "run eagerly and compiled (B)"

    if results and all(d in eager_side.values for d in results):
        said = f"run eagerly, {name}'s graph gives {other}'s values bit for bit: compiling makes the difference"
        if apart is None:
            return f"{said}; with its intermediate values as results every operation inside gives the eager value", None, None, ""
        return f"{said}, first in {_word(apart)}", apart, *size(apart)
    if foreign is not None:
        said = f"run eagerly, {name}'s graph does not give {other}'s values either, first in {_word(foreign)}: it computes something else"
        if apart is not None:
            said += f"; compiled, its values differ from eager ones from {_word(apart)} on"
        return said, foreign, None, ""
    if apart is not None:
        return f"compiled, {name}'s graph differs from its eager run first in {_word(apart)}", apart, *size(apart)
    return f"every operation inside {name}'s graph gives the same compiled and run eagerly", None, None, ""


def _word(n: Node) -> str:
    operations = [o for o in n.operations if not o.startswith(("aten.t.", "aten.detach.", "aten.view."))] or list(n.operations)
    line = f" at {n.line.rpartition('/')[2]}" if n.line else ""
    made = f", {listed_words(operations[:3])}{' and others' if len(operations) > 3 else ''}" if operations else ""
    return f"{visible(n.name, 60)} ({visible((n.code or n.name).partition(' = ')[2].partition('(')[0] or 'gradient', 60)}{made}){line}"


def _size(a: tuple[Log, Value | None], b: tuple[Log, Value | None]) -> model.Size | None:
    p, q = a[1], b[1]
    if p is None or q is None or (p.dtype, p.shape) != (q.dtype, q.shape):
        return None
    raw = a[0].raw(p), b[0].raw(q)
    if raw[0] is None or raw[1] is None:
        return None
    return size_of(p, raw, None)
