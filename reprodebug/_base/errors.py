"""Every error that reprodebug raises on purpose.

::

    ReprodebugError            message + hint (what to type)
    ├── UsageError             the command line or the call is wrong
    ├── RunUnreadable          a path is no run, or its files are damaged
    │   └── SchemaTooNew       written by a newer reprodebug
    ├── NothingComparable      two readable runs with nothing in common
    └── CaptureFailed          reprodebug itself failed before COMMAND ran

Exit codes are mapped from these in ``cli/`` and nowhere else. Nothing here prints.
"""

from __future__ import annotations


class ReprodebugError(Exception):
    """One clear sentence, and a hint that says what to type."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(ReprodebugError):
    """The command line or the call is wrong."""


class RunUnreadable(ReprodebugError):
    """A path is no run, or its files cannot be read."""


class SchemaTooNew(RunUnreadable):
    """The run was written by a newer reprodebug than this one."""


class NothingComparable(ReprodebugError):
    """Both runs were read, and they have nothing in common."""


class CaptureFailed(ReprodebugError):
    """reprodebug failed before the recorded command was started."""
