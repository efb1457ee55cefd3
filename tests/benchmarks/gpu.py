"""Capture overhead on an NVIDIA GPU, and how fast a fingerprint is made there. Without one it says so and ends with 2.

Overhead: time per training step of the three workloads and of a larger transformer, plain against recorded against
PyTorch's DebugMode. The variants live at once as children of this process and take blocks of steps in turn; each block ends with a
synchronisation. Quoted is the median of the ratio inside one round. Throughput: bytes read by the fingerprint kernel in a second, against the
bytes that a copy from device to device reads and writes.

    python -m tests.benchmarks.gpu [--rounds N] [--steps N] [--workloads gpt,cnn,llama,transformer] [--no-debug-mode]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
COPY_BYTES = 256 << 20


def transformer() -> Callable[[], Any]:
    """24 layers, width 1024, 16 heads, context 1024, batch 8: 0.3 billion parameters; float32, AdamW."""
    from tests.benchmarks.workloads import gpt

    return gpt(layers=24, width=1024, heads=16, vocabulary=8192, batches=16)


def worker(workload: str, variant: str, steps: int) -> None:
    """One child: takes ``steps`` steps for every line on stdin and answers with the seconds of one."""
    import torch

    if variant == "recorded":
        record(os.environ["BENCH_RUN"])
    from tests.benchmarks.workloads import WORKLOADS

    torch.use_deterministic_algorithms(True)
    with torch.device("cuda"):  # the workloads make their tensors without naming a device
        step = (WORKLOADS | {"transformer": transformer})[workload]()
    mode: Any = None
    if variant == "debug":
        from torch.utils._debug_mode import DebugMode
    loss: Any = None
    for _ in sys.stdin:
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(steps):
            if variant == "debug":
                with DebugMode(record_torchfunction=False) as mode, mode.log_tensor_hashes(hash_fn="hash_tensor", hash_inputs=True):
                    loss = step()
            else:
                loss = step()
        torch.cuda.synchronize()
        elapsed = (time.perf_counter() - start) / steps
        peak = torch.cuda.max_memory_allocated()
        print(json.dumps({"s": elapsed, "peak": peak, "loss": loss.item().hex()}), flush=True)


def record(run: str) -> None:
    """Let the guest into this process, as ``capture`` does."""
    import torch

    from reprodebug.recorder.detail import Options
    from reprodebug.recorder.guest import start

    os.makedirs(os.path.join(run, "journal"))
    start(torch, run, Options())


class Child:
    """A worker process of one variant."""

    def __init__(self, workload: str, variant: str, run: str, steps: int) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": ROOT,
            "TOKENIZERS_PARALLELISM": "false",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
            "BENCH_RUN": run,
        }
        command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.gpu", "--worker", workload, variant, "--steps", str(steps)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=ROOT, text=True)

    def step(self) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker ended with {self._process.wait()}")
        return dict(json.loads(line))

    def end(self) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError):  # it has ended
            self._process.stdin.close()
        self._process.wait()


def measure(workload: str, variants: list[str], rounds: int, steps: int) -> list[dict[str, Any]]:
    """One row for each variant: median ms, ratio to plain and its quartiles, memory on the device, whether the loss has the same bits."""
    with tempfile.TemporaryDirectory() as folder:
        children = {v: Child(workload, v, os.path.join(folder, v), steps) for v in variants}
        times: dict[str, list[float]] = {v: [] for v in variants}
        last: dict[str, dict[str, Any]] = {}
        try:
            for _ in range(3):
                for child in children.values():
                    child.step()
            for n in range(rounds):
                for v in variants if n % 2 == 0 else variants[::-1]:
                    last[v] = children[v].step()
                    times[v].append(last[v]["s"])
        finally:
            for child in children.values():
                child.end()
    rows = []
    for v in variants:
        ratios = sorted(t / p for t, p in zip(times[v], times["plain"], strict=True))
        rows.append(
            {
                "workload": workload, "variant": v, "ms": statistics.median(times[v]) * 1e3, "ratio": statistics.median(ratios),
                "low": ratios[len(ratios) // 4], "high": ratios[3 * len(ratios) // 4], "memory": last[v]["peak"] / last["plain"]["peak"],
                "same": last[v]["loss"] == last["plain"]["loss"],
            }
        )  # fmt: skip
    return rows


def throughput() -> None:
    """The kernel alone, the way from Python to it, and a copy on the same 256 MB; the best of several rounds each."""
    import torch

    from reprodebug.recorder.fingerprint import Fingerprinter
    from reprodebug.recorder.writer import Writer

    source = torch.randint(-(1 << 31), 1 << 31, (COPY_BYTES // 4,), dtype=torch.int32, device="cuda")
    target = torch.empty_like(source)
    small = torch.randn(1024, device="cuda")
    with tempfile.TemporaryDirectory() as folder:
        fingerprint = Fingerprinter(torch, Writer(folder))
        fingerprint(source)
        device = fingerprint.device
        if device is None or device.backend.name != "cuda":
            raise SystemExit(f"no kernel of our own here: {fingerprint._unreachable or device}")

        def seconds(work: Callable[[], Any], times: int) -> float:
            best = 1e9
            for _ in range(7):
                begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                begin.record()
                for _ in range(times):
                    work()
                end.record()
                torch.cuda.synchronize()
                best = min(best, begin.elapsed_time(end) / 1e3 / times)
                device.finish()
            return best

        copy = 2 * COPY_BYTES / seconds(lambda: target.copy_(source), 20) / 1e9
        read = COPY_BYTES / seconds(lambda: fingerprint(source), 20) / 1e9  # not `at`, which remembers a big tensor
        start = time.perf_counter()
        for _ in range(2000):
            fingerprint.at(small, 2)
        call = (time.perf_counter() - start) / 2000
        device.finish()
    print(f"copy on the device, 256 MB    {copy:8.0f} GB/s read and written")
    print(f"fingerprint, 256 MB           {read:8.0f} GB/s read: {read / copy:.0%} of the copy's")
    print(f"fingerprint, 4 KB             {call * 1e6:8.1f} us of the program's thread each")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--workloads", default="gpt,cnn,llama,transformer")
    parser.add_argument("--no-debug-mode", action="store_true")
    parser.add_argument("--worker", nargs=2)
    arguments = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print("no CUDA device here: nothing measured", file=sys.stderr)
        return 2
    if arguments.worker:
        worker(*arguments.worker, arguments.steps)
        return 0
    print(f"{torch.cuda.get_device_name(0)}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    throughput()
    print(f"\n{'workload':12} {'variant':9} {'ms/step':>8} {'x plain':>8} {'quartiles':>13} {'memory':>7}  same loss bits", flush=True)
    for workload in arguments.workloads.split(","):
        found = []
        try:
            found += measure(workload, ["plain", "recorded"], arguments.rounds, arguments.steps)
            if not arguments.no_debug_mode:
                found += measure(workload, ["plain", "debug"], max(3, arguments.rounds // 5), max(1, arguments.steps // 5))[1:]
        except (RuntimeError, OSError) as error:
            print(f"{workload:12} could not run: {error}", flush=True)
        for row in found:
            print(
                f"{row['workload']:12} {row['variant']:9} {row['ms']:8.2f} {row['ratio']:8.3f} {row['low']:6.3f}-{row['high']:6.3f} "
                f"{row['memory']:7.3f}  {row['same']}",
                flush=True,
            )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
