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
from reprodebug.bisect.search.belief import WHOLE, Sets, most
from reprodebug.bisect.search.noise import decided, odds, patient, rate, unseen
from reprodebug.bisect.search.sets import solve
from reprodebug.bisect.suspicion import named
from reprodebug.bisect.trial import Candidate, Untestable
from reprodebug.model.comparison import Divergence
from reprodebug.model.experiment import (
    ENDS,
    FOUND,
    INCONCLUSIVE,
    NOT_FOUND,
    OTHER,
    SAME_AS_A,
    SAME_AS_B,
    UNTESTABLE,
    Bisection,
    Trial,
)  # fmt: skip
from reprodebug.model.progress import CONFIRMING, PROVING, SEARCHING, Note

_REPEATS = 4
_FLOOR = 0.02
_SURE, _LIKELY = 0.99, 0.8
"""probability at which a set counts as the smallest one; and with which it has to do where more trials would be too many"""
_MOST_OF_ONE, _MOST_NOISY = 30, 80
"""trials of one set until they decide, and of all sets, first to find the answer and then to prove it, where trials contradict"""
_CLASSES = (SAME_AS_A, SAME_AS_B, OTHER)
_AGAIN = 2
"""further trials of what speaks for several causes"""
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


@dataclass(frozen=True, slots=True)
class Proved:
    """What the trials of a search over sets come down to."""

    items: frozenset[str]
    probability: float
    odd: bool = False
    """there were trials of sets without it that differ from A"""
    beside: frozenset[str] = frozenset()
    """those of the items without which the others could not be tried"""


class _Bench:
    """Tries sets, as often as the noise asks for, and counts what every trial said."""

    def __init__(self, lab: Lab, choice: Choice) -> None:
        self.lab, self.choice = lab, choice
        self.false_bad = self.false_good = 0.0
        self.unsteady = False
        """B was seen to vary"""
        self.repeated = False
        """A was run again"""
        self.firsts: dict[frozenset[str], Divergence] = {}
        self._until = len(lab.made) + _MOST_NOISY
        self.forget()

    def forget(self) -> None:
        """Another question begins: what the trials said of the one before does not count for it."""
        self.several = False
        """more than one set makes the difference by itself"""
        self.known: dict[frozenset[str], bool | None] = {}
        self.counts: dict[frozenset[str], list[int]] = {}
        """set -> trials that were like A, like B, like neither"""
        self._made: dict[tuple[str, object], int] = {}

    @property
    def noisy(self) -> bool:
        return bool(self.false_bad or self.false_good)

    @property
    def equal(self) -> bool:
        """Some trial was equal to A: A repeats itself."""
        return self.repeated or any(like_a for like_a, *_ in self.counts.values())

    def count(self, chosen: frozenset[str], trial: Trial | None) -> None:
        """A trial that was made of a set; None: one that says nothing, as it is what the others are compared with."""
        at = key(self.choice, chosen), self.lab.horizon
        self._made[at] = self._made.get(at, 0) + 1
        if trial is None:
            return
        if trial.verdict in _CLASSES:
            self.counts.setdefault(chosen, [0, 0, 0])[_CLASSES.index(trial.verdict)] += 1
        if trial.first is not None:
            self.firsts[chosen] = trial.first

    def trial(self, chosen: frozenset[str]) -> Trial:
        """One more trial of a set. Raises EndsDoNotReproduce."""
        trial = self.lab.ask(self.wanted(chosen))
        self.count(chosen, trial)
        if trial.verdict == OTHER and chosen and not self.equal:
            self.repeat_a()
        return trial

    def wanted(self, chosen: frozenset[str], ahead: int = 0) -> Wanted:
        """The next trial of a set, or one ``ahead`` of it."""
        name = key(self.choice, chosen)
        attempt = self._made.get((name, self.lab.horizon), 0) + ahead
        return Wanted(name, text(self.choice, chosen), lambda: self.choice.make(chosen), attempt)

    def ahead(self, questions: list[frozenset[str]]) -> None:
        """Try several sets at once, where trials may run at the same time."""
        self.lab.ahead([self.wanted(q) for q in questions if q not in self.known])

    def repeats(self, end: frozenset[str], wanted: bool) -> list[Trial]:
        """Trials of an end: one more, and some if it is not as it was. Raises Untestable."""
        made = [self.trial(end)]
        if made[0].verdict == UNTESTABLE:
            raise Untestable(f"{made[0].candidate} could not be repeated: {made[0].reason}")
        if made[0].bad is not wanted:
            self.lab.ahead([self.wanted(end, n) for n in range(_REPEATS)])
            made += [self.trial(end) for _ in range(_REPEATS)]
        while wanted and not any(t.bad for t in made) and patient([t.seconds for t in made]):
            made.append(self.trial(end))
        return made

    def repeat_a(self) -> None:
        """Run A again, once in a search. Raises EndsDoNotReproduce where it varies too much to compare anything with it."""
        if self.repeated:
            return
        self.repeated = True
        made = self.repeats(frozenset(), False)
        wrong = sum(t.bad is not False for t in made)
        if wrong * 2 >= len(made):
            raise EndsDoNotReproduce(
                f"A does not repeat itself: {wrong} of {plural(len(made), 'repetition')} differed from it; find what makes it vary first"
                " (`reprodebug check --minimize -- COMMAND`)"
            )
        if wrong:
            self.vary(_FLOOR, rate(wrong, len(made)))

    def vary(self, false_good: float, false_bad: float) -> None:
        """From here on a set is tried until the trials decide."""
        self.false_good, self.false_bad = max(_FLOOR, self.false_good, false_good), max(_FLOOR, self.false_bad, false_bad)

    def bad(self, chosen: frozenset[str]) -> bool | None:
        """Whether a set makes the difference; None where it cannot be tried."""
        if chosen in self.known:
            return self.known[chosen]
        tried = self.counts.get(chosen)
        said: bool | None = None
        if not self.noisy:
            said = not tried[0] if tried else self.trial(chosen).bad
        if self.noisy:
            for n in range(_MOST_OF_ONE):
                like_a, *other = self.counts.get(chosen, [0, 0, 0])
                said = decided(sum(other), like_a, self.false_bad, self.false_good)
                if said is not None or (n and len(self.lab.made) >= self._until):
                    break
                if n % self.lab.executor.slots == 0:
                    self.lab.ahead([self.wanted(chosen, k) for k in range(self.lab.executor.slots)])
                if self.trial(chosen).bad is None:
                    self.known[chosen] = None
                    return None
            if said is None:
                like_a, *other = self.counts.get(chosen, [0, 0, 0])
                said = odds(sum(other), like_a, self.false_bad, self.false_good) > 0
        self.known[chosen] = said
        return said

    def shows_several(self) -> bool:
        """Whether the trials, which no single set explains, are those of several sets that each make the difference: what is more
        never makes less of it, and the sets that rule every single one out do again what they did. Raises EndsDoNotReproduce."""
        bads = {c for c, n in self.counts.items() if sum(n[1:])}
        goods = {c for c, n in self.counts.items() if n[0]}
        if any(good >= bad for good in goods for bad in bads):
            return False
        least = [c for c in bads if not any(c > other for other in bads)]
        common = frozenset[str].intersection(*least)
        less = sorted((c for c in goods if c and c >= common), key=len)[-1:] if common else []
        for chosen, was in [*((c, True) for c in sorted(least, key=sorted)), *((c, False) for c in less)]:
            if any(self.trial(chosen).bad is not was for _ in range(_AGAIN)):
                return False
        self.several = True
        return True

    def ahead_within(self, scope: frozenset[str], questions: list[frozenset[str]]) -> None:
        if not self.noisy:
            self.ahead([q for q in questions if q != scope])

    def within(self, scope: frozenset[str], chosen: frozenset[str]) -> bool | None:
        """The same, where ``scope`` is known to make it."""
        return True if chosen == scope else self.bad(chosen)

    def proved(
        self, parts: list[frozenset[str]], scope: frozenset[str], weights: Mapping[str, float], spare: Callable[[int], int],
        found: tuple[str, ...] = (),
    ) -> Proved | None:  # fmt: skip
        """The smallest set within the union of ``parts``, tried until it is sure. ``spare``: trials that may still be made, where
        nothing contradicts, for an answer of so many items. None where ``parts`` are all there is and no single set is the answer, or
        one cannot be tried."""
        sets = Sets(parts, scope, weights)
        blocked = [c for c, said in self.known.items() if said is None]
        contradicted = self.noisy
        union = frozenset[str]().union(*parts)
        whole = scope.issubset(union)
        for _ in range(_MOST_NOISY):
            counted = {c: (n[0], n[1], n[2]) for c, n in self.counts.items() if not (self.several and _beside(c, n, union))}
            belief = sets.weigh(counted, unsteady=self.unsteady, untestable=blocked)
            if whole:
                sure = tuple(i for i, chance in belief.chances.items() if chance > _SURE)
                rest = [i for i, chance in belief.chances.items() if 1 - _SURE < chance <= _SURE]
                self.lab.remain("set", rest, len(self.choice.items), math.ceil(belief.bits) + 1, (*found, *sure))
            if belief.contradicted and not contradicted:
                if whole and self.shows_several():
                    self.lab.listen(Note("several sets make the difference, each by itself: one is searched after the other"))
                    return None
                contradicted = True
                self.lab.listen(Note("trials contradict each other: the search goes on by probabilities"))
            question = belief.question
            tried = belief.leader == scope or belief.leader in blocked or any(self.counts.get(belief.leader, [0])[1:])
            likely = belief.settled and belief.probability >= _LIKELY and not contradicted
            left = spare(len(belief.leader)) if likely else _MOST_NOISY
            if left <= (not tried) or belief.reached >= _SURE:
                if tried:
                    break
                question = belief.leader  # found by what lies around it: it is to show the difference itself
            if question is None:
                break
            if self.trial(question).verdict == UNTESTABLE:
                self.known[question] = None
                blocked.append(question)
                if whole:
                    return None
        if contradicted:
            self.false_good, self.false_bad = (max(_FLOOR, x) for x in belief.rates)
            self.known = {c: said for c, said in self.known.items() if said is None}
        items = belief.leader
        if items in blocked:
            shown = [c for c, counts in self.counts.items() if c > items and sum(counts[1:]) > 0]
            items = min(shown, key=len, default=items)
        probability = belief.probability if items == belief.leader else belief.reached
        return Proved(items, probability, contradicted and belief.rates[1] > 0, items - belief.leader)


def _beside(chosen: frozenset[str], counts: list[int], other: frozenset[str]) -> bool:
    """Whether the trials of a set that makes the difference say nothing of ``other``: it is neither part of it nor does it hold it."""
    return sum(counts[1:]) > 0 and not chosen <= other and not chosen >= other


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
    bound = f"log2 of the sets of one among {plural(len(choice.items), 'item')}: {math.log2(max(1, len(choice.items))):.1f}"
    notes = [f"{name} differs and could not be tried: {why}" for name, why in choice.blind.items()]
    bench = _Bench(lab, choice)
    lab.axis = choice.axis.partition(" ")[0]
    before = len(lab.made)
    try:
        first = _parted(bench)
        if first is None and not lab.probe:
            what = "what was put to B's value" if not choice.blind else "what could be put to B's value"
            tried = bench.counts[frozenset(choice.items)][0]
            why = f"with {what} the run still equals A, in {plural(tried, 'trial')}"
            return Decided(ENDS if not choice.blind else NOT_FOUND, why, notes=[*notes, unseen(tried)], bound=bound)
        return _searched(bench, first, before, notes, bound)
    except Untestable as error:
        return Decided(INCONCLUSIVE, error.message, notes=notes, bound=bound)
    except EndsDoNotReproduce as error:
        return Decided(ENDS, error.message, notes=notes, bound=bound)


def _parted(bench: _Bench) -> Divergence | None:
    """Run both ends, and B again: where they part. A is repeated by every trial that equals it; where B's repetition is not
    what B was, A is run again at once. Raises Untestable, EndsDoNotReproduce."""
    lab, choice = bench.lab, bench.choice
    everything, empty = frozenset(choice.items), frozenset[str]()
    a = End(key(choice, empty), text(choice, empty), lambda: choice.make(empty))
    b = End(key(choice, everything), text(choice, everything), lambda: choice.make(everything))
    first = lab.part(a, b)
    assert b.trial is not None
    bench.count(empty, a.trial if lab.probe else None)
    bench.count(everything, b.trial)
    made = [b.trial]
    while not made[-1].bad and patient([t.seconds for t in made]):  # a difference may show only now and then
        made.append(bench.trial(everything))
        first = made[-1].first
        lab.narrow(first)
    if not made[-1].bad:
        if lab.probe:
            raise EndsDoNotReproduce(f"the probe says that {b.text} is good, in {plural(len(made), 'trial')}")
        return None
    if lab.executor.slots > 1:
        bench.ahead([empty, everything])
        bench.repeat_a()
    said = bench.repeats(everything, True)
    if any(t.verdict != SAME_AS_B for t in said) or len(made) > 1:
        bench.repeat_a()
    wrong = [t.bad is not True for t in said]
    if all(wrong):
        raise EndsDoNotReproduce(f"B was equal to A in {plural(len(wrong), 'repetition')}: the difference does not reproduce")
    bench.unsteady = any(t.verdict != SAME_AS_B for t in said)
    if any(wrong) or len(made) > 1:
        bench.vary(rate(sum(wrong) + len(made) - 1, len(wrong) + len(made)), 0.0)
    return first


def _searched(bench: _Bench, first: Divergence | None, before: int, notes: list[str], bound: str) -> Decided:
    """The search between two ends that part; ``before``: trials that were made for something else."""
    lab, choice = bench.lab, bench.choice
    items = choice.items
    wide = lab.wide
    weights = dict(choice.weights)
    if not lab.probe and first is not None and len(items) > 1:
        for item, suspicion in named(lab.reference, lab.other, items).items():
            weights[item] = weights.get(item, 1.0) * (1 + 20 * suspicion)
    found: list[str] = []
    together: list[tuple[str, ...]] = []
    needing: list[tuple[str, ...]] = []
    """causes of which a part could not be tried without the rest"""
    causes: list[tuple[str, ...]] = []
    necessary = False
    rest = list(items)
    scope, sufficient = frozenset(items), True
    sure, where = 0.99, first
    for _ in range(_ROUNDS):
        grouped, proof = _smallest(bench, rest, scope, weights, tuple(found), before)
        if proof is None:
            return Decided(
                INCONCLUSIVE, f"{listed_words(grouped[0])} was singled out and makes no difference alone: the items act on each other",
                notes=notes, first=first, bound=bound,
            )  # fmt: skip
        if bench.noisy and proof.probability < 0.9:
            return Decided(INCONCLUSIVE, f"trials contradict each other, and after {len(lab.made)} of them no set is likely enough",
                           notes=notes, first=first, bound=bound)  # fmt: skip
        chosen, sure = proof.items, min(sure, proof.probability)
        cause = tuple(i for i in items if i in chosen)
        where = first if found else bench.firsts.get(chosen) or first  # of several causes: where B parts from A
        found += cause
        together += [group for group in grouped if chosen.issuperset(group)]
        if proof.beside:
            together.append(cause)
            needing.append(cause)
            notes.append(f"{listed_words(sorted(chosen - proof.beside))} could not be tried without {listed_words(sorted(proof.beside))}")
        causes.append(cause)
        sufficient = sufficient and (chosen == scope or sum(bench.counts.get(chosen, [0])[1:]) > 0)
        rest = [i for i in rest if i not in chosen]
        if not rest:
            necessary = True  # all of them: that is A itself
            if not bench.equal:
                bench.repeat_a()
            break
        choice.held.update(chosen)
        # the opposite, watched as long as both ends were: what parts later has a cause of its own
        lab.phase(PROVING)
        lab.left = 1
        lab.horizon = wide
        scope = frozenset(rest)
        equal = bench.equal
        bench.forget()
        said = bench.bad(scope)
        if not equal and said is not False:
            bench.repeat_a()
        if said and not bench.noisy and bench.trial(scope).bad is False:
            bench.vary(_FLOOR, rate(1, 2))
            bench.known.clear()
            said = bench.bad(scope)
        if said is not True:
            necessary = said is False
            break
        notes.append(f"without {listed_words(found)} the runs still part, later or otherwise: what else is needed was searched too")
        lab.narrow(bench.firsts.get(scope))
    lab.left = None
    confidence = min(sure, 0.99 if necessary else 0.9)
    if sure < 0.9:
        notes.append(f"that it takes all of {listed_words(found)} rests on few trials: the answer may hold more than it has to")
    if bench.noisy:
        notes.append("trials of one set contradict each other: the answer rests on probabilities")
    if together:
        confidence = min(confidence, 0.75)
        apart = dict.fromkeys(together)
        notes += [
            f"{listed_words(group)} could not be told apart: no set between could be tried" for group in apart if group not in needing
        ]
    return Decided(
        FOUND, "", tuple(i for i in items if i in found), tuple(together), tuple(causes), where, confidence, bound, notes,
        necessary, sufficient,
    )  # fmt: skip


def _smallest(
    bench: _Bench, rest: list[str], scope: frozenset[str], weights: Mapping[str, float], found: tuple[str, ...], before: int
) -> tuple[tuple[tuple[str, ...], ...], Proved | None]:  # fmt: skip
    """(groups that could not be told apart, the smallest set); for None the first group is what makes no difference alone."""
    lab, total = bench.lab, len(bench.choice.items)

    def spare(size: int) -> int:
        return most(total, min(total, len(found) + size)) - (len(lab.made) - before) - (size < len(rest))

    lab.phase(SEARCHING)
    if len(rest) <= WHOLE and lab.executor.slots < 2:  # few enough to weigh every set of them
        proof = bench.proved([frozenset([i]) for i in rest], scope, weights, spare, found)
        if proof is not None:
            return (), proof
    proof = None
    while proof is None or proof.odd:
        again = proof is not None
        answer = solve(rest, weights, partial(bench.within, scope), partial(_tell, lab, total, found),
                       lab.executor.slots, partial(bench.ahead_within, scope))  # fmt: skip
        if frozenset(answer.items) != scope and bench.bad(frozenset(answer.items)) is False:
            return (answer.items,), None
        lab.phase(CONFIRMING)
        grouped = frozenset(i for group in answer.together for i in group)
        parts = [frozenset(group) for group in answer.together] + [frozenset([i]) for i in answer.items if i not in grouped]
        proof = bench.proved(parts, scope, weights, spare, found)
        if again or proof is None:
            break
    return answer.together, proof
