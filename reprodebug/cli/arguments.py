"""Argument parsing that the sub-commands share: errors as UsageError, colour, places for results."""

from __future__ import annotations

import argparse
import os
import sys
from typing import IO, Any, NoReturn

from reprodebug._base.errors import UsageError


class Parser(argparse.ArgumentParser):
    """argparse, with one sentence and a hint instead of the usage block."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help")

    def parse_args(self, *words: Any, **more: Any) -> Any:
        """As argparse does; and no two results may be written to one place."""
        found = super().parse_args(*words, **more)
        places = {name: place for name in ("json", "markdown", "log") if (place := getattr(found, name, None))}
        if len(set(places.values())) < len(places):
            self.error(f"{' and '.join('--' + name for name in places)} cannot all be written to one place")
        return found


def color_wanted(choice: str, stream: IO[str]) -> bool:
    """``--color``, then NO_COLOR and FORCE_COLOR, then whether ``stream`` is a terminal."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR") not in (None, "", "0"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def in_terminal() -> bool:
    """Whether a screen can be opened: stdout and stderr are terminals, and not dumb ones, and there is a keyboard."""
    if not (sys.stdout.isatty() and sys.stderr.isatty() and os.environ.get("TERM") not in (None, "", "dumb")):
        return False
    from reprodebug.tui import has_keyboard

    return has_keyboard()


def add_color(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="colour of the text (default: auto)")


def write_result(where: str, text: str) -> None:
    """Write to a file, or to stdout for ``-``. Raises UsageError when the file cannot be written."""
    if where == "-":
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()
        return
    try:
        with open(where, "w", encoding="utf-8", errors="backslashreplace") as f:
            f.write(text if text.endswith("\n") else text + "\n")
    except OSError as error:
        raise UsageError(f"{where} cannot be written: {error.strerror}", hint="choose another file, or - for stdout") from error


def writable(*files: str | None) -> None:
    """Refuse what ``write_result`` could not write, before work that takes long. Raises UsageError."""
    for file in files:
        if file and file != "-":
            folder = os.path.dirname(os.path.abspath(file))
            why = "it is a directory" if os.path.isdir(file) else "" if os.path.isdir(folder) else f"there is no directory {folder}"
            if not why and not os.access(file if os.path.exists(file) else folder, os.W_OK):
                why = "no permission"
            if why:
                raise UsageError(f"{file} cannot be written: {why}", hint="choose another file, or - for stdout")


def size(word: str) -> int:
    """``500M``, ``8G`` or a plain number of bytes. Raises argparse.ArgumentTypeError."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    text = word.strip().upper().removesuffix("IB").removesuffix("B")
    factor = units.get(text[-1:], 1)
    try:
        value = float(text[:-1] if factor > 1 else text) * factor
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is no size; write for example 500M or 8G") from None
    if value < 0 or value != value or value == float("inf"):
        raise argparse.ArgumentTypeError(f"{word!r} is no size; write for example 500M or 8G")
    return int(value)
