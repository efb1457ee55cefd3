"""Shell text as the commands in it, and what those commands install: a reading, nothing is run.

Owns: lines of ``RUN`` in a Dockerfile, ``%post`` of an Apptainer definition, fenced commands of a document. Refuses:
loops, functions, command substitution; what stands there is seen as plain commands with the text unexpanded.

Sources: POSIX.1-2017 Shell Command Language (2.2 quoting, 2.6.2 parameter expansion, 2.7.4 here-document); the command
lines of pip, uv, conda (package match specifications), apt-get, apk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

MAX_SCRIPT = 1 << 20
_MAX_WORDS = 50_000
_VARIABLE = re.compile(r"\$(?:(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?P<rest>[^{}]*(?:\{[^{}]*\}[^{}]*)*)\})")
_ASSIGNED = re.compile(r"^([A-Za-z_]\w*)=(.*)$", re.S)
_HEREDOC = re.compile(r"(?<!<)<<(-?)\s*(['\"]?)([A-Za-z_][\w.-]*)\2")
_OPERATORS = ("&&", "||", ";;", ";", "|&", "|", "&", "\n", "(", ")")
_PREFIXES = frozenset({"sudo", "exec", "then", "do", "else", "if", "!", "time", "nice", "command", "{", "}", "eval", "env"})
_VALUED = {
    "pip": frozenset(
        [
            "-r",
            "--requirement",
            "-c",
            "--constraint",
            "-e",
            "--editable",
            "-i",
            "--index-url",
            "--extra-index-url",
            "-f",
            "--find-links",
            "-w",
            "--wheel-dir",
            "-d",
            "--dest",
            "-t",
            "--target",
            "--prefix",
            "--root",
            "--platform",
            "--python-version",
            "--implementation",
            "--abi",
            "--only-binary",
            "--no-binary",
            "--src",
            "--cache-dir",
            "--log",
            "--proxy",
            "--retries",
            "--timeout",
            "--trusted-host",
            "--cert",
            "--client-cert",
            "--python",
            "-p",
            "--config-settings",
            "-C",
            "--upgrade-strategy",
            "--progress-bar",
            "--exists-action",
            "--root-user-action",
            "--default-timeout",
            "--index-strategy",
            "--torch-backend",
            "--override",
            "--index",
            "--use-feature",
            "--report",
            "--global-option",
            "--default-index",
            "--exclude-newer",
            "--prerelease",
            "--resolution",
            "--link-mode",
        ]
    ),
    "conda": frozenset(
        [
            "-c",
            "--channel",
            "-n",
            "--name",
            "-p",
            "--prefix",
            "-f",
            "--file",
            "--solver",
            "--repodata-fn",
            "--root-prefix",
            "--rc-file",
            "-r",
        ]
    ),
    "apt": frozenset(["-t", "--target-release", "-o", "--option", "-c", "--config-file", "--default-release"]),
    "apk": frozenset(
        ["-t", "--virtual", "-X", "--repository", "-p", "--root", "--repositories-file", "--arch", "--keys-dir", "--cache-dir"]
    ),
    "yum": frozenset(["-c", "--enablerepo", "--disablerepo", "--setopt", "--installroot", "--releasever", "--repo", "-x", "--exclude"]),
}
_WHEEL = re.compile(r"([A-Za-z0-9][A-Za-z0-9._]*)-([0-9][^-]*)(?:-[^-]+)?-[^-]+-[^-]+-[^-]+\.whl$")
_SDIST = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*?)-([0-9][^/-]*)\.(?:tar\.gz|tgz|zip|tar\.bz2)$")


@dataclass(frozen=True, slots=True)
class Installed:
    """One package that a command asks for."""

    kind: str
    """pip, conda, apt, apk or yum"""
    name: str
    version: str | None
    """the pinned version; a range as written; None: any"""


@dataclass(slots=True)
class Script:
    """What a script does, as far as it can be read."""

    installed: list[Installed] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)
    """its commands, one text each, without the packages that ``installed`` holds"""
    exported: dict[str, str] = field(default_factory=dict)
    """variables that it exports"""
    variables: dict[str, str] = field(default_factory=dict)
    """every variable that it assigns, with those given"""


def expand(text: str, variables: Mapping[str, str], missing: Callable[[str], None] | None = None) -> str:
    """``text`` with ``$X``, ``${X}`` and the forms with ``:- - :+ + # ## % %% /`` replaced; unknown names stay as written."""

    def value(m: re.Match[str], depth: int) -> str:
        name, rest = m["plain"] or m["name"], m["rest"] or ""
        known = variables.get(name)
        if not rest:
            if known is None and missing is not None:
                missing(name)
            return m.group(0) if known is None else known
        nonempty = rest.startswith(":")
        kind, word = (rest[1:2], rest[2:]) if nonempty else (rest[:1], rest[1:])
        present = known is not None and (bool(known) or not nonempty)
        if kind in ("-", "=", "?", "+") and (not nonempty or rest[1:2] in "-=?+"):
            if kind == "+":
                return inner(word, depth) if present else ""
            if present:
                return known or ""
            if kind == "?":
                if missing is not None:
                    missing(name)
                return m.group(0)
            return inner(word, depth)
        if known is None:
            if missing is not None:
                missing(name)
            return m.group(0)
        return _cut(known, rest, inner, depth)

    def inner(word: str, depth: int) -> str:
        return _VARIABLE.sub(lambda m: value(m, depth + 1), word) if depth < 8 else word

    return _VARIABLE.sub(lambda m: value(m, 0), text) if "$" in text else text


def _cut(known: str, rest: str, inner: Callable[[str, int], str], depth: int) -> str:
    """``known`` after ``#``, ``##``, ``%``, ``%%``, ``/`` or ``//`` of a parameter expansion; patterns with ``*`` and ``?``."""
    twice = rest[:1] in "#%/" and rest[1:2] == rest[:1]
    body = inner(rest[2:] if twice else rest[1:], depth)
    if len(known) > 10_000 or len(body) > 200:
        return known
    if rest[0] == "/":
        pattern, _, new = body.partition("/")
        return re.sub(_glob(pattern), lambda _: new, known, count=0 if twice else 1) if pattern else known
    if rest[0] not in "#%":
        return known
    whole = re.compile(_glob(body) + r"\Z", re.S)
    cuts: Iterable[int] = range(len(known) + 1)
    if rest[0] == "#":
        for n in reversed(list(cuts)) if twice else cuts:
            if whole.match(known[:n]):
                return known[n:]
        return known
    for n in cuts if twice else reversed(list(cuts)):
        if whole.match(known[n:]):
            return known[:n]
    return known


def _glob(pattern: str) -> str:
    """A shell pattern with ``*`` and ``?`` as a regular expression."""
    pattern = re.sub(r"\*+", "*", pattern)
    if pattern.count("*") > 3:
        return re.escape(pattern)
    return "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)


def commands(script: str) -> list[list[str]]:
    """The simple commands of a script as lists of words: quotes resolved but variables not expanded, comments and
    here-documents left out, lists and pipelines taken apart."""
    found: list[list[str]] = []
    words: list[str] = []
    word: list[str] | None = None
    waiting: list[tuple[str, bool]] = []
    text = script[:MAX_SCRIPT].replace("\r\n", "\n")
    n, end, total = 0, len(text), 0

    def close() -> None:
        nonlocal word, total
        if word is not None:
            words.append("".join(word))
            total += 1
            word = None

    def stop() -> None:
        nonlocal words
        close()
        if words:
            found.append(words)
        words = []

    while n < end and total < _MAX_WORDS:
        c = text[n]
        if c == "\\":
            if n + 1 < end and text[n + 1] != "\n":
                word = word if word is not None else []
                word.append(text[n + 1].replace("$", "\0"))
            n += 2
        elif c == "'":
            close_at = text.find("'", n + 1)
            close_at = end if close_at < 0 else close_at
            word = word if word is not None else []
            word.append(text[n + 1 : close_at].replace("$", "\0"))
            n = close_at + 1
        elif c == '"':
            n, piece = _double(text, n + 1)
            word = word if word is not None else []
            word.append(piece)
        elif c == "$" and text[n + 1 : n + 2] in ("(", "{"):
            at = _closing(text, n + 1)
            word = word if word is not None else []
            word.append(text[n:at])
            n = at
        elif c == "`":
            at = text.find("`", n + 1)
            at = end if at < 0 else at + 1
            word = word if word is not None else []
            word.append(text[n:at])
            n = at
        elif c == "#" and word is None:
            at = text.find("\n", n)
            n = end if at < 0 else at
        elif c in " \t":
            close()
            n += 1
        elif text.startswith("<<", n) and not text.startswith("<<<", n) and (m := _HEREDOC.match(text, n)):
            waiting.append((m[3], bool(m[1])))
            n = m.end()
        elif c == "\n" and waiting:
            stop()
            n += 1
            for mark, dash in waiting:
                n = _skip(text, n, mark, dash)
            waiting = []
        elif operator := next((o for o in _OPERATORS if text.startswith(o, n)), ""):
            if operator == "&" and ((word is not None and word and word[-1].endswith(">")) or text[n + 1 : n + 2] == ">"):
                word = word if word is not None else []
                word.append(c)
            else:
                stop()
            n += len(operator)
        else:
            at = n + 1
            while at < end and text[at] not in " \t\n\\'\"$`#;|&()<":
                at += 1
            word = word if word is not None else []
            word.append(text[n:at])
            n = at
    stop()
    return found


def _double(text: str, n: int) -> tuple[int, str]:
    """The inside of double quotes from ``n`` on, and the place after the closing one."""
    piece: list[str] = []
    while n < len(text) and text[n] != '"':
        if text[n] == "\\" and text[n + 1 : n + 2] in ('"', "\\", "$", "`", "\n"):
            piece.append({"\n": "", "$": "\0"}.get(text[n + 1], text[n + 1]))
            n += 2
        else:
            piece.append(text[n])
            n += 1
    return n + 1, "".join(piece)


def _closing(text: str, n: int) -> int:
    """The place after the bracket that closes the one at ``n``."""
    opening = text[n]
    closing, depth = {"(": ")", "{": "}"}[opening], 0
    while n < len(text):
        depth += (text[n] == opening) - (text[n] == closing)
        n += 1
        if depth == 0:
            break
    return n


def _skip(text: str, n: int, mark: str, dash: bool) -> int:
    """The place after a here-document that begins at ``n``."""
    while n < len(text):
        at = text.find("\n", n)
        at = len(text) if at < 0 else at
        line = text[n:at]
        n = at + 1
        if (line.lstrip("\t") if dash else line) == mark:
            break
    return min(n, len(text))


def read(script: str, variables: Mapping[str, str] | None = None) -> Script:
    """What a script installs, exports and otherwise does; ``variables`` are known before it."""
    result = Script(variables=dict(variables or {}))
    for words in commands(script):
        shown = [expand(w, result.variables).replace("\0", "$") for w in words]
        while shown and shown[0] in _PREFIXES:
            shown = shown[1:]
        while len(shown) > 1 and _ASSIGNED.match(shown[0]):
            shown = shown[1:]
        if not shown:
            continue
        if shown[0] == "export" or (len(shown) == 1 and _ASSIGNED.match(shown[0])):
            for word in shown[1:] if shown[0] == "export" else shown:
                if m := _ASSIGNED.match(word):
                    result.variables[m[1]] = m[2]
                    if shown[0] == "export":
                        result.exported[m[1]] = m[2]
            continue
        packages, rest = installs(shown)
        result.installed += packages
        result.rest.append(" ".join(rest)[:4000])
    return result


def installs(words: list[str]) -> tuple[list[Installed], list[str]]:
    """The packages that one command installs, and the command without them."""
    kind, start = _installer(words)
    if not kind:
        return [], words
    found: list[Installed] = []
    rest = words[:start]
    n = start
    while n < len(words):
        word = words[n]
        if word in _VALUED.get(kind, ()):
            rest += words[n : n + 2]
            n += 2
            continue
        n += 1
        if re.match(r"\d?>", word):
            rest.append(word)
            continue
        package = None if word.startswith("-") or word in (".", "..") else _package(kind, word)
        if package is None:
            rest.append(word)
        else:
            found.append(package)
    return found, rest


def _installer(words: list[str]) -> tuple[str, int]:
    """Which installer a command is, and where its packages begin; ``("", 0)`` for none."""
    names = [w.rsplit("/", 1)[-1] for w in words[:8]]
    first = names[0] if names else ""
    at = 1
    if re.fullmatch(r"python[\d.]*", first):
        while at < len(names) and names[at].startswith("-") and names[at] != "-m":
            at += 1
        if names[at : at + 2] not in (["-m", "pip"], ["-m", "uv"]):
            return "", 0
        first, at = names[at + 1], at + 2
    if first in ("conda", "mamba", "micromamba") and "run" in names[1:2] and any(re.fullmatch(r"pip[\d.]*", x) for x in names):
        at = next(n for n, x in enumerate(names) if re.fullmatch(r"pip[\d.]*", x)) + 1
        first = "pip"
    if first == "uv":
        if names[at : at + 1] == ["add"]:
            return "pip", at + 1
        if names[at : at + 1] != ["pip"]:
            return "", 0
        first, at = "pip", at + 1
    table = {"conda": "conda", "mamba": "conda", "micromamba": "conda", "apt-get": "apt", "apt": "apt", "aptitude": "apt", "apk": "apk"}
    table |= {"yum": "yum", "dnf": "yum", "microdnf": "yum"}
    kind = "pip" if re.fullmatch(r"pip[\d.]*", first) else table.get(first, "")
    verbs = {
        "pip": ("install", "wheel", "download"),
        "conda": ("install", "create"),
        "apt": ("install",),
        "apk": ("add",),
        "yum": ("install",),
    }.get(kind, ())
    while kind and at < len(words):
        if words[at] in verbs:
            return kind, at + 1
        if not words[at].startswith("-"):
            return "", 0
        at += 2 if words[at] in _VALUED[kind] else 1
    return "", 0


def _package(kind: str, word: str) -> Installed | None:
    """One word of an install command as a package; None where it is none."""
    if kind == "pip":
        return pip_package(word)
    if kind == "conda":
        return conda_package(word)
    name, mark, version = word.partition("=")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9+._:-]*", name):
        return None
    if kind == "yum" and not mark and (m := re.fullmatch(r"(.+?)-(\d[\w.+~:]*(?:-\w[\w.+~]*)?)", word)):
        name, version = m[1], m[2]
    return Installed(kind, name, version.lstrip("=") or None)


def pip_package(text: str) -> Installed | None:
    """A requirement as pip takes it: ``name==1.0``, ``name[x]>=1``, ``name @ url``, a repository or archive address."""
    from packaging.requirements import InvalidRequirement, Requirement

    text = text.strip()[:2000]
    if re.match(r"(?:[a-z]+\+)?(?:https?|ssh|git|file)://", text) or text.startswith("git+"):
        address, _, fragment = text.partition("#")
        leaf = address.split("?")[0].rstrip("/").rsplit("/", 1)[-1].replace("%2B", "+").replace("%2b", "+")
        if m := _WHEEL.match(leaf) or _SDIST.match(leaf):
            return Installed("pip", m[1], m[2])
        if (m := re.search(r"egg=([A-Za-z0-9._-]+)", fragment)) is not None:
            return Installed("pip", m[1], address)
        return Installed("pip", re.sub(r"(?:\.git)?(?:@.*)?$", "", leaf), address) if leaf else None
    leaf = text.rsplit("/", 1)[-1]
    if m := _WHEEL.match(leaf) or (_SDIST.match(leaf) if "=" not in text else None):
        return Installed("pip", m[1], m[2])
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None
    if requirement.url:
        return Installed("pip", requirement.name, requirement.url)
    pins = [s.version for s in requirement.specifier if s.operator in ("==", "===") and not s.version.endswith(".*")]
    version = pins[0] if pins else ",".join(sorted(str(s) for s in requirement.specifier)) or None
    return Installed("pip", requirement.name, version)


def conda_package(text: str) -> Installed | None:
    """A conda match specification: ``name=1.2=build``, ``channel::name==1.2``, ``name>=1``, ``name[version='1.2']``."""
    text = text.strip()[:500].rsplit("::", 1)[-1]
    if "/" in text or "\\" in text or text.endswith((".yml", ".yaml", ".txt")):
        return None
    if m := re.fullmatch(r"([A-Za-z0-9_.-]+)\[.*?version=['\"]?([^'\",\]]+).*\]", text):
        return Installed("conda", m[1], m[2].lstrip("="))
    m = re.fullmatch(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)\s*(.*)", text)
    if m is None:
        return None
    name, rest = m[1], m[2].strip()
    if not rest:
        return Installed("conda", name, None)
    if rest[0] in "<>!~" or any(c in rest for c in ",|*"):
        return Installed("conda", name, re.sub(r"^=+", "", rest) if rest[0] == "=" and "," not in rest else rest)
    parts = [p for p in rest.replace(" ", "=").split("=") if p]
    return Installed("conda", name, parts[0] if parts else None)
