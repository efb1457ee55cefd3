"""``reprodebug.record()``: the explicit form, where the recorded process is this very one."""

from __future__ import annotations

import atexit
import os
import sys
import time
from typing import Any

from reprodebug._base.errors import UsageError


class Inside:
    """A guest in this process, and the run that it makes."""

    def __init__(self, out: str | None, level: str, steps: tuple[int, int] | None, modules: str, budget: int | None) -> None:
        from reprodebug.capture.launch import Request, hold, new_run_directory
        from reprodebug.model.events import LEVELS
        from reprodebug.recorder import guest
        from reprodebug.recorder.detail import DEFAULT_BUDGET, Options

        if level not in LEVELS:
            raise UsageError(f"there is no level {level!r}", hint=f"one of {', '.join(LEVELS)}")
        self._guest: Any = None
        already = guest.current()
        if already is not None:
            self.path = already.run
            return
        cwd = os.getcwd()
        argv = list(getattr(sys, "orig_argv", None) or sys.argv)
        self._request = Request(argv, out, level, steps, modules, budget, [], cwd)
        self.path = os.path.abspath(new_run_directory(out, cwd, "record"))
        self._cwd, self._started = cwd, time.time()

        from reprodebug.capture import finish

        self._lock = hold(self.path)
        self._seen = finish.Watch(self.path)
        finish.begin(self.path, self._request, cwd, self._started, self._seen)
        options = Options(level, steps, modules, DEFAULT_BUDGET if budget is None else budget)
        self._guest = guest.start_here(self.path, options)
        self._code = finish.describe_code(cwd, argv, [])
        atexit.register(self.stop)

    def stop(self) -> None:
        """Take the guest out and finish the run; once. Leaves the run as journals where finishing fails."""
        guest, self._guest = self._guest, None
        if guest is None or guest.pid != os.getpid():
            return
        atexit.unregister(self.stop)
        guest.uninstall()
        from reprodebug.capture import finish

        finish.finish(self.path, self._request, self._cwd, self._started, 0, self._code, self._seen, self._lock)
