"""The smallest set of items that makes a run bad, by asking about few sets.

Items are put in order of suspicion. The last item of the shortest bad prefix is necessary: it is found by halving the
probability of where it stands, each item being a culprit with a chance of its own. With that item kept, the same is asked of what
stands before it, where the empty prefix may be enough now. That takes little more questions than the choice has bits; where the
suspicion is right the first one answers. Holds where adding an item to a bad set keeps it bad; the caller confirms the answer by trying it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

_FEW = 8
"""items that could not be told apart, up to which each is tried alone"""
_EXPECTED, _MOST = 1.2, 0.9
"""culprits among all items, on average, before anything is known; and the chance that any one of them gets"""


@dataclass(frozen=True, slots=True)
class Smallest:
    """The answer of :func:`smallest_set`."""

    items: tuple[str, ...]
    together: tuple[tuple[str, ...], ...] = ()
    """groups of items that could not be told apart, because no set between could be tested"""


def smallest_set(
    items: Sequence[str], suspicion: Mapping[str, float] | None = None, tell: Callable[[list[str], list[str]], None] | None = None,
    width: int = 1,
) -> Generator[list[frozenset[str]], list[bool | None], Smallest]:  # fmt: skip
    """A generator of questions: it yields up to ``width`` sets of items, and is sent whether each is bad (None: untestable).

    It takes for granted that all items together are bad and that none is not. ``suspicion``: item -> a positive weight,
    1 where not given. ``tell`` gets (items kept, items still open) before each question. Returns the smallest set by ``StopIteration.value``.
    """
    weight = {i: max(1e-6, (suspicion or {}).get(i, 1.0)) for i in items}
    rest = sorted(items, key=lambda i: -weight[i])
    total = sum(weight.values())
    chance = {i: min(_MOST, _EXPECTED * weight[i] / total) for i in items}
    kept: list[str] = []
    together: list[tuple[str, ...]] = []
    tell = tell or (lambda kept, rest: None)
    while True:
        good, bad = -1 if kept else 0, len(rest)  # lengths of prefixes of ``rest``: with what was kept, none may be enough
        last = _last([chance[i] for i in rest])
        blocked: set[int] = set()
        while middles := _splits(last, good, bad, blocked, width):
            tell(kept, rest[:bad])
            answers = yield [frozenset([*kept, *rest[:m]]) for m in middles]
            blocked |= {m for m, said in zip(middles, answers, strict=True) if said is None}
            bad = min((m for m, said in zip(middles, answers, strict=True) if said), default=bad)
            good = max((m for m, said in zip(middles, answers, strict=True) if said is False and m < bad), default=good)
        if not bad:
            break
        good = max(0, good)
        group = rest[good:bad]
        size = len(group) // 4
        while len(group) > _FEW and size:  # no set between could be tried in this order: all without each quarter, and so on
            for at in range(len(group) - size, -1, -size):
                less = group[:at] + group[at + size :]
                if less and (yield [frozenset([*kept, *rest[:good], *less])])[0]:
                    group = less
            size = min(size // 2, len(group) // 4)
        if 1 < len(group) <= _FEW:  # each alone, then all without each
            for one in group:
                if (yield [frozenset([*kept, one])])[0]:
                    return Smallest(tuple(i for i in items if i in {*kept, one}), tuple(together))
            for one in group if len(group) > 2 else ():
                if len(group) > 1 and (yield [frozenset([*kept, *rest[:good], *(g for g in group if g != one)])])[0]:
                    group = [g for g in group if g != one]
        kept += group
        if len(group) > 1:
            together.append(tuple(group))
        rest = rest[:good]
        if not rest:
            break
    return Smallest(tuple(i for i in items if i in kept), tuple(together))


def _last(chances: Sequence[float]) -> list[float]:
    """float[n + 1]: how likely the item at each place, from 1 on, is the last culprit, where each is one with its chance; at 0: none is."""
    after, found = 1.0, [0.0] * (len(chances) + 1)
    for place in range(len(chances), 0, -1):
        found[place] = chances[place - 1] * after
        after *= 1 - chances[place - 1]
    found[0] = after
    return found


def _split(last: Sequence[float], good: int, bad: int, blocked: set[int]) -> int | None:
    """The length between ``good`` and ``bad`` that halves the probability between them and is not blocked."""
    inner = [n for n in range(good + 1, bad) if n not in blocked]
    if not inner:
        return None
    half = sum(last[good + 1 : bad + 1]) / 2
    reached = list(accumulate(last[good + 1 : bad]))
    return min(inner, key=lambda n: abs(reached[n - good - 1] - half))


def _splits(last: Sequence[float], good: int, bad: int, blocked: set[int], width: int) -> list[int]:
    """Up to ``width`` lengths between: the half first, then the halves of what lies to its sides, and so on."""
    found: list[int] = []
    parts = [(good, bad)]
    while parts and len(found) < width:
        low, high = parts.pop(0)
        middle = _split(last, low, high, blocked)
        if middle is not None:
            found.append(middle)
            parts += [(low, middle), (middle, high)]
    return found


def solve(
    items: Sequence[str], suspicion: Mapping[str, float] | None, bad: Callable[[frozenset[str]], bool | None],
    tell: Callable[[list[str], list[str]], None] | None = None, width: int = 1,
    ahead: Callable[[list[frozenset[str]]], None] = lambda questions: None,
) -> Smallest:  # fmt: skip
    """:func:`smallest_set` with its questions answered by ``bad``; ``tell`` gets (items kept, items still open) before each.

    Where ``width`` of them can be answered at once, ``ahead`` gets them together before ``bad`` is asked about each.
    """
    search = smallest_set(items, suspicion, tell, width)
    answers: list[bool | None] = []
    started = False
    while True:
        try:
            questions = search.send(answers) if started else next(search)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        ahead(questions)
        started, answers = True, [bad(q) for q in questions]
