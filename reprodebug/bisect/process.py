"""One program of an experiment, run so that nothing of it is left: its own session, its output bounded, ended as a group.

Owns starting, watching and ending. A process is ended by its group, or by the run directory in its environment; never by
its name.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from reprodebug.bisect.control import Control

_HEAD, _TAIL = 1 << 20, 256 << 10
"""bytes kept of what a program prints: from its beginning and from its end"""
_GRACE_S = 3.0
"""between SIGTERM and SIGKILL"""
_POLL_S = 0.05
_MEMORY_POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended."""

    exit_code: int
    """128 + N for signal N"""
    seconds: float
    hung: bool = False
    """it was ended because its time was over"""
    stopped: bool = False
    """``done`` said that it had served"""
    oversized: bool = False
    """it was ended because it took more memory than it may"""


def run(
    command: list[str], cwd: str, environment: dict[str, str], log: str, *, limit: float | None = None,
    done: Callable[[], bool] | None = None, mark: tuple[str, str] | None = None, control: Control | None = None,
    memory: int | None = None,
) -> Ended:  # fmt: skip
    """Run ``command``, what it prints going to the file ``log``; raises OSError where it cannot be started.

    ``limit``: seconds after which it counts as hung; ``done``: asked now and then whether it has served; ``mark``: name and
    value of a variable that every process of it inherits, by which strays are found; ``memory``: bytes that all its processes
    together may hold (looked at about once a second: the kernel ends what grows faster). On KeyboardInterrupt, and where
    ``control`` is cancelled (then Cancelled is raised), everything is ended before it goes on.
    """
    started = time.monotonic()
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        _first_to_go(process.pid)
        drain = threading.Thread(target=_drain, args=(process, out), daemon=True)
        drain.start()
        hung = stopped = oversized = False
        looked = started
        try:
            while True:
                try:
                    process.wait(_POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    pass
                if control is not None:
                    control.check()
                if done is not None and done():
                    stopped = True
                    try:
                        process.wait(2.0)  # the other ranks, a shell around it
                    except subprocess.TimeoutExpired:
                        pass
                    break
                if memory is not None and time.monotonic() - looked > _MEMORY_POLL_S:
                    oversized = held(process.pid, memory) > memory
                    looked = time.monotonic()
                    if oversized:
                        break
                if limit is not None and time.monotonic() - started > limit:
                    hung = True
                    break
        finally:
            end(process, mark)
            drain.join(5.0)
            if process.stdout is not None and not drain.is_alive():
                process.stdout.close()
    stopped = stopped or (done is not None and done())
    code = process.returncode if process.returncode is not None else -signal.SIGKILL
    return Ended(128 - code if code < 0 else code, time.monotonic() - started, hung, stopped, oversized)


def call(
    words: list[str], environment: dict[str, str], *, limit: float, control: Control | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a helper (pip, venv) and return what it printed; return code 1 where it cannot be started or takes too long.

    Raises Cancelled where ``control`` is cancelled; its process group is ended then, and on KeyboardInterrupt.
    """
    try:
        process = subprocess.Popen(
            words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))
    until = time.monotonic() + limit
    try:
        while True:
            try:
                out, err = process.communicate(timeout=_POLL_S)
                break
            except subprocess.TimeoutExpired:
                if control is not None:
                    control.check()
                if time.monotonic() > until:
                    return subprocess.CompletedProcess(words, 1, "", f"it did not end within {limit:.0f} s")
    finally:
        end(process)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    return subprocess.CompletedProcess(words, process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def held(session: int, most: int) -> int:
    """Bytes of memory that the processes of a session hold; what they share is counted once where that decides (Linux).

    Elsewhere what ``ps`` says of the process group.
    """
    page = os.sysconf("SC_PAGE_SIZE")
    pids, total = [], 0
    try:
        numbers = [n for n in os.listdir("/proc") if n.isdigit()]
    except OSError:
        done = call(["ps", "-A", "-o", "pgid=,rss="], dict(os.environ), limit=10.0)
        rows = [line.split() for line in done.stdout.splitlines()]
        return sum(int(r[1]) * 1024 for r in rows if len(r) == 2 and r[0] == str(session) and r[1].isdigit())
    for pid in numbers:
        try:
            with open(f"/proc/{pid}/stat", "rb") as f:
                fields = f.read(4096).rpartition(b")")[2].split()
        except OSError:
            continue
        if len(fields) > 21 and int(fields[3]) == session:
            pids.append(pid)
            total += int(fields[21]) * page
    if total <= most or len(pids) < 2:
        return total
    return sum(_proportional(pid) for pid in pids)


def _proportional(pid: str) -> int:
    """What a process holds alone, and its share of what it holds with others, in bytes."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as f:
            for line in f:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def available() -> int | None:
    """Bytes of memory that can be had without swapping, here and in this control group; None where that cannot be told."""
    found = []
    try:
        with open("/proc/meminfo", "rb") as f:
            found += [int(line.split()[1]) * 1024 for line in f if line.startswith(b"MemAvailable:")]
    except OSError:
        try:
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        except (OSError, ValueError):
            pass
    try:
        with open("/sys/fs/cgroup/memory.max") as f, open("/sys/fs/cgroup/memory.current") as g:
            most = f.read().strip()
            if most.isdigit():
                found.append(max(0, int(most) - int(g.read())))
    except (OSError, ValueError):
        pass
    return min(found) if found else None


def remove(path: str) -> None:
    """Remove a tree, directories without rights included; follows no link."""
    for folder, names, _ in os.walk(path):
        for name in (".", *names):
            inner = os.path.join(folder, name)
            if not os.path.islink(inner):
                try:
                    os.chmod(inner, 0o700)
                except OSError:
                    continue
    shutil.rmtree(path, ignore_errors=True)


def end(process: subprocess.Popen[bytes], mark: tuple[str, str] | None = None) -> None:
    """End the process group and every stray that carries the mark; returns when they are gone."""
    for number, wait in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GRACE_S)):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            break
        until = time.monotonic() + wait
        while time.monotonic() < until:
            process.poll()
            try:
                os.killpg(process.pid, 0)
            except (ProcessLookupError, PermissionError):
                break
            time.sleep(0.01)
        else:
            continue
        break
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        pass
    if mark is not None:
        end_marked(*mark)


def end_marked(name: str, value: str) -> int:
    """End every process of this user whose environment holds ``name=value``; returns how many there were. Linux only."""
    wanted = f"{name}={value}".encode()
    found = 0
    try:
        numbers = [int(n) for n in os.listdir("/proc") if n.isdigit()]
    except OSError:
        return 0
    for pid in numbers:
        if pid == os.getpid():
            continue
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                if wanted not in f.read(1 << 20).split(b"\0"):
                    continue
            os.kill(pid, signal.SIGKILL)
            found += 1
        except OSError:
            continue
    return found


def _first_to_go(pid: int) -> None:
    """Where memory runs out, the kernel is to end the trial and not the tool (Linux)."""
    try:
        with open(f"/proc/{pid}/oom_score_adj", "w") as f:
            f.write("800")
    except OSError:
        pass


def _drain(process: subprocess.Popen[bytes], out: object) -> None:
    """Keep the beginning and the end of what is printed; read everything, so that the program never waits."""
    assert process.stdout is not None
    written, tail, kept = 0, deque[bytes](), 0
    while True:
        try:
            data = process.stdout.read1(65536)  # type: ignore[attr-defined]
        except (OSError, ValueError):
            break
        if not data:
            break
        if written < _HEAD:
            out.write(data[: _HEAD - written])  # type: ignore[attr-defined]
            out.flush()  # type: ignore[attr-defined]
            data, written = data[_HEAD - written :], written + len(data)
        if data:
            tail.append(data)
            kept += len(data)
            while kept - len(tail[0]) > _TAIL:
                kept -= len(tail.popleft())
    try:
        if tail:
            out.write(b"\n[...]\n" + b"".join(tail)[-_TAIL:])  # type: ignore[attr-defined]
    except (OSError, ValueError):
        pass
