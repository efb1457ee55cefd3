"""Nothing secret reaches the disk: not in run.json, not in the trace, not in the journal of a killed run."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

from reprodebug.store.run import open_run
from tests.recorder.recorded import environment

SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "DATABASE_URL": "postgres://bob:hunter2-in-url@db.example/x",
    "HARMLESS_NAME": "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "MY_PASSWORD": "correct-horse",
    "REMOTE": "https://oauth2:glpat-abcdefghij0123456789@gitlab.example/x.git",
}
PLANTED = [*SECRETS.values(), "hunter2-in-url", "sekret-on-argv", "sekret-with-equals", "glpat-abcdefghij0123456789"]


def test_no_secret_is_written(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import torch, os\n"
        "TOKEN = 'hf_abcdefghijklmnopqrstuvwxyz012345'\n"
        "net = torch.nn.Linear(2, 2); opt = torch.optim.SGD(net.parameters(), 0.1)\n"
        "net(torch.ones(2)).sum().backward(); opt.step()\n"
        "if os.environ.get('DIE'): os.kill(os.getpid(), 9)\n"
    )
    for name, more in (("whole", {}), ("killed", {"DIE": "1"})):
        command = [sys.executable, "-m", "reprodebug", "capture", "-o", name, "--", sys.executable, "train.py"]
        command += ["--token", "sekret-on-argv", "--api-key=sekret-with-equals"]
        done = subprocess.run(command, cwd=tmp_path, env=environment(**SECRETS, **more), capture_output=True, text=True)
        assert done.returncode == (137 if more else 0), done.stderr
        run = open_run(str(tmp_path / name))
        written = json.dumps(dataclasses.asdict(run.manifest)) + json.dumps(run.trace(0).notes_meta)
        written += "".join(f.read_bytes().decode("latin-1") for f in (tmp_path / name).rglob("*") if f.is_file())
        found = [s for s in [*PLANTED, "hf_abcdefghijklmnopqrstuvwxyz012345"] if s in written or s in done.stderr]
        assert found == []
        assert "train.py" in written
