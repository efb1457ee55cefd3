"""Start-up: whole processes against a bare interpreter, in turn. Medians over rounds.

python -m tests.benchmarks.startup [--rounds N]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def timed(command: list[str], folder: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    python, tool = sys.executable, [sys.executable, "-m", "reprodebug"]
    pairs = os.path.join(ROOT, "sample_runs", "missing-seed")
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "nothing.py"), "w") as f:
            f.write("pass\n")
        commands = {
            "python -c pass": [python, "-c", "pass"],
            "reprodebug --help": [*tool, "--help"],
            "python nothing.py": [python, "nothing.py"],
            "capture -- python nothing.py": [*tool, "capture", "-o", "run", "--", python, "nothing.py"],
            "compare, a sample pair, headless": [*tool, "compare", os.path.join(pairs, "a"), os.path.join(pairs, "b"), "--headless"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for n in range(rounds + 1):
            for name, command in commands.items():
                seconds = timed(command, folder)
                shutil.rmtree(os.path.join(folder, "run"), ignore_errors=True)
                if n:
                    times[name].append(seconds)
    bare = statistics.median(times["python -c pass"])
    print(f"{'process':34} {'ms':>8} {'over a bare interpreter, ms':>28}")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{name:34} {median * 1e3:8.1f} {(median - bare) * 1e3:28.1f}")


if __name__ == "__main__":
    main()
