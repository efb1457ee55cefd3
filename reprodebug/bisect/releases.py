"""Releases, unpacked, and the environments made of them.

Each release is unpacked once, by uv where it is there and by pip otherwise. An environment is a thin one: its own copies of
what is asked for, in front of everything that the command's interpreter has. What contradicts each other, and what has to go
along, is told from the metadata.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reprodebug._base.text import listed_words, visible
from reprodebug.bisect import process
from reprodebug.bisect.control import Control
from reprodebug.bisect.session import MARK
from reprodebug.bisect.trial import IMPOSSIBLE, Untestable

COMPANIONS = re.compile(r"^(torch|torchvision|torchaudio|torchtext|triton|pytorch-triton.*|nvidia-.*|functorch)$")
"""packages that are built for one version of torch, and torch"""
_INSTALL_S = 1800.0
_BASE = """
import json, site, sys, sysconfig
found = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
if site.ENABLE_USER_SITE: found.append(site.getusersitepackages())
print(json.dumps({"sites": list(dict.fromkeys(found)), "tag": sys.version_info[:2]}))
"""
_PRESENT = """
import importlib.metadata, json
print(json.dumps([[d.metadata["Name"], d.version] for d in importlib.metadata.distributions() if d.metadata["Name"]]))
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


@dataclass(slots=True)
class Packages:
    """What is searched: versions on both sides; None where a package is absent."""

    a: dict[str, str | None]
    b: dict[str, str | None]
    command: list[str]
    cwd: str
    environment: Mapping[str, str]
    find_links: tuple[str, ...] = ()
    extras: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """name -> the optional parts that are asked for"""
    weights: Mapping[str, float] = field(default_factory=dict)
    enter_place: Callable[[], tuple[str, str]] | None = None
    """gives a fresh copy of the project: (its root, the directory to run in)"""

    def pin(self, name: str, version: str) -> str:
        """A release with its optional parts, in pip's words."""
        parts = self.extras.get(name)
        return f"{name}[{','.join(sorted(parts))}]=={version}" if parts else f"{name}=={version}"


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
        self._present: dict[str, str] | None = None
        self._uv = shutil.which("uv", path=p.environment.get("PATH"))
        self.forced: set[str] = set()
        """packages that are tried at versions which others do not allow"""
        self.installed: dict[str, str] = {}
        """packages that nobody pinned and a pinned one needs -> the version that the interpreter has: it is not unpacked"""

    def site_of(self, name: str, version: str) -> str:
        """The folder with one release, unpacked on first use. Raises Untestable."""
        folder = os.path.join(self._folder, f"{name}-{version}")
        if os.path.isdir(folder):
            return folder
        partial = folder + ".partial"
        shutil.rmtree(partial, ignore_errors=True)
        os.makedirs(partial)
        links = self._links()
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
            shutil.rmtree(partial, ignore_errors=True)
            raise Untestable(f"{name} {version} could not be installed: {_last(done.stderr)}")
        os.rename(partial, folder)
        return folder

    def releases(self, name: str, low: str, high: str) -> list[str]:
        """Every release from ``low`` to ``high`` that an index or a folder offers, both included, in order."""
        from packaging.version import InvalidVersion, Version

        found = {low, high}
        done = self._call([*self._pip(), "index", "versions", "--disable-pip-version-check", *self._links(), name])
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
        sites = [self.site_of(n, v) for n, v in sorted(versions.items()) if v is not None and self.installed.get(n) != v]
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

    def _unmet(self, versions: Mapping[str, str | None], there: Mapping[str, str] | None = None) -> list[_Need]:
        """``there``: what else is installed; None: of other packages nothing is asked."""
        from packaging.requirements import InvalidRequirement, Requirement

        found = []
        for name, version in versions.items():
            if version is None or self.installed.get(name) == version:
                continue
            for line in self._requires(self.site_of(name, version), name):
                try:
                    need = Requirement(line)
                except InvalidRequirement:
                    continue
                parts = ("", *self._p.extras.get(name, ()))
                if need.marker is not None and not any(need.marker.evaluate({"extra": part}) for part in parts):
                    continue
                on = normal(need.name)
                other = versions.get(on, there.get(on) if there is not None else "")
                if other is None:
                    found.append(_Need(f"{name} {version} needs {need.name}, which is absent", on, need.specifier))
                elif other and not need.specifier.contains(other, prereleases=True):
                    found.append(_Need(f"{name} {version} needs {need.name}{need.specifier}, not {other}", on, need.specifier))
        return found

    def along(self, versions: Mapping[str, str | None]) -> dict[str, str]:
        """What pip would install beside these releases, as they need it and the interpreter does not have it. torch and what is
        built for it stay as they are, unless they are pinned. Raises Untestable."""
        try:
            if not self._unmet(versions, self.present()):
                return {}
        except Untestable:  # the trial of these releases says so
            return {}
        words = [self._p.pin(n, v) for n, v in versions.items() if v]
        said = ["--quiet", "--disable-pip-version-check", "--dry-run", "--report", "-"]
        done = self._call([*self._pip(), "install", *said, *self._links(), *words])
        if done.returncode:
            raise Untestable(f"what {listed_words(words)} need beside them could not be told: {_last(done.stderr)}")
        chosen = {normal(x["metadata"]["name"]): str(x["metadata"]["version"]) for x in json.loads(done.stdout)["install"]}
        return {n: v for n, v in chosen.items() if n not in versions and not COMPANIONS.match(n)}

    def present(self) -> dict[str, str]:
        """Name -> version of what the interpreter has."""
        if self._present is None:
            done = self._call([self.python, "-c", _PRESENT])
            self._present = {normal(n): v for n, v in json.loads(done.stdout)} if not done.returncode else {}
        return self._present

    def _links(self) -> list[str]:
        return [w for place in self._p.find_links for w in ("--find-links", place)]

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


def _last(stderr: str) -> str:
    """The last line that pip or uv said of a failure."""
    lines = [line for line in stderr.splitlines() if line.strip() and "notice" not in line]
    return visible(lines[-1] if lines else "no reason given", 200)


def _python(command: list[str], environment: Mapping[str, str], cwd: str) -> str:
    """The interpreter that the command uses, as far as it can be told."""
    word = command[0] if command else "python"  # a probe may need none
    if re.match(r"python[\d.]*$", os.path.basename(word)):
        path = os.path.join(cwd, word) if os.sep in word else shutil.which(word, path=environment.get("PATH"))
        if path:
            return path
    return shutil.which("python", path=environment.get("PATH")) or shutil.which("python3", path=environment.get("PATH")) or word
