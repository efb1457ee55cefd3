"""``capture`` keeps what other systems left beside the program, and compare says what differs in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from reprodebug import api

PROGRAM = """\
import os, sys, torch
os.makedirs("outputs/.hydra", exist_ok=True)
for name, text in (("config", f"depth: {sys.argv[1]}\\nmodel: {{name: a}}\\n"), ("overrides", "[]\\n"), ("hydra", "hydra: {}\\n")):
    open(f"outputs/.hydra/{name}.yaml", "w").write(text)
torch.nn.Linear(2, 1)(torch.ones(1, 2))
"""


def test_what_hydra_wrote_is_kept_and_compared(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROGRAM)
    (tmp_path / "Dockerfile").write_text("FROM ubuntu:22.04\n")
    for side, depth in (("a", "2"), ("b", "3")):
        recording = api.capture([sys.executable, "train.py", depth], side, cwd=str(tmp_path))
        kept = json.loads((Path(recording.path) / "records.json").read_text())
        assert {r["system"] for r in kept["records"]} == {"Dockerfile", "Hydra"}
    found = api.compare(str(tmp_path / "a"), str(tmp_path / "b"))
    assert [(d.a, d.b) for d in found.differences if d.key == "depth"] == [("2", "3")]
    done = subprocess.run([sys.executable, "-m", "reprodebug", "show", str(tmp_path / "a")], capture_output=True, text=True)
    assert done.returncode == 0


def test_a_tracker_of_an_earlier_run_is_not_taken_for_this_one(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import torch\ntorch.nn.Linear(2, 1)(torch.ones(1, 2))\n")
    old = tmp_path / "outputs" / ".hydra"
    old.mkdir(parents=True)
    for name in ("config", "overrides", "hydra"):
        path = old / f"{name}.yaml"
        path.write_text("x: 1\n")
        import os

        os.utime(path, (1_600_000_000, 1_600_000_000))
    recording = api.capture([sys.executable, "train.py"], "a", cwd=str(tmp_path))
    assert not (Path(recording.path) / "records.json").exists()
