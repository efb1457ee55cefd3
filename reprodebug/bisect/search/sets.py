"""The smallest set of items that makes a run bad, by asking about few sets.

Items are put in order of suspicion. The shortest bad prefix is found by halving; its last item is necessary; with that item
kept, the same is asked of what stands before it, until what was kept is bad alone. For k items out of n that takes about
k (log2 n + 1) questions; where the suspicion is right the first question answers. Holds where adding an item to a bad set
keeps it bad; the caller confirms the answer by trying it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

_FEW = 8
"""items up to which the last two candidates are each tried alone: one cause is likely then, and that answers at once"""


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
    kept: list[str] = []
    together: list[tuple[str, ...]] = []
    tell = tell or (lambda kept, rest: None)
    while True:
        tell(kept, rest)
        if kept and (yield [frozenset(kept)])[0]:
            break
        good, bad = 0, len(rest)
        blocked: set[int] = set()
        alone = not kept and len(items) <= _FEW
        while True:
            if alone and good and bad - good == 2:
                alone = False
                for one in rest[good:bad]:
                    if (yield [frozenset([one])])[0]:
                        return Smallest((one,))
            middles = _splits([weight[i] for i in rest], good, bad, blocked, width)
            if not middles:
                break
            tell(kept, rest[:bad])
            answers = yield [frozenset([*kept, *rest[:m]]) for m in middles]
            blocked |= {m for m, said in zip(middles, answers, strict=True) if said is None}
            bad = min((m for m, said in zip(middles, answers, strict=True) if said), default=bad)
            good = max((m for m, said in zip(middles, answers, strict=True) if said is False and m < bad), default=good)
        group = rest[good:bad]
        if 1 < len(group) <= _FEW:  # no set between could be tried in this order: each alone, then all without each
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


def _split(weights: Sequence[float], good: int, bad: int, blocked: set[int]) -> int | None:
    """The length between ``good`` and ``bad`` that halves the weight between them and is not blocked."""
    inner = [n for n in range(good + 1, bad) if n not in blocked]
    if not inner:
        return None
    total = sum(weights[good:bad])
    running, best, distance = 0.0, inner[0], float("inf")
    for n in range(good + 1, bad):
        running += weights[n - 1]
        if n not in blocked and abs(running - total / 2) < distance:
            best, distance = n, abs(running - total / 2)
    return best


def _splits(weights: Sequence[float], good: int, bad: int, blocked: set[int], width: int) -> list[int]:
    """Up to ``width`` lengths between: the half first, then the halves of what lies to its sides, and so on."""
    found: list[int] = []
    parts = [(good, bad)]
    while parts and len(found) < width:
        low, high = parts.pop(0)
        middle = _split(weights, low, high, blocked)
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
