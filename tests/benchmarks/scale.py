"""Opening a synthetic pair of 1,000,000 events each and finding the first difference at 0 %, 50 % and 100 % of the trace.

Each measurement is a fresh process. ``open + first`` is opening both runs and the whole comparison; ``process`` is the
headless command from start to exit; memory is the peak resident set of that process.

    python -m tests.benchmarks.scale [--events N]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from reprodebug.model.events import EVENT_FIELDS, RNG_FIELDS, STATS_FIELDS, Flag, Kind, Phase
from reprodebug.model.run import Manifest, Process
from reprodebug.store.manifest import write_manifest
from reprodebug.store.trace import Trace, write_trace

MODULES = 50
MEASURE = """
import json, resource, sys, time
start = time.perf_counter()
from reprodebug import api
import h5py, numpy
imported = time.perf_counter()
c = api.compare(sys.argv[1], sys.argv[2])
print(json.dumps({"seconds": time.perf_counter() - imported, "imports": imported - start, "verdict": c.verdict,
                  "step": c.first.step if c.first else None, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def training(n: int, change_at: float | None, seed: int = 0) -> Trace:
    """``n`` events of a regular training; from the share ``change_at`` of them on every fingerprint differs."""
    sites: list[tuple[str, str, str, str]] = [("DataLoader#0", "", "Data", "batch.0")]
    block = [(0, Kind.DATA, Phase.DATA)]
    for part, kind, phase in (
        ("input.0", Kind.ACTIVATION, Phase.FORWARD),
        ("output.0", Kind.ACTIVATION, Phase.FORWARD),
        ("output.0.grad", Kind.GRADIENT, Phase.BACKWARD),
        ("weight.grad", Kind.GRADIENT, Phase.BACKWARD),
        ("weight", Kind.PARAMETER, Phase.OPTIMIZER),
    ):
        for m in range(MODULES):
            block.append((len(sites), kind, phase))
            sites.append(("Net", f"layers.{m}", "Linear", part))
    events = np.zeros(n, np.dtype(list(EVENT_FIELDS)))
    which = np.arange(n) % len(block)
    for column, at in (("site", 0), ("kind", 1), ("phase", 2)):
        events[column] = np.array([b[at] for b in block])[which]
    events["seq"] = np.arange(n)
    events["step"] = np.arange(n) // len(block)
    events["flags"] = np.where(events["phase"] == Phase.FORWARD, int(Flag.TRAINING | Flag.GRAD), 0)
    events["time_ms"] = events["step"] * 40
    g = np.random.default_rng(seed)
    events["lo"] = g.integers(0, 2**63, n)
    events["hi"] = g.integers(0, 2**63, n)
    if change_at is not None:
        events["lo"][int(change_at * (n - 1)) :] ^= 1
    rng = np.zeros(n // len(block), np.dtype(list(RNG_FIELDS)))
    rng["id"] = np.arange(len(rng)) + 1
    rng["seq"] = np.arange(len(rng)) * len(block)
    rng["lo"] = g.integers(0, 2**63, len(rng))
    metas: list[Any] = [((128, 128), "float32", "cpu", "strided", "")]
    notes = [{"type": "start", "fingerprint": "xxh3-128"}, {"type": "end"}]
    return Trace(events, sites, metas, [("torch.cpu", "mt19937")], rng, np.zeros(0, np.dtype(list(STATS_FIELDS))), notes, True)


def write_run(path: str, trace: Trace) -> None:
    """A run directory with one trace."""
    os.makedirs(path)
    write_trace(trace, os.path.join(path, "trace-rank0.h5"))
    steps = int(trace.events["step"][-1]) + 1
    process = Process(0, 0, 1, ("train.py",), "trace-rank0.h5", len(trace.events), steps, True)
    write_manifest(path, Manifest(("python", "train.py"), "/", "2026", ended="2026", complete=True, processes=(process,)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    n = parser.parse_args().events
    print(f"{'first difference at':20} {'verdict':10} {'step':>6} {'open + first, s':>16} {'process, s':>11} {'peak MiB':>9}")
    with tempfile.TemporaryDirectory() as folder:
        a = os.path.join(folder, "a")
        write_run(a, training(n, None))
        size = os.path.getsize(os.path.join(a, "trace-rank0.h5")) / 2**20
        for name, at in (("0 %", 0.0), ("50 %", 0.5), ("100 %", 1.0), ("nowhere", None)):
            b = os.path.join(folder, "b-" + name.replace(" %", ""))
            write_run(b, training(n, at))
            found = []
            for _ in range(3):
                done = subprocess.run([sys.executable, "-c", MEASURE, a, b], capture_output=True, text=True, check=True)
                found.append(json.loads(done.stdout))
            best = sorted(found, key=lambda f: f["seconds"])[1]
            whole = best["seconds"] + best["imports"]
            print(
                f"{name:20} {best['verdict']:10} {best['step']!s:>6} {best['seconds']:16.2f} {whole:11.2f} {best['peak_mib']:9.0f}",
                flush=True,
            )
        print(f"trace of {n:,} events: {size:.1f} MiB")


if __name__ == "__main__":
    main()
