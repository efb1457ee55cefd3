"""How often a trial says the wrong thing, and when enough trials of one candidate were made.

A rate is estimated with a Beta(1/2, 1/2) prior (Jeffreys). One candidate is decided by Wald's sequential probability ratio
test (1945): trials are added until the odds between "bad" and "good" reach the asked confidence.
"""

from __future__ import annotations

import math


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
