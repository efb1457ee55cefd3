"""How sure it is that a set of items is the smallest one that makes the difference, where trials may contradict each other.

The hypotheses are everything inside of a set that was found, itself included, every single item outside, and both together. A trial of a set
shows the difference if the hypothesis lies in the set. How often trials are wrong is not known and is integrated out
(``noise.evidence``). The next question is the one whose answer is expected to tell most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from reprodebug.bisect.search.noise import Evidence, evidence, rate

WHOLE = 10
"""parts of a set up to which everything inside of it is a hypothesis; above, only what lacks one part"""
_EXPECTED, _FEARED = 0.7, 2.3
"""culprits among all items, on average, before anything is known; and for choosing questions, so that many take few as well"""
_ITSELF = 1.05
"""worth of a question about the leader against one that tells as much: an answer has to be tried itself in the end"""


@dataclass(frozen=True, slots=True)
class Belief:
    """What the trials so far say."""

    leader: frozenset[str]
    probability: float
    settled: bool
    """the leader explains every trial, and nothing else does"""
    contradicted: bool
    """no hypothesis explains every trial"""
    rates: tuple[float, float]
    """with the leader: how often a set that makes the difference shows none, and how often another one shows one; 0 where no trial said so"""
    question: frozenset[str] | None
    """the set whose trial tells most; None where none tells anything"""
    chances: Mapping[str, float]
    """item -> probability that the answer holds it"""
    reached: float
    """probability of the leader and of all that no set that can be tried tells from it"""
    bits: float
    """what is not known yet"""


@dataclass(slots=True)
class Sets:
    """``parts``: what the found set consists of; ``scope``: all items; ``suspicion``: item -> a positive weight, 1 where not given."""

    parts: Sequence[frozenset[str]]
    scope: frozenset[str]
    suspicion: Mapping[str, float] = field(default_factory=dict)
    _bits: dict[str, int] = field(default_factory=dict)
    _hypotheses: list[frozenset[str]] = field(default_factory=list)
    _masks: Any = None
    _prior: Any = None
    _sizes: Any = None
    _held: Any = None

    def __post_init__(self) -> None:
        import numpy as np

        n = len(self.parts)
        sizes = range(1, n + 1) if n <= WHOLE else (n - 1, n)
        inside = [some for k in sizes for some in combinations(self.parts, k)]
        for i in sorted(self.scope.difference(*self.parts)):
            inside += [(frozenset([i]),), (*self.parts, frozenset([i]))]
        self._hypotheses = [frozenset[str]().union(*some) for some in inside]
        self._bits = {i: 1 << n for n, i in enumerate(sorted(self.scope))}
        self._masks = np.array([self._mask(h) for h in self._hypotheses], np.int64 if len(self.scope) < 63 else object)
        total = sum(self.suspicion.get(i, 1.0) for i in self.scope)
        odds = {p: min(1.0, _EXPECTED * max(self.suspicion.get(i, 1.0) for i in p) / total) for some in inside for p in some}
        self._prior = np.array([sum(math.log(odds[p]) for p in some) for some in inside])
        self._sizes = np.array([len(some) for some in inside])

    def _mask(self, chosen: frozenset[str]) -> int:
        return sum(self._bits[i] for i in chosen)

    def _holds(self, chosen: frozenset[str]) -> Any:
        """bool[n]: which hypotheses a set holds."""
        return (self._masks & ~self._mask(chosen)) == 0

    def weigh(
        self, answers: Mapping[frozenset[str], tuple[int, int, int]], *, unsteady: bool = False, untestable: Sequence[frozenset[str]] = ()
    ) -> Belief:
        """``answers``: how many trials of each set were like A, like B and like neither; A itself is the empty set."""
        import numpy as np

        inside, outside = ([np.zeros(len(self._hypotheses), int) for _ in range(3)] for _ in range(2))
        for chosen, counts in answers.items():
            holds = self._holds(chosen)
            for n, count in enumerate(counts):
                inside[n] += holds * count
                outside[n] += ~holds * count
        said = evidence(tuple(inside), tuple(outside), unsteady=unsteady)  # type: ignore[arg-type]
        logs = self._prior + said.logs
        shares = np.exp(logs - np.logaddexp.reduce(logs))
        feared = np.exp(logs + self._sizes * math.log(_FEARED / _EXPECTED) - logs.max())
        best = int(shares.argmax())
        explains = (inside[0] == 0) & (outside[1] == 0) & (outside[2] == 0)
        (good, *bads), (equal, *odd) = ([int(x[best]) for x in side] for side in (inside, outside))
        rates = rate(good, good + sum(bads)), rate(sum(odd), equal + sum(odd)) if sum(odd) else 0.0
        asked, held = self._askable(self._hypotheses[best], frozenset(untestable))
        return Belief(
            self._hypotheses[best], float(shares[best]), bool(explains[best]) and explains.sum() == 1, not explains.any(), rates,
            self._question(self._hypotheses[best], feared / feared.sum(), said, asked, held),
            {i: float(shares[(self._masks & bit) != 0].sum()) for i, bit in self._bits.items()},
            float(shares[(held == held[:, best : best + 1]).all(0)].sum()),
            float(-(shares * np.log2(np.maximum(shares, 1e-300))).sum()),
        )  # fmt: skip

    def _askable(self, leader: frozenset[str], untestable: frozenset[frozenset[str]]) -> tuple[list[frozenset[str]], Any]:
        """(sets that may be asked about, bool[m, n]: which hypotheses each holds)."""
        import numpy as np

        whole = frozenset[str]().union(*self.parts)
        if len(self.parts) <= WHOLE and whole == self.scope:
            asked = self._hypotheses  # in the order of their sizes
            if self._held is None:
                self._held = (self._masks & ~self._masks[:, None]) == 0
            held = self._held
        else:
            among = {leader, whole, *(x - p for x in (leader, whole) for p in self.parts), *self.parts}
            asked = sorted(among - {frozenset()}, key=lambda c: (len(c), sorted(c)))
            held = np.array([self._holds(c) for c in asked])
        kept = np.array([c != self.scope and c not in untestable for c in asked])
        return [c for c, may in zip(asked, kept, strict=True) if may], held[kept]

    def _question(
        self, leader: frozenset[str], shares: Any, said: Evidence, asked: list[frozenset[str]], held: Any
    ) -> frozenset[str] | None:
        import numpy as np
        from scipy.special import entr

        def unknown(chance: Any) -> Any:
            return entr(chance) + entr(1 - chance)

        def expected(within: Any, without: Any) -> Any:  # over the hypotheses, for each question
            return held @ (shares * (within - without)) + float(shares @ without)

        worth = unknown(np.clip(expected(said.shows, said.odd), 0, 1)) - expected(unknown(said.shows), unknown(said.odd))
        best, value = None, 1e-9
        for chosen, told in zip(asked, worth.tolist(), strict=True):
            told *= _ITSELF if chosen == leader else 1.0
            if told > value * (1 + 1e-9):
                best, value = chosen, told
        return best


def most(n: int, k: int) -> int:
    """Trials that the search for ``k`` of ``n`` items may take where nothing contradicts, ends and confirmation included."""
    bits = math.log2(math.comb(n, k))
    return math.floor(min(1.6 * bits + 5, 1.45 * bits + 6))
