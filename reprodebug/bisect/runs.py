"""From two recorded runs to experiments: what differs along each axis, and the program under any mixture of it.

An axis that alone makes a difference is searched by itself; where several are needed together, each is searched with the others
at B's value. What was recorded masked, cut, or not at all cannot be imposed, and is said.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from reprodebug._base.errors import UsageError
from reprodebug._base.text import listed_words
from reprodebug.bisect import changes, recorded, releases
from reprodebug.bisect import choice as choices
from reprodebug.bisect import commits as history
from reprodebug.bisect import packages as versions_of
from reprodebug.bisect import settings as catalogue
from reprodebug.bisect.configuration import Configurations, of_runs
from reprodebug.bisect.lab import Lab
from reprodebug.bisect.places import Snapshot
from reprodebug.bisect.trial import Candidate, Untestable
from reprodebug.bisect.worktrees import Worktree
from reprodebug.compare import importance
from reprodebug.model.experiment import AXES, FOUND, NOT_FOUND, Bisection, Culprit
from reprodebug.store.run import StoredRun

_ABSENT = "(unset)"
_PRIOR = {"config": 3.0, "commits": 3.0, "packages": 2.0, "env": 2.0, "settings": 1.0}


@dataclass(slots=True)
class Sides:
    """Two recorded runs and what of them can be imposed."""

    a: StoredRun
    b: StoredRun
    lab: Lab
    with_packages: bool = False
    """candidates are given the recorded versions; False: the installed ones serve"""
    find_links: tuple[str, ...] = ()
    repository: str = ""
    """where the project's repository is, if not where it was recorded"""
    notes: list[str] = field(default_factory=list)
    variables: dict[str, dict[str, Any]] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: tuple[dict[str, str | None], dict[str, str | None]] = field(default_factory=lambda: ({}, {}))
    configuration: Configurations = field(default_factory=lambda: Configurations([], []))
    revisions: tuple[str, str] = ("", "")
    patches: dict[str, str] = field(default_factory=dict)
    where: str = ""
    _tree: Worktree | None = None
    _snapshot: Snapshot | None = None
    _store: releases.Store | None = None

    def __post_init__(self) -> None:
        self.variables, hidden = _variables(self.a, self.b)
        self.notes += [f"{n} differs, and its value was masked when it was recorded: it was not searched" for n in hidden]
        self.versions = versions_of.differing(self.a, self.b)
        self.configuration = of_runs(self.a, self.b)
        self._history()
        follow = {n for s in catalogue.CATALOGUE for n in [s.name] if set(s.variables) & set(self.variables)}
        self.settings = {n: v for n, v in catalogue.differing(self.a, self.b).items() if n not in follow}

    # what differs

    def axes(self) -> list[str]:
        """The axes along which the two runs differ."""
        present = {
            "commits": self.revisions[0] != self.revisions[1], "settings": bool(self.settings), "packages": bool(self.versions[0]),
            "env": bool(self.variables), "config": bool(self.configuration.leaves),
        }  # fmt: skip
        return [axis for axis in AXES if present[axis]]

    def items(self, axis: str) -> list[str]:
        """What an axis consists of."""
        if axis == "settings":
            return list(self.settings)
        if axis == "packages":
            return list(versions_of.items(self._packages()))
        if axis == "env":
            return list(self.variables)
        return [x.name for x in self.configuration.leaves] if axis == "config" else []

    def _history(self) -> None:
        codes = self.a.manifest.code, self.b.manifest.code
        found = [str(c.get("commit") or "") for c in codes]
        root = self.repository or str(codes[0].get("root") or "")
        if not all(found) or not os.path.isdir(root):
            if any(found) and not os.path.isdir(root):
                self.notes.append(f"the repository {root} is not there any more: commits were not searched (name it with --repo)")
            return
        revisions = []
        for side, code in zip("AB", codes, strict=True):
            commit, recorded_patch = str(code["commit"]), str(code.get("patch") or "")
            patch = "".join(changes.sections(recorded_patch).values())
            self.notes += [
                f"{name}, a binary file, had uncommitted changes in {side}: they were not recorded"
                for name in changes.binary(recorded_patch)
            ]
            if patch and not code.get("patch_cut"):
                commit += history.OF_A if side == "A" else history.DIRTY
                self.patches[commit] = patch
            elif patch:
                self.notes.append(f"the uncommitted changes of {side} were too many to be recorded whole: they are left out")
            revisions.append(commit)
        self._tree = Worktree(root, self.lab.session.path)
        for commit in revisions:
            self._tree.resolve(history.plain(commit))
        self.where = os.path.relpath(os.path.realpath(self.a.manifest.cwd), os.path.realpath(str(codes[0].get("root") or root)))
        if self.where.startswith(os.pardir):
            self.where = "."
        if self.patches and len(set(self.patches.values())) == 1 and len(self.patches) == 2 and revisions[0] != revisions[1]:
            revisions = [history.plain(r) for r in revisions]
            self.patches = dict.fromkeys([*self.patches, *revisions], next(iter(self.patches.values())))
        self.revisions = (revisions[0], revisions[1])

    # any mixture

    def candidate(
        self, text: str, *, commit: str = "", env: frozenset[str] = frozenset(), settings: frozenset[str] = frozenset(),
        packages: frozenset[str] = frozenset(), config: frozenset[str] = frozenset(),
        versions: Mapping[str, str | None] | None = None, held: frozenset[str] = frozenset(),
    ) -> Candidate:  # fmt: skip
        """A's program with these things at B's value. Raises Untestable."""
        variables = recorded.environment(self.a)
        for name in env:
            value = self.variables[name]["b"]
            variables.pop(name, None)
            if value != _ABSENT:
                variables[name] = value
        words = self.configuration.command(set(config)) or list(self.a.manifest.command)
        if self._tree is not None:
            if commit == "":
                commit = self.revisions[0]
            shared = self.patches.get(commit, "")
            place = history.Commits(self._tree, words, "", "", variables, self.where, patches={commit: shared} if shared else {})
            found = history.enter(place, commit, variables)
            words, cwd, variables, checks = list(found.command), found.cwd, found.environment, [found.check]
        else:
            if self._snapshot is None:
                self._snapshot = Snapshot(recorded.directory(self.a), self.lab.session.path)
            root, cwd = self._snapshot.enter()
            variables = history.moved_environment(variables, self._snapshot.root, root, cwd)
            words = [history.moved(w, self._snapshot.root, root) for w in recorded.outward(self.a, words, self._snapshot.root)]
            checks = []
        for file, content in self.configuration.files(set(config)).items():
            if self._snapshot is not None and self._snapshot.in_place:
                raise Untestable("configuration files are not written into the project's own directory")
            os.makedirs(os.path.dirname(os.path.join(cwd, file)) or cwd, exist_ok=True)
            with open(os.path.join(cwd, file), "w", encoding="utf-8") as f:
                f.write(content)
        if self.versions[0] and self.with_packages:
            p = replace(self._packages(), command=words, cwd=cwd, environment=variables)
            wanted = dict(self.versions[0]) if versions is None else dict(versions)
            grouped = versions_of.items(p)
            for item in packages:
                for name in grouped[item]:
                    wanted[name] = self.versions[1].get(name)
            store = self._store = self._store or releases.Store(p, self.lab.session.path, self.lab.control)
            store._p = p
            stay = frozenset(name for item in held for name in grouped[item])
            entered = versions_of.enter(p, store, wanted, text, frozenset(self._allowed(store)), stay)
            words, variables = list(entered.command), entered.environment
            checks.append(entered.check)
        values = {n: v["b" if n in settings else "a"] for n, v in self.settings.items()}
        guest = catalogue.enter(values, variables)

        def check(run: StoredRun) -> str:
            return next((why for c in checks if c is not None and (why := c(run))), "") or catalogue.not_taken(run, values)

        return Candidate(text, text, tuple(words), cwd, variables, guest, check)

    _ends: list[str] | None = None

    def _allowed(self, store: releases.Store) -> list[str]:
        if self._ends is None:
            self._ends = [c for side in self.versions for c in store.contradictions(side)]
        return self._ends

    def _packages(self) -> releases.Packages:
        a, b = self.versions
        return releases.Packages(a, b, list(self.a.manifest.command), self.a.manifest.cwd, recorded.environment(self.a), self.find_links)

    def culprit(self, axis: str, items: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """Items of an axis with their two values."""
        if axis == "env":
            return {n: self.variables[n] for n in items}
        if axis == "settings":
            return {n: self.settings[n] for n in items}
        if axis == "config":
            leaves = {x.name: x for x in self.configuration.leaves}
            return {n: {"a": leaves[n].a, "b": leaves[n].b} for n in items}
        grouped = versions_of.items(self._packages())
        return {n: {"a": self.versions[0].get(n), "b": self.versions[1].get(n)} for i in items for n in grouped[i]}

    @property
    def place_notes(self) -> list[str]:
        return [*(self._tree.notes if self._tree else []), *(self._snapshot.notes if self._snapshot else [])]


def search(s: Sides, axes: list[str]) -> Bisection:
    """Which of ``axes`` and then what of them makes the two runs differ. Raises UsageError where none of them differs."""
    present = [axis for axis in axes if axis in s.axes()]
    if not present:
        differ = s.axes()
        raise UsageError(
            f"the two runs do not differ in {listed_words(axes)}",
            hint=f"they differ in {listed_words(differ)}"
            if differ
            else "they were launched alike: `reprodebug bisect A B --axis settings`",
        )
    if len(present) == 1:
        return inside(s, present[0], ())
    question = choices.Choice("axes", present, lambda chosen: mixture(s, chosen, choices.text(question, chosen)), _PRIOR)
    question.name = lambda chosen: _end(s, chosen)
    found = choices.decide(s.lab, question)
    if found.outcome != FOUND:
        result = found.bisection(s.lab, "joint")
        return replace(result, notes=(*result.notes, *s.notes, *s.place_notes))
    culprit, notes = Culprit(), [*found.notes]
    proofs: list[str] = []
    confidence, first = found.confidence, found.first
    reasons: list[str] = []
    for axis in found.items:
        others = tuple(x for cause in found.causes if axis in cause for x in cause if x != axis)
        part = inside(s, axis, others)
        notes += [n for n in part.notes if n not in notes]
        if part.outcome != FOUND:
            reasons.append(f"the {axis} as a whole ({part.reason})")
            if axis != "commits":
                culprit = _joined(culprit, _culprit(axis, s.culprit(axis, tuple(s.items(axis)))))
            else:
                culprit = replace(culprit, range=tuple(dict.fromkeys(map(history.plain, s.revisions))), subjects=())
            continue
        confidence = min(confidence, part.confidence)
        reasons.append(part.reason)
        proofs += part.proof
        culprit = _joined(culprit, part.culprit)
    reasons += [f"it takes the {listed_words(cause)} of B together" for cause in found.causes if len(cause) > 1]
    return replace(
        found.bisection(s.lab, "joint"), reason="; ".join(reasons), culprit=culprit, confidence=round(confidence, 4), first=first,
        proof=tuple(proofs), notes=tuple(dict.fromkeys([*notes, *s.notes, *s.place_notes])),
    )  # fmt: skip


def _joined(x: Culprit, y: Culprit) -> Culprit:
    return Culprit(
        y.commit or x.commit, y.subject or x.subject, y.range or x.range, y.subjects or x.subjects, y.files or x.files,
        x.settings | y.settings, x.packages | y.packages, x.env | y.env, x.config | y.config,
    )  # fmt: skip


def mixture(s: Sides, axes: frozenset[str], text: str, **chosen: Any) -> Candidate:
    """Whole axes at B's value, and what ``chosen`` says of others."""
    words: dict[str, Any] = {axis: frozenset(s.items(axis)) for axis in axes if axis != "commits"}
    words["commit"] = s.revisions["commits" in axes] if s.revisions[0] else ""
    return s.candidate(text, **(words | chosen))


def inside(s: Sides, axis: str, others: tuple[str, ...]) -> Bisection:
    """Search one axis, ``others`` at B's value."""
    fixed = frozenset(others)
    if axis == "commits":
        return _commits(s, fixed)
    names = s.items(axis)
    tag = axis if not others else f"{axis} beside {'+'.join(sorted(others))}"

    def make(chosen: frozenset[str]) -> Candidate:
        more = {"held": frozenset(question.held)} if axis == "packages" else {}
        return mixture(s, fixed, choices.text(question, chosen), **{axis: chosen}, **more)

    question = choices.Choice(tag, names, make, _weights(s, axis))
    question.beside = f", with the {listed_words(sorted(others))} of B" if others else ""
    question.ends = (_end(s, fixed), _end(s, fixed | {axis}))
    _fresh(s.lab)
    found = choices.decide(s.lab, question)
    result = found.bisection(s.lab, axis)
    notes = tuple(dict.fromkeys([*result.notes, *s.notes, *s.place_notes]))
    if found.outcome != FOUND:
        if not others and found.outcome in (NOT_FOUND, "ends-do-not-reproduce") and len(s.axes()) > 1:
            rest = [x for x in s.axes() if x != axis]
            notes = (*notes, f"the two runs also differ in {listed_words(rest)}, which were left at A's value")
        return replace(result, notes=notes)
    guilty, causes, sure = found.items, list(found.causes), 1.0
    if axis == "packages":
        p = s._packages()
        store = s._store = s._store or releases.Store(p, s.lab.session.path, s.lab.control)
        more: list[str] = []
        causes, sure = versions_of.told_apart(s.lab, p, store, question, found.causes, more)
        guilty = tuple(i for cause in causes for i in cause)
    culprits = s.culprit(axis, guilty)
    if axis == "packages":
        grouped = versions_of.items(p)
        for cause, item in [(c, i) for c in causes for i in c][:3]:
            if len(grouped[item]) == 1:
                likely = versions_of.first_bad(
                    s.lab, p, store, question, item, cause, culprits, more, lambda versions, text: mixture(s, fixed, text, versions=versions)
                )  # fmt: skip
                sure = min(sure, likely)
        notes = (*notes, *more)
    each = [[n for i in cause for n in grouped[i]] if axis == "packages" else list(cause) for cause in causes]
    said = [f"{listed_words([_values(n, culprits[n]) for n in c])} {'makes' if len(c) == 1 else 'make'} the difference" for c in each]
    proof = _proof(s, axis, fixed, question.beside, culprits, each)
    return replace(
        result, reason="; ".join(said), notes=notes, proof=proof,
        culprit=_culprit(axis, culprits), trials=tuple(s.lab.made), confidence=min(result.confidence, sure),
    )  # fmt: skip


def _proof(
    s: Sides, axis: str, fixed: frozenset[str], beside: str, culprits: Mapping[str, Mapping[str, Any]], causes: list[list[str]]
) -> tuple[str, ...]:  # fmt: skip
    """A's command, and for each cause the one that differs in it alone: what was run, as far as a command line can say it."""
    given = set(s.items("config")) if "config" in fixed else set()

    def command(cause: list[str]) -> list[str]:
        words = s.configuration.command(given | set(cause) if axis == "config" else given) or list(s.a.manifest.command)
        return words if axis != "env" else [*_assigned({n: v["b" if n in cause else "a"] for n, v in culprits.items()}), *words]

    options = {x.name for x in s.configuration.leaves if x.option} if axis == "config" else culprits.keys() if axis == "env" else set()
    lines = [f"A{beside}: {shlex.join(command([]))}   # equal to A"]
    for cause in causes:
        rest = [_values(n, culprits[n]) for n in cause if n not in options]
        words = f"A{beside}: {shlex.join(command(cause))}" if len(rest) < len(cause) else "the same"
        lines.append(words + (f" with {listed_words(rest)} as in B" if rest else "") + "   # differs from A")
    return tuple(lines)


def _values(name: str, c: Mapping[str, Any]) -> str:
    return f"{name} ({_short(c['a'])} in A, {_short(c['b'])} in B)"


def _assigned(variables: Mapping[str, str]) -> list[str]:
    gone = [n for n, value in variables.items() if value == _ABSENT]
    return ["env", *(w for n in gone for w in ("-u", n)), *(f"{n}={value}" for n, value in variables.items() if n not in gone)]


def _culprit(axis: str, found: dict[str, dict[str, Any]]) -> Culprit:
    return {
        "settings": Culprit(settings=found), "packages": Culprit(packages=found), "env": Culprit(env=found), "config": Culprit(config=found),
    }[axis]  # fmt: skip


def _end(s: Sides, axes: frozenset[str]) -> str:
    """The name of a mixture of whole axes in the session."""
    return "whole:" + ("+".join(sorted(axes)) or "A")


def _commits(s: Sides, fixed: frozenset[str]) -> Bisection:
    assert s._tree is not None
    good, bad = s.revisions
    if history.plain(good) == history.plain(bad):
        return _changes(s, fixed, good, bad)
    _fresh(s.lab)
    question = history.Commits(
        s._tree, list(s.a.manifest.command), good, bad, recorded.environment(s.a), s.where, patches=s.patches,
        make=lambda commit: mixture(s, fixed, history.name(s._tree, commit), commit=commit),  # type: ignore[arg-type]
    )  # fmt: skip
    result = history.search(s.lab, question)
    if result.outcome == FOUND and len(result.culprit.files) > 1:
        inner = _changes(s, fixed, history.plain(bad), bad)
        result = inner if inner.outcome == FOUND else replace(result, trials=inner.trials)
    return replace(result, notes=tuple(dict.fromkeys([*result.notes, *s.notes])))


def _changes(s: Sides, fixed: frozenset[str], before: str, after: str) -> Bisection:
    """Which files, where two states of one commit differ in uncommitted changes."""
    assert s._tree is not None
    a, b = s.patches.get(before, ""), s.patches.get(after, "")
    bare = history.plain(after)

    def make(chosen: frozenset[str]) -> Candidate:
        state = f"{bare}{history.DIRTY}: {len(s.patches)}"
        s.patches[state] = changes.mixed(a, b, chosen)
        return mixture(s, fixed, choices.text(question, chosen), commit=state)

    question = choices.Choice(f"commits changed {'+'.join(sorted(fixed))}".strip(), changes.differing(a, b), make)
    question.beside = f", with the {listed_words(sorted(fixed))} of B" if fixed else ""
    if before == s.revisions[0]:
        question.ends = (_end(s, fixed), _end(s, fixed | {"commits"}))
    else:
        question.beside += f", at commit {bare[:10]}"
    _fresh(s.lab)
    found = choices.decide(s.lab, question)
    result = found.bisection(s.lab, "commits")
    if found.outcome != FOUND:
        return result
    files = listed_words(found.items)
    words = f"{files}, changed and not committed, {'makes' if len(found.items) == 1 else 'make'} the difference"
    return replace(
        result, reason=words, culprit=Culprit(commit=bare, subject=s._tree.subject(bare), files=found.items),
        proof=(f"A{question.beside}: {' '.join(s.a.manifest.command)}   # equal to A", f"the same with {files} as in B   # differs from A"),
    )  # fmt: skip


def _fresh(lab: Lab) -> None:
    """The next search has its own ends and its own horizon."""
    from reprodebug.bisect.trial import Horizon

    lab.horizon, lab.reference, lab.other, lab.located = Horizon(), "", "", None


def _weights(s: Sides, axis: str) -> Mapping[str, float]:
    if axis == "settings":
        return {n: catalogue.BY_NAME[n].prior for n in s.settings if n in catalogue.BY_NAME}
    if axis == "env":
        return {n: {"critical": 5.0, "notable": 2.0}.get(importance.variable(n)[0], 0.5) for n in s.variables}
    if axis == "packages":
        imported = s.a.manifest.environment.get("imported")
        names = {releases.normal(str(x)) for x in imported} if isinstance(imported, list) else set()
        return {n: 3.0 if n in names else 0.2 for n in s.items("packages")}
    return {}


def _variables(a: StoredRun, b: StoredRun) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """(variables that differ and may matter, those that were masked)."""
    left, right = (recorded.strings(r.manifest.environment.get("variables")) for r in (a, b))
    found, hidden = {}, []
    for name in sorted({*left, *right}):
        x, y = left.get(name, _ABSENT), right.get(name, _ABSENT)
        if x == y or importance.variable(name)[0] == "harmless" or name.startswith("REPRODEBUG_") or name in ("PWD", "PATH"):
            continue
        if "<redacted " in x or "<redacted " in y:
            hidden.append(name)
        else:
            found[name] = {"a": x, "b": y}
    return found, hidden


def _short(value: object) -> str:
    text = "(absent)" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
