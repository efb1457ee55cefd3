"""Zoom on cases with known truth, each answer held against a brute-force trace of the two whole programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.zoom.cases import BEYOND, divergent, judge, surroundings, zoom

FAST = ("own-01",)
OWN = divergent(shared=False)
SHARED = divergent(own=False)


def check(case: str, folder: Path) -> dict[str, Any]:
    """Zoom into a case; what it names has to be what the oracle names."""
    judged = judge(case, folder)
    assert not judged.wrong, (judged.wrong, judged.found["reason"], judged.truth)
    return judged.found


@pytest.mark.parametrize("case", [c for c in OWN if os.path.basename(c)[:6] in FAST], ids=os.path.basename)
def test_some_own_cases(case: str, tmp_path: Path) -> None:
    found = check(case, tmp_path)
    assert found["kind"] == "argument" and found["operation"]["a"]["arguments"]["p"] == "0.9"
    assert found["repeats"] == {"a": True, "b": True}, "looking changed the run"


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in OWN if os.path.basename(c)[:6] not in FAST], ids=os.path.basename)
def test_every_own_case(case: str, tmp_path: Path) -> None:
    if why := BEYOND.get(os.path.basename(case)):
        pytest.skip(why)
    check(case, tmp_path)


@pytest.mark.cases
@pytest.mark.slow
@pytest.mark.parametrize("case", SHARED, ids=os.path.basename)
def test_every_shared_case(case: str, tmp_path: Path) -> None:
    check(case, tmp_path)


COUNTERFACTUAL = """\
import sys, torch
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
x = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
for step in range(3):
    if step == 1 and "--draw" in sys.argv:
        torch.rand(3)
    loss = net(x).square().mean()
    opt.zero_grad(); loss.backward(); opt.step()
"""


WORKERS = """\
import sys, numpy, torch

class Noisy(torch.utils.data.Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, i):
        x = torch.full((6,), float(i))
        return x + torch.from_numpy(numpy.full(6, 0.5)) if i == 5 and "--noise" in sys.argv else x + 0.25

if __name__ == "__main__":
    torch.manual_seed(0)
    net = torch.nn.Linear(6, 1)
    for x in torch.utils.data.DataLoader(Noisy(), batch_size=2, num_workers=2):
        net(x.float()).sum().backward()
"""


@pytest.mark.slow
def test_an_operation_in_a_worker_process_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(WORKERS)
    runs = record(tmp_path, "a"), record(tmp_path, "b", "--noise")
    done = zoom(tmp_path, *runs, "--json", "-")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    lines = [found["operation"][side]["line"] for side in "ab" if found["operation"][side] is not None]
    assert lines and set(lines) == {"train.py:8"}, found
    assert any("worker processes of a DataLoader" in n for n in found["notes"])
    assert found["repeats"] == {"a": True, "b": True}


def record(folder: Path, name: str, *words: str) -> str:
    command = [sys.executable, "-m", "reprodebug", "capture", "-o", name, "--", "python", "train.py", *words]
    done = subprocess.run(command, cwd=folder, env=surroundings(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return name


def test_a_counterfactual_puts_the_generator_state_in(tmp_path: Path) -> None:
    """The extra draw moves the generator: with A's state B is A again, with B's state A is B."""
    (tmp_path / "train.py").write_text(COUNTERFACTUAL)
    runs = record(tmp_path, "a"), record(tmp_path, "b", "--draw")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    done = zoom(tmp_path, *runs, "--counterfactual", "--json", "z.json", "--markdown", "-")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "z.json").read_text())
    assert found["kind"] == "random" and found["operation"]["a"]["line"] == "train.py:9"
    assert found["notes"][0] == "before it B alone drew random numbers: aten.rand.default at train.py:8"
    c = found["counterfactual"]
    assert (c["necessary"], c["sufficient"]) == (True, True), c
    assert found["repeats"] == {"a": True, "b": True}, "looking changed the run"
    assert "necessary and sufficient" in done.stdout and done.stdout.startswith("**found")
    assert {p: p.read_bytes() for p in before} == before, "the user's tree was written"


@pytest.mark.slow
def test_a_tight_bound_and_a_program_that_leaves_its_recording(tmp_path: Path) -> None:
    program = COUNTERFACTUAL.replace("torch.manual_seed(0)", "torch.manual_seed(0)\nfor n in range(500): torch.ones(2) + n")
    (tmp_path / "train.py").write_text(program)
    runs = record(tmp_path, "a"), record(tmp_path, "b", "--draw")
    done = zoom(tmp_path, *runs, "--max-bytes", "64K", "--json", "-")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kind"] == "random"
    assert any("do not fit" in n and "--max-bytes" in n for n in found["notes"]), "what drew before is not known, and said so"
    (tmp_path / "train.py").write_text(program.replace("manual_seed(0)", "manual_seed(5)"))
    done = zoom(tmp_path, *runs)
    assert done.returncode == 1
    assert done.stdout.startswith("not-repeatable: A is not repeatable here: run again it leaves its recording, first at parameter")
    (tmp_path / "train.py").write_text("import torch\nraise SystemExit('no more')\n")
    done = zoom(tmp_path, *runs)
    assert done.returncode == 1 and "no more" in done.stdout and "Traceback" not in done.stderr


@pytest.mark.slow
def test_ctrl_c_ends_the_execution(tmp_path: Path) -> None:
    import signal
    import time

    (tmp_path / "train.py").write_text(COUNTERFACTUAL)
    runs = record(tmp_path, "a"), record(tmp_path, "b", "--draw")
    (tmp_path / "train.py").write_text(
        "import time, os\nopen(os.environ['REPRODEBUG_RUN'] + '/pid', 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "reprodebug", "zoom", *runs], cwd=tmp_path, env=surroundings(tmp_path), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    pids: list[Path] = []
    for _ in range(600):
        pids = [p for p in (tmp_path / "sessions").rglob("pid") if p.read_text()] if (tmp_path / "sessions").exists() else []
        if pids:
            break
        time.sleep(0.1)
    pid = int(pids[0].read_text())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not os.path.exists(f"/proc/{pid}")
    assert not list((tmp_path / "sessions").iterdir())


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    for words, part in (
        (("project", "project"), "no run of `reprodebug capture`"), (("project", "nowhere"), "no run of"), (("nowhere", "project"), "does not exist"),
        (("a", "b", "--", "python"), "have their own command"), (("a", "b", "--max-bytes", "1"), "too small"), (("a",), "required"),
        (("a", "b", "--json", "nowhere/z.json"), "there is no directory"), (("a", "b", "--markdown", "project"), "it is a directory"),
    ):  # fmt: skip
        done = zoom(tmp_path, *words)
        assert done.returncode == 2, words
        assert part in done.stderr and "hint:" in done.stderr and "Traceback" not in done.stderr, (words, done.stderr)
