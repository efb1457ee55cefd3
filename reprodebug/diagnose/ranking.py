"""From drafts to ranked causes: what is missing lowers confidence, what explains the same is said once."""

from __future__ import annotations

import dataclasses

from reprodebug._base.text import visible
from reprodebug.compare.runs import Examined
from reprodebug.diagnose.levels import levels
from reprodebug.diagnose.nature import nature
from reprodebug.diagnose.roles import roles
from reprodebug.diagnose.rule import RULES, Draft
from reprodebug.diagnose.scene import Scene
from reprodebug.model.comparison import Cause, Comparison

_MOST = 10
_EXCLUDED = 0.1
"""what is left of a cause inside the program where a run is known to repeat itself"""
_LEAST = 0.08
"""a further cause below this is not worth a line"""
_MISSING = 0.75
"""what is left of a rule's strength for each thing it needs and does not find recorded"""


def diagnose(examined: Examined, *, repeats: bool | None = None) -> Comparison:
    """The comparison with its causes, the roles of what differs, the nature of the difference, and the levels that hold.

    ``repeats``: whether a run is known to repeat itself; None where that was not tried.
    """
    c = examined.comparison
    if c.first is None or examined.pair is None or c.verdict not in ("divergent", "equivalent"):
        return dataclasses.replace(c, levels=levels(c))
    s = Scene(examined, repeats)
    layers, counts = roles(s)
    c = s.comparison = dataclasses.replace(c, layers=layers, roles=counts)
    c = s.comparison = dataclasses.replace(c, nature=nature(s), levels=levels(c))
    return dataclasses.replace(c, causes=causes(s))


def causes(s: Scene) -> tuple[Cause, ...]:
    """Ranked causes, the best first, at most ten."""
    ranked = _once(sorted(drafts(s), key=lambda d: -d.strength))
    found = []
    best = ranked[0].strength if ranked else 0.0
    for n, d in enumerate(ranked[:_MOST]):
        confidence = d.strength if n == 0 else min(d.strength, max(1 - best, 0.05) * 0.95)
        if n == 0 and len(ranked) > 1 and ranked[1].category != d.category:
            confidence *= 1 - 0.25 * max(0.0, ranked[1].strength - 0.5)
        if confidence >= _LEAST or n == 0:
            found.append(
                Cause(
                    d.category,
                    visible(d.summary, 600),
                    tuple(visible(e, 600) for e in d.evidence if e),
                    d.remedy,
                    round(min(confidence, 0.97), 2),
                    d.rule,
                )
            )
    if not found or found[0].confidence < 0.3:
        found.append(_unknown(s))
    return tuple(sorted(found, key=lambda cause: -cause.confidence)[:_MOST])


def drafts(s: Scene) -> list[Draft]:
    """What every rule says of this scene."""
    import reprodebug.diagnose.rules  # registers them  # noqa: F401

    found = []
    for r in RULES:
        missing = [s.missing[need] for need in r.needs if need in s.missing]
        for d in r.find(s):
            strength = d.strength * _MISSING ** len(missing) * _trust(s)
            if d.within and s.repeats:
                strength *= _EXCLUDED
            found.append(
                dataclasses.replace(d, strength=strength, rule=r.name, evidence=(*d.evidence, *(f"less sure: {m}" for m in missing)))
            )
    return found


def _trust(s: Scene) -> float:
    """What was not seen may hold an earlier difference."""
    share = s.comparison.coverage.share
    return 1.0 if share >= 0.9 else 0.7 + 0.3 * share


def _once(ranked: list[Draft]) -> list[Draft]:
    """Drop a draft that names nothing beyond what a better one of them uses already."""
    kept: list[Draft] = []
    for d in ranked:
        if d.uses and any(d.uses <= better.uses for better in kept):
            continue
        kept.append(d)
    return kept


def _unknown(s: Scene) -> Cause:
    alike = s.launched if s.alike else "nothing that differs around the tensors explains it well"
    return Cause(
        "implicit-state",
        f"not known: {alike}, and nothing that was recorded explains {s.place}",
        tuple(s.missing.values()),
        "Record each command twice and compare it with itself: a program that does not repeat itself has its cause inside;"
        " then let `reprodebug bisect A B` decide by experiment.",
        0.1,
    )
