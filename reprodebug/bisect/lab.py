"""The bench on which candidates are tried: references, horizon, time limit, and the memory of the session.

Owns what every axis needs: a trial is made once per candidate and attempt, compared with A, and written down. Finds where
A and B part without running either to its end: both are stopped early, and let run further only while they are equal.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from reprodebug._base.errors import ReprodebugError
from reprodebug.bisect import process
from reprodebug.bisect.control import Cancelled, Control, Listener
from reprodebug.bisect.session import MARK, Session
from reprodebug.bisect.trial import Candidate, Class, Executed, Horizon, Untestable, classify, execute, last_words
from reprodebug.model.comparison import Divergence
from reprodebug.model.experiment import OTHER, SAME_AS_A, SAME_AS_B, UNTESTABLE, Trial
from reprodebug.model.progress import VERIFYING, Left, Phase, TrialEnded, TrialStarted

FIRST_STEPS, FIRST_TURNS, GROWTH = 16, 2048, 8
"""optimizer steps, or calls of a program without optimizer, that both ends run before they are compared; then times GROWTH"""
_LEAST_LIMIT_S, _LIMIT_FACTOR = 60.0, 6.0

Make = Callable[[], Candidate]


@dataclass(slots=True)
class End:
    """One end of a search: how to make it, and its first trial."""

    key: str
    text: str
    make: Make
    trial: Trial | None = None
    run: str = ""
    """directory of its run"""


@dataclass(slots=True)
class Lab:
    """Tries candidates of one search."""

    session: Session
    listen: Listener = lambda event: None
    """told of everything that happens"""
    control: Control = field(default_factory=Control)
    limit: float | None = None
    """seconds that a trial may take; None: six times the longer end, at least a minute"""
    probe: tuple[str, ...] = ()
    """a script of the user's that decides instead of the comparison, with the exit codes of ``git bisect run``"""
    horizon: Horizon = field(default_factory=Horizon)
    wide: Horizon = field(default_factory=Horizon)
    """how far both ends ran until they parted"""
    reference: str = ""
    """directory of A's run"""
    other: str = ""
    """directory of B's run"""
    located: Divergence | None = None
    """where B parts from A"""
    exit_code: int = 0
    longest: float = 0.0
    live: bool = False
    """B's run is compared with A's while it goes on, and stopped where they part; not where its run is used with another A"""
    axis: str = ""
    """what is searched at the moment"""
    left: int | None = None
    """trials that the search expects to need still; None: not known"""
    made: list[Trial] = field(default_factory=list)
    """every trial that this search rests on, in order"""
    started: float = field(default_factory=time.monotonic)

    def try_(
        self, key: str, text: str, make: Make, attempt: int = 0, *, judge: Callable[[Executed, Candidate], Class] | None = None
    ) -> Trial:
        """The trial of a candidate, from memory or made now. ``make`` may raise Untestable."""
        name = f"{key}@{self.horizon.steps}/{self.horizon.turns}" if not self.probe else key
        role = judge or self._judge
        against = os.path.relpath(self.reference, self.session.path) if self.reference and judge is None else ""
        known = self.session.recall(name, attempt)
        if known is None:
            known = self._make(name, text, make, attempt, role, against)
        else:
            self.longest = max(self.longest, known.seconds if known.verdict != UNTESTABLE else 0.0)
            if known.against != against and known.verdict != UNTESTABLE and not self.probe:
                known = self._judged_again(known, role, against)
            if all(t.number != known.number for t in self.made):
                self.listen(TrialEnded(known, os.path.join(self.session.path, known.log), recalled=True))
        if all(t.number != known.number for t in self.made):
            self.made.append(known)
        return known

    def phase(self, name: str, axis: str = "") -> None:
        """The search does something else from here on."""
        self.axis = axis or self.axis
        self.listen(Phase(name, self.axis))

    def remain(self, form: str, candidates: Sequence[str], total: int, steps: int, kept: Sequence[str] = ()) -> None:
        """What can still be the answer, and in about how many trials it will be known."""
        self.left = steps
        self.listen(Left(self.axis, form, tuple(candidates), total, tuple(kept), steps))

    def _make(self, name: str, text: str, make: Make, attempt: int, judge: Callable[[Executed, Candidate], Class], against: str) -> Trial:
        self.control.gate(self.listen)
        number = self.session.begin(name, attempt, text)
        began = time.monotonic()
        folder = os.path.join(self.session.path, "trials", str(number))
        shutil.rmtree(folder, ignore_errors=True)  # of an interrupted trial, whose number is given again
        log = os.path.relpath(os.path.join(folder, "log.txt"), self.session.path)
        path = os.path.relpath(os.path.join(folder, "run"), self.session.path)
        steps, eta = self._expected()
        self.listen(TrialStarted(number, len(self.made) + 1, text, os.path.join(self.session.path, log), steps, eta))
        try:
            candidate = make()
            candidate.environment[MARK] = self.session.path
            limit = self.limit or (max(_LEAST_LIMIT_S, _LIMIT_FACTOR * self.longest) if self.longest else None)
            if self.probe:
                found, executed = self._probed(candidate, folder, limit)
            else:
                watched = self.reference if self.live and self.reference and judge == self._judge and not self.located else ""
                executed = execute(candidate, folder, self.horizon, limit=limit, control=self.control, against=watched)
                found = judge(executed, candidate)
            stopped = executed.stopped_at
        except Untestable as error:
            found, stopped = Class(UNTESTABLE, error.message), None
        except (KeyboardInterrupt, Cancelled):
            self.session.forget(number)
            raise
        trial = Trial(
            number, text, found.verdict, round(time.monotonic() - began, 3), stopped, log, found.reason, found.first, path, against
        )
        self.session.finish(trial)
        shutil.rmtree(os.path.join(folder, "cache"), ignore_errors=True)
        if trial.verdict != UNTESTABLE:
            self.longest = max(self.longest, trial.seconds)
        self.listen(TrialEnded(trial, os.path.join(self.session.path, log)))
        return trial

    def _judged_again(self, known: Trial, judge: Callable[[Executed, Candidate], Class], against: str) -> Trial:
        """A trial that another question made, compared with this question's A."""
        from reprodebug.store.run import open_run

        run, log = (os.path.join(self.session.path, p) for p in (known.path, known.log))
        try:
            code = open_run(run).manifest.exit_code or 0
        except ReprodebugError as error:
            return replace(known, verdict=UNTESTABLE, reason=error.message)
        candidate = Candidate("", known.candidate, (), "", {})
        found = judge(Executed(run, log, code, known.seconds, known.stopped_at_step), candidate)
        return replace(known, verdict=found.verdict, reason=found.reason, first=found.first, against=against)

    def _expected(self) -> tuple[int | None, float | None]:
        """(trials after this one, seconds until the end), about."""
        if self.left is None or not self.made:
            return self.left, None
        recent = self.made[-5:]
        return max(0, self.left - 1), self.left * sum(t.seconds for t in recent) / len(recent)

    def _judge(self, executed: Executed, candidate: Candidate) -> Class:
        return classify(executed, candidate, self.reference, self.other or None, exit_code=self.exit_code, located=self.located)

    def _probed(self, candidate: Candidate, folder: str, limit: float | None) -> tuple[Class, Executed]:
        os.makedirs(folder, exist_ok=True)
        log = os.path.join(folder, "log.txt")
        try:
            ended = process.run(list(self.probe), candidate.cwd, candidate.environment, log, limit=limit, mark=(MARK, self.session.path),
                                control=self.control)  # fmt: skip
        except OSError as error:
            raise ReprodebugError(
                f"the probe {self.probe[0]} could not be started: {error.strerror}", hint="check its path, and chmod +x"
            ) from error
        executed = Executed("", log, ended.exit_code, ended.seconds, None)
        if ended.hung:
            return Class(UNTESTABLE, "the probe did not end in time"), executed
        if ended.exit_code == 0:
            return Class(SAME_AS_A), executed
        if ended.exit_code == 125:
            return Class(UNTESTABLE, "the probe says that this one cannot be tested (125)"), executed
        if ended.exit_code in (126, 127) or ended.exit_code >= 128:
            raise ReprodebugError(
                f"the probe ended with {ended.exit_code}{last_words(log)}",
                hint="0 says good, 125 untestable, 1 to 124 bad; anything else stops the search",
            )
        return Class(SAME_AS_B, f"the probe ended with {ended.exit_code}"), executed

    # ends

    def part(self, a: End, b: End) -> Divergence | None:
        """Run both ends until they part; sets the references and the horizon. None where they never did.

        Raises Untestable where one of them cannot be run.
        """
        self.left = None
        self.phase(VERIFYING)
        if self.probe:
            return self._part_by_probe(a, b)
        steps, turns = FIRST_STEPS, FIRST_TURNS
        while True:
            self.horizon = Horizon(steps, turns)
            a.trial = self.try_(a.key, a.text, a.make, judge=self._as_reference)
            if a.trial.verdict == UNTESTABLE:
                raise Untestable(f"{a.text} cannot be run: {a.trial.reason}")
            self._refer(a)
            b.trial = self.try_(b.key, b.text, b.make)
            if b.trial.verdict == UNTESTABLE:
                raise Untestable(f"{b.text} cannot be run: {b.trial.reason}")
            b.run = os.path.join(self.session.path, b.trial.path)
            ended = a.trial.stopped_at_step is None or b.trial.stopped_at_step is None
            if b.trial.bad or ended or not steps:
                break
            steps, turns = (steps * GROWTH, turns * GROWTH) if steps < FIRST_STEPS * GROWTH**2 else (0, 0)
        self.wide = self.horizon
        if not b.trial.bad:
            return None
        self.other = b.run
        self.located = b.trial.first
        self.narrow(b.trial.first)
        return b.trial.first

    def _part_by_probe(self, a: End, b: End) -> Divergence | None:
        for end, wanted in ((a, False), (b, True)):
            end.trial = self.try_(end.key, end.text, end.make)
            if end.trial.verdict == UNTESTABLE:
                raise Untestable(f"{end.text}: {end.trial.reason}")
            if end.trial.bad is not wanted:
                raise EndsDoNotReproduce(f"the probe says that {end.text} is {'bad' if end.trial.bad else 'good'}")
        return None

    def _as_reference(self, executed: Executed, candidate: Candidate) -> Class:
        """A is like itself, if it ran and recorded something."""
        if executed.reason:
            return Class(UNTESTABLE, executed.reason)
        from reprodebug.store.run import open_run

        try:
            run = open_run(executed.run)
        except ReprodebugError as error:
            return Class(UNTESTABLE, error.message)
        if not any(p.events for p in run.manifest.processes):
            why = f"exit code {executed.exit_code}" if executed.exit_code else "it called no module of torch"
            return Class(UNTESTABLE, f"nothing was recorded, {why}{last_words(executed.log)}")
        if candidate.check is not None and (why := candidate.check(run)):
            return Class(UNTESTABLE, why)
        return Class(SAME_AS_A)

    def _refer(self, a: End) -> None:
        assert a.trial is not None
        a.run = self.reference = os.path.join(self.session.path, a.trial.path)
        from reprodebug.store.run import open_run

        self.exit_code = open_run(a.run).manifest.exit_code or 0

    def narrow(self, first: Divergence | None, *, margin: int = 0) -> None:
        """From now on a trial ends right after the step of the first divergence."""
        if first is None or self.probe:
            return
        from reprodebug.store.run import open_run

        steps = max((p.steps for p in open_run(self.reference).manifest.processes), default=0)
        until = first.step + 1 + margin
        self.horizon = Horizon(until, 0) if steps else Horizon(0, until)

    def verdict_of(self, trial: Trial) -> str:
        """In words, for a report."""
        return {SAME_AS_A: "equal to A", SAME_AS_B: "differs from A as B does", OTHER: "differs from A otherwise"}.get(
            trial.verdict, f"untestable: {trial.reason}"
        )


class EndsDoNotReproduce(ReprodebugError):
    """The two ends of a search do not behave as they were said to."""
