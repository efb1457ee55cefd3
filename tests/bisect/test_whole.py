"""Whole experiments on real repositories, environments and runs, as a user starts them."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bisect.test_process import carrying
from tests.cases import experiments

TRAIN = """\
import sys, torch
from model import make
torch.manual_seed(0)
net = make()
opt = torch.optim.SGD(net.parameters(), lr={lr})
x = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
for _ in range(6):
    opt.zero_grad(); loss = net(x).square().mean(); loss.backward(); opt.step()
"""
MODEL = "import torch\ndef make():\n    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.{act}(), torch.nn.Linear(8, 1))\n"


def tool(*words: str, cwd: Path, sessions: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reprodebug", *words], cwd=cwd, env=surroundings(sessions) | (env or {}), capture_output=True, text=True
    )  # fmt: skip


def surroundings(sessions: Path) -> dict[str, str]:
    return {
        "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1", "REPRODEBUG_SESSIONS": str(sessions),
    }  # fmt: skip


def git(repo: Path, *words: str) -> str:
    identity = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@example.org",
    }
    done = subprocess.run(
        ["git", *words], cwd=repo, env=os.environ | identity | {"GIT_CONFIG_NOSYSTEM": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def digest(repo: Path) -> str:
    """Everything in a repository: work tree, index, refs, stash, hooks, configuration; file names, modes and bytes."""
    h = hashlib.sha256()
    for path in sorted(repo.rglob("*")):
        h.update(f"{path.relative_to(repo)} {path.lstat().st_mode:o}\n".encode())
        if path.is_file():
            h.update(path.read_bytes())
    return h.hexdigest()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven commits: one cannot run, one changes the activation; a hook that would tell, an uncommitted edit, ignored data."""
    repo = tmp_path_factory.mktemp("project")
    git(repo, "init", "-q", "-b", "main")

    def commit(subject: str, **files: str) -> None:
        for name, content in files.items():
            (repo / name.replace("_py", ".py").replace("_md", ".md")).write_text(content)
        git(repo, "add", "-A")
        git(repo, "commit", "-q", "-m", subject)

    commit("Start", train_py=TRAIN.format(lr=0.1), model_py=MODEL.format(act="Tanh"))
    git(repo, "tag", "good")
    commit("Write a readme", README_md="hello\n")
    commit("Half a sentence", model_py=MODEL.format(act="Tanh") + "def broken(:\n")
    commit("Repair it", model_py=MODEL.format(act="Tanh") + "# repaired\n")
    commit("Make it faster", model_py=MODEL.format(act="ReLU"))
    commit("Explain", README_md="hello, world\n")
    commit("Tidy", model_py=MODEL.format(act="ReLU") + "# tidy\n")
    (repo / ".git" / "hooks" / "post-checkout").write_text(f"#!/bin/sh\ntouch {repo}/hook-ran\n")
    (repo / ".git" / "hooks" / "post-checkout").chmod(0o755)
    (repo / "model.py").write_text("raise SystemExit('the edit of the user must not run')\n")
    return repo


def test_the_commit_is_found_and_the_repository_is_untouched(project: Path, tmp_path: Path) -> None:
    before = digest(project)
    done = tool("bisect", "--good", "good", "--bad", "main", "--json", "-", "--", "python", "train.py", cwd=project, sessions=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["outcome"] == "found"
    assert found["culprit"]["subject"] == "Make it faster"
    assert found["culprit"]["commit"] == git(project, "rev-parse", "main~2")
    assert found["first_divergence"]["kind"] == "activation"
    assert found["confidence"] >= 0.9
    assert found["trial_count"] <= 3 + 6
    assert {t["verdict"] for t in found["trials"]} <= {"same-as-a", "same-as-b", "other", "untestable"}
    assert digest(project) == before
    assert not list(tmp_path.glob("*/work")) and not list(tmp_path.glob("*/repository"))
    assert "1 session" in tool("bisect", "--clean", cwd=project, sessions=tmp_path).stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_search_killed_at_twenty_random_moments_goes_on(project: Path, tmp_path: Path) -> None:
    rng = random.Random(20)
    before = digest(project)
    words = ["--good", "good", "--bad", "main", "--json", "-", "--", "python", "train.py"]
    kills = resumed = 0
    while kills < 20:
        again = ["--resume"] if list(tmp_path.glob("*/session.db")) else []
        process = subprocess.Popen(
            [sys.executable, "-m", "reprodebug", "bisect", *again, *words], cwd=project, env=surroundings(tmp_path), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            out, err = process.communicate(timeout=rng.uniform(0.1, 12.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            assert digest(project) == before
            continue
        if process.returncode == 2 and "no session" in err:  # killed before it had written what it is about
            tool("bisect", "--clean", cwd=project, sessions=tmp_path)
            continue
        resumed += bool(again)
        assert json.loads(out)["culprit"]["subject"] == "Make it faster", json.loads(out)["reason"]
        tool("bisect", "--clean", cwd=project, sessions=tmp_path)
        assert not list(tmp_path.iterdir())
    if list(tmp_path.glob("*/session.db")):
        done = tool("bisect", "--resume", *words, cwd=project, sessions=tmp_path)
        assert "no session" in done.stderr or json.loads(done.stdout)["culprit"]["subject"] == "Make it faster", done.stderr
        resumed += done.returncode == 0
    assert resumed
    assert digest(project) == before
    sessions = list(tmp_path.iterdir())
    tool("bisect", "--clean", cwd=project, sessions=tmp_path)
    assert not list(tmp_path.iterdir())
    assert not any(carrying(str(s)) for s in sessions)


def test_ctrl_c_keeps_the_state_and_leaves_no_process(project: Path, tmp_path: Path) -> None:
    words = ["bisect", "--good", "good", "--bad", "main", "--json", "-", "--", "python", "train.py"]
    process = subprocess.Popen(
        [sys.executable, "-m", "reprodebug", *words], cwd=project, env=surroundings(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "trial 2" in line:
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "--resume" in err
    listed = tool("bisect", "--list", cwd=project, sessions=tmp_path).stdout
    assert "1 trial" in listed
    alive = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True).stdout
    assert not alive.strip()


def test_a_probe_decides(project: Path, tmp_path: Path) -> None:
    probe = tmp_path / "probe.sh"
    probe.write_text("#!/bin/sh\npython -m py_compile model.py || exit 125\ngrep -q Tanh model.py\n")
    probe.chmod(0o755)
    done = tool("bisect", "--good", "good", "--bad", "main", "--probe", str(probe), "--json", "-", cwd=project, sessions=tmp_path / "s")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["culprit"]["subject"] == "Make it faster"


def test_git_started_by_a_trial_sees_the_trial_and_not_the_repository_that_the_environment_names(project: Path, tmp_path: Path) -> None:
    probe, seen = tmp_path / "probe.sh", tmp_path / "seen"
    probe.write_text(f"#!/bin/sh\ngit rev-parse HEAD >> {seen}\necho x > x && git add x\ngrep -q Tanh model.py\n")
    probe.chmod(0o755)
    before = digest(project)
    where = {"GIT_DIR": str(project / ".git"), "GIT_WORK_TREE": str(project), "GIT_INDEX_FILE": str(project / ".git" / "index")}
    words = ["bisect", "--good", "good", "--bad", "main", "--probe", str(probe), "--json", "-"]
    done = tool(*words, cwd=project, sessions=tmp_path / "s", env=where)
    assert json.loads(done.stdout)["culprit"]["subject"] == "Make it faster", done.stderr
    assert len(set(seen.read_text().split())) > 2
    assert digest(project) == before


def test_a_commit_outside_of_the_path_asked_for_is_not_blamed_on_one_inside(tmp_path: Path) -> None:
    repo, made = tmp_path / "repo", []
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    for n, name in enumerate(["a", "v", "a", "a", "b", "v", "b", "a", "a"]):
        (repo / name).write_text(str(n))
        git(repo, "add", "-A")
        git(repo, "commit", "-q", "-m", f"{name} {n}")
        made.append(git(repo, "rev-parse", "HEAD"))
    words = ["bisect", "--good", made[1], "--bad", "main", "--probe", "grep -q 1 v", "--json", "-"]
    outside = json.loads(tool(*words, "--path", "a", cwd=repo, sessions=tmp_path / "s").stdout)
    assert (outside["culprit"]["commit"], outside["culprit"]["range"]) == (None, made[4:8])
    inside = json.loads(tool(*words, "--path", "v", cwd=repo, sessions=tmp_path / "s").stdout)
    assert inside["culprit"]["commit"] == made[5]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--good", "good", "--bad", "main"], "no command was given"),
        (["--good", "nowhere", "--bad", "main", "--", "python", "train.py"], "nowhere is no commit"),
        (["--good", "good", "--", "python", "train.py"], "belong together"),
        (["--axis", "weather", "--", "python", "train.py"], "there is no axis"),
        (["--good", "main", "--bad", "good", "--", "python", "train.py"], "descends"),
        (["--good", "numpy>=1", "--bad", "numpy==2", "--axis", "packages", "--", "python", "train.py"], "is no pin"),
        (["--axis", "settings", "--probe", "true", "--", "python", "train.py"], "which a probe cannot"),
        (["--resume", "--good", "good", "--bad", "main", "--", "python", "x.py"], "no session"),
        (["--good", "good", "--bad", "main", "python", "x.py", "--lr", "1"], "--good good --bad main -- python x.py --lr 1"),
        (["--good", "good", "--bad", "main", "--path", "nothing.py", "--", "python", "x.py"], "no commit between touches nothing.py"),
        (["--good", "good", "--bad", "main", "--probe", "./nowhere.sh"], "could not be started"),
        (["--resume"], "needs the words of the search"),
        (["--axis", "settings", "python", "x.py"], "--axis settings -- python x.py"),
        (["--good", "--output=/tmp/x", "--bad", "main", "--", "python", "x.py"], ""),
    ],
)
def test_bad_questions(project: Path, tmp_path: Path, words: list[str], part: str) -> None:
    done = tool("bisect", *words, cwd=project, sessions=tmp_path)
    assert done.returncode == 2
    assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir()), "there is nothing to resume"


def test_a_path_is_meant_from_where_the_search_is_started(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    (repo / "sub").mkdir(parents=True)
    git(repo, "init", "-q", "-b", "main")
    for n, place in enumerate(["sub/v", "v", "sub/v", "v"]):
        (repo / place).write_text(str(n))
        git(repo, "add", "-A")
        git(repo, "commit", "-q", "-m", f"{n}")
    words = ["bisect", "--good", "main~3", "--bad", "main", "--path", "v", "--probe", "grep -q 0 v", "--json", "-"]
    found = json.loads(tool(*words, cwd=repo / "sub", sessions=tmp_path / "s").stdout)
    assert found["culprit"]["subject"] == "2" and found["bound"].startswith("log2(2)"), found


def test_a_command_that_fails_at_both_ends_is_said_to(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    for n in (1, 2):
        (tmp_path / "train.py").write_text(f"import torch\ntorch.nn.ReLU()(torch.full((2,), {n}.0))\nraise SystemExit(3)\n")
        git(tmp_path, "add", "train.py")
        git(tmp_path, "commit", "-q", "-m", f"{n}")
    words = ["bisect", "--good", "main~1", "--bad", "main", "--headless", "--", "python", "train.py"]
    done = tool(*words, cwd=tmp_path, sessions=tmp_path / "s")
    assert done.returncode == 0 and "the good command itself ends with exit code 3" in done.stdout, done.stdout


def test_where_no_setting_helps_the_next_step_is_named_and_works(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import os, torch\ntorch.nn.ReLU()(torch.tensor(list(os.urandom(8))).float())\n")
    words = ["bisect", "--axis", "settings", "--json", "-", "--", "python", "train.py"]
    found = json.loads(tool(*words, cwd=tmp_path, sessions=tmp_path / "s").stdout)
    assert found["outcome"] == "not-found" and found["trial_count"] == 4
    step = found["notes"][0].partition(": reprodebug ")[2].split()
    assert step[0] == "compare" and tool(*step, cwd=tmp_path, sessions=tmp_path / "s").returncode == 1


MIXED = """\
import argparse, json, os, torch
p = argparse.ArgumentParser(); p.add_argument("--lr", type=float); p.add_argument("--config"); p.add_argument("--name")
a = p.parse_args()
c = json.load(open(a.config))
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=a.lr, momentum=c["opt"]["momentum"])
x = torch.randn(8, 4) * float(os.environ.get("SCALE", "1"))
for _ in range(4):
    opt.zero_grad(); net(x).square().mean().backward(); opt.step()
"""


def test_two_runs_are_searched_along_every_axis(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "train.py").write_text(MIXED)
    (work / "a.json").write_text(json.dumps({"opt": {"momentum": 0.9, "nesterov": False}, "note": 1}))
    (work / "b.json").write_text(json.dumps({"opt": {"momentum": 0.8, "nesterov": False}, "note": 2}))
    for side, env in (("a", {"UNUSED": "1"}), ("b", {"SCALE": "2", "UNUSED": "2"})):
        words = ["--", "python", "train.py", "--lr", "0.1", "--config", f"{side}.json", "--name", side]
        assert tool("capture", "-o", str(tmp_path / side), *words, cwd=work, sessions=tmp_path / "s", env=env).returncode == 0
    before = digest(work)
    done = tool("bisect", str(tmp_path / "a"), str(tmp_path / "b"), "--json", "-", cwd=tmp_path, sessions=tmp_path / "s")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["axis"] == "joint"
    assert [p for p in found["proof"] if "SCALE" in p] == [
        "A: env -u SCALE python train.py --lr 0.1 --config a.json --name a   # equal to A",
        "A: env SCALE=2 python train.py --lr 0.1 --config a.json --name a   # differs from A",
    ]
    assert found["culprit"]["env"] == {"SCALE": {"a": "(unset)", "b": "2"}}
    assert found["culprit"]["config"] == {"a.json:opt.momentum": {"a": 0.9, "b": 0.8}}
    assert found["culprit"]["settings"] == {} and found["culprit"]["packages"] == {}
    assert found["first_divergence"]["step"] == 0
    assert digest(work) == before


CAUSES = """\
import json, os, subprocess, sys, torch
torch.manual_seed(int(os.environ.get("MY_SEED", "0")))
rate = float(subprocess.run([sys.executable, "rate.py"], capture_output=True, text=True).stdout)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=json.load(open("conf.json"))[1]["lr"] * rate)
for _ in range(3):
    opt.zero_grad(); net(torch.ones(8, 4)).square().mean().backward(); opt.step()
"""


@pytest.mark.slow
def test_two_causes_on_two_axes_and_one_that_nobody_recorded(tmp_path: Path) -> None:
    sessions = tmp_path / "s"
    (tmp_path / "train.py").write_text(CAUSES)
    (tmp_path / "rate.py").write_text("print(open('fac' + 'tor').read())")
    (tmp_path / "factor").write_text("1.0")
    (tmp_path / "conf.json").write_text('[{"n": 1}, {"lr": 0.1}]')
    words = ["capture", "-o", "../{}", "--", "python", "train.py"]
    project = tmp_path / "project"
    project.mkdir()
    for name in ("train.py", "rate.py", "factor", "conf.json"):
        shutil.move(tmp_path / name, project / name)

    def record(name: str, env: dict[str, str] | None = None) -> str:
        assert tool(*(w.format(name) for w in words), cwd=project, sessions=sessions, env=env).returncode == 0
        return str(tmp_path / name)

    a = record("a")
    (project / "factor").write_text("2.0")
    c = record("c")
    done = tool("bisect", a, c, "--headless", cwd=project, sessions=sessions)
    assert done.returncode == 1 and "in what neither recorded" in done.stdout.replace("\n    ", " "), done.stdout
    (project / "conf.json").write_text('[{"n": 2}, {"lr": 0.2}]')
    b = record("b", {"MY_SEED": "3"})
    found = json.loads(tool("bisect", c, b, "--json", "-", cwd=project, sessions=sessions).stdout)
    assert list(found["culprit"]["env"]) == ["MY_SEED"] and list(found["culprit"]["config"]) == ["conf.json:1.lr"]
    assert [p.split(":")[0] for p in found["proof"] if "equal to A" in p] == ["A", "A"], "each of them makes a difference alone"


def test_check_says_whether_a_command_repeats(tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text(
        "import torch\ntorch.manual_seed(0)\nprint(torch.nn.Linear(2, 2)(torch.ones(1, 2)))\ntorch.nn.ReLU()(torch.ones(1))\n"
    )
    done = tool("check", "--", "python", "train.py", cwd=tmp_path, sessions=tmp_path / "s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 runs are identical" in done.stdout
    done = tool("check", "--json", "-", "--", "python", "train.py", cwd=tmp_path, sessions=tmp_path / "s")
    assert json.loads(done.stdout)["verdict"] == "identical" and "2 runs are identical" in done.stderr
    program.write_text("import torch\ntorch.nn.Linear(2, 2)(torch.ones(1, 2))\n")
    done = tool("check", "--", "python", "train.py", cwd=tmp_path, sessions=tmp_path / "s")
    assert done.returncode == 1
    assert "seed" in done.stdout.lower()
    kept = re.search(r"the runs are kept in (\S+)", done.stderr)
    assert kept and os.path.isfile(os.path.join(kept[1], "run-2", "run.json"))
    shutil.rmtree(kept[1])
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "x").touch()
    done = tool("check", "--keep", "kept", "--", "python", "train.py", cwd=tmp_path, sessions=tmp_path / "s")
    assert done.returncode == 2 and "choose a new directory for --keep" in done.stderr
    program.write_text("raise SystemExit(4)\n")
    assert tool("check", "--", "python", "train.py", cwd=tmp_path, sessions=tmp_path / "s").returncode == 3


@pytest.mark.cases
@pytest.mark.slow
@pytest.mark.parametrize("case", experiments.cases(), ids=os.path.basename)
def test_shared_cases(case: str) -> None:
    answer = experiments.run(case)
    assert answer.right, answer.error
    assert answer.trials <= answer.most


@pytest.mark.cases
@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in experiments.cases() if "settings" in c], ids=os.path.basename)
def test_shared_cases_from_two_recorded_runs(case: str) -> None:
    answer = experiments.run(case, recorded=True)
    assert answer.right, answer.error
