"""SQLite opened so that nothing is written beside it: immutable where no write-ahead log waits, else a copy in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from urllib.parse import quote

from reprodebug.foreign.protocol import Unreadable
from reprodebug.foreign.tree import Tree

MAX_BYTES = 2 << 30
_LONGEST_VALUE = 64 << 20
_LIMIT_S = 60


@contextlib.contextmanager
def opened(tree: Tree, name: str) -> Iterator[sqlite3.Connection]:
    """A read-only connection. Raises Unreadable for what is no database."""
    path = tree.path(name)
    if not tree.exists(name) or tree.size(name) > MAX_BYTES:
        raise Unreadable(f"{name} is not there or larger than {MAX_BYTES >> 30} GiB")
    if tree.read(name, 16) != b"SQLite format 3\0":
        raise Unreadable(f"{name} is no SQLite database")
    waiting = [f"{name}{suffix}" for suffix in ("-wal", "-journal") if tree.exists(f"{name}{suffix}") and tree.size(f"{name}{suffix}")]
    with tempfile.TemporaryDirectory(prefix="reprodebug-") as folder:
        if waiting:
            copy = os.path.join(folder, "copy.db")
            shutil.copyfile(path, copy)
            for other in waiting:
                shutil.copyfile(tree.path(other), copy + other[len(name) :])
            uri = f"file:{quote(copy)}"
        else:
            uri = f"file:{quote(path)}?mode=ro&immutable=1"
        try:
            connection = sqlite3.connect(uri, uri=True)
            connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
            end = time.monotonic() + _LIMIT_S
            connection.set_progress_handler(lambda: time.monotonic() > end, 1_000_000)
            connection.execute("pragma trusted_schema=off")
            connection.execute("pragma query_only=on")
        except sqlite3.Error as error:
            raise Unreadable(f"{name} cannot be opened: {error}") from error
        try:
            yield connection
        except sqlite3.Error as error:
            raise Unreadable(f"{name} is damaged: {error}") from error
        finally:
            connection.close()


def tables(connection: sqlite3.Connection) -> set[str]:
    """Names of the tables."""
    return {str(row[0]) for row in connection.execute("select name from sqlite_master where type = 'table'")}
