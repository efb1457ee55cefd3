"""What a reader is, and what it says.

A reader is a module with

- ``NAME``: the system's name as people write it, e.g. ``"Weights & Biases"``;
- ``find(tree) -> list[str]``: the places (relative paths of files or directories in the tree, ``""`` for the tree itself) that
  this reader can read; looks at names first, at content only where names do not decide; cheap;
- ``read(tree, place) -> Record``: what stands there. Raises ``Unreadable`` where nothing can be had; says in
  ``Record.notes`` what was cut, missing, or needs an extra.

Keys: ``environment``: ``python``, ``package/<name>`` (PEP 503), ``env/<VARIABLE>``, ``executable``, ``cuda``, ``driver`` ...;
``config``: dotted path of the leaf (``optimizer.lr``); ``data``: path or name of the data; ``code``: ``git_commit``,
``git_diff``, ``git_branch``, ``args``, ``untracked``; ``metrics``: name of the series (by ``Record.point``); ``container``:
``base``, ``from/<stage>``, ``env/<NAME>``, ``label/<name>``, ``package/<name>`` ...; ``random-state``: generator.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from reprodebug._base import redact
from reprodebug._base.errors import ReprodebugError
from reprodebug.foreign.tree import Tree
from reprodebug.model.comparison import SECTIONS

MAX_FACTS = 200_000
MAX_POINTS = 4_000_000
_MAX_TEXT, _MAX_ITEMS = 20_000, 10_000
"""characters kept of one text and items of one list or mapping; of the rest its length and hash"""

NOT_SELECTED = "not what the project's Python selects"
"""note of a package that a lock file fixes for another machine or interpreter"""
POSSIBLE = "what another Python that the project allows selects"
"""note of a package that is asked for or locked on a condition, where it is not known which Python is used"""
IMAGE_ID = "id of the image"
"""note of a container's image, where its digest is not known"""
CONDA_ALONE = "may be no Python package"
"""note of a package of conda that pip and others may not list"""
PIP_ALONE = "package of pip"
"""in ``Record.unknown``: packages that pip installed are not listed"""


class Unreadable(ReprodebugError):
    """A place that looked like a record of this system cannot be read."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that a system recorded."""

    section: str
    key: str
    value: Any
    """a JSON value: text, number, bool, None, list or mapping; secrets masked"""
    source: str
    """relative path of the file that says so"""
    derived: str | tuple[str, ...] = ""
    """key of the fact that this one follows from (an interpolation, a file made from another); several where any may be the cause"""
    note: str = ""
    """what the record says beside the value, e.g. ``group dev``"""


@dataclass(slots=True)
class Record:
    """What one system says about one run or project."""

    system: str
    place: str
    facts: dict[tuple[str, str], Fact] = field(default_factory=dict)
    series: dict[str, dict[float, float]] = field(default_factory=dict)
    """metric -> step (an int, but where a system has fractions of a step) -> value, the last value where a step was written twice"""
    prefix: str = ""
    """of the keys of its configuration, where another record of the same side has the same key"""
    rank: int = 2
    """how complete its list of packages is: 3 what is installed, 2 what a lock file fixes, 1 what is asked for"""
    few: bool = False
    """it names some packages and is no list of them: what it does not name may well be installed"""
    single: bool = False
    """its metrics are 32-bit floats: compared with a relative tolerance of 1e-6"""
    doubles: set[str] = field(default_factory=set)
    """metrics of a ``single`` record that are wider than 32 bits"""
    summary: set[str] = field(default_factory=set)
    """metrics of which only the last value is known, not its step"""
    notes: list[str] = field(default_factory=list)
    """what was cut, not recorded, or needs an extra; one sentence each"""
    complete: bool = True
    """whether the run came to its end and its record was read to its end"""
    unknown: set[str] = field(default_factory=set)
    """sections, or beginnings of keys, of which the record was cut or is not read: what it does not say there is not known to be absent"""
    open_ended: set[str] = field(default_factory=set)
    """files whose last line has no end even where they are whole, as their tool writes them"""
    _points: int = 0
    _key: bytes = field(default_factory=redact.machine_key)

    def add(self, section: str, key: str, value: Any, source: str, *, derived: str | tuple[str, ...] = "", note: str = "") -> None:
        """Add one fact; a later one of the same key replaces an earlier. The value is masked by the name of its key."""
        if section not in SECTIONS:
            raise ValueError(f"no section {section!r}")
        if len(self.facts) >= MAX_FACTS:
            if not self.notes or "more facts" not in self.notes[-1]:
                self.notes.append(f"more facts than {MAX_FACTS:,}: the rest was not read")
            return
        value = masked(key, value, self._key)
        if section in ("code", "container"):
            value = _commands(value, self._key)
        self.facts[section, key] = Fact(section, key, value, source, derived, note)

    def package(self, name: str, version: str | None, source: str, *, note: str = "") -> None:
        """One installed or pinned package. What else is known of it stands under ``package-build/<name>``, ``package-commit/``,
        ``package-origin/``, ``package-hash/`` (a list), ``package-files/``, ``package-edited/``, ``package-channel/`` and ``package-extras/``."""
        self.add("environment", f"package/{normal_name(name)}", version, source, note=note)

    def cut(self, text: str) -> None:
        """Note that the record ends before the run did, or was not read to its end."""
        self.complete = False
        self.notes.append(text)

    def point(self, name: str, step: float, value: float) -> None:
        """One value of a metric."""
        if self._points < MAX_POINTS:
            self._points += 1
            self.series.setdefault(name, {})[step] = value
        else:
            self._too_many()

    def points(self, name: str, steps: Sequence[float], values: Sequence[float]) -> None:
        """Many values of a metric at once; the last one of a step counts."""
        left = MAX_POINTS - self._points
        if len(steps) > left:
            self._too_many()
        steps, values = steps[:left], values[:left]
        self._points += len(steps)
        if steps:
            known = self.series.get(name)
            if known is None:
                self.series[name] = dict(zip(steps, values, strict=True))
            else:
                known.update(zip(steps, values, strict=True))

    def _too_many(self) -> None:
        text = f"more metric values than {MAX_POINTS:,}: the rest was not read"
        if text not in self.notes:
            self.notes.append(text)

    def leaves(self, section: str, prefix: str, value: Any, source: str, *, derived: str = "") -> None:
        """Every leaf of nested mappings, by dotted path; a list is one value."""
        stack: list[tuple[str, Any, int]] = [(prefix, value, 0)]
        while stack:
            path, node, depth = stack.pop()
            if isinstance(node, dict) and node and depth < 64:
                stack += [(f"{path}.{k}" if path else str(k), v, depth + 1) for k, v in reversed(list(node.items()))]
            else:
                self.add(section, path or "(root)", node, source, derived=derived)


class Reader(Protocol):
    """One system's reader: a module."""

    NAME: str

    def find(self, tree: Tree) -> list[str]: ...

    def read(self, tree: Tree, place: str) -> Record: ...


def mapping(value: Any) -> dict[Any, Any]:
    """A mapping as it is, nothing for whatever else stands in its place in a damaged record."""
    return value if isinstance(value, dict) else {}


def rows(value: Any) -> list[Any]:
    """A list as it is, nothing for whatever else stands in its place in a damaged record."""
    return value if isinstance(value, list) else []


def leaves(value: Any, prefix: str = "", depth: int = 0) -> list[tuple[str, Any]]:
    """(keys joined by ``/``, value) of everything in nested mappings."""
    if isinstance(value, dict) and depth < 40:
        return [leaf for k, v in value.items() for leaf in leaves(v, f"{prefix}/{k}" if prefix else str(k), depth + 1)]
    return [(prefix, value)] if prefix else []


def normal_name(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).strip().lower()


def masked(key: str, value: Any, secret: bytes | None = None) -> Any:
    """``value`` with secrets masked, by the last part of its key and by the form of its text; nested values too.

    ``secret``: the key of the masks, this machine's where none is given.
    """
    if value is None or isinstance(value, (bool, int, float)):
        return value
    secret = redact.machine_key() if secret is None else secret
    if isinstance(value, str):
        return redact.redact_value(re.split(r"[./]", key)[-1], value[:_MAX_TEXT], secret) + _rest(value, _MAX_TEXT, "characters", secret)
    if isinstance(value, dict):
        kept = {str(k)[:500]: masked(str(k), v, secret) for k, v in list(value.items())[:_MAX_ITEMS]}
        return kept | ({"...": more} if (more := _rest(list(value.items()), _MAX_ITEMS, "entries", secret)) else {})
    if isinstance(value, (list, tuple)):
        more = _rest(value, _MAX_ITEMS, "items", secret)
        value = value[:_MAX_ITEMS]
        if all(isinstance(v, str) for v in value) and any(v.startswith("-") for v in value):
            value = redact.redact_argv(list(value), secret)  # a command line
        return [masked(key, v, secret) for v in value] + ([more] if more else [])
    return masked(key, str(value), secret)


def _rest(value: str | Sequence[Any], kept: int, what: str, secret: bytes) -> str:
    """What stands for the part of a long value that is not kept: two runs that differ in it are still told apart."""
    if len(value) <= kept:
        return ""
    rest = value[kept:]
    said = (rest if isinstance(rest, str) else json.dumps(rest, default=str)).encode("utf-8", "surrogatepass")
    return f" ... and {len(rest):,} {what} more ({hashlib.blake2b(said, key=secret, digest_size=6).hexdigest()})"


def _commands(value: Any, secret: bytes) -> Any:
    """``value`` with the secrets of command lines masked: ``--token X``, ``NAME_TOKEN=X``; a text, or a list of words or lines."""
    if isinstance(value, str):
        return redact.redact_argv([value], secret)[0]
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return redact.redact_argv(value, secret)
    return value
