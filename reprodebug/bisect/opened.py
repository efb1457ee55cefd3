"""Which files of a working tree a trial opened and which of its folders it listed: told by the kernel, of every process.

Owns the watch (inotify, Linux) and the question whether a change of the tree can have reached such a trial. What cannot be
watched, or was not seen whole, is unknown and answers nothing.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import select
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

MOST_FOLDERS = 4000
_OPEN, _OVERFLOW, _IS_FOLDER = 0x20, 0x4000, 0x40000000
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_EVENT = struct.Struct("iIII")
_NAMED = re.compile(r"\.(py|pyi|md|rst|ipynb)$|(^|/)(LICEN[CS]E|NOTICE|AUTHORS|CHANGELOG)[^/]*$|(^|/)\.github/", re.I)
"""files whose being there tells a program nothing unless it lists their folder or opens them"""
_ENTERING = (".gitattributes", ".gitmodules")
_PROJECT = ("setup.py", "pyproject.toml")
"""files that change how a commit is entered: by what they say, and by being there"""
_MODES = ("120000", "160000")
"""symbolic links, which are followed without being opened, and submodules"""


class Watch:
    """Every opening below ``root`` from now until ``stop``; nothing where the system cannot tell."""

    def __init__(self, root: str) -> None:
        self._root, self._fd, self._whole = root, -1, False
        self._folders: dict[int, str] = {}
        self._opened: set[str] = set()
        self._listed: set[str] = set()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        try:
            self._begin()
        except (OSError, AttributeError):
            self._close()

    def _begin(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        folders = [folder for folder, _, _ in _walk(self._root)]
        if not 0 < len(folders) <= MOST_FOLDERS:
            return
        self._fd = libc.inotify_init1(_FLAGS)
        for folder in folders:
            number = libc.inotify_add_watch(self._fd, os.fsencode(folder), _OPEN)
            if number < 0:
                raise OSError(ctypes.get_errno(), "a folder cannot be watched")
            self._folders[number] = os.path.relpath(folder, self._root)
        self._whole = self._tells()
        self._opened.clear()
        self._listed.clear()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _tells(self) -> bool:
        """Whether an opening of our own is seen: some file systems take a watch and say nothing."""
        file = next((n for n in os.listdir(self._root) if os.path.isfile(os.path.join(self._root, n))), "")
        if file:
            os.close(os.open(os.path.join(self._root, file), os.O_RDONLY | os.O_NONBLOCK))
        until = time.monotonic() + 0.5
        while not (os.curdir in self._listed and (not file or file in self._opened)):
            if time.monotonic() > until:
                return False
            if select.select([self._fd], [], [], 0.05)[0]:
                self._take(os.read(self._fd, 1 << 18))
        return True

    def _read(self) -> None:
        while True:
            ready = bool(select.select([self._fd], [], [], 0.05)[0])
            if not ready and self._stop.is_set():
                return
            if ready:
                self._take(os.read(self._fd, 1 << 18))

    def _take(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            number, mask, _, length = _EVENT.unpack_from(data, at)
            name = os.fsdecode(data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0"))
            at += _EVENT.size + length
            if mask & _OVERFLOW:
                self._whole = False
                continue
            folder = self._folders.get(number, "")
            if not mask & _IS_FOLDER:
                self._opened.add(os.path.normpath(os.path.join(folder, name)))
            elif not name:
                self._listed.add(folder)

    def stop(self, path: str) -> None:
        """End the watch; what was seen is written to the file ``path``, where it was seen whole."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10.0)
            self._whole = self._whole and not self._thread.is_alive()
        if self._whole:
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as f:
                json.dump({"opened": sorted(self._opened), "listed": sorted(self._listed)}, f)
        self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _walk(root: str) -> Iterable[tuple[str, list[str], list[str]]]:
    for folder, names, files in os.walk(root):
        if folder == root and ".git" in names:
            names.remove(".git")
        yield folder, names, files


@dataclass(frozen=True, slots=True)
class Change:
    """One path in which two commits differ."""

    path: str
    status: str
    """``A`` added, ``D`` deleted, ``M`` other content or rights, ``T`` other kind"""
    modes: tuple[str, str]
    """as git writes them, ``000000`` where there is nothing"""


def unaffected(path: str, changes: Iterable[Change], folders: Iterable[str]) -> bool:
    """Whether a trial, of which ``path`` tells what it opened, cannot have noticed ``changes`` of its tree.

    ``folders``: those that are there on one side only.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            seen = json.load(f)
        opened, listed = set(seen["opened"]), set(seen["listed"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    busy = listed | {os.path.dirname(p) or os.curdir for p in opened}
    for change in changes:
        if change.path in opened or any(mode in _MODES for mode in change.modes):
            return False
        if os.path.basename(change.path) in _ENTERING:
            return False
        if change.status != "M" and (
            (os.path.dirname(change.path) or os.curdir) in busy
            or not _NAMED.search(change.path)
            or os.path.basename(change.path) in _PROJECT
        ):
            return False
    return not any((os.path.dirname(f) or os.curdir) in busy for f in folders)
