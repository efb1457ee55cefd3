"""Git: a work tree, a bundle with the work tree's differences beside it, or a recorded commit file.

Owns commit, branch, uncommitted changes and untracked files. Runs git with hooks, filters, monitors and locks off, and never writes into
the repository. With equal commits the two dirty trees are compared by what they change.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import subprocess
import tempfile

from reprodebug.foreign._patch import diff_facts
from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

NAME = "git"
_QUIET = (
    "--no-optional-locks", "--no-pager", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false",
    "-c", "filter.lfs.clean=", "-c", "filter.lfs.process=", "-c", "filter.lfs.required=false", "-c", "protocol.allow=never",
    "-c", "safe.directory=*", "-c", "gc.auto=0", "-c", "core.untrackedCache=false", "-c", "diff.external=",
)  # fmt: skip
_ENVIRONMENT = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CONFIG_GLOBAL": os.devnull, "GIT_ATTR_NOSYSTEM": "1"}  # fmt: skip
_LEFT_BY_TOOLS = re.compile(
    r"(^|/)(wandb|mlruns|mlartifacts|\.aim|\.neptune|lightning_logs|multirun|reprodebug-runs|__pycache__|node_modules|\.ipynb_checkpoints"
    r"|\.(pytest|mypy|ruff|dvc/(tmp|cache))(_cache)?|\.venv)/"
    r"|(^|/)outputs/\d{4}-\d\d-\d\d/|(^|/)\.hydra/|\.py[co]$|(^|/)mlflow\.db(-wal|-shm)?$|tfevents\.|\.sw[op]$|(^|/)(\.DS_Store|nohup\.out)$"
    r"|(^|/)offline-[0-9a-f]{32}(\.zip|/)"
)
"""untracked files that trackers, caches and editors write: each run has its own, and other readers say what stands in them"""
_LIMIT_S = 30
_MOST_UNTRACKED = 500


def find(tree: Tree) -> list[str]:
    """Every bundle, ``@work`` for a repository at the root or else the first one below it, and a file that names a commit."""
    found = [f for f in tree.files if f.endswith(".bundle") and tree.read(f, 16).startswith((b"# v2 git bundle", b"# v3 git bundle"))]
    if tree.single:
        return found
    if os.path.exists(os.path.join(tree.root, ".git")):
        return [*found, "@work"]
    inner = sorted(
        (f[: -len("/.git/HEAD")] for f in tree.files if f.endswith("/.git/HEAD") and f.count("/") <= 4), key=lambda f: f.count("/")
    )
    found += [f"@work/{inner[0]}"] if inner else []
    return found or [f for f in tree.files if f in _COMMIT_FILES and _commit_in(tree, f)][:1]


_COMMIT_FILES = (
    "HEAD",
    "commit.txt",
    "COMMIT",
    "git_commit.txt",
    "git_hash.txt",
    "git-commit.txt",
    "GIT_COMMIT",
    "commit",
    "git_sha.txt",
    "git.txt",
)


def _commit_in(tree: Tree, name: str) -> str:
    found = re.search(r"\b[0-9a-f]{7,40}\b", tree.text(name, 4096))
    return found[0] if found else ""


def read(tree: Tree, place: str) -> Record:
    """One repository. Raises Unreadable."""
    record = Record(NAME, place)
    if place.startswith("@work"):
        _work(tree, record, tree.path(place[6:]))
    else:
        _bundle(tree, place, record)
    return record


def _no_filters(cwd: str) -> list[str]:
    """Options that take every filter out which the repository's own configuration names: `git diff` would run them."""
    try:
        names = _git(cwd, "config", "--list", "--name-only", "-z").split("\0")
    except Unreadable:
        return []
    drivers = {n[len("filter.") : n.rindex(".")] for n in names if n.startswith("filter.") and n.count(".") >= 2}
    if any("=" in d or "\n" in d for d in drivers):
        raise Unreadable("the repository's configuration names a filter that cannot be switched off: its changes are not read")
    return [
        w for d in sorted(drivers) for part in ("clean=", "smudge=", "process=", "required=false") for w in ("-c", f"filter.{d}.{part}")
    ]


def _git(cwd: str, *words: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | _ENVIRONMENT
    try:
        done = subprocess.run(
            ["git", *_QUIET, *words], cwd=cwd, env=environment, capture_output=True, timeout=_LIMIT_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unreadable(f"git could not be asked: {type(error).__name__}") from error
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise Unreadable(lines[-1][:200] if lines else f"git ended with {done.returncode}")
    return done.stdout.decode("utf-8", "replace")


def _work(tree: Tree, record: Record, root: str) -> None:
    try:
        commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD").strip()
    except Unreadable as error:
        raise Unreadable(error.message if "ended with" not in error.message else "the repository has no commit yet") from error
    record.add("code", "git_commit", commit, ".git")
    try:
        branch = _git(root, "symbolic-ref", "--short", "--quiet", "HEAD").strip()
        record.add("code", "git_branch", branch, ".git")
    except Unreadable:
        record.add("code", "git_branch", "(detached)", ".git")
    diff_facts(
        record, _git(root, *_no_filters(root), "diff", "--no-ext-diff", "--no-textconv", "--no-color", "--submodule=short", "HEAD"), ".git"
    )
    names = [n for n in _git(root, *_no_filters(root), "ls-files", "--others", "--exclude-standard", "-z").split("\0") if n]
    _untracked(record, [(n, os.path.join(root, n)) for n in names])


def _untracked(record: Record, files: list[tuple[str, str]]) -> None:
    described = []
    files = [x for x in files if not _LEFT_BY_TOOLS.search(x[0])]
    for name, path in sorted(files)[:_MOST_UNTRACKED]:
        try:
            if os.path.islink(path) or not os.path.isfile(path):
                continue
            with open(path, "rb") as f:
                digest = hashlib.sha256(f.read(16 << 20)).hexdigest()[:12]
        except OSError:
            continue
        described.append(f"{name} (sha256:{digest})")
    if described:
        record.add("code", "untracked", ", ".join(described[:50]), ".git")
    if len(files) > _MOST_UNTRACKED:
        record.notes.append(f"{len(files)} untracked files: the first {_MOST_UNTRACKED} were compared")


def _bundle(tree: Tree, place: str, record: Record) -> None:
    folder = posixpath.dirname(place)
    prefix = f"{folder}/" if folder else ""
    commit = next((c for name in _COMMIT_FILES if tree.exists(prefix + name) and (c := _commit_in(tree, prefix + name))), "")
    heads: list[str] = []
    with tempfile.TemporaryDirectory(prefix="reprodebug-") as temporary:
        try:
            if not place.endswith(".bundle"):
                raise Unreadable("no bundle")
            heads = _git(temporary, "bundle", "list-heads", tree.path(place)).splitlines()
        except Unreadable as error:
            if not commit:
                raise
            if place.endswith(".bundle"):
                record.notes.append(f"{place} cannot be read ({error.message}); the commit is from the file beside it")
        if not commit and heads:
            head = next((h for h in heads if h.endswith(" HEAD")), heads[0])
            commit = head.split()[0]
    if not commit:
        raise Unreadable(f"{place} names no commit")
    record.add("code", "git_commit", commit, place)
    branches = [h.split()[1].removeprefix("refs/heads/") for h in heads if " refs/heads/" in h and h.startswith(commit)]
    if len(branches) == 1:
        record.add("code", "git_branch", branches[0], place)
    for f in tree.files:
        if posixpath.dirname(f) == folder and f.endswith((".patch", ".diff")):
            diff_facts(record, tree.text(f), f)
    extra = tree.below(f"{prefix}untracked")
    if extra:
        _untracked(record, [(f[len(prefix) + len("untracked/") :], tree.path(f)) for f in extra])
    elif tree.exists(f"{prefix}untracked.txt"):
        names = [line.strip() for line in tree.lines(f"{prefix}untracked.txt") if line.strip()]
        if names:
            record.add("code", "untracked", ", ".join(sorted(names)[:50]), f"{prefix}untracked.txt")
