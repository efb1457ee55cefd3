"""What the bisect screen is given, and its words: a search that can be started, the states, the end of a log.

Refuses to search: ``api.bisect`` does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from reprodebug._base.text import visible
from reprodebug.bisect.control import Control, Listener
from reprodebug.model.comparison import Comparison
from reprodebug.model.experiment import Bisection
from reprodebug.report import words

Search = Callable[[bool, Listener, Control], Bisection]
"""(go on with the newest session, who is told, handle) -> what was found; raises what ``api.bisect`` raises"""

NOW = {
    "asking": {"details": "start", "copy_command": "copy command"}, "starting": {},
    "running": {"pause": "pause", "cancel": "cancel", "details": "open trial"},
    "pausing": {"pause": "go on", "cancel": "cancel"}, "paused": {"pause": "go on", "cancel": "cancel", "details": "open trial"},
    "cancelling": {}, "cancelled": {"resume": "go on", "details": "open trial"}, "failed": {"resume": "try again"},
    "ended": {"report": "report", "export": "export", "details": "open trial", "copy_command": "copy command"},
}  # fmt: skip
"""what can be done in each state"""
STATES = {
    "asking": "Nothing has been run yet; Enter starts the search", "starting": "The search starts", "running": "The search runs",
    "pausing": "The search pauses after the running trial", "paused": "The search has been paused", "cancelling": "The running trial is ended",
    "cancelled": "The search was cancelled", "failed": "The search cannot be made", "ended": "The search has ended",
}  # fmt: skip
_TAIL = 4096
"""bytes of a trial's output that are looked at"""


@dataclass(frozen=True, slots=True)
class Job:
    """A search that can be started, and what the user is told before it is."""

    search: Search
    about: tuple[str, ...]
    """what will be run, one line each"""
    command: str
    """the same without a screen"""
    resume: bool = False
    """go on with the newest session of the same question"""


def from_comparison(c: Comparison) -> Job:
    """The search for what makes the two runs of a comparison differ."""
    from reprodebug import api
    from reprodebug.bisect.drive import Question

    question = Question(os.path.abspath(c.a.path), os.path.abspath(c.b.path))

    def search(resume: bool, listen: Listener, control: Control) -> Bisection:
        return api.bisect(question, resume=resume, listen=listen, control=control)

    about = [f"{name}: {visible(' '.join(side.command), 300)}" for name, side in (("A", c.a), ("B", c.b))]
    return Job(search, tuple(about), f"reprodebug bisect {words.paths(c)} --headless")


def named(candidate: str) -> str:
    """What a trial tries, a commit by the first digits of its hash."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28}\b", r"\1", visible(candidate, 200))


def tail(path: str, size: int = _TAIL, lines: int = 40) -> list[str]:
    """The last lines of a growing file, at most ``size`` bytes of it; empty where it cannot be read."""
    if not path:
        return []
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - size))
            text = file.read(size).decode("utf-8", "backslashreplace")
    except OSError:
        return []
    rows = text.replace("\r", "\n").splitlines()
    return rows[1:][-lines:] if end > size else rows[-lines:]
