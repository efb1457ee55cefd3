"""The first bad commit of a graph, by asking about as few commits as possible.

A candidate is bad when it differs from the good end. Bad is inherited by every descendant, as in ``git bisect``. Answers
may be missing (untestable) and may be wrong (noise): the search keeps one weight per candidate, the probability that it is
the first bad one, and asks for the candidate whose ancestors hold about half of it. Without noise that is halving (the
answer then contradicts nothing); with noise it is first Berlekamp's (1968) search against a number of lies, which halves the
ways in which the remaining answers may come, and after that the posterior-median search of Burnashev and Zigangirov (1974),
on a graph instead of a line.

Beside untestable candidates the question is moved to where an answer is likely: the edge of a block of untestable ones is
taken as equally likely anywhere between a known testable and a known untestable candidate. When only the inside of such a
block is left, the search ends and says the whole range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reprodebug.bisect.search.noise import entropy, evidence, information, rate

_INSIDE_ASKED = 16
"""untestable blocks with at most this many unasked candidates are asked through, as git does; larger ones are not"""

_EDGE = 3.0
"""worth of a bit about where a block of untestable candidates ends, against a bit about the culprit: a culprit inside such a
block is told by its two edges alone"""
_BUDGETED = 0.99
"""probability with which the wrong answers of a noisy search stay within the number that it reckons with"""


@dataclass(slots=True)
class GraphSearch:
    """The state of one search.

    ``order``: candidates in topological order, ancestors first; the last one is the bad end. ``parents``: candidate ->
    its parents (those that are not candidates are left out). ``false_bad`` and ``false_good``: the probabilities that a
    good candidate shows as bad and a bad one as good, per trial; both 0 without noise. ``enough``: the probability at
    which an answer counts as found.
    """

    order: Sequence[str]
    parents: Mapping[str, Sequence[str]]
    false_bad: float = 0.0
    false_good: float = 0.0
    enough: float = 0.999
    answers: dict[str, list[bool]] = field(default_factory=dict)
    """candidate -> what its trials said: True for bad"""
    untestable: set[str] = field(default_factory=set)
    learned: bool = False
    """answers may be wrong at rates that nobody knows: they are learned from the answers"""
    unsteady: bool = False
    """the bad end was seen to vary"""
    unlike: dict[str, int] = field(default_factory=dict)
    """candidate -> how many of its bad answers were like neither end"""
    good_end: tuple[int, int, int] = (0, 0, 0)
    """trials of the good end that were like it, like the bad end, like neither"""
    alike: list[tuple[str, str]] = field(default_factory=list)
    """pairs that are known, without a trial, to be bad or good together; the second may be the good end"""
    _reach: list[int] = field(default_factory=list)
    _position: dict[str, int] = field(default_factory=dict)
    _matrix: Any = None
    _budget: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self._position = {c: n for n, c in enumerate(self.order)}
        self._reach = []
        for n, candidate in enumerate(self.order):
            bits = 1 << n
            for parent in self.parents.get(candidate, ()):
                at = self._position.get(parent)
                if at is not None:
                    if at >= n:
                        raise ValueError("the order is not topological")
                    bits |= self._reach[at]
            self._reach.append(bits)

    @property
    def noisy(self) -> bool:
        return self.learned or self.false_bad > 0 or self.false_good > 0

    def ancestors(self, candidate: str) -> list[str]:
        """The candidate and everything it descends from, among the candidates."""
        bits = self._reach[self._position[candidate]]
        return [c for n, c in enumerate(self.order) if bits >> n & 1]

    def answer(self, candidate: str, bad: bool | None, *, unlike: bool = False) -> None:
        """What a trial said; None: untestable. ``unlike``: it was like neither end."""
        if bad is None:
            self.untestable.add(candidate)
        else:
            self.answers.setdefault(candidate, []).append(bad)
            self.unlike[candidate] = self.unlike.get(candidate, 0) + (bad and unlike)

    def equate(self, candidate: str, other: str) -> None:
        """Both are bad, or neither is: known without a trial. ``other`` may be the good end."""
        self.alike.append((candidate, other))

    def crossed(self) -> list[tuple[str, str]]:
        """Bad candidates that have a good descendant, each with the nearest one; those whose own answers contradict are left out."""
        steady = {c: said[0] for c, said in self.answers.items() if len(set(said)) == 1}
        found = []
        for bad in (c for c in self.order if steady.get(c)):
            behind = [c for c in self.order if steady.get(c) is False and self._reach[self._position[c]] >> self._position[bad] & 1]
            found += [(bad, behind[0])] if behind else []
        return found

    def set_aside(self, candidate: str) -> None:
        """Forget what was said of a candidate, and of those that were known from it."""
        self.answers.pop(candidate, None)
        self.unlike.pop(candidate, None)
        self.alike = [pair for pair in self.alike if candidate not in pair]

    def weights(self) -> list[float]:
        """Probability of each candidate, in ``order``, of being the first bad one; all 0 where the answers contradict."""
        import numpy as np

        logs = self._learned() if self.learned else self._rated()
        for one, other in self.alike:
            row = self._row(self._position[other]) if other in self._position else np.zeros(len(self.order), bool)
            kept = np.where(self._row(self._position[one]) == row, logs, -np.inf)
            logs = kept if not self.learned or np.isfinite(kept.max()) else logs
        top = logs.max()
        if top == -math.inf:
            return [0.0] * len(self.order)
        found = np.exp(logs - top)
        return list((found / found.sum()).tolist())

    def _rated(self) -> Any:
        """float[n]: logarithm of the probability of the answers, at the known rates of wrong ones."""
        import numpy as np

        logs = np.zeros(len(self.order))
        for candidate, said in self.answers.items():
            bads = sum(said)
            goods = len(said) - bads
            inside = _log(1 - self.false_good, bads) + _log(self.false_good, goods)
            outside = _log(self.false_bad, bads) + _log(1 - self.false_bad, goods)
            logs += np.where(self._row(self._position[candidate]), inside, outside)
        return logs

    def _learned(self) -> Any:
        """The same, where the rates are not known."""
        inside, outside = self._sides()
        return evidence(inside, outside, unsteady=self.unsteady).logs

    def _sides(self) -> tuple[Any, Any]:
        """Answers (like A, like B, like neither; int[n] each) of what would be bad, and of what would be good."""
        import numpy as np

        inside = [np.zeros(len(self.order), int) for _ in range(3)]
        total = list(self.good_end)
        for candidate, said in self.answers.items():
            row, unlike = self._row(self._position[candidate]), self.unlike.get(candidate, 0)
            for n, count in enumerate((len(said) - sum(said), sum(said) - unlike, unlike)):
                inside[n] += row * count
                total[n] += count
        return tuple(inside), tuple(t - x for t, x in zip(total, inside, strict=True))

    def belief(self, candidate: str) -> float:
        """Probability that this is the first bad one, with nothing known of how often answers are wrong."""
        import numpy as np

        logs = self._learned()
        return float(np.exp(logs[self._position[candidate]] - np.logaddexp.reduce(logs)))

    def _row(self, at: int) -> Any:
        """bool[n]: which candidates the one at ``at`` descends from, itself included."""
        import numpy as np

        raw = self._reach[at].to_bytes(len(self.order) // 8 + 1, "little")
        return np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")[: len(self.order)].astype(bool)

    @property
    def contradicted(self) -> bool:
        """No candidate explains every answer: there is noise, or the history is not monotone."""
        return not any(self.weights())

    def remaining(self) -> list[str]:
        """Candidates that may be the first bad one, with the weight of noise left out."""
        weights = self.weights()
        least = max(weights) * 1e-3 if self.noisy else 0.0
        return [c for c, w in zip(self.order, weights, strict=True) if w > least]

    def next(self) -> str | None:
        """The candidate to try next; None when the search has ended."""
        weights = self.weights()
        if not any(weights):
            return None
        if self.noisy:
            return self._next_noisy(weights)
        left = [n for n, w in enumerate(weights) if w > 0]
        if len(left) == 1:
            return None
        mask = sum(1 << n for n in left)
        end = left[-1] if self._reach[left[-1]] & mask == mask else -1
        open_ = [n for n in left if n != end and self.order[n] not in self.untestable]
        if not open_:
            return None
        counts = {n: (self._reach[n] & mask).bit_count() for n in left}
        chance = self._chances(left, counts)
        asked_through = sum(1 for n in open_ if chance[n] <= 0.05) <= _INSIDE_ASKED
        best, value = None, 0.0
        for n in open_:
            p = chance[n] if chance[n] > 0.05 or asked_through else 0.0
            worth = entropy(counts[n] / len(left)) * p + (_EDGE * entropy(p) if p > 0.05 else 0.0)
            if worth > value * (1 + 1e-9):
                best, value = n, worth
        return None if best is None else self.order[best]

    def several(self, most: int) -> list[str]:
        """Up to ``most`` candidates to try at once: the one of ``next``, then those that part what its answers would leave."""
        first = self.next()
        if first is None or most < 2:
            return [] if first is None else [first]
        weights = self.weights()
        if self.noisy:
            return [first, *self._spread(weights, first, most - 1)]
        left = [n for n, w in enumerate(weights) if w > 0]
        mask = sum(1 << n for n in left)
        chance = self._chances(left, {n: (self._reach[n] & mask).bit_count() for n in left})
        chosen = [self._position[first]]
        cells = _parted([mask], self._reach[chosen[0]])
        while len(chosen) < most:
            best, value = -1, 0.0
            for n in left:
                if n in chosen or self.order[n] in self.untestable or (chance[n] <= 0.05 and chance[chosen[0]] > 0.05):
                    continue
                worth = sum(c.bit_count() * entropy((c & self._reach[n]).bit_count() / c.bit_count()) for c in cells) * max(chance[n], 0.01)
                if worth > value * (1 + 1e-9):
                    best, value = n, worth
            if best < 0:
                break
            chosen.append(best)
            cells = _parted(cells, self._reach[best])
        return [self.order[n] for n in chosen]

    def _spread(self, weights: list[float], first: str, most: int) -> list[str]:
        """Candidates whose ancestors hold other shares of the probability, evenly spread."""
        import numpy as np

        masses = self._matrix @ np.array(weights, np.float32)
        taken = {self._position[first], len(self.order) - 1, *(self._position[c] for c in self.untestable)}
        found = []
        for k in range(1, most + 1):
            n = next((int(i) for i in np.argsort(np.abs(masses - k / (most + 1))) if int(i) not in taken), None)
            if n is not None:
                taken.add(n)
                found.append(self.order[n])
        return found

    def _next_noisy(self, weights: list[float]) -> str | None:
        leader = max(range(len(weights)), key=weights.__getitem__)
        if weights[leader] >= self.enough:
            return None
        hidden = sum(weights[n] for n, c in enumerate(self.order) if c in self.untestable)
        if hidden and hidden + weights[leader] >= self.enough and self.order[leader] in self.untestable:
            return None
        import numpy as np

        if self._matrix is None:
            self._matrix = np.stack([self._row(n) for n in range(len(self.order))]).astype(np.float32)
        if self.learned:
            inside, outside = ([int(x[leader]) for x in side] for side in self._sides())
            rates = rate(inside[0], sum(inside)), rate(outside[1] + outside[2], sum(outside))
        else:
            rates = self.false_good, self.false_bad
            if self._budget is None:
                self._budget = budget(len(self.order), max(rates))
            if (asked := self._budgeted()) is not None:
                return asked
        masses = (self._matrix @ np.array(weights, np.float32)).tolist()
        best, value = None, 0.0
        for n, candidate in enumerate(self.order):
            if candidate in self.untestable or n == len(self.order) - 1:
                continue
            worth = information(min(1.0, masses[n]), *rates)
            if worth > value * (1 + 1e-9):
                best, value = n, worth
        return None if best is None else self.order[best]

    def _budgeted(self) -> str | None:
        """The candidate that halves the ways in which the answers still to come may be wrong; None behind the budget."""
        import numpy as np

        assert self._budget is not None
        most, lies = self._budget
        after = most - sum(len(said) for said in self.answers.values()) - 1
        if after < 0:
            return None
        against = np.zeros(len(self.order), np.int64)
        for candidate, said in self.answers.items():
            row = self._row(self._position[candidate])
            against += np.where(row, len(said) - sum(said), sum(said))
        volume = np.array([0.0] + [float(sum(math.comb(after, j) for j in range(n + 1))) for n in range(lies + 1)])
        agrees = volume[np.maximum(lies - against, -1) + 1].astype(np.float32)
        denies = volume[np.maximum(lies - against - 1, -1) + 1].astype(np.float32)
        if not agrees.any():
            return None
        inside = self._matrix @ np.stack([agrees, denies], 1)
        says_bad, says_good = inside[:, 0] + (denies.sum() - inside[:, 1]), inside[:, 1] + (agrees.sum() - inside[:, 0])
        larger = np.maximum(says_bad, says_good)
        larger[[n for n, c in enumerate(self.order) if c in self.untestable or n == len(self.order) - 1]] = np.inf
        best = int(larger.argmin())
        return self.order[best] if np.isfinite(larger[best]) else None

    def _chances(self, left: list[int], counts: dict[int, int]) -> dict[int, float]:
        """Probability that each candidate can be tested, from its ancestors and descendants that are known."""
        every_blocked = [n for n in left if self.order[n] in self.untestable]
        if not every_blocked:
            return dict.fromkeys(left, 1.0)
        known = self.answers.keys() | {one for one, _ in self.alike}
        every_tested = [n for n in left if self.order[n] in known]
        found = {}
        for n in left:
            at = counts[n]
            if self.order[n] in self.untestable:
                found[n] = 0.0
                continue
            blocked = [counts[k] for k in every_blocked if self._related(n, k)]
            if not blocked:
                found[n] = 1.0
                continue
            tested = {0, len(left)} | {counts[k] for k in every_tested if self._related(n, k)}
            below_blocked = max((b for b in blocked if b <= at), default=None)
            above_blocked = min((b for b in blocked if b >= at), default=None)
            below_tested = max(t for t in tested if t <= at)
            above_tested = min(t for t in tested if t >= at)
            if below_blocked is not None and (below_blocked >= below_tested or above_blocked is None) and above_blocked is None:
                found[n] = _share(at - below_blocked, above_tested - at)
            elif above_blocked is not None and below_blocked is None:
                found[n] = _share(above_blocked - at, at - below_tested)
            elif below_blocked is not None and above_blocked is not None:
                between = sorted(t for t in tested if below_blocked < t < above_blocked)
                if not between:
                    found[n] = 0.04
                elif at <= between[0]:
                    found[n] = _share(at - below_blocked, between[0] - at)
                elif at >= between[-1]:
                    found[n] = _share(above_blocked - at, at - between[-1])
                else:
                    found[n] = 1.0
            else:
                found[n] = 1.0
        return found

    def _related(self, one: int, other: int) -> bool:
        """One of the two descends from the other."""
        low, high = sorted((one, other))
        return bool(self._reach[high] >> low & 1)

    def result(self) -> tuple[list[str], float]:
        """(candidates of which one is the first bad one, probability that it is among them).

        One candidate where it is known; several where untestable ones hide which; none where the answers contradict.
        """
        weights = self.weights()
        if not any(weights):
            return [], 0.0
        if not self.noisy:
            return self.remaining(), 1.0
        leader = max(range(len(weights)), key=weights.__getitem__)
        chosen = [leader]
        if self.order[leader] in self.untestable or any(p in self.untestable for p in self.parents.get(self.order[leader], ())):
            for n in sorted(range(len(weights)), key=lambda k: -weights[k]):
                if sum(weights[k] for k in chosen) >= self.enough:
                    break
                if n not in chosen:
                    chosen.append(n)
        return [self.order[n] for n in sorted(chosen)], sum(weights[n] for n in chosen)


def _parted(cells: list[int], reach: int) -> list[int]:
    return [part for c in cells for part in (c & reach, c & ~reach) if part]


def budget(n: int, wrong: float) -> tuple[int, int]:
    """(answers, wrong ones among them) with which one of ``n`` candidates is told, where an answer is wrong with this probability.

    The fewest answers whose number of wrong ones stays within the bound with probability ``_BUDGETED``, and for which the
    ways in which up to that many may be wrong, times the candidates, fit into the outcomes (Berlekamp's volume bound);
    (0, 0) where sixty do not suffice.
    """
    for answers in range(1, 61):
        within = 0.0
        ways = lies = 0
        for lies in range(answers + 1):
            ways += math.comb(answers, lies)
            within += math.comb(answers, lies) * wrong**lies * (1 - wrong) ** (answers - lies)
            if within >= _BUDGETED:
                break
        if n * ways <= 2**answers:
            return answers, lies
    return 0, 0


def _share(near: int, far: int) -> float:
    """Where an edge lies equally likely anywhere between: the probability of being on the testable side."""
    return near / (near + far) if near + far else 0.0


def _log(p: float, times: int) -> float:
    if times == 0:
        return 0.0
    return -math.inf if p <= 0 else math.log(p) * times
