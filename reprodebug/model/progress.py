"""What an experiment tells while it runs: one small record for each thing that happens, in the order in which it happens."""

from __future__ import annotations

from dataclasses import dataclass

from reprodebug.model.experiment import Bisection, Trial

VERIFYING, SEARCHING, CONFIRMING, PROVING = "verifying", "searching", "confirming", "proving"
PHASES = (VERIFYING, SEARCHING, CONFIRMING, PROVING)
"""both ends are tried and repeated; candidates are asked about; the boundary is tried again; the opposite of the answer is tried"""


@dataclass(frozen=True, slots=True)
class Began:
    """The session is open. Always the first."""

    session: str
    """its directory: ``log`` and ``path`` of a trial are relative to it"""
    what: str
    """the question, as it was typed"""
    resumed: bool = False
    """trials that were made before are told again, as ``TrialEnded`` with ``recalled``"""


@dataclass(frozen=True, slots=True)
class Phase:
    """From here on the search does something else. Several axes are searched one after another, each from ``verifying`` on."""

    name: str
    """``verifying`` | ``searching`` | ``confirming`` | ``proving``"""
    axis: str
    """``commits`` | ``settings`` | ``packages`` | ``env`` | ``config`` | ``axes`` (which of these) | ``releases`` (of one package)"""


@dataclass(frozen=True, slots=True)
class Left:
    """What can still be the answer."""

    axis: str
    form: str
    """``range``: one of the candidates, which stand in order (commits, releases); ``set``: some of them together"""
    candidates: tuple[str, ...]
    """not ruled out: full hashes of commits, or names of items"""
    total: int
    """candidates at the beginning"""
    kept: tuple[str, ...] = ()
    """items that are part of the answer for certain (``set`` only)"""
    steps: int = 0
    """trials that the search expects to need still, about"""


@dataclass(frozen=True, slots=True)
class TrialStarted:
    """A trial begins. Several may run at once where ``--jobs`` allows it: they are told apart by ``number``."""

    number: int
    """the same as ``Trial.number`` when it has ended"""
    count: int
    """which trial of this search it is, from 1"""
    candidate: str
    """in words"""
    log: str
    """absolute path of what it prints, from its beginning on"""
    steps_left: int | None = None
    """trials that follow this one, about; None: not known yet"""
    eta_s: float | None = None
    """seconds until the search ends, about; None: not known yet"""


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """A trial has its verdict. One that was interrupted has none, and is not told."""

    trial: Trial
    log: str
    """absolute path of what it printed"""
    recalled: bool = False
    """it was made before, by this session, and not again"""


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth a line that is none of the others."""

    text: str


@dataclass(frozen=True, slots=True)
class Paused:
    """No trial runs, and none is begun until ``Control.resume`` or ``cancel``."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The search goes on."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The search has ended by itself. Always the last; it is not told where the search was cancelled or an error was raised."""

    result: Bisection


Event = Began | Phase | Left | TrialStarted | TrialEnded | Note | Paused | Resumed | Finished
