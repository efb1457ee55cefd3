"""``reprodebug capture``: record a command."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import TYPE_CHECKING

from reprodebug._base.errors import UsageError
from reprodebug._base.text import plural, visible
from reprodebug.cli.arguments import Parser, size
from reprodebug.model.events import LEVELS

if TYPE_CHECKING:
    from reprodebug.capture.launch import Recording


def _steps(word: str) -> tuple[int, int]:
    first, colon, end = word.partition(":")
    try:
        a = int(first) if first else 0
        b = (int(end) if end else 1 << 62) if colon else a + 1
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is no range of steps; write A:B, e.g. 10:12") from None
    if a < 0 or b <= a:
        raise argparse.ArgumentTypeError(f"{word!r} holds no step; write A:B with A < B, e.g. 10:12")
    return a, b


def _out(word: str) -> str:
    if not word:
        raise argparse.ArgumentTypeError("the name of the run directory is empty")
    return word


def parser() -> Parser:
    p = Parser(
        prog="reprodebug capture",
        usage="reprodebug capture [-o RUN] [options] -- COMMAND...",
        description="Run COMMAND exactly as typed and record it: environment, random state, data, and a fingerprint of every "
        "activation, gradient and parameter.",
    )
    p.add_argument("-o", "--out", type=_out, metavar="RUN", help="run directory to make (default: a new one below reprodebug-runs/)")
    p.add_argument("--level", choices=LEVELS, default="fingerprint", help="how much to keep of each tensor (default: fingerprint)")
    p.add_argument("--steps", type=_steps, metavar="A:B", help="keep tensors and statistics of steps A up to B only")
    p.add_argument("--modules", default="", metavar="GLOB", help="keep tensors and statistics of matching modules only")
    p.add_argument("--data", action="append", default=[], metavar="PATH", help="fingerprint this file or directory too (repeatable)")
    p.add_argument("--budget", type=size, metavar="BYTES", help="most bytes of tensors to keep, e.g. 500M (default: 8G)")
    p.add_argument("--against", metavar="RUN", help="compare with this run while it runs, and stop at the first divergence (exit code 143)")
    return p


def run(words: list[str]) -> int:
    """Parse, record, say what there is; returns COMMAND's own exit code."""
    if "--" in words:
        at = words.index("--")
        options, command = words[:at], words[at + 1 :]
    else:
        options, command = words, None
        stray = next((n for n, w in enumerate(words) if not w.startswith("-") and not _is_value(words, n)), None)
        if stray is not None:
            shown = " ".join(["reprodebug capture", *words[:stray], "--", *(shlex.quote(w) for w in words[stray:])])
            raise UsageError("the command must stand behind `--`", hint=visible(shown, 400))
    arguments = parser().parse_args(options)
    if not command:
        raise UsageError("no command was given", hint="reprodebug capture -- python train.py")
    if arguments.level == "fingerprint" and (arguments.steps or arguments.modules):
        raise UsageError("--steps and --modules choose which tensors are kept, and level fingerprint keeps none", hint="add --level full")
    from reprodebug import api

    recording = api.capture(
        command, arguments.out, level=arguments.level, steps=arguments.steps, modules=arguments.modules, budget=arguments.budget,
        data=arguments.data, against=arguments.against,
    )  # fmt: skip
    try:
        _report(recording)
        if arguments.against is not None:
            _against(arguments.against, recording)
    except (OSError, ValueError):
        pass
    return recording.exit_code


def _is_value(words: list[str], n: int) -> bool:
    """Whether word ``n`` is the value of the option before it."""
    with_value = {"-o", "--out", "--level", "--steps", "--modules", "--data", "--budget", "--against"}
    return n > 0 and words[n - 1] in with_value


def _report(recording: Recording) -> None:
    say = sys.stderr
    path = os.path.relpath(recording.path)
    shown = visible(path if not path.startswith(os.pardir + os.sep + os.pardir) else recording.path, 300)
    if recording.events:
        parts = [plural(recording.events, "record"), plural(recording.steps, "step")]
        if recording.ranks > 1:
            parts.append(plural(recording.ranks, "rank"))
        if recording.data_files:
            parts.append(plural(recording.data_files, "data file"))
        print(f"reprodebug: recorded {', '.join(parts)} at level {recording.level} in {shown}", file=say)
    else:
        print(f"reprodebug: no tensor was recorded ({recording.unreached.split(':')[0]})", file=say)
        print(f"  hint: {visible(recording.unreached, 400)}", file=say)
        print(f"  environment and code are in {shown}", file=say)
    for note in recording.notes[:8]:
        print(f"  note: {visible(note, 400)}", file=say)
    if recording.events:
        other = _another_run(recording.path)
        first = visible(os.path.relpath(other), 300) if other else "OTHER_RUN"
        print(f"  next: reprodebug compare {_quoted(first)} {_quoted(shown)}", file=say)


def _quoted(text: str) -> str:
    return text if text == "OTHER_RUN" else shlex.quote(text)


def _another_run(path: str) -> str:
    """The newest other run beside this one, which is most likely what it will be compared with."""
    folder = os.path.dirname(path)
    try:
        siblings = [e.path for e in os.scandir(folder) if e.path != path and os.path.isfile(os.path.join(e.path, "trace-rank0.h5"))]
        return max(siblings, key=lambda p: os.path.getmtime(os.path.join(p, "run.json")), default="")
    except OSError:
        return ""


def _against(reference: str, recording: Recording) -> None:
    from reprodebug import api
    from reprodebug._base.errors import ReprodebugError
    from reprodebug.cli import complain

    try:
        comparison = api.compare(reference, recording.path)
    except ReprodebugError as error:
        complain(error.message, error.hint)
        return
    print(f"  against {visible(reference)}: {comparison.verdict}, {visible(comparison.reason, 400)}", file=sys.stderr)
    if recording.stopped:
        why = "the first divergence" if comparison.verdict == "divergent" else f"the end of {visible(reference)}"
        print(f"  the command was stopped at {why}, after {plural(recording.steps, 'step')} (exit code 143)", file=sys.stderr)
