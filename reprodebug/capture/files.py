"""Fingerprints of data files that are named: with ``--data`` (directories as their files in sorted order), or by a string
in the program's sources. What a C or Rust library opens (HDF5, Parquet), and what is read before torch is
imported, raises no event that the recorder sees; a name in the sources tells of most of it.
"""

from __future__ import annotations

import ast
import os
import stat
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from reprodebug.recorder.files import hash_file
from reprodebug.recorder.fingerprint import hasher

MOST_FILES = 10_000
_MOST_NAMED = 100
"""files that are hashed because a source names them"""
_MOST_BYTES = 256 << 20
"""bytes of each of them; a larger one is left out"""
_MOST_SOURCE = 4 << 20
"""characters of source that are searched"""
_CODE = (".py", ".pyc", ".pyi", ".so", ".pyd", ".sh")


def describe_paths(paths: list[str], cwd: str) -> dict[str, Any]:
    """path -> {"size", "hash", "mode": "named"}; what cannot be read says ``why``. Follows no link to a directory."""
    algorithm, _, new = hasher()
    found: dict[str, Any] = {}
    for name in paths:
        top = os.path.abspath(os.path.join(cwd, name))
        if os.path.isdir(top):
            for folder, folders, files in os.walk(top):
                folders.sort()
                for file in sorted(files):
                    if len(found) < MOST_FILES:
                        path = os.path.join(folder, file)
                        found[path] = _describe(path, algorithm, new)
        else:
            found[top] = _describe(top, algorithm, new)
    return found


def named_by_sources(sources: Mapping[str, Any], known: Mapping[str, Any], cwd: str, started: float) -> dict[str, Any]:
    """path -> {"size", "hash", "mode": "named", "by": "source"} of files that a string in the sources names.

    Files in ``known``, and those that were changed since ``started``, are left out: what the program saw of them is not
    what lies there now. ``sources`` is a run's record of imported files: path -> {"text"}.
    """
    algorithm, _, new = hasher()
    found: dict[str, Any] = {}
    for text in _strings(sources):
        path = os.path.abspath(os.path.join(cwd, text))
        if path in known or path in found or path.endswith(_CODE) or len(found) >= _MOST_NAMED:
            continue
        try:
            about = os.stat(path)
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(about.st_mode) and about.st_size <= _MOST_BYTES and max(about.st_mtime, about.st_ctime) < started:
            found[path] = {**_describe(path, algorithm, new), "by": "source"}
    return found


def changed_since(data: dict[str, Any]) -> None:
    """Mark databases that were changed after the program connected to them: ``changed: true``."""
    for path, entry in data.items():
        if entry.get("database"):
            try:
                about = os.stat(path)
            except OSError:
                continue
            if (about.st_size, round(about.st_mtime, 3)) != (entry.get("size"), entry.get("modified")):
                entry["changed"] = True


def _strings(sources: Mapping[str, Any]) -> Iterator[str]:
    """String constants that look like a file's name."""
    left = _MOST_SOURCE
    for entry in sources.values():
        text = entry.get("text") if isinstance(entry, Mapping) else None
        if not isinstance(text, str) or len(text) > left:
            continue
        left -= len(text)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and 2 < len(node.value) < 500 and "." in node.value:
                yield node.value


def _describe(path: str, algorithm: str, new: Any) -> dict[str, Any]:
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            return {"mode": "named", "why": "no regular file"}
        digest, sampled = hash_file(path, about.st_size, algorithm, new)
        row: dict[str, Any] = {"mode": "named", "size": about.st_size, "hash": digest}
        if sampled:
            row["sampled"] = True
        return row
    except OSError as error:
        return {"mode": "named", "why": error.strerror or "cannot be read"}
