"""A recording that is killed, or whose disk is full, or whose directory goes away, is a run all the same; the program never notices."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from reprodebug import api
from reprodebug._base.errors import NothingComparable, RunUnreadable
from reprodebug.model.events import Phase
from reprodebug.store.run import StoredRun

HERE = str(Path(__file__).parents[2])
STEPS = 200
TRAIN = f"""
import os, shutil, sys, time
import torch
torch.manual_seed(0)
torch.set_num_threads(1)
remove, at = (sys.argv[1:] + ["", "0"])[:2]
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range({STEPS}):
    if remove and step == int(at):
        shutil.rmtree(remove)
    loss = model(torch.randn(4, 8)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    time.sleep(0.004)
    if step % 20 == 0:
        print(step, loss.item(), flush=True)
raise SystemExit(9)
"""


@dataclass(slots=True)
class Whole:
    """The recording that nobody disturbed."""

    folder: Path
    path: str
    output: bytes


def environment() -> dict[str, str]:
    keep = {k: os.environ[k] for k in ("PATH", "HOME", "LANG") if k in os.environ}
    return keep | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "PYTHONPATH": HERE}


def capture(out: Path, *command: str) -> list[str]:
    return [sys.executable, "-m", "reprodebug", "capture", "-o", str(out), "--", *command]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("kill")
    (folder / "train.py").write_text(TRAIN)
    out = folder / "whole"
    done = subprocess.run(
        capture(out, sys.executable, "train.py"), cwd=folder, env=environment(), capture_output=True, timeout=80, check=False
    )
    assert done.returncode == 9, done.stderr
    run = api.open_run(str(out))
    assert run.complete and run.traces[(0, 0)].steps == STEPS
    return Whole(folder, str(out), done.stdout)


def killed(whole: Whole, out: Path, rng: random.Random) -> StoredRun | None:
    """Record and kill at some moment; the run, or None where not even its directory was there."""
    how = rng.choice(("child", "child", "both", "both", "parent first"))
    pid_file = out.with_suffix(".pid")
    line = f'echo $$ > "{pid_file}.part"; mv "{pid_file}.part" "{pid_file}"; exec "{sys.executable}" train.py'
    said = out.with_suffix(".out")
    with said.open("wb") as stdout:
        process = subprocess.Popen(
            capture(out, "sh", "-c", line), cwd=whole.folder, env=environment(), start_new_session=True,
            stdout=stdout, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    if rng.random() < 0.8:  # mostly while it trains
        ends = time.monotonic() + 30
        while not said.stat().st_size and process.poll() is None and time.monotonic() < ends:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.8))
    else:
        time.sleep(rng.uniform(0.05, 2.5))
    if how == "both" or not pid_file.exists():
        os.killpg(process.pid, signal.SIGKILL)
    else:
        child = int(pid_file.read_text())
        if how == "parent first":
            process.kill()
            time.sleep(rng.uniform(0, 0.1))
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            pass
    code = process.wait(timeout=60)
    if how == "child" and pid_file.exists():
        assert code == 128 + signal.SIGKILL
    for _ in range(100):  # until the killed child has gone
        if not alive(process.pid):
            break
        time.sleep(0.02)
    return api.open_run(str(out)) if (out / "run.json").exists() or list(out.glob("journal/*.rdj")) else None


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
        return True
    except ProcessLookupError:
        return False


def check(whole: Whole, out: Path, rng: random.Random) -> int:
    """Records and kills; returns how many records the run still had."""
    run = killed(whole, out, rng)
    if run is None:
        with pytest.raises(RunUnreadable):
            api.open_run(str(out))
        return 0
    assert not run.complete
    assert run.notes or run.manifest.exit_code == 128 + signal.SIGKILL
    events = sum(len(run.trace(*key).events) for key in run.traces)
    again = api.open_run(str(out))
    assert sum(len(again.trace(*key).events) for key in again.traces) == events
    if not events:
        with pytest.raises(NothingComparable):
            api.compare(whole.path, str(out))
        return 0
    comparison = api.compare(whole.path, str(out))
    assert comparison.verdict == "identical", (comparison.reason, comparison.gaps, comparison.coverage)
    assert comparison.a.complete and not comparison.b.complete
    assert not list(out.glob("*.tmp")) and not (out / "journal").exists()
    return events


def test_killed_at_random_moments(whole: Whole, tmp_path: Path) -> None:
    rng = random.Random(7)
    recorded = [check(whole, tmp_path / f"r{n}", rng) for n in range(5)]
    assert sum(n > 0 for n in recorded) >= 2, recorded


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_fifty_times(whole: Whole, tmp_path: Path, seed: int) -> None:
    rng = random.Random(1000 + seed)
    for n in range(5):
        check(whole, tmp_path / f"r{n}", rng)


def test_the_command_line_says_it_too(whole: Whole, tmp_path: Path) -> None:
    out = tmp_path / "r"
    process = subprocess.Popen(capture(out, sys.executable, "train.py"), cwd=whole.folder, env=environment(), start_new_session=True,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
    assert process.stdout is not None
    while int(process.stdout.readline().split()[0]) < 60:
        pass
    os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    process.wait(timeout=30)
    asked = [sys.executable, "-m", "reprodebug"]
    done = subprocess.run([*asked, "compare", whole.path, str(out)], env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "killed" in done.stdout or "did not reach its end" in done.stdout or "incomplete" in done.stdout
    done = subprocess.run([*asked, "show", str(out)], env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "complete  no" in done.stdout


@pytest.mark.slow
def test_the_program_outlives_a_killed_capture(whole: Whole, tmp_path: Path) -> None:
    out = tmp_path / "r"
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(capture(out, sys.executable, "train.py"), cwd=whole.folder, env=environment(), start_new_session=True,
                                   stdout=said, stderr=subprocess.DEVNULL)  # fmt: skip
    ends = time.monotonic() + 30
    while not list(out.glob("journal/*.rdj")) and time.monotonic() < ends:
        time.sleep(0.01)
    process.kill()
    process.wait(timeout=30)
    while alive(process.pid) and time.monotonic() < ends:
        time.sleep(0.02)
    assert (tmp_path / "said").read_bytes() == whole.output
    run = api.open_run(str(out))
    assert not run.complete and run.traces[(0, 0)].steps == STEPS and run.traces[(0, 0)].complete
    assert api.compare(whole.path, str(out)).verdict == "identical"


@pytest.mark.parametrize("blocks", [pytest.param(100, marks=pytest.mark.slow), 600])
def test_a_full_disk(whole: Whole, tmp_path: Path, blocks: int) -> None:
    """The program may write no file beyond ``blocks`` blocks: the journal's writes fail at some moment."""
    out = tmp_path / "r"
    line = f'ulimit -f {blocks}; exec "{sys.executable}" train.py'
    done = subprocess.run(capture(out, "sh", "-c", line), cwd=whole.folder, env=environment(), capture_output=True, text=True, timeout=80)
    assert (done.returncode, done.stdout.encode()) == (9, whole.output), done.stderr
    assert "Traceback" not in done.stderr
    run = api.open_run(str(out))
    assert any("recording stopped: File too large" in n for n in run.notes), run.notes
    assert "recording stopped: File too large" in done.stderr
    assert not run.complete
    events = sum(len(run.trace(*key).events) for key in run.traces)
    if blocks > 500:
        assert 0 < events < api.open_run(whole.path).traces[(0, 0)].events
    if events:
        assert api.compare(whole.path, str(out)).verdict == "identical"


@pytest.mark.parametrize("what", [pytest.param("journal", marks=pytest.mark.slow), "run"])
def test_the_directory_goes_away(whole: Whole, tmp_path: Path, what: str) -> None:
    out = tmp_path / "r"
    target = out / "journal" if what == "journal" else out
    command = capture(out, sys.executable, "train.py", str(target), "50")
    done = subprocess.run(command, cwd=whole.folder, env=environment(), capture_output=True, text=True, timeout=80)
    assert (done.returncode, done.stdout.encode()) == (9, whole.output), done.stderr
    assert "Traceback" not in done.stderr and "removed while the command ran" in done.stderr, done.stderr
    if what == "journal":
        run = api.open_run(str(out))
        assert run.manifest.exit_code == 9 and not run.complete
        assert any("removed while the command ran" in n for n in run.notes)


def test_a_program_that_hangs_after_a_step_leaves_all_of_it(tmp_path: Path) -> None:
    script = """
        import os, signal, torch
        model = torch.nn.Linear(4, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    (tmp_path / "train.py").write_text(textwrap.dedent(script))
    command = capture(tmp_path / "run", sys.executable, "train.py")
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, timeout=80, check=False)
    assert done.returncode == 128 + signal.SIGKILL, done.stderr
    run = api.open_run(str(tmp_path / "run"))
    assert not run.complete
    events = run.trace(0, 0).events
    assert int(events["step"].max()) == 4
    assert int((events["phase"] == Phase.OPTIMIZER).sum()) == 5 * 2  # weight and bias after each of the five
