"""``reprodebug check``: is a command reproducible on this machine?"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from reprodebug._base.errors import UsageError
from reprodebug._base.text import plural, visible
from reprodebug.cli.arguments import Parser, add_color, color_wanted, writable, write_result

FAILED = 3


def _runs(word: str) -> int:
    try:
        value = int(word)
    except ValueError:
        value = 0
    if value < 2:
        raise argparse.ArgumentTypeError(f"{word!r} is no number of runs; at least 2 are compared")
    return value


def parser() -> Parser:
    p = Parser(
        prog="reprodebug check",
        usage="reprodebug check [-n RUNS] [--neutral] [--minimize] -- COMMAND...",
        description="Run COMMAND several times and say whether every run is the same bit for bit, or where they part first.",
    )
    p.add_argument("command", nargs="*", help=argparse.SUPPRESS)
    p.add_argument("-n", type=_runs, default=2, metavar="RUNS", help="how often to run it (default: 2)")
    p.add_argument("--neutral", action="store_true", help="also run it unrecorded, and compare what it prints and returns")
    p.add_argument("--minimize", action="store_true", help="if it does not repeat: find the smallest set of settings under which it does")
    p.add_argument(
        "--keep", metavar="DIR", help="keep the recorded runs in this new directory (default: only runs that differ, in a temporary one)"
    )
    p.add_argument("--json", metavar="FILE", help="write the diagnosis as JSON (- for stdout)")
    p.add_argument("--markdown", metavar="FILE", help="write the diagnosis as Markdown (- for stdout)")
    add_color(p)
    return p


def run(words: list[str]) -> int:
    """Parse, run, compare; returns the exit code of the contract."""
    if "--" not in words:
        parser().parse_args(words)  # answers --help, and names a wrong option
        raise UsageError("the command must stand behind `--`", hint="reprodebug check -- python train.py")
    at = words.index("--")
    arguments, command = parser().parse_args(words[:at]), words[at + 1 :]
    if not command:
        raise UsageError("no command was given", hint="reprodebug check -- python train.py")
    writable(arguments.markdown, arguments.json)
    if arguments.keep and os.path.exists(arguments.keep) and not (os.path.isdir(arguments.keep) and not os.listdir(arguments.keep)):
        raise UsageError(f"{arguments.keep} exists and is not empty", hint="choose a new directory for --keep")
    folder = os.path.abspath(arguments.keep) if arguments.keep else tempfile.mkdtemp(prefix="reprodebug-check-")
    code = None
    try:
        code = _check(arguments, command, folder)
        return code
    finally:
        if not arguments.keep and code != 1:  # runs that differ are what the next command needs
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _aside(arguments: argparse.Namespace) -> Iterator[None]:
    """What is printed goes to stderr while a document has stdout."""
    if "-" not in (arguments.json, arguments.markdown):
        yield
        return
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def _check(arguments: argparse.Namespace, command: list[str], folder: str) -> int:
    from reprodebug import api
    from reprodebug._base.errors import CaptureFailed

    say = sys.stderr
    paths = []
    for n in range(arguments.n):
        print(f"reprodebug: run {n + 1} of {arguments.n}", file=say, flush=True)
        try:
            with _aside(arguments):
                recording = api.capture(command, os.path.join(folder, f"run-{n + 1}"))
        except CaptureFailed as error:
            raise UsageError(error.message, hint=error.hint) from error
        if recording.exit_code >= 128:
            return 130 if recording.exit_code == 130 else FAILED
        if recording.exit_code:
            print(f"reprodebug: the command failed with exit code {recording.exit_code}", file=say)
            return FAILED
        if not recording.events:
            print(f"reprodebug: nothing was recorded ({visible(recording.unreached, 300)})", file=say)
            return FAILED
        paths.append(recording.path)
        if n:
            found = api.compare(paths[0], paths[-1])
            if found.verdict == "divergent":
                _show(arguments, found)
                print(f"  the runs are kept in {visible(folder)}", file=say)
                if arguments.minimize:
                    with _aside(arguments):
                        return _minimize(command)
                print("  next: reprodebug check --minimize -- COMMAND finds the settings under which it repeats", file=say)
                return 1
    if arguments.neutral:
        with _aside(arguments):
            code = _neutral(command, folder)
        if code:
            return code
    comparison = api.compare(paths[0], paths[1])
    _show(arguments, comparison, brief=True)
    if comparison.verdict == "incomparable":
        return FAILED
    with _aside(arguments):
        print(f"{plural(len(paths), 'run')} are identical: {visible(comparison.reason, 400)}")
    return 0


def _show(arguments: argparse.Namespace, comparison: object, brief: bool = False) -> None:
    from reprodebug.model.comparison import Comparison

    assert isinstance(comparison, Comparison)
    if arguments.json:
        from reprodebug.report import json

        write_result(arguments.json, json.render(comparison))
    if arguments.markdown:
        from reprodebug.report import markdown

        write_result(arguments.markdown, markdown.render(comparison))
    if not brief and "-" not in (arguments.json, arguments.markdown):
        from reprodebug.report import text

        width = min(shutil.get_terminal_size((100, 24)).columns, 120)
        write_result("-", text.render(comparison, color=color_wanted(arguments.color, sys.stdout), width=width))


def _minimize(command: list[str]) -> int:
    from reprodebug import api
    from reprodebug.bisect.drive import Question
    from reprodebug.cli import progress
    from reprodebug.report import bisection

    result = api.bisect(Question(axes=("settings",), command=tuple(command)), listen=progress.Lines())
    write_result("-", "\n" + bisection.to_text(result, min(shutil.get_terminal_size((100, 24)).columns, 120)))
    return 1


def _neutral(command: list[str], folder: str) -> int:
    """The command unrecorded and recorded: what it prints and returns must be the same."""
    import subprocess

    plain = subprocess.run(command, capture_output=True)
    recorded = subprocess.run(
        [sys.executable, "-m", "reprodebug", "capture", "-o", os.path.join(folder, "neutral"), "--", *command], capture_output=True
    )  # fmt: skip
    if (plain.returncode, plain.stdout) == (recorded.returncode, recorded.stdout):
        print("recorded and unrecorded, the command prints and returns the same")
        return 0
    print("recorded and unrecorded, the command prints or returns something else: it varies by itself, or recording changes it")
    return 1
