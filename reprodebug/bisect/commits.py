"""Which commit: the axis of a project's history.

Both ends are tried first, then repeated; the graph between them is searched; the boundary is tried again at the end. A
commit that changes nothing which a tried run used has that run's answer. When trials of one commit contradict each other
the search goes on by probabilities, with all evidence kept.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from reprodebug._base.errors import ReprodebugError, UsageError
from reprodebug._base.text import plural, visible
from reprodebug.bisect.lab import End, EndsDoNotReproduce, Lab, Wanted
from reprodebug.bisect.search.graph import GraphSearch
from reprodebug.bisect.search.noise import rate
from reprodebug.bisect.trial import Candidate, Untestable
from reprodebug.bisect.worktrees import Worktree
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
    Culprit,
)  # fmt: skip
from reprodebug.model.progress import CONFIRMING, SEARCHING, Note
from reprodebug.store.run import StoredRun, open_run

DIRTY = "+changes"
"""behind a commit's hash: with the uncommitted changes of the recorded run"""
_CHANGED = " with uncommitted changes"
_NO_INPUT = re.compile(
    r"\.(py|pyi|md|rst|ipynb)$|(^|/)(LICEN[CS]E|NOTICE|AUTHORS|CHANGELOG|\.gitignore|\.gitattributes)[^/]*$|(^|/)\.github/", re.I
)
"""files that a program reads by import, which is recorded for certain, or not at all"""
_REPEATS = 5
"""further trials of an end that contradicted itself"""
_MOST_UNLIKE = 5
"""runs like neither end after which a commit counts as bad all the same"""
_MOST_NOISY = 80
_FLOOR = 0.02
"""rate of wrong trials that is reckoned with once one was seen"""


Request = Callable[[str, int], Wanted]
"""(commit, which attempt) -> the trial to ask for"""


@dataclass(slots=True)
class Commits:
    """What is searched."""

    tree: Worktree
    command: list[str]
    good: str
    bad: str
    environment: Mapping[str, str]
    where: str = ""
    """directory in which the command runs, relative to the project's root"""
    first_parent: bool = False
    paths: tuple[str, ...] = ()
    patches: dict[str, str] = field(default_factory=dict)
    """commit + DIRTY -> patch"""
    patch: str = ""
    """uncommitted changes that both recorded runs had: applied to every commit"""
    make: Callable[[str], Candidate] | None = None
    """how a commit is entered, where more than the commit is to be chosen"""
    vague: bool = False
    """a run that is like neither end is no answer: the program varies by itself, and what it varies in is not what is searched"""
    unlike: dict[str, int] = field(default_factory=dict)
    """commit -> its runs that were like neither end"""


def search(lab: Lab, s: Commits) -> Bisection:
    """Find the first commit that differs from the good end. Raises UsageError for a question that makes no sense."""
    tree = s.tree
    notes: list[str] = []
    good = _ancestor(tree, s, notes)
    plain_bad = s.bad.removesuffix(DIRTY)
    tree.bound(good.removesuffix(DIRTY), plain_bad)
    commits = [] if good.removesuffix(DIRTY) == plain_bad else tree.between(good, plain_bad, first_parent=s.first_parent, paths=s.paths)
    parents = tree.edges(commits, first_parent=s.first_parent)
    if s.bad != plain_bad:
        parents[s.bad] = [plain_bad] if commits else []
        commits.append(s.bad)
    if not commits:
        raise UsageError("the good and the bad commit are the same", hint="give two commits, the bad one descending from the good one")
    bound = f"log2({len(commits)}) = {math.log2(len(commits)):.1f}"

    candidate = s.make or (lambda commit: enter(s, commit))

    def request(commit: str, n: int) -> Wanted:
        return Wanted(commit, name(tree, commit), lambda: candidate(commit), n)

    lab.axis = "commits"
    a = End(good, name(tree, good), lambda: candidate(good))
    b = End(s.bad, name(tree, s.bad), lambda: candidate(s.bad))
    try:
        first = lab.part(a, b)
        tries = 1
        while first is None and tries <= 3 and not lab.probe:  # a bad end may show only now and then
            again = lab.ask(request(s.bad, tries))
            tries += 1
            first = again.first if again.bad else None
            lab.narrow(first)
    except Untestable as error:
        return _done(lab, INCONCLUSIVE, error.message, notes + tree.notes, bound=bound)
    except EndsDoNotReproduce as error:
        return _done(lab, ENDS, error.message, notes + tree.notes, bound=bound)
    if first is None and not lab.probe:
        return _done(lab, ENDS, f"{b.text} gives what {a.text} gives, in {plural(tries, 'trial')}", notes + tree.notes, bound=bound)
    false_bad, false_good, why = _rates(lab, s, request, good, tries - 1)
    if why:
        return _done(lab, ENDS, why, notes + tree.notes, bound=bound)
    graph = GraphSearch(commits, parents, false_bad, false_good)
    _ask(lab, s, graph, request)
    _confirm(lab, s, graph, request, good)
    return _answer(lab, s, graph, first, notes, bound, good)


def name(tree: Worktree, commit: str) -> str:
    """A commit in words."""
    plain = commit.removesuffix(DIRTY)
    return f"commit {plain[:10]} ({visible(tree.subject(plain), 60)}){_CHANGED if commit != plain else ''}"


def enter(s: Commits, commit: str, environment: Mapping[str, str] | None = None) -> Candidate:
    """The command at a commit. Raises Untestable."""
    tree = s.tree
    plain = commit.removesuffix(DIRTY)
    path = tree.enter(plain, s.patches.get(commit, s.patch))
    cwd = os.path.normpath(os.path.join(path, s.where))
    if not os.path.isdir(cwd):
        raise Untestable(f"the directory {s.where} is not there at {plain[:10]}")
    variables = moved_environment(dict(s.environment if environment is None else environment), tree.root, path, cwd)
    return Candidate(commit, name(tree, commit), tuple(moved(w, tree.root, path) for w in s.command), cwd, variables,
                     check=lambda run: strayed(run, tree.root, path))  # fmt: skip


def moved_environment(environment: dict[str, str], root: str, path: str, cwd: str) -> dict[str, str]:
    """Paths into the user's checkout lead into ours instead; ours comes first where the project is installed editable."""
    for key in ("PYTHONPATH",):
        if environment.get(key):
            environment[key] = os.pathsep.join(moved(p, root, path) for p in environment[key].split(os.pathsep))
    sources = [p for p in (os.path.join(path, "src"), path) if os.path.isdir(p)]
    kept = [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
    editable = [
        p for p in sources if os.path.isfile(os.path.join(path, "pyproject.toml")) or os.path.isfile(os.path.join(path, "setup.py"))
    ]
    if kept or editable:
        environment["PYTHONPATH"] = os.pathsep.join([*kept, *editable])
    environment["PWD"] = cwd
    environment.pop("OLDPWD", None)
    return environment


def moved(word: str, root: str, path: str) -> str:
    """A path into the user's checkout leads into ours instead; other words stay."""
    inside = word == root or word.startswith(root + os.sep)
    return path + word[len(root) :] if inside and not re.search(r"(^|/)(\.?venv|env)/", word[len(root) :]) else word


def strayed(run: StoredRun, root: str, path: str) -> str:
    """A sentence where a module came from the user's checkout and not from the commit's; '' where none did."""
    for file in used_sources(run):
        if (
            (file + os.sep).startswith(root + os.sep)
            and not file.startswith(path + os.sep)
            and not re.search(r"/(\.?venv|env|site-packages)/", file)
        ):
            return f"{os.path.relpath(file, root)} was imported from your checkout, not from the commit: the project is installed in editable mode"
    return ""


def used_sources(run: StoredRun) -> list[str]:
    """Absolute paths of the project's modules that a run imported; asked while its working tree is as it was."""
    found = []
    for places in _places(run):
        found.append(next((p for p in places if os.path.exists(p)), places[-1]))
    return found


def used_files(run: StoredRun) -> set[str]:
    """Absolute paths of everything that a run imported or opened; of a module all places where it may have lain."""
    opened = (os.path.normpath(os.path.join(run.manifest.cwd, p)) for p in run.manifest.data)
    return {*(p for places in _places(run) for p in places), *opened}


def _places(run: StoredRun) -> list[list[str]]:
    """For each module of the project that a run imported: where it may lie, in the order of the import path, then below the
    working directory. Records name a module relative to one of these."""
    files = run.manifest.code.get("files")
    interpreter = run.manifest.environment.get("interpreter")
    path = interpreter.get("sys_path") if isinstance(interpreter, dict) else None
    cwd = run.manifest.cwd
    roots = [os.path.join(cwd, str(p)) for p in path] if isinstance(path, list) else []
    return [[os.path.normpath(os.path.join(r, f)) for r in (*roots, cwd)] for f in files] if isinstance(files, dict) else []


def _ancestor(tree: Worktree, s: Commits, notes: list[str]) -> str:
    """The good end, or where the two histories part if the bad one does not descend from it. Raises UsageError."""
    good, bad = s.good.removesuffix(DIRTY), s.bad.removesuffix(DIRTY)
    if good == bad:
        return s.good
    if tree.is_ancestor(good, bad):
        return s.good
    if tree.is_ancestor(bad, good):
        raise UsageError(
            "the good commit descends from the bad one", hint="exchange --good and --bad to find the commit that brought the agreement"
        )
    base = tree.merge_base(good, bad)
    if base is None:
        raise UsageError("the two commits share no history", hint="give a good commit from which the bad one descends")
    notes.append(f"the bad commit does not descend from the good one: the search starts where they part, at {base[:10]}")
    return base


def _rates(lab: Lab, s: Commits, request: Request, good: str, missed: int) -> tuple[float, float, str]:
    """(rate of good ends that show as bad, rate of bad ends that show as good, why the ends do not reproduce)."""
    if lab.probe:
        return 0.0, 0.0, ""
    bad = s.bad
    wrong_a = tries_a = wrong_b = tries_b = 0
    firsts = [request(good, 0), request(bad, max(0, missed))]
    lab.ahead(firsts)
    for end, again in zip((good, bad), firsts, strict=True):
        trial = lab.ask(again)
        wrong = trial.bad is not (end == bad)
        if trial.verdict == UNTESTABLE:
            return 0.0, 0.0, f"{trial.candidate} could not be repeated: {trial.reason}"
        counted, verdicts = [wrong], [trial.verdict]
        if wrong or (end == bad and missed):
            repeats = [request(end, again.attempt + n) for n in range(1, _REPEATS + 1)]
            lab.ahead(repeats)
            for more in map(lab.ask, repeats):
                if more.verdict != UNTESTABLE:
                    counted.append(more.bad is not (end == bad))
                    verdicts.append(more.verdict)
        if end == good:
            wrong_a, tries_a = sum(counted), len(counted)
            if wrong_a and SAME_AS_A in verdicts and SAME_AS_B not in verdicts:
                s.vague, wrong_a, tries_a = True, 0, verdicts.count(SAME_AS_A)
        else:
            wrong_b, tries_b = sum(counted) + missed, len(counted) + missed + 1
    if wrong_a and wrong_a >= 0.5 * tries_a:
        why = f"the good end does not repeat itself: {wrong_a} of {tries_a} repetitions differed from it"
        return 0.0, 0.0, f"{why}; find what makes it vary first (`reprodebug check --minimize -- COMMAND`)"
    false_bad = rate(wrong_a, tries_a) if wrong_a else 0.0
    false_good = rate(wrong_b, tries_b) if wrong_b else 0.0
    if false_bad or false_good or s.vague:
        return max(false_bad, _FLOOR), max(false_good, _FLOOR), ""
    return 0.0, 0.0, ""


def _ask(lab: Lab, s: Commits, graph: GraphSearch, request: Request) -> None:
    """Answer the graph's questions until it has none."""

    def wanted(commit: str) -> Wanted:
        return request(commit, len(graph.answers.get(commit, ())) + s.unlike.get(commit, 0) * s.vague + _ends_offset(s, commit))

    lab.phase(SEARCHING)
    _remain(lab, graph)
    asked = 0
    batch: list[str] = []
    while asked < (_MOST_NOISY if graph.noisy else 10_000):
        if not batch:
            batch = graph.several(lab.executor.slots)
            lab.ahead([wanted(c) for c in batch if graph.noisy or _unaffected(lab, s, graph, c) is None])
        if not batch:
            break
        commit = batch.pop(0)
        asked += 1
        if not graph.noisy and (known := _unaffected(lab, s, graph, commit)) is not None:
            graph.answer(commit, known)
            lab.inferred.append((commit, known))
            lab.listen(Note(f"{commit[:10]} changes nothing that a tried run used: {'bad' if known else 'good'} without a trial"))
            _remain(lab, graph)
            continue
        trial = lab.ask(wanted(commit))
        if trial.verdict == OTHER:
            s.unlike[commit] = s.unlike.get(commit, 0) + 1
            if s.vague and s.unlike[commit] < _MOST_UNLIKE:
                continue
        graph.answer(commit, trial.bad)
        if graph.contradicted:
            _doubt(s, graph)
        _remain(lab, graph)


def _doubt(s: Commits, graph: GraphSearch) -> None:
    """From now on by probabilities; what was like neither end, and had been taken for bad, is no evidence any more."""
    graph.false_bad = graph.false_good = 0.05
    if s.vague or not s.unlike:
        return
    s.vague = True
    for commit, times in s.unlike.items():
        said = graph.answers.pop(commit, [])
        kept = sorted(said)[: max(0, len(said) - times)]  # the good ones stand first
        if kept:
            graph.answers[commit] = kept


def _remain(lab: Lab, graph: GraphSearch) -> None:
    left = [c.removesuffix(DIRTY) for c in graph.remaining()]
    lab.remain("range", left, len(graph.order), math.ceil(math.log2(max(1, len(left)))) + 2)


def _ends_offset(s: Commits, commit: str) -> int:
    return _REPEATS + 4 if commit in (s.good, s.bad) else 0


def _unaffected(lab: Lab, s: Commits, graph: GraphSearch, commit: str) -> bool | None:
    """The answer of a tried commit from which this one differs in nothing that the run used; None where there is none."""
    if lab.probe or commit.endswith(DIRTY):
        return None
    tried: list[tuple[str, bool, str]] = []
    for other, said in graph.answers.items():
        if len(set(said)) == 1 and not other.endswith(DIRTY):
            tried.append((other, said[0], _run_of(lab, s, other)))
    tried += [(s.good, False, lab.reference)] if not s.good.endswith(DIRTY) else []
    tried += [(s.bad, True, lab.other)] if not s.bad.endswith(DIRTY) else []
    for other, bad, run in tried:
        if not run or not os.path.isdir(run):
            continue
        changed = s.tree.changed(other, commit)
        if len(changed) > 500 or not all(_NO_INPUT.search(p) for p in changed):
            continue
        try:
            recorded = open_run(run)
            used = used_files(recorded)
        except ReprodebugError:
            continue
        root = os.path.normpath(os.path.join(recorded.manifest.cwd, os.path.relpath(".", s.where or ".")))
        if not used.intersection(os.path.join(root, p) for p in changed) and not any(_may_shadow(p) for p in changed):
            return bad
    return None


def _may_shadow(path: str) -> bool:
    return os.path.basename(path) in ("sitecustomize.py", "usercustomize.py")


def _run_of(lab: Lab, s: Commits, commit: str) -> str:
    text = name(s.tree, commit)
    return next((os.path.join(lab.session.path, t.path) for t in lab.made if t.candidate == text and t.verdict != UNTESTABLE), "")


def _confirm(lab: Lab, s: Commits, graph: GraphSearch, request: Request, good: str) -> None:
    """Try the boundary once more; what contradicts turns the search to probabilities, with all evidence kept."""
    if lab.probe or graph.noisy:
        return
    found, _ = graph.result()
    if len(found) != 1:
        return
    wrong = False
    lab.phase(CONFIRMING)
    lab.left = 2
    boundary = {found[0]: True} | dict.fromkeys(graph.parents.get(found[0], ()), False)
    again = {
        c: request(c, len(graph.answers.get(c, ())) or 0) for c in boundary if c not in (s.bad, good) and c not in graph.untestable
    }  # ends were repeated before
    lab.ahead(list(again.values()))
    for commit, wanted in again.items():
        trial = lab.ask(wanted)
        if trial.bad is None:
            continue
        s.unlike[commit] = s.unlike.get(commit, 0) + (trial.verdict == OTHER)
        graph.answer(commit, trial.bad)
        wrong = wrong or trial.bad is not boundary[commit]
    if wrong:
        lab.listen(Note("trials of one commit contradict each other: the search goes on by probabilities"))
        _doubt(s, graph)
        _ask(lab, s, graph, request)


def _answer(lab: Lab, s: Commits, graph: GraphSearch, first: object, notes: list[str], bound: str, good: str) -> Bisection:
    found, confidence = graph.result()
    notes = notes + s.tree.notes
    if not found:
        return _done(lab, INCONCLUSIVE, "the answers of the trials contradict each other: the history is not monotone", notes, bound=bound)
    if graph.noisy:
        notes.append(
            f"trials are noisy: a good commit shows as bad in about {graph.false_bad:.0%} and a bad one as good in about"
            f" {graph.false_good:.0%} of them; the answer rests on probabilities"
        )
        if s.vague:
            times = sum(t.verdict == OTHER for t in lab.made)
            notes.append(f"the program varies by itself: {plural(times, 'run')} like neither end were repeated and not counted")
        if confidence < 0.9:
            return _done(lab, INCONCLUSIVE, f"after {len(lab.made)} trials no commit is likely enough", notes, bound=bound)
    else:
        confidence = 0.99 if lab.made else 0.0
    testable = [c for c in found if c not in graph.untestable]
    if len(found) > 1 and len(testable) == len(found):
        return _done(lab, NOT_FOUND, "no commit could be singled out", notes, bound=bound)
    if len(found) > 1:
        culprit = Culprit(range=tuple(c.removesuffix(DIRTY) for c in found))
        reason = f"one of {len(found)} commits, of which all but the last cannot be tested, brought the difference"
        return _done(lab, FOUND, reason, notes, culprit=culprit, first=first, confidence=confidence, bound=bound)
    commit = found[0]
    plain = commit.removesuffix(DIRTY)
    subject = s.tree.subject(plain)
    changes = " and the uncommitted changes" if commit != plain else ""
    bads = [t for t in lab.made if t.candidate == name(s.tree, commit) and t.first is not None]
    reason = f"{name(s.tree, commit)}{changes and ''} is the first that differs from {name(s.tree, good)}"
    parent = next(iter(graph.parents.get(commit, ())), good)
    proof = (
        f"git checkout {parent.removesuffix(DIRTY)}   # equal to A",
        f"git checkout {plain}   # differs from A" + (": with its uncommitted changes" if commit != plain else ""),
    )
    return _done(
        lab, FOUND, reason, notes, culprit=Culprit(commit=plain, subject=subject), first=bads[-1].first if bads else first,
        confidence=confidence, bound=bound, proof=proof,
    )  # fmt: skip


def _done(
    lab: Lab, outcome: str, reason: str, notes: list[str], *, culprit: Culprit | None = None, first: object = None,
    confidence: float = 0.0, bound: str = "", proof: tuple[str, ...] = (),
) -> Bisection:  # fmt: skip
    import time

    return Bisection(
        outcome, "commits", reason, culprit or Culprit(), first, round(confidence, 4), bound, tuple(lab.made),  # type: ignore[arg-type]
        round(time.monotonic() - lab.started, 3), proof, tuple(notes), lab.session.path, tuple(lab.inferred),
    )  # fmt: skip


def git_log(result: Bisection, good: str, bad: str) -> str:
    """The search in the form of ``git bisect log``: one line for each commit that was tried or inferred.

    Where trials of one commit contradict each other the more frequent verdict stands, and the others are a remark.
    """
    lines = ["git bisect start", f"# bad: {bad}", f"git bisect bad {bad}", f"# good: {good}", f"git bisect good {good}"]
    said: dict[str, list[bool | None]] = {}
    names: dict[str, str] = {}
    for t in result.trials:
        commit = re.match(r"commit ([0-9a-f]{10,})", t.candidate)
        if commit and not t.candidate.endswith(_CHANGED):
            names[commit[1]] = t.candidate
            said.setdefault(commit[1], []).append(t.bad)
    for full, was in result.inferred:
        names.setdefault(full, f"commit {full[:10]} changes nothing that a tried run used")
        said.setdefault(full, []).append(was)
    for commit_, answers in said.items():
        known = [x for x in answers if x is not None]
        verdict = "skip" if not known else "bad" if sum(known) * 2 > len(known) else "good"
        lines.append(f"# {verdict}: {visible(names[commit_], 200)}")
        if len(set(known)) > 1:
            lines.append(f"# {sum(known)} of {len(known)} trials differed from the good end")
        lines.append(f"git bisect {verdict} {commit_}")
    return "\n".join(lines) + "\n"
