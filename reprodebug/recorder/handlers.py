"""Exceptions that a signal handler of the program's raises while the recorder is at work: they are the program's to see."""

from __future__ import annotations

import os

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def pass_on(error: BaseException) -> None:
    """Raise ``error`` again if a signal handler raised it, as those that limit a time do (``signal.alarm``).

    Python calls a handler with the frame that it interrupted, which is also the frame that called it: no other function
    outside the recorder holds the frame of its own caller in the middle of a call that the recorder made.
    """
    at = error.__traceback__
    while at is not None:
        frame = at.tb_frame
        caller = frame.f_back
        if caller is not None and not frame.f_code.co_filename.startswith(_HERE):
            for value in frame.f_locals.values():
                if value is caller or (type(value) is tuple and any(v is caller for v in value)):
                    raise error
        at = at.tb_next
