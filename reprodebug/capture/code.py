"""Which code ran: commit, branch, uncommitted changes, untracked sources, submodules, and the files that the command names.

Owns the reading of the user's repository with GitPython. Refuses to write into it: no lock is taken, no index refreshed,
no hook, monitor or diff driver is run, large-file storage is left alone, nothing is fetched; everything within ten seconds.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import threading
import time
from typing import Any

from reprodebug._base import redact
from reprodebug.recorder.files import hash_file
from reprodebug.recorder.fingerprint import hasher

TIME_LIMIT_S = 10.0
_MAX_PATCH = 1 << 20
"""bytes of patch kept"""
_MAX_LIST = 4 << 20
"""bytes of a file list read"""
_MAX_UNTRACKED = 500
_MAX_HASHED = 8 << 20
"""bytes of the largest untracked or named file that is hashed"""
_MAX_TEXT = 64 << 10
"""bytes of the largest named configuration file whose text is kept"""
_MAX_CONFIGURATIONS = 100
_CONFIGURATION = (".yaml", ".yml", ".json", ".toml", ".cfg", ".ini", ".gin")
_SOURCE = re.compile(
    r"(\.(py|pyi|pyx|pxd|ipynb|sh|bash|yaml|yml|json|toml|cfg|ini|conf|jsonnet|gin|sql|j2|c|cc|cpp|cxx|cu|cuh|h|hpp|rs|jl|r|lua)"
    r"|(^|/)(Makefile|Dockerfile|Snakefile)[^/]*|(^|/)(requirements|environment|constraints)[^/]*\.txt)$",
    re.IGNORECASE,
)
_QUIET = (
    "--no-optional-locks", "--no-pager", "--literal-pathspecs",
    "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.untrackedCache=false",
    "-c", "core.quotePath=false", "-c", "diff.autoRefreshIndex=false", "-c", "filter.lfs.clean=", "-c", "filter.lfs.process=",
    "-c", "filter.lfs.required=false", "-c", "maintenance.auto=false", "-c", "gc.auto=0", "-c", "protocol.allow=never",
)  # fmt: skip
_ENVIRONMENT = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_PAGER": "cat",
                "LC_ALL": "C", "GIT_TRACE": "0", "GIT_TRACE2": "0", "GIT_TRACE2_EVENT": "0"}  # fmt: skip


def describe_code(cwd: str, argv: list[str], *, key: bytes | None = None) -> dict[str, object]:
    """The code record of a command ``argv`` started in ``cwd``. Never raises; what cannot be had is said in ``why``.

    ``vcs`` is ``git`` or None; ``commit``, ``branch``, ``subject``, ``dirty`` (tracked files differ from the commit),
    ``patch`` (``git diff HEAD``, at most 1 MiB, secrets masked; ``patch_cut``), ``untracked`` (source file -> hash, size),
    ``remotes``, ``submodules``, ``root``. ``named`` holds the files that the command line names, by the word that
    names them: hash, size, and the text of small configuration files.
    """
    key = redact.machine_key() if key is None else key
    record: dict[str, object] = {"vcs": None}
    try:
        record["named"] = _named(cwd, argv, key)
        record.update(_repository(cwd, _script_folder(cwd, argv), key))
    except Exception as error:  # noqa: BLE001  a capture goes on without its code record; the reason is kept
        record["why"] = f"the repository could not be read: {_first_line(error)}"
    return record


def _first_line(error: Exception) -> str:
    text = str(getattr(error, "stderr", "") or error).strip().strip("'")
    return (text.splitlines() or [type(error).__name__])[0].replace("stderr: ", "").strip(" '")[:200] or type(error).__name__


def _script_folder(cwd: str, argv: list[str]) -> str | None:
    script = next((word for word in argv if word.endswith((".py", ".sh")) and os.path.isfile(os.path.join(cwd, word))), None)
    return None if script is None else os.path.dirname(os.path.realpath(os.path.join(cwd, script)))


def _repository(cwd: str, elsewhere: str | None, key: bytes) -> dict[str, object]:
    folders = [f for f in dict.fromkeys((cwd, elsewhere)) if f and _inside_repository(f)]
    if not folders:  # most often true and cheap to see: GitPython is not imported
        return {"vcs": None, "why": "not a git repository"}
    try:
        import git
    except ImportError as error:  # GitPython says so on import where there is no git
        return {"vcs": None, "why": f"git cannot be used: {_first_line(error)}"}
    for folder in folders:
        try:
            repo = git.Repo(folder, search_parent_directories=True)
        except git.InvalidGitRepositoryError:
            continue
        except git.NoSuchPathError:
            continue
        try:
            return _Reader(repo, key).record()
        finally:
            repo.close()
    return {"vcs": None, "why": "not a git repository"}


def _inside_repository(folder: str) -> bool:
    at = os.path.abspath(folder)
    while not os.path.lexists(os.path.join(at, ".git")):
        if at == os.path.dirname(at):
            return False
        at = os.path.dirname(at)
    return True


class _Reader:
    """Reads one repository within the time limit."""

    def __init__(self, repo: Any, key: bytes) -> None:
        self._repo = repo
        self._key = key
        self._ends = time.monotonic() + TIME_LIMIT_S
        self._root = str(repo.working_tree_dir or "")

    def record(self) -> dict[str, object]:
        record: dict[str, object] = {"vcs": "git"}
        if not self._root:
            return record | {"why": "a bare repository has no working tree"}
        record["root"] = self._root
        notes: list[str] = []
        base = "HEAD"
        for name, ask in (("head", self._head), ("remotes", self._remotes)):
            try:
                record.update(ask())
            except Exception as error:  # noqa: BLE001  one unreadable part costs that part, and is said
                notes.append(f"{name}: {_first_line(error)}")
        if record.get("commit") is None:
            base = self._git("hash-object", "-t", "tree", "/dev/null")[0].decode().strip()
        for name, ask in (("patch", lambda: self._patch(base)), ("untracked", self._untracked), ("submodules", self._submodules)):
            try:
                record.update(ask())
            except Exception as error:  # noqa: BLE001
                notes.append(f"{name}: {_first_line(error)}")
        if notes:
            record["why"] = "; ".join(notes)
        return record

    def _git(self, *args: str, limit: int = _MAX_LIST) -> tuple[bytes, bool]:
        """``(output, cut)`` of one git command; output beyond ``limit`` bytes is not read, a late command is ended."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"the time limit of {TIME_LIMIT_S:.0f} s was reached")
        place = [f"--git-dir={self._repo.git_dir}", f"--work-tree={self._root}"]
        command = [self._repo.git.GIT_PYTHON_GIT_EXECUTABLE, *_QUIET, *place, *args]
        index = os.path.join(self._repo.git_dir, "index")
        owner = self._repo.git.execute(command, as_process=True, istream=subprocess.DEVNULL, env={**_ENVIRONMENT, "GIT_INDEX_FILE": index})
        process = owner.proc  # ended by GitPython when its owner is collected
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        clock = threading.Timer(left, end)
        clock.daemon = True
        clock.start()
        complaint: list[bytes] = []
        drain = threading.Thread(target=lambda: complaint.append(process.stderr.read()), daemon=True)
        drain.start()
        try:
            out: bytes = process.stdout.read(limit + 1)
            cut = len(out) > limit
            if cut:
                process.kill()
            status = process.wait()
        finally:
            clock.cancel()
            drain.join(1)
            process.stdout.close()
            process.stderr.close()
        if late.is_set():
            raise TimeoutError(f"git {args[0]} took longer than {TIME_LIMIT_S:.0f} s")
        if status not in (0, 1) and not cut:
            raise OSError(redact.redact_text(b"".join(complaint).decode("utf-8", "replace").strip(), self._key) or f"git: {status}")
        return out[:limit], cut

    def _head(self) -> dict[str, object]:
        head = self._repo.head
        branch = None if head.is_detached else head.reference.name
        if not head.is_valid():
            return {"commit": None, "branch": branch, "subject": None}
        commit = head.commit
        subject = redact.redact_text(str(commit.summary), self._key)[:200]
        return {"commit": commit.hexsha, "branch": branch, "subject": subject}

    def _remotes(self) -> dict[str, object]:
        found = {}
        for remote in self._repo.remotes:
            url = str(remote.config_reader.get("url"))
            bare = re.sub(r"^(https?://)[^/\s]*@", r"\1", url)  # any user information of a web address is a credential
            found[remote.name] = redact.redact_text(bare, self._key)
        return {"remotes": found}

    def _patch(self, base: str) -> dict[str, object]:
        out, cut = self._git("diff", "--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=dirty",
                             "--src-prefix=a/", "--dst-prefix=b/", "--submodule=short", "-M", base, "--",
                             limit=_MAX_PATCH)  # fmt: skip
        record: dict[str, object] = {"dirty": bool(out), "patch": redact.redact_source(out.decode("utf-8", "replace"), self._key)}
        if cut:
            record["patch_cut"] = True
        return record

    def _untracked(self) -> dict[str, object]:
        out, cut = self._git("ls-files", "--others", "--exclude-standard", "-z")
        names = [n for n in out.decode("utf-8", "surrogateescape").split("\0")[: -1 if cut else None] if n and _SOURCE.search(n)]
        found = {name: _hashed(os.path.join(self._root, name)) for name in names[:_MAX_UNTRACKED]}
        record: dict[str, object] = {"untracked": {name.encode("utf-8", "replace").decode(): e for name, e in found.items() if e}}
        if cut or len(names) > _MAX_UNTRACKED:
            record["untracked_cut"] = True
        return record

    def _submodules(self) -> dict[str, object]:
        if not os.path.isfile(os.path.join(self._root, ".gitmodules")):
            return {}
        import git

        listed, _ = self._git("config", "-z", "-f", os.path.join(self._root, ".gitmodules"), "--get-regexp", r"^submodule\..*\.path$")
        paths = [entry.split("\n", 1)[1] for entry in listed.decode("utf-8", "replace").split("\0") if "\n" in entry]
        states: dict[str, object] = {}
        for line in self._git("ls-files", "-s", "-z", "--", *paths[:200])[0].decode("utf-8", "replace").split("\0") if paths else ():
            mode, _, rest = line.partition(" ")
            sha, _, path = rest.partition(" 0\t")
            if mode != "160000":
                continue
            try:
                with git.Repo(os.path.join(self._root, path)) as inner:
                    actual = inner.head.commit.hexsha
                states[path] = actual if actual == sha else f"{actual} (the commit asks for {sha})"
            except Exception:  # noqa: BLE001  GitPython raises many kinds for a folder without a repository
                states[path] = f"not checked out (the commit asks for {sha})"
        return {"submodules": states}


def _hashed(path: str) -> dict[str, object] | None:
    from reprodebug.recorder.files import hash_file
    from reprodebug.recorder.fingerprint import hasher

    try:
        info = os.lstat(path)
        if not stat.S_ISREG(info.st_mode):
            return None
        if info.st_size > _MAX_HASHED:
            return {"size": info.st_size, "why": "too large to be hashed as source"}
        algorithm, _, new = hasher()
        return {"hash": hash_file(path, info.st_size, algorithm, new)[0], "size": info.st_size}
    except OSError as error:
        return {"size": None, "why": f"not readable: {error.strerror or error}"}


def keep_configurations(data: dict[str, dict[str, object]], *, key: bytes | None = None) -> None:
    """Add ``text`` to the records of small configuration files that the program read, where they are still what it read.

    Secrets are masked. ``data`` is that of the manifest: path -> {"mode", "size", "hash"}.
    """
    key = redact.machine_key() if key is None else key
    algorithm, _, new = hasher()
    left = _MAX_CONFIGURATIONS
    for path, entry in data.items():
        size = entry.get("size")
        if left <= 0 or entry.get("mode") != "read" or not path.endswith(_CONFIGURATION) or not isinstance(size, int) or size > _MAX_TEXT:
            continue
        try:
            digest, _ = hash_file(path, size, algorithm, new)
            if digest != entry.get("hash"):
                continue
            with open(path, "rb") as f:
                entry["text"] = redact.redact_source(f.read(_MAX_TEXT).decode("utf-8", "replace"), key)
        except OSError:
            continue
        left -= 1


def _named(cwd: str, argv: list[str], key: bytes) -> dict[str, object]:
    """Files that the words of the command line name: ``train.py``, ``--config=base.yaml``, ``data=tiny.csv``."""
    found: dict[str, object] = {}
    for word in argv[1:]:
        for name in dict.fromkeys((word, word.partition("=")[2])):
            if not name or len(name) > 4096 or "\0" in name:
                continue
            path = os.path.join(cwd, name)
            entry = _hashed(os.path.realpath(path)) if os.path.isfile(path) else None
            if entry is None or name in found:
                continue
            size = entry["size"]
            if name.endswith(_CONFIGURATION) and isinstance(size, int) and size <= _MAX_TEXT:
                with open(path, "rb") as f:
                    entry["text"] = redact.redact_source(f.read(_MAX_TEXT).decode("utf-8", "replace"), key)
            found[redact.redact_text(name, key)] = entry
    return found
