"""Run directories in the states that a killed, moved, shared or damaged recording leaves."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reprodebug._base.errors import RunUnreadable, SchemaTooNew
from reprodebug.model.run import Manifest
from reprodebug.store import run as module
from reprodebug.store.manifest import write_manifest
from reprodebug.store.run import finish_run, is_run, open_run
from tests.store.journals import assert_equal, build_run, journal_bytes, training


def contents(folder: str | Path) -> dict[str, bytes]:
    root = Path(folder)
    return {str(p.relative_to(root)): p.read_bytes() if p.is_file() else b"/" for p in root.rglob("*")}


def test_a_finished_run(tmp_path: Path) -> None:
    path = build_run(tmp_path / "a", 5, extras=True)
    run = open_run(path)
    assert run.complete and run.notes == () and is_run(path)
    assert run.manifest.processes[0].steps == 5 and run.manifest.exit_code == 0
    assert sorted(contents(path)) == ["run.json", "trace-rank0.h5"]
    records = training(5, extras=True)
    assert run.trace(0).events.tobytes() == records.events.tobytes()
    assert run.trace(0).tensor_seqs == sorted(records.tensors)


def test_a_killed_run_opens_the_same_twice(tmp_path: Path) -> None:
    data = journal_bytes(training(6, extras=True), flush=20)[:-300]
    path = build_run(tmp_path / "a", form="journal", data=data)
    first = open_run(path)
    second = open_run(path)
    assert not first.complete and not second.complete
    assert_equal(first.trace(0), second.trace(0))
    assert set(first.notes) <= set(second.notes) and any("in the middle of a record" in n for n in first.notes)


def test_cut_runs_open_at_any_byte(tmp_path: Path) -> None:
    data = journal_bytes(training(3, 2, extras=True), flush=9)
    whole = training(3, 2, extras=True).events.tobytes()
    for at in (0, 1, 7, 8, 15, 100, *random.Random(5).sample(range(len(data)), 40)):
        path = build_run(tmp_path / str(at), form="journal", data=data[:at])
        run = open_run(path)
        assert not run.complete
        for key in run.traces:
            assert whole.startswith(run.trace(*key).events.tobytes())


def test_without_run_json(tmp_path: Path) -> None:
    path = build_run(tmp_path / "a", form="journal", manifest=False)
    assert is_run(path)
    run = open_run(path)
    assert len(run.trace(0).events) == len(training().events) and run.label == "a"
    assert any("run.json is missing" in n for n in run.notes)
    assert any("run.json is missing" in n for n in open_run(path).notes)


def test_a_directory_that_cannot_be_written_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = build_run(tmp_path / "a", form="journal", extras=True)
    before = contents(path)
    if os.geteuid() == 0:  # root may write anywhere: ask the same question with the answer of a read-only file system
        access = os.access
        monkeypatch.setattr(module.os, "access", lambda p, mode, **k: mode != os.W_OK and access(p, mode, **k))
    else:
        os.chmod(os.path.join(path, "journal"), 0o555)
        os.chmod(path, 0o555)
    try:
        run = open_run(path)
        assert contents(path) == before
        assert run.trace(0).events.tobytes() == training(extras=True).events.tobytes()
        assert not run.complete
    finally:
        os.chmod(path, 0o755)
        os.chmod(os.path.join(path, "journal"), 0o755)


def test_a_full_disk_on_first_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = build_run(tmp_path / "a", form="journal")
    before = contents(path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(os, "fsync", full)
        run = open_run(path)
    assert any("could not be converted" in n for n in run.notes)
    assert len(run.trace(0).events) == len(training().events)
    assert contents(path) == before
    assert sorted(contents(open_run(path).path)) == ["run.json", "trace-rank0.h5"]


def test_the_lock_says_that_it_is_still_being_recorded(tmp_path: Path) -> None:
    path = build_run(tmp_path / "a", form="journal")
    fd = os.open(os.path.join(path, "journal", ".lock"), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        before = contents(path)
        assert any("still being recorded" in n for n in open_run(path).notes)
        assert contents(path) == before
        os.unlink(os.path.join(path, "journal", "4242-1.rdj"))  # nothing written yet
        run = open_run(path)
        assert any("still being recorded" in n for n in run.notes) and not run.traces
    finally:
        os.close(fd)
    assert not any("still being recorded" in n for n in open_run(path).notes)


def test_a_conversion_killed_before_it_tidied_up_is_not_done_twice(tmp_path: Path) -> None:
    path = build_run(tmp_path / "a", form="journal")
    shutil.copytree(os.path.join(path, "journal"), tmp_path / "kept")
    first = open_run(path)
    shutil.copytree(tmp_path / "kept", os.path.join(path, "journal"))
    second = open_run(path)
    assert second.manifest.processes == first.manifest.processes
    assert sorted(contents(path)) == ["run.json", "trace-rank0.h5"]


def test_journals_beside_converted_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = build_run(tmp_path / "a")
    os.mkdir(os.path.join(path, "journal"))
    late = journal_bytes(training(2, pid=77))
    Path(path, "journal", "77-2.rdj").write_bytes(late)
    with monkeypatch.context() as m:
        m.setattr(module.os, "access", lambda *_a, **_k: False)
        run = open_run(path)
        assert sorted(run.traces) == [(0, 0), (0, 1)]
        assert len(run.trace(0, 0).events) == len(training().events) and len(run.trace(0, 1).events) == len(training(2).events)
    assert sorted(open_run(path).traces) == [(0, 0), (0, 1)]


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[3:]
from reprodebug.store import run, trace
at, calls = int(sys.argv[2]), 0
def dying(call):
    def counted(*a, **k):
        global calls
        calls += 1
        if calls > at:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*a, **k)
    return counted
for name in ("fsync", "replace", "unlink", "rmdir"):
    setattr(os, name, dying(getattr(os, name)))
run.open_run(sys.argv[1])
"""


def test_a_conversion_can_be_killed_at_any_moment(tmp_path: Path) -> None:
    whole = None
    for at in range(12):
        path = build_run(tmp_path / str(at) / "a", form="journal")
        done = subprocess.run([sys.executable, "-c", KILLED, path, str(at), *sys.path], timeout=60)
        run = open_run(path)
        assert list(run.traces) == [(0, 0)]
        if whole is not None:
            assert_equal(run.trace(0), whole)
        whole = run.trace(0)
        assert set(contents(path)) - {"journal"} == {"run.json", "trace-rank0.h5"}
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
    else:
        pytest.fail("never ran through")
    assert at >= 4


def test_two_readers_at_once(tmp_path: Path) -> None:
    path = build_run(tmp_path / "a", steps=400, form="journal")
    ask = (
        "import sys; sys.path[:0] = sys.argv[2:]; from reprodebug.store.run import open_run; "
        "print(len(open_run(sys.argv[1]).trace(0).events))"
    )
    readers = [subprocess.Popen([sys.executable, "-c", ask, path, *sys.path], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {r.communicate(timeout=60)[0].strip() for r in readers}
    assert said == {str(len(training(400).events))}
    assert list(open_run(path).traces) == [(0, 0)]


def test_journals_that_hdf5_cannot_take_are_read_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise ValueError("no")

    path = build_run(tmp_path / "a", form="journal")
    monkeypatch.setattr("reprodebug.store.trace.write_trace", refuses)
    assert len(open_run(path).trace(0).events) == len(training().events)


def test_newer_versions(tmp_path: Path) -> None:
    import h5py

    path = build_run(tmp_path / "a")
    with h5py.File(os.path.join(path, "trace-rank0.h5"), "a") as f:
        f.attrs["schema_version"] = 2
    with pytest.raises(SchemaTooNew, match="newer reprodebug"):
        open_run(path).trace(0)
    path = build_run(tmp_path / "b", form="journal")
    value = json.loads(Path(path, "run.json").read_text())
    Path(path, "run.json").write_text(json.dumps(value | {"schema_version": 2}))
    with pytest.raises(SchemaTooNew):
        open_run(path)
    assert os.path.isdir(os.path.join(path, "journal"))


def test_no_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    for name, why in (
        ("none", "does not exist"),
        ("file", "is a file"),
        ("empty", "is empty"),
        ("other", "no run"),
        ("loop", "is a file"),
        ("pipe", "is a file"),
    ):
        with pytest.raises(RunUnreadable, match=why) as found:
            open_run(str(tmp_path / name))
        assert found.value.hint
        assert not is_run(str(tmp_path / name))


def test_a_pipe_among_the_journals_is_not_waited_for(tmp_path: Path) -> None:
    path = build_run(tmp_path / "a", form="journal")
    os.mkfifo(os.path.join(path, "journal", "9-9.rdj"))
    with pytest.raises(RunUnreadable, match="no plain file"):
        open_run(path)


def test_a_missing_trace(tmp_path: Path) -> None:
    path = build_run(tmp_path / "a")
    os.unlink(os.path.join(path, "trace-rank0.h5"))
    with pytest.raises(RunUnreadable, match="missing"):
        open_run(path).trace(0)


def test_ranks_come_from_the_processes(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    for rank in (1, 0, 3):
        data = journal_bytes(training(2, rank=rank, pid=100 + rank))
        build_run(path, form="journal", data=data, name=f"{100 + rank}-1")
    run = finish_run(path, ended="x")
    assert sorted(run.traces) == [(0, 0), (1, 0), (3, 0)] and run.complete


def test_finish_keeps_what_an_empty_recording_said(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    data = journal_bytes(training(0, 0))
    build_run(path, form="journal", data=data)
    run = finish_run(path, ended="x", exit_code=0)
    assert [p.events for p in run.manifest.processes] == [0] and run.complete
    write_manifest(path, Manifest((), "", ""))
    assert open_run(path).traces == {}
