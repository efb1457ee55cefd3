"""Fingerprints of the data that the user named with ``--data``: files, and directories as their files in sorted order."""

from __future__ import annotations

import os
import stat
from typing import Any

from reprodebug.recorder.files import hash_file
from reprodebug.recorder.fingerprint import hasher

MOST_FILES = 10_000


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
