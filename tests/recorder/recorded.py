"""Record a script as a user would, and read what came out."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

from reprodebug.model.events import Flag, Kind, Phase
from reprodebug.store.run import StoredRun, open_run


@dataclass(slots=True)
class Row:
    """One event in words."""

    step: int
    phase: str
    kind: str
    root: str
    module: str
    type: str
    tensor: str
    shape: tuple[int, ...]
    dtype: str
    flags: Flag
    call: int
    digest: tuple[int, int]
    reason: str


def environment(**more: str) -> dict[str, str]:
    keep = {k: os.environ[k] for k in ("PATH", "HOME", "LANG") if k in os.environ}
    return keep | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "REPRODEBUG_DEBUG": "1"} | more


def capture(
    folder: Path, script: str, *arguments: str, options: tuple[str, ...] = (), expect: int = 0, quiet: bool = True, **env: str
) -> StoredRun:
    """Write ``script`` into ``folder``, record it, open the run. Fails on a note of the recorder when ``quiet``."""
    path = folder / "train.py"
    path.write_text(dedent(script))
    out = folder / f"run{len(list(folder.glob('run*')))}"
    command = [sys.executable, "-m", "reprodebug", "capture", "-o", str(out), *options, "--", sys.executable, str(path), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(**env), capture_output=True, text=True, timeout=200)
    assert done.returncode == expect, done.stderr[-3000:]
    run = open_run(str(out))
    if quiet:
        assert not [n for n in run.notes if "recorder failed" in n], run.notes
    return run


def rows(run: StoredRun, rank: int = 0, ordinal: int = 0, **where: Any) -> list[Row]:
    """The events of one process in words, those for which every given field is equal."""
    trace = run.trace(rank, ordinal)
    found = []
    for e in trace.events:
        root, module, kind, tensor = trace.sites[e["site"]]
        shape, dtype, _, _, reason = trace.metas[e["meta"]]
        row = Row(
            int(e["step"]), Phase(int(e["phase"])).word, Kind(int(e["kind"])).word, root, module, kind, tensor, shape, dtype,
            Flag(int(e["flags"])), int(e["call"]), (int(e["lo"]), int(e["hi"])), reason,
        )  # fmt: skip
        if all(getattr(row, k) == v for k, v in where.items()):
            found.append(row)
    return found


def notes(run: StoredRun, kind: str, rank: int = 0, ordinal: int = 0) -> list[dict[str, Any]]:
    """The notes of one type among the events."""
    return [n for n in run.trace(rank, ordinal).notes_meta if n.get("type") == kind]
