"""Programs that end past every ``atexit`` leave whole records too."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from tests.recorder.recorded import capture, environment, rows


def test_os_exit(tmp_path: Path) -> None:
    script = """
        import os, torch
        model = torch.nn.Linear(4, 4)
        with torch.no_grad():
            for _ in range(3):
                model(torch.ones(2, 4))
        os._exit(7)
    """
    run = capture(tmp_path, script, expect=7)
    assert run.complete and not run.notes
    assert len(rows(run, tensor="output.0")) == 3


def test_a_forked_process_of_multiprocessing(tmp_path: Path) -> None:
    """What it computes after its last optimizer step is in no flush at the end of a step."""
    script = """
        import multiprocessing, torch
        def train():
            model = torch.nn.Linear(4, 4)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            for _ in range(2):
                optimizer.zero_grad()
                model(torch.ones(2, 4)).sum().backward()
                optimizer.step()
            with torch.no_grad():
                for _ in range(5):
                    model(torch.ones(2, 4))
        child = multiprocessing.get_context("fork").Process(target=train)
        child.start()
        child.join()
    """
    run = capture(tmp_path, script)
    assert run.complete and not run.notes
    assert [p.steps for p in run.manifest.processes] == [2]
    assert len(rows(run, tensor="output.0")) == 2 + 5


def test_exec(tmp_path: Path) -> None:
    script = """
        import os, sys, torch
        model = torch.nn.Linear(4, 4)
        with torch.no_grad():
            for _ in range(3):
                model(torch.ones(2, 4))
        os.execl("/bin/sh", "sh", "-c", "exit 5")
    """
    run = capture(tmp_path, script, expect=5)
    assert len(rows(run, tensor="output.0")) == 3
    assert not run.complete and any("exec" in n for n in run.notes)


def test_a_daemon_is_told(tmp_path: Path) -> None:
    script = """
        import os, time, torch
        if os.fork() == 0:
            os.setsid()
            os.closerange(0, 3)
            time.sleep(60)
        time.sleep(0.5)
        print("daemon started")
    """
    (tmp_path / "train.py").write_text(dedent(script))
    command = [sys.executable, "-m", "reprodebug", "capture", "-o", "run", "--", sys.executable, "train.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=200)
    found = re.search(r"process (\d+) goes on after the command has ended", done.stderr)
    assert found, done.stderr
    os.kill(int(found[1]), signal.SIGKILL)
    assert "foreground" in done.stderr and "no module was called" not in done.stderr, done.stderr


def test_a_journal_that_cannot_grow_is_told(tmp_path: Path) -> None:
    """Not that the program computed nothing."""
    line = f"ulimit -f 8; exec '{sys.executable}' -B -c 'import torch; torch.nn.Linear(1, 1)(torch.ones(1, 1))'"
    command = [sys.executable, "-m", "reprodebug", "capture", "-o", "run", "--", "sh", "-c", line]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0 and "no module was called" not in done.stderr, done.stderr
    assert "recording stopped: File too large" in done.stderr, done.stderr


def test_files_that_were_only_written_are_no_data(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("1\n")
    code = "import torch; x = float(open('rows.csv').read()); torch.nn.Linear(1, 1)(torch.ones(1, 1) * x); open('out.txt', 'w').write('x')"
    command = [sys.executable, "-m", "reprodebug", "capture", "-o", "run", "--", sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=200)
    assert " 1 data file at" in done.stderr, done.stderr
