"""The commits of a project in a working tree of our own: the only module that runs git for an experiment.

The user's repository is read, never written: a clone that shares its objects is made inside the session, and the working
tree belongs to that clone. Hooks, filters, monitors and fetching are off; revisions are resolved before they reach a
command line. Submodules and large files come from what the user's repository already has; what it has not is said.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from reprodebug._base.errors import UsageError
from reprodebug.bisect.executors import in_slot
from reprodebug.bisect.opened import Change
from reprodebug.bisect.process import remove
from reprodebug.bisect.session import MARK
from reprodebug.bisect.trial import Untestable

if TYPE_CHECKING:
    from git import Repo

COPIED_MOST = 256 << 20
"""bytes of untracked and ignored files that are brought into the working tree"""
_NOT_COPIED = re.compile(
    r"(^|/)(\.git|__pycache__|\.venv|venv|env|\.tox|\.nox|node_modules|reprodebug-runs|wandb|mlruns|lightning_logs|\.mypy_cache"
    r"|\.ruff_cache|\.pytest_cache|\.ipynb_checkpoints|[^/]+\.egg-info)(/|$)|\.py[co]$"
)
_CONFIG = (
    "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "filter.lfs.smudge=", "-c", "filter.lfs.process=",
    "-c", "filter.lfs.clean=", "-c", "filter.lfs.required=false", "-c", "gc.auto=0", "-c", "maintenance.auto=false",
    "-c", "advice.detachedHead=false", "-c", "core.autocrlf=false", "-c", "submodule.recurse=false",
)  # fmt: skip
_ENVIRONMENT = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_LFS_SKIP_SMUDGE": "1", "LC_ALL": "C"}
_POINTER = re.compile(rb"version https://git-lfs.github.com/spec/v1\noid sha256:([0-9a-f]{64})\n")


class Worktree:
    """One repository of the user's, and one working tree of ours in which its commits are entered one after another."""

    def __init__(self, folder: str, session: str) -> None:
        self.user = _open(folder)
        self.root = os.path.realpath(str(self.user.working_tree_dir or self.user.git_dir))
        self.bare = self.user.bare
        self._session = session
        self._path = os.path.join(session, "work")
        self._clone = os.path.join(session, "repository")
        self.notes: list[str] = []
        self._copied: list[str] | None = None

    @property
    def path(self) -> str:
        """The working tree, one for each trial that runs at the same time."""
        return in_slot(self._path)

    # revisions

    def resolve(self, revision: str) -> str:
        """The full hash of a commit. Raises UsageError."""
        try:
            return str(
                self.user.git.rev_parse("--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", env=_ENVIRONMENT)
            )  # fmt: skip
        except Exception as error:
            hint = "give a commit, a tag or a branch of that repository"
            if os.path.isfile(os.path.join(str(self.user.common_dir), "shallow")):
                hint += "; it is a shallow clone: `git fetch --unshallow` brings the rest of its history"
            raise UsageError(f"{revision} is no commit of {self.root}", hint=hint) from error

    def subject(self, commit: str) -> str:
        """First line of a commit's message."""
        return str(self.user.commit(commit).summary)

    def parents(self, commit: str) -> list[str]:
        """Hashes of a commit's parents."""
        return [p.hexsha for p in self.user.commit(commit).parents]

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether ``new`` descends from ``old``."""
        return bool(self.user.is_ancestor(self.user.commit(old), self.user.commit(new)))

    def merge_base(self, a: str, b: str) -> str | None:
        """A best common ancestor of two commits; None where the histories share none."""
        found = self.user.merge_base(a, b)
        return found[0].hexsha if found and found[0] is not None else None

    def between(self, good: str, bad: str, *, first_parent: bool = False, paths: tuple[str, ...] = ()) -> list[str]:
        """Commits that ``bad`` has and ``good`` has not, ancestors first; those that touch ``paths`` only, and ``bad``."""
        words = ["--topo-order", "--reverse", *(["--first-parent"] if first_parent else []), bad, f"^{good}"]
        if paths:
            words += ["--", *paths]
        found = str(self.user.git.rev_list(*words, env=_ENVIRONMENT)).split()
        return [c for c in found if c != bad] + [bad]

    def touched(self, good: str, bad: str, paths: tuple[str, ...]) -> bool:
        """Whether any commit that ``bad`` has and ``good`` has not touches one of the paths."""
        return bool(str(self.user.git.rev_list("--max-count=1", bad, f"^{good}", "--", *paths, env=_ENVIRONMENT)).strip())

    def edges(self, commits: list[str], *, first_parent: bool = False) -> dict[str, list[str]]:
        """Commit -> its nearest ancestors among ``commits``: where a pathspec left commits out, edges lead over them."""
        chosen = set(commits)
        found: dict[str, list[str]] = {}
        memory: dict[str, frozenset[str]] = {}
        for commit in commits:
            stack, seen, near = self.parents(commit)[: 1 if first_parent else None], set(), set()
            while stack:
                at = stack.pop()
                if at in seen:
                    continue
                seen.add(at)
                if at in chosen:
                    near.add(at)
                elif at in memory:
                    near |= memory[at]
                elif len(chosen) < len(memory) + 100_000:
                    stack += self._parents_within(at, first_parent)
            memory[commit] = frozenset(near)
            found[commit] = sorted(near)
        return found

    def _parents_within(self, commit: str, first_parent: bool) -> list[str]:
        return self.parents(commit)[: 1 if first_parent else None] if self._inside(commit) else []

    def _inside(self, commit: str) -> bool:
        return commit in self._range

    _range: frozenset[str] = frozenset()

    def bound(self, good: str, bad: str) -> None:
        """Edges are followed inside the range of these two commits."""
        self._range = frozenset(str(self.user.git.rev_list(bad, f"^{good}", env=_ENVIRONMENT)).split())

    def changed(self, a: str, b: str) -> tuple[list[Change], set[str]]:
        """(paths that differ between the trees of two commits, folders that only one of them has)."""
        text = str(self.user.git.diff_tree("-r", "-z", "--raw", "--no-abbrev", "--no-renames", a, b, env=_ENVIRONMENT))
        words = [w for w in text.split("\0") if w]
        found = []
        for facts, path in zip(words[::2], words[1::2], strict=True):
            before, after, _, _, status = facts.lstrip(":").split()
            found.append(Change(path, status[0], (before, after)))
        return found, self._folders(a) ^ self._folders(b) if any(c.status != "M" for c in found) else set()

    def _folders(self, commit: str) -> set[str]:
        text = str(self.user.git.ls_tree("-r", "-d", "-z", "--name-only", commit, env=_ENVIRONMENT))
        return {p for p in text.split("\0") if p}

    # entering

    def enter(self, commit: str, patch: str = "") -> str:
        """Make the working tree hold ``commit``, with ``patch`` applied, and nothing from before; returns its path.

        Raises Untestable.
        """
        try:
            try:
                self._check_out(commit)
            except subprocess.CalledProcessError:  # what the trial before left: a lock, a directory without rights, a damaged index
                remove(self.path)
                self._check_out(commit)
        except subprocess.CalledProcessError as error:
            raise Untestable(f"commit {commit[:10]} could not be checked out: {_last(error)}") from error
        self._large_files()
        self._submodules(commit)
        self._bring()
        if patch:
            given = patch if patch.endswith("\n") else patch + "\n"
            try:
                try:
                    self._git(self.path)("apply", "-", given=given)
                except subprocess.CalledProcessError:  # of another commit; the files of the user's objects get a new time by it
                    self._git(self.path)("apply", "--3way", "-", given=given)
            except subprocess.CalledProcessError as error:
                raise Untestable(f"the uncommitted changes of the recorded run do not apply to {commit[:10]}: {_last(error)}") from error
        return self.path

    def _check_out(self, commit: str) -> None:
        self._make(commit)
        git = self._git(self.path)
        if git("diff", "--name-only", "HEAD", commit, "--", ":(glob)**/.gitattributes"):
            git("read-tree", "--empty")  # they say how every file is written, also those that are the same in both commits,
            git("clean", "-ffdxq")  # and those that lie in the working tree count
        git("checkout", "--quiet", "--force", "--detach", commit)
        git("clean", "-ffdxq")

    def leave(self) -> None:
        """Remove the working trees and the clone."""
        remove_work(os.path.dirname(self._path))

    def _make(self, commit: str) -> None:
        if os.path.isdir(os.path.join(self.path, ".git")) or os.path.isfile(os.path.join(self.path, ".git")):
            return
        shutil.rmtree(self.path, ignore_errors=True)
        if not os.path.isfile(os.path.join(self._clone, "whole")):
            shutil.rmtree(self._clone, ignore_errors=True)
            source = str(self.user.common_dir)
            self._git(os.path.dirname(self._clone))("clone", "--quiet", "--shared", "--bare", "--no-tags", "--", source, self._clone)
            with open(os.path.join(self._clone, "whole"), "w"):
                pass
        self._git(self._clone)("worktree", "add", "--quiet", "--force", "--detach", "--no-checkout", self.path, commit)

    def _git(self, cwd: str) -> Any:
        def call(*words: str, given: str | None = None) -> str:
            inherited = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
            done = subprocess.run(
                ["git", *_CONFIG, *words], cwd=cwd, env=inherited | _ENVIRONMENT | {MARK: self._session}, check=True, capture_output=True, timeout=600,
                input=None if given is None else given.encode("utf-8", "surrogateescape"),
            )  # fmt: skip
            return done.stdout.decode("utf-8", "surrogateescape")

        return call

    def _bring(self) -> None:
        """Copy untracked and ignored files of the user's checkout (data, configuration) that the commit does not have."""
        if self.bare:
            return
        if self._copied is None:
            self._copied = self._choose()
        for name in self._copied:
            target = os.path.join(self.path, name)
            if os.path.lexists(target):
                continue
            try:
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.copy2(os.path.join(self.root, name), target, follow_symlinks=False)
            except OSError:
                continue

    def _choose(self) -> list[str]:
        try:
            names = self._git(self.root)("--literal-pathspecs", "ls-files", "--others", "-z").split("\0")
        except subprocess.CalledProcessError:
            return []
        sized = []
        for name in names:
            if name and not _NOT_COPIED.search(name):
                try:
                    status = os.lstat(os.path.join(self.root, name))
                    sized.append((status.st_size, name))
                except OSError:
                    continue
        sized.sort()
        chosen: list[str] = []
        total = 0
        for size, name in sized:
            if total + size > COPIED_MOST:
                left = [n for _, n in sized[len(chosen) :]]
                self.notes.append(
                    f"{len(left)} untracked or ignored files of the project ({left[-1]} the largest) were not brought into the trials:"
                    " give the command absolute paths to large data"
                )
                break
            total += size
            chosen.append(name)
        return chosen

    def _large_files(self) -> None:
        """Pointers of Git LFS become the files, where the user's repository has them."""
        attributes = os.path.join(self.path, ".gitattributes")
        try:
            with open(attributes, "rb") as f:
                if b"filter=lfs" not in f.read(1 << 20):
                    return
        except OSError:
            return
        missing = 0
        for name in self._git(self.path)("ls-files", "-z").split("\0"):
            path = os.path.join(self.path, name)
            if not name or os.path.islink(path) or not os.path.isfile(path) or os.path.getsize(path) > 1024:
                continue
            with open(path, "rb") as f:
                found = _POINTER.match(f.read(200))
            if found:
                digest = found[1].decode()
                source = os.path.join(str(self.user.common_dir), "lfs", "objects", digest[:2], digest[2:4], digest)
                if os.path.isfile(source):
                    shutil.copyfile(source, path)
                else:
                    missing += 1
        if missing:
            self._once(f"{missing} files kept in Git LFS are pointers in some trials: `git lfs fetch --all` brings them")

    def _submodules(self, commit: str) -> None:
        """Submodules at the commits recorded, from the clones that the user's repository has of them."""
        if not os.path.isfile(os.path.join(self.path, ".gitmodules")):
            return
        for row in self._git(self.path)("ls-files", "--stage", "-z").split("\0"):
            if not row.startswith("160000 "):
                continue
            pinned, name = row.split()[1], row.split("\t", 1)[1]
            sources = [os.path.join(str(self.user.common_dir), "modules", name), os.path.join(self.root, name)]
            source = next((s for s in sources if os.path.exists(os.path.join(s, "HEAD")) or os.path.exists(os.path.join(s, ".git"))), None)
            target = os.path.join(self.path, name)
            if source is None:
                self._once(
                    f"the submodule {name} is not there in your checkout: its folder is empty in the trials (`git submodule update`)"
                )
                continue
            try:
                shutil.rmtree(target, ignore_errors=True)
                self._git(self.path)(
                    "-c", "protocol.file.allow=always", "clone", "--quiet", "--shared", "--no-checkout", "--", source, target
                )
                self._git(target)("checkout", "--quiet", "--force", "--detach", pinned)
            except subprocess.CalledProcessError as error:
                raise Untestable(f"the submodule {name} of {commit[:10]} could not be checked out: {_last(error)}") from error

    def _once(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def remove_work(session: str) -> None:
    """Remove the working trees and the clone of a session."""
    for name in os.listdir(session) if os.path.isdir(session) else ():
        if re.fullmatch(r"work(-\d+)?|repository", name):
            remove(os.path.join(session, name))


def _open(folder: str) -> Repo:
    try:
        import git
    except ImportError as error:
        raise UsageError("git was not found", hint="install git to search over commits") from error
    try:
        return git.Repo(folder, search_parent_directories=True)
    except (git.InvalidGitRepositoryError, git.NoSuchPathError) as error:
        hint = "go into the project, or name it with --repo DIR"
        if os.environ.get("GIT_DIR"):
            hint += "; GIT_DIR is not followed"
        raise UsageError(f"{folder} is in no git repository", hint=hint) from error


def _last(error: subprocess.CalledProcessError) -> str:
    lines = [line for line in (error.stderr or b"").decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else f"git ended with {error.returncode}"
