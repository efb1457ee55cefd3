"""The experiments as whole commands: which axis a question is about, its session, its end."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from reprodebug._base.errors import ReprodebugError, UsageError
from reprodebug.bisect import commits, packages, recorded, releases, repeat, runs
from reprodebug.bisect.control import Cancelled, Control, Listener
from reprodebug.bisect.executors import Executor, Local, Slurm
from reprodebug.bisect.lab import Lab
from reprodebug.bisect.places import Snapshot
from reprodebug.bisect.process import remove
from reprodebug.bisect.session import Session
from reprodebug.bisect.suspicion import suspects
from reprodebug.bisect.trial import Untestable
from reprodebug.bisect.worktrees import Worktree, remove_work
from reprodebug.model.experiment import AXES, INCONCLUSIVE, NOT_FOUND, Bisection
from reprodebug.model.progress import Began, Finished, Note


@dataclass(frozen=True, slots=True)
class Question:
    """What ``bisect`` was asked."""

    a: str = ""
    b: str = ""
    axes: tuple[str, ...] = ()
    good: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    repository: str = ""
    probe: tuple[str, ...] = ()
    first_parent: bool = False
    paths: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    timeout: float | None = None
    jobs: int = 1
    """trials at the same time"""
    slurm: Mapping[str, str] | None = None
    """parameters for submitit: trials are jobs of a cluster; None: they run here"""

    def about(self, cwd: str) -> dict[str, Any]:
        """What tells one search from another, for --resume."""
        what = " ".join([*((self.a, self.b) if self.a else ()), *(("--good", *self.good, "--bad", *self.bad) if self.good else ()),
                         *(("--axis", ",".join(self.axes)) if self.axes else ()), *(("--", *self.command) if self.command else ())])  # fmt: skip
        return {
            "what": what, "cwd": cwd, "axes": self.axes, "good": self.good, "bad": self.bad, "command": self.command, "a": self.a, "b": self.b,
            "repository": self.repository, "probe": self.probe, "first_parent": self.first_parent, "paths": self.paths,
        }  # fmt: skip


def bisect(
    question: Question, *, cwd: str, environment: Mapping[str, str], resume: bool = False, listen: Listener | None = None,
    control: Control | None = None,
) -> Bisection:  # fmt: skip
    """Answer a question by experiment. May be called in any thread.

    ``listen`` is told what happens (events of ``model.progress``); ``control`` pauses and cancels from another thread. Raises
    UsageError and other ReprodebugErrors; Cancelled and KeyboardInterrupt, with the state kept and every trial ended.
    """
    listen = listen or (lambda event: None)
    _sensible(question)
    about = question.about(cwd)
    session = Session.resume(about) if resume else Session.new(about)
    listen(Began(session.path, about["what"], resume))
    lab = Lab(session, listen, control or Control(), question.timeout, question.probe)
    leave: list[Callable[[], None]] = []
    remove_work(session.path)  # of a tool that was killed: git may have been in the middle of something
    try:
        lab.executor = _executor(question, session.path, environment)
        if lab.executor.note:
            listen(Note(lab.executor.note))
        try:
            result = _answer(question, lab, cwd, dict(environment), leave)
        except Untestable as error:
            result = Bisection(
                INCONCLUSIVE, ",".join(question.axes) or "joint", error.message, trials=tuple(lab.made), session=session.path
            )
        if lab.exit_code:
            ended = f"the good command itself ends with exit code {lab.exit_code}: runs are compared as far as they came"
            result = replace(result, notes=(*result.notes, ended))
        session.note("outcome", result.outcome)
        listen(Finished(result))
        return result
    except ReprodebugError as error:
        if not lab.made and not resume and not isinstance(error, Cancelled):  # a question that makes no sense: there is nothing to resume
            leave.append(lambda: remove(session.path))
        raise
    finally:
        lab.drop()
        for call in leave:
            call()
        remove_work(session.path)
        session.close()


def _executor(q: Question, session: str, environment: Mapping[str, str]) -> Executor:
    if q.slurm is None:
        return Local(q.jobs, environment)
    if q.probe:
        raise UsageError("a probe runs on this machine alone", hint="leave out --slurm, or --probe")
    return Slurm(session, q.slurm, q.jobs)


def _sensible(q: Question) -> None:
    unknown = [x for x in q.axes if x not in AXES]
    if unknown:
        raise UsageError(f"there is no axis {unknown[0]!r}", hint=f"axes are {', '.join(AXES)}")
    if bool(q.good) != bool(q.bad):
        raise UsageError("--good and --bad belong together", hint="reprodebug bisect --good REV --bad REV -- python train.py")
    if q.a and q.good:
        raise UsageError("give either two runs or --good and --bad, not both", hint="reprodebug bisect --help")
    if not q.a and not q.command and not q.probe:
        raise UsageError("no command was given", hint="reprodebug bisect --good v1.0 --bad main -- python train.py")
    if not q.a and not q.good and q.axes != ("settings",):
        raise UsageError(
            "what is to be compared?", hint="give two runs, or --good and --bad, or --axis settings for a command that does not repeat"
        )
    if q.a and q.command:
        raise UsageError(
            "two recorded runs have their own command", hint="leave out what stands behind --, or give --good and --bad instead"
        )
    if len(q.axes) > 1 and not q.a:
        raise UsageError("several axes need two recorded runs", hint="reprodebug bisect A B --axis settings,packages")


def _answer(q: Question, lab: Lab, cwd: str, environment: dict[str, str], leave: list[Callable[[], None]]) -> Bisection:
    if q.a:
        return _of_runs(q, lab, leave)
    axis = q.axes[0] if q.axes else ("packages" if all("==" in w for w in (*q.good, *q.bad)) else "commits")
    if axis == "packages":
        place = Snapshot(cwd, lab.session.path)
        p = releases.Packages(packages.pins(q.good), packages.pins(q.bad), list(q.command), cwd, environment, q.find_links)
        p.enter_place = place.enter
        good, bad = packages.extras(q.good), packages.extras(q.bad)
        p.extras = {n: good.get(n, frozenset()) | bad.get(n, frozenset()) for n in {**p.a, **p.b}}
        result = packages.search(lab, p)
        return replace(result, notes=(*result.notes, *place.notes))
    if axis == "commits":
        if len(q.good) != 1 or len(q.bad) != 1:
            raise UsageError("--good and --bad take one revision each", hint="reprodebug bisect --good v1.0 --bad main -- python train.py")
        folder = os.path.join(cwd, q.repository) if q.repository else cwd
        tree = Worktree(folder, lab.session.path)
        leave.append(tree.leave)
        where = os.path.relpath(os.path.realpath(cwd), tree.root)
        s = commits.Commits(
            tree, list(q.command), tree.resolve(q.good[0]), tree.resolve(q.bad[0]), environment,
            "." if where.startswith(os.pardir) else where, q.first_parent,
            tuple(p if p.startswith(":") or where.startswith(os.pardir) else os.path.normpath(os.path.join(where, p)) for p in q.paths),
        )  # fmt: skip
        lab.live = True
        return commits.search(lab, s)
    if axis == "settings":
        return _settings(q, lab, cwd, environment)
    raise UsageError(f"the axis {axis} needs two recorded runs", hint=f"reprodebug bisect A B --axis {axis}")


def _settings(q: Question, lab: Lab, cwd: str, environment: dict[str, str]) -> Bisection:
    if q.good:
        raise UsageError("--good and --bad name commits or package pins", hint="reprodebug bisect --axis settings -- python train.py")
    place = Snapshot(cwd, lab.session.path)
    command = repeat.Command(list(q.command), cwd, environment, place)
    result = repeat.minimize(lab, command, suspects=suspects)
    return replace(result, notes=(*result.notes, *place.notes))


def _of_runs(q: Question, lab: Lab, leave: list[Callable[[], None]]) -> Bisection:
    from reprodebug.store.run import open_run

    a, b = open_run(q.a), open_run(q.b)
    for name, run in (("A", a), ("B", b)):
        if not run.manifest.command:
            raise UsageError(f"run {name} does not say by which command it was made", hint="record it again with `reprodebug capture`")
    axes = list(q.axes) or list(AXES)
    sides = runs.Sides(a, b, lab, find_links=q.find_links, repository=q.repository, with_packages="packages" in axes)
    if sides._tree is not None:
        leave.append(sides._tree.leave)
    differ = sides.axes()
    if ("settings" in axes and "settings" not in differ and q.axes) or not differ:
        if q.axes and q.axes != ("settings",):
            return runs.search(sides, axes)
        return _repeats(sides, lab)
    return runs.search(sides, axes)


def _repeats(sides: runs.Sides, lab: Lab) -> Bisection:
    """Two runs that were launched alike: which settings make the command repeat?"""
    from reprodebug.compare.runs import compare_runs

    made = sides.candidate("A")
    place = sides._snapshot
    words = list(sides.a.manifest.command) if place is not None else list(made.command)
    command = repeat.Command(words, sides.a.manifest.cwd, recorded.environment(sides.a), place) if place is not None else repeat.Command(
        words, made.cwd, made.environment, None
    )  # fmt: skip
    result = repeat.minimize(lab, command, suspects=suspects)
    notes = [*result.notes, *sides.notes, *sides.place_notes]
    if result.outcome == NOT_FOUND and result.first is None and compare_runs(sides.a, sides.b).verdict == "divergent":
        notes.insert(0, "the two runs differ all the same, in what neither recorded, such as a file that another process reads:"
                        " `reprodebug capture --data PATH` records it")  # fmt: skip
    return replace(result, notes=tuple(dict.fromkeys(notes)))
