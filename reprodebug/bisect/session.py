"""What an experiment remembers: a directory of its own with a SQLite journal of every trial.

Written before and after each trial, so that a kill or a power cut loses at most the trial that was running. A search is
repeated from its beginning on resume and finds the answers it had here: it takes the same way, without a second trial.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reprodebug._base.errors import UsageError
from reprodebug.bisect import process
from reprodebug.model.comparison import Divergence, Numbers
from reprodebug.model.experiment import UNTESTABLE, Trial

MARK = "REPRODEBUG_SESSION"
"""variable that every process of a session inherits"""
_SCHEMA = """
create table if not exists about (name text primary key, value text not null);
create table if not exists trials (
  id integer primary key, key text not null, attempt integer not null, candidate text not null, began real not null,
  finished real, result text, boot text
);
"""


_STAMP = re.compile(r"\d{8}-\d{6}(-\d+)?")


def _boot() -> str:
    """Which start of the machine this is; '' where that cannot be told."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as f:
            return f.read(64).strip()
    except OSError:
        return ""


def home() -> str:
    """Where sessions lie: REPRODEBUG_SESSIONS, else ``reprodebug/sessions`` below the user's cache directory."""
    given = os.environ.get("REPRODEBUG_SESSIONS")
    if given:
        return os.path.abspath(given)
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(cache, "reprodebug", "sessions")


@dataclass(frozen=True, slots=True)
class Known:
    """A session as the list shows it."""

    path: str
    what: str
    began: str
    state: str
    trials: int


class Session:
    """One search: its directory, its trials."""

    def __init__(self, path: str, lock: int) -> None:
        self.path = path
        self._lock = lock
        self._db = sqlite3.connect(os.path.join(path, "session.db"), timeout=30.0)
        self._db.executescript(_SCHEMA)
        self._db.execute("pragma synchronous=full")
        self.resumed = False

    # coming and going

    @classmethod
    def new(cls, about: dict[str, Any]) -> Session:
        """A session for a search that ``about`` describes. Raises UsageError where the directory cannot be made."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        for n in range(1, 100):
            path = os.path.join(home(), stamp if n == 1 else f"{stamp}-{n}")
            try:
                os.makedirs(path)
                break
            except FileExistsError:
                continue
            except OSError as error:
                raise UsageError(
                    f"{path} cannot be made: {error.strerror}", hint="set REPRODEBUG_SESSIONS to a directory you can write to"
                ) from error
        session = cls(path, hold(path))
        session.note("about", about)
        session.note("began", stamp)
        return session

    @classmethod
    def resume(cls, about: dict[str, Any]) -> Session:
        """The newest session of the same search that is not running. Raises UsageError where there is none."""
        for path in sorted(_paths(), reverse=True):
            lock = hold(path)
            if lock < 0:
                continue
            session = cls(path, lock)
            if session.recall_note("about") == json.loads(json.dumps(about)):
                process.end_marked(MARK, path)
                session.resumed = True
                return session
            session.close()
        raise UsageError("there is no session of this search to resume", hint="`reprodebug bisect --list` shows those that there are")

    def close(self) -> None:
        """End the session; it can be resumed."""
        self._db.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # notes

    def note(self, name: str, value: Any) -> None:
        with self._db:
            self._db.execute("insert or replace into about values (?, ?)", (name, json.dumps(value)))

    def recall_note(self, name: str) -> Any:
        row = self._db.execute("select value from about where name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    # trials

    def recall(self, key: str, attempt: int) -> Trial | None:
        """What the trial of a candidate said; None where it was not made. One that took the machine down twice is untestable."""
        row = self._db.execute(
            "select id, result, candidate from trials where key = ? and attempt = ? and result is not null", (key, attempt)
        ).fetchone()
        if row is not None:
            return _trial(row[0], json.loads(row[1]))
        lost = self._db.execute("select id, candidate, boot from trials where key = ? and attempt = ?", (key, attempt)).fetchall()
        if sum(boot != _boot() for _, _, boot in lost) >= 2:
            return Trial(lost[-1][0], lost[-1][1], UNTESTABLE, 0.0, reason="the machine went down during this trial, twice")
        return None  # a tool that was ended while the machine stayed up does not blame the trial

    def begin(self, key: str, attempt: int, candidate: str) -> int:
        """A trial starts; returns its number."""
        with self._db:
            cursor = self._db.execute(
                "insert into trials (key, attempt, candidate, began, boot) values (?, ?, ?, ?, ?)",
                (key, attempt, candidate, time.time(), _boot()),
            )
        return int(cursor.lastrowid or 0)

    def finish(self, trial: Trial) -> None:
        """A trial has ended."""
        with self._db:
            self._db.execute(
                "update trials set finished = ?, result = ? where id = ?",
                (time.time(), json.dumps(dataclasses.asdict(trial)), trial.number),
            )

    def forget(self, number: int) -> None:
        """A trial was interrupted by the user: as if it had not been started. Its number is given to the next one."""
        with self._db:
            self._db.execute("delete from trials where id = ?", (number,))

    def trials(self) -> list[Trial]:
        """All that were made, in order."""
        rows = self._db.execute("select id, result from trials where result is not null order by id").fetchall()
        return [_trial(n, json.loads(r)) for n, r in rows]


def _trial(number: int, found: dict[str, Any]) -> Trial:
    first = found.get("first")
    if first is not None:
        numbers = first["numbers"]
        numbers["worst_index"] = tuple(numbers["worst_index"]) if numbers.get("worst_index") is not None else None
        first["numbers"] = Numbers(**numbers)
        for name in ("shape", "shape_b"):
            first[name] = tuple(first[name]) if first.get(name) is not None else None
        first["statistics"] = {k: tuple(v) for k, v in (first.get("statistics") or {}).items()}
        found["first"] = Divergence(**first)
    return Trial(**{**found, "number": number})


def known() -> list[Known]:
    """Every session, the oldest first."""
    found = []
    for path in sorted(_paths()):
        lock = hold(path)
        state = "running" if lock < 0 else "stopped"
        try:
            db = sqlite3.connect(f"file:{os.path.join(path, 'session.db')}?mode=ro", uri=True)
            about = dict(db.execute("select name, value from about").fetchall())
            number = db.execute("select count(*) from trials where result is not null").fetchone()[0]
            db.close()
        except sqlite3.Error:
            about, number, state = {}, 0, "unreadable"
        finally:
            if lock >= 0:
                os.close(lock)
        what = json.loads(about.get("about", "{}"))
        if "outcome" in about and state == "stopped":
            state = json.loads(about["outcome"])
        found.append(Known(path, str(what.get("what", "")), str(json.loads(about.get("began", '""'))), state, number))
    return found


def clean() -> int:
    """Remove every session that is not running, its processes and its directories; returns how many."""
    removed = 0
    for path in list(_paths(started=True)):
        lock = hold(path)
        if lock < 0:
            continue
        process.end_marked(MARK, path)
        process.remove(path)
        os.close(lock)
        removed += 1
    return removed


def _paths(*, started: bool = False) -> Iterator[str]:
    """Directories of sessions; with ``started`` also of those that were killed while they were made."""
    try:
        names = sorted(os.listdir(home()))
    except OSError:
        return
    for name in names:
        path = os.path.join(home(), name)
        if os.path.isfile(os.path.join(path, "session.db")) or (started and _STAMP.fullmatch(name) and os.path.isdir(path)):
            yield path


def hold(path: str) -> int:
    """Lock a session; -1 where another process has it."""
    import fcntl

    try:
        fd = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return -1
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd
    except OSError:
        os.close(fd)
        return -1
