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
KEYS = "jjjkkGgnnNf2jj3jj4jj5jj6jj7jjGgn1ddx"


def opened(command: list[str], keys: str = "") -> tuple[float, dict[str, list[float]]]:
    """Seconds to the word ``divergent`` on the screen, and seconds to the answer of each key."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, env={**os.environ, "TERM": "xterm-256color"}, start_new_session=True
    )
    os.close(slave)
    out, first = b"", 0.0
    while not first and time.perf_counter() - start < 60:
        if select.select([master], [], [], 0.05)[0]:
            out += os.read(master, 1 << 16)
            if b"divergent" in out:
                first = time.perf_counter() - start
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
    return first, answers


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
        firsts: dict[str, list[float]] = {name: [] for name in commands}
        for n in range(arguments.rounds + 1):
            for name, command in commands.items():
                seconds, _ = opened(command)
                if n:
                    firsts[name].append(seconds)
        empty = statistics.median(firsts["an empty Textual app"])
        print(f"{'to the verdict on the screen':34} {'s':>6} {'ratio':>6}")
        for name, seconds_ in firsts.items():
            print(f"{name:34} {statistics.median(seconds_):6.2f} {statistics.median(seconds_) / empty:6.2f}")
        print(f"\n{'answer to a key':34} {'median, ms':>10} {'slowest, ms':>11}  key")
        for name in list(commands)[1:]:
            _, answers = opened(commands[name], KEYS)
            every = [(s, key) for key, list_ in answers.items() for s in list_]
            slowest = max(every)
            print(f"{name:34} {statistics.median(s for s, _ in every) * 1e3:10.0f} {slowest[0] * 1e3:11.0f}  {slowest[1]}")


if __name__ == "__main__":
    main()
