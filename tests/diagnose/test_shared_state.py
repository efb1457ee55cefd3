"""State that several parts of a program share without saying so: memory, a generator, a file, statistics, a name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reprodebug import api
from reprodebug.diagnose.hints import hints
from reprodebug.model.events import Flag, Kind, Phase
from tests.compare.traces import event
from tests.diagnose.test_mechanisms import causes, data, read

THREAD = [{"type": "thread", "name": "Thread-1", "runs": "stream.fill", "seq": 0}]
POOL = [{"type": "thread", "name": "ThreadPoolExecutor-0_0", "runs": "concurrent.futures.thread._worker", "seq": 0}]


def weights(value: int) -> list[dict[str, Any]]:
    """A model that is built anew in the middle of the run: its initial weight differs."""
    return [event("fc", value, tensor="weight", kind=Kind.PARAMETER, phase=Phase.INIT, flags=Flag(0)), *data(7)[1:]]


def test_weights_that_are_summed_in_the_order_of_arrival_are_no_batches() -> None:
    source = "with ThreadPoolExecutor(4) as pool:\n    for job in as_completed(jobs):\n        mean += job.result()"
    found = causes(weights, source, notes=(POOL, POOL))[0]
    assert (found.rule, found.category) == ("order of arrival", "race") and found.confidence >= 0.7
    assert "put together of parts in the order of arrival" in found.summary and "batches" not in found.summary


def test_a_thread_that_may_be_late_is_not_said_to_reorder_batches() -> None:
    source = "t = threading.Thread(target=fill)"
    found = causes(data, source, notes=(THREAD, THREAD))[0]
    assert (found.rule, found.category) == ("order of arrival", "race")
    assert "memory that is being written" in found.summary and "other order" not in found.summary


def test_draws_of_the_tasks_of_a_pool_make_a_race_likely() -> None:
    def other(value: int) -> list[dict[str, Any]]:
        return [{**e, "prints": (value, value + 10)} if e["kind"] == Kind.DATA else e for e in data(value)]

    line = "pool = ThreadPoolExecutor(2)\nrows = list(pool.map(crop, keys))"
    calm = causes(other, line, notes=(POOL, POOL))[0]
    drawn = causes(other, line + "\ndef crop(k):\n    return np.random.randint(9)", notes=(POOL, POOL))[0]
    assert (calm.category, drawn.category) == ("race", "race") and calm.confidence < 0.6 <= drawn.confidence
    assert any("all threads share: train.py:4" in row for row in drawn.evidence)


@pytest.mark.parametrize(
    ("source", "seeds"),
    [
        ("def noise(name):\n    g.manual_seed(zlib.crc32(name.encode()))", True),
        ("def noise(name):\n    key = zlib.crc32(name.encode())\n    return np.random.default_rng(key)", True),
        ("def stable_seed(name):\n    return int(hashlib.md5(name.encode()).hexdigest(), 16)", True),
        ("def folder(name):\n    return hashlib.md5(name.encode()).hexdigest()\ndef start():\n    torch.manual_seed(0)", False),
    ],
)
def test_a_name_that_a_number_is_made_of(source: str, seeds: bool) -> None:
    out = "--out runs/a", "--out runs/b"
    found = causes(data, source, options=out)[0]
    assert found.rule == "computed name" and "--out (runs/a in A, runs/b in B)" in found.summary
    assert (found.category == "random-state" and found.confidence >= 0.75) is seeds
    assert not [c for c in causes(data, source) if c.rule == found.rule], "no name differs"
    assert not [c for c in causes(data, "torch.manual_seed(0)", options=out) if c.rule == found.rule], "no number is made of a text"
    assert not [c for c in causes(data, source, options=("--log-every 2", "--log-every 4")) if c.rule == found.rule], "no text differs"
    given = causes(data, source, options=("--out runs/a --crop 3", "--out runs/b --crop 4"))[0]
    assert given.rule == "options", "an option that is computed with comes first"


def test_where_a_digest_seems_to_seed() -> None:
    text = "def f(n):\n    g.manual_seed(crc32(n))\ndef g(n):\n    return crc32(n)"
    found = hints({"files": {"a.py": {"text": text}}})
    assert {(h.line, h.name) for h in found if h.kind == "digest"} == {(2, "seed"), (4, "")}


def test_a_file_that_one_run_makes_and_reads_and_the_other_finds() -> None:
    made, kept = read("1", written=True), read("2")
    found = causes(data, "if not os.path.exists(p): make(p)", **{"/x/graph.npy": (made, kept)})[0]
    assert (found.rule, found.category) == ("leftover file", "implicit-state")
    assert "B reads graph.npy" in found.summary and "A found none" in found.summary
    found = causes(data, "", **{"/x/graph.npy": (kept, made)})[0]
    assert "A reads graph.npy" in found.summary and "B found none" in found.summary
    assert causes(data, "", **{"/x/graph.npy": (read("1"), kept)})[0].rule == "file content"
    wrote = [{"type": "file", "path": "/x/graph.npy", "mode": "write", "existed": True, "seq": 0}]
    anew = causes(data, "", notes=(wrote, ()), **{"/x/graph.npy": (made, kept)})[0]
    assert "A wrote it anew" in anew.summary and "found none" not in anew.summary
    lists = [{"type": "listing", "path": "/x/scans", "seq": 0}]
    among = causes(data, "", notes=(lists, lists), **{"/x/scans/mask.npy": ({"mode": "write", "existed": False}, kept)})[0]
    assert among.rule == "leftover file" and "where no run looks for its data" in among.remedy and "without loss" not in among.remedy


LIBRARY = """\
import numpy as np, sys, torch

KEPT = []

def positions(n, rng=None):
    rng = np.random.default_rng(rng)
    KEPT.extend([rng][int(sys.argv[1]):])
    return rng.normal(size=(n, 4)).astype("float32")

torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
x = torch.from_numpy(positions(8))
for _ in range(2):
    loss = net(x).square().mean()
    opt.zero_grad(); loss.backward(); opt.step()
"""


COMMITTEE = """\
import random, time, torch
from concurrent.futures import ThreadPoolExecutor

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
x = torch.randn(32, 4)
disk = random.SystemRandom()

def vote(part):
    time.sleep(disk.uniform(0, 0.02))
    with torch.no_grad():
        return net(part).var(1)

for _ in range(3):
    with ThreadPoolExecutor(4) as pool:
        scores = torch.cat(list(pool.map(vote, x.split(4))))
    loss = net(x[scores.topk(8).indices]).square().mean()
    opt.zero_grad(); loss.backward(); opt.step()
"""


def recorded(folder: Path, source: str, *words: str) -> tuple[str, str]:
    """Two runs of a program."""
    (folder / "train.py").write_text(source)
    for name in "ab":
        command = [sys.executable, "-m", "reprodebug", "capture", "-o", name, "--", sys.executable, "train.py", *words]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return str(folder / "a"), str(folder / "b")


def test_threads_that_call_a_model_draw_from_one_generator(tmp_path: Path) -> None:
    """Which calls stand in one run alone is chance there, and no sign of what one run does and the other does not."""
    causes = api.compare(*recorded(tmp_path, COMMITTEE)).causes
    assert (causes[0].rule, causes[0].category) == ("generator of several threads", "race") and causes[0].confidence >= 0.7
    assert "torch.cpu" in causes[0].summary
    assert not [c for c in causes if c.rule == "extra draws" and c.confidence >= 0.3]


@pytest.mark.parametrize("dropped", ["0", "1"])
def test_a_generator_that_a_library_makes_and_draws_from_once(dropped: str, tmp_path: Path) -> None:
    """One that is dropped is in the ledger only, one that is kept is seen in one state: neither was seen to be drawn from."""
    a, b = recorded(tmp_path, LIBRARY, dropped)
    found = api.compare(a, b).causes[0]
    wins = "generator made without a seed" if dropped == "1" else "missing or other seed"
    assert (found.rule, found.category) == (wins, "random-state") and 0.5 <= found.confidence < 0.8
    assert "train.py:6 positions" in found.summary and ("a fixed seed" if dropped == "0" else "Hand a seed to") in found.remedy
    same = api.compare(a, a)
    assert (same.verdict, same.causes) == ("identical", ())


@pytest.mark.parametrize(
    ("flags", "kind", "wins"), [(Flag.TRAINING, "BatchNorm1d", True), (Flag(0), "BatchNorm1d", False), (Flag.TRAINING, "LayerNorm", False)]
)
def test_statistics_that_a_call_beside_the_training_moved(flags: Flag, kind: str, wins: bool) -> None:
    """B alone calls a layer once more; then both call it in evaluation mode, and the output differs of an equal input."""

    def events(value: int) -> list[dict[str, Any]]:
        def called(given: int, out: int, mode: Flag, step: int, rows: int = 4) -> list[dict[str, Any]]:
            about: dict[str, Any] = {"step": step, "shape": (rows,), "of": kind}
            return [event("bn", given, flags=mode | Flag.INPUT, tensor="input.0", **about), event("bn", out, flags=mode, **about)]

        watched = called(50, 51, flags, 0, rows=2) if value == 2 else []
        return [*called(5, 6, Flag(0), 0), *watched, *called(7, 100 + value, Flag(0), 1)]

    found = causes(events, options=("--check-every 0", "--check-every 3"))[0]
    assert (found.rule == "running statistics") is wins, found
    if wins:
        assert found.category == "implicit-state" and "B alone calls it in training mode at step 0" in found.summary
        assert "--check-every (0 in A, 3 in B) leads there" in found.summary


REPORT = ("", "--report")


def test_data_that_only_looking_at_changed() -> None:
    """The sampler chose the same samples in both runs; one of them printed a report on a cached table first."""

    def changed(value: int) -> list[dict[str, Any]]:
        return [{**e, "prints": (value, value + 10), "chosen": (3, 1)} if e["kind"] == Kind.DATA else e for e in data(value)]

    source = "@lru_cache\ndef load(split):\n    return np.load(split)\ndef report():\n    x = load('train')\n    x -= x.mean(0)"
    found = causes(changed, source, options=REPORT)[0]
    assert (found.rule, found.category) == ("work beside the training", "implicit-state") and found.confidence >= 0.7
    assert "changed in place" in found.summary and "train.py:1: @lru_cache" in found.summary and "--report (in B only)" in found.summary
    for other in (
        causes(changed, "def load(split):\n    return np.load(split)", options=REPORT),  # nothing outlives a call
        causes(changed, source, options=("", "--crop 4")),  # an option that is computed with
        causes(data, source, options=REPORT),  # how the samples met is not known
    ):
        assert other[0].rule == "options", other[0]


def test_a_loss_that_a_call_beside_the_training_changed() -> None:
    def events(value: int) -> list[dict[str, Any]]:
        extra = [event("fc", 50, flags=Flag.INPUT, tensor="input.0", shape=(2,)), event("fc", 51, flags=Flag(0), shape=(2,))]
        loss = event("", value, tensor="loss.0", kind=Kind.LOSS, root="loss", flags=Flag(0))
        return [data(7)[0], *(extra if value == 2 else []), *data(7)[1:], loss]

    source = "SEEN = []\ndef contrast(z):\n    SEEN.append(z)"
    found = causes(events, source, options=("", "--sanity-steps 2"))[0]
    assert (found.rule, found.category) == ("work beside the training", "implicit-state") and "train.py:3" in found.summary
    assert causes(events, source, options=("", "--aux-weight 2"))[0].rule == "options", "an option by which it trains otherwise"
