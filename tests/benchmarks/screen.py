"""The compare screen in a pseudo-terminal: process start to the verdict on the screen, and the answer to each key.

Beside it, in turn, an empty Textual app to its first frame: what any screen costs. ``answer`` is the time from a key to the
first byte that the screen writes because of it; keys that change nothing where they are pressed have no answer and are left out.

    python -m tests.benchmarks.screen [--events N] [--rounds N]
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time

from tests.benchmarks.scale import training, write_run

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EMPTY = "from textual.app import App\nfrom textual.widgets import Static\nclass A(App):\n def compose(self): yield Static('divergent')\nA().run()"
KEYS = "jjjkkGgnnNf2jjkk34567jjkkGgnN1ddx"


def opened(command: list[str], keys: str = "") -> tuple[float, float, dict[str, list[float]]]:
    """Seconds to the first frame, to the word ``divergent`` on the screen, and to the answer of each key."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, env={**os.environ, "TERM": "xterm-256color"}, start_new_session=True
    )
    os.close(slave)
    out, frame, verdict = b"", 0.0, 0.0
    while not verdict and time.perf_counter() - start < 60:
        if select.select([master], [], [], 0.05)[0]:
            out += os.read(master, 1 << 16)
            now = time.perf_counter() - start
            if not frame and (b"divergent" in out or b"quits" in out):  # the loading screen says how to leave it
                frame = now
            if b"divergent" in out:
                verdict = now
    answers: dict[str, list[float]] = {}
    quiet(master)
    for key in keys:
        at = time.perf_counter()
        os.write(master, key.encode())
        if select.select([master], [], [], 2)[0]:
            answers.setdefault(key, []).append(time.perf_counter() - at)
        quiet(master)
    process.kill()
    process.wait()
    os.close(master)
    return frame, verdict, answers


def quiet(master: int) -> None:
    """Read until nothing was written for a while."""
    while select.select([master], [], [], 0.3)[0]:
        os.read(master, 1 << 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    compare = [sys.executable, "-m", "reprodebug", "compare"]
    pair = os.path.join(ROOT, "sample_runs", "missing-seed")
    with tempfile.TemporaryDirectory() as folder:
        large = [os.path.join(folder, name) for name in "ab"]
        write_run(large[0], training(arguments.events, None))
        write_run(large[1], training(arguments.events, 0.5))
        commands = {
            "an empty Textual app": [sys.executable, "-c", EMPTY],
            "a sample pair": [*compare, os.path.join(pair, "a"), os.path.join(pair, "b")],
            f"{arguments.events:,} events a side": [*compare, *large],
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for n in range(arguments.rounds + 1):
            for name, command in commands.items():
                frame, verdict, _ = opened(command)
                if n:
                    times[name].append((frame, verdict))
        empty = statistics.median(v for _, v in times["an empty Textual app"])
        print(f"{'from the start of the process':34} {'first frame, s':>14} {'verdict, s':>10} {'ratio':>6}")
        for name, both in times.items():
            frame, verdict = (statistics.median(column) for column in zip(*both, strict=True))
            print(f"{name:34} {frame:14.2f} {verdict:10.2f} {verdict / empty:6.2f}")
        print(f"\n{'answer to a key':34} {'median, ms':>10} {'slowest, ms':>11}  key")
        for name in list(commands)[1:]:
            _, _, answers = opened(commands[name], KEYS)
            every = [(s, key) for key, list_ in answers.items() for s in list_]
            slowest = max(every)
            print(f"{name:34} {statistics.median(s for s, _ in every) * 1e3:10.0f} {slowest[0] * 1e3:11.0f}  {slowest[1]}")


if __name__ == "__main__":
    main()
