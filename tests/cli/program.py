"""Run ``python -m reprodebug`` as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reprodebug.cli import main

HERE = str(Path(__file__).parents[2])
PYTHON = sys.executable


def environment(**more: str) -> dict[str, str]:
    keep = {k: os.environ[k] for k in ("PATH", "HOME", "LANG") if k in os.environ}
    return keep | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "TERM": "dumb", "PYTHONPATH": HERE} | more


def reprodebug(*words: str | Path, cwd: str | Path | None = None, env: dict[str, str] | None = None, **more: Any) -> Any:
    """The finished process; output in bytes unless ``text=True``."""
    command = [PYTHON, "-m", "reprodebug", *map(str, words)]
    if "stdout" not in more:
        more["capture_output"] = True
    return subprocess.run(command, cwd=cwd, env=environment() if env is None else env, timeout=80, **more)


def here(capsys: pytest.CaptureFixture[str], *words: str) -> subprocess.CompletedProcess[bytes]:
    """The same as ``reprodebug()`` in this process: many refusals in little time."""
    code = main(words)
    out, err = capsys.readouterr()
    return subprocess.CompletedProcess(list(words), code, out.encode(), err.encode())


def complaint(done: Any, code: int, *parts: str) -> str:
    """Checks that a refusal is one sentence and one hint on stderr, and nothing else; returns them."""
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == code, (done.returncode, err)
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 2, err
    assert lines[0].startswith("reprodebug: ") and len(lines[0]) > 20, err
    assert lines[1].startswith("  hint: ") and len(lines[1]) > 10, err
    assert "Traceback" not in err
    for part in parts:
        assert part in err, (part, err)
    return str(err)
