"""Hydra: ``.hydra/{config,hydra,overrides}.yaml`` of a job, single or of a multirun.

Owns the composed configuration with its references followed, the overrides, and the choices of configuration groups. Output
directories and dates are identity.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from typing import Any

from reprodebug.foreign import _interpolation, _yaml
from reprodebug.foreign.protocol import Record, Unreadable, mapping, rows
from reprodebug.foreign.tree import Tree

NAME = "Hydra"


def find(tree: Tree) -> list[str]:
    """The newest job of each output tree; every job of the newest multirun."""
    jobs = sorted({posixpath.dirname(f) for f in tree.files if re.search(r"(^|/)\.hydra/config\.yaml$", f)} | (
        {""} if tree.exists("config.yaml") and tree.exists("overrides.yaml") else set()))  # fmt: skip
    if not jobs:
        return []
    multi = [j for j in jobs if _sweep(tree, j)]
    if multi:
        newest = posixpath.dirname(posixpath.dirname(multi[-1]))
        return sorted((j for j in multi if posixpath.dirname(posixpath.dirname(j)) == newest), key=_number)
    return jobs[-1:]


def _sweep(tree: Tree, job: str) -> bool:
    return tree.exists(posixpath.join(posixpath.dirname(posixpath.dirname(job)), "multirun.yaml"))


def _number(job: str) -> tuple[int, str]:
    own = posixpath.basename(posixpath.dirname(job))
    return (int(own) if own.isdigit() else 0, own)


def read(tree: Tree, place: str) -> Record:
    """One job. Raises Unreadable."""
    record = Record(NAME, place, few=True)
    prefix = f"{place}/" if place else ""
    # jobs of a sweep are told apart by their number; a single one has plain keys
    several = len(find(tree)) > 1 and _sweep(tree, place)
    job = f"{_number(place)[1]}/" if several else ""
    others = 0 if several else sum(f.endswith(".hydra/config.yaml") for f in tree.files) - 1
    if others > 0:
        record.notes.append(f"{others} more Hydra jobs lie here: the newest was read; name the folder of another to compare it")
    try:
        config = _yaml.load(tree.text(f"{prefix}config.yaml"))
    except (OSError, _yaml.BadYaml) as error:
        raise Unreadable(f"{prefix}config.yaml cannot be read: {error}") from error
    if config is None:
        record.cut(f"{prefix}config.yaml is empty")
        record.unknown.add("config")
    configuration(record, config, f"{prefix}config.yaml", job)
    hydra: Any = None
    for name in ("overrides", "hydra"):
        try:
            found = _yaml.load(tree.text(f"{prefix}{name}.yaml"))
        except (OSError, _yaml.BadYaml):
            record.notes.append(f"{prefix}{name}.yaml is missing or damaged")
            continue
        if name == "overrides":
            record.add("code", f"{job}overrides", " ".join(str(x) for x in rows(found)), f"{prefix}overrides.yaml")
        else:
            hydra = (found or {}).get("hydra", found) if isinstance(found, dict) else None
    runtime = hydra.get("runtime") if isinstance(hydra, dict) else None
    if isinstance(runtime, dict):
        if runtime.get("version"):
            record.package("hydra-core", str(runtime["version"]), f"{prefix}hydra.yaml")
        choices = {str(g): c for g, c in mapping(runtime.get("choices")).items() if not str(g).startswith("hydra/")}
        for group, choice in choices.items():
            record.add("config", f"{job}choices/{group}", choice, f"{prefix}hydra.yaml")
        _chosen(record, job, choices)
    return record


def _chosen(record: Record, job: str, choices: dict[str, Any]) -> None:
    """Mark what a choice brought in as following from it, but for what the command line says itself."""
    said = record.facts.get(("code", f"{job}overrides"))
    if said is None:
        return
    keys = {fact.key[len(job) :] for fact in record.facts.values() if fact.section == "config" and fact.key.startswith(job[:-1])}
    paths = {group: group.partition("@")[2] or group.replace("/", ".") for group in choices}
    # a group without keys of its own, such as an experiment, may have set any key: it is not known then what follows from what
    anywhere = [group for group, path in paths.items() if not any(k.startswith(f"{path}.") for k in keys)]
    if any(choices[group] is not None for group in anywhere):
        return
    note = f"written without {', '.join(anywhere)}" if anywhere else ""
    overridden = {word.lstrip("+~").partition("=")[0] for word in str(said.value).split()}
    for place, fact in list(record.facts.items()):
        inner = fact.key[len(job) :]
        group = next((g for g, path in paths.items() if inner.startswith(f"{path}.")), None)
        if fact.section != "config" or fact.derived or group is None or not fact.key.startswith(job[:-1]):
            continue
        own = overridden - {group, group.partition("@")[0], paths[group]}
        if not any(inner == o or inner.startswith(f"{o}.") for o in own):
            record.facts[place] = dataclasses.replace(fact, derived=f"{job}choices/{group}", note=note)


def configuration(record: Record, config: Any, source: str, prefix: str = "") -> None:
    """The leaves of a configuration with references followed; a leaf that follows from another says so."""
    resolved, follows, open_ = _interpolation.resolve(config)
    if not isinstance(resolved, dict):
        return
    before = dict(record.facts)
    record.leaves("config", prefix.rstrip("/"), resolved, source)
    start = f"{prefix.rstrip('/')}." if prefix else ""
    for (section, key), fact in list(record.facts.items()) if follows else ():
        if section != "config" or before.get((section, key)) is fact or not key.startswith(start):
            continue
        # the leaf itself, or a leaf below a reference to a whole mapping
        inner = key[len(start) :]
        at = next((inner[:n] for n in (len(inner), *(m.start() for m in re.finditer(r"\.", inner))) if inner[:n] in follows), None)
        if at is not None:
            targets = tuple(start + t + inner[len(at) :] for t in follows[at])
            written = _written(config, at)
            record.facts[section, key] = dataclasses.replace(fact, derived=targets, note=f"written {written}" if written else "")
            continue
        inside = [f for f in follows if f.startswith(f"{inner}.")]
        if inside and isinstance(fact.value, list):  # a list with references in it
            derived = tuple(start + t for f in inside[:50] for t in follows[f])
            record.facts[section, key] = dataclasses.replace(fact, derived=derived, note=f"written {_written(config, inner)}")
    if open_:
        verb = "depends" if len(open_) == 1 else "depend"
        record.notes.append(f"{source}: {', '.join(open_[:5])} {verb} on the environment or on code: compared as written")


def _written(config: Any, path: str) -> str:
    """What the configuration says at a path, before references are followed; nothing of what stands behind one."""
    node = config
    for word in path.split("."):
        if isinstance(node, dict):
            node = node.get(word, next((v for k, v in node.items() if str(k) == word), None))
        else:
            node = node[int(word)] if isinstance(node, list) and word.isdigit() and int(word) < len(node) else None
    return "" if node is None else str(node)[:500]
