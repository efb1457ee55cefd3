"""``reprodebug.record()`` in code, and recording where the environment is not reprodebug's own."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

from reprodebug.store.run import open_run
from tests.recorder.recorded import environment, rows

SCRIPT = """
import sys
import torch
import reprodebug

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())
opt = torch.optim.SGD(net.parameters(), 0.1)

def train(n):
    for _ in range(n):
        loss = net(torch.ones(2, 4)).sum()
        opt.zero_grad()
        loss.backward()
        opt.step()

train(2)
with reprodebug.record("run", level="summary") as r:
    train(3)
train(2)
assert not any(f.__module__.startswith("reprodebug") for f in torch.nn.modules.module._global_forward_hooks.values())
print(r.path)
"""


def test_record_in_code(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "run")
    run = open_run(str(tmp_path / "run"))
    assert run.complete
    assert run.manifest.processes[0].steps == 3
    assert len(rows(run, kind="loss")) == 3
    assert run.trace(0).tensor_seqs, "small tensors are kept whole at level summary"


def test_record_under_capture_is_the_capture(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "reprodebug", "capture", "-o", "outer", "--", sys.executable, "train.py"],
        cwd=tmp_path, env=environment(PYTHONPATH=os.getcwd()), capture_output=True, text=True,
    )  # fmt: skip
    # the script's own last check sees the hooks of the capture, which stay
    assert "AssertionError" in done.stderr
    assert not (tmp_path / "run").exists()
    assert open_run(str(tmp_path / "outer")).manifest.processes[0].steps == 7


def test_another_virtual_environment_without_reprodebug_or_xxhash(tmp_path: Path) -> None:
    """The program's own environment sees torch but neither reprodebug nor xxhash, and still is recorded with xxh3."""
    import numpy
    import torch
    import typing_extensions

    venv.create(tmp_path / "env", with_pip=False)
    site = next((tmp_path / "env").glob("lib/python*/site-packages"))
    home = Path(torch.__file__).parent.parent
    needed = {
        Path(m.__file__).parent if Path(m.__file__).name == "__init__.py" else Path(m.__file__) for m in (torch, numpy, typing_extensions)
    }
    for name in ("torchgen", "functorch", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "filelock", "fsspec", "numpy.libs"):
        needed |= {home / name} if (home / name).exists() else set()
    for path in needed:
        (site / path.name).symlink_to(path)
    (tmp_path / "train.py").write_text(
        "import torch\n"
        "try:\n    import xxhash\n    print('xxhash is there')\nexcept ImportError:\n    print('no xxhash')\n"
        "try:\n    import h5py\n    print('h5py is there')\nexcept ImportError:\n    print('no h5py')\n"
        "torch.nn.Linear(3, 2)(torch.ones(3))\n"
    )
    python = tmp_path / "env" / "bin" / "python"
    done = subprocess.run(
        [sys.executable, "-m", "reprodebug", "capture", "-o", "run", "--", str(python), "train.py"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["no xxhash", "no h5py"], "lending a hash must not change what the program finds"
    run = open_run(str(tmp_path / "run"))
    assert rows(run, kind="parameter"), done.stderr
    start = next(n for n in run.trace(0).notes_meta if n.get("type") == "start")
    assert start["fingerprint"] == "xxh3-128"
