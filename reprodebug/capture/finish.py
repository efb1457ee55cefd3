"""From journals to a run: the manifest at the start, what the parent adds while the command runs, the end.

Owns what ``run.json`` says of a capture. Nothing here may raise for the sake of a detail: what could not be
described becomes a note.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from reprodebug._base.redact import machine_key, redact_argv
from reprodebug._base.text import visible
from reprodebug.model.run import Manifest
from reprodebug.store.journal import META, frames
from reprodebug.store.manifest import write_manifest

if TYPE_CHECKING:
    from reprodebug.capture.launch import Recording, Request

_HEAD_BYTES = 4 << 20
"""how much of a journal's beginning is read for what the process says of itself"""


def begin(run: str, request: Request, cwd: str, started: float, seen: Watch) -> None:
    """run.json while the command starts: a run killed early still says what it was. A disk that is full is a note."""
    key = machine_key()
    try:
        _begin(run, request, cwd, started, key)
    except OSError as error:
        seen.notes.append(f"run.json could not be written at the start: {error.strerror}")


def _begin(run: str, request: Request, cwd: str, started: float, key: bytes) -> None:
    write_manifest(
        run,
        Manifest(
            command=tuple(redact_argv(request.command, key)), cwd=cwd, started=_iso(started), level=request.level,
            label=os.path.basename(run), complete=False,
        ),
    )  # fmt: skip


def describe_code(cwd: str, command: list[str], data: list[str]) -> dict[str, Any]:
    """Commit, patch and the data paths that the user named; beside the command while it starts."""
    found: dict[str, Any] = {"code": {}, "data": {}}
    from reprodebug.capture.code import describe_code as describe

    found["code"] = describe(cwd, command)
    if data:
        from reprodebug.capture.files import describe_paths

        found["data"] = describe_paths(data, cwd)
    return found


class Watch:
    """Looks for the first process that reports its facts, and describes the environment while the command runs."""

    def __init__(self, run: str) -> None:
        self._run = run
        self.environment: dict[str, Any] | None = None
        self.facts: dict[str, Any] = {}
        self.error = ""
        self.notes: list[str] = []

    def look(self) -> None:
        """Describe the environment as soon as one process has said what it is; once."""
        if self.environment is not None or self.error:
            return
        for path in sorted(journals(self._run)):
            try:
                facts = journal_facts(path)
            except Exception as error:  # noqa: BLE001 - nothing that lies in a journal may end the watch over the command
                self.error = f"a journal could not be read: {type(error).__name__}: {error}"
                return
            if "torch" in facts and "sys_path" in facts:
                self._describe(facts)
                return

    def _describe(self, facts: dict[str, Any]) -> None:
        from reprodebug.capture.environment import describe

        self.facts = facts
        try:
            self.environment = describe(facts)
        except Exception as error:  # noqa: BLE001 - becomes a note of the run
            self.error = f"the environment could not be described: {type(error).__name__}: {error}"


def journals(run: str) -> list[str]:
    """Paths of the journals of a run directory."""
    folder = os.path.join(run, "journal")
    try:
        return [os.path.join(folder, n) for n in os.listdir(folder) if n.endswith(".rdj")]
    except OSError:
        return []


def journal_facts(path: str) -> dict[str, Any]:
    """All "facts" of a journal's beginning, merged."""
    import json

    try:
        with open(path, "rb") as f:
            data = f.read(_HEAD_BYTES)
    except OSError:
        return {}
    facts: dict[str, Any] = {}
    for kind, payload, whole in frames(memoryview(data)):
        if kind == META and whole:
            try:
                note = json.loads(bytes(payload))
            except ValueError:
                continue
            if isinstance(note, dict) and isinstance(note.get("facts"), dict):
                facts.update(note["facts"])
    return facts


def finish(
    run: str, request: Request, cwd: str, started: float, exit_code: int, code: Any, seen: Watch, lock: int
) -> Recording:  # fmt: skip
    """Convert the journals, complete run.json, and say what there is."""
    from reprodebug.capture.launch import Recording, release

    notes: list[str] = list(seen.notes)
    if isinstance(code, BaseException):
        notes.append(f"the code's state could not be recorded: {type(code).__name__}: {code}")
        code = {"code": {}, "data": {}}
    left = journals(run)
    gone = not os.path.isdir(os.path.join(run, "journal"))
    if gone:
        notes.append("the journals were removed while the command ran: what it recorded is lost")
    failed = _failures(run)
    living = _living(run, left)
    notes += failed
    notes += [f"process {pid} goes on after the command has ended: what it computes from now on is not recorded" for pid in living[:3]]
    changes: dict[str, Any] = {
        "ended": _iso(time.time()), "exit_code": exit_code, "code": dict(code["code"]), "data": dict(code["data"]),
    }  # fmt: skip
    if left:
        environment, more, data = _enrich(left, cwd, started, seen)
        changes["environment"] = environment
        changes["code"].update(more)
        changes["data"].update(data)
        from reprodebug.capture.code import keep_configurations
        from reprodebug.capture.files import changed_since, named_by_sources

        changed_since(changes["data"])
        changes["data"].update(named_by_sources(changes["code"].get("files") or {}, changes["data"], cwd, started))
        keep_configurations(changes["data"])
        if seen.error:
            notes.append(seen.error)
    else:
        from reprodebug.capture.environment import variables

        changes["environment"] = {"variables": variables()}
    changes["notes"] = tuple(notes)
    events = steps = ranks = processes = 0
    complete = exit_code == 0 and not gone
    try:
        if left:
            from reprodebug.store.run import finish_run

            stored = finish_run(run, **changes)
            manifest = stored.manifest
            events = sum(p.events for p in manifest.processes)
            steps = max((p.steps for p in manifest.processes), default=0)
            ranks = len({p.rank for p in manifest.processes})
            processes = len(manifest.processes)
            notes = list(stored.notes)
        else:
            import dataclasses

            from reprodebug.store.manifest import read_manifest

            write_manifest(run, dataclasses.replace(read_manifest(run), complete=complete, **changes))
            _tidy(run)
    except OSError as error:
        notes.append(f"the run could not be completed: {error.strerror}; its journals are kept and open as they are")
    except Exception as error:  # noqa: BLE001 - becomes a note of the run: the command's exit code is ours whatever happens here
        notes.append(f"the run could not be completed: {error}")
    finally:
        release(lock)
    return Recording(
        path=run, exit_code=exit_code, events=events, steps=steps, ranks=ranks, level=request.level, notes=tuple(notes),
        unreached=_unreached(run, request, left, failed, events, living, notes), seconds=time.time() - started,
        data_files=sum(x.get("mode") != "write" for x in changes["data"].values()), processes=processes,
    )  # fmt: skip


def _tidy(run: str) -> None:
    folder = os.path.join(run, "journal")
    try:
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)
    except OSError:
        pass


def _failures(run: str) -> list[str]:
    folder = os.path.join(run, "journal")
    found = []
    try:
        for name in sorted(os.listdir(folder)):
            if name.startswith("failed-"):
                with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as f:
                    found.append("the recorder could not start in a process: " + visible(f.read(2000), 400))
    except OSError:
        pass
    return found


def _living(run: str, journals: list[str]) -> list[str]:
    """Recorded processes that outlive the command, as daemons do (known on Linux)."""
    found = []
    for pid in dict.fromkeys(os.path.basename(path).partition("-")[0] for path in journals):
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:  # of a process that has ended it is empty
                if b"REPRODEBUG_RUN=" + os.fsencode(run) in f.read().split(b"\0"):
                    found.append(pid)
        except OSError:
            continue
    return found


def _unreached(
    run: str, request: Request, left: list[str], failed: list[str], events: int, living: list[str], notes: list[str]
) -> str:  # fmt: skip
    """Why there is nothing to compare, and what to do."""
    from reprodebug.capture.launch import python_is_shut

    if events:
        return ""
    if failed:
        return "install what the message names in the environment of the command (its own `pip install reprodebug` always works)"
    shut = python_is_shut(request.command)
    if shut:
        return f"`{shut}` keeps every start-up hook out: drop it, or call `reprodebug.record()` in the script"
    if not os.path.isdir(run):
        return "the run directory was removed while the command ran"
    if living:
        return "the command ended before its processes did: run it in the foreground, not as a daemon"
    stopped = next((note for note in notes if note.startswith("recording stopped")), "")
    if stopped:
        return f"{stopped}; is there space on the disk, and does `ulimit -f` allow files of some megabytes?"
    if left:
        return "torch was imported, but no module was called, no DataLoader iterated and no optimizer stepped"
    return "no Python below the command imported torch: is it the right interpreter and script?"


def _enrich(paths: list[str], cwd: str, started: float, seen: Watch) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Environment, imported source and data files, from what the processes said at their end."""
    import json

    facts: dict[str, Any] = {}
    data: dict[str, Any] = {}
    for path in sorted(paths, key=_size, reverse=True):
        try:
            with open(path, "rb") as f:
                raw = f.read() if _size(path) < (256 << 20) else f.read(_HEAD_BYTES)
        except OSError:
            continue
        own: dict[str, Any] = {}
        for kind, payload, whole in frames(memoryview(raw)):
            if kind != META or not whole:
                continue
            try:
                note = json.loads(bytes(payload))
            except (ValueError, RecursionError):
                continue
            if not isinstance(note, dict):
                continue
            if isinstance(note.get("facts"), dict):
                own.update(note["facts"])
            elif note.get("type") == "file" and isinstance(note.get("path"), str):
                _merge_file(data, note)
        if not facts and "sys_path" in own:
            facts = own
    environment: dict[str, Any] = dict(seen.environment or {})
    code: dict[str, Any] = {}
    try:
        from reprodebug.capture import environment as e

        if facts:
            environment = e.describe(facts) if "modules" in facts or not environment else environment
            if "modules" in facts:
                code["files"] = e.scan_modules(facts["modules"], facts.get("sys_path", []), cwd, started=started)
    except Exception as error:  # noqa: BLE001 - becomes a note of the run
        seen.error = f"the environment could not be described: {type(error).__name__}: {error}"
    return environment, code, data


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _merge_file(data: dict[str, Any], note: dict[str, Any]) -> None:
    value = {k: v for k, v in note.items() if k not in ("type", "path", "seq")}
    known = data.get(note["path"])
    if known is None or (known.get("mode") == "write" and value.get("mode") == "read"):
        data[note["path"]] = value


def _iso(t: float) -> str:
    return datetime.fromtimestamp(t, UTC).isoformat(timespec="milliseconds")
