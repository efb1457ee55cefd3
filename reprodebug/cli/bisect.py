"""``reprodebug bisect``: find the cause by experiment."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from typing import TYPE_CHECKING

from reprodebug._base.errors import UsageError
from reprodebug._base.text import plural, visible
from reprodebug.cli.arguments import Parser, in_terminal, writable, write_result

if TYPE_CHECKING:
    from reprodebug.bisect.drive import Question

EXIT_CODES = {"found": 0, "not-found": 1, "ends-do-not-reproduce": 1, "inconclusive": 3}


def _seconds(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{word!r} is no number of seconds")
    return value


def _jobs(word: str) -> int:
    if not word.isdigit() or not 1 <= int(word) <= 1024:
        raise argparse.ArgumentTypeError(f"{word!r} is no number of trials; write 1 or more")
    return int(word)


def _options(word: str) -> dict[str, str]:
    found = dict(part.partition("=")[::2] for part in word.split(",") if part)
    if not all(k and v for k, v in found.items()):
        raise argparse.ArgumentTypeError(f"{word!r} is no list of KEY=VALUE, separated by commas")
    return found


def parser() -> Parser:
    p = Parser(
        prog="reprodebug bisect",
        usage="reprodebug bisect [A B] [--axis AXIS[,AXIS]] [--good REV --bad REV] [options] [-- COMMAND...]",
        description="Run the program again under mixtures of two circumstances until the smallest cause of their difference is proved.",
    )
    p.add_argument("runs", nargs="*", metavar="A B", help="two recorded runs")
    p.add_argument("--axis", default="", metavar="AXIS[,AXIS]", help="commits, settings, packages, env, config (default: all that differ)")
    p.add_argument(
        "--good", action="append", default=[], metavar="REV", help='a commit that is right, or pins: "numpy==1.26.4 pillow==10.0"'
    )
    p.add_argument("--bad", action="append", default=[], metavar="REV", help="a commit that is wrong, or pins")
    p.add_argument("--repo", default="", metavar="DIR", help="the repository to search (default: the one around this directory)")
    p.add_argument("--probe", metavar="SCRIPT", help="a script that decides, with the exit codes of `git bisect run`")
    p.add_argument("--first-parent", action="store_true", help="follow merges along their first parent only")
    p.add_argument("--path", action="append", default=[], metavar="PATH", help="only commits that touch this path (repeatable)")
    p.add_argument("--find-links", action="append", default=[], metavar="DIR", help="a folder or page with wheels (repeatable)")
    p.add_argument("--timeout", type=_seconds, metavar="S", help="seconds that a trial may take (default: six times the longer end)")
    p.add_argument("--jobs", type=_jobs, default=1, metavar="N", help="run up to N trials at once (default: 1; one per GPU)")
    p.add_argument(
        "--slurm", type=_options, metavar="KEY=VALUE,...", nargs="?", const={},
        help="run trials as jobs of a Slurm cluster, with parameters of submitit: slurm_partition=gpu,gpus_per_node=1",
    )  # fmt: skip
    p.add_argument("--resume", action="store_true", help="go on with the same search where it was interrupted")
    p.add_argument("--list", action="store_true", help="list the sessions that there are")
    p.add_argument("--clean", action="store_true", help="remove every session that is not running")
    p.add_argument("--headless", action="store_true", help="print plain text")
    p.add_argument("--markdown", metavar="FILE", help="write the result as Markdown (- for stdout)")
    p.add_argument("--json", metavar="FILE", help="write the result as JSON (- for stdout)")
    p.add_argument("--log", metavar="FILE", help="write the search in the form of `git bisect log` (- for stdout)")
    return p


def run(words: list[str]) -> int:
    """Parse, search, present; returns the exit code of the outcome."""
    at = words.index("--") if "--" in words else len(words)
    if at == len(words):
        _no_bare_command(words)
    arguments = parser().parse_args(words[:at])
    command = tuple(words[at + 1 :])
    if arguments.list or arguments.clean:
        return _sessions(arguments)
    if arguments.resume and not (arguments.runs or arguments.good or arguments.bad or command or arguments.probe):
        from reprodebug.bisect import session

        stopped = [s.what for s in session.known() if s.state == "stopped"]
        hint = f"reprodebug bisect --resume {visible(stopped[-1], 300)}" if stopped else "there is none that was interrupted"
        raise UsageError("--resume needs the words of the search that was interrupted", hint=hint)
    if len(arguments.runs) not in (0, 2):
        stray = arguments.runs[0]
        hint = "give both runs: reprodebug bisect A B" if os.path.isdir(stray) else "the command must stand behind `--`"
        raise UsageError(f"{plural(len(arguments.runs), 'run')} given, two are needed", hint=hint)
    writable(arguments.markdown, arguments.json, arguments.log)
    from reprodebug import api
    from reprodebug.bisect.drive import Question
    from reprodebug.cli import progress

    a, b = (os.path.abspath(r) for r in arguments.runs) if arguments.runs else ("", "")
    probe = tuple(shlex.split(arguments.probe)) if arguments.probe else ()
    if probe and os.path.exists(probe[0]):
        probe = (os.path.abspath(probe[0]), *probe[1:])
        if not os.access(probe[0], os.X_OK):
            raise UsageError(f"the probe {arguments.probe} is not executable", hint=f"chmod +x {probe[0]}")
    question = Question(
        a, b, tuple(x for x in arguments.axis.split(",") if x), tuple(arguments.good), tuple(arguments.bad), command, arguments.repo, probe,
        arguments.first_parent, tuple(arguments.path), tuple(os.path.abspath(x) if os.path.isdir(x) else x for x in arguments.find_links),
        arguments.timeout, arguments.jobs, arguments.slurm,
    )  # fmt: skip
    if not (arguments.headless or arguments.markdown or arguments.json or arguments.log) and in_terminal():
        return _on_screen(question, words, arguments.resume)
    try:
        result = api.bisect(question, resume=arguments.resume, listen=progress.Lines())
    except KeyboardInterrupt:
        print("reprodebug: interrupted; `reprodebug bisect --resume` with the same words goes on", file=sys.stderr)
        raise
    from reprodebug.report import bisection

    if arguments.markdown:
        write_result(arguments.markdown, bisection.to_markdown(result))
    if arguments.json:
        write_result(arguments.json, bisection.to_json(result))
    if arguments.log:
        from reprodebug.bisect.log import git_log

        good, bad = " ".join(arguments.good), " ".join(arguments.bad)
        write_result(arguments.log, git_log(result, good, bad, first_parent=arguments.first_parent, paths=tuple(arguments.path)))
    if "-" not in (arguments.markdown, arguments.json, arguments.log):
        write_result("-", bisection.to_text(result, min(shutil.get_terminal_size((100, 24)).columns, 120)))
    return EXIT_CODES[result.outcome]


def _no_bare_command(words: list[str]) -> None:
    """Raises UsageError, with the right form, where a program stands among the words and no ``--`` before it."""
    runs = parser().parse_known_args(words)[0].runs
    if runs and not os.path.isdir(runs[0]) and shutil.which(runs[0]):
        at = words.index(runs[0])
        right = shlex.join(["reprodebug", "bisect", *words[:at], "--", *words[at:]])
        raise UsageError("the command must stand behind `--`", hint=visible(right, 300))


def _on_screen(question: Question, words: list[str], resume: bool) -> int:
    """The search in the TUI; what it found is printed once the screen is gone."""
    from reprodebug import api
    from reprodebug.report import bisection
    from reprodebug.tui import run_bisect

    command = "reprodebug bisect --headless " + shlex.join(words)
    code, result = run_bisect(
        lambda go_on, listen, control: api.bisect(question, resume=go_on, listen=listen, control=control),
        command,
        EXIT_CODES,
        resume=resume,
    )
    if result is not None:
        write_result("-", bisection.to_text(result, min(shutil.get_terminal_size((100, 24)).columns, 120)))
    elif code == 130:
        print("reprodebug: interrupted; `reprodebug bisect --resume` with the same words goes on", file=sys.stderr)
    return code


def _sessions(arguments: argparse.Namespace) -> int:
    from reprodebug.bisect import session

    if arguments.clean:
        print(f"{plural(session.clean(), 'session')} removed from {visible(session.home())}")
        return 0
    found = session.known()
    for s in found:
        print(f"{os.path.basename(s.path)}  {s.state:22} {plural(s.trials, 'trial'):>10}  {visible(s.what, 120)}")
    if not found:
        print(f"no session in {visible(session.home())}")
    return 0
