"""pyenv: ``.python-version`` (uv writes it too) and ``$PYENV_ROOT/version``. The first version counts; the rest are fallbacks."""

from __future__ import annotations

import re

from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

NAME = "pyenv"


def find(tree: Tree) -> list[str]:
    """Version files: of the project, and pyenv's own ``version``."""
    return [
        f
        for f in tree.files
        if f.rsplit("/", 1)[-1] == ".python-version"
        or (
            f.rsplit("/", 1)[-1] == "version"
            and ("pyenv" in f or "pyenv" in tree.root or tree.single or f == "version")
            and _versions(tree, f)
        )
    ]


def _versions(tree: Tree, name: str) -> list[str]:
    """The versions that a file names, in order; none where it holds anything else."""
    words = [w for line in tree.text(name, 1 << 14).splitlines() for w in line.partition("#")[0].replace(":", " ").split()]
    fits = all(re.fullmatch(r"system|\d+(\.\d+)*([a-z]+\d*)?(-dev|t)?|[a-z][\w.+@-]*", w) for w in words)
    return words if fits and len(words) < 50 else []


def read(tree: Tree, place: str) -> Record:
    """The version asked for."""
    record = Record(NAME, place, rank=1)
    words = _versions(tree, place)
    if not words:
        raise Unreadable(f"{place} names no version")
    # uv pins as ``cpython-3.11.7-linux-x86_64-gnu`` what pyenv calls 3.11.7
    named = re.fullmatch(r"c?python[-@]?(\d[\w.]*?)(?:-(?:linux|macos|windows)[\w.-]*)?", words[0])
    record.add("environment", "python", named[1] if named else words[0], place)
    return record
