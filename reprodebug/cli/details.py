"""``compare --only steps,draws,batches,records``: what the views of the screen list row by row, as plain text.

Owns the tables that need the records behind a comparison. Refuses to compare: it prints what ``Evidence`` holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from reprodebug._base.text import visible
from reprodebug.compare.evidence import Evidence
from reprodebug.model.comparison import Comparison, loss_gap
from reprodebug.model.events import Kind, Phase

PARTS = ("steps", "draws", "batches", "records")
_MOST = 200
"""rows of one table, unless all are asked for"""
_LOOK_AHEAD = 100_000
"""draws to look ahead when those between two states are counted"""
_FOREIGN = "only two runs of `reprodebug capture` hold it; at least one of these is none"


def render(c: Comparison, evidence: Evidence | None, part: str, *, verbose: bool) -> str:
    """One part, a title and its rows; those that differ, or all with ``verbose``."""
    title, make = _TABLES[part]
    out, left_out = [title], 0
    for row in make(c, evidence, verbose):
        if verbose or len(out) <= _MOST:
            out.append("  " + row)
        else:
            left_out += 1
    if len(out) == 1:
        out.append("  nothing differs, as far as it was recorded" + ("" if verbose else " (--verbose lists all)"))
    if left_out:
        out.append(f"  … and {left_out:,} more (--verbose lists them)")
    return "\n".join(out) + "\n"


def _steps(c: Comparison, evidence: Evidence | None, verbose: bool) -> Iterator[str]:
    losses = {s: (a, b) for s, a, b in c.losses}
    counts = {s: (d, n) for s, d, n in c.steps_differing}
    for step in sorted({*losses, *counts}):
        a, b = losses.get(step, (None, None))
        differing, compared = counts.get(step, (0, 0))
        gap = loss_gap(a, b)
        if not (verbose or differing or gap or (a is None) != (b is None)):
            continue
        mark = " first" if c.first is not None and c.first.step == step else ""
        records = f"{differing:,}/{compared:,} records differ" if compared else ""
        if (a is None) != (b is None) and not compared:
            records += f" only {'B' if a is None else 'A'} got there"
        shown, apart = ["" if x is None else repr(x) for x in (a, b)], "" if gap is None else f"{gap:.3g}"
        yield f"step {step:>6}  loss A {shown[0]:<20} B {shown[1]:<20} |A-B| {apart:<10} {records}{mark}".rstrip()


def _draws(c: Comparison, evidence: Evidence | None, verbose: bool) -> Iterator[str]:
    if evidence is None:
        yield _FOREIGN
        return
    from reprodebug.diagnose.draws import between

    for pair, story in evidence.generators:
        looks = evidence.observations(pair, story)
        parted = next((n for n, look in enumerate(looks) if not look.equal), None)
        if parted is None and not verbose:
            continue
        rank = f" of rank {pair.rank}" if pair.rank else ""
        where = "equal at every look" if parted is None else f"differs from step {looks[parted].step} on"
        yield f"{visible(story.name, 80)}{rank}, {visible(story.algorithm, 40)}: {where}"
        sides = ((pair.a, story.number_a), (pair.b, story.number_b))
        tables = [evidence.states(trace, number) for trace, number in sides]
        for n, look in enumerate(looks):
            if not verbose and parted is not None and n < parted - 2:
                continue
            cells = []
            for k, name in enumerate("AB"):
                row = (look.row_a, look.row_b)[k]
                before = (looks[n - 1].row_a, looks[n - 1].row_b)[k] if n else -1
                if row < 0:
                    cells.append(f"{name} not seen yet")
                    continue
                text = f"{name} {int(tables[k][row]['lo']) & 0xFFFFFFFF:08x}"
                if before == row:
                    text += " unmoved"
                elif before >= 0:
                    trace, number = sides[k]
                    bodies = [trace.state(number, int(tables[k][r]["lo"]), int(tables[k][r]["hi"])) for r in (before, row)]
                    if bodies[0] is not None and bodies[1] is not None:
                        found = between(story.name, story.algorithm, bodies[0], bodies[1], limit=_LOOK_AHEAD)
                        text += " +?" if found.count is None else f" +{found.count:,} {found.unit}"
                cells.append(text)
            sign = "=" if look.equal else "≠"
            yield f"  {sign} step {look.step}, {look.phase}, {visible(look.place, 80)}: {', '.join(cells)}"


def _batches(c: Comparison, evidence: Evidence | None, verbose: bool) -> Iterator[str]:
    if evidence is None:
        yield _FOREIGN
        return
    for batch in evidence.batches:
        if verbose or batch.differing:
            word, sentence = evidence.relation(batch)
            rank = f", rank {batch.rank}" if batch.rank else ""
            yield f"{word:<9} step {batch.step}, {visible(batch.source, 80)}{rank}: {batch.differing} of {batch.tensors} tensors differ; {sentence}"


def _records(c: Comparison, evidence: Evidence | None, verbose: bool) -> Iterator[str]:
    if evidence is None:
        yield _FOREIGN
        return
    records = evidence.records
    for n in range(len(records)):
        if not verbose and not records.wrong[n]:
            continue
        pair, ia, ib = records.row(n)
        trace, i = (pair.a, ia) if ia >= 0 else (pair.b, ib)
        event = trace.events[i]
        root, module, _, tensor = trace.sites[event["site"]]
        step = int((pair.align.step_a if ia >= 0 else pair.align.step_b)[i])
        mark = "only A" if ib < 0 else "only B" if ia < 0 else "≠" if records.wrong[n] else "="
        prints = [f"{name} {int(t.events[k]['hi']):016x}" for name, t, k in (("A", pair.a, ia), ("B", pair.b, ib)) if k >= 0]
        what = f"{Phase(int(event['phase'])).word} {Kind(int(event['kind'])).word}"
        rank = f", rank {pair.rank}" if pair.rank else ""
        yield f"{mark:<6} step {step}{rank}, {what}: {visible(module or root, 120)} {visible(tensor, 80)}  {', '.join(prints)}"


_TABLES: dict[str, tuple[str, Callable[[Comparison, Evidence | None, bool], Iterator[str]]]] = {
    "steps": ("Step by step", _steps),
    "draws": ("Random generators, and the draws between two looks at each", _draws),
    "batches": ("Batches", _batches),
    "records": ("Records, in execution order", _records),
}
