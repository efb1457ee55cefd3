"""A directory as readers see it: names first, bytes on demand, nothing outside it, nothing written."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property

MAX_ENTRIES = 200_000
MAX_BYTES = 256 << 20
"""of one file read whole"""
_SKIPPED = frozenset({"__pycache__", "node_modules", ".mypy_cache", ".ruff_cache", ".pytest_cache"})


class Tree:
    """A directory (or one file, then its folder is the root and only that file is seen)."""

    def __init__(self, path: str, *, most: int = MAX_ENTRIES, leave_out: tuple[str, ...] = ()) -> None:
        """``most``: entries looked at; ``leave_out``: names of folders that are not entered."""
        self._most = most
        self._leave_out = _SKIPPED | set(leave_out)
        self.single = os.path.isfile(path)
        self.root = os.path.dirname(os.path.abspath(path)) if self.single else os.path.abspath(path)
        self._only = os.path.basename(path) if self.single else ""
        self.cut = False
        """there are more entries than were looked at"""

    @cached_property
    def files(self) -> list[str]:
        """Relative paths of all regular files, ``/`` between parts, sorted; links to directories are not followed, links
        that lead out of the root are left out."""
        if self.single:
            return [self._only]
        found: list[str] = []
        seen = 0
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(os.path.join(self.root, *folder.split("/"))) as entries:
                    own = sorted(entries, key=lambda e: e.name)
            except OSError:
                continue
            below = []
            for entry in own:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in self._leave_out:
                        below.append(name)
                    continue
                seen += 1
                if seen > self._most:
                    self.cut = True
                    return sorted(found)
                # a regular file in a folder that was entered lies inside; where a link leads has to be looked up
                if entry.is_file(follow_symlinks=False) or (entry.is_symlink() and self._inside(entry.path)):
                    found.append(name)
            folders += reversed(below)
        return sorted(found)

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.files)

    @cached_property
    def folders(self) -> list[str]:
        """Relative paths of every folder that holds a file, directly or below; without the root."""
        found: set[str] = set()
        for name in self.files:
            parts = name.split("/")[:-1]
            found.update("/".join(parts[: n + 1]) for n in range(len(parts)))
        return sorted(found)

    def match(self, *patterns: str) -> list[str]:
        """Files whose relative path or own name matches one of the shell patterns."""
        wanted = re.compile("|".join(f"(?:.*/)?(?:{fnmatch.translate(p)})" for p in patterns)).match
        return [f for f in self.files if wanted(f)]

    def below(self, folder: str) -> list[str]:
        """Files below a folder (``""``: all)."""
        prefix = folder.rstrip("/") + "/" if folder else ""
        start = bisect_left(self.files, prefix)
        end = bisect_left(self.files, prefix[:-1] + "0") if prefix else len(self.files)  # "0" comes after "/"
        return self.files[start:end]

    def exists(self, name: str) -> bool:
        return name in self._known or self._inside(self.path(name))

    def path(self, name: str) -> str:
        """The absolute path of a relative one. For libraries that open by path; readers check ``exists`` first."""
        return os.path.join(self.root, *name.split("/")) if name else self.root

    def size(self, name: str) -> int:
        return os.stat(self.path(name)).st_size

    def read(self, name: str, limit: int = MAX_BYTES) -> bytes:
        """The first ``limit`` bytes of a file. Raises OSError, and FileNotFoundError for a path that leads out."""
        path = self.path(name)
        if not self.exists(name):
            raise FileNotFoundError(name)
        with open(path, "rb") as f:
            return f.read(min(limit, os.fstat(f.fileno()).st_size))

    def text(self, name: str, limit: int = 16 << 20) -> str:
        """The same as text: UTF-8, a byte-order mark dropped, what is no UTF-8 replaced."""
        return self.read(name, limit).decode("utf-8-sig", "replace")

    def lines(self, name: str) -> Iterator[str]:
        """Lines of a text file."""
        yield from self.text(name).splitlines()

    @cached_property
    def _real_root(self) -> str:
        return os.path.join(os.path.realpath(self.root), "")

    def _inside(self, path: str) -> bool:
        try:
            real = os.path.realpath(path)
            if not real.startswith(self._real_root):
                return False
            return stat.S_ISREG(os.stat(real).st_mode)
        except (OSError, ValueError):
            return False
