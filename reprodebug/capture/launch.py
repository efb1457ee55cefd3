"""Run a command exactly as typed, with the guest waiting on its PYTHONPATH, and turn what it wrote into a run.

Owns the child's environment, signals and exit code. Refuses to change anything else of the command.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from reprodebug._base.errors import CaptureFailed, UsageError
from reprodebug._base.text import visible

_LEAVE_S = 10.0
"""between the word to stop and SIGTERM, for a command that does not come to the end of a step"""
POLL_S = 0.2
"""how often the parent looks for journals while the command runs"""


@dataclass(frozen=True, slots=True)
class Recording:
    """What a capture left."""

    path: str
    exit_code: int
    """what ``capture`` exits with: COMMAND's own code, or 128+N for signal N"""
    events: int
    steps: int
    ranks: int
    level: str
    notes: tuple[str, ...] = ()
    unreached: str = ""
    """why nothing was recorded, and what to do; empty when something was"""
    tensors: int = 0
    seconds: float = 0.0
    data_files: int = 0
    processes: int = 0
    stopped: bool = False
    """``Request.enough`` ended it: its exit code is 143 then"""


@dataclass(slots=True)
class Request:
    """What to record, and how."""

    command: list[str]
    out: str | None = None
    level: str = "fingerprint"
    steps: tuple[int, int] | None = None
    modules: str = ""
    budget: int | None = None
    data: list[str] = field(default_factory=list)
    cwd: str | None = None
    environment: dict[str, str] | None = None
    enough: Callable[[str], bool] | None = None
    """asked now and then, with the run's directory, whether the command may end: at the end of its step, as by SIGTERM"""


def hook_directory() -> str:
    """The directory that goes onto PYTHONPATH."""
    return os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "recorder", "hook")


def new_run_directory(out: str | None, cwd: str, name: str) -> str:
    """Make the run directory; never one that holds something. Raises UsageError or CaptureFailed."""
    if out is not None:
        path = os.path.join(cwd, out)
        try:
            taken = os.path.lexists(path) and (not os.path.isdir(path) or bool(os.listdir(path)))
        except OSError as error:
            raise CaptureFailed(
                f"the run directory {out} cannot be read: {error.strerror}", hint="choose a place you can write to with --out DIR"
            ) from error
        if taken:
            raise UsageError(f"{out} exists and is not empty", hint="choose another directory with --out, or remove this one first")
        candidates = [path]
    else:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        base = os.path.join(cwd, "reprodebug-runs", f"{stamp}-{name}")
        candidates = [base] + [f"{base}-{n}" for n in range(2, 100)]
    for path in candidates:
        try:
            os.makedirs(os.path.join(path, "journal"), exist_ok=out is not None)
            return path
        except FileExistsError:
            continue
        except OSError as error:
            raise CaptureFailed(
                f"the run directory {path} cannot be made: {error.strerror}", hint="choose a place you can write to with --out DIR"
            ) from error
    raise CaptureFailed(f"no free name beside {candidates[0]}", hint="choose a directory with --out DIR")


def child_environment(run: str, request: Request) -> dict[str, str]:
    """The command's environment with the guest on its PYTHONPATH."""
    from reprodebug.recorder.detail import DEFAULT_BUDGET, Options

    environment = dict(os.environ if request.environment is None else request.environment)
    options = Options(request.level, request.steps, request.modules, DEFAULT_BUDGET if request.budget is None else request.budget,
                      watched=request.enough is not None)  # fmt: skip
    environment["REPRODEBUG_RUN"] = run
    environment[Options.VARIABLE] = options.to_json()
    inherited = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = hook_directory() + (os.pathsep + inherited if inherited else "")
    from importlib.machinery import PathFinder

    spec = PathFinder.find_spec("xxhash")  # where the command's environment has none, ours is lent to it under another name
    if spec is not None and spec.submodule_search_locations:
        environment["REPRODEBUG_XXHASH"] = next(iter(spec.submodule_search_locations))
    return environment


def capture(request: Request) -> Recording:
    """Run ``request.command`` and record it.

    Raises UsageError for a request that makes no sense and CaptureFailed when the command could not be started; whatever
    goes wrong later is in the recording's notes.
    """
    try:
        cwd = os.path.abspath(request.cwd or os.getcwd())
    except OSError as error:
        raise CaptureFailed(f"the working directory cannot be had: {error.strerror}", hint="change to a directory that exists") from error
    command = request.command
    if not command:
        raise UsageError("no command was given", hint="reprodebug capture -- python train.py")
    missing = next((d for d in request.data if not os.path.lexists(os.path.join(cwd, d))), None)
    if missing is not None:
        raise UsageError(
            f"there is no data at {visible(missing, 200)!r}", hint="--data names a file or directory that is there before the command runs"
        )
    program = _program(command[0], cwd, request.environment)
    run = new_run_directory(request.out, cwd, _name(command))
    lock = hold(run)
    environment = child_environment(run, request)
    started = time.time()
    with _Signals() as signals:
        try:
            process = subprocess.Popen(command, executable=program, cwd=cwd, env=environment)
        except OSError as error:
            release(lock)
            shutil.rmtree(run, ignore_errors=True)
            raise CaptureFailed(
                f"{command[0]} could not be started: {error.strerror}",
                hint="the command runs exactly as typed, without a shell: check that it works on its own",
            ) from error
        signals.started(process)
        from reprodebug.capture import finish  # its imports are done while the command starts

        seen = finish.Watch(run)
        finish.begin(run, request, cwd, started, seen)
        surroundings = _Background(lambda: finish.describe_code(cwd, command, request.data))
        ended = _Ended(process)
        stop_s: float | None = None
        while not ended.wait(POLL_S):
            seen.look()
            if request.enough is None:
                continue
            if stop_s is None and request.enough(run):
                stop_s = time.monotonic()
                dismiss(run)
            elif stop_s is not None and time.monotonic() - stop_s > _LEAVE_S:
                process.terminate()
                stop_s = math.inf
    exit_code = 128 - process.returncode if process.returncode < 0 else process.returncode
    try:
        if stop_s is not None:
            exit_code = 128 + signal.SIGTERM
        recording = finish.finish(run, request, cwd, started, exit_code, surroundings.result(), seen, lock)
        return replace(recording, stopped=stop_s is not None)
    except Exception as error:  # noqa: BLE001 - the command has run: its exit code is ours, whatever became of the run
        why = f"the run could not be completed: {type(error).__name__}: {error}"
        return Recording(run, exit_code, 0, 0, 0, request.level, (why,), unreached=why, seconds=time.time() - started)


def dismiss(run: str) -> None:
    """Tell the processes of a watched run to end at the end of their step."""
    try:
        with open(os.path.join(run, "journal", "stop"), "w"):
            pass
    except OSError:
        pass


def hold(run: str) -> int:
    """Lock the run while it is recorded; returns the descriptor, -1 where the file system has no locks."""
    try:
        import fcntl

        fd = os.open(os.path.join(run, "journal", ".lock"), os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd
    except (OSError, ImportError):
        return -1


def release(lock: int) -> None:
    """Let the lock go."""
    if lock >= 0:
        os.close(lock)


class _Ended:
    """Waits for a process without asking over and over, where the system can tell (Linux 5.3 and newer)."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._fd = -1
        try:
            self._fd = os.pidfd_open(process.pid)
        except (AttributeError, OSError):
            pass

    def wait(self, seconds: float) -> bool:
        """Whether the process has ended, after at most ``seconds``."""
        try:
            if self._fd >= 0:
                import select

                if not select.select([self._fd], [], [], seconds)[0]:
                    return False
                os.close(self._fd)
                self._fd = -1
                self._process.wait()
                return True
            self._process.wait(timeout=seconds)
            return True
        except subprocess.TimeoutExpired:
            return False
        except KeyboardInterrupt:
            return self._process.poll() is not None


def _program(word: str, cwd: str, environment: dict[str, str] | None) -> str | None:
    """The executable behind the first word; None lets the system look it up itself."""
    if os.sep in word:
        path = os.path.join(cwd, word)
        if not os.path.exists(path):
            raise CaptureFailed(f"{word} does not exist", hint="check the path of the command after `--`")
        if os.path.isdir(path):
            raise CaptureFailed(f"{word} is a directory, not a command", hint=f"did you mean `python {word}`?")
        if not os.access(path, os.X_OK):
            how = f"`python {word}`" if word.endswith(".py") else f"`sh {word}`"
            raise CaptureFailed(f"{word} is not executable", hint=f"run it as {how}, or `chmod +x {word}`")
        return None
    search = (os.environ if environment is None else environment).get("PATH")
    found = shutil.which(word, path=search)
    if found is None:
        hint = f"is it installed and on PATH? for a script use `python {word}`" if word.endswith(".py") else "is it installed and on PATH?"
        raise CaptureFailed(f"the command {word} was not found", hint=hint)
    return found


def _name(command: list[str]) -> str:
    """A short name for the run directory: the script's, else the program's."""
    for word in command[1:]:
        if word.endswith((".py", ".sh")):
            return _slug(word)
    return _slug(command[0])


def _slug(word: str) -> str:
    stem = os.path.splitext(os.path.basename(word))[0]
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in stem)[:40] or "run"


class _Background:
    """One call on a thread of the parent, while the command starts."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._value: Any = None
        self._error: BaseException | None = None

        def run() -> None:
            try:
                self._value = call()
            except Exception as error:  # noqa: BLE001 - told to the user in result()
                self._error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def result(self) -> Any:
        self._thread.join()
        return self._error if self._error is not None else self._value


class _Signals:
    """While the command runs: Ctrl-C and Ctrl-\\ reach it through the terminal; TERM and HUP are handed on."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self._old: dict[int, Any] = {}
        self._early: list[int] = []

    def started(self, process: subprocess.Popen[bytes]) -> None:
        """From now on signals go to ``process``, first those that came while it was being started."""
        self.process = process
        for number in self._early:
            self._forward(number, None)

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) == signal.SIG_IGN:
                    continue  # nohup, or a shell's background job: the command inherits that, as without us
                # a handler, not SIG_IGN: the command would inherit an ignored signal
                waits = number in (signal.SIGINT, signal.SIGQUIT)
                self._old[number] = signal.signal(number, (lambda *_: None) if waits else self._forward)
        return self

    def _forward(self, number: int, _frame: Any) -> None:
        try:
            if self.process is None:
                self._early.append(number)
            else:
                self.process.send_signal(number)
        except (OSError, ProcessLookupError):
            pass

    def __exit__(self, *_: object) -> None:
        for number, old in self._old.items():
            signal.signal(number, old if old is not None else signal.SIG_DFL)


def python_is_shut(command: list[str]) -> str:
    """A flag of the command that keeps the guest out (-I, -E, -S), or ''."""
    name = os.path.basename(command[0])
    if not name.startswith("python"):
        return ""
    words = iter(command[1:])
    for word in words:
        if not word.startswith("-") or word == "-":
            return ""
        for n, letter in enumerate(word[1:], 1):
            if letter in "IES":
                return word
            if letter in "cm":
                return ""
            if letter in "XW":  # the rest of the word, or the next one, is its value
                if n == len(word) - 1:
                    next(words, None)
                break
            if letter == "-":
                break
    return ""
