"""The progress of an experiment as lines on stderr: one listener among others."""

from __future__ import annotations

import sys

from reprodebug._base.text import visible
from reprodebug.model import progress


class Lines:
    """Writes each event as a line or none. A verdict names its candidate where it does not follow the line of its own trial."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self, event: progress.Event) -> None:
        text = self._words(event)
        if text:
            self._last = event.number if isinstance(event, progress.TrialStarted) else 0
            print(visible(text, 400), file=sys.stderr, flush=True)

    def _words(self, event: progress.Event) -> str:
        if isinstance(event, progress.TrialStarted):
            left = f" (about {event.steps_left} more, {max(1, round(event.eta_s))} s)" if event.steps_left and event.eta_s else ""
            return f"trial {event.count}: {event.candidate}{left}"
        if isinstance(event, progress.TrialEnded) and not event.recalled:
            t = event.trial
            whose = "" if t.number == self._last else f"{t.candidate}: "
            return f"  {whose}{t.verdict}{': ' + t.reason if t.reason else ''} ({t.seconds:.1f} s)"
        if isinstance(event, progress.Note):
            return f"  {event.text}"
        return ""
