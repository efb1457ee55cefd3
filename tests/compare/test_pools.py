"""Workers of a pool take their tasks as time has it: which of them computed what is no difference."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprodebug.compare.runs import compare_runs
from reprodebug.model.comparison import Comparison
from tests.recorder.recorded import capture

# each worker takes the tasks of its own list, in the order that the argument gives: what a pool leaves to time
SCRIPT = """
    import multiprocessing, os, signal, sys, torch
    def work(tasks, results, killed):
        for seed in tasks:
            torch.manual_seed(seed)
            model = torch.nn.Linear(4, 1)
            results.send(model(torch.ones(1, 4)).detach().sum().item())
        if killed:
            signal.pause()
    shares, killed = [[int(c) for c in word] for word in sys.argv[1].split(",")], "killed" in sys.argv
    fork = multiprocessing.get_context("fork")
    for share in shares:
        results, there = fork.Pipe(duplex=False)
        child = fork.Process(target=work, args=(share, there, killed))
        child.start()
        found = [results.recv() for _ in share]
        if killed:
            os.kill(child.pid, signal.SIGTERM)
        child.join()
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for name, words in {"a": ("123,456",), "b": ("16,2453",), "c": ("16,2457",), "killed": ("16,2453", "killed")}.items():
        found[name] = Path(capture(tmp_path_factory.mktemp(name), SCRIPT, *words).path)
    return found


def compared(runs: dict[str, Path], a: str, b: str) -> Comparison:
    from reprodebug.store.run import open_run

    return compare_runs(open_run(str(runs[a])), open_run(str(runs[b])))


def test_work_shared_out_otherwise_is_no_difference(runs: dict[str, Path]) -> None:
    c = compared(runs, "a", "b")
    assert c.verdict == "identical" and "another way" in c.reason, c.reason
    assert (c.counts.differing, c.counts.only_a, c.counts.only_b) == (0, 0, 0)
    assert c.counts.compared == c.a.events == c.b.events


def test_another_task_is_one(runs: dict[str, Path]) -> None:
    assert compared(runs, "a", "c").verdict == "divergent"


def test_killed_workers_leave_what_they_handed_over(runs: dict[str, Path]) -> None:
    c = compared(runs, "a", "killed")
    assert c.verdict == "identical" and c.a.events == c.b.events
    assert "processes that B forked were killed" in c.reason, c.reason
