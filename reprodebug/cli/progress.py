"""The progress of an experiment as lines on stderr: one listener among others."""

from __future__ import annotations

import sys

from reprodebug._base.text import visible
from reprodebug.model import progress


def show(event: progress.Event) -> None:
    """One event, as a line or none."""
    text = _words(event)
    if text:
        print(visible(text, 400), file=sys.stderr, flush=True)


def _words(event: progress.Event) -> str:
    if isinstance(event, progress.TrialStarted):
        left = f" (about {event.steps_left} more, {max(1, round(event.eta_s))} s)" if event.steps_left and event.eta_s else ""
        return f"trial {event.count}: {event.candidate}{left}"
    if isinstance(event, progress.TrialEnded) and not event.recalled:
        t = event.trial
        return f"  {t.verdict}{': ' + t.reason if t.reason else ''} ({t.seconds:.1f} s)"
    if isinstance(event, progress.Note):
        return f"  {event.text}"
    return ""
