"""A run on disk: opening it, and making one out of the journals that a recording left.

A directory whose recording was killed is a run too: its journals are converted when it is first opened, or read as they
are where the directory cannot be written or the recording is still going on.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reprodebug._base.errors import RunUnreadable
from reprodebug._base.text import visible
from reprodebug.model.run import Manifest, Process
from reprodebug.store.journal import last_word
from reprodebug.store.manifest import HINT, NAME, no_run, read_manifest, write_manifest

if TYPE_CHECKING:
    from reprodebug.store.trace import Trace

ATTACHED = "records.json"
"""file in a run directory: what other systems left beside the program"""
_GOING_ON = "the run is still being recorded"


@dataclass(slots=True)
class StoredRun:
    """An opened run. Traces are read when they are asked for."""

    path: str
    manifest: Manifest
    notes: tuple[str, ...] = ()
    """what was lost or cut, one sentence each"""
    _loaded: dict[tuple[int, int], Trace] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return self.manifest.label or os.path.basename(os.path.abspath(self.path))

    @property
    def complete(self) -> bool:
        return self.manifest.complete

    @property
    def traces(self) -> dict[tuple[int, int], Process]:
        """(rank, ordinal) -> process."""
        return {(p.rank, p.ordinal): p for p in self.manifest.processes}

    def trace(self, rank: int, ordinal: int = 0) -> Trace:
        """The trace of one process. Raises RunUnreadable, SchemaTooNew, KeyError."""
        key = (rank, ordinal)
        if key not in self._loaded:
            from reprodebug.store.trace import read_trace

            self._loaded[key] = read_trace(os.path.join(self.path, self.traces[key].trace))
        return self._loaded[key]


def is_run(path: str) -> bool:
    """Whether a path looks like a run directory; opens nothing."""
    return os.path.isfile(os.path.join(path, NAME)) or os.path.isdir(os.path.join(path, "journal"))


def open_run(path: str) -> StoredRun:
    """Open a run directory, whatever state its recording left it in.

    Raises RunUnreadable (no such directory, no run, damaged) and SchemaTooNew.
    """
    path = os.fspath(path)
    if not os.path.lexists(path):
        raise RunUnreadable(f"{path} does not exist", hint=HINT)
    if not os.path.isdir(path):
        raise RunUnreadable(f"{path} is a file, not a run directory", hint=HINT)
    try:
        entries = os.listdir(path)
    except OSError as error:
        raise RunUnreadable(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from error
    if not entries:
        raise RunUnreadable(f"{path} is empty", hint=HINT)
    journals = journal_paths(path)
    if NAME not in entries and not journals:
        raise no_run(path)
    if not journals:
        manifest = read_manifest(path)
        notes = list(manifest.notes) + [n for p in manifest.processes for n in p.notes]
        if not manifest.complete and not manifest.ended:
            notes.append(_GOING_ON if _recording(path) else "the recording did not reach its end")
        return StoredRun(path, manifest, tuple(dict.fromkeys(notes)))
    if _recording(path):
        return _in_memory(path, _GOING_ON)
    if not os.access(path, os.W_OK) or not os.access(os.path.join(path, "journal"), os.W_OK):
        return _in_memory(path, "")
    try:
        return finish_run(path)
    except (OSError, ValueError, TypeError, OverflowError, RuntimeError):  # h5py has all of these for what it cannot write
        return _in_memory(path, "the journals could not be converted")


def finish_run(path: str, **changes: Any) -> StoredRun:
    """Turn every journal into a trace and complete ``run.json``; ``changes`` are fields of Manifest.

    A journal is deleted only when its trace is in place. Raises OSError (disk full, read-only) with everything still there.
    """
    from reprodebug.store.trace import write_trace

    manifest = dataclasses.replace(_manifest(path), **changes)
    found = _ordered(path, manifest)
    processes = list(manifest.processes)
    loaded: dict[tuple[int, int], Trace] = {}
    for process, trace, _ in found:
        if "files" in manifest.code:  # the parent lived to look at them
            trace.notes_meta = [_light(note) for note in trace.notes_meta]
        write_trace(trace, os.path.join(path, process.trace))
        processes.append(process)
    manifest = _completed(manifest, processes)
    write_manifest(path, manifest)
    for source in journal_paths(path):
        try:
            os.unlink(source)
        except FileNotFoundError:  # another reader converted the same journals
            pass
    _sweep(path)
    notes = list(manifest.notes) + [n for p in processes for n in p.notes]
    return StoredRun(path, manifest, tuple(dict.fromkeys(notes)), loaded)


def journal_paths(run: str) -> list[str]:
    """The journals of a run directory, oldest first."""
    folder = os.path.join(run, "journal")
    try:
        names = [n for n in os.listdir(folder) if n.endswith(".rdj")]
    except OSError:
        return []
    return [os.path.join(folder, n) for n in sorted(names)]


def _in_memory(path: str, note: str) -> StoredRun:
    manifest = _manifest(path)
    found = _ordered(path, manifest)
    processes = [*manifest.processes, *(p for p, _, _ in found)]
    manifest = dataclasses.replace(_completed(manifest, processes), complete=False)
    notes = [*manifest.notes, *(n for p in processes for n in p.notes)] + ([note] if note else [])
    return StoredRun(path, manifest, tuple(dict.fromkeys(notes)), {(p.rank, p.ordinal): t for p, t, _ in found})


def _manifest(path: str) -> Manifest:
    if os.path.exists(os.path.join(path, NAME)):
        return read_manifest(path)
    return Manifest(
        command=(), cwd="", started="", label=os.path.basename(os.path.abspath(path)), notes=("run.json is missing: it was rebuilt",)
    )


_HEAVY = ("modules", "libraries", "sys_path", "variables")
"""facts of a process that make up most of what it says of itself"""


def _completed(manifest: Manifest, processes: list[Process]) -> Manifest:
    recorded = [p for p in processes if p.events] or processes
    return dataclasses.replace(
        manifest, processes=tuple(processes), complete=bool(manifest.ended) and all(p.complete for p in recorded)
    )  # fmt: skip


def _ordered(path: str, manifest: Manifest) -> list[tuple[Process, Trace, str]]:
    """Every journal worth keeping as (process, trace, journal), ranks and ordinals given."""
    from reprodebug.store.trace import read_journal

    read = []
    for source in journal_paths(path):
        trace = read_journal(source)
        try:
            trace.notes_meta.append({"type": "lost", "what": os.readlink(last_word(source)), "seq": 0})
        except OSError:
            pass
        start = next((n for n in trace.notes_meta if n.get("type") == "start"), {})
        read.append((str(start.get("started", "")), start, trace, source))
    read.sort(key=lambda r: r[0])
    # a conversion that was killed before it removed its journals is not done twice
    converted = {(p.pid, p.argv, p.events) for p in manifest.processes if os.path.isfile(os.path.join(path, p.trace))}
    read = [r for r in read if (_pid(r[1]), _argv(r[1]), len(r[2].events)) not in converted]
    read = [r for r in read if len(r[2].events)] or read[:1]
    taken: dict[int, int] = {}
    for p in manifest.processes:
        taken[p.rank] = max(taken.get(p.rank, 0), p.ordinal + 1)
    found = []
    for _, start, trace, source in read:
        rank = _rank(start, trace)
        ordinal = taken.get(rank, 0)
        taken[rank] = ordinal + 1
        found.append((_process(start, trace, rank, ordinal), trace, source))
    return found


def _rank(start: dict[str, Any], trace: Trace) -> int:
    later = [n.get("rank") for n in trace.notes_meta if n.get("type") == "rank"]
    value = later[-1] if later else start.get("rank")
    return value if isinstance(value, int) and 0 <= value < 1 << 20 else 0


def _pid(start: dict[str, Any]) -> int:
    pid = start.get("pid")
    return pid if isinstance(pid, int) else 0


def _argv(start: dict[str, Any]) -> tuple[str, ...]:
    argv = start.get("argv")
    return tuple(str(a) for a in argv) if isinstance(argv, list) else ()


def _light(note: dict[str, Any]) -> dict[str, Any]:
    """A note without those facts out of which the parent has made what ``run.json`` says."""
    if not isinstance(note.get("facts"), dict):
        return note
    return {**note, "facts": {k: v for k, v in note["facts"].items() if k not in _HEAVY}}


def _process(start: dict[str, Any], trace: Trace, rank: int, ordinal: int) -> Process:
    environment: dict[str, Any] = {}
    notes = []
    settled = False
    steps = int(trace.events["step"].max()) if len(trace.events) else 0
    for note in trace.notes_meta:
        kind = note.get("type")
        if isinstance(note.get("facts"), dict):
            environment.update(note["facts"])
        elif kind == "settings" and isinstance(note.get("settings"), dict):
            if "settings" not in environment or not settled:
                # what torch was set to at its import, then after its first step: later changes stay among the notes
                settled = "settings" in environment
                environment["settings"] = note["settings"]
        elif kind == "lost":
            notes.append(visible(note.get("what", ""), 600))
        elif kind == "end" and isinstance(note.get("steps"), int):
            steps = max(steps, note["steps"])
    environment = {k: v for k, v in environment.items() if k not in _HEAVY}
    if trace.cut:
        notes.append(visible(trace.cut, 300))
    elif not trace.complete and not any(n.startswith("recording stopped") for n in notes):
        notes.append(f"process {start.get('pid', '?')} ended without saying so: it was killed, or left by exec or from C")
    name = f"trace-rank{rank}.h5" if ordinal == 0 else f"trace-rank{rank}-{ordinal}.h5"
    return Process(
        rank=rank, ordinal=ordinal, pid=_pid(start), argv=_argv(start), trace=name, events=len(trace.events), steps=steps,
        complete=trace.complete, role=str(start.get("role", "main")), environment=environment, notes=tuple(notes),
    )  # fmt: skip


def _recording(path: str) -> bool:
    """Whether a capture holds the lock of this run."""
    try:
        import fcntl

        fd = os.open(os.path.join(path, "journal", ".lock"), os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except (OSError, ImportError):
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(fd)


def _sweep(path: str) -> None:
    """Remove the empty journal folder and temporary files of conversions that were killed."""
    try:
        for name in os.listdir(path):
            if name.endswith(".tmp"):
                os.unlink(os.path.join(path, name))
        folder = os.path.join(path, "journal")
        for name in os.listdir(folder):
            if not name.endswith(".rdj"):
                os.unlink(os.path.join(folder, name))
        os.rmdir(folder)
    except OSError:
        pass
