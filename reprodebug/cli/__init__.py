"""Floor 9: argv and exit codes. One module per sub-command, found by the command's name.

Only here are errors turned into exit codes and words into stderr. Start-up counts: a sub-command imports what it
needs when it runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from reprodebug._base.errors import CaptureFailed, NothingComparable, ReprodebugError
from reprodebug._base.text import visible

BAD_USAGE = 2
NOTHING_COMPARABLE = 3
CAPTURE_FAILED = 125
INTERRUPTED = 130
READER_GONE = 141
"""128 + SIGPIPE, as of a program that the signal ends: 0 would say "identical" """

HELP = """\
reprodebug: find the first thing that differs between two machine-learning runs, and say why.

  reprodebug capture [-o RUN] -- COMMAND...   record a run; COMMAND is run exactly as typed
  reprodebug compare A B                      the first divergence of two runs (TUI in a terminal)
  reprodebug bisect --good REV --bad REV -- COMMAND...   find the commit, by running COMMAND at some of them
  reprodebug bisect A B                       find which of the differences between two runs is the cause, by experiment
  reprodebug check -- COMMAND...              does COMMAND repeat itself, bit for bit?
  reprodebug zoom A B                         run both again, just around the divergence: which operation, by how much?
  reprodebug show RUN                         what one run recorded

Start with:   reprodebug capture -o runs/a -- python train.py
              reprodebug capture -o runs/b -- python train.py
              reprodebug compare runs/a runs/b

`reprodebug COMMAND --help` tells the options of one command. Without a terminal, or with --headless, the same is
printed as plain text, which is also the form for screen readers.
"""

COMMANDS = ("capture", "compare", "bisect", "check", "zoom", "show")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code of the contract."""
    words = list(sys.argv[1:] if argv is None else argv)
    _streams()
    try:
        try:
            return _dispatch(words)
        finally:
            sys.stdout.flush()  # argparse leaves its help to the end of the process, where an error could not be told
    except ReprodebugError as error:
        complain(error.message, error.hint)
        return _code(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # the reader of our output has gone: nothing more to say, and nothing to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return READER_GONE
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        where = f" ({error.filename})" if error.filename else ""
        complain(f"{error.strerror or error}{where}", "is there space on the disk, and may this directory be read and written?")
        return CAPTURE_FAILED if words[:1] == ["capture"] else BAD_USAGE


def _streams() -> None:
    """No text of a run and no closed descriptor makes printing fail."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if words[0] in ("-V", "--version"):
        from reprodebug import __version__

        print(f"reprodebug {__version__}")
        return 0
    name = words[0]
    if name not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(name, COMMANDS, 1)
        complain(f"there is no command {name!r}", f"did you mean `reprodebug {near[0]}`?" if near else "reprodebug --help lists them")
        return BAD_USAGE
    import importlib

    module = importlib.import_module(f"reprodebug.cli.{name}")
    return int(module.run(words[1:]))


def _code(error: ReprodebugError) -> int:
    if isinstance(error, NothingComparable):
        return NOTHING_COMPARABLE
    if isinstance(error, CaptureFailed):
        return CAPTURE_FAILED
    return BAD_USAGE


def complain(message: str, hint: str = "") -> None:
    """One sentence and a hint on stderr; nothing from a run reaches the terminal raw."""
    print(f"reprodebug: {visible(message, 400)}", file=sys.stderr)
    if hint:
        print(f"  hint: {visible(hint, 400)}", file=sys.stderr)
