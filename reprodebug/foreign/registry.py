"""Every reader, and the reading of a whole directory with all of them."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
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


def read_all(path: str, wanted: str = "") -> list[Record]:
    """What every system says that left something in a directory (or in one file). Never raises for a broken record: that
    becomes a record with a note. ``wanted``: id or name of the run that is read where a tracker holds several; raises Unreadable
    where none is called so."""
    tree = Tree(path)
    found: list[Record] = []
    known: list[str] = []
    chosen = False
    for reader in readers():
        try:
            places = reader.find(tree)[:_MOST_PLACES]
            if wanted and hasattr(reader, "runs"):
                own = reader.runs(tree)
                known += own
                named = [p for p in own if wanted in (p, _name(p), p.rpartition("/")[2])] or [p for p in own if _name(p).startswith(wanted)]
                chosen |= bool(named)
                # the folders of a run that was resumed bear one name: the last one is read with those before it
                same = [p for p in named if _name(p) == _name(named[0])]
                places = same[-1:] or ([] if own else places)
        except Exception:  # noqa: BLE001 - what cannot even be looked for is not there
            continue
        for place in places:
            try:
                found.append(reader.read(tree, place))
            except Exception as error:  # noqa: BLE001 - one broken record must not take the others with it
                text = error.args[0] if isinstance(error, Unreadable) and error.args else f"{type(error).__name__}: {error}"
                where = os.path.basename(place.removeprefix("@work")) or "."
                by_name = isinstance(error, Unreadable) and str(text).startswith(place or ".")  # says by itself which file, and why
                what = "" if by_name else f"{where} could not be read: "
                found.append(Record(reader.NAME, place, notes=[f"{reader.NAME}: {what}{str(text)[:200]}"]))
    if wanted and not chosen:
        some = ", ".join(_name(p) for p in known[:8])
        raise Unreadable(f"{path} holds no run {wanted}" + (f"; it holds {some}{' ...' if len(known) > 8 else ''}" if some else ""))
    for record in found:
        _unpinned(record)
        _ended(tree, record)
    if tree.cut:
        found.append(Record("directory", "", notes=["the directory holds more files than are looked at"]))
    return found


def _name(place: str) -> str:
    """What people call the run at a place: its id or its folder."""
    last = re.split(r"[/#]", place.removesuffix("/run_operations.sqlite3"))[-1].removesuffix(".zip")
    return re.sub(r"^((offline-|dry)?run-\d{8}_\d{6}-|offline-(?=[0-9a-f]{32}$)|run__)", "", last)


_WRITTEN = re.compile(
    r"(^|/)(dvc\.lock|[^/]+\.dvc|\.hydra/\w+\.yaml|files/(requirements\.txt|config\.yaml)|(pip[-_]?)?freeze[\w.-]*\.txt"
    r"|conda[-_]list[\w.-]*\.txt)$"
)
"""text that a tool writes by itself: its last line ends like the others"""


def _ended(tree: Tree, record: Record) -> None:
    """Say of such a text that ends within a line that it was cut; what it does not name is not known."""
    for source in {f.source for f in record.facts.values() if _WRITTEN.search(f.source)} - record.open_ended:
        if tree.exists(source) and tree.read(source)[-1:] not in (b"\n", b""):
            record.cut(f"{source} ends within a line: what stands before the cut was read")
            groups = {(f.section, f.key.partition("/")[0]) for f in record.facts.values() if f.source == source}
            record.unknown |= {f"{group}/" if group == "package" else section for section, group in groups}


_LAKEFS = re.compile(r"lakefs://([\w.-]+)/([\w.~^@-]+)")


def _unpinned(record: Record) -> None:
    """A note for an address in lakeFS that is read at a branch: its data may have moved."""
    for fact in record.facts.values():
        for repo, ref in _LAKEFS.findall(fact.value) if isinstance(fact.value, str) and "lakefs://" in fact.value else ():
            text = f"{repo} is read at {ref}, a branch or tag: it is not pinned to a commit"
            if not re.fullmatch(r"[0-9a-f]{12,64}", ref) and text not in record.notes:
                record.notes.append(text)
