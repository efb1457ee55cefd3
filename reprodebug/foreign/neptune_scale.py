"""neptune-scale: ``.neptune/<project>_<run>_<time>/run_operations.sqlite3``.

Owns the operations log (protobuf messages of the ingest API): attributes, series, and ``source_code/``. The database is in WAL mode
and is never opened in a way that writes beside it.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

from reprodebug.foreign import _sqlite, _wire
from reprodebug.foreign._patch import diff_facts
from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

NAME = "Neptune Scale"
_SNAPSHOT = 0
_CODE = {
    "commit": "git_commit", "git/commit_id": "git_commit", "git/commit/id": "git_commit", "git/branch": "git_branch", "branch": "git_branch",
    "git/current_branch": "git_branch", "git/dirty": "git_dirty", "dirty": "git_dirty", "entry_point": "program", "command": "args", "run_command": "args",
    "git/remote": "git_remote",
}  # fmt: skip


def find(tree: Tree) -> list[str]:
    """Databases of runs; the newest where there are several."""
    return runs(tree)[-1:]


def runs(tree: Tree) -> list[str]:
    """Every database, the oldest first: its folder is named after project, run and time."""

    def age(place: str) -> tuple[int, str]:
        made = re.search(r"_(\d+)/[^/]*$", place)
        return (int(made[1]) if made else 0), place

    return sorted((f for f in tree.files if f.endswith("run_operations.sqlite3")), key=age)


def read(tree: Tree, place: str) -> Record:
    """One run. Raises Unreadable."""
    record = Record(NAME, place)
    with _sqlite.opened(tree, place) as db:
        known = _sqlite.tables(db)
        if "run_operations" not in known:
            raise Unreadable(f"{place} holds no operations")
        columns = [str(row[1]) for row in db.execute("pragma table_info(run_operations)")]
        blob = next((c for c in columns if c in ("operation", "payload", "data")), columns[-1])
        kind = next((c for c in columns if "type" in c), None)
        order = next((c for c in columns if c in ("sequence_id", "id")), "rowid")
        query = f'select "{blob}", {f"{chr(34)}{kind}{chr(34)}" if kind else "0"} from run_operations order by "{order}"'
        cut = 0
        for raw, number in db.execute(query):
            if number not in (_SNAPSHOT, None) or not isinstance(raw, bytes):
                continue
            try:
                _snapshot(record, _wire.message(raw), place)
            except _wire.Cut:
                cut += 1
    if cut:
        record.notes.append(f"{cut} operations of {posixpath.basename(place)} could not be read")
    return record


def _snapshot(record: Record, fields: dict[int, list[Any]], place: str) -> None:
    step: float | None = None
    for raw in fields.get(1, ()):
        own = _wire.message(raw)
        step = _wire.signed(own.get(1, [0])[0]) + _wire.signed(own.get(2, [0])[0]) / 1e6
    for raw in fields.get(4, ()):
        name, value = _pair(raw)
        if value is not None:
            _attribute(record, name, _value(value), place)
    for raw in fields.get(5, ()):
        name, value = _pair(raw)
        if value is not None and not name.startswith("sys/"):
            words = [
                _wire.text(_wire.message(v)[1][0])
                for rows in _wire.message(value).values()
                for v in rows
                if isinstance(v, memoryview) and 1 in _wire.message(v)
            ]
            record.add("config", name, sorted(words), place)
    for raw in fields.get(8, ()):
        name, value = _pair(raw)
        if value is None or name.startswith(("sys/", "runtime/", "monitoring/")):
            continue
        number = _value(value)
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            record.point(name, int(step or 0) if step is None or step == int(step) else step, float(number))


def _pair(raw: Any) -> tuple[str, Any]:
    own = _wire.message(raw)
    return (_wire.text(own[1][0]) if 1 in own else ""), (own[2][0] if 2 in own else None)


def _value(raw: Any) -> Any:
    own = _wire.message(raw)
    if 1 in own:
        return _wire.double(own[1][0])
    if 3 in own:
        return _wire.signed(own[3][0])
    if 5 in own:
        return bool(own[5][0])
    if 6 in own:
        return _wire.text(own[6][0])
    if 12 in own:
        return sorted(_wire.text(v) for v in _wire.message(own[12][0]).get(1, ()))
    return None


def _attribute(record: Record, name: str, value: Any, place: str) -> None:
    if value is None or name.startswith(("sys/", "runtime/", "monitoring/")):
        return
    if name.startswith("source_code/"):
        key = name.removeprefix("source_code/")
        if key.endswith(("diff", "patch")) and isinstance(value, str):
            diff_facts(record, value, place)
        elif key in _CODE and _CODE[key] == "args":
            _command(record, str(value), place)
        elif key in _CODE:
            record.add("code", _CODE[key], value, place)
        elif not any(word in key for word in ("date", "author", "message", "email")):
            record.add("code", key.replace("/", "_"), value, place)
    else:
        record.add("config", name, value, place)


def _command(record: Record, command: str, place: str) -> None:
    """The program and its arguments, without the interpreter and the place of the script."""
    words = command.split()
    script = next((n for n, word in enumerate(words) if word.endswith(".py")), None)
    if script is not None:
        record.add("code", "program", posixpath.basename(words[script]), place)
        words = words[script + 1 :]
    record.add("code", "args", " ".join(words), place)
