"""Which of several differences: items that are each at A's or at B's value, and the smallest set of them that matters.

Both ends are tried and repeated; then sets of items are put to B's value until the smallest one is found that makes the
difference; then the opposite is tried, B with that set at A's value. Where that still differs there is a second cause, and
the search goes on without the first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from reprodebug._base.text import listed_words, plural
from reprodebug.bisect.lab import End, EndsDoNotReproduce, Lab, Wanted
from reprodebug.bisect.search.noise import decided, rate
from reprodebug.bisect.search.sets import solve
from reprodebug.bisect.suspicion import named
from reprodebug.bisect.trial import Candidate, Untestable
from reprodebug.model.comparison import Divergence
from reprodebug.model.experiment import ENDS, FOUND, INCONCLUSIVE, NOT_FOUND, UNTESTABLE, Bisection, Trial
from reprodebug.model.progress import PROVING, SEARCHING

_REPEATS = 4
_FLOOR = 0.02
_ROUNDS = 4
"""independent causes looked for"""


@dataclass(slots=True)
class Choice:
    """What may be at A's or B's value."""

    axis: str
    items: list[str]
    make: Callable[[frozenset[str]], Candidate]
    """the candidate with these items at B's value and the others at A's"""
    weights: Mapping[str, float] = field(default_factory=dict)
    blind: Mapping[str, str] = field(default_factory=dict)
    """items that differ and cannot be imposed -> why"""
    ends: tuple[str, str] = ("", "")
    """names of A and B in the session, where another question has tried the same candidates"""
    beside: str = ""
    """what else is at B's value, for the candidates' texts"""
    name: Callable[[frozenset[str]], str] | None = None
    """names of all candidates in the session"""
    held: set[str] = field(default_factory=set)
    """items that have to stay at A's value, whatever else would need them at B's"""


@dataclass(slots=True)
class Decided:
    """What came out of a choice, for the axis to say in its own words."""

    outcome: str
    reason: str
    items: tuple[str, ...] = ()
    together: tuple[tuple[str, ...], ...] = ()
    causes: tuple[tuple[str, ...], ...] = ()
    """the items, those that are needed together in one: each such set makes a difference by itself"""
    first: Divergence | None = None
    confidence: float = 0.0
    bound: str = ""
    notes: list[str] = field(default_factory=list)
    necessary: bool = False
    """B with these items at A's value was tried and is equal to A"""
    sufficient: bool = False
    """A with these items at B's value was tried and differs"""

    def bisection(self, lab: Lab, axis: str) -> Bisection:
        """As the result of a search; its culprit is still empty."""
        return Bisection(
            self.outcome, axis, self.reason, first=self.first, confidence=round(self.confidence, 4), bound=self.bound,
            trials=tuple(lab.made), wall_seconds=round(time.monotonic() - lab.started, 3), notes=tuple(self.notes), session=lab.session.path,
        )  # fmt: skip


class _Bench:
    """Tries sets, as often as the noise asks for."""

    def __init__(self, lab: Lab, choice: Choice) -> None:
        self.lab, self.choice = lab, choice
        self.false_bad = self.false_good = 0.0
        self.known: dict[frozenset[str], bool | None] = {}
        self.firsts: dict[frozenset[str], Divergence] = {}

    def trial(self, chosen: frozenset[str], attempt: int = 0) -> Trial:
        trial = self.lab.try_(key(self.choice, chosen), text(self.choice, chosen), lambda: self.choice.make(chosen), attempt)
        if trial.first is not None:
            self.firsts[chosen] = trial.first
        return trial

    def wanted(self, chosen: frozenset[str], attempt: int = 0) -> Wanted:
        return Wanted(key(self.choice, chosen), text(self.choice, chosen), lambda: self.choice.make(chosen), attempt)

    def ahead(self, questions: list[frozenset[str]]) -> None:
        """Try several sets at once, where trials may run at the same time."""
        self.lab.ahead([self.wanted(q) for q in questions if q not in self.known])

    def bad(self, chosen: frozenset[str], offset: int = 0) -> bool | None:
        """Whether a set makes the difference; None where it cannot be tried."""
        if offset == 0 and chosen in self.known:
            return self.known[chosen]
        if not (self.false_bad or self.false_good):
            said = self.trial(chosen, offset).bad
        else:
            bads = goods = 0
            said = None
            for n in range(30):
                if n % self.lab.executor.slots == 0:
                    self.lab.ahead([self.wanted(chosen, offset + n + k) for k in range(self.lab.executor.slots)])
                one = self.trial(chosen, offset + n).bad
                if one is None:
                    break
                bads, goods = bads + one, goods + (not one)
                said = decided(bads, goods, self.false_bad, self.false_good)
                if said is not None:
                    break
        self.known[chosen] = said
        return said

    def ahead_within(self, scope: frozenset[str], questions: list[frozenset[str]]) -> None:
        if not (self.false_bad or self.false_good):
            self.ahead([q for q in questions if q != scope])

    def within(self, scope: frozenset[str], chosen: frozenset[str]) -> bool | None:
        """The same, where ``scope`` is known to make it."""
        return True if chosen == scope else self.bad(chosen)


def _tell(lab: Lab, total: int, found: tuple[str, ...], kept: list[str], rest: list[str]) -> None:
    lab.remain("set", rest, total, math.ceil(math.log2(max(1, len(rest)))) + 2, (*found, *kept))


def key(choice: Choice, chosen: frozenset[str]) -> str:
    """The name of a candidate in the session."""
    if choice.name is not None:
        return choice.name(chosen)
    if choice.ends[0] and not chosen:
        return choice.ends[0]
    if choice.ends[1] and len(chosen) == len(choice.items):
        return choice.ends[1]
    kept = "~" + ",".join(sorted(choice.held)) if choice.held else ""
    return f"{choice.axis}{kept}:" + ("B" if len(chosen) == len(choice.items) else ",".join(sorted(chosen)) or "A")


def text(choice: Choice, chosen: frozenset[str]) -> str:
    """A candidate in words."""
    if not chosen:
        return f"A{choice.beside}"
    if len(chosen) == len(choice.items):
        return "B" if not choice.beside else f"A with everything of B along this axis{choice.beside}"
    words = sorted(chosen) if len(chosen) <= 8 else [*sorted(chosen)[:7], f"{len(chosen) - 7} more"]
    return f"A with {listed_words(words)} of B{choice.beside}"


def decide(lab: Lab, choice: Choice) -> Decided:
    """Find the smallest set of items that makes the difference."""
    items = choice.items
    everything: frozenset[str] = frozenset(items)
    notes = [f"{name} differs and could not be tried: {why}" for name, why in choice.blind.items()]
    bench = _Bench(lab, choice)
    empty: frozenset[str] = frozenset()
    a = End(key(choice, empty), text(choice, empty), lambda: choice.make(empty))
    b = End(key(choice, everything), text(choice, everything), lambda: choice.make(everything))
    bound = f"log2 of the sets of one among {plural(len(items), 'item')}: {math.log2(max(1, len(items))):.1f}"
    lab.axis = choice.axis.partition(" ")[0]
    try:
        first = lab.part(a, b)
        wide = lab.wide
    except Untestable as error:
        return Decided(INCONCLUSIVE, error.message, notes=notes, bound=bound)
    except EndsDoNotReproduce as error:
        return Decided(ENDS, error.message, notes=notes, bound=bound)
    if first is None and not lab.probe:
        for n in range(1, _REPEATS):  # a difference may show only now and then
            again = bench.trial(everything, n)
            if again.bad:
                first = again.first
                lab.narrow(first)
                break
        else:
            what = "what was put to B's value" if not choice.blind else "what could be put to B's value"
            return Decided(ENDS if not choice.blind else NOT_FOUND, f"with {what} the run still equals A", notes=notes, bound=bound)
    why = "" if lab.probe else _verify(bench, everything)
    if why:
        return Decided(ENDS, why, notes=notes, bound=bound)
    weights = dict(choice.weights)
    if not lab.probe and first is not None and len(items) > 1:
        for item, suspicion in named(lab.reference, lab.other, items).items():
            weights[item] = weights.get(item, 1.0) * (1 + 20 * suspicion)
    found: list[str] = []
    together: list[tuple[str, ...]] = []
    causes: list[tuple[str, ...]] = []
    necessary = False
    rest = list(items)
    scope, sufficient = everything, True
    firsts: list[Divergence | None] = []
    for _ in range(_ROUNDS):
        lab.phase(SEARCHING)
        answer = solve(rest, weights, partial(bench.within, scope), partial(_tell, lab, len(items), tuple(found)),
                       lab.executor.slots, partial(bench.ahead_within, scope))  # fmt: skip
        if frozenset(answer.items) != scope and bench.bad(frozenset(answer.items)) is False:
            return Decided(
                INCONCLUSIVE, f"{listed_words(answer.items)} was singled out and makes no difference alone: the items act on each other",
                notes=notes, first=first, bound=bound,
            )  # fmt: skip
        found += answer.items
        together += answer.together
        causes.append(answer.items)
        first_of = bench.firsts.get(frozenset(found)) if not firsts else None
        firsts.append(first_of or first)
        sufficient = sufficient and (bench.known.get(frozenset(answer.items)) is True or frozenset(answer.items) == scope)
        rest = [i for i in rest if i not in answer.items]
        if not rest:
            necessary = True  # all of them: that is A itself
            break
        choice.held.update(answer.items)
        # the opposite, watched as long as both ends were: what parts later has a cause of its own
        lab.phase(PROVING)
        lab.left = 1
        lab.horizon = wide
        scope = frozenset(rest)
        bench.known.clear()
        said = bench.bad(scope)
        if said is not True:
            necessary = said is False
            break
        notes.append(f"without {listed_words(found)} the runs still part, later or otherwise: what else is needed was searched too")
        lab.narrow(bench.firsts.get(scope))
    lab.left = None
    chosen = frozenset(found)
    noisy = bool(bench.false_bad or bench.false_good)
    confidence = (0.99 if necessary else 0.9) if not noisy else 0.95
    if together:
        confidence = min(confidence, 0.75)
        notes += [f"{listed_words(group)} could not be told apart: no set between could be tried" for group in together]
    return Decided(
        FOUND, "", tuple(i for i in items if i in chosen), tuple(together), tuple(causes), firsts[0], confidence, bound, notes,
        necessary, sufficient,
    )  # fmt: skip


def _verify(bench: _Bench, everything: frozenset[str]) -> str:
    """Repeat both ends; a sentence where they do not reproduce."""
    rates = []
    bench.ahead([frozenset(), everything])
    for end, wanted in ((frozenset[str](), False), (everything, True)):
        trial = bench.trial(end, 0)
        if trial.verdict == UNTESTABLE:
            return f"{trial.candidate} could not be repeated: {trial.reason}"
        wrong = [trial.bad is not wanted]
        if wrong[0]:
            bench.lab.ahead([bench.wanted(end, n) for n in range(1, _REPEATS + 1)])
            wrong += [bench.trial(end, n).bad is not wanted for n in range(1, _REPEATS + 1)]
        rates.append((sum(wrong), len(wrong)))
    (wrong_a, tries_a), (wrong_b, tries_b) = rates
    if wrong_a * 2 >= tries_a:
        return (
            f"A does not repeat itself: {wrong_a} of {tries_a} repetitions differed from it; find what makes it vary first"
            " (`reprodebug check --minimize -- COMMAND`)"
        )
    if wrong_b == tries_b:
        return f"B was equal to A in {plural(wrong_b, 'repetition')}: the difference does not reproduce"
    if wrong_a or wrong_b:
        bench.false_bad = max(_FLOOR, rate(wrong_a, tries_a) if wrong_a else 0.0)
        bench.false_good = max(_FLOOR, rate(wrong_b, tries_b) if wrong_b else 0.0)
    return ""
