"""Which level of reproducibility holds between the two runs, and on what evidence."""

from __future__ import annotations

import math

from reprodebug._base.text import plural
from reprodebug.compare.importance import NO_EFFECT
from reprodebug.compare.sources import ONE_SIDED
from reprodebug.diagnose.scene import RANDOM_MODULES, STATISTICS
from reprodebug.model.comparison import Comparison, Level

_GIVEN = ("code", "config", "container", "environment")
_PRINTED = 1e-4
"""relative difference of final losses below which the usual printed digits agree"""


def levels(c: Comparison) -> tuple[Level, ...]:
    """Code, results, inference, training: each ``holds``, ``fails`` or ``unknown``."""
    return (_code(c), _results(c), _inference(c), _training(c))


def _code(c: Comparison) -> Level:
    found = [d for d in c.differences if d.section in ("code", "config", "container") and d.severity == "critical"]
    found += [d for d in c.differences if d.section == "code" and d.severity == "notable" and d.reason == ONE_SIDED]
    packages = [d for d in c.differences if d.section == "environment" and d.severity == "critical"]
    if found or packages:
        names = ", ".join(d.key for d in [*found, *packages][:4])
        return Level("code", "fails", f"{plural(len(found) + len(packages), 'difference')} in code, configuration or environment: {names}")
    without = [d.key for d in c.differences if d.reason == NO_EFFECT and d.section in _GIVEN and d.key != "PYTHONHASHSEED"]
    if without:
        names = f"{', '.join(without[:4])}{' and more' if without[4:] else ''}"
        return Level("code", "holds", f"what differs in code, configuration or environment changed no recorded tensor: {names}")
    aside = [d.key for d in c.differences if d.section == "config" and d.severity == "harmless" and d.key.startswith("-")]
    if aside:
        names = ", ".join(aside[:4])
        return Level(
            "code", "holds", f"the same code and packages were recorded; options that differ only name, save or print (by name): {names}"
        )
    others = [d.key for d in c.differences if d.section == "environment" and d.severity == "notable" and d.key != "PYTHONHASHSEED"]
    but = f", but for {', '.join(others[:4])}{' and more' if others[4:] else ''}" if others else ""
    return Level("code", "holds", "the same code, configuration and packages were recorded" + but)


def _results(c: Comparison) -> Level:
    both = [(step, a, b) for step, a, b in c.losses if a is not None and b is not None]
    if not both:
        return Level("results", "unknown", "no loss was recorded in both runs")
    step, a, b = both[-1]
    last = "the last loss" if both[-1] == c.losses[-1] else "the last loss that both runs have"
    if math.isfinite(a) != math.isfinite(b):
        return Level("results", "fails", f"{last}, at step {step}, is {a:g} in A and {b:g} in B")
    if not math.isfinite(a):
        return Level("results", "unknown", f"{last}, at step {step}, is {a:g} in A and {b:g} in B: no number to compare")
    if a == b:
        return Level("results", "holds", f"{last}, at step {step}, is {a:.9g} in both runs")
    gap = abs(a - b) / max(abs(a), abs(b), 1e-300)
    state = "holds" if gap < _PRINTED else "fails"
    return Level("results", state, f"{last}, at step {step}, is {a:.9g} in A and {b:.9g} in B: {gap:.1g} apart")


def _inference(c: Comparison) -> Level:
    """Equal inputs and parameters give equal outputs."""
    forward = [x for x in c.layers if x.first.kind == "activation"]
    broken = [x for x in forward if x.role == "source"]
    if broken:
        d = broken[0].first
        what = f"{d.module or d.module_type} gives another {d.tensor} from equal inputs and parameters at step {d.step}"
        if RANDOM_MODULES.search(d.module_type):
            what += ", by other random numbers"
        elif STATISTICS.search(d.module_type):
            what += "; in evaluation mode it depends on its running statistics too"
        return Level("inference", "fails", what)
    if c.coverage.share < 0.9 or any(x.role == "unexplained" for x in forward):
        return Level("inference", "unknown", f"{c.coverage.share:.0%} of the model was observed")
    if c.first is not None and c.first.step == 0 and c.first.kind in ("parameter", "data") and c.first.phase != "optimizer":
        return Level("inference", "unknown", "inputs or parameters differ from the start: no call could be compared")
    if not c.counts.compared:
        return Level("inference", "unknown", "nothing was compared")
    return Level("inference", "holds", "no module gave another output from equal inputs and parameters")


def _training(c: Comparison) -> Level:
    if c.first is None and c.verdict == "identical":
        return Level("training", "holds", f"all {c.counts.compared:,} records are equal bit for bit")
    if c.first is None:
        return Level("training", "unknown", c.reason)
    word = "fails" if c.verdict == "divergent" else "holds"
    within = "" if c.verdict == "divergent" else ", within the tolerance or noise"
    return Level("training", word, f"first difference at step {c.first.step} in phase {c.first.phase}{within}")
