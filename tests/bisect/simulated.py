"""Searches over commits and over sets with trials that are drawn instead of run: how often they are right where trials vary."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from reprodebug.bisect import choice, commits, packages
from reprodebug.model.experiment import OTHER, SAME_AS_A, SAME_AS_B, UNTESTABLE, Bisection, Trial


class Line:
    """A history without branches: commits "1" to "n" behind the good end "0"."""

    root = "/nowhere"

    def __init__(self, n: int) -> None:
        self.n, self.notes = n, list[str]()

    def bound(self, good: str, bad: str) -> None: ...

    def between(self, good: str, bad: str, **_: Any) -> list[str]:
        return [str(n) for n in range(1, self.n + 1)]

    def edges(self, order: list[str], **_: Any) -> dict[str, list[str]]:
        return {c: [str(int(c) - 1)] if c != "1" else [] for c in order}

    def is_ancestor(self, old: str, new: str) -> bool:
        return int(old) <= int(new)

    def subject(self, commit: str) -> str:
        return f"number {commit}"

    def changed(self, a: str, b: str) -> tuple[list[Any], set[str]]:
        return [], set()


class Drawn:
    """Stands where ``Lab`` stands. ``shows``: share of the trials of a bad commit that differ from the good end; ``like_b``: of
    those, the share that is like the bad end; ``odd``: share of the trials of a good commit that are like neither."""

    def __init__(self, culprit: int, rng: random.Random, *, shows: float = 1.0, like_b: float = 1.0, odd: float = 0.0) -> None:
        self._culprit, self._rng, self._shows, self._like_b, self._odd = culprit, rng, shows, like_b, odd
        self._seen: dict[tuple[str, int], Trial] = {}
        self.axis, self.probe, self.reference, self.other, self.started, self.left = "", (), "", "", 0.0, None
        self.horizon = self.wide = "wide"
        self.made: list[Trial] = []
        self.inferred: list[tuple[str, bool]] = []
        self.parted = 0
        self.executor, self.session = SimpleNamespace(slots=1), SimpleNamespace(path="/nowhere")

    def part(self, a: Any, b: Any) -> Any:
        a.trial, b.trial = self._draw(a.key, a.text, SAME_AS_A), self._draw(b.key, b.text)
        self.narrow(b.trial.first)
        return b.trial.first

    def ask(self, wanted: Any) -> Trial:
        at = (f"{wanted.key}@{self.horizon}", wanted.attempt)
        if at not in self._seen:
            self._seen[at] = self._draw(wanted.key, wanted.text)
        return self._seen[at]

    def _guilty(self, key: str) -> bool:
        return int(key) >= self._culprit

    def _draw(self, key: str, text: str, verdict: str = "") -> Trial:
        chance = self._rng.random
        if verdict == UNTESTABLE:
            self.made.append(Trial(len(self.made) + 1, text, verdict, 1.0))
            return self.made[-1]
        if not verdict and not self._guilty(key):
            verdict = OTHER if chance() < self._odd else SAME_AS_A
        if not verdict:
            verdict = SAME_AS_A if chance() >= self._shows else SAME_AS_B if chance() < self._like_b else OTHER
        first: Any = None if verdict == SAME_AS_A else "where"
        trial = Trial(len(self.made) + 1, text, verdict, 1.0, first=first)
        self.made.append(trial)
        return trial

    def listen(self, event: Any) -> None: ...

    def phase(self, *_: Any) -> None: ...

    def remain(self, *_: Any) -> None: ...

    def narrow(self, first: Any) -> None:
        self.horizon = "narrow" if first else self.horizon

    def ahead(self, wanted: Any) -> None: ...


class Told(Drawn):
    """The same for commits of which each does what it is told: number -> verdict."""

    def __init__(self, verdicts: dict[int, str]) -> None:
        super().__init__(0, random.Random(0))
        self._verdicts = verdicts

    def _draw(self, key: str, text: str, verdict: str = "") -> Trial:
        return super()._draw(key, text, verdict or self._verdicts[int(key)])


class Repeated(Drawn):
    """The same for one command: its run number ``odd`` differs from the first."""

    def __init__(self, odd: int, seconds: float) -> None:
        super().__init__(0, random.Random(0))
        self._odd_one, self._seconds = odd, seconds
        self._as_reference = None

    def try_(self, key: str, text: str, make: Any, attempt: int = 0, judge: Any = None) -> Trial:
        if (key, attempt) not in self._seen:
            verdict = SAME_AS_B if attempt == self._odd_one else SAME_AS_A
            self._seen[key, attempt] = Trial(len(self.made) + 1, text, verdict, self._seconds)
            self.made.append(self._seen[key, attempt])
        return self._seen[key, attempt]

    def _refer(self, end: Any) -> None: ...


class Releases(Drawn):
    """The same for the releases "1" to "9" of one package, of which the ones from the culprit on are bad."""

    def __init__(self, culprit: int, rng: random.Random, **how: float) -> None:
        super().__init__(culprit, rng, **how)
        guilty = "A with x of B"
        for text, verdict in (("A", SAME_AS_A), (guilty, SAME_AS_A), (guilty, SAME_AS_B), ("A", SAME_AS_A), (guilty, ""), (guilty, "")):
            self._draw("9" if text == guilty else "0", text, verdict)
        self.parted = 2  # the first runs were too short

    def try_(self, key: str, text: str, make: Any, attempt: int = 0) -> Trial:
        at = key, attempt
        if at not in self._seen:
            self._seen[at] = self._draw(key.partition("=")[2].partition(":")[0], text)
        return self._seen[at]


class DrawnSets(Drawn):
    """The same for a search over sets; ``causes``: each makes the difference by itself."""

    def __init__(
        self, causes: list[set[str]], rng: random.Random, *, slots: int = 1, runs: Callable[[set[str]], bool] = lambda chosen: True, **how: float
    ) -> None:  # fmt: skip
        """``runs``: whether a set that is not everything can be tried."""
        super().__init__(0, rng, **how)
        self._causes, self._runs = causes, runs
        self.executor.slots = slots

    def _draw(self, key: str, text: str, verdict: str = "") -> Trial:
        words = key.partition(":")[2].partition("@")[0].split(",")
        return super()._draw(key, text, verdict if words in (["A"], ["B"]) or self._runs(set(words)) else UNTESTABLE)

    def _guilty(self, key: str) -> bool:
        words = key.partition(":")[2].split(",")
        return words == ["B"] or any(cause.issubset(words) for cause in self._causes)


def first_bad(rng: random.Random, **how: float) -> tuple[str | None, float, bool, int]:
    """(the first bad release, how sure, whether that is right, trials)."""
    culprit = rng.randrange(1, 10)
    lab: Any = Releases(culprit, rng, **how)
    p: Any = SimpleNamespace(a={"x": "0"}, b={"x": "9"})
    store: Any = SimpleNamespace(releases=lambda *_: [str(n) for n in range(10)])
    question = choice.Choice("packages", ["x", "y", "z"], lambda chosen: None)  # type: ignore[arg-type,return-value]
    found: dict[str, dict[str, Any]] = {"x": {}}
    sure = packages.first_bad(lab, p, store, question, "x", ("x",), found, [], lambda *_: None)  # type: ignore[arg-type,return-value]
    said = found["x"].get("first_bad")
    return said, sure, said == str(culprit), len(lab.made)


def whole(n: int, causes: list[set[str]], rng: random.Random, **how: Any) -> tuple[choice.Decided, int]:
    """(what was found among the items "i0" to "i<n-1>", trials)."""
    lab: Any = DrawnSets(causes, rng, **how)
    found = choice.decide(lab, choice.Choice("env", [f"i{i}" for i in range(n)], lambda chosen: None))  # type: ignore[arg-type,return-value]
    return found, len(lab.made)


def told(verdicts: str) -> Bisection:
    """What is found where commits 1, 2, ... are like A (.), like B (b) or neither (o)."""
    lab: Any = Told({n: {".": SAME_AS_A, "b": SAME_AS_B, "o": OTHER}[v] for n, v in enumerate("." + verdicts)})
    tree: Any = Line(len(verdicts))
    return commits.search(lab, commits.Commits(tree, ["python"], "0", str(len(verdicts)), {}))


def smallest(n: int, k: int, rng: random.Random, **how: float) -> tuple[choice.Decided, bool, int]:
    """(what was found of ``k`` among ``n`` items, whether that is right, trials)."""
    culprits = set(rng.sample([f"i{i}" for i in range(n)], k))
    found, trials = whole(n, [culprits], rng, **how)
    return found, set(found.items) == culprits, trials


def search(n: int, rng: random.Random, **how: float) -> tuple[Bisection, bool]:
    """(what was found among ``n`` commits, whether that is right)."""
    culprit = rng.randrange(1, n + 1)
    lab: Any = Drawn(culprit, rng, **how)
    tree: Any = Line(n)
    found = commits.search(lab, commits.Commits(tree, ["python"], "0", str(n), {}))
    return found, found.culprit.commit == str(culprit)
