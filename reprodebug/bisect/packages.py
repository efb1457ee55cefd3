"""Which package, and which of its releases: candidates are environments that differ in versions.

torch and what is built for one version of it go together. What the pins need beside them is installed with them and searched
too. A mixture whose requirements contradict each other is told from the metadata, without a trial.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from reprodebug._base.errors import UsageError
from reprodebug._base.text import listed_words, visible
from reprodebug.bisect import choice as choices
from reprodebug.bisect.lab import Lab
from reprodebug.bisect.releases import COMPANIONS, Packages, Store, normal
from reprodebug.bisect.search.belief import most
from reprodebug.bisect.search.graph import GraphSearch
from reprodebug.bisect.trial import Candidate, Untestable
from reprodebug.model.experiment import FOUND, OTHER, SAME_AS_A, SAME_AS_B, UNTESTABLE, Bisection, Culprit, Trial
from reprodebug.model.progress import SEARCHING
from reprodebug.store.run import StoredRun

_NOT_APART = 0.75
"""how sure an answer is that names packages of which one may be innocent"""
_ENOUGH, _LIKELY, _MOST_NOISY = 0.99, 0.8, 60
"""probability at which a first bad release counts as found, and with which it has to do after so many trials, where trials
contradict each other"""
_RELEASES_OF = 3
"""guilty packages of which the first bad release is searched"""
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[([A-Za-z0-9._,\s-]*)\])?==([A-Za-z0-9.+!_-]+)$")


def _pinned(words: Iterable[str]) -> list[re.Match[str]]:
    found = []
    for word in (w for text in words for w in re.findall(r"(?:\[[^\]]*\]|[^\s,;])+", text)):
        pin = _PIN.match(word)
        if pin is None:
            raise UsageError(f"{visible(word)} is no pin", hint='write NAME==VERSION, e.g. --good "numpy==1.26.4 pillow==10.0"')
        found.append(pin)
    return found


def pins(words: Iterable[str]) -> dict[str, str | None]:
    """``numpy==1.26.4 ray[tune]==2.9`` -> name -> version. Raises UsageError."""
    return {normal(pin[1]): pin[3] for pin in _pinned(words)}


def extras(words: Iterable[str]) -> dict[str, frozenset[str]]:
    """``numpy==1.26.4 ray[tune]==2.9`` -> name -> its extras, where it has some. Raises UsageError."""
    return {normal(p[1]): frozenset(normal(e.strip()) for e in p[2].split(",") if e.strip()) for p in _pinned(words) if p[2]}


def differing(a: StoredRun, b: StoredRun) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """The packages in which two runs differ: (versions in A, versions in B)."""
    pa, pb = ({normal(k): v for k, v in _mapping(r.manifest.environment.get("packages")).items()} for r in (a, b))
    names = [n for n in sorted({*pa, *pb}) if pa.get(n) != pb.get(n) and n != "reprodebug"]
    return {n: pa.get(n) for n in names}, {n: pb.get(n) for n in names}


def _mapping(value: object) -> dict[str, str]:
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}


def items(p: Packages) -> dict[str, list[str]]:
    """Item -> the packages that change with it: torch and its companions are one."""
    names = [n for n in sorted({*p.a, *p.b}) if p.a.get(n) != p.b.get(n)]
    if "torch" not in names:
        return {n: [n] for n in names}
    together = [n for n in names if COMPANIONS.match(n)]
    return {"torch": together, **{n: [n] for n in names if n not in together}}


def choice_of(p: Packages, store: Store) -> choices.Choice:
    """The question for the search over sets."""
    grouped = items(p)
    ends: set[str] = set()

    def make(chosen: frozenset[str]) -> Candidate:
        versions = dict(p.a)
        for item in chosen:
            for name in grouped[item]:
                versions[name] = p.b.get(name)
        if not chosen or len(chosen) == len(grouped):
            ends.update(store.contradictions(versions))
        held = frozenset(name for item in question.held for name in grouped[item])
        return enter(p, store, versions, choices.text(question, chosen), frozenset(ends), held)

    question = choices.Choice("packages", list(grouped), make, p.weights)
    return question


def enter(
    p: Packages, store: Store, versions: Mapping[str, str | None], text: str, allowed: frozenset[str] = frozenset(),
    held: frozenset[str] = frozenset(),
) -> Candidate:  # fmt: skip
    """The command with these versions and what they need. Raises Untestable, also for requirements that the ends do not violate
    as well."""
    whole = store.complete(versions, p, allowed, held)
    python, variables = store.environment(whole)
    words = list(p.command)
    if words and re.match(r"python[\d.]*$", os.path.basename(words[0])):
        words[0] = python
    cwd = p.cwd if p.enter_place is None else p.enter_place()[1]
    return Candidate(text, text, tuple(words), cwd, variables, check=lambda run: not_taken(run, whole))


def not_taken(run: StoredRun, versions: Mapping[str, str | None]) -> str:
    """A sentence where the program saw another version than the one asked for; '' where it did not."""
    seen = {normal(k): v for k, v in _mapping(run.manifest.environment.get("packages")).items()}
    for name, version in versions.items():
        if seen and version is not None and seen.get(name) != version:
            return f"{name} {version} did not take: the program saw {seen.get(name, 'none')}"
    return ""


def search(lab: Lab, p: Packages) -> Bisection:
    """The smallest guilty set of packages, then the first bad release of each. Raises UsageError."""
    store = Store(p, lab.session.path, lab.control)
    notes = _with_needs(p, store)
    grouped = items(p)
    if not grouped:
        raise UsageError("both sides have the same versions", hint="give pins that differ, or two runs whose packages differ")
    question = choice_of(p, store)
    found = choices.decide(lab, question)
    result = found.bisection(lab, "packages")
    notes = [*found.notes, *notes]
    if found.outcome != FOUND:
        return replace(result, notes=tuple(notes))
    culprits: dict[str, dict[str, Any]] = {}
    causes, sure = told_apart(lab, p, store, question, found.causes, notes)
    for item in (i for cause in causes for i in cause):
        for name in grouped[item]:
            culprits[name] = {"a": p.a.get(name), "b": p.b.get(name)}
    for cause, item in [(c, i) for c in causes for i in c][:_RELEASES_OF]:
        if len(grouped[item]) == 1:
            likely = first_bad(lab, p, store, question, item, cause, culprits, notes, lambda v, text: enter(p, store, v, text))
            sure = min(sure, likely)
        else:
            culprits[item]["first_bad"] = p.b.get(item)
            notes.append(f"{listed_words(grouped[item])} change together: their releases were not searched one by one")
    words = [f"{n} {c['a'] or '(absent)'} to {c['b'] or '(absent)'}" for n, c in culprits.items()]
    return replace(
        result, reason=f"{listed_words(words)} {'makes' if len(words) == 1 else 'make'} the difference", culprit=Culprit(packages=culprits),
        notes=tuple(notes), proof=_proof(lab, p, store, causes, culprits, grouped), trials=tuple(lab.made), confidence=min(result.confidence, sure),
    )  # fmt: skip


def _with_needs(p: Packages, store: Store) -> list[str]:
    """Add to both sides what their pins need beside them, so that it is installed and can be searched; notes on it."""
    try:
        found = [store.along(side) for side in (p.a, p.b)]
    except Untestable as error:
        return [error.message]
    names = sorted({*found[0], *found[1]} - p.a.keys() - p.b.keys())
    present = store.present()
    store.installed = {n: present[n] for n in names if n in present}
    for side, more in zip((p.a, p.b), found, strict=True):
        side |= {n: more.get(n, present.get(n)) for n in names}
    said = [
        f"{n} {p.a[n]}" if p.a[n] == p.b[n] else f"{n} ({p.a[n] or 'absent'} beside A's pins, {p.b[n] or 'absent'} beside B's)"
        for n in names
    ]
    return [f"nobody pinned {listed_words(said)}, which the pinned releases need"] if names else []


def told_apart(
    lab: Lab, p: Packages, store: Store, question: choices.Choice, causes: tuple[tuple[str, ...], ...], notes: list[str]
) -> tuple[list[tuple[str, ...]], float]:  # fmt: skip
    """(The causes, how sure they are), where something had to go along with guilty packages: is it that which makes the difference,
    or each of both? Together they are one where it cannot be tried without them."""
    found = [_without_company(lab, p, store, question, guilty, notes) for guilty in causes]
    return [cause for told, _ in found for cause in told], min((sure for _, sure in found), default=1.0)


def _without_company(
    lab: Lab, p: Packages, store: Store, question: choices.Choice, guilty: tuple[str, ...], notes: list[str]
) -> tuple[list[tuple[str, ...]], float]:  # fmt: skip
    """The same for one cause."""
    grouped = items(p)
    names = {n for item in guilty for n in grouped[item]}
    whole = store.complete(
        {**p.a, **{n: p.b.get(n) for n in names}}, p, frozenset(store.contradictions(p.a) + store.contradictions(p.b)), frozenset()
    )
    along = [i for i in grouped if i not in guilty and any(whole[n] != p.a.get(n) for n in grouped[i])]
    question.held.clear()
    more: list[str] = []
    for item in along:
        one, said = frozenset([item]), choices.text(question, frozenset([item]))
        tried = next((t for t in lab.made if t.candidate == said and t.verdict != UNTESTABLE), None)
        bad = (tried or lab.try_(choices.key(question, one), said, lambda one=one: question.make(one))).bad  # type: ignore[misc]
        if bad is None:  # no mixture that may be: it is tried all the same, many run
            store.forced.update(grouped[item])
            said += ", which others do not allow"
            bad = lab.try_(choices.key(question, one) + "!", said, lambda one=one: question.make(one)).bad  # type: ignore[misc]
            if not bad:
                store.forced.difference_update(grouped[item])
        alone = frozenset(guilty)
        if bad and store.forced:
            forced = f"{choices.text(question, alone)} alone, which it does not allow"
            if lab.try_(choices.key(question, alone) + "!", forced, partial(question.make, alone)).bad:
                notes.append(f"{listed_words(guilty)} cannot be without {item}: each makes a difference")
                return [guilty, (item,)], 1.0
        if bad is None:
            notes.append(
                f"{listed_words(guilty)} and {item} need each other's releases: which of them makes the difference could not be told"
            )
            more.append(item)
            continue
        if bad:
            notes.append(f"{listed_words(guilty)} cannot be without {item}, and {item} alone makes the difference")
            return [(item,)], 1.0
        notes.append(
            f"{listed_words(guilty)} cannot be without {item} {whole[grouped[item][0]]}: it went along, and alone makes no difference"
        )
    return [(*guilty, *more)], _NOT_APART if more else 1.0


def first_bad(
    lab: Lab, p: Packages, store: Store, question: choices.Choice, name: str, cause: tuple[str, ...],
    culprits: dict[str, dict[str, Any]], notes: list[str], make: Callable[[Mapping[str, str | None], str], Candidate],
) -> float:  # fmt: skip
    """Find the first release of one guilty package that diverges, what ``cause`` needs beside it at B's version; returns how sure
    it is. What lies on both sides of it is tried again where trials are to spare; where those of one candidate contradict each other, as
    often as it takes."""
    low, high = p.a.get(name), p.b.get(name)
    if low is None or high is None:
        culprits[name]["first_bad"] = high
        return 1.0
    try:
        releases = store.releases(name, low, high)[1:]
    except Untestable as error:
        notes.append(error.message)
        releases = [high]
    parents = {r: releases[max(0, n - 1) : n] for n, r in enumerate(releases)}
    graph = GraphSearch(releases, parents, enough=_ENOUGH)
    others = {g: p.b.get(g) for g in cause if g != name}

    def ask(release: str) -> None:
        versions = {**p.a, **others, name: release}
        text = f"A with {name} {release}" + (f" and {listed_words(others)} of B" if others else "")
        again = len(graph.answers.get(release, ()))
        trial = lab.try_(f"packages:{name}={release}:{sorted(others)}", text, lambda: make(versions, text), again)
        graph.answer(release, trial.bad, unlike=trial.verdict == OTHER)

    def search() -> None:
        for _ in range(_MOST_NOISY):
            if (release := graph.next()) is None:
                return
            ask(release)
            left = graph.remaining()
            lab.remain("range", left, len(releases), math.ceil(math.log2(max(1, len(left)))))

    def learn() -> None:
        ends = [[t for t in lab.made[lab.parted :] if t.candidate == choices.text(question, frozenset(x))] for x in ((), cause)]
        said = [t.verdict for t in ends[0]]
        graph.good_end = said.count(SAME_AS_A), said.count(SAME_AS_B), said.count(OTHER)
        for trial in ends[1]:
            if trial.verdict != UNTESTABLE:
                graph.answer(high, trial.bad, unlike=trial.verdict == OTHER)
        graph.learned = True
        graph.unsteady = any(t.bad is False for t in ends[1])

    lab.phase(SEARCHING, "releases")
    lab.remain("range", releases, len(releases), math.ceil(math.log2(max(1, len(releases)))))
    if varies(lab.made[lab.parted :]):
        learn()
    search()
    found, _ = graph.result()
    if not graph.noisy and len(found) == 1:
        spare = most(len(question.items), len(cause)) + math.ceil(math.log2(len(releases))) - len(lab.made)
        beside = releases[max(0, releases.index(found[0]) - 1) : releases.index(found[0]) + 1]
        for release in [r for r in beside if r != high and r not in graph.untestable][: max(0, spare)]:
            ask(release)
        if graph.contradicted:
            learn()
            search()
    lab.left = None
    found, likely = graph.result()
    testable = [r for r in found if r not in graph.untestable]
    if not found or likely < _LIKELY:
        notes.append(f"the first bad release of {name} could not be told: trials of one release contradict each other")
        return 1.0
    culprits[name]["first_bad"] = found[-1] if testable else found[0]
    if len(found) > 1:
        notes.append(f"the first bad release of {name} is one of {listed_words(found)}: those before {found[-1]} could not be tried")
        culprits[name]["range"] = found
    return likely


def varies(trials: Iterable[Trial]) -> bool:
    """Whether trials of one candidate contradict each other."""
    said: dict[str, set[bool]] = {}
    for t in trials:
        if t.bad is not None:
            said.setdefault(t.candidate, set()).add(t.bad)
    return any(len(x) > 1 for x in said.values())


def _proof(
    lab: Lab, p: Packages, store: Store, causes: list[tuple[str, ...]], culprits: Mapping[str, Mapping[str, Any]],
    grouped: Mapping[str, list[str]],
) -> tuple[str, ...]:  # fmt: skip
    """A's versions, and for each cause those with its first bad releases in them: what was run, all of it."""
    lines = [f"{_install(p, store, p.a)}   # equal to A"]
    for cause in causes:
        names = [n for item in cause for n in grouped[item]]
        last = {n: p.b.get(n) for n in names}
        first = {n: culprits[n].get("first_bad") or v for n, v in last.items()}
        if len(cause) > 1 and first != last:  # each was found with the others at B's version
            text = f"A with {listed_words([f'{n} {v}' for n, v in first.items()])}"
            if not lab.try_(f"packages:{sorted(first.items())}", text, lambda v=first, t=text: enter(p, store, {**p.a, **v}, t)).bad:  # type: ignore[misc]
                first = last
        versions = {**p.a, **first}
        with contextlib.suppress(Untestable):
            versions = store.complete(versions, p, frozenset(store.contradictions(p.a) + store.contradictions(p.b)), frozenset())
        lines.append(f"{_install(p, store, versions)}   # differs from A")
    return tuple(lines)


def _install(p: Packages, store: Store, versions: Mapping[str, str | None]) -> str:
    """The command that installs versions: of those that differ, with what is absent taken away."""
    names = [n for n in sorted({*p.a, *p.b}) if p.a.get(n) != p.b.get(n)]
    alone = " --no-deps" if store.contradictions(versions) else ""
    there = " ".join(p.pin(n, version) for n in names if (version := versions.get(n)))
    gone = " ".join(n for n in names if not versions.get(n))
    words = [*([f"pip uninstall --yes {gone}"] if gone else []), *([f"pip install{alone} {there}"] if there else [])]
    return " && ".join(words)
