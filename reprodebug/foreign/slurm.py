"""Batch scripts of Slurm and PBS, and scripts that launch a distributed training: what a job asks for, the environment modules that it loads, variables
that it sets, and what it runs.

Owns ``#SBATCH`` and ``#PBS`` lines, ``module load`` (``ml``), ``export`` and the lines that start a program. Names, outputs, mails, accounts and time limits
are identity. Nothing is expanded: a value with ``$`` stays as written. Sources: sbatch(1), the manuals of Lmod and Environment Modules.
"""

from __future__ import annotations

import re
import shlex

from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

NAME = "Slurm"
_SHORT = {
    "n": "ntasks", "N": "nodes", "c": "cpus-per-task", "p": "partition", "C": "constraint", "G": "gpus", "w": "nodelist", "x": "exclude", "B": "extra-node-info",
    "J": "job-name", "o": "output", "e": "error", "i": "input", "t": "time", "A": "account", "q": "qos", "d": "dependency", "a": "array", "D": "chdir", "M": "clusters",
}  # fmt: skip
_IDENTITY = re.compile(
    r"^(job-name|output|error|input|time|time-min|account|qos|dependency|chdir|mail-type|mail-user|comment|begin|deadline|parsable|wckey|open-mode"
    r"|requeue|no-requeue|signal|reservation|nice|priority)$"
)
_OTHERS = {"PBS": "PBS", "": "launch script"}
"""kind of a script -> the name of its system, where it is not Slurm"""
_LAUNCHES = re.compile(rb"^[^#\n]*\b(torchrun|accelerate launch|deepspeed|torch\.distributed\.(run|launch))\b", re.M)
_STARTS = re.compile(
    r"^(?:srun|mpirun|mpiexec|python[\d.]*|torchrun|accelerate|deepspeed|apptainer|singularity|docker|bash|sh|conda run|uv run|time)\b"
)
_SKIPPED = re.compile(r"(^|/)(site-packages|node_modules|\.git)/")


def find(tree: Tree) -> list[str]:
    """Batch scripts; where there are none, scripts with a launcher of distributed trainings."""
    return list(_scripts(tree))


def _scripts(tree: Tree) -> list[str]:
    named = [
        f
        for f in tree.files
        if f.endswith((".sbatch", ".slurm", ".sh", ".job", ".batch", ".bash", ".pbs", ".qsub")) and not _SKIPPED.search(f)
    ]
    heads = {f: tree.read(f, 1 << 14) for f in named[:500]}
    batch = [f for f, head in heads.items() if re.search(rb"^#(SBATCH|PBS)\s", head, re.M)]
    return batch or [f for f, head in heads.items() if _LAUNCHES.search(head)][:20]


def read(tree: Tree, place: str) -> Record:
    """One script. Raises Unreadable."""
    text = tree.text(place, 1 << 20)
    asks = re.search(r"^#(SBATCH|PBS)\s", text, re.M)
    kind = asks[1] if asks else ""
    record = Record(_OTHERS.get(kind, NAME), place)
    prefix = f"{place}/" if any(f != place for f in _scripts(tree)) else ""
    own = {"SBATCH": "slurm/", "PBS": "pbs/"}.get(kind, "script/")
    modules: dict[str, str] = {}
    commands: list[str] = []
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        try:
            asked = bool(kind) and line.startswith(f"#{kind}")
            words = shlex.split(line[len(kind) + 1 :] if asked else line, comments=True)
        except ValueError:  # a quotation that goes on in the next line
            continue
        if asked:
            for key, value in _options(words) if kind == "SBATCH" else _resources(words):
                if not _IDENTITY.match(key):
                    record.add("environment", f"{prefix}{own}{key}", value, place)
        elif words[:1] in (["module"], ["ml"]):
            _module(words[1:] if words[0] == "module" else ["load", *words[1:]], modules)
        elif words[:1] == ["export"]:
            for word in words[1:]:
                name, equals, value = word.partition("=")
                if equals:
                    record.add("environment", f"{prefix}{own}env/{name}", value, place)
        elif _STARTS.match(line.strip()):
            commands.append(" ".join(words))
    for name, version in modules.items():
        record.add("environment", f"{prefix}module/{name}", version or "default", place)
    if commands:
        record.add("code", f"{prefix}commands", commands[:200], place)
    if not record.facts:
        raise Unreadable(f"{place} asks for nothing")
    if kind:
        record.notes.append(f"{place} does not say which machine its job got, nor what its modules stand for")
    return record


def _options(words: list[str]) -> list[tuple[str, str]]:
    """(long name, value) of the options of one line; ``yes`` where an option has no value."""
    found: list[tuple[str, str]] = []
    for n, word in enumerate(words):
        if not word.startswith("-"):
            continue
        key, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("--") and len(key) > 1:
            key, value, equals = key[0], key[1:], "="
        following = words[n + 1] if n + 1 < len(words) and not words[n + 1].startswith("-") else "yes"
        found.append((_SHORT.get(key, key) if not word.startswith("--") else key, value if equals else following))
    return found


def _resources(words: list[str]) -> list[tuple[str, str]]:
    """What a line of PBS asks for: the parts of ``-l select=2:ncpus=8`` by their names."""
    if words[:1] != ["-l"] or len(words) < 2:
        return []
    parts = [part.partition("=") for part in re.split(r"[:,+]", words[1])]
    return [("time" if key == "walltime" else key, value) for key, equals, value in parts if equals]


def _module(words: list[str], modules: dict[str, str]) -> None:
    """Follow one ``module`` command."""
    verb, names = (words[0] if words else ""), [w for w in words[1:] if not w.startswith("-")]
    if verb in ("purge", "reset"):
        modules.clear()
    elif verb in ("unload", "rm", "del"):
        for name in names:
            modules.pop(name.partition("/")[0], None)
    elif verb in ("load", "add", "try-load", "swap", "switch"):
        if verb in ("swap", "switch") and len(names) == 2:
            modules.pop(names.pop(0).partition("/")[0], None)
        for name in names:
            own, _, version = name.partition("/")
            modules[own] = version
