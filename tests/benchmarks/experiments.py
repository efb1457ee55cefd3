"""What an experiment costs: questions of the searches by simulation, and a commit search with early stop against `git bisect run`.

python -m tests.benchmarks.experiments [--no-search] [--seconds-per-step S]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from reprodebug.bisect.search.graph import GraphSearch
from reprodebug.bisect.search.sets import solve

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
    blocks = []
    for _ in range(150):
        start = rng.randrange(0, 724)
        blocks.append(ask(1024, rng.randrange(1024), rng, blocked=range(start, start + 300)))
    print(
        f"1024 commits, 300 of them untestable: {max(q for q, *_ in blocks)} questions at most, {sum(r for _, r, _ in blocks)}/{len(blocks)} right"
    )
    for n, k, most in ((20, 3, 20), (200, 3, 34)):
        counts = []
        for _ in range(500):
            items = [str(i) for i in range(n)]
            culprits, asked = set(rng.sample(items, k)), []
            solve(items, None, lambda chosen, c=culprits, a=asked: a.append(1) or c <= chosen)  # type: ignore[misc,func-returns-value]
            counts.append(len(asked) + 2)  # both ends
        print(f"{k} of {n} items: {max(counts)} questions at most, both ends included (limit {most})")


def git(repo: Path, *words: str) -> str:
    identity = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return subprocess.run(["git", *words], cwd=repo, env=os.environ | identity, check=True, capture_output=True, text=True).stdout.strip()


def early_stop(pause: float) -> None:
    """64 commits of a run of 200 steps that parts at step 5."""
    with tempfile.TemporaryDirectory() as folder:
        repo = Path(folder, "repo")
        repo.mkdir()
        git(repo, "init", "-q", "-b", "main")
        (repo / "train.py").write_text(TRAIN.format(pause=pause))
        for n in range(65):
            change = " * (1.0 + 1e-6 * (step >= 5))" if n >= 40 else ""
            (repo / "model.py").write_text(MODEL.format(change=change, note=n))
            git(repo, "add", "-A")
            git(repo, "commit", "-q", "-m", f"commit {n}")
            if n == 0:
                git(repo, "tag", "good")
        environment = os.environ | {"REPRODEBUG_SESSIONS": f"{folder}/sessions", "OMP_NUM_THREADS": "1"}
        environment["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environment["PATH"]
        started = time.perf_counter()
        words = [sys.executable, "-m", "reprodebug", "bisect", "--good", "good", "--bad", "main", "--json", "-", "--", "python", "train.py"]
        done = subprocess.run(words, cwd=repo, env=environment, capture_output=True, text=True)
        ours = time.perf_counter() - started
        found = json.loads(done.stdout)
        started = time.perf_counter()
        expected = subprocess.run(["git", "show", "good:train.py"], cwd=repo, capture_output=True, text=True).stdout
        assert expected
        clone = Path(folder, "clone")
        git(Path(folder), "clone", "-q", str(repo), str(clone))
        git(clone, "checkout", "-q", git(repo, "rev-parse", "good"))
        good = subprocess.run(["python", "train.py"], cwd=clone, env=environment, capture_output=True, text=True).stdout.strip()
        git(clone, "bisect", "start", "main", git(repo, "rev-parse", "good"))
        out = subprocess.run(
            ["git", "bisect", "run", "sh", "-c", f'test "$(python train.py)" = "{good}"'], cwd=clone, env=environment, capture_output=True, text=True
        ).stdout  # fmt: skip
        theirs = time.perf_counter() - started
        agree = found["culprit"]["commit"] and f"{found['culprit']['commit']} is the first bad commit" in out
        print(
            f"64 commits, 200 steps, parts at step 5: {found['trial_count']} trials in {ours:.1f} s; git bisect run to the end {theirs:.1f} s;"
            f" ratio {ours / theirs:.3f} (limit 0.15); same answer: {'yes' if agree else 'NO'}"
        )


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("--no-search", action="store_true", help="simulations only")
    p.add_argument("--seconds-per-step", type=float, default=0.2)
    arguments = p.parse_args()
    simulations()
    if not arguments.no_search:
        early_stop(arguments.seconds_per_step)


if __name__ == "__main__":
    main()
