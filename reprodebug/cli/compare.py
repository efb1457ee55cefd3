"""``reprodebug compare``: the first divergence of two runs."""

from __future__ import annotations

import argparse
import sys

from reprodebug.cli.arguments import Parser, add_color, color_wanted, in_terminal, write_result
from reprodebug.model.comparison import Tolerance

EXIT_CODES = {"identical": 0, "equivalent": 0, "divergent": 1, "incomparable": 3}


def _positive(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is no number") from None
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{word!r} is no tolerance: it must be 0 or more, and finite")
    return value


def _ulps(word: str) -> int:
    try:
        value = int(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number") from None
    if value < 0:
        raise argparse.ArgumentTypeError(f"{word!r} is no tolerance: it must be 0 or more")
    return value


_DETAILS = ("steps", "draws", "batches", "records")
"""parts that need the records behind the comparison"""
_PARTS = ("verdict", "first", "environment", "random-state", "data", "layers", "loss", "causes", "coverage", *_DETAILS)


def _parts(words: str) -> tuple[str, ...]:
    parts = tuple(words.split(","))
    for part in parts:
        if part not in _PARTS:
            raise argparse.ArgumentTypeError(f"{part!r} is no part of the report; there are {', '.join(_PARTS)}")
    return parts


def parser() -> Parser:
    p = Parser(
        prog="reprodebug compare",
        usage="reprodebug compare A B [options]",
        description="Align two recorded runs and find the first thing that differs. Opens the TUI in a terminal.",
    )
    p.add_argument("a", metavar="A", help="run directory")
    p.add_argument("b", metavar="B", help="run directory")
    p.add_argument("--headless", action="store_true", help="print the result as text, open no TUI")
    p.add_argument("--markdown", metavar="FILE", help="write the diagnosis as Markdown (- for stdout)")
    p.add_argument("--json", metavar="FILE", help="write the diagnosis as JSON (- for stdout)")
    p.add_argument("--rtol", type=_positive, default=0.0, metavar="R", help="relative tolerance, |a-b| <= A + R*|b|")
    p.add_argument("--atol", type=_positive, default=0.0, metavar="A", help="absolute tolerance")
    p.add_argument("--ulps", type=_ulps, default=0, metavar="N", help="tolerance in units in the last place")
    p.add_argument(
        "--noise", action="append", default=[], metavar="RUN", help="a further recording of A or of B: its own noise is the yardstick"
    )
    p.add_argument("--only", type=_parts, default=(), metavar="PART,..", help=f"print these parts alone: {', '.join(_PARTS)}")
    p.add_argument("--verbose", action="store_true", help="list harmless differences too")
    add_color(p)
    return p


def run(words: list[str]) -> int:
    """Parse, compare, present; returns the exit code of the verdict."""
    arguments = parser().parse_args([w for w in words if w != "--"])
    tolerance = Tolerance(arguments.rtol, arguments.atol, arguments.ulps)
    from reprodebug import api

    headless = arguments.headless or arguments.only or arguments.markdown or arguments.json
    if not headless and in_terminal():
        from reprodebug.tui import run_compare

        a, b, noise = arguments.a, arguments.b, arguments.noise
        return run_compare(
            lambda say: api.examine(a, b, tolerance=tolerance, noise=noise, say=say),
            lambda say: api.examine(b, a, tolerance=tolerance, noise=noise, say=say),
        )
    comparison, evidence = api.examine(arguments.a, arguments.b, tolerance=tolerance, noise=arguments.noise)
    if arguments.markdown:
        from reprodebug.report import markdown

        write_result(arguments.markdown, markdown.render(comparison))
    if arguments.json:
        from reprodebug.report import json

        write_result(arguments.json, json.render(comparison))
    if "-" not in (arguments.markdown, arguments.json):
        import shutil

        from reprodebug.report import text

        width = min(shutil.get_terminal_size((100, 24)).columns, 120)
        color = color_wanted(arguments.color, sys.stdout)
        if not set(arguments.only) & set(_DETAILS):
            write_result("-", text.render(comparison, color=color, width=width, verbose=arguments.verbose, only=arguments.only))
        else:
            from reprodebug.cli import details

            for part in arguments.only:
                if part in _DETAILS:
                    write_result("-", details.render(comparison, evidence, part, verbose=arguments.verbose))
                else:
                    write_result("-", text.render(comparison, color=color, width=width, verbose=arguments.verbose, only=(part,)))
    return EXIT_CODES[comparison.verdict]
