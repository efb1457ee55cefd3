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
from functools import partial

from reprodebug._base.errors import UsageError
from reprodebug._base.text import listed_words, plural, visible
from reprodebug.bisect.changes import sections
from reprodebug.bisect.lab import End, EndsDoNotReproduce, Lab, Wanted
from reprodebug.bisect.opened import unaffected
from reprodebug.bisect.search.graph import GraphSearch
from reprodebug.bisect.search.noise import patient, unseen
from reprodebug.bisect.trial import OPENED, Candidate, Untestable
from reprodebug.bisect.undone import Request, lasts, taken_back
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
    Trial,
)  # fmt: skip
from reprodebug.model.progress import CONFIRMING, SEARCHING, Note
from reprodebug.store.run import StoredRun

DIRTY = "+changes"
"""behind a commit's hash: with the uncommitted changes of the recorded run"""
OF_A = DIRTY + "-of-a"
"""the same, of run A: both may have their own changes of one commit"""
CHANGED = " with uncommitted changes"
CHANGED_OF_A = CHANGED + " of A"
"""behind a commit's name, where they belong to it"""
_WHERE_GIT_IS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES",
                 "GIT_NAMESPACE", "GIT_PREFIX")  # fmt: skip
"""variables that would lead git, started by a trial's program, into the user's repository"""
_REPEATS = 5
"""further trials of an end that contradicted itself"""
_MOST_NOISY = 80
_MOST_UNSHOWN = 20
"""further trials of a commit that is found and was not seen to differ"""
_SURE, _ENOUGH = 0.995, 0.99
"""probability at which a boundary counts as confirmed, and at which a search over contradicting answers ends"""


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
    """commit + DIRTY or OF_A -> patch"""
    patch: str = ""
    """uncommitted changes that both recorded runs had: applied to every commit"""
    make: Callable[[str], Candidate] | None = None
    """how a commit is entered, where more than the commit is to be chosen"""


def search(lab: Lab, s: Commits) -> Bisection:
    """Find the first commit that differs from the good end. Raises UsageError for a question that makes no sense."""
    tree = s.tree
    notes: list[str] = []
    asked = s.good
    s.good = good = _ancestor(tree, s, notes)
    plain_bad = plain(s.bad)
    tree.bound(plain(good), plain_bad)
    commits = [] if plain(good) == plain_bad else tree.between(good, plain_bad, first_parent=s.first_parent, paths=s.paths)
    if commits and s.paths and not tree.touched(good, plain_bad, s.paths):
        raise UsageError(
            f"no commit between touches {listed_words(s.paths)}", hint="--path names files or folders as git sees them from where it is run"
        )
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
        assert b.trial is not None
        seconds, shown = [b.trial.seconds], b.trial.bad
        while not shown and patient(seconds):  # a bad end may show only now and then
            again = lab.ask(request(s.bad, len(seconds)))
            seconds.append(again.seconds)
            first, shown = again.first, again.bad
            lab.narrow(first)
    except Untestable as error:
        return _done(lab, INCONCLUSIVE, error.message, notes + tree.notes, bound=bound)
    except EndsDoNotReproduce as error:
        return _done(lab, ENDS, error.message, notes + tree.notes, bound=bound)
    if not shown:
        tried = plural(len(seconds), "trial")
        why = f"the probe says that {b.text} is good, in {tried}" if lab.probe else f"{b.text} gives what {a.text} gives, in {tried}"
        if good != asked:
            why += f": what {asked[:10]} differs in came on its own side; search between the two of that side"
        return _done(lab, ENDS, why, [*notes, *tree.notes, unseen(len(seconds))], bound=bound)
    graph = GraphSearch(commits, parents, enough=_ENOUGH)
    why = _verify(lab, s, graph, request, good, len(seconds) - 1)
    if why:
        return _done(lab, ENDS, why, notes + tree.notes, bound=bound)
    _ask(lab, s, graph, request)
    _confirm(lab, s, graph, request, good)
    while lasts(lab, graph, request, partial(name, s.tree), s.tree.notes) is False:
        _doubt(lab, s, graph, request)
        _ask(lab, s, graph, request)
        _confirm(lab, s, graph, request, good)
    _show(lab, s, graph, request)
    hidden = _hidden(lab, s, graph, request, good)
    if hidden:
        reason = f"one of {len(hidden)} commits brought the difference, and none before the last touches {listed_words(s.paths)}"
        return _done(lab, FOUND, reason, [*notes, *tree.notes, "a search without --path singles it out"], first=first, bound=bound,
                     culprit=_range(s, hidden), confidence=min(0.99, sum(map(graph.belief, graph.result()[0]))))  # fmt: skip
    return _answer(lab, s, graph, first, notes, bound, good)


def plain(commit: str) -> str:
    """The hash alone."""
    return commit.partition("+")[0]


def dirty(commit: str) -> bool:
    """Whether uncommitted changes belong to it."""
    return DIRTY in commit


def name(tree: Worktree, commit: str) -> str:
    """A commit in words."""
    bare, changed = plain(commit), CHANGED_OF_A if commit.endswith(OF_A) else CHANGED if dirty(commit) else ""
    return f"commit {bare[:10]} ({visible(tree.subject(bare), 60)}){changed}"


def enter(s: Commits, commit: str, environment: Mapping[str, str] | None = None) -> Candidate:
    """The command at a commit. Raises Untestable."""
    tree = s.tree
    bare = plain(commit)
    path = tree.enter(bare, s.patches.get(commit, s.patch))
    cwd = os.path.normpath(os.path.join(path, s.where))
    if not os.path.isdir(cwd):
        raise Untestable(f"the directory {s.where} is not there at {bare[:10]}")
    variables = moved_environment(dict(s.environment if environment is None else environment), tree.root, path, cwd)
    return Candidate(commit, name(tree, commit), tuple(moved(w, tree.root, path) for w in s.command), cwd, variables,
                     check=lambda run: strayed(run, tree.root, path), tree=path)  # fmt: skip


def moved_environment(environment: dict[str, str], root: str, path: str, cwd: str) -> dict[str, str]:
    """Paths into the user's checkout lead into ours instead, and git too; ours comes first where the project is installed editable."""
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
    for name in ("OLDPWD", *(_WHERE_GIT_IS if path != root else ())):
        environment.pop(name, None)
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
    good, bad = plain(s.good), plain(s.bad)
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


def _verify(lab: Lab, s: Commits, graph: GraphSearch, request: Request, good: str, missed: int) -> str:
    """Repeat both ends, all that they show going into ``graph``; a sentence where they do not reproduce.

    ``missed``: trials of the bad end, before the one that parted, that were equal to the good one.
    """
    bad = s.bad
    for n in range(missed + 1):
        graph.answer(bad, n == missed)
    tried = 1 if lab.probe else 0  # what a probe said of them is a trial of the search already; two runs that were compared are not
    firsts = [request(good, tried), request(bad, missed + tried)]
    lab.ahead(firsts)
    said: dict[str, list[Trial]] = {}
    for end, again in zip((good, bad), firsts, strict=True):
        trial = lab.ask(again)
        if trial.verdict == UNTESTABLE:
            return f"{trial.candidate} could not be repeated: {trial.reason}"
        said[end] = [trial]
        if trial.bad is not (end == bad) or (end == bad and missed):
            repeats = [request(end, again.attempt + n) for n in range(1, _REPEATS + 1)]
            lab.ahead(repeats)
            said[end] += [t for t in map(lab.ask, repeats) if t.verdict != UNTESTABLE]
    verdicts = [t.verdict for t in said[good]]
    wrong = len(verdicts) - verdicts.count(SAME_AS_A)
    varies = SAME_AS_A in verdicts and SAME_AS_B not in verdicts  # by itself, and not in what is searched
    if wrong * 2 >= len(verdicts) and not varies:
        why = f"the good end does not repeat itself: {wrong} of {len(verdicts)} repetitions differed from it"
        return f"{why}; find what makes it vary first (`reprodebug check --minimize -- COMMAND`)"
    graph.good_end = (verdicts.count(SAME_AS_A), verdicts.count(SAME_AS_B), verdicts.count(OTHER))
    for trial in said[bad]:
        graph.answer(bad, trial.bad, unlike=trial.verdict == OTHER)
    graph.unsteady = any(t.verdict != SAME_AS_B for t in said[bad])
    graph.learned = wrong > 0 or missed > 0 or not all(t.bad for t in said[bad])
    return ""


def _ask(lab: Lab, s: Commits, graph: GraphSearch, request: Request) -> None:
    """Answer the graph's questions until it has none."""

    def wanted(commit: str) -> Wanted:
        return request(commit, len(graph.answers.get(commit, ())))

    lab.phase(SEARCHING)
    _remain(lab, graph)
    asked = 0
    batch: list[str] = []
    equated: dict[str, tuple[str, bool] | None] = {}
    while asked < (_MOST_NOISY if graph.noisy else 10_000):
        if not batch:
            batch = graph.several(lab.executor.slots)
            equated = {c: None if graph.noisy else _unaffected(lab, s, graph, c) for c in batch}
            lab.ahead([wanted(c) for c in batch if equated[c] is None])
        if not batch:
            break
        commit = batch.pop(0)
        asked += 1
        if (known := equated[commit]) is not None:
            other, bad = known
            graph.equate(commit, other)
            lab.inferred.append((commit, bad))
            lab.listen(Note(f"{commit[:10]} changes nothing that the run of {other[:10]} used: {'bad' if bad else 'good'} without a trial"))
        else:
            trial = lab.ask(wanted(commit))
            graph.answer(commit, trial.bad, unlike=trial.verdict == OTHER)
            if not graph.noisy and graph.contradicted:
                _doubt(lab, s, graph, request)
                batch = []
        _remain(lab, graph)


def _doubt(lab: Lab, s: Commits, graph: GraphSearch, request: Request) -> None:
    """Answers contradict each other: where no difference was taken back in between, trials vary. Is it the good end already that
    does? From here on by probabilities."""
    if taken_back(lab, graph, request, partial(name, s.tree), s.tree.notes):
        return
    lab.listen(Note("trials of one commit contradict each other: the search goes on by probabilities"))
    graph.learned = True
    repeats = [request(s.good, _REPEATS + 1 + n) for n in range(_REPEATS)]
    lab.ahead(repeats)
    verdicts = [t.verdict for t in map(lab.ask, repeats)]
    graph.good_end = tuple(n + verdicts.count(v) for n, v in zip(graph.good_end, (SAME_AS_A, SAME_AS_B, OTHER), strict=True))  # type: ignore[assignment]


def _remain(lab: Lab, graph: GraphSearch) -> None:
    left = [plain(c) for c in graph.remaining()]
    lab.remain("range", left, len(graph.order), math.ceil(math.log2(max(1, len(left)))) + 2)


def _unaffected(lab: Lab, s: Commits, graph: GraphSearch, commit: str) -> tuple[str, bool] | None:
    """(a tried commit from which this one differs in nothing that the run opened, its answer); None where there is none."""
    if lab.probe or dirty(commit):
        return None
    tried = [(c, said[0], _run_of(lab, s, c)) for c, said in graph.answers.items() if len(set(said)) == 1 and c != s.bad]
    tried += [(s.good, False, lab.reference), (s.bad, True, lab.other)]
    for other, bad, run in tried:
        if run and not dirty(other) and (other in graph.parents or other == s.good):
            changes, folders = s.tree.changed(other, commit)
            if len(changes) <= 500 and unaffected(os.path.join(os.path.dirname(run), OPENED), changes, folders):
                return other, bad
    return None


def _run_of(lab: Lab, s: Commits, commit: str) -> str:
    text = name(s.tree, commit)
    return next((os.path.join(lab.session.path, t.path) for t in lab.made if t.candidate == text and t.verdict != UNTESTABLE), "")


def _confirm(lab: Lab, s: Commits, graph: GraphSearch, request: Request, good: str) -> None:
    """Try both sides of the boundary again; what contradicts makes the search go on by probabilities, with all evidence kept."""
    if graph.noisy:
        return
    found, _ = graph.result()
    last = next((c for c in reversed(found) if c not in graph.untestable), "")
    before = [p for c in found for p in graph.parents.get(c, ()) if p not in found and p not in graph.untestable]
    if not last:
        return
    lab.phase(CONFIRMING)
    todo = [*dict.fromkeys(before), *([last] if last != s.bad else [])]
    most = math.ceil(math.log2(len(graph.order))) + 6
    lab.left = len(todo)
    offset = dict.fromkeys(todo, 0)
    while todo:
        batch = [request(c, len(graph.answers.get(c, ())) + offset[c]) for c in todo]
        lab.ahead(batch)
        for commit, trial in zip(todo, map(lab.ask, batch), strict=True):
            if trial.bad is None:
                offset[commit] += 1
                continue
            graph.answer(commit, trial.bad, unlike=trial.verdict == OTHER)
        if graph.contradicted:
            _doubt(lab, s, graph, request)
            _ask(lab, s, graph, request)
            return
        spare = most - len(lab.made)
        todo = before[:spare] if before and spare > 0 and sum(map(graph.belief, found)) < _SURE else []


def _show(lab: Lab, s: Commits, graph: GraphSearch, request: Request) -> None:
    """Where the answer rests on probabilities: the commit that is found is to differ from the good end itself, at least once."""
    for _ in range(_MOST_UNSHOWN):
        found, _ = graph.result()
        if not graph.noisy or len(found) != 1 or any(graph.answers.get(found[0], ())):
            return
        lab.phase(CONFIRMING)
        trial = lab.ask(request(found[0], len(graph.answers.get(found[0], ()))))
        if trial.bad is None:
            return
        graph.answer(found[0], trial.bad, unlike=trial.verdict == OTHER)
        _ask(lab, s, graph, request)


def _hidden(lab: Lab, s: Commits, graph: GraphSearch, request: Request, good: str) -> list[str]:
    """Commits that were left out as they touch none of the paths asked for, and the one that was found: where its own parent, left
    out as well, differs already. None where it does not."""
    found, _ = graph.result()
    if not s.paths or graph.noisy or len(found) != 1 or dirty(found[0]):
        return []
    parents = s.tree.parents(found[0])[: 1 if s.first_parent else None]
    for parent in parents:
        if parent not in graph.parents and parent != good and s.tree.is_ancestor(good, parent) and lab.ask(request(parent, 0)).bad:
            near = next(iter(graph.parents.get(found[0], ())), good)
            return s.tree.between(near, found[0], first_parent=s.first_parent)
    return []


def _answer(lab: Lab, s: Commits, graph: GraphSearch, first: object, notes: list[str], bound: str, good: str) -> Bisection:
    found, confidence = graph.result()
    notes = notes + s.tree.notes
    if not found:
        return _done(lab, INCONCLUSIVE, "the answers of the trials contradict each other: the history is not monotone", notes, bound=bound)
    if graph.noisy:
        notes.append(f"trials of one commit contradict each other ({_shown(graph, found)}): the answer rests on probabilities")
        if confidence < 0.9:
            return _done(lab, INCONCLUSIVE, f"after {len(lab.made)} trials no commit is likely enough", notes, bound=bound)
        if len(found) == 1 and not any(graph.answers.get(found[0], ())):
            why = f"{name(s.tree, found[0])} is the likeliest, and was never seen to differ from the good end itself"
            return _done(lab, INCONCLUSIVE, why, notes, bound=bound)
    else:
        confidence = sum(map(graph.belief, found))
    confidence = min(0.99, confidence)
    testable = [c for c in found if c not in graph.untestable]
    if len(found) > 1 and len(testable) == len(found):
        return _done(lab, NOT_FOUND, "no commit could be singled out", notes, bound=bound)
    if len(found) > 1:
        culprit = _range(s, found)
        last_good = next((p for c in found for p in graph.parents.get(c, ()) if p not in found), good)
        proof = _checkouts(last_good, found[-1])
        reason = f"one of {len(found)} commits, of which all but the last cannot be tested, brought the difference"
        return _done(lab, FOUND, reason, notes, culprit=culprit, first=first, confidence=confidence, bound=bound, proof=proof)
    commit = found[0]
    files = tuple(sections(s.patches.get(commit, ""))) if dirty(commit) else ()
    counted = tuple((c, commit in graph.ancestors(c)) for c in graph.answers) if graph.noisy else ()
    bare = plain(commit)
    subject = s.tree.subject(bare)
    bads = [t for t in lab.made if t.candidate == name(s.tree, commit) and t.first is not None]
    reason = f"{name(s.tree, commit)} is the first that differs from {name(s.tree, good)}"
    parent = next(iter(graph.parents.get(commit, ())), good)
    proof = _checkouts(parent, commit, " at times" if graph.noisy else "")
    return _done(
        lab, FOUND, reason, notes, culprit=Culprit(commit=bare, subject=subject, files=files), first=bads[-1].first if bads else first,
        confidence=confidence, bound=bound, proof=proof, counted=counted,
    )  # fmt: skip


def _range(s: Commits, found: list[str]) -> Culprit:
    commits = tuple(map(plain, found))
    return Culprit(range=commits, subjects=tuple(map(s.tree.subject, commits)))


def _checkouts(good: str, bad: str, at_times: str = "") -> tuple[str, str]:
    """The two commits on either side of the boundary, as commands."""
    changed = ": with its uncommitted changes" if dirty(bad) else ""
    return f"git checkout {plain(good)}   # equal to A", f"git checkout {plain(bad)}   # differs from A{at_times}{changed}"


def _shown(graph: GraphSearch, found: list[str]) -> str:
    """How often the commits from the first bad one on differed from the good end, and those before it."""
    inside = [x for c, said in graph.answers.items() if found[-1] in graph.ancestors(c) for x in said]
    outside = [x for c, said in graph.answers.items() if found[-1] not in graph.ancestors(c) for x in said]
    bads, goods = sum(inside), sum(outside) + sum(graph.good_end[1:])
    tries = len(outside) + sum(graph.good_end)
    return f"{bads} of {plural(len(inside), 'trial')} from there on differed from the good end, {goods} of {tries} before"


def _done(
    lab: Lab, outcome: str, reason: str, notes: list[str], *, culprit: Culprit | None = None, first: object = None,
    confidence: float = 0.0, bound: str = "", proof: tuple[str, ...] = (), counted: tuple[tuple[str, bool], ...] = (),
) -> Bisection:  # fmt: skip
    import time

    return Bisection(
        outcome, "commits", reason, culprit or Culprit(), first, round(confidence, 4), bound, tuple(lab.made),  # type: ignore[arg-type]
        round(time.monotonic() - lab.started, 3), proof, tuple(notes), lab.session.path, tuple(lab.inferred), counted,
    )  # fmt: skip
