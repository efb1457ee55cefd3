"""The whole tool as a handful of functions: what a notebook, a test or the command line calls.

::

    recording = capture(["python", "train.py"], out="runs/a")
    comparison = compare("runs/a", "runs/b")
    with record("runs/a"):
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprodebug.bisect.control import Control, Listener
    from reprodebug.bisect.drive import Question
    from reprodebug.capture.launch import Recording
    from reprodebug.compare.evidence import Evidence
    from reprodebug.model.comparison import Comparison, Tolerance
    from reprodebug.model.experiment import Bisection
    from reprodebug.model.zoom import Zoom
    from reprodebug.store.run import StoredRun


def capture(
    command: Sequence[str], out: str | None = None, *, level: str = "fingerprint", steps: tuple[int, int] | None = None,
    modules: str = "", budget: int | None = None, data: Sequence[str] = (), cwd: str | None = None,
    environment: dict[str, str] | None = None, against: str | None = None,
) -> Recording:  # fmt: skip
    """Run ``command`` and record it into the directory ``out`` (default: a new one below ``reprodebug-runs/``).

    ``level`` is ``fingerprint``, ``summary`` or ``full``; ``steps`` (from, to) and ``modules`` (a glob over module names)
    narrow what ``summary`` and ``full`` keep; ``budget`` bounds the kept tensors in bytes; ``data`` names files and
    directories to fingerprint. ``against`` is a run: the command is stopped at the end of the step in which it has parted from
    that run, or which that run has not (``Recording.stopped``, exit code 143). Raises UsageError, RunUnreadable or CaptureFailed
    when the command was not started.
    """
    import time

    from reprodebug.capture.launch import Request
    from reprodebug.capture.launch import capture as run

    started = time.time()
    request = Request(list(command), out, level, steps, modules, budget, list(data), cwd, environment)
    if against is not None:
        from reprodebug.compare.live import watch

        request.enough = watch(open_run(against))
    recording = run(request)
    if recording.events:
        import os

        from reprodebug.mixed import attach

        attach(recording.path, os.path.abspath(cwd or os.getcwd()), started)
    return recording


def open_run(path: str) -> StoredRun:
    """Open a run directory. Raises RunUnreadable or SchemaTooNew."""
    from reprodebug.store.run import open_run as opened

    return opened(path)


def compare(a: str, b: str, *, tolerance: Tolerance | None = None, noise: Sequence[str] = ()) -> Comparison:
    """Compare two runs by path, and say why they differ: run directories, records of other systems, or tensor files, in any mix.

    ``noise`` are further recordings of A or of B: what a run differs by from itself is the yardstick then. Raises
    RunUnreadable, SchemaTooNew or NothingComparable.
    """
    return examine(a, b, tolerance=tolerance, noise=noise)[0]


def examine(
    a: str, b: str, *, tolerance: Tolerance | None = None, noise: Sequence[str] = (), say: Callable[[str], None] = lambda stage: None
) -> tuple[Comparison, Evidence | None]:
    """``compare``, and the records behind it; None for the latter where a side is no run of ours.

    ``say`` gets the name of each stage as it begins. Raises what ``compare`` raises.
    """
    import os

    from reprodebug.store.run import ATTACHED, is_run

    if not (is_run(a) and is_run(b)):
        from reprodebug.mixed import compare_mixed

        say("reading the records")
        return compare_mixed(a, b, tolerance), None
    from reprodebug.compare.evidence import Evidence
    from reprodebug.compare.runs import examine as meet
    from reprodebug.diagnose.noise import with_noise

    say("reading A")
    left = open_run(a)
    say("reading B")
    right = open_run(b)
    say("aligning the records")
    examined = meet(left, right, tolerance)
    say("looking for the cause")
    comparison = with_noise(examined, [open_run(path) for path in noise])
    if noise:
        import dataclasses

        comparison = dataclasses.replace(comparison, noise=tuple(noise))
    if all(os.path.exists(os.path.join(run.path, ATTACHED)) for run in (left, right)):
        from reprodebug.mixed import with_attached

        comparison = with_attached(comparison, left, right)
    return comparison, Evidence(list(examined.pairs))


def bisect(question: Question, *, resume: bool = False, listen: Listener | None = None, control: Control | None = None) -> Bisection:
    """Answer a question by experiment: run the program again under mixtures of two circumstances.

    ``resume`` goes on with the newest session of the same question; ``listen`` is told what happens, as events of
    ``reprodebug.model.progress``; ``control`` (``reprodebug.bisect.control``) pauses and cancels from another thread. Raises
    UsageError for a question that makes no sense; KeyboardInterrupt and Cancelled leave a session that can be resumed.
    """
    import os

    from reprodebug.bisect.drive import bisect as search

    return search(question, cwd=os.getcwd(), environment=os.environ, resume=resume, listen=listen, control=control)


def zoom(
    a: str, b: str, *, max_bytes: int | None = None, timeout: float | None = None, counterfactual: bool = False, keep: str = "",
    say: Callable[[str], None] = lambda text: None,
) -> Zoom:  # fmt: skip
    """Run two recorded runs again, up to their first divergence, and find the operation that makes it.

    ``max_bytes`` bounds what is written of each execution (default 1 GiB), ``timeout`` its seconds; ``counterfactual`` also puts
    what A had into B and the reverse; ``keep`` names a new directory for the executions; ``say`` gets progress, a line at a time.
    Raises UsageError for what is no recording with a command, RunUnreadable or SchemaTooNew.
    """
    from reprodebug.zoom.drive import MAX_BYTES, Request
    from reprodebug.zoom.drive import zoom as search

    return search(Request(a, b, MAX_BYTES if max_bytes is None else max_bytes, timeout, counterfactual, keep), say=say)


class record:
    """Record this process from here on: ``with record("runs/a"): ...`` or ``r = record(); ...; r.stop()``.

    For notebooks and libraries. Does nothing where ``reprodebug capture`` records the process already. ``path`` is the
    run directory. Arguments are those of ``capture``. Raises UsageError for a directory that is not empty.
    """

    def __init__(
        self, out: str | None = None, *, level: str = "fingerprint", steps: tuple[int, int] | None = None, modules: str = "",
        budget: int | None = None,
    ) -> None:  # fmt: skip
        from reprodebug.capture.inside import Inside

        self._inside = Inside(out, level, steps, modules, budget)
        self.path = self._inside.path

    def stop(self) -> str:
        """End the recording; returns the run directory."""
        self._inside.stop()
        return self.path

    def __enter__(self) -> record:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def __getattr__(name: str) -> Any:
    if name == "Tolerance":
        from reprodebug.model.comparison import Tolerance

        return Tolerance
    raise AttributeError(name)
