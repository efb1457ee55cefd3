"""Capture overhead: time and memory per training step, plain against recorded against PyTorch's DebugMode.

All variants of a workload live at once as children of this process and take single steps in turn, so that whatever the
machine does meanwhile hits all of them alike. Where a process gets its memory makes its steps up to 2 % faster or slower for
as long as it lives, so that some sets of children follow each other. Quoted is the median over rounds of the ratio inside one round.

    python -m tests.benchmarks.overhead [--rounds N] [--workloads gpt,cnn,llama,specks] [--no-debug-mode]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
_SETS, _WARM_UP = 4, 3
"""sets of children, each measured for its share of the rounds; steps of each before it counts"""


def worker(workload: str, variant: str) -> None:
    """One child: takes a step for every line on stdin and answers with its seconds."""
    import torch

    from tests.benchmarks.workloads import WORKLOADS

    if threads := os.environ.get("BENCH_THREADS"):
        torch.set_num_threads(int(threads))
    step = WORKLOADS[workload]()
    mode: Any = None
    if variant == "debug":
        from torch.utils._debug_mode import DebugMode
    out = sys.stdout
    loss: Any = None
    for line in sys.stdin:
        if line.strip() == "end":
            break
        start = time.perf_counter()
        if variant == "debug":
            with DebugMode(record_torchfunction=False) as mode, mode.log_tensor_hashes(hash_fn="hash_tensor", hash_inputs=True):
                loss = step()
        else:
            loss = step()
        elapsed = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"s": elapsed, "rss_kib": peak, "loss": loss.item().hex()}), file=out, flush=True)


class Child:
    """A worker process of one variant."""

    def __init__(self, workload: str, variant: str, run: str) -> None:
        environment = dict(os.environ, PYTHONPATH=ROOT, TOKENIZERS_PARALLELISM="false")
        if variant == "recorded":
            from reprodebug.capture.launch import Request, child_environment

            os.makedirs(os.path.join(run, "journal"))
            environment = child_environment(run, Request(["python"], environment=environment))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.overhead", "--worker", workload, variant],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=ROOT, text=True,
        )  # fmt: skip

    def step(self) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return dict(json.loads(self._process.stdout.readline()))

    def end(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("end\n")
        self._process.stdin.flush()
        self._process.wait()


def measure(workload: str, variants: list[str], rounds: int) -> list[dict[str, Any]]:
    """One row for each variant: median ms, ratio to plain, quartiles of the ratio, peak memory ratio."""
    times: dict[str, list[float]] = {v: [] for v in variants}
    memory: dict[str, list[float]] = {v: [] for v in variants}
    same = dict.fromkeys(variants, True)
    size = 0
    for _ in range(_SETS):
        with tempfile.TemporaryDirectory() as folder:
            children = {v: Child(workload, v, os.path.join(folder, v)) for v in variants}
            for _ in range(_WARM_UP):
                for child in children.values():
                    child.step()
            last: dict[str, dict[str, Any]] = {}
            for n in range(math.ceil(rounds / _SETS)):
                order = variants if n % 2 == 0 else variants[::-1]
                for v in order:
                    last[v] = children[v].step()
                    times[v].append(last[v]["s"])
            for child in children.values():
                child.end()
            size += sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(folder) for f in fs)
        for v in variants:
            memory[v].append(last[v]["rss_kib"] / last["plain"]["rss_kib"])
            same[v] = same[v] and last[v]["loss"] == last["plain"]["loss"]
    rows = []
    for v in variants:
        ratios = sorted(t / p for t, p in zip(times[v], times["plain"], strict=True))
        rows.append(
            {
                "workload": workload, "variant": v, "ms": statistics.median(times[v]) * 1e3, "ratio": statistics.median(ratios),
                "low": ratios[len(ratios) // 4], "high": ratios[3 * len(ratios) // 4],
                "medians": statistics.median(times[v]) / statistics.median(times["plain"]),
                "memory": statistics.median(memory[v]), "same": same[v],
                "journal_kib_per_step": size / 1024 / (len(times[v]) + _SETS * _WARM_UP) if v == "recorded" else 0,
            }
        )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--workloads", default="gpt,cnn,llama,specks")
    parser.add_argument("--no-debug-mode", action="store_true")
    parser.add_argument("--worker", nargs=2)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(*arguments.worker)
        return
    print(f"{'workload':8} {'variant':9} {'ms/step':>8} {'x plain':>8} {'quartiles':>13} {'memory':>7}  same loss bits")
    for workload in arguments.workloads.split(","):
        variants = ["plain", "recorded"]
        for row in measure(workload, variants, arguments.rounds):
            _print(row)
        if not arguments.no_debug_mode:
            for row in measure(workload, ["plain", "debug"], max(5, arguments.rounds // 6))[1:]:
                _print(row)


def _print(row: dict[str, Any]) -> None:
    print(
        f"{row['workload']:8} {row['variant']:9} {row['ms']:8.1f} {row['ratio']:8.3f} {row['low']:6.3f}-{row['high']:6.3f} "
        f"{row['memory']:7.3f}  {row['same']}",
        flush=True,
    )


if __name__ == "__main__":
    main()
