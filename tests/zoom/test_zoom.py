"""Zoom on cases with known truth, each answer held against a brute-force trace of the two whole programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cases import runner
from tests.zoom import oracle

ORACLE = os.path.abspath(oracle.__file__)
FAST = ("own-01",)
OWN = [c for c in runner.cases(shared=False) if runner.load(c)["truth"]["verdict"] == "divergent"]
SHARED = [c for c in runner.cases(own=False) if runner.load(c)["truth"]["verdict"] == "divergent"]


def surroundings(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8",
        "REPRODEBUG_SESSIONS": str(folder / "sessions"),
    }  # fmt: skip


def zoom(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reprodebug", "zoom", *words]
    return subprocess.run(command, cwd=folder, env=surroundings(folder), capture_output=True, text=True, timeout=280)


def traced(case: str, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The plain traces of both runs of a case, each in a fresh copy of the project."""
    truth = runner.load(case)
    found = []
    for side in ("a", "b"):
        run = truth["run"][side]
        workdir = str(folder / ("oracle" if truth.get("shared_workdir") else f"oracle-{side}"))
        runner.prepare(case, run, truth, workdir)
        words = runner._words(run["command"], workdir)
        log = str(folder / f"{side}.jsonl")
        done = subprocess.run(
            [words[0], ORACLE, log, *words[1:]], cwd=os.path.join(workdir, run.get("cwd", truth.get("cwd", "."))),
            env=runner._environment(run, workdir), capture_output=True, text=True, timeout=280,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(oracle.rows(log))
    return found[0], found[1]


def named(op: dict[str, Any] | None) -> tuple[str, str] | None:
    """Operation and source line, the same in both worlds."""
    return None if op is None else (op.get("op") or op["name"], os.path.basename(op["line"]))


def check(case: str, folder: Path) -> dict[str, Any]:
    """Zoom into a case, and hold what it names against the oracle."""
    runs = runner.record(case, str(folder))
    done = zoom(folder, *runs, "--json", "-")
    found: dict[str, Any] = json.loads(done.stdout)
    if runner.load(case)["category"] == "race" and found["outcome"] == "not-repeatable":
        assert done.returncode == 1 and "first at" in found["reason"]  # the order of threads may part the executions sooner
        return found
    assert done.returncode == 0, done.stdout + done.stderr
    assert found["outcome"] == "found"
    assert not list((folder / "sessions").iterdir()), "an execution was left behind"
    a, b = traced(case, folder)
    where = found["first_divergence"]
    truth = [oracle.first(a, b, where), oracle.first(b, a, where)]
    said = [found["operation"]["a"], found["operation"]["b"]]
    if said == [None, None]:  # no operation of the main thread made it: then none gave what the first one that differs was given
        assert found["kind"] == "outside"
        source = truth[0]
        if source is None:  # every value of A occurs in B too, at another time: the order is another
            assert runner.load(case)["category"] == "race"
            return found
        made = {v for r in a[: a.index(source)] for v in r["gave"]}
        assert not set(source["given"]) <= made
        return found
    agreed = any(s is not None and named(s) == named(t) for s, t in zip(said, truth, strict=True))
    if not agreed and found["kind"] == "argument":  # a value that occurs elsewhere too: the oracle knows the two calls by their inputs
        calls = [[r for r in rows if named(r) == named(s)] for rows, s in zip((a, b), said, strict=True)]
        agreed = any(p["given"] == q["given"] and p["args"] != q["args"] and p["gave"] != q["gave"] for p in calls[0] for q in calls[1])
    if not agreed and found["kind"] == "argument":  # memory of another dtype is filled: the words are the same
        agreed = "the memory that it fills" in found["reason"] and all(calls) and calls[0][0]["gave"] != calls[1][0]["gave"]
    if (
        not agreed and found["kind"] == "uninitialised"
    ):  # the oracle takes memory that nothing wrote for no value: it names its first reader
        assert truth[0] is not None
        unwritten = [r for r in a if r["op"].startswith(oracle.GARBAGE)]
        agreed = any(named(r) == named(said[0]) for r in unwritten) and any(set(r["gave"]) & set(truth[0]["given"]) for r in unwritten)
    if not agreed and runner.load(case)["category"] == "race":
        agreed = found["kind"] in ("input", "outside")
    assert agreed, (found["reason"], truth)
    if found["kind"] in ("operation", "argument", "random") and named(said[0]) == named(truth[0]):
        assert truth[0] is not None
        partners = [r for r in b if r["op"] == truth[0]["op"] and r["given"] == truth[0]["given"] and r["step"] == truth[0]["step"]]
        unfilled = truth[0]["op"].endswith(("_.default", "_.float"))  # it overwrites memory that may have held anything
        assert partners or unfilled, "the oracle knows no call with equal inputs"
        if found["kind"] == "argument":
            assert all(p["args"] != truth[0]["args"] for p in partners)
        else:
            assert unfilled or any(p["args"] == truth[0]["args"] and p["gave"] != truth[0]["gave"] for p in partners)
    return found


@pytest.mark.parametrize("case", [c for c in OWN if os.path.basename(c)[:6] in FAST], ids=os.path.basename)
def test_some_own_cases(case: str, tmp_path: Path) -> None:
    found = check(case, tmp_path)
    assert found["kind"] == "argument" and found["operation"]["a"]["arguments"]["p"] == "0.9"
    assert found["repeats"] == {"a": True, "b": True}, "looking changed the run"


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in OWN if os.path.basename(c)[:6] not in FAST], ids=os.path.basename)
def test_every_own_case(case: str, tmp_path: Path) -> None:
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
    (tmp_path / "train.py").write_text(COUNTERFACTUAL)
    runs = record(tmp_path, "a"), record(tmp_path, "b", "--draw")
    done = zoom(tmp_path, *runs, "--max-bytes", "64K", "--json", "-")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kind"] == "random"
    assert any("do not fit" in n and "--max-bytes" in n for n in found["notes"]), "what drew before is not known, and said so"
    (tmp_path / "train.py").write_text(COUNTERFACTUAL.replace("manual_seed(0)", "manual_seed(5)"))
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
    ):  # fmt: skip
        done = zoom(tmp_path, *words)
        assert done.returncode == 2, words
        assert part in done.stderr and "hint:" in done.stderr and "Traceback" not in done.stderr, (words, done.stderr)
