"""The bench on which candidates are tried: references, horizon, time limit, and the memory of the session.

Owns what every axis needs: a trial is made once per candidate and attempt, compared with A, and written down. Finds where
A and B part without running either to its end: both are stopped early, and let run further only while they are equal.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from reprodebug._base.errors import ReprodebugError
from reprodebug.bisect import process
from reprodebug.bisect.control import Cancelled, Control, Listener
from reprodebug.bisect.executors import SLOT, Executor, Local
from reprodebug.bisect.session import MARK, Session
from reprodebug.bisect.trial import IMPOSSIBLE, Candidate, Class, Executed, Horizon, Untestable, classify, last_words
from reprodebug.model.comparison import Divergence
from reprodebug.model.experiment import OTHER, SAME_AS_A, SAME_AS_B, UNTESTABLE, Trial
from reprodebug.model.progress import VERIFYING, Left, Phase, TrialEnded, TrialStarted

FIRST_STEPS, FIRST_TURNS, GROWTH = 16, 2048, 8
"""optimizer steps, or calls of a program without optimizer, that both ends run before they are compared; then times GROWTH"""
_LEAST_S = 4.0
"""and for so long at least, where one end runs after the other: starting them again takes longer"""
_TRIAL = "REPRODEBUG_TRIAL"
"""variable that every process of a probe inherits"""
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


@dataclass(frozen=True, slots=True)
class Wanted:
    """A trial that is asked for."""

    key: str
    text: str
    make: Make
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class _Done:
    """A trial that was carried out and is not judged yet."""

    number: int
    seconds: float
    candidate: Candidate | None = None
    executed: Executed | None = None
    found: Class | None = None
    """what a probe said"""
    error: Untestable | None = None


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
    parted: int = 0
    """place in ``made`` of the trial in which the ends parted: those before it may have been too short to show it"""
    inferred: list[tuple[str, bool]] = field(default_factory=list)
    """commits that were answered without a trial"""
    started: float = field(default_factory=time.monotonic)
    executor: Executor = field(default_factory=Local)
    _ahead: dict[tuple[str, int], _Done] = field(default_factory=dict)
    _preparing: threading.Lock = field(default_factory=threading.Lock)
    """candidates are made one after another: git, pip and the session's places are used by one thread at a time"""

    def try_(
        self, key: str, text: str, make: Make, attempt: int = 0, *, judge: Callable[[Executed, Candidate], Class] | None = None
    ) -> Trial:
        """The trial of a candidate, from memory or made now. ``make`` may raise Untestable."""
        name = self._name(key)
        role = judge or self._judge
        against = os.path.relpath(self.reference, self.session.path) if self.reference and judge is None else ""
        known = self.session.recall(name, attempt) if (name, attempt) not in self._ahead else None
        if known is None:
            known = self._make(Wanted(key, text, make, attempt), role, against)
        else:
            self.longest = max(self.longest, known.seconds if known.verdict != UNTESTABLE else 0.0)
            if known.against != against and known.verdict != UNTESTABLE and not self.probe:
                known = self._judged_again(known, role, against)
            if all(t.number != known.number for t in self.made):
                self.listen(TrialEnded(known, os.path.join(self.session.path, known.log), recalled=True))
        if all(t.number != known.number for t in self.made) and not known.reason.startswith(IMPOSSIBLE):
            self.made.append(known)
        return known

    def ask(self, wanted: Wanted) -> Trial:
        """The same."""
        return self.try_(wanted.key, wanted.text, wanted.make, wanted.attempt)

    def drop(self) -> None:
        """Forget what was carried out and not asked for."""
        for done in self._ahead.values():
            self.session.forget(done.number)
        self._ahead.clear()

    def ahead(self, wanted: Sequence[Wanted]) -> None:
        """Carry out several trials at once, as many as the executor has slots; ``try_`` then finds and judges them.

        Every one of them must be asked for with ``try_`` afterwards. Does nothing where trials run one after another.
        """
        if self.executor.slots < 2:
            return
        todo = {}
        for w in wanted:
            name = self._name(w.key)
            if (name, w.attempt) not in self._ahead and self.session.recall(name, w.attempt) is None:
                todo[name, w.attempt] = w
        if len(todo) < 2:
            return
        for n in range(0, len(todo), self.executor.slots):
            self._together(dict(list(todo.items())[n : n + self.executor.slots]))

    def _together(self, todo: dict[tuple[str, int], Wanted]) -> None:
        from concurrent.futures import ThreadPoolExecutor, wait

        self.control.gate(self.listen)
        numbers = {at: self._begin(w, len(self.made) + len(self._ahead) + n) for n, (at, w) in enumerate(todo.items(), 1)}

        def work(slot: int, number: int, make: Make) -> _Done:
            SLOT.set(slot)
            return self._carry_out(number, make)

        with ThreadPoolExecutor(len(todo), "trial") as pool:
            futures = {at: pool.submit(work, slot, numbers[at], w.make) for slot, (at, w) in enumerate(todo.items())}
            try:
                wait(futures.values())
                for at, future in futures.items():
                    self._ahead[at] = future.result()
            except BaseException:
                self.control.cancel()
                wait(futures.values())
                for at in todo:
                    self._ahead.pop(at, None)
                    self.session.forget(numbers[at])
                raise

    def _name(self, key: str) -> str:
        return f"{key}@{self.horizon.steps}/{self.horizon.turns}" if not self.probe else key

    def phase(self, name: str, axis: str = "") -> None:
        """The search does something else from here on."""
        self.axis = axis or self.axis
        self.listen(Phase(name, self.axis))

    def remain(self, form: str, candidates: Sequence[str], total: int, steps: int, kept: Sequence[str] = ()) -> None:
        """What can still be the answer, and in about how many trials it will be known."""
        self.left = steps
        self.listen(Left(self.axis, form, tuple(candidates), total, tuple(kept), steps))

    def _make(self, wanted: Wanted, judge: Callable[[Executed, Candidate], Class], against: str) -> Trial:
        done = self._ahead.pop((self._name(wanted.key), wanted.attempt), None)
        if done is None:
            self.control.gate(self.listen)
            number = self._begin(wanted, len(self.made) + 1)
            watched = self.reference if self.live and self.reference and judge == self._judge and not self.located else ""
            try:
                done = self._carry_out(number, wanted.make, watched)
            except (KeyboardInterrupt, Cancelled):
                self.session.forget(number)
                raise
        began = time.monotonic()
        if done.error is not None:
            found, stopped = Class(UNTESTABLE, done.error.message), None
        else:
            assert done.executed is not None and done.candidate is not None
            found, stopped = done.found or judge(done.executed, done.candidate), done.executed.stopped_at
        folder = self._folder(done.number)
        log, path = (os.path.relpath(os.path.join(folder, n), self.session.path) for n in ("log.txt", "run"))
        seconds = round(done.seconds + time.monotonic() - began, 3)
        trial = Trial(done.number, wanted.text, found.verdict, seconds, stopped, log, found.reason, found.first, path, against)
        self.session.finish(trial)
        shutil.rmtree(os.path.join(folder, "cache"), ignore_errors=True)
        if trial.verdict != UNTESTABLE:
            self.longest = max(self.longest, trial.seconds)
        self.listen(TrialEnded(trial, os.path.join(self.session.path, log)))
        return trial

    def _folder(self, number: int) -> str:
        return os.path.join(self.session.path, "trials", str(number))

    def _begin(self, wanted: Wanted, count: int) -> int:
        number = self.session.begin(self._name(wanted.key), wanted.attempt, wanted.text)
        steps, eta = self._expected()
        self.listen(TrialStarted(number, count, wanted.text, os.path.join(self._folder(number), "log.txt"), steps, eta))
        return number

    def _carry_out(self, number: int, make: Make, watched: str = "") -> _Done:
        """Prepare a candidate and run it; may be called in a thread of its own."""
        folder, began = self._folder(number), time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)  # of an interrupted trial, whose number is given again
        try:
            with self._preparing:
                candidate = make()
            candidate.environment[MARK] = self.session.path
            limit = self.limit or (max(_LEAST_LIMIT_S, _LIMIT_FACTOR * self.longest) if self.longest else None)
            if self.probe:
                found, executed = self._probed(candidate, folder, limit)
                return _Done(number, time.monotonic() - began, candidate, executed, found)
            executed = self.executor.execute(candidate, folder, self.horizon, limit=limit, control=self.control, against=watched)
        except Untestable as error:
            return _Done(number, time.monotonic() - began, error=error)
        return _Done(number, time.monotonic() - began, candidate, executed)

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
        candidate.environment[_TRIAL] = folder
        os.makedirs(folder, exist_ok=True)
        log = os.path.join(folder, "log.txt")
        try:
            ended = process.run(list(self.probe), candidate.cwd, candidate.environment, log, limit=limit, mark=(_TRIAL, folder),
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
        """Run both ends until they part; sets the references and the horizon. None where they never did, and with a probe.

        Raises Untestable where one of them cannot be run, EndsDoNotReproduce where a probe says that A is bad.
        """
        self.left = None
        self.phase(VERIFYING)
        if self.probe:
            return self._part_by_probe(a, b)
        steps, turns, least = FIRST_STEPS, FIRST_TURNS, _LEAST_S if self.executor.slots < 2 else 0.0
        while True:
            self.horizon = Horizon(steps, turns, least)
            self.ahead([Wanted(a.key, a.text, a.make), Wanted(b.key, b.text, b.make)])
            a.trial = self.try_(a.key, a.text, a.make, judge=self._as_reference)
            if a.trial.verdict == UNTESTABLE:
                raise Untestable(f"{a.text} cannot be run: {a.trial.reason}")
            self._refer(a)
            if least:
                self.horizon = self._reached(a.trial)
            b.trial = self.try_(b.key, b.text, b.make)
            if b.trial.verdict == UNTESTABLE:
                raise Untestable(f"{b.text} cannot be run: {b.trial.reason}")
            b.run = os.path.join(self.session.path, b.trial.path)
            ended = a.trial.stopped_at_step is None or b.trial.stopped_at_step is None
            if b.trial.bad or ended or not steps:
                break
            if max(self.horizon.steps, steps) < FIRST_STEPS * GROWTH**2:
                steps, turns = max(self.horizon.steps, steps) * GROWTH, max(self.horizon.turns, turns) * GROWTH
            else:
                steps = turns = 0
        self.wide = self.horizon
        if not b.trial.bad:
            return None
        self.parted = len(self.made) - 1
        self.other = b.run
        self.located = b.trial.first
        self.narrow(b.trial.first)
        return b.trial.first

    def _reached(self, trial: Trial) -> Horizon:
        """The horizon that the first trial of A has reached: one that gets as far can be compared with it. Where it reached its
        own end, one step behind that is enough to see that another goes on."""
        steps = self._steps()
        if trial.stopped_at_step is None:
            return Horizon(steps + 1 if steps else 0)
        return Horizon(trial.stopped_at_step, 0) if steps else Horizon(0, trial.stopped_at_step)

    def _steps(self) -> int:
        """Optimizer steps of A's run."""
        from reprodebug.store.run import open_run

        return max((p.steps for p in open_run(self.reference).manifest.processes), default=0)

    def _part_by_probe(self, a: End, b: End) -> Divergence | None:
        self.ahead([Wanted(a.key, a.text, a.make), Wanted(b.key, b.text, b.make)])
        for end in (a, b):
            end.trial = self.try_(end.key, end.text, end.make)
            if end.trial.verdict == UNTESTABLE:
                raise Untestable(f"{end.text}: {end.trial.reason}")
            if end is a and end.trial.bad:
                raise EndsDoNotReproduce(f"the probe says that {end.text} is bad")
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
            last = last_words(executed.log)
            return Class(UNTESTABLE, f"nothing was recorded, {why}{last if executed.exit_code or not last else '; it said last' + last}")
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
        until = first.step + 1 + margin
        self.horizon = Horizon(until, 0) if self._steps() else Horizon(0, until)

    def verdict_of(self, trial: Trial) -> str:
        """In words, for a report."""
        return {SAME_AS_A: "equal to A", SAME_AS_B: "differs from A as B does", OTHER: "differs from A otherwise"}.get(
            trial.verdict, f"untestable: {trial.reason}"
        )


class EndsDoNotReproduce(ReprodebugError):
    """The two ends of a search do not behave as they were said to."""
