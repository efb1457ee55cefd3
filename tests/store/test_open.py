"""Opening run directories in every state in which a recording can leave them."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from reprodebug._base.errors import RunUnreadable, SchemaTooNew
from reprodebug.model.run import Manifest
from reprodebug.recorder.writer import Writer
from reprodebug.store.manifest import read_manifest, write_manifest
from reprodebug.store.run import finish_run, open_run
from tests.store.small import write_journal


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A run whose capture was killed: run.json of the start, one journal."""
    run = tmp_path / "run"
    write_journal_folder = run / "journal"
    write_journal_folder.mkdir(parents=True)
    write_journal(write_journal_folder)
    write_manifest(str(run), Manifest(("python", "train.py"), "/x", "2026", label="run"))
    return run


def digest(folder: Path) -> str:
    h = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        h.update(str(path.relative_to(folder)).encode())
        h.update(path.read_bytes() if path.is_file() else b"")
    return h.hexdigest()


def test_a_killed_capture_is_converted_on_first_open(left: Path) -> None:
    run = open_run(str(left))
    assert not run.complete
    assert sorted(os.listdir(left)) == ["run.json", "trace-rank0.h5"]
    again = open_run(str(left))
    assert again.trace(0).events.tobytes() == run.trace(0).events.tobytes()
    assert any("did not reach its end" in n for n in again.notes)


def test_a_recording_in_progress_is_read_and_left_alone(left: Path) -> None:
    fd = os.open(left / "journal" / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    before = digest(left)
    run = open_run(str(left))
    assert len(run.trace(0).events) == 27
    assert any("still being recorded" in n for n in run.notes)
    assert digest(left) == before
    os.close(fd)


def test_without_run_json_the_journals_still_open(left: Path) -> None:
    (left / "run.json").unlink()
    run = open_run(str(left))
    assert len(run.trace(0).events) == 27
    assert any("rebuilt" in n for n in run.notes)


def test_finish_completes_and_is_idempotent(left: Path) -> None:
    run = finish_run(str(left), ended="2026-01-01", exit_code=0)
    assert run.complete
    assert run.manifest.processes[0].steps == 3
    assert finish_run(str(left)).manifest == run.manifest


@pytest.mark.parametrize(("code", "kept"), [({}, {"modules", "torch"}), ({"files": {}}, {"torch"})])
def test_facts_are_left_out_once_the_parent_has_looked_at_them(left: Path, code: dict[str, object], kept: set[str]) -> None:
    """Of a capture that was killed before that they are all that tells of its surroundings."""
    writer = Writer(str(left / "journal"))
    writer.meta_event({"type": "start", "rank": 0, "pid": 1, "argv": ["train.py"], "started": "2025"})
    writer.meta_event({"type": "facts", "facts": {"modules": {"a": "/x/a.py"}, "torch": {"version": "2.6.0"}}})
    writer.event(writer.site("Net", "", "Net", "output.0"), writer.meta([2], "float32", "cpu", "strided", ""), *[0] * 9, bytes(16))
    writer.flush()
    notes = finish_run(str(left), code=code).trace(0).notes_meta
    assert {k for n in notes if n["type"] == "facts" for k in n["facts"]} == kept


def test_processes_of_one_rank_are_numbered_by_their_start(left: Path) -> None:
    first = next((left / "journal").glob("*.rdj"))
    shutil.copy(first, left / "journal" / "0-later.rdj")
    data = (left / "journal" / "0-later.rdj").read_bytes().replace(b'"started":"2026"', b'"started":"2027"')
    (left / "journal" / "0-later.rdj").write_bytes(data)
    run = open_run(str(left))
    assert sorted(run.traces) == [(0, 0), (0, 1)]
    assert run.traces[(0, 1)].trace == "trace-rank0-1.h5"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("", RunUnreadable), ("{", RunUnreadable), ("[]", RunUnreadable), ('{"schema": "other"}', RunUnreadable),
        ('{"schema": "reprodebug.run"}', RunUnreadable), ('{"schema": "reprodebug.run", "schema_version": true}', RunUnreadable),
        ('{"schema": "reprodebug.run", "schema_version": 99}', SchemaTooNew),
        ('{"schema": "reprodebug.run", "schema_version": 1, "command": "x", "cwd": "", "started": ""}', RunUnreadable),
        ('{"schema": "reprodebug.run", "schema_version": 1, "command": [], "cwd": "", "started": "", "processes": [{}]}', RunUnreadable),
        ("[" * 100_000, RunUnreadable),
    ],
)  # fmt: skip
def test_bad_manifests(tmp_path: Path, content: str, error: type[RunUnreadable]) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(error) as found:
        open_run(str(tmp_path))
    assert found.value.hint


def test_a_trace_outside_the_directory_is_refused(left: Path) -> None:
    finish_run(str(left), ended="x")
    value = json.loads((left / "run.json").read_text())
    value["processes"][0]["trace"] = "../../etc/passwd"
    (left / "run.json").write_text(json.dumps(value))
    with pytest.raises(RunUnreadable):
        open_run(str(left))


def test_manifest_round_trip_keeps_odd_text(tmp_path: Path) -> None:
    manifest = Manifest(("python", "x\udcff\x1b"), "/x", "2026", environment={"a": {"b": [1, None, "ü"]}})
    write_manifest(str(tmp_path), manifest)
    found = read_manifest(str(tmp_path))
    assert dataclasses.replace(found, command=()) == dataclasses.replace(manifest, command=())
    assert os.listdir(tmp_path) == ["run.json"]
