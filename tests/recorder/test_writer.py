"""What the journal's writer does where it cannot write, or is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from reprodebug.recorder.writer import Writer
from reprodebug.store.run import open_run
from reprodebug.store.trace import read_journal

BUSY = """
    import os, resource, sys
    from reprodebug.recorder.writer import Writer
    writer = Writer(sys.argv[1])
    writer.meta_event({"type": "start", "pid": os.getpid()})
    writer.flush()
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        pass
    def record(first):
        for n in range(first, first + 5):
            writer.event(0, 0, n, 0, 0, 0, 0, 0, 0, 0, 0, bytes(16))
            writer.flush()
    record(0)
    if sys.argv[2] == "closes":
        for fd in taken:
            os.close(fd)
        record(5)
    writer.meta_event({"type": "end", "steps": 1})
    writer.finish()
"""


def busy(tmp_path: Path, what: str) -> Any:
    """A run of a process that used up its file descriptors, and closed them again or not."""
    (tmp_path / "journal").mkdir()
    subprocess.run([sys.executable, "-c", dedent(BUSY), str(tmp_path / "journal"), what], check=True, timeout=60)
    return open_run(str(tmp_path))


def test_it_waits_for_a_file_descriptor(tmp_path: Path) -> None:
    run = busy(tmp_path, "closes")
    process = run.traces[(0, 0)]
    assert process.complete and not process.notes
    assert run.trace(0, 0).events["step"].tolist() == list(range(10))


def test_a_process_without_a_file_descriptor_was_not_killed(tmp_path: Path) -> None:
    run = busy(tmp_path, "keeps")
    assert run.traces[(0, 0)].notes == ("recording stopped: Too many open files",)
    assert not run.traces[(0, 0)].complete
    assert sorted(os.listdir(tmp_path)) == ["run.json", "trace-rank0.h5"]


def test_where_it_cannot_write_it_keeps_nothing(tmp_path: Path) -> None:
    """Not even whole tensors, or a full disk would fill the memory."""
    writer = Writer(str(tmp_path / "gone"))
    writer.flush()
    for n in range(3):
        writer.event(0, 0, n, 0, 0, 0, 0, 0, 0, 0, 0, bytes(16))
        writer.tensor(n, b"{}", bytes(1000))
        writer.flush()
    assert writer.dead
    assert not (writer.records or writer.others or writer._kept)


def test_a_handler_that_raises_in_the_middle_of_a_write_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(Exception):
        pass

    def late(*_: Any) -> None:
        raise Late

    real, calls = os.pwrite, []

    def interrupted(*arguments: Any) -> int:
        written = real(*arguments)
        calls.append(written)
        if len(calls) in (1, 3):
            os.kill(os.getpid(), signal.SIGUSR1)
        return written

    monkeypatch.setattr(os, "pwrite", interrupted)
    before = signal.signal(signal.SIGUSR1, late)
    try:
        writer = Writer(str(tmp_path))
        for n in range(6):
            writer.event(0, 0, n, 0, 0, 0, 0, 0, 0, 0, 0, bytes(16))
            try:
                writer.flush()
            except Late:
                calls.append(0)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert calls.count(0) == 2
    trace = read_journal(writer.path)
    assert trace.events["seq"].tolist() == list(range(6)) and not trace.cut
