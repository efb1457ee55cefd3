"""A recorded run as something that can be run again: its command, its environment and its project, as far as they were kept.

What was recorded masked is taken from here. A project in a git repository is entered at the recorded commit, with the
recorded uncommitted changes; any other is copied as it is now.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from reprodebug._base.text import listed_words
from reprodebug.bisect import commits as history
from reprodebug.bisect.places import Snapshot
from reprodebug.bisect.trial import Candidate, Untestable
from reprodebug.bisect.worktrees import Worktree
from reprodebug.store.run import StoredRun


class Again:
    """One recorded run, entered anew for each execution. Everything of it lies below ``folder``."""

    def __init__(self, run: StoredRun, name: str, folder: str, made: Sequence[str] = ()) -> None:
        """``made``: files, as seen from the run's directory, that it is known to have made though it did not record that."""
        self.run = run
        self._made = tuple(made)
        self.name = name
        self.notes: list[str] = []
        self.root = ""
        """of the project where it was recorded"""
        self.path = ""
        """of the copy that was entered last"""
        self._folder = folder
        os.makedirs(folder, exist_ok=True)
        self._tree: Worktree | None = None
        self._snapshot: Snapshot | None = None
        code = run.manifest.code
        self._commit, root, self._patch = str(code.get("commit") or ""), str(code.get("root") or ""), str(code.get("patch") or "")
        if self._commit and os.path.isdir(root):
            self._tree = Worktree(root, folder)
            self._commit = self._tree.resolve(self._commit)
            self.root = self._tree.root
            if self._patch and code.get("patch_cut"):
                self._patch = ""
                self.notes.append(f"the uncommitted changes of {name} were too many to be recorded whole: they are left out")

    def enter(self) -> Candidate:
        """A fresh copy of the project, and the command in it. Raises Untestable."""
        m = self.run.manifest
        variables, words = environment(self.run), list(m.command)
        if self._tree is not None:
            where = os.path.relpath(os.path.realpath(m.cwd), self.root)
            where = "." if where.startswith(os.pardir) else where
            place = history.Commits(self._tree, words, "", "", variables, where, patches={self._commit: self._patch} if self._patch else {})
            found = history.enter(place, self._commit, variables)
            self.path = self._tree.path
            self._without_own_files(found.cwd)
            return found
        if self._snapshot is None:
            self._snapshot = Snapshot(directory(self.run), self._folder, without=os.path.dirname(self._folder))
            self.root = self._snapshot.root
        self.path, cwd = self._snapshot.enter()
        if not self._snapshot.in_place:
            self._without_own_files(cwd)
        variables = history.moved_environment(variables, self._snapshot.root, self.path, cwd)
        words = [history.moved(w, self._snapshot.root, self.path) for w in outward(self.run, words, self._snapshot.root)]
        return Candidate(self.name, self.name, tuple(words), cwd, variables)

    def _without_own_files(self, cwd: str) -> None:
        """Take away what the run itself made: a file that was not there before it wrote it is not there when it runs again."""
        m = self.run.manifest
        written = [n for n, x in m.data.items() if isinstance(x, dict) and x.get("mode") == "write" and x.get("existed") is False]
        for name in dict.fromkeys([*written, *self._made]):
            recorded = os.path.normpath(os.path.join(m.cwd, name))
            inside = os.path.relpath(os.path.realpath(os.path.dirname(recorded)), self.root)
            if inside.startswith(os.pardir):
                continue
            path = os.path.join(self.path, inside, os.path.basename(recorded))
            if os.path.isfile(path) and not os.path.islink(path):
                os.unlink(path)
                note = f"{os.path.relpath(recorded, self.root)} was made by {self.name} itself: it was taken out of its copy of the project"
                if note not in self.notes:
                    self.notes.append(note)

    def edited(self, again: StoredRun) -> None:
        """Name the source files that are not what they were when the run was recorded. ``again``: an execution in a copy of today's."""
        before, now = (_hashes(r.manifest.code.get("files")) for r in (self.run, again))
        for name in before:
            note = f"{name} was edited after {self.name} was recorded: what is run, and its lines, are the file as it is now"
            if before[name] != now.get(name, before[name]) and note not in self.notes:
                self.notes.append(note)

    def gone(self) -> str:
        """The scripts of the command that are not there any more, in a sentence; '' where there are none."""
        named = self.run.manifest.code.get("named")
        where = os.path.join(self.path, os.path.relpath(os.path.realpath(self.run.manifest.cwd), self.root))
        lost = [str(n) for n in named if not os.path.exists(os.path.join(where, str(n)))] if isinstance(named, dict) else []
        lost = [n for n in lost if not os.path.exists(os.path.join(self.run.manifest.cwd, n))]
        return f"{listed_words(lost)} {'is' if len(lost) == 1 else 'are'} not there any more" if lost else ""

    def leave(self) -> None:
        """Remove what git made."""
        if self._tree is not None:
            self._tree.leave()

    @property
    def place_notes(self) -> list[str]:
        found = [*self.notes, *(self._tree.notes if self._tree else []), *(self._snapshot.notes if self._snapshot else [])]
        return [f"{self.name}: {n}" if not n.startswith(self.name) else n for n in found]


def environment(run: StoredRun) -> dict[str, str]:
    """The environment of a recorded run, as far as it can be restored: what was masked is taken from here."""
    found = {}
    for name, value in strings(run.manifest.environment.get("variables")).items():
        if name.startswith("REPRODEBUG_"):
            continue
        if "<redacted " in value:
            if name in os.environ:
                found[name] = os.environ[name]
        else:
            found[name] = value
    return found or dict(os.environ)


def outward(run: StoredRun, words: Sequence[str], root: str) -> list[str]:
    """A command whose relative paths that lead out of the project, such as ``../train.py``, lead where they led: only the project is copied.

    What the run wrote out there is not written again: such a path stays, and leads out of the copy."""
    m = run.manifest
    cwd = os.path.realpath(m.cwd)
    written = [os.path.normpath(os.path.join(cwd, n)) for n, x in m.data.items() if isinstance(x, dict) and x.get("mode") == "write"]
    found = []
    for word in words:
        option, equals, path = word.rpartition("=")
        there = os.path.normpath(os.path.join(cwd, path))
        out = path.startswith(os.pardir + os.sep) and not (there + os.sep).startswith(root + os.sep) and os.path.exists(there)
        out = out and not any((w + os.sep).startswith(there + os.sep) for w in written)
        found.append(option + equals + there if out else word)
    return found


def _hashes(files: object) -> dict[str, str]:
    """Source file -> its hash, of those that were hashed."""
    if not isinstance(files, dict):
        return {}
    return {str(n): str(f["hash"]) for n, f in files.items() if isinstance(f, dict) and f.get("hash") and not f.get("why")}


def directory(run: StoredRun) -> str:
    """Where a run was recorded. Raises Untestable where that is gone."""
    if not os.path.isdir(run.manifest.cwd):
        raise Untestable(f"the directory {run.manifest.cwd} in which the run was recorded is not there any more")
    return run.manifest.cwd


def strings(value: object) -> dict[str, str]:
    """A mapping of text to text, from whatever a manifest holds."""
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}
