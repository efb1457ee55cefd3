"""How often a trial says the wrong thing, and when enough trials of one candidate were made.

A rate is estimated with a Beta(1/2, 1/2) prior (Jeffreys). One candidate is decided by Wald's sequential probability ratio
test (1945): trials are added until the odds between "bad" and "good" reach the asked confidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_FLAKY, _UNSTEADY, _ODD = 0.1, 0.3, 0.03
"""probability that bad candidates show as good at times: before anything is known, and where the bad end was seen to vary;
that good ones show otherwise at times"""
_FEW, _MANY, _SHORT_S = 5, 20, 180.0
"""equal trials that are made in any case, and at most, as long as all take less than that together"""
_SHOWN = (2.0, 0.1, 0.7)
"""Dirichlet prior of a good candidate that varies: like A, like B, like neither"""


def rate(wrong: int, tries: int) -> float:
    """Posterior mean of the probability of a wrong trial after ``wrong`` of ``tries``."""
    return (wrong + 0.5) / (tries + 1.0)


def odds(bads: int, goods: int, false_bad: float, false_good: float) -> float:
    """Natural logarithm of P(trials | bad) / P(trials | good)."""

    def log(p: float, times: int) -> float:
        return 0.0 if not times else -math.inf if p <= 0 else times * math.log(p)

    inside = log(1 - false_good, bads) + log(false_good, goods)
    outside = log(false_bad, bads) + log(1 - false_bad, goods)
    if inside == outside == -math.inf:
        return 0.0
    return inside - outside


def decided(bads: int, goods: int, false_bad: float, false_good: float, confidence: float = 0.99) -> bool | None:
    """True (bad) or False (good) once the odds reach ``confidence``; None while another trial is needed."""
    limit = math.log(confidence / (1 - confidence))
    found = odds(bads, goods, false_bad, false_good)
    return True if found >= limit else False if found <= -limit else None


def runs_needed(share: float, confidence: float = 0.99, most: int = 12) -> int:
    """Equal runs in a row after which a command that differs in ``share`` of its runs would have shown it."""
    if share >= 1:
        return 1
    if share <= 0:
        return most
    return max(1, min(most, math.ceil(math.log(1 - confidence) / math.log(1 - share))))


def patient(seconds: Sequence[float]) -> bool:
    """Whether trials that took so long and all were equal are worth another one, as what is looked for may show at times only: a few
    are in any case, more where they are short."""
    return len(seconds) < _FEW or (len(seconds) < _MANY and sum(seconds) < _SHORT_S)


def unseen(trials: int) -> str:
    """What so many equal trials may have missed, in words: the share of trials in which it would have shown with 95 %."""
    return f"what shows in less than {1 - 0.05 ** (1 / trials):.0%} of the runs may have been missed"


def by_chance(differing: int, equal: int, further: int) -> float:
    """Probability that ``further`` more runs of a command that varies are all equal to another one of it, where of its runs so far,
    each held against another one, these differed and these were equal: it shows either always, or in an unknown share (uniform)."""

    def at_times(equal: int) -> float:
        return _UNSTEADY * math.exp(math.lgamma(equal + 1) + math.lgamma(differing + 1) - math.lgamma(equal + differing + 2))

    always = 0.0 if equal else 1 - _UNSTEADY
    return (at_times(equal + further) + (0.0 if further else always)) / (at_times(equal) + always)


def equal_runs(differing: int, equal: int, confidence: float, most: int = 12) -> int:
    """Further equal runs after which ``by_chance`` leaves no more than the confidence asked for; ``most`` where more would be needed."""
    return next((n for n in range(1, most) if by_chance(differing, equal, n) <= 1 - confidence), most)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What trials say of each of n hypotheses: float[n] each."""

    logs: Any
    """natural logarithm of the probability of the trials"""
    shows: Any
    """chance that another trial of a bad candidate differs from A"""
    odd: Any
    """chance that another trial of a good candidate does"""


def evidence(inside: tuple[Any, Any, Any], outside: tuple[Any, Any, Any], *, unsteady: bool = False) -> Evidence:
    """What trials say where no rate is known, from counts (int[n] each) of those that were like A, like B and like neither, of
    candidates that would be bad (``inside``) and good (``outside``).

    Bad candidates either always show, or in an unknown share of their trials (uniform prior); good ones are always like A, or
    vary in an unknown way (Dirichlet prior). The shares are integrated out.
    """
    import numpy as np
    from scipy.special import betaln, gammaln

    a, b, other = (np.asarray(x, float) for x in inside)
    flaky = _UNSTEADY if unsteady else _FLAKY
    at_times = math.log(flaky) + betaln(a + 1, b + other + 1)
    bad = np.logaddexp(np.where(a == 0, math.log(1 - flaky), -np.inf), at_times)
    shows = 1 - np.exp(at_times - bad) * (a + 1) / (a + b + other + 2)
    bad += betaln(other + 0.5, b + 0.5) - betaln(0.5, 0.5)
    a, b, other = (np.asarray(x, float) for x in outside)
    total = sum(_SHOWN)
    varied = math.log(_ODD) + gammaln(total) - gammaln(total + a + b + other)
    for count, prior in zip((a, b, other), _SHOWN, strict=True):
        varied = varied + gammaln(prior + count) - gammaln(prior)
    good = np.logaddexp(np.where((b == 0) & (other == 0), math.log(1 - _ODD), -np.inf), varied)
    odd = np.exp(varied - good) * (1 - (_SHOWN[0] + a) / (total + a + b + other))
    return Evidence(bad + good, shows, odd)


def information(mass: float, false_good: float, false_bad: float) -> float:
    """Bits that one trial is expected to tell, of a candidate that is bad with probability ``mass``."""
    says_bad = mass * (1 - false_good) + (1 - mass) * false_bad
    return entropy(says_bad) - mass * entropy(false_good) - (1 - mass) * entropy(false_bad)


def entropy(p: float) -> float:
    """Bits that a yes of probability ``p`` or a no tells."""
    if p <= 0 or p >= 1:
        return 0.0
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)
