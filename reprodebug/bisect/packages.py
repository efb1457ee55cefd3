"""Which package, and which of its releases: candidates are environments that differ in versions.

Each release is unpacked once, by uv where it is there and by pip otherwise. A candidate is a thin virtual environment: its
own copies of what differs, in front of everything that the command's interpreter has. torch and what is built for one
version of it go together. A mixture whose requirements contradict each other is told from the metadata, without a trial.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from reprodebug._base.errors import UsageError
from reprodebug._base.text import listed_words, visible
from reprodebug.bisect import choice as choices
from reprodebug.bisect import process
from reprodebug.bisect.control import Control
from reprodebug.bisect.lab import Lab
from reprodebug.bisect.search.graph import GraphSearch
from reprodebug.bisect.session import MARK
from reprodebug.bisect.trial import IMPOSSIBLE, Candidate, Untestable
from reprodebug.model.experiment import FOUND, UNTESTABLE, Bisection, Culprit
from reprodebug.model.progress import SEARCHING
from reprodebug.store.run import StoredRun

COMPANIONS = re.compile(r"^(torch|torchvision|torchaudio|torchtext|triton|pytorch-triton.*|nvidia-.*|functorch)$")
"""packages that are built for one version of torch, and torch"""
_INSTALL_S = 1800.0
_NOT_APART = 0.75
"""how sure an answer is that names packages of which one may be innocent"""
_RELEASES_OF = 3
"""guilty packages of which the first bad release is searched"""
_PIN = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*==\s*([A-Za-z0-9.+!_-]+)\s*$")
_BASE = """
import json, site, sys, sysconfig
found = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
if site.ENABLE_USER_SITE: found.append(site.getusersitepackages())
print(json.dumps({"sites": list(dict.fromkeys(found)), "tag": sys.version_info[:2]}))
"""
_HIDE = """
import sys
class _Hidden:
    names = frozenset({names!r})
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError("No module named %r" % name, name=name)
        return None
sys.meta_path.insert(0, _Hidden())
"""


def normal(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(words: Iterable[str]) -> dict[str, str | None]:
    """``numpy==1.26.4 pillow==10.0`` -> name -> version. Raises UsageError."""
    found: dict[str, str | None] = {}
    for word in (w for text in words for w in re.split(r"[\s,;]+", text) if w):
        pin = _PIN.match(word)
        if pin is None:
            raise UsageError(f"{visible(word)} is no pin", hint='write NAME==VERSION, e.g. --good "numpy==1.26.4 pillow==10.0"')
        found[normal(pin[1])] = pin[2]
    return found


@dataclass(slots=True)
class Packages:
    """What is searched: versions on both sides; None where a package is absent."""

    a: dict[str, str | None]
    b: dict[str, str | None]
    command: list[str]
    cwd: str
    environment: Mapping[str, str]
    find_links: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    enter_place: Callable[[], tuple[str, str]] | None = None
    """gives a fresh copy of the project: (its root, the directory to run in)"""


@dataclass(frozen=True, slots=True)
class _Need:
    """A requirement that is not met."""

    text: str
    on: str
    """the package that is needed"""
    specifier: Any


class Store:
    """Unpacked releases and thin environments of one session."""

    def __init__(self, p: Packages, session: str, control: Control | None = None) -> None:
        self._p, self._session, self._control = p, session, control
        self._folder = os.path.join(session, "packages")
        self._venvs = os.path.join(session, "environments")
        self.python = _python(p.command, p.environment, p.cwd)
        self._sites: list[str] | None = None
        self._uv = shutil.which("uv", path=p.environment.get("PATH"))
        self.forced: set[str] = set()
        """packages that are tried at versions which others do not allow"""

    def site_of(self, name: str, version: str) -> str:
        """The folder with one release, unpacked on first use. Raises Untestable."""
        folder = os.path.join(self._folder, f"{name}-{version}")
        if os.path.isdir(folder):
            return folder
        partial = folder + ".partial"
        shutil.rmtree(partial, ignore_errors=True)
        os.makedirs(partial)
        links = [w for place in self._p.find_links for w in ("--find-links", place)]
        if self._uv:
            env = self._p.environment
            links += ["--find-links", env["PIP_FIND_LINKS"]] if env.get("PIP_FIND_LINKS") and not env.get("UV_FIND_LINKS") else []
            links += ["--no-index"] if env.get("PIP_NO_INDEX") and not env.get("UV_NO_INDEX") else []
            words = [self._uv, "pip", "install", "--quiet", "--no-deps", "--python", self.python, "--target", partial, *links]
        else:
            words = [*self._pip(), "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--no-warn-script-location",
                     "--target", partial, *links]  # fmt: skip
        done = self._call([*words, f"{name}=={version}"])
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip() and "notice" not in line]
            shutil.rmtree(partial, ignore_errors=True)
            raise Untestable(f"{name} {version} could not be installed: {visible(lines[-1] if lines else 'no reason given', 200)}")
        os.rename(partial, folder)
        return folder

    def releases(self, name: str, low: str, high: str) -> list[str]:
        """Every release from ``low`` to ``high`` that an index or a folder offers, both included, in order."""
        from packaging.version import InvalidVersion, Version

        found = {low, high}
        links = [w for place in self._p.find_links for w in ("--find-links", place)]
        done = self._call([*self._pip(), "index", "versions", "--disable-pip-version-check", *links, name])
        line = next((x for x in done.stdout.splitlines() if x.startswith("Available versions:")), "")
        found.update(v.strip() for v in line.partition(":")[2].split(",") if v.strip())
        ordered = []
        for text in found:
            try:
                ordered.append((Version(text), text))
            except InvalidVersion:
                continue
        a, b = Version(low), Version(high)
        inside = sorted((v, t) for v, t in ordered if min(a, b) <= v <= max(a, b) and (not v.is_prerelease or t in (low, high)))
        names = [t for _, t in inside]
        return names if a <= b else names[::-1]

    def environment(self, versions: Mapping[str, str | None]) -> tuple[str, dict[str, str]]:
        """A thin environment with these versions: (its interpreter, variables). Raises Untestable."""
        import hashlib

        name = hashlib.blake2b(json.dumps(sorted(versions.items())).encode(), digest_size=8).hexdigest()
        venv = os.path.join(self._venvs, name)
        sites = [self.site_of(n, v) for n, v in sorted(versions.items()) if v is not None]
        if not os.path.isdir(venv):
            partial = venv + ".partial"
            shutil.rmtree(partial, ignore_errors=True)
            done = self._call([self.python, "-m", "venv", "--without-pip", partial])
            if done.returncode:
                raise Untestable(f"no virtual environment could be made with {self.python}: {visible(done.stderr.strip()[-200:])}")
            own = self._own_site(partial)
            for site in sites:
                shutil.copytree(site, own, dirs_exist_ok=True, symlinks=True)
            base = "".join(f"import site; site.addsitedir({s!r})\n" for s in self._base())
            with open(os.path.join(own, "zz_base.pth"), "w") as f:
                f.write(base)
            hidden = [m for n, v in versions.items() if v is None for m in self._modules(n)]
            if hidden:
                with open(os.path.join(own, "_reprodebug_hidden.py"), "w") as f:
                    f.write(_HIDE.format(names=hidden))
                with open(os.path.join(own, "aa_hidden.pth"), "w") as f:
                    f.write("import _reprodebug_hidden\n")
            os.rename(partial, venv)
        variables = dict(self._p.environment)
        variables["PATH"] = os.path.join(venv, "bin") + os.pathsep + variables.get("PATH", os.defpath)
        variables["VIRTUAL_ENV"] = venv
        own = self._own_site(venv)
        variables["PYTHONPATH"] = own + (os.pathsep + variables["PYTHONPATH"] if variables.get("PYTHONPATH") else "")
        return os.path.join(venv, "bin", "python"), variables

    def contradictions(self, versions: Mapping[str, str | None]) -> list[str]:
        """Requirements among these releases that are not met."""
        return [n.text for n in self._unmet(versions)]

    def complete(
        self, versions: Mapping[str, str | None], p: Packages, allowed: frozenset[str], held: frozenset[str]
    ) -> dict[str, str | None]:
        """The versions with what the chosen ones need: a package that is still at A's version goes along where a chosen one asks
        for it, at B's version if that serves, else at the highest release between that does.

        ``allowed``: contradictions that the ends have as well; ``held``: packages that have to stay. Raises Untestable.
        """
        found = dict(versions)
        chosen = {n for n, v in versions.items() if v != p.a.get(n)} | held
        while unmet := [n for n in self._unmet(found) if n.text not in allowed and n.on not in self.forced]:
            need = unmet[0]
            if need.on in chosen:
                raise Untestable(f"{IMPOSSIBLE}: {need.text}")
            found[need.on] = self._serving(need, p)
            chosen.add(need.on)
        return found

    def _serving(self, need: _Need, p: Packages) -> str:
        low, high = p.a.get(need.on), p.b.get(need.on)
        between = self.releases(need.on, low, high)[::-1] if low and high and high != low else []
        for version in (high, *between):
            if version and need.specifier.contains(version, prereleases=True):
                return version
        raise Untestable(f"{IMPOSSIBLE}: {need.text}")

    def _unmet(self, versions: Mapping[str, str | None]) -> list[_Need]:
        from packaging.requirements import InvalidRequirement, Requirement

        found = []
        for name, version in versions.items():
            if version is None:
                continue
            for line in self._requires(self.site_of(name, version), name):
                try:
                    need = Requirement(line)
                except InvalidRequirement:
                    continue
                if need.marker is not None and not need.marker.evaluate({"extra": ""}):
                    continue
                on = normal(need.name)
                other = versions.get(on, "")
                if other is None:
                    found.append(_Need(f"{name} {version} needs {need.name}, which is absent", on, need.specifier))
                elif other and not need.specifier.contains(other, prereleases=True):
                    found.append(_Need(f"{name} {version} needs {need.name}{need.specifier}, not {other}", on, need.specifier))
        return found

    def _requires(self, site: str, name: str) -> list[str]:
        for entry in sorted(os.listdir(site)):
            if entry.endswith(".dist-info") and normal(entry.removesuffix(".dist-info").rpartition("-")[0]) == name:
                try:
                    with open(os.path.join(site, entry, "METADATA"), encoding="utf-8", errors="replace") as f:
                        head = f.read(1 << 20).partition("\n\n")[0]
                except OSError:
                    return []
                return [line.partition(":")[2].strip() for line in head.splitlines() if line.startswith("Requires-Dist:")]
        return []

    def _modules(self, name: str) -> list[str]:
        found: set[str] = set()
        for site in self._base():
            try:
                entries = os.listdir(site)
            except OSError:
                continue
            for entry in entries:
                if entry.endswith(".dist-info") and normal(entry.removesuffix(".dist-info").rpartition("-")[0]) == name:
                    try:
                        with open(os.path.join(site, entry, "RECORD"), encoding="utf-8", errors="replace") as f:
                            tops = {line.partition(",")[0].partition("/")[0] for line in f}
                    except OSError:
                        continue
                    found.update(t.removesuffix(".py") for t in tops if not t.endswith(".dist-info") and t.split(".")[0].isidentifier())
        return sorted(found)

    def _base(self) -> list[str]:
        if self._sites is None:
            done = self._call([self.python, "-c", _BASE])
            if done.returncode:
                raise Untestable(f"{self.python} could not be asked for its packages: {visible(done.stderr.strip()[-200:])}")
            self._sites = [s for s in json.loads(done.stdout)["sites"] if os.path.isdir(s)]
        return self._sites

    def _own_site(self, venv: str) -> str:
        lib = os.path.join(venv, "lib")
        folder = next((d for d in sorted(os.listdir(lib)) if d.startswith("python")), "python3")
        return os.path.join(lib, folder, "site-packages")

    def _pip(self) -> list[str]:
        import importlib.util
        import sys

        if self._call([self.python, "-c", "import pip"]).returncode == 0:
            return [self.python, "-m", "pip"]
        if importlib.util.find_spec("pip") is None:
            raise Untestable("neither uv nor pip is there to install releases with")
        return [sys.executable, "-m", "pip", "--python", self.python]

    def _call(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in self._p.environment.items() if not k.startswith("REPRODEBUG_")}
        environment[MARK] = self._session
        return process.call(words, environment, limit=_INSTALL_S, control=self._control)


def _python(command: list[str], environment: Mapping[str, str], cwd: str) -> str:
    """The interpreter that the command uses, as far as it can be told."""
    word = command[0] if command else "python"  # a probe may need none
    if re.match(r"python[\d.]*$", os.path.basename(word)):
        path = os.path.join(cwd, word) if os.sep in word else shutil.which(word, path=environment.get("PATH"))
        if path:
            return path
    return shutil.which("python", path=environment.get("PATH")) or shutil.which("python3", path=environment.get("PATH")) or word


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
    grouped = items(p)
    if not grouped:
        raise UsageError("both sides have the same versions", hint="give pins that differ, or two runs whose packages differ")
    store = Store(p, lab.session.path, lab.control)
    question = choice_of(p, store)
    found = choices.decide(lab, question)
    result = found.bisection(lab, "packages")
    if found.outcome != FOUND:
        return result
    culprits: dict[str, dict[str, Any]] = {}
    notes = list(found.notes)
    causes, sure = told_apart(lab, p, store, question, found.causes, notes)
    for item in (i for cause in causes for i in cause):
        for name in grouped[item]:
            culprits[name] = {"a": p.a.get(name), "b": p.b.get(name)}
    for cause, item in [(c, i) for c in causes for i in c][:_RELEASES_OF]:
        if len(grouped[item]) == 1:
            first_bad(lab, p, store, item, cause, culprits, notes, lambda versions, text: enter(p, store, versions, text))
        else:
            culprits[item]["first_bad"] = p.b.get(item)
            notes.append(f"{listed_words(grouped[item])} change together: their releases were not searched one by one")
    words = [f"{n} {c['a'] or '(absent)'} to {c['b'] or '(absent)'}" for n, c in culprits.items()]
    return replace(
        result, reason=f"{listed_words(words)} {'makes' if len(words) == 1 else 'make'} the difference", culprit=Culprit(packages=culprits),
        notes=tuple(notes), trials=tuple(lab.made), proof=_proof(p, culprits), confidence=min(result.confidence, sure),
    )  # fmt: skip


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
    lab: Lab, p: Packages, store: Store, name: str, cause: tuple[str, ...], culprits: dict[str, dict[str, Any]], notes: list[str],
    make: Callable[[Mapping[str, str | None], str], Candidate],
) -> None:  # fmt: skip
    """The first release of one guilty package that diverges, what ``cause`` needs beside it at B's version."""
    low, high = p.a.get(name), p.b.get(name)
    if low is None or high is None:
        culprits[name]["first_bad"] = high
        return
    try:
        releases = store.releases(name, low, high)[1:]
    except Untestable as error:
        notes.append(error.message)
        releases = [high]
    parents = {r: releases[max(0, n - 1) : n] for n, r in enumerate(releases)}
    graph = GraphSearch(releases, parents)
    others = {g: p.b.get(g) for g in cause if g != name}

    def attempt(release: str, n: int = 0) -> bool | None:
        versions = {**p.a, **others, name: release}
        if release == high and not n:
            return True
        text = f"A with {name} {release}" + (f" and {listed_words(others)} of B" if others else "")
        return lab.try_(f"packages:{name}={release}:{sorted(others)}", text, lambda: make(versions, text), n).bad

    lab.phase(SEARCHING, "releases")
    lab.remain("range", releases, len(releases), math.ceil(math.log2(max(1, len(releases)))))
    while (release := graph.next()) is not None:
        graph.answer(release, attempt(release))
        left = graph.remaining()
        lab.remain("range", left, len(releases), math.ceil(math.log2(max(1, len(left)))))
    lab.left = None
    found, _ = graph.result()
    testable = [r for r in found if r not in graph.untestable]
    if not found:
        notes.append(f"the releases of {name} do not change from good to bad once: the first bad one is not known")
        return
    culprits[name]["first_bad"] = found[-1] if testable else found[0]
    if len(found) > 1:
        notes.append(f"the first bad release of {name} is one of {listed_words(found)}: those before {found[-1]} could not be tried")
        culprits[name]["range"] = found


def _proof(p: Packages, culprits: Mapping[str, Mapping[str, object]]) -> tuple[str, ...]:
    a = " ".join(f"{n}=={c['a']}" for n, c in culprits.items() if c["a"])
    b = " ".join(f"{n}=={c.get('first_bad') or c['b']}" for n, c in culprits.items() if c["b"])
    return (f"pip install {a}   # equal to A", f"pip install {b}   # differs from A")
