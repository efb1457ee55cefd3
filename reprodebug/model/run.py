"""The run: what one recording holds, besides its events.

``Manifest`` is ``run.json``; ``Process`` is one recorded process of it. Environment and code are nested plain
records (mappings, lists, strings, numbers), because they come from many sources and are compared key by key.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from reprodebug.model.events import SCHEMA_VERSION

RUN_SCHEMA = "reprodebug.run"


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the run that recorded events."""

    rank: int
    ordinal: int
    """which of the processes of this rank, in order of their start: 0 for the first"""
    pid: int
    argv: tuple[str, ...]
    trace: str
    """file name of the trace inside the run directory, e.g. ``trace-rank0.h5``"""
    events: int
    steps: int
    complete: bool
    """the process reached its own end; False: killed, or still running"""
    role: str = "main"
    """``main`` or ``loader-worker``"""
    environment: dict[str, object] = field(default_factory=dict)
    """what the process itself said: interpreter, torch build, settings, threads, seeds (see recorder/facts.py)"""
    coverage: dict[str, object] = field(default_factory=dict)
    """{"parameters": n, "parameters_seen": n, "unobserved": [[what, why], ...]}"""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """run.json."""

    command: tuple[str, ...]
    """argv as typed, secrets masked"""
    cwd: str
    started: str
    """ISO 8601, UTC"""
    ended: str = ""
    exit_code: int | None = None
    level: str = "fingerprint"
    complete: bool = False
    label: str = ""
    environment: dict[str, object] = field(default_factory=dict)
    """sections: interpreter, packages, libraries, hardware, system, variables, settings, container, and
    ``named_by_packages`` (variable -> the line of an imported installed package that names it)"""
    code: dict[str, object] = field(default_factory=dict)
    """commit, branch, dirty patch, untracked files, files imported with hashes"""
    data: dict[str, object] = field(default_factory=dict)
    """files read: path -> {"size": n, "hash": "..."}"""
    processes: tuple[Process, ...] = ()
    notes: tuple[str, ...] = ()
    """what was lost or could not be recorded, one sentence each"""
    schema: str = RUN_SCHEMA
    schema_version: int = SCHEMA_VERSION
