"""``Dockerfile``, ``*.Dockerfile``, ``Containerfile``: what an image is built from.

Owns: base images per stage after substitution of ``ARG``, with tag and digest; ``ENV``, ``LABEL``, defaults of ``ARG``; the
packages that ``RUN`` installs; the other instructions as text. Refuses: running anything; values that only a build knows
(``--build-arg``, ``TARGETPLATFORM``) stay as written.

Facts of the final stage have plain keys, those of stages that it does not build on stand under ``stage/<name>/``; ``FROM`` is
the image at the end of the final stage's chain.

Sources: Dockerfile reference (docs.docker.com/reference/dockerfile: parser directives, escape, here-documents, scope of
ARG before FROM, variable expansion); moby/buildkit frontend/dockerfile/parser, instructions and shell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from reprodebug.foreign import _shell
from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

NAME = "Dockerfile"
_LIMIT = 4 << 20
_MOST_INSTRUCTIONS = 20_000
_WORD = re.compile(r"^\s*([A-Za-z]+)(?:\s+|$)(.*)$", re.S)
_KNOWN = frozenset(
    (
        "ADD",
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "RUN",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    )
)
_HEREDOC = re.compile(r"<<(-?)\s*(['\"]?)([A-Za-z_][\w.]*)\2")
_PLATFORM = frozenset(
    ("TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT", "BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT", "PATH", "HOME")
)
_SKIPPED_LABELS = re.compile(r"(?:created|build-?date|build[-_.]time|revision-?date)$", re.I)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction with its flags and the bodies of its here-documents."""

    name: str
    flags: dict[str, str]
    text: str
    bodies: list[str]


@dataclass(slots=True)
class Stage:
    """One ``FROM`` and what follows it."""

    number: int
    name: str
    image: str
    """as written after substitution: an image or an earlier stage"""
    platform: str = ""
    base: Stage | None = None
    env: dict[str, str] = field(default_factory=dict)
    own_env: dict[str, str] = field(default_factory=dict)
    args: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    installed: list[_shell.Installed] = field(default_factory=list)
    run: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    """images that files are copied or mounted from"""
    settings: dict[str, object] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.name or str(self.number)

    def chain(self) -> list[Stage]:
        """The stages that this one is built on, the first one first, with itself."""
        found: list[Stage] = []
        stage: Stage | None = self
        while stage is not None:
            found.insert(0, stage)
            stage = stage.base
        return found


def find(tree: Tree) -> list[str]:
    """Files named like a Dockerfile."""
    return [f for f in tree.files if is_name(f.rsplit("/", 1)[-1])]


def is_name(name: str) -> bool:
    """Whether a file of this name is a Dockerfile."""
    low = name.lower()
    if low.endswith((".dockerignore", ".swp", ".orig", "~", ".py", ".md", ".sh", ".json")):
        return False
    return (
        low in ("dockerfile", "containerfile")
        or low.startswith(("dockerfile.", "containerfile."))
        or low.endswith((".dockerfile", ".containerfile"))
    )


def read(tree: Tree, place: str) -> Record:
    """What one Dockerfile says."""
    text = tree.text(place, _LIMIT)
    record = Record(NAME, place, few=True)
    if tree.size(place) > _LIMIT:
        record.notes.append(f"only the first {_LIMIT >> 20} MiB were read")
    prefix = _prefix(tree, place)
    facts(record, text, place, prefix)
    record.notes.append("a Dockerfile does not say which digests its tags had, nor which versions of unpinned packages were installed")
    return record


def _prefix(tree: Tree, place: str) -> str:
    """What goes before the keys where the tree has several Dockerfiles: the part of the name that tells them apart."""
    return "" if len(find(tree)) < 2 or place.lower() in ("dockerfile", "containerfile") else f"{place}/"


def facts(record: Record, text: str, source: str, prefix: str = "") -> None:
    """Add what the text of a Dockerfile says. Raises Unreadable where it has no ``FROM``."""
    found, unknown = stages(text)
    if not found:
        raise Unreadable("no FROM instruction: this is no Dockerfile")
    last = found[-1]
    chain = last.chain()

    def add(key: str, value: object, derived: str = "") -> None:
        record.add("container", prefix + key, value, source, derived=derived)

    add("FROM", chain[0].image)
    for stage in found if len(found) > 1 else []:
        add(f"from/{stage.key}", stage.image, f"{prefix}FROM" if stage is chain[0] else "")
    for stage in found:
        if stage.platform:
            add("platform" if stage in chain else f"stage/{stage.key}/platform", stage.platform)
    for stage in found:
        if stage not in chain:
            _stage_facts(record, stage, f"{prefix}stage/{stage.key}/", source)
    merged = Stage(last.number, last.name, last.image)
    for stage in chain:
        merged.own_env |= stage.own_env
        merged.args |= stage.args
        merged.labels |= stage.labels
        merged.installed += stage.installed
        merged.run += stage.run
        merged.copied += stage.copied
        merged.images += stage.images
        merged.settings |= stage.settings
    _stage_facts(record, merged, prefix, source)
    for name in sorted(unknown)[:20]:
        record.notes.append(f"${name} has no value in the Dockerfile: it stays as written")


def _stage_facts(record: Record, stage: Stage, prefix: str, source: str) -> None:
    for name, value in stage.own_env.items():
        record.add("container", f"{prefix}env/{name}", value, source)
    for name, value in stage.args.items():
        record.add("container", f"{prefix}arg/{name}", value, source)
    for name, value in stage.labels.items():
        if not _SKIPPED_LABELS.search(name):
            record.add("container", f"{prefix}label/{name}", value, source)
    for name, given in stage.settings.items():
        record.add("container", prefix + name, given, source)
    add_installed(record, stage.installed, source, prefix)
    for image in stage.images:
        repository, _ = split_image(image)
        record.add("container", f"{prefix}copied-from/{repository}", image, source)
    if stage.run:
        record.add("container", f"{prefix}run", stage.run, source)
    if stage.copied:
        record.add("container", f"{prefix}copy", stage.copied, source)


def add_installed(record: Record, installed: list[_shell.Installed], source: str, prefix: str = "") -> None:
    """Packages that a build installs: Python packages into ``environment``, the system's into ``container``."""
    loose = []
    for package in installed:
        if package.kind in ("apt", "apk", "yum"):
            record.add("container", f"{prefix}package/{package.name.lower()}", package.version, source)
        elif package.kind == "conda" and package.name.lower() == "python":
            record.add("environment", f"{prefix}python", package.version, source)
        elif prefix:
            from reprodebug.foreign.protocol import normal_name

            record.add("environment", f"{prefix}package/{normal_name(package.name)}", package.version, source)
        else:
            record.package(package.name, package.version, source)
        if package.version is None or package.version[:1] in "<>!~=":
            loose.append(package.name)
    if loose:
        some = ", ".join(sorted(set(loose))[:8])
        record.notes.append(f"not pinned, so the build decides the version: {some}{' ...' if len(set(loose)) > 8 else ''}")


def split_image(image: str) -> tuple[str, str]:
    """``(repository, tag)`` of an image reference; the digest is cut off."""
    name = image.split("@", 1)[0]
    repository, mark, tag = name.rpartition(":")
    return (repository, tag) if mark and "/" not in tag else (name, "")


def stages(text: str) -> tuple[list[Stage], set[str]]:
    """The stages of a Dockerfile, and the names of variables without a value."""
    escape, lines = directives(text)
    before: dict[str, str] = {}
    found: list[Stage] = []
    unknown: set[str] = set()
    for instruction in instructions(lines, escape):
        if instruction.name == "FROM":
            found.append(_from(instruction, found, before, unknown))
        elif not found:
            if instruction.name == "ARG":
                for name, value in _pairs(instruction.text, escape):
                    if value is not None:
                        before[name] = _expand(value, before, unknown)
        else:
            _apply(found[-1], instruction, before, unknown, escape)
    return found, unknown


def directives(text: str) -> tuple[str, list[str]]:
    """The escape character that a parser directive sets, and the lines."""
    lines = text.removeprefix("\ufeff").split("\n")
    escape = "\\"
    for line in lines:
        m = re.match(r"^#\s*([A-Za-z]+)\s*=\s*(.+?)\s*$", line)
        if m is None:
            break
        if m[1].lower() == "escape" and m[2] in ("`", "\\"):
            escape = m[2]
    return escape, [line.rstrip("\r") for line in lines]


def instructions(lines: list[str], escape: str) -> Iterator[Instruction]:
    """The instructions: continued lines joined, comments and empty lines dropped, here-documents taken out."""
    n = seen = 0
    while n < len(lines) and seen < _MOST_INSTRUCTIONS:
        line = lines[n]
        n += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = []
        while True:
            stripped = line.rstrip()
            going = stripped.endswith(escape) and not stripped.endswith(escape * 2)
            parts.append(stripped[:-1] if going else line)
            if not going:
                break
            while n < len(lines) and (not lines[n].strip() or lines[n].lstrip().startswith("#")):
                n += 1
            if n >= len(lines):
                break
            line = lines[n]
            n += 1
        m = _WORD.match("".join(parts))
        if m is None or m[1].upper() not in _KNOWN:
            continue
        seen += 1
        name, text = m[1].upper(), m[2].strip()
        flags: dict[str, str] = {}
        while f := re.match(r"--([a-z][a-z-]*)(?:=(\"[^\"]*\"|\S*))?(?:\s+|$)", text):
            flags[f[1]] = ", ".join(filter(None, (flags.get(f[1]), (f[2] or "true").strip('"'))))
            text = text[f.end() :]
        bodies: list[str] = []
        if name in ("RUN", "COPY", "ADD"):
            for dash, _, mark in _HEREDOC.findall(re.sub(r"<<<", "", text)):
                end = n
                while end < len(lines) and (lines[end].lstrip("\t") if dash else lines[end]) != mark:
                    end += 1
                bodies.append("\n".join(lines[n:end]))
                n = min(end + 1, len(lines))
        yield Instruction(name, flags, text, bodies)


def _expand(text: str, variables: dict[str, str], unknown: set[str]) -> str:
    return _shell.expand(text, variables, lambda name: None if name in _PLATFORM else unknown.add(name))


def _from(instruction: Instruction, before: list[Stage], variables: dict[str, str], unknown: set[str]) -> Stage:
    words = instruction.text.split()
    image = _expand(words[0].strip("\"'"), variables, unknown) if words else ""
    name = words[2] if len(words) > 2 and words[1].lower() == "as" else ""
    stage = Stage(len(before), name, image, _expand(instruction.flags.get("platform", ""), variables, unknown))
    stage.base = next((s for s in reversed(before) if s.name and s.name.lower() == image.lower()), None)
    if stage.base is not None:
        stage.env = dict(stage.base.env)
    return stage


def _apply(stage: Stage, instruction: Instruction, before: dict[str, str], unknown: set[str], escape: str) -> None:
    """What one instruction does to its stage."""
    name, text = instruction.name, instruction.text
    scope = {**stage.args, **stage.env}
    if name == "ENV":
        for key, value in _pairs(text, escape, old=True):
            stage.env[key] = stage.own_env[key] = _expand(value or "", scope, unknown).replace("\0", "$")
    elif name == "ARG":
        for key, value in _pairs(text, escape):
            given = before.get(key) if value is None else _expand(value, {**stage.args, **stage.env}, unknown)
            if given is not None:
                stage.args[key] = given
    elif name == "LABEL":
        for key, value in _pairs(text, escape, old=True):
            stage.labels[_expand(key, scope, unknown)] = _expand(value or "", scope, unknown).replace("\0", "$")
    elif name == "RUN":
        _run(stage, instruction, scope)
    elif name in ("COPY", "ADD"):
        if source := instruction.flags.get("from"):
            source = _expand(source, {**before, **scope}, unknown)
            if not source.isdigit() and ("/" in source or ":" in source):
                stage.images.append(source)
        words = _json_words(text) or _expand(text, scope, set()).split()
        flags = [f"--{k}={v}" for k, v in sorted(instruction.flags.items()) if k != "from"]
        stage.copied.append(" ".join([*flags, *words])[:4000])
        stage.copied += [body[:4000] for body in instruction.bodies]
    elif name in ("CMD", "ENTRYPOINT", "SHELL"):
        stage.settings[name.lower()] = _json_words(text) or text
        if name == "ENTRYPOINT":
            stage.settings.pop("cmd", None)
    elif name in ("WORKDIR", "USER", "STOPSIGNAL"):
        stage.settings[name.lower()] = _expand(text.strip("\"'"), scope, unknown)
    elif name in ("EXPOSE", "VOLUME"):
        old = stage.settings.get(name.lower())
        words = _json_words(text) or _expand(text, scope, unknown).split()
        stage.settings[name.lower()] = sorted({*(old if isinstance(old, list) else []), *words})


def _run(stage: Stage, instruction: Instruction, scope: dict[str, str]) -> None:
    words = _json_words(instruction.text)
    if words is not None:
        shell = len(words) == 3 and re.search(r"(?:^|/)(?:ba|da|z)?sh$", words[0]) and re.fullmatch(r"-[a-z]*c", words[1])
        script = _shell.read(words[2], scope) if shell else _shell.Script()
        if not shell:
            script.installed, rest = _shell.installs(words)
            script.rest.append(" ".join(rest))
    else:
        body = "\n".join(instruction.bodies)
        head = _HEREDOC.sub("", instruction.text).strip() if instruction.bodies else instruction.text
        shells = not head or re.fullmatch(r"(?:/usr)?(?:/bin/)?(?:ba|da|z)?sh(?:\s+-\w+)*", head)
        script = _shell.read(body if instruction.bodies and shells else head, scope)
        if instruction.bodies and not shells:
            script.rest.append(body[:4000])
    stage.installed += script.installed
    stage.run += script.rest
    for mount in re.findall(r"from=([^\s,]+)", instruction.flags.get("mount", "")):
        if "/" in mount or ":" in mount:
            stage.images.append(mount)


def _json_words(text: str) -> list[str] | None:
    """The exec form of an instruction; None for the shell form."""
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return words if isinstance(words, list) and words and all(isinstance(w, str) for w in words) else None


def _pairs(text: str, escape: str, *, old: bool = False) -> list[tuple[str, str | None]]:
    """``name=value`` pairs of ENV, LABEL and ARG: quotes resolved, ``$`` kept; a value in single quotes or escaped has
    NUL for ``$``. ``old``: the form ``NAME value with blanks``."""
    words: list[str] = []
    word: list[str] | None = None
    n = 0
    while n < len(text):
        c = text[n]
        if c in " \t\n":
            if word is not None:
                words.append("".join(word))
            word = None
            n += 1
            continue
        word = word if word is not None else []
        if c in "'\"":
            n += 1
            while n < len(text) and text[n] != c:
                if text[n] == escape and c == '"' and n + 1 < len(text):
                    n += 1
                    word.append("\0" if text[n] == "$" else text[n])
                else:
                    word.append("\0" if c == "'" and text[n] == "$" else text[n])
                n += 1
            n += 1
        elif c == escape and n + 1 < len(text):
            word.append("\0" if text[n + 1] == "$" else text[n + 1])
            n += 2
        else:
            word.append(c)
            n += 1
    if word is not None:
        words.append("".join(word))
    if old and words and "=" not in text.split(None, 1)[0]:
        rest = text.split(None, 1)[1:] or [""]
        return [(words[0], rest[0].strip())]
    return [(k, v if mark else None) for k, mark, v in (w.partition("=") for w in words) if k]
