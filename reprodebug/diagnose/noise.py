"""The runs' own noise as the yardstick: what a program differs by from itself is no difference between two programs."""

from __future__ import annotations

import dataclasses

from reprodebug.compare.runs import Examined, examine
from reprodebug.compare.surroundings import surroundings
from reprodebug.diagnose.ranking import diagnose
from reprodebug.model.comparison import Cause, Comparison, LayerDifference
from reprodebug.store.run import StoredRun

_WITHIN = 2.0
"""a difference up to this many times the noise of its place is within the noise"""


def with_noise(examined: Examined, noise: list[StoredRun]) -> Comparison:
    """The diagnosis of two runs in the light of further recordings of one of them.

    Each run of ``noise`` repeats A or B, whichever it has more in common with.
    """
    if examined.comparison.first is None or not noise:
        return diagnose(examined)
    twins = [(_side(examined, run), run) for run in noise]
    pairs = [(side, examine(examined.a if side == "A" else examined.b, run)) for side, run in twins]
    restless = [(side, x) for side, x in pairs if x.comparison.first is not None]
    if not restless:
        c = diagnose(examined, repeats=True)
        sides = " and ".join(sorted({side for side, _ in pairs}))
        return dataclasses.replace(c, nature=(*c.nature, f"{sides} repeats itself bit for bit: the cause lies between the two runs"))
    side, worst = min(restless, key=lambda x: _when(x[1]))
    first, own = examined.comparison.first, worst.comparison.first
    assert own is not None
    c = diagnose(examined, repeats=False)
    where = f"{own.tensor} of {own.module or own.module_type or 'the program'} at step {own.step} ({own.phase})"
    if _when(worst) > _when(examined):
        note = f"{side} does not repeat itself either, but its own noise begins only later, with {where}"
        return dataclasses.replace(c, nature=(*c.nature, note))
    if _inside(c.layers, worst.comparison.layers):
        reason = f"every difference is within the noise of {side} itself, which begins with {where}"
        return dataclasses.replace(c, verdict="equivalent", reason=reason, causes=_own(worst, side))
    reason = (
        f"{side} does not repeat itself, first at {where}; the difference between A and B begins no earlier"
        f" (step {first.step}, {first.phase}), so nothing between them can be named as its cause"
    )
    return dataclasses.replace(c, reason=reason, causes=_own(worst, side))


def _side(examined: Examined, run: StoredRun) -> str:
    """Which of the two runs this one repeats: the one with fewer differences around it, A where they tie."""
    counts = [
        sum(d.severity == "critical" for d in surroundings(other.manifest, run.manifest)) for other in (examined.a, examined.b)
    ]  # fmt: skip
    return "B" if counts[1] < counts[0] else "A"


def _when(x: Examined) -> tuple[int, int]:
    """Step and position of the first divergence, to compare across pairs."""
    assert x.comparison.first is not None
    return x.comparison.first.step, max(x.comparison.first.index_a, 0)


def _inside(layers: tuple[LayerDifference, ...], noise: tuple[LayerDifference, ...]) -> bool:
    """Whether every differing place has numbers, and differs no more than the noise of the same place."""
    known = {(x.root, x.first.module, x.first.tensor, x.first.kind): x.first.numbers.max_abs for x in noise}
    for x in layers:
        if x.first.kind in ("optimizer", "rng"):
            continue
        seen, own = x.first.numbers.max_abs, known.get((x.root, x.first.module, x.first.tensor, x.first.kind))
        if seen is None or own is None or seen > _WITHIN * own:
            return False
    return True


def _own(worst: Examined, side: str) -> tuple[Cause, ...]:
    """Causes of the noise itself."""
    return tuple(
        dataclasses.replace(c, summary=f"{side} differs from its own repetition: {c.summary}")
        for c in diagnose(worst, repeats=False).causes
    )
