"""What an experiment costs: questions of the searches by simulation, and a commit search with early stop against `git bisect run`.

python -m tests.benchmarks.experiments [--no-search] [--seconds-per-step S]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

from reprodebug.bisect.search.graph import GraphSearch
from tests.bisect import simulated

TRAIN = """\
import time, torch
from model import make
torch.manual_seed(0)
net = make()
opt = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
x = torch.randn(64, 16)
for step in range(200):
    opt.zero_grad()
    loss = net(x, step).square().mean()
    loss.backward()
    opt.step()
    time.sleep({pause})
print(repr(loss.item()))
"""
MODEL = """\
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Linear(16, 64), torch.nn.Linear(64, 1)
    def forward(self, x, step):
        h = torch.tanh(self.a(x))
        return self.b(h{change})
def make():
    return Net()
# {note}
"""


def line(n: int) -> tuple[list[str], dict[str, list[str]]]:
    order = [str(i) for i in range(n)]
    return order, {str(i): [str(i - 1)] for i in range(1, n)}


def ask(
    n: int, culprit: int, rng: random.Random, *, noise: float = 0.0, blocked: range = range(0), most: int = 1000
) -> tuple[int, bool, float]:
    """(questions, right, stated confidence)."""
    search = GraphSearch(*line(n), noise, noise)
    asked = 0
    while asked < most and (commit := search.next()) is not None:
        asked += 1
        at = int(commit)
        search.answer(commit, None if at in blocked else (at >= culprit) != (rng.random() < noise))
    found, confidence = search.result()
    return asked, str(culprit) in found and (len(found) == 1 or bool(blocked)), confidence


def simulations() -> None:
    rng = random.Random(1)
    plain = [ask(1024, rng.randrange(1024), rng) for _ in range(300)]
    print(f"1024 commits, no noise: {max(q for q, *_ in plain)} questions at most, {sum(r for _, r, _ in plain)}/{len(plain)} right")
    noisy = [ask(1024, rng.randrange(1024), rng, noise=0.05, most=26) for _ in range(1000)]
    right, stated = sum(r for _, r, _ in noisy) / len(noisy), sum(c for *_, c in noisy) / len(noisy)
    print(f"1024 commits, 5 % noise both ways: {right:.1%} right within 26 questions, {stated:.1%} stated")
    unknown(rng)
    blocks = []
    for _ in range(150):
        start = rng.randrange(0, 724)
        blocks.append(ask(1024, rng.randrange(1024), rng, blocked=range(start, start + 300)))
    print(
        f"1024 commits, 300 of them untestable: {max(q for q, *_ in blocks)} questions at most, {sum(r for _, r, _ in blocks)}/{len(blocks)} right"
    )
    for n, k, most in ((20, 3, 20), (200, 3, 34)):
        sets = [simulated.smallest(n, k, rng) for _ in range(100)]
        print(
            f"{k} of {n} items: {max(trials for *_, trials in sets)} trials at most in whole searches, ends and confirmation included"
            f" (limit {most}); {sum(right for _, right, _ in sets)}/{len(sets)} right, {min(d.confidence for d, *_ in sets):.1%} stated at least"
        )


def unknown(rng: random.Random) -> None:
    """Whole searches where nobody says how often trials vary: of ten programs one is bad in 30 to 90 % of the bad commits' runs."""
    said = [simulated.search(16, rng, shows=rng.uniform(0.3, 0.9) if rng.random() < 0.1 else 1.0) for _ in range(600)]
    found = [(b, right) for b, right in said if b.outcome == "found"]
    steady = max(len(b.trials) for b, _ in said if not b.notes)
    print(
        f"16 commits, one program in ten flaky at an unknown rate: {len(found)}/{len(said)} found, {sum(r for _, r in found) / len(found):.1%} of"
        f" them right, {sum(b.confidence for b, _ in found) / len(found):.1%} stated; {steady} trials at most where nothing contradicts (limit 10)"
    )


def git(repo: Path, *words: str) -> str:
    identity = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return subprocess.run(["git", *words], cwd=repo, env=os.environ | identity, check=True, capture_output=True, text=True).stdout.strip()


class EarlyStop:
    """64 commits of a run of 200 steps that parts at step 5: our search, and ``git bisect run`` with every run to its end.

    git's runs, which sleep nearly all the time, are started first and waited for last: the whole takes as long as they do.
    """

    def __init__(self, folder: str, pause: float) -> None:
        self.repo, self.clone = Path(folder, "repo"), Path(folder, "clone")
        self.repo.mkdir()
        git(self.repo, "init", "-q", "-b", "main")
        (self.repo / "train.py").write_text(TRAIN.format(pause=pause))
        for n in range(65):
            change = " * (1.0 + 1e-6 * (step >= 5))" if n >= 40 else ""
            (self.repo / "model.py").write_text(MODEL.format(change=change, note=n))
            git(self.repo, "add", "-A")
            git(self.repo, "commit", "-q", "-m", f"commit {n}")
            if n == 0:
                git(self.repo, "tag", "good")
        git(Path(folder), "clone", "-q", str(self.repo), str(self.clone))
        git(self.clone, "checkout", "-q", "good")
        self.environment = os.environ | {"REPRODEBUG_SESSIONS": f"{folder}/sessions", "OMP_NUM_THREADS": "1"}
        self.environment["PATH"] = os.path.dirname(sys.executable) + os.pathsep + self.environment["PATH"]
        self.theirs_s, self.out = 0.0, ""
        self._thread = threading.Thread(target=self._theirs)
        self._thread.start()

    def _call(self, words: list[str], cwd: Path) -> str:
        return subprocess.run(words, cwd=cwd, env=self.environment, capture_output=True, text=True).stdout

    def _theirs(self) -> None:
        started = time.perf_counter()
        good = self._call(["python", "train.py"], self.clone).strip()
        git(self.clone, "bisect", "start", "main", "good")
        self.out = self._call(["git", "bisect", "run", "sh", "-c", f'test "$(python train.py)" = "{good}"'], self.clone)
        self.theirs_s = time.perf_counter() - started

    def ours(self, jobs: int) -> tuple[int, float, dict[str, Any]]:
        """(jobs, seconds, result)"""
        words = [sys.executable, "-m", "reprodebug", "bisect", "--good", "good", "--bad", "main", "--jobs", str(jobs), "--json", "-"]
        started = time.perf_counter()
        out = self._call([*words, "--", "python", "train.py"], self.repo)
        return jobs, time.perf_counter() - started, json.loads(out)

    def start_up(self) -> float:
        """Seconds of the program before its first step; the least of three."""
        found = []
        for _ in range(3):
            started = time.perf_counter()
            self._call(["python", "-c", "import torch, model; model.make()"], self.repo)
            found.append(time.perf_counter() - started)
        return min(found)

    def tell(self, ours: list[tuple[int, float, dict[str, Any]]], start_up: float, pause: float) -> None:
        self._thread.join()
        print(f"64 commits, 200 steps of {pause} s, parts at step 5: git bisect run to the end {self.theirs_s:.1f} s")
        for jobs, seconds, found in ours:
            agree = f"{found['culprit']['commit']} is the first bad commit" in self.out
            own = [t["seconds"] - start_up - (t["stopped_at_step"] or 200) * pause for t in found["trials"]]
            print(
                f"  --jobs {jobs}: {found['trial_count']} trials in {seconds:.1f} s, ratio {seconds / self.theirs_s:.3f} (limit 0.15); same answer:"
                f" {'yes' if agree else 'NO'}; a trial beyond start-up ({start_up:.1f} s) and steps: median {statistics.median(own):.2f} s (limit 1)"
            )


PACKAGE_TRAIN = """\
import torch, tinypart
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(4):
    opt.zero_grad(); net(torch.randn(8, 4) * tinypart.SCALE).square().mean().backward(); opt.step()
"""


def wheel(folder: Path, name: str, version: str, body: str) -> None:
    """A wheel with one module."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as z:
        z.writestr(f"{name}/__init__.py", body)
        z.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        z.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(f"{info}/RECORD", f"{name}/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


def packages() -> None:
    """Trials over packages whose releases are unpacked already."""
    with tempfile.TemporaryDirectory() as folder:
        wheels, project = Path(folder, "wheels"), Path(folder, "project")
        wheels.mkdir()
        project.mkdir()
        for n in range(1, 9):
            wheel(wheels, "tinypart", f"1.{n}", f"SCALE = {1.0 if n < 6 else 1.001}\n")
            wheel(wheels, "tinyidle", f"1.{n}", "")
        (project / "train.py").write_text(PACKAGE_TRAIN)
        environment = os.environ | {
            "REPRODEBUG_SESSIONS": f"{folder}/sessions", "OMP_NUM_THREADS": "1", "PIP_FIND_LINKS": str(wheels), "PIP_NO_INDEX": "1",
        }  # fmt: skip
        environment["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environment["PATH"]
        words = [sys.executable, "-m", "reprodebug", "bisect", "--axis", "packages", "--good", "tinypart==1.1 tinyidle==1.1"]
        words += ["--bad", "tinypart==1.8 tinyidle==1.8", "--json", "-", "--", "python", "train.py"]
        out = subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True).stdout
        found = json.loads(out)
        start_up = []
        for _ in range(3):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", "import torch; torch.nn.Linear(4, 1)"], env=environment, check=True)
            start_up.append(time.perf_counter() - started)
        seen: set[str] = set()
        warm = [t["seconds"] for t in found["trials"] if t["candidate"] in seen or seen.add(t["candidate"])]  # type: ignore[func-returns-value]
        first_bad = {n: c.get("first_bad") for n, c in found["culprit"]["packages"].items()}
        print(
            f"packages: {first_bad} in {found['trial_count']} trials; a warm trial beyond the program's start-up ({min(start_up):.1f} s): median"
            f" {statistics.median(warm) - min(start_up):.2f} s (limit 2)"
        )


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("--no-search", action="store_true", help="simulations only")
    p.add_argument("--seconds-per-step", type=float, default=0.2)
    arguments = p.parse_args()
    if arguments.no_search:
        simulations()
        return
    with tempfile.TemporaryDirectory() as folder:
        bench = EarlyStop(folder, arguments.seconds_per_step)
        start_up = bench.start_up()
        ours = [bench.ours(1), bench.ours(2)]
        packages()
        simulations()
        bench.tell(ours, start_up, arguments.seconds_per_step)


if __name__ == "__main__":
    main()
