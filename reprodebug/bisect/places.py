"""Where a trial runs: a fresh copy of the project, so that no trial sees what another one wrote, and the user's tree is left alone."""

from __future__ import annotations

import os
import re
import shutil

from reprodebug.bisect.executors import in_slot
from reprodebug.bisect.process import remove
from reprodebug.bisect.trial import Untestable

COPIED_MOST = 256 << 20
"""bytes of a project that is copied for each trial; a larger one is used where it is"""
_LEFT_OUT = re.compile(
    r"^(\.git|__pycache__|\.venv|venv|env|\.tox|\.nox|node_modules|reprodebug-runs|\.mypy_cache|\.ruff_cache|\.pytest_cache)$"
)


class Snapshot:
    """The project as it was when the search began, copied anew for each trial."""

    def __init__(self, cwd: str, session: str, *, without: str = "") -> None:
        """``without``: a directory of the tool's own that may lie inside the project; ``session`` and the others' are such."""
        from reprodebug.bisect.session import home

        own = {os.path.realpath(p) for p in (session, home(), without) if p}

        def ignored(folder: str, names: list[str]) -> set[str]:
            return _ignored(folder, names) | {n for n in names if os.path.realpath(os.path.join(folder, n)) in own}

        self.root = _project(os.path.realpath(cwd))
        self.where = os.path.relpath(os.path.realpath(cwd), self.root)
        self._kept = os.path.join(session, "project")
        self._path = os.path.join(session, "work")
        self.notes: list[str] = []
        self.in_place = False
        if not os.path.isdir(self._kept):
            size = _size(self.root)
            if size > COPIED_MOST:
                self.stay(f"the project holds more than {COPIED_MOST >> 20} MiB")
                return
            partial = self._kept + ".partial"
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(self.root, partial, symlinks=True, ignore=ignored, ignore_dangling_symlinks=True)
            os.rename(partial, self._kept)

    @property
    def path(self) -> str:
        """The copy, one for each trial that runs at the same time."""
        return in_slot(self._path)

    def stay(self, why: str) -> None:
        """Run where the project is."""
        self.in_place = True
        self.notes.append(f"trials ran in the project's own directory: {why}; what one of them wrote there the next one found")

    def enter(self) -> tuple[str, str]:
        """(the project's root for this trial, the directory to run in). Raises Untestable."""
        if self.in_place:
            return self.root, os.path.join(self.root, self.where)
        try:
            remove(self.path)
            shutil.copytree(self._kept, self.path, symlinks=True)
        except (OSError, shutil.Error) as error:
            raise Untestable(f"the project could not be copied: {str(error)[:200]}") from error
        return self.path, os.path.normpath(os.path.join(self.path, self.where))


def _project(cwd: str) -> str:
    """The repository's root above a directory, else the directory itself."""
    at = cwd
    while True:
        if os.path.lexists(os.path.join(at, ".git")):
            return at
        parent = os.path.dirname(at)
        if parent == at or at == os.path.expanduser("~"):
            return cwd
        at = parent


def _ignored(folder: str, names: list[str]) -> set[str]:
    return {n for n in names if _LEFT_OUT.match(n) or not _plain(os.path.join(folder, n))}


def _plain(path: str) -> bool:
    """A file, a folder or a link; no socket, pipe or device."""
    return os.path.islink(path) or os.path.isfile(path) or os.path.isdir(path)


def _size(root: str) -> int:
    total = 0
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if not _LEFT_OUT.match(f)]
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
        if total > COPIED_MOST:
            break
    return total
