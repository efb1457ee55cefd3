"""What differs around the tensors of two runs: command, settings, packages, variables, hardware, code, data.

Owns the severity of such a difference and its reason: ``critical`` can change numbers, ``notable`` may, ``harmless``
cannot. Refuses to say what a difference caused: that is the diagnosis' business.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from reprodebug.compare import importance as rate
from reprodebug.compare.importance import CRITICAL, HARMLESS, NOTABLE
from reprodebug.model.comparison import SECTIONS, SEVERITIES, Difference
from reprodebug.model.run import Manifest, Process

ABSENT = "(absent)"
NOT_RECORDED = "(not recorded)"
_LIMIT = 200
_MAX_LISTED = 200
"""differences of one kind that are listed; the rest is counted in one line"""
_MAX_KEYS = 12
"""a file read as JSON or YAML that differs in more places than these is data, not configuration"""
_TORCH_ELSEWHERE = ("cuda_devices", "numpy", "cpu_capability", "intra_op_threads", "inter_op_threads")
"""said among hardware, packages and settings"""
_Record = Mapping[str, Any]


def surroundings(a: Manifest, b: Manifest) -> tuple[Difference, ...]:
    """Everything around the tensors that the two runs do not share, the most severe first, then by section."""
    found: list[Difference] = []
    side_a, side_b = Side(a), Side(b)
    for part in (
        _command,
        _processes,
        _interpreter,
        _settings,
        _torch,
        _packages,
        _variables,
        _hardware,
        _system,
        _libraries,
        _code,
        _data,
    ):
        found += [_compilers_own(d) for d in part(side_a, side_b)]
    found.sort(key=lambda d: (SEVERITIES.index(d.severity), SECTIONS.index(d.section)))
    return tuple(found)


class Side:
    """One run: its manifest, the process of rank 0, and the way to compare its paths with another run's."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        main = [p for p in manifest.processes if p.role == "main"]
        self.main: Process | None = min(main, key=lambda p: (p.rank, p.ordinal), default=None)
        self.ranks = len({p.rank for p in main})
        self._own: _Record = self.main.environment if self.main is not None else {}
        self._places = self._known_places()

    def _known_places(self) -> list[tuple[str, str]]:
        interpreter = self.part("interpreter")
        places = [
            (self.manifest.cwd, ""),
            (str(self.manifest.code.get("root") or ""), ""),
            (str(interpreter.get("prefix") or ""), "{prefix}/"),
            (str(self.part("variables").get("HOME") or ""), "~/"),
        ]
        return [(os.path.normpath(p).rstrip("/") + "/", word) for p, word in places if p.startswith("/") and len(p) > 1]

    def part(self, name: str) -> _Record:
        """A section of the environment: of the run, else as the process of rank 0 said it."""
        for record in (self.manifest.environment, self._own):
            value = record.get(name)
            if isinstance(value, Mapping):
                return value
        return {}

    def names(self, word: str) -> bool:
        """Whether a source file of the program has this word as a string, or asks for the user that it names."""
        files = self.manifest.code.get("files")
        texts = (e.get("text") for e in files.values() if isinstance(e, Mapping)) if isinstance(files, Mapping) else ()
        signs = (f'"{word}"', f"'{word}'", *(("getuser(",) if word in rate.USER else ()))
        return any(isinstance(t, str) and any(sign in t for sign in signs) for t in texts)

    def neutral(self, text: str) -> str:
        """``text`` with this run's own folders, temporary folders and process ids taken out: what is left can be compared."""
        for place, word in self._places:
            if place in text:
                text = text.replace(place, word)
            if text == place[:-1]:
                text = word.rstrip("/") or "."
        return rate.TEMPORARY.sub("{tmp}", text)


def _text(value: object) -> str:
    """A value as a report shows it: short."""
    if value is None:
        return ABSENT
    text = value if isinstance(value, str) else " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= _LIMIT else text[: _LIMIT - 41] + "…" + text[-40:]


def _difference(section: str, key: str, a: object, b: object, rated: tuple[str, str]) -> Difference:
    """One difference; texts that differ only where they were cut are shown from where they differ."""
    short_a, short_b = _text(a), _text(b)
    if short_a == short_b and isinstance(a, str) and isinstance(b, str):
        at = max(_common(a, b) - 40, 0)
        short_a, short_b = "…" + a[at : at + _LIMIT - 2], "…" + b[at : at + _LIMIT - 2]
    return Difference(section, _text(key), short_a, short_b, *rated)


_COMPILED = re.compile(r"(^|/)(torchinductor_[^/]+|torch_compile_cache|torch_extensions|\.triton/cache)/")


def _compilers_own(d: Difference) -> Difference:
    """Files that torch.compile makes for itself are harmless: that one run compiles is said by its layers."""
    if d.section in ("code", "data") and _COMPILED.search(d.key):
        return dataclasses.replace(d, severity=HARMLESS, reason="made by torch.compile, from the program")
    return d


def _common(a: str, b: str) -> int:
    """Length of the common beginning."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _pairs(a: _Record, b: _Record) -> Iterator[tuple[str, Any, Any]]:
    """``(key, A's value, B's value)`` of every key whose values differ; nothing where both records are equal."""
    if a == b:
        return
    for key in sorted({*a, *b}, key=str):
        left, right = a.get(key), b.get(key)
        if left != right:
            yield str(key), left, right


def _capped(found: list[Difference], what: str) -> list[Difference]:
    if len(found) <= _MAX_LISTED:
        return found
    found.sort(key=lambda d: SEVERITIES.index(d.severity))
    rest = found[_MAX_LISTED:]
    more = Difference(rest[0].section, f"({len(rest)} more {what})", "differ", "differ", rest[0].severity, "not listed one by one")
    return [*found[:_MAX_LISTED], more]


# command


def _command(a: Side, b: Side) -> Iterator[Difference]:
    left, right = a.manifest.command, b.manifest.command
    if left == right:
        return
    options_a, options_b = rate.options(left), rate.options(right)
    for key, x, y in _pairs(options_a, options_b):
        if x is not None and y is not None and a.neutral(x) == b.neutral(y):
            continue
        rated = rate.option(key)
        files = [_named(side, word) for side, word in ((a, x), (b, y))]
        if rated[0] != HARMLESS and files[0].get("hash") and files[0]["hash"] == files[1].get("hash"):
            rated = HARMLESS, "another path to a file of the same content"
        elif values := _values_of(x, y, *files):
            yield from values
            rated = HARMLESS, "the name of a configuration file, whose values are compared one by one"
        yield _difference("config", key, x, y, rated)


def _named(side: Side, word: str | None) -> Mapping[str, Any]:
    """The record of a file that a word of the command names; empty where it names none."""
    named = side.manifest.code.get("named")
    entry = named.get(word) if isinstance(named, Mapping) and word else None
    return entry if isinstance(entry, Mapping) else {}


def _values_of(x: str | None, y: str | None, left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Difference]:
    """The values in which two configuration files differ that one option names; none where they are no such pair, or too many."""
    texts = left.get("text"), right.get("text")
    if not x or not y or os.path.splitext(x)[1] != os.path.splitext(y)[1]:
        return []
    if not isinstance(texts[0], str) or not isinstance(texts[1], str) or (x.endswith(".json") and texts[0].lstrip()[:1] == "["):
        return []
    from reprodebug.compare import sources

    found = list(sources.configuration(f"{x} / {y}", *texts, _difference))
    return found if len(found) <= _MAX_KEYS else []


def _compared_by_value(a: Side, b: Side) -> set[str]:
    """Paths, as seen from the runs' own folders, of the configuration files whose values ``_command`` compares."""
    left, right = rate.options(a.manifest.command), rate.options(b.manifest.command)
    found = set()
    for _, x, y in _pairs(left, right):
        if _values_of(x, y, _named(a, x), _named(b, y)):
            found |= {side.neutral(os.path.normpath(os.path.join(side.manifest.cwd, word))) for side, word in ((a, x), (b, y))}
    return found


def _processes(a: Side, b: Side) -> Iterator[Difference]:
    if a.ranks != b.ranks and a.ranks and b.ranks:
        yield _difference("config", "processes", a.ranks, b.ranks, (CRITICAL, "data and reductions are split among the processes"))
    if a.manifest.cwd != b.manifest.cwd:
        yield _difference("config", "cwd", a.manifest.cwd, b.manifest.cwd, (HARMLESS, "a folder's name, no input of the computation"))


# interpreter, torch, settings


def _interpreter(a: Side, b: Side) -> Iterator[Difference]:
    left, right = a.part("interpreter"), b.part("interpreter")
    probes = left.get("hash_probe"), right.get("hash_probe")
    if probes[0] != probes[1] and None not in probes:
        x, y = (f"{side.get('hash_seed', 'random')} (strings hash as {p})" for side, p in zip((left, right), probes, strict=True))
        rated = (CRITICAL, "the order of sets of strings depends on it")
        if left.get("hash_seed") == right.get("hash_seed") == "random":
            rated = (NOTABLE, "no seed was fixed: each process has its own order of sets of strings")
        yield _difference("environment", "PYTHONHASHSEED", x, y, rated)
    for key, x, y in _pairs(left, right):
        if key == "flags" and isinstance(x, Mapping) and isinstance(y, Mapping):
            for flag, p, q in _pairs(x, y):
                yield _difference("environment", f"sys.flags.{flag}", p, q, rate.python_flag(flag))
        elif key in ("hash_probe", "hash_seed", "build"):
            continue
        elif key == "sys_path":
            if [a.neutral(str(p)) for p in x or ()] != [b.neutral(str(p)) for p in y or ()]:
                yield _difference("environment", "sys.path", x, y, (NOTABLE, "modules may be found in other places"))
        elif x is not None and y is not None:
            shown = "python" if key == "version" else key
            yield _difference("environment", shown, x, y, rate.interpreter(key, str(x), str(y)))


def _settings(a: Side, b: Side) -> Iterator[Difference]:
    for key, x, y in _pairs(a.part("settings"), b.part("settings")):
        known_x, known_y = key in a.part("settings"), key in b.part("settings")
        section, rated = rate.setting(key, known_x and known_y)
        yield _difference(section, key, _value(x, known_x), _value(y, known_y), rated)


def _value(value: object, known: bool) -> object:
    return NOT_RECORDED if not known else "None" if value is None else value


def _torch(a: Side, b: Side) -> Iterator[Difference]:
    """The torch build. Its version stands among the packages, its threads among the settings."""
    left, right = a.part("torch"), b.part("torch")
    said = {"cpu_capability"}
    if "intra_op_threads" in a.part("settings") and "intra_op_threads" in b.part("settings"):
        said |= {"omp_threads", "mkl_threads"}
    for key, x, y in _pairs(left, right):
        if x is None or y is None or key in _TORCH_ELSEWHERE:
            continue
        if key == "version":
            if a.part("packages").get("torch") == b.part("packages").get("torch"):
                yield _difference("environment", "torch", x, y, (CRITICAL, "another torch computes with other kernels"))
        elif isinstance(x, Mapping) and isinstance(y, Mapping):
            for name, p, q in _pairs(x, y):
                if p is not None and q is not None and name not in said:
                    section, rated = rate.torch_build(name)
                    yield _difference(section, f"torch {name}", p, q, rated)
        else:
            section, rated = rate.torch_build(key)
            yield _difference(section, f"torch {key}", x, y, rated)


# packages, variables, machine


def _packages(a: Side, b: Side) -> list[Difference]:
    imported = [set(map(str, e)) if isinstance(e := s.manifest.environment.get("imported"), (list, tuple)) else None for s in (a, b)]
    used = None if None in imported else set().union(*(i for i in imported if i is not None))
    left, right = a.part("packages"), b.part("packages")
    found = []
    if left and right:
        found += [_difference("environment", name, x, y, rate.package(name, used)) for name, x, y in _pairs(left, right)]
        for name, x, y in _pairs(a.part("origins"), b.part("origins")):
            if left.get(name) == right.get(name) and a.neutral(str(x)) != b.neutral(str(y)):
                found.append(_difference("environment", f"{name} (installed from)", x, y, rate.package(name, used)))
    edited_a, edited_b = (set(map(str, s.manifest.environment.get("edited") or ())) for s in (a, b))  # type: ignore[call-overload]
    for name in sorted(edited_a ^ edited_b):
        words = ["edited by hand" if name in e else "as installed" for e in (edited_a, edited_b)]
        found.append(_difference("code", name, words[0], words[1], (CRITICAL, "an imported file of an installed package was changed")))
    return _capped(found, "packages")


def _variables(a: Side, b: Side) -> list[Difference]:
    left, right = a.part("variables"), b.part("variables")
    found = []
    for name, x, y in _pairs(left, right):
        if name == "PYTHONHASHSEED" and a.part("interpreter").get("hash_probe") and b.part("interpreter").get("hash_probe"):
            continue  # said by the interpreter, with its effect
        rated = rate.variable(name)
        if x is not None and y is not None and rated[0] != HARMLESS and a.neutral(str(x)) == b.neutral(str(y)):
            rated = HARMLESS, "the same, seen from another folder"
        elif rated[0] == HARMLESS and (a.names(name) or b.names(name)):
            rated = NOTABLE, f"{rated[1]}, but the program's source {rate.NAMED}"
        found.append(_difference("environment", name, x, y, rated))
    return _capped(found, "variables")


def _hardware(a: Side, b: Side) -> Iterator[Difference]:
    left, right = a.part("hardware"), b.part("hardware")
    if not left or not right:
        return
    for key, x, y in _pairs(left, right):
        if key == "cpu_flags":
            only_a, only_b = sorted(set(x or ()) - set(y or ())), sorted(set(y or ()) - set(x or ()))
            if only_a or only_b:
                shown = [f"has {' '.join(only)}" if only else "has none of these" for only in (only_a, only_b)]
                yield _difference("hardware", "CPU instructions", shown[0], shown[1], rate.hardware(key))
        elif key == "gpus":
            names = [", ".join(str(g.get("name")) for g in gpus or ()) or "none" for gpus in (x, y)]
            if names[0] != names[1]:
                yield _difference("hardware", "GPUs", names[0], names[1], rate.hardware(key))
            else:
                yield from _gpus(x, y)
        elif x is not None and y is not None:
            yield _difference("hardware", key, x, y, rate.hardware(key))


def _gpus(x: Any, y: Any) -> Iterator[Difference]:
    """Facts about cards of the same names, in their order."""
    for n, (one, other) in enumerate(zip(x or (), y or (), strict=False)):
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            for fact in sorted({*one} & {*other}, key=str):
                if one[fact] != other[fact]:
                    key = f"GPU {n}: {str(fact).replace('_', ' ')}"
                    yield _difference("hardware", key, str(one[fact]), str(other[fact]), rate.gpu(str(fact)))


def _system(a: Side, b: Side) -> Iterator[Difference]:
    for section, part in (("environment", "system"), ("container", "container")):
        left, right = a.part(part), b.part(part)
        if left and right:
            for key, x, y in _pairs(left, right):
                yield _difference(section, key, x or "none", y or "none", rate.system(key))


def _libraries(a: Side, b: Side) -> list[Difference]:
    """Libraries that are another file. One that belongs to a package of another version is explained by that package."""
    left, right = a.part("libraries"), b.part("libraries")
    if left == right or not left or not right:
        return []
    by_stem = [{rate.library_stem(str(n)): (str(n), e) for n, e in side.items() if isinstance(e, Mapping)} for side in (left, right)]
    changed = {n.replace("-", "_") for n, _, _ in _pairs(a.part("packages"), b.part("packages"))}
    found = []
    for stem in sorted({*by_stem[0], *by_stem[1]}):
        (name_a, x), (name_b, y) = (side.get(stem, ("", {})) for side in by_stem)
        ids = [e.get("build_id") or e.get("size") for e in (x, y)]
        top = re.search(r"/(?:site|dist)-packages/([A-Za-z0-9_]+)", str((x or y).get("path")))
        owner = rate.FOLDERS.get(top[1].lower(), top[1].lower()) if top else ""
        if (x and y and ids[0] == ids[1]) or owner in changed or (owner == "nvidia" and any(c.startswith("nvidia") for c in changed)):
            continue
        shown = [f"{n} ({i[:12] if isinstance(i, str) else i})" if n else None for n, i in zip((name_a, name_b), ids, strict=True)]
        found.append(_difference("environment", stem, shown[0], shown[1], rate.library(stem, bool(x and y))))
    return _capped(found, "libraries")


# code and data


def _code(a: Side, b: Side) -> list[Difference]:
    from reprodebug.compare import sources

    return _capped(sources.code(a.manifest.code, b.manifest.code, _difference), "files")


def _data(a: Side, b: Side) -> list[Difference]:
    left, right = _files(a), _files(b)
    if left == right:
        return []
    found: list[Difference] = []
    moved = _moved(left, right)
    known = _compared_by_value(a, b)
    for path, x, y in _pairs(left, right):
        if path in known and (x is None or y is None):
            continue
        if path in moved:
            found.append(_difference("data", path, path, moved[path], (HARMLESS, rate.MOVED)))
        elif path not in moved.values():
            rated = rate.data(x, y)
            if _left_by_the_other(a, b, path, x, y):
                texts = [rate.data_text(e) or LEFT for e in (x, y)]
                found.append(_difference("data", path, texts[0], texts[1], rate.MADE_BY_THE_OTHER))
            elif (
                rated is not None and rated[0] == CRITICAL and x and y and isinstance(x.get("text"), str) and isinstance(y.get("text"), str)
            ):
                from reprodebug.compare import sources

                keys = list(sources.configuration(path, x["text"], y["text"], _difference))
                few = 0 < len(keys) <= _MAX_KEYS and not (path.endswith(".json") and x["text"].lstrip()[:1] == "[")
                found += keys if few else [_difference("data", path, rate.data_text(x), rate.data_text(y), rated)]
            elif rated is not None:
                found.append(_difference("data", path, rate.data_text(x), rate.data_text(y), rated))
    return _capped(found, "files")


def _moved(left: dict[str, dict[str, Any]], right: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Files of A alone -> files of B alone of the same content, those of the same name first."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in (os.path.basename, lambda path: ""):
        waiting: dict[tuple[Any, str], list[str]] = {}
        for p, e in left.items():
            if p not in right and p not in found and e.get("hash"):
                waiting.setdefault((e["hash"], name(p)), []).append(p)
        for p, e in right.items():
            if p not in left and p not in taken and (fits := waiting.get((e.get("hash"), name(p)))):
                found[fits.pop(0)] = p
                taken.add(p)
    return found


LEFT = "written while it ran, by its time of modification"


def _left_by_the_other(a: Side, b: Side, path: str, x: Mapping[str, Any] | None, y: Mapping[str, Any] | None) -> bool:
    """Whether a file that one run alone reads was written while the other ran: C and Rust libraries write unseen.

    Only for a file that both could reach: on one machine, and in the folder of both runs or in neither's.
    """
    if (x is None) == (y is None):
        return False
    entry, other = (x, b) if y is None else (y, a)
    modified = (entry or {}).get("modified")
    if not isinstance(modified, (int, float)) or (entry or {}).get("mode") != "read" or (entry or {}).get("written"):
        return False
    reached = a.manifest.cwd == b.manifest.cwd or path.startswith(("/", "~"))
    return reached and a.part("system").get("host") == b.part("system").get("host") and _during(other, float(modified))


def _during(side: Side, moment: float) -> bool:
    from datetime import datetime

    try:
        start, end = (datetime.fromisoformat(t).timestamp() for t in (side.manifest.started, side.manifest.ended))
    except ValueError:
        return False
    return start <= moment <= end


def _files(side: Side) -> dict[str, dict[str, Any]]:
    """Files read or written by the run: path as seen from its own folder -> record."""
    found: dict[str, dict[str, Any]] = {}
    for path, entry in side.manifest.data.items():
        if isinstance(entry, Mapping):
            found[side.neutral(str(path))] = {str(k): v for k, v in entry.items()}
    return found
