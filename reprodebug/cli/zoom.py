"""``reprodebug zoom``: the first operation that differs, both runs being run again just around their divergence."""

from __future__ import annotations

import argparse
import shutil
import sys

from reprodebug._base.errors import UsageError
from reprodebug._base.text import visible
from reprodebug.cli.arguments import Parser, size, writable, write_result

EXIT_CODES = {"found": 0, "not-found": 1, "not-repeatable": 1, "not-reproduced": 1}


def parser() -> Parser:
    p = Parser(
        prog="reprodebug zoom",
        usage="reprodebug zoom A B [options]",
        description="Run both recorded commands again, up to their first divergence, and find the operation that makes it. Each runs in a "
        "fresh copy of its project and is ended right there; exit code 0 when an operation, or where else the difference enters, was found.",
    )
    p.add_argument("a", metavar="A", help="a run directory of `reprodebug capture`")
    p.add_argument("b", metavar="B", help="another")
    p.add_argument("--counterfactual", action="store_true",
                   help="also put A's tensor or generator state into B at the suspected point, and the reverse")  # fmt: skip
    p.add_argument("--max-bytes", type=size, default=None, metavar="SIZE",
                   help="memory and disk for the operations and tensors of one execution (default: 1G)")  # fmt: skip
    p.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="end an execution that takes longer")
    p.add_argument("--keep", default="", metavar="DIR", help="keep the executions in this new directory")
    p.add_argument("--headless", action="store_true", help="print text (zoom opens no TUI)")
    p.add_argument("--markdown", metavar="FILE", help="write the answer as Markdown (- for stdout)")
    p.add_argument("--json", metavar="FILE", help="write the answer as JSON (- for stdout)")
    return p


def _seconds(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{word!r} is no number of seconds")
    return value


def run(words: list[str]) -> int:
    """Parse, zoom, present; returns the exit code."""
    if "--" in words and words[words.index("--") + 1 :]:
        raise UsageError("two recorded runs have their own command", hint="reprodebug zoom A B, without anything behind --")
    arguments = parser().parse_args([w for w in words if w != "--"])
    if arguments.max_bytes is not None and arguments.max_bytes < 1 << 16:
        raise UsageError("--max-bytes is too small to write anything down", hint="at least 64K; 1G is the default")
    writable(arguments.markdown, arguments.json)
    from reprodebug import api

    result = api.zoom(
        arguments.a, arguments.b, max_bytes=arguments.max_bytes, timeout=arguments.timeout, counterfactual=arguments.counterfactual,
        keep=arguments.keep, say=_say,
    )  # fmt: skip
    from reprodebug.report import zoom

    if arguments.markdown:
        write_result(arguments.markdown, zoom.to_markdown(result))
    if arguments.json:
        write_result(arguments.json, zoom.to_json(result))
    if "-" not in (arguments.markdown, arguments.json):
        write_result("-", zoom.to_text(result, min(shutil.get_terminal_size((100, 24)).columns, 120)))
    return EXIT_CODES[result.outcome]


def _say(text: str) -> None:
    print(visible(text, 400), file=sys.stderr, flush=True)
