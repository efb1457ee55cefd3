"""Every reader, and the reading of a whole directory with all of them."""

from __future__ import annotations

import importlib
import os
import pkgutil
from typing import Any

from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

_HELPERS = frozenset({"protocol", "registry", "tree"})
_MOST_PLACES = 200
"""places read of one system"""


def readers() -> list[Any]:
    """Every module of this package that is a reader, in order of their names."""
    import reprodebug.foreign as package

    found = []
    for info in pkgutil.iter_modules(package.__path__):
        if info.name not in _HELPERS and not info.name.startswith("_"):
            module = importlib.import_module(f"reprodebug.foreign.{info.name}")
            if hasattr(module, "NAME"):
                found.append(module)
    return found


def read_all(path: str) -> list[Record]:
    """What every system says that left something in a directory (or in one file). Never raises for a broken record: that
    becomes a record with a note."""
    tree = Tree(path)
    found: list[Record] = []
    for reader in readers():
        try:
            places = reader.find(tree)[:_MOST_PLACES]
        except (OSError, ValueError):
            continue
        for place in places:
            try:
                found.append(reader.read(tree, place))
            except (Unreadable, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, MemoryError) as error:
                text = error.args[0] if isinstance(error, Unreadable) and error.args else f"{type(error).__name__}: {error}"
                where = os.path.basename(place) or place or "."
                found.append(Record(reader.NAME, place, notes=[f"{reader.NAME}: {where} could not be read: {str(text)[:200]}"]))
    if tree.cut:
        found.append(Record("directory", "", notes=["the directory holds more files than are looked at"]))
    return found
