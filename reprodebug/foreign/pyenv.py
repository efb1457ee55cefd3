"""pyenv: ``.python-version`` (uv writes it too) and ``$PYENV_ROOT/version``. The first version counts; the rest are fallbacks."""

from __future__ import annotations

from reprodebug.foreign.protocol import Record
from reprodebug.foreign.tree import Tree

NAME = "pyenv"


def find(tree: Tree) -> list[str]:
    """Version files of the project."""
    return [f for f in tree.files if f.rsplit("/", 1)[-1] == ".python-version" or (f in ("version", ".pyenv/version", "pyenv/version")
            and (tree.single or "pyenv" in f or "pyenv" in tree.root))]  # fmt: skip


def read(tree: Tree, place: str) -> Record:
    """The version asked for."""
    record = Record(NAME, place, rank=1)
    words = [w for line in tree.lines(place) for w in line.partition("#")[0].replace(":", " ").split()]
    if words:
        record.add("environment", "python", words[0].removeprefix("python-").removeprefix("cpython-"), place)
    return record
