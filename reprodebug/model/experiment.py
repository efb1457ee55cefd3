"""What an experiment is: trials of a program under chosen circumstances, and what a search over them found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reprodebug.model.comparison import Divergence

SAME_AS_A, SAME_AS_B, OTHER, UNTESTABLE = "same-as-a", "same-as-b", "other", "untestable"
FOUND, NOT_FOUND, ENDS, INCONCLUSIVE = "found", "not-found", "ends-do-not-reproduce", "inconclusive"
AXES = ("commits", "settings", "packages", "env", "config")


@dataclass(frozen=True, slots=True)
class Trial:
    """One execution of the program under one candidate's circumstances."""

    number: int
    candidate: str
    """the candidate in words: a commit, ``a`` or ``b``, a set of settings or pins"""
    verdict: str
    """``same-as-a`` | ``same-as-b`` | ``other`` | ``untestable``"""
    seconds: float
    stopped_at_step: int | None = None
    """optimizer steps finished when it was stopped; None where it reached its own end"""
    log: str = ""
    """path of what it printed, relative to the session's directory"""
    reason: str = ""
    """why it is untestable, or what it differs by, in one sentence"""
    first: Divergence | None = None
    """its first divergence from A"""
    path: str = ""
    """its run, relative to the session's directory"""
    against: str = ""
    """the run that it was compared with, relative to the session's directory; '' for A itself"""

    @property
    def bad(self) -> bool | None:
        """Whether it differs from A; None where that could not be tested."""
        return {SAME_AS_A: False, SAME_AS_B: True, OTHER: True}.get(self.verdict)


@dataclass(frozen=True, slots=True)
class Culprit:
    """The smallest thing that makes the difference. What does not apply is empty."""

    commit: str = ""
    subject: str = ""
    range: tuple[str, ...] = ()
    """commits of which one is the culprit, where untestable ones hide which"""
    subjects: tuple[str, ...] = ()
    """the first lines of their messages"""
    files: tuple[str, ...] = ()
    """of uncommitted changes: the files in which it lies"""
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    packages: dict[str, dict[str, Any]] = field(default_factory=dict)
    env: dict[str, dict[str, Any]] = field(default_factory=dict)
    config: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not (self.commit or self.range or self.settings or self.packages or self.env or self.config)


@dataclass(frozen=True, slots=True)
class Bisection:
    """What a search found, and every trial that it rests on."""

    outcome: str
    """``found`` | ``not-found`` | ``ends-do-not-reproduce`` | ``inconclusive``"""
    axis: str
    reason: str
    """one sentence"""
    culprit: Culprit = field(default_factory=Culprit)
    first: Divergence | None = None
    confidence: float = 0.0
    bound: str = ""
    """the information that the answer holds, e.g. ``log2(12) = 3.6``"""
    trials: tuple[Trial, ...] = ()
    wall_seconds: float = 0.0
    proof: tuple[str, ...] = ()
    """two commands that differ in one item, with what each gave"""
    notes: tuple[str, ...] = ()
    session: str = ""
    """directory of the session"""
    inferred: tuple[tuple[str, bool], ...] = ()
    """(commit, whether it is bad) of those answered without a trial: they change nothing that a tried run used"""
    counted: tuple[tuple[str, bool], ...] = ()
    """(commit, whether it counts as bad) of those tried, where trials of one commit contradict each other"""
