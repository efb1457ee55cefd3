"""What two sides recorded in other systems' files, joined by meaning: one list of differences and one verdict.

A package of a lock file meets the same package of a W&B record. What one side's systems could not know is not a difference; a
fact that follows from another stands behind it; values are compared as what they mean (``0.001`` and ``1e-3``, a short commit and its long
form), not as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from reprodebug._base import redact
from reprodebug._base.text import listed_words, plural, visible
from reprodebug.compare import importance
from reprodebug.compare.joined import ABSENT, PRESENT, Joined, call_alike, call_by_one_name, call_image_by_its_id
from reprodebug.compare.meaning import same, shown, shown_apart
from reprodebug.compare.series import compare_series, losses_of
from reprodebug.foreign.protocol import CONDA_ALONE, NOT_SELECTED, PIP_ALONE, POSSIBLE, Fact
from reprodebug.model.comparison import Comparison, Counts, Coverage, Difference, RunSide

_INSTALLERS = frozenset({"pip", "wheel", "setuptools", "uv", "distribute", "pip-tools", "poetry", "poetry-core", "virtualenv"})
_ORDER = {"critical": 0, "notable": 1, "harmless": 2}
_GROUPED = re.compile(r"(?:.*/)?(image|HostConfig|driver|cdi|partition|mount)/")
_OPERATION = re.compile(r"(.*)@(\d+) (?:operation|predicate)$", re.S)


def compare_records(a: Joined, b: Joined, extra: Sequence[Difference] = ()) -> Comparison:
    """The comparison of two sides. ``extra``: differences found elsewhere (tensors)."""
    call_by_one_name(a, b)
    call_image_by_its_id(a, b)
    call_alike(a, b)
    facts, compared = _facts(a, b)
    metrics, points, first, apart = compare_series(a, b)
    differences = sorted([*extra, *facts, *metrics], key=_place)
    real = [d for d in differences if d.severity != "harmless"]
    total = compared + points
    sides = [RunSide(j.path, j.path, j.complete, notes=tuple(j.notes[:20]), level="foreign", systems=tuple(j.systems)) for j in (a, b)]
    if not total and not extra:
        verdict = "incomparable"
        held = [f"{x} holds {listed_words(j.systems) or 'nothing that is read'}" for x, j in (("A", a), ("B", b))]
        reason = f"the two sides have nothing in common: {'; '.join([*held, *apart])}"
    elif real:
        verdict = "divergent"
        causes = [d for d in real if d.section != "metrics" and not d.reason.startswith("follows")]
        effect = f"the metric {visible(first[0], 80)} differs first, at step {first[1]}" if first else ""
        others = sum(d.section == "metrics" for d in real)
        effect = effect or (f"{plural(others, 'metric')} differ{'s' if others == 1 else ''}" if others else "")
        named = (
            f"{plural(len(causes), 'recorded fact')} differ{'s' if len(causes) == 1 else ''}" if causes else "no recorded fact explains it"
        )
        reason = "; ".join(x for x in (effect, named) if x)
    else:
        verdict = "identical"
        said = [plural(compared, "recorded fact")] if compared else []
        said += [plural(points, "metric value")] if points else []
        verb, systems = "is" if compared + points == 1 else "are", listed_words(dict.fromkeys(a.systems + b.systems))
        reason = f"{listed_words(said)} {verb} equal ({systems}); no tensor was recorded by them"
        cut = [x for x, j in (("A", a), ("B", b)) if not j.complete]
        reason += f"; {' and '.join(cut)} did not end or was cut: compared as far as the records go" if cut else ""
    return Comparison(
        verdict, reason, sides[0], sides[1], None, differences=tuple(differences), counts=Counts(compared=total, differing=len(real)),
        coverage=Coverage(0.0), not_recorded=(*_not_recorded(a, b), *apart), losses=losses_of(a, b),
    )  # fmt: skip


def _place(d: Difference) -> tuple[int, bool, bool]:
    """Where a difference stands: the most severe first, consequences behind causes, variants of BLAS and CUDA first."""
    variant = d.key.startswith("package/") and "built otherwise" in d.reason and _FIRST.search(d.key) is not None
    return _ORDER[d.severity], d.reason.startswith("follows"), not variant


def _not_recorded(a: Joined, b: Joined) -> tuple[str, ...]:
    found = [f"A: {n}" for n in a.notes] + [f"B: {n}" for n in b.notes]
    for group, what in ((("environment", "package"), "packages"), (("config", ""), "configuration"), (("code", ""), "code")):
        have = [group in j.ranks for j in (a, b)]
        if have[0] != have[1]:
            found.append(f"{what}: recorded by {'A' if have[0] else 'B'} alone, so not compared")
        elif not any(have):
            found.append(f"{what}: recorded by neither side")
    found += [text for x, y in ((a, b), (b, a)) if (text := _left_out(x, y, "A" if x is a else "B", "B" if x is a else "A"))]
    return tuple(found[:60])


def _left_out(here: Joined, other: Joined, side: str, beside: str) -> str:
    """The packages that one side alone names, where the other's list need not be all that it had; nothing where there are none."""
    if ("environment", "package") not in other.ranks:
        return ""  # said by itself
    names = {k[8:].partition(" (")[0] for _, k in other.facts if k.startswith("package/")} | other.aspects.keys()
    own = [
        (k, f) for (_, k), f in here.facts.items()
        if k.startswith("package/") and k[8:].partition(" (")[0] not in names | _INSTALLERS and f[0].note in ("", CONDA_ALONE)
    ]  # fmt: skip
    lacking = [k[8:] for k, f in own if not _known_to_be_absent("environment", k, f, None, here, other)]
    if not lacking:
        return ""
    some = listed_words([visible(n, 40) for n in lacking[:4]] + ([f"{len(lacking) - 4} more"] if len(lacking) > 4 else []))
    return f"packages that {side} alone names ({some}): what {beside} recorded need not be all that it had, so not compared"


# facts


def _facts(a: Joined, b: Joined) -> tuple[list[Difference], int]:
    found: list[Difference] = []
    compared = 0
    names = dict.fromkeys([*a.aspects, *b.aspects, *(k[8:] for j in (a, b) for s, k in j.facts if k.startswith("package/"))])
    told, branched, compared = _branches(names, a, b)
    found += branched
    for name in names:
        if name in told:
            continue
        difference, count = _package(name, a, b)
        compared += count
        if difference is not None:
            found.append(difference)
    found += _behind(a, b, {(d.section, d.key) for d in found})
    for section, key in dict.fromkeys([*a.facts, *b.facts]):
        if key.startswith("package/") and section == "environment":
            continue
        left, right = a.facts.get((section, key)), b.facts.get((section, key))
        if left is not None and right is not None:
            compared += 1
            if same(section, key, left[0].value, right[0].value, min(left[1], right[1])):
                continue
        elif not _known_to_be_absent(section, key, left, right, a, b):
            continue
        severity, reason = _rated(section, key, left, right, a, b)
        found.append(Difference(section, key, *_values(left, right), severity, reason))
    return found, compared


def _values(left: Any, right: Any) -> tuple[str, str]:
    """Both values of a fact as a report shows them; a side may be None."""
    if left is not None and right is not None:
        return shown_apart(left[0].value, right[0].value)
    x, y = (ABSENT if side is None else shown(side[0].value) for side in (left, right))
    return x, y


def _behind(a: Joined, b: Joined, told: set[tuple[str, str]]) -> list[Difference]:
    """What a system says otherwise of the two sides while a system that counts more says the same of both: a lock that was changed, and an
    installation that was not."""
    found: list[Difference] = []
    for section, key in a.shadowed.keys() | b.shadowed.keys():
        left, right = a.facts.get((section, key)), b.facts.get((section, key))
        if (section, key) in told or left is None or right is None:
            continue
        rank = min(left[1], right[1])
        if not same(section, key, left[0].value, right[0].value, rank):
            continue
        sides = [{side[2]: side, **j.shadowed.get((section, key), {})} for j, side in ((a, left), (b, right))]
        for system in sorted(sides[0].keys() & sides[1].keys(), key=lambda s: (-sides[0][s][1], s)):
            x, y = sides[0][system], sides[1][system]
            if same(section, key, x[0].value, y[0].value, min(x[1], y[1])):
                continue
            severity, reason = _rated(section, key, x, y, a, b)
            if key.startswith("package/") and rank > min(x[1], y[1]):
                severity, reason = "harmless", f"{system} asks for another version; what {left[2]} recorded is the same on both sides"
            found.append(Difference(section, key, *_values(x, y), severity, reason))
            break
    return sorted(found, key=lambda d: d.key)


def _package(name: str, a: Joined, b: Joined) -> tuple[Difference | None, int]:
    """(what differs of one package, facts compared): its version, and behind one version the build, commit, bytes or origin."""
    key = ("environment", f"package/{name}")
    left, right = a.facts.get(key), b.facts.get(key)
    here, there = _aspects(name, a), _aspects(name, b)
    if (left is None and not here) or (right is None and not there):
        if left is None and right is None:
            return None, 0  # known by its origin alone, and by one side alone: what the other has is not known
        if not _known_to_be_absent(*key, left, right, a, b):
            return None, 0
        severity, reason = _rated(*key, left, right, a, b)
        return Difference(*key, *_values(left, right), severity, reason), 0
    systems = " and ".join(dict.fromkeys([x[2] for x in (left, right) if x] + [x[1] for own in (here, there) for x in own.values()][:2]))
    versions = [side[0].value if side is not None else None for side in (left, right)]
    if left is not None and right is not None and not same(*key, versions[0], versions[1], min(left[1], right[1])):
        severity, reason = _rated(*key, left, right, a, b)
        return Difference(*key, *_values(left, right), severity, reason), 1
    for aspect in ("commit", "build", "hash", "edited", "files", "origin", "extras", "channel"):
        p, q = here.get(aspect), there.get(aspect)
        if p is None or q is None:
            known, other = (q, a) if p is None else (p, b)
            if not (aspect in ("edited", "commit", "extras") and known is not None and known[1] in other.systems):
                continue  # the other side's systems do not record it
        elif _same_aspect(aspect, p[0].value, q[0].value):
            if aspect == "commit":
                return None, 1  # one commit, from wherever it came
            continue
        told = [_told(v, aspect, own[0].value if own is not None else None) for v, own in zip(versions, (p, q), strict=True)]
        severity, reason = _rated_package(name, aspect, p, q)
        return Difference(*key, told[0], told[1], severity, f"{reason} ({systems})"), 1
    return None, 1


def _branches(names: Iterable[str], a: Joined, b: Joined) -> tuple[set[str], list[Difference], int]:
    """Packages of which a side knows several versions and not which one is used: (names that are settled here, what differs, packages).

    What one side installed equals the other where it is one of its branches; branches are told apart by their versions, not by
    how a tool writes their markers.
    """
    settled: set[str] = set()
    found: list[Difference] = []
    compared = 0
    branches: dict[str, list[str]] = {}
    for name in names:
        if " (" in name:
            branches.setdefault(name.partition(" (")[0], []).append(name)
    for base, several in branches.items():
        p, q = ({n: f for n in (base, *several) if (f := j.facts.get(("environment", f"package/{n}")))} for j in (a, b))
        p, q = ({n: f for n, f in side.items() if f[0].note != NOT_SELECTED} for side in (p, q))
        if not p or not q or max(len(p), len(q)) < 2:
            continue

        def has(side: dict[str, tuple[Fact, int, str]], version: Any) -> bool:
            return any(same("environment", "package/", f[0].value, version) for f in side.values())

        left, right = {n for n, f in p.items() if not has(q, f[0].value)}, {n for n, f in q.items() if not has(p, f[0].value)}
        if base in left and base in right and min(len(p), len(q)) > 1:
            continue  # the versions that are selected differ: said by themselves
        lone = min(len(p), len(q)) == 1 and not (left if len(p) == 1 else right)
        settled |= p.keys() | q.keys()
        compared += 1
        if lone or not (left or right):
            if base in p and base in q and has({base: p[base]}, q[base][0].value):
                settled.discard(base)  # one version: what else is known of it is compared
            continue
        x, y = (" or ".join(sorted({shown(side[n][0].value) for n in own})) or ABSENT for side, own in ((p, left), (q, right)))
        markers = dict.fromkeys(n.partition(" (")[2].rstrip(")") for n in (*left, *right) if " (" in n)
        rated = importance.package(base, None)[0]
        reason = f"one of several branches{f' ({listed_words(markers)})' if any(markers) else ''}: which one is used is not recorded"
        found.append(Difference("environment", f"package/{base}", x, y, rated if rated != "harmless" else "notable", reason))
    return settled, found, compared


def _aspects(name: str, joined: Joined) -> dict[str, tuple[Fact, str, Any]]:
    """What a side knows of the package that counts: not of another version that a weaker record names."""
    version = joined.facts.get(("environment", f"package/{name}"))
    own = joined.aspects.get(name, {})
    if version is None:
        return own
    return {k: x for k, x in own.items() if x[2] is None or same("environment", "package/", x[2], version[0].value)}


def _same_aspect(aspect: str, x: Any, y: Any) -> bool:
    if aspect == "hash":  # of the algorithms that both sides use
        p, q = ({str(v).lower() for v in side} for side in (x, y))
        common = {v.partition(":")[0] for v in p} & {v.partition(":")[0] for v in q}
        return bool(p & q) or not common
    if aspect == "files":  # of wheels for another interpreter or machine more differs than the version says
        return bool(x["files"] == y["files"] or x["tags"] != y["tags"])
    if aspect == "commit":
        return same("code", "git_commit", x, y)
    if aspect == "origin":
        x, y = (re.sub(r"^(file://|\./)|/+$", "", str(v)) for v in (x, y))
    return bool(x == y)


def _told(version: Any, aspect: str, value: Any) -> str:
    """A package with what tells it from another of the same version."""
    start = shown(version) if version is not None else ""
    if value is None:
        return start or "as released"
    if aspect == "build":
        return f"{start}={value}"
    if aspect == "hash":
        return f"{start} ({shown(value[0])}{f' and {len(value) - 1} more' if len(value) > 1 else ''})"
    if aspect == "files":
        return f"{start} (files {value['files']})"
    if aspect in ("commit", "origin", "channel"):
        return f"{start} @ {value}" if start and start != value else str(value)
    return f"{start} ({aspect}: {shown(value) if not isinstance(value, list) else ', '.join(map(str, value))})"


def _rated_package(name: str, aspect: str, x: Any, y: Any) -> tuple[str, str]:
    critical = importance.package(name, None)[0] == "critical" or bool(_FIRST.search(name))
    if aspect == "channel":
        return "harmless", "the same version from another channel"
    if aspect == "origin":
        places = [str(v[0].value) if v is not None else "" for v in (x, y)]
        if all(re.search(r"/(feedstock_root|croot)/", p) for p in places):
            return ("critical" if critical else "notable"), "the place where conda built it: another build"
        if all(re.match(r"^file:|^[^:]+$", p) for p in places):
            return "harmless", "from another place of its machine"
        return "notable", "the same version from elsewhere"
    text = {
        "build": "the same version, built otherwise", "hash": "the same version, other bytes", "files": "the same version, other files",
        "commit": "another commit of the package",
        "edited": "installed files were edited in place", "extras": "asked for with other extras",
    }[aspect]  # fmt: skip
    return "critical" if critical or aspect in ("commit", "edited") else "notable", text


_FIRST = re.compile(r"blas|mkl|lapack|cuda|cudnn|nccl|torch|numpy")
"""packages whose variants are named first"""


_OF_SOME_SOURCES = frozenset(
    {"python", "executable", "requires-python", "git_branch", "git_remote", "program", "image", "architecture", "conda/channels"}
)
"""what one source of a system says and another does not"""


def _known_to_be_absent(section: str, key: str, left: Any, right: Any, a: Joined, b: Joined) -> bool:
    """Whether a fact that one side has alone is a difference: the other side's systems would have recorded it."""
    here, other = (left, b) if left is not None else (right, a)
    if section == "hardware" or key in _OF_SOME_SOURCES:
        return False
    group = (section, key.partition("/")[0] if PRESENT.match(key) else "")
    if group not in other.ranks:
        return section == "code" and key in ("git_diff", "untracked") and ("code", "git_commit") in other.facts and here[2] in other.systems
    if key.startswith("package/"):
        if any(p == "package/" for p, _ in other.unknown):
            return False  # a list that was cut
        if here[0].note in (NOT_SELECTED, CONDA_ALONE) and here[2] not in other.systems:
            return False
        if here[0].note in (NOT_SELECTED, POSSIBLE) and here[1] < other.ranks[group]:
            return False  # what is asked for or locked on a condition, and what was locked or installed
        if any(p == PIP_ALONE for p, _ in other.unknown) and (
            here[2] not in other.systems or (here[0].note == "" and not _built(key, here, a, b))
        ):
            return False
        few = here[2] in (a if left is not None else b).few
        return bool(other.ranks[group] >= (1 if few and here[2] in other.systems else here[1]))
    if here[2] == "docker inspect":
        started = [any("HostConfig/" in k for _, k in j.facts) for j in ((a, b) if left is not None else (b, a))]
        if started[0] != started[1] and (started[0] or key.startswith("image/")):
            return False  # a container and an image: what the one was given at its start, what the other says of itself
    grouped = _GROUPED.match(key)
    if grouped:  # an image, a container, a driver, a definition: one system's sources do not say the same
        start = key[: grouped.end(1)].replace("mount", "HostConfig") + "/"
        return here[2] in other.systems and any(s == section and k.startswith(start) for s, k in other.facts)
    operation = _OPERATION.match(key)
    if operation:  # of a table that has the version the log may have been cleaned
        version = other.facts.get(("data", operation[1]))
        return version is not None and isinstance(version[0].value, int) and int(operation[2]) > version[0].value
    return here[2] in other.systems and not any(s == here[2] and (p == section or key.startswith(p)) for p, s in other.unknown)


def _built(key: str, here: Any, a: Joined, b: Joined) -> bool:
    """Whether a package has a build: then conda installed it."""
    return any("build" in j.aspects.get(key[8:], {}) for j in (a, b))


def _rated(section: str, key: str, left: Any, right: Any, a: Joined, b: Joined) -> tuple[str, str]:
    sources = " and ".join(dict.fromkeys(side[2] for side in (left, right) if side is not None))
    written = [side[0].note if side is not None else None for side in (left, right)]
    if None in written or written[0] == written[1] or not any(str(w).startswith("written ") for w in written):
        for follower in (left, right):  # where both sides wrote the same expression, if any
            derived = follower[0].derived if follower is not None else ""
            targets = dict.fromkeys((derived,) if isinstance(derived, str) else derived)
            changed = [visible(t, 100) for t in targets if t and _differs(section, t, a, b)]
            if changed:  # which of several it is, is not known
                more = f" ({len(changed) - 4} more)" if len(changed) > 4 else ""
                return "notable", f"follows from {listed_words(changed[:4])}{more}"
    said = [side[0].note for side in (left, right) if side is not None and side[0].note not in ("", CONDA_ALONE)]
    if said:
        sources = "; ".join(dict.fromkeys([*said, sources]))
    if section == "environment" and key.startswith("package/"):
        if all(side is None or side[0].note == NOT_SELECTED for side in (left, right)):
            return "harmless", sources
        if key[8:] in _INSTALLERS:
            return "harmless", f"an installer, no input of the computation ({sources})"
        rated = importance.package(key.partition("/")[2].split(" ")[0], None)
        return (rated[0] if rated[0] != "harmless" else "notable"), f"{rated[1]} ({sources})"
    if section == "environment" and (staged := re.match(r"stage/.*/package/([^/]+)$", key)):
        rated = importance.package(staged[1], None)  # of a stage whose files an image may copy
        return ("critical" if rated[0] == "critical" else "notable"), f"{rated[1]} ({sources})"
    if any(redact.is_mask(side[0].value) for side in (left, right) if side is not None):
        return "notable", f"a credential, as far as its name tells ({sources})"
    if section == "environment" and (variable := re.search(r"(^|/)env/([^/]+)$", key)):
        rated = importance.variable(variable[2])
        return rated[0], f"{rated[1]} ({sources})"
    if section == "environment" and (module := re.search(r"(^|/)module/([^/]+)$", key)):
        computes = _FIRST.search(module[2].lower()) or importance.package(module[2].lower(), None)[0] == "critical"
        return ("critical", f"libraries that compute ({sources})") if computes else ("notable", f"loaded by the job ({sources})")
    if (
        key.startswith("installer/")
        or (section, key) == ("environment", "platform")
        or key in ("executable", "git_branch", "git_remote", "program", "requires-python")
    ):
        return "harmless", f"a place or a name, no input of the computation ({sources})"
    if key == "python":
        return importance.interpreter("version", str(left[0].value) if left else "", str(right[0].value) if right else "")
    if section == "environment" and re.search(r"(^|/)(slurm/(nodes|ntasks|gres|gpus)[\w-]*|pbs/(select|nodes|ngpus|mpiprocs|ppn))$", key):
        return "critical", f"how many processes and devices share the work ({sources})"
    if section == "config" and key.startswith(("tag/", "text/")):
        return "notable", f"a note of the run, which the program need not read ({sources})"
    if section == "config":
        rated = importance.option(key.rpartition(".")[2].rpartition(":")[2])
        if rated[0] == "harmless" and "." in key.rpartition(":")[2]:
            return "notable", f"a name inside the configuration may choose what is computed ({sources})"
        return rated[0], f"{rated[1]} ({sources})"
    if section == "code" and key.rpartition("/")[2] in ("args", "overrides"):
        return "notable", f"the command line ({sources})"
    if section == "data" and re.search(r"/import\.\w+$", key):
        return "harmless", f"another revision with the same data ({sources})"
    if section == "data" and "/source." in key:
        return "harmless", f"the same data from another place ({sources})"
    if section == "data" and left is not None and right is not None and left[0].derived and right[0].derived:
        how = "other rows under the same version" if key.endswith(" statistics") else "made otherwise of the same inputs"
        return "critical", f"{how} ({sources})"
    if section in ("data", "random-state"):
        return "critical", f"an input of the computation ({sources})"
    if section == "container" and (variable := re.search(r"(^|/)env/([^/]+)$", key)):
        rated = importance.variable(variable[2])
        return ("critical" if rated[0] == "critical" else "notable"), f"{rated[1]} ({sources})"
    if section == "container" and re.search(r"(^|/)(from|image)$", key, re.I) and left is not None and right is not None:
        return "critical", f"what is not installed on top of it comes from it ({sources})"
    if section == "container" and re.search(r"(^|/)mount/", key) and left is not None and right is not None:
        return "harmless", f"where the host keeps it ({sources})"
    if section == "code":
        return ("critical" if key.startswith(("git_", "untracked", "file/")) else "notable"), f"what ran ({sources})"
    return "notable", f"recorded by {sources}"


def _differs(section: str, target: str, a: Joined, b: Joined) -> bool:
    """Whether what a fact follows from differs: a fact by its key, or a stage by any of the data before it."""
    if target.startswith("package/"):
        return _package(target[8:], a, b)[0] is not None
    for own in {section, "config", "data", "code", "container"}:
        left, right = a.facts.get((own, target)), b.facts.get((own, target))
        if left is not None and right is not None and not same(own, target, left[0].value, right[0].value, min(left[1], right[1])):
            return True
        if (left is None) != (right is None) and _known_to_be_absent(own, target, left, right, a, b):
            return True
    return False
