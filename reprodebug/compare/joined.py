"""Everything that the records of one side say, joined by meaning: what counts, what stands behind it, and what is not known."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reprodebug.compare.meaning import same, shown
from reprodebug.foreign.protocol import IMAGE_ID, Fact, Record

ABSENT = "(absent)"
"""what stands for the value of a side that has none"""
PRESENT = re.compile(r"^(package|env|metrics)/")
_ASPECT = re.compile(r"^package-(build|commit|origin|hash|files|edited|channel|extras)/(.*)$", re.S)


@dataclass(slots=True)
class Joined:
    """Everything that one side's records say."""

    path: str
    facts: dict[tuple[str, str], tuple[Fact, int, str]] = field(default_factory=dict)
    """(section, key) -> (fact, rank of its record, system)"""
    shadowed: dict[tuple[str, str], dict[str, tuple[Fact, int, str]]] = field(default_factory=dict)
    """(section, key) -> system -> what else was said of it, by systems that do not count or by one that said it before"""
    aspects: dict[str, dict[str, tuple[Fact, str, Any]]] = field(default_factory=dict)
    """package -> aspect (``build``, ``commit``, ``origin``, ``hash``, ``edited`` ...) -> (fact, system, version in that record)"""
    series: dict[str, dict[float, float]] = field(default_factory=dict)
    single: set[str] = field(default_factory=set)
    summary: set[str] = field(default_factory=set)
    ranks: dict[tuple[str, str], int] = field(default_factory=dict)
    """(section, group) -> the most complete rank that speaks of it"""
    few: set[str] = field(default_factory=set)
    """systems that name some packages and are no list of them"""
    systems: list[str] = field(default_factory=list)
    trackers: set[str] = field(default_factory=set)
    """systems that recorded metrics"""
    notes: list[str] = field(default_factory=list)
    complete: bool = True
    unknown: set[tuple[str, str]] = field(default_factory=set)
    """(section or beginning of a key, system) of what a cut record does not say"""


def join(path: str, records: Sequence[Record], *, prefixed: bool = False) -> Joined:
    """One side's records as one; ``prefixed``: configuration files keep their name in front of their keys. Where two records of the
    side say different things of a package, the more complete one counts and a note names both."""
    found = Joined(path)
    for record in sorted(records, key=lambda r: r.rank):
        if (record.facts or record.series) and record.system not in found.systems:
            found.systems.append(record.system)
        found.notes += [n for n in record.notes if n not in found.notes]
        found.complete &= record.complete
        found.few |= {record.system} if record.few else set()
        found.unknown |= {(part, record.system) for part in record.unknown}
        for (section, key), fact in record.facts.items():
            if prefixed and record.prefix and section == "config":
                key = f"{record.prefix}:{key}"
            aspect = _ASPECT.match(key) if section == "environment" else None
            if aspect:
                version = record.facts.get(("environment", f"package/{aspect[2]}"))
                found.aspects.setdefault(aspect[2], {})[aspect[1]] = (fact, record.system, version.value if version else None)
                continue
            group = (section, key.partition("/")[0] if PRESENT.match(key) else "")
            listed = 1 if record.few and group == ("environment", "package") else record.rank
            found.ranks[group] = max(found.ranks.get(group, 0), listed)
            known = found.facts.get((section, key))
            if known is not None and key.startswith("package/"):
                _contradiction(found, key, known, fact, record)
            own = (fact, record.rank, record.system)
            if known is None or known[1] <= record.rank:
                found.facts[section, key], own = own, known or own
            if known is not None and own[2] != found.facts[section, key][2]:
                found.shadowed.setdefault((section, key), {})[own[2]] = own
        found.trackers |= {record.system} if record.series else set()
        for name, points in record.series.items():
            if name not in found.series or len(points) > len(found.series[name]):
                found.series[name] = points
                if record.single and name not in record.doubles:
                    found.single.add(name)
                if name in record.summary:
                    found.summary.add(name)
    return found


def _contradiction(found: Joined, key: str, known: tuple[Fact, int, str], fact: Fact, record: Record) -> None:
    """A note where two records of one side name different versions of a package."""
    if not same("environment", key, known[0].value, fact.value, min(known[1], record.rank)) and len(found.notes) < 40:
        said = [f"{f.source.rpartition('/')[2]} says {shown(f.value)}" for f in (known[0], fact)]
        text = f"{key.partition('/')[2]}: {said[0]}, {said[1]}"
        if said[0].partition(" says ")[0] != said[1].partition(" says ")[0] and text not in found.notes:
            found.notes.append(text)


_PYPI = {
    "pytorch": "torch", "pytorch-cpu": "torch", "pytorch-gpu": "torch",
    "matplotlib-base": "matplotlib", "py-opencv": "opencv-python", "tensorflow-base": "tensorflow",
    "msgpack-python": "msgpack", "brotli-python": "brotli", "pytables": "tables", "dask-core": "dask", "python-tzdata": "tzdata",
}  # fmt: skip
"""conda's name of a package -> its name on PyPI, where they differ"""


def call_by_one_name(a: Joined, b: Joined) -> None:
    """Call a package of conda by its name on PyPI where the other side does."""
    for here, there in ((a, b), (b, a)):
        for conda, pypi in _PYPI.items():
            old, new = ("environment", f"package/{conda}"), ("environment", f"package/{pypi}")
            if old in here.facts and new not in here.facts and new in there.facts and old not in there.facts:
                here.facts[new] = here.facts.pop(old)
                if conda in here.aspects:
                    here.aspects[pypi] = here.aspects.pop(conda)


def call_image_by_its_id(a: Joined, b: Joined) -> None:
    """Let the image of a container, which has its id alone, meet the id of an image."""
    digest, own = ("container", "image/digest"), ("container", "image/id")
    for here, there in ((a, b), (b, a)):
        if own in there.facts and digest in here.facts and here.facts[digest][0].note == IMAGE_ID:
            here.facts[own] = here.facts.pop(digest)


_GROUPS = frozenset({"params", "parameters", "hparams", "hyperparameters", "hyper_parameters", "config", "args", "general"})
"""what trackers and their users put before the names of settings"""


def _plain(name: str) -> str:
    """A name without the way in which its system writes levels and the group of all settings: ``Args/opt.lr`` is ``opt.lr``."""
    parts = [p for p in re.split(r"[/.:\s]+", name) if p]
    return ".".join(parts[1:] if len(parts) > 1 and parts[0].lower() in _GROUPS else parts)


def call_alike(a: Joined, b: Joined) -> None:
    """Let settings and metrics meet that two trackers write differently: B's are called as A's are, where one name alone fits.

    Within one system every name is what it says.
    """
    ours, theirs = ({k: v[2] for k, v in j.facts.items() if k[0] == "config"} for j in (a, b))
    for old, new in _pairs(ours, theirs, a, b).items():
        b.facts[new] = b.facts.pop(old)
    if not a.trackers & b.trackers:
        mine, others = ({("metrics", n): "" for n in j.series} for j in (a, b))
        for (_, before), (_, after) in _pairs(mine, others, a, b).items():
            b.series[after] = b.series.pop(before)
            for names in (b.single, b.summary):
                if before in names:
                    names.discard(before)
                    names.add(after)


def _pairs(
    ours: Mapping[tuple[str, str], str], theirs: Mapping[tuple[str, str], str], a: Joined, b: Joined
) -> dict[tuple[str, str], tuple[str, str]]:
    """B's key -> A's key of the same thing."""
    found: list[dict[str, list[tuple[str, str]]]] = []
    for here, other, joined in ((ours, theirs, b), (theirs, ours, a)):
        plain: dict[str, list[tuple[str, str]]] = {}
        for key, system in here.items():
            if key not in other and system not in joined.systems:
                plain.setdefault(_plain(key[1]), []).append(key)
        found.append(plain)
    return {found[1][name][0]: keys[0] for name, keys in found[0].items() if len(keys) == 1 and len(found[1].get(name, ())) == 1}
