"""Which files the program reads, with the hash of their content, and which folders it lists: told by Python's
own audit events.

Owns what counts as a data file and the limits on looking at it. Refuses to open what is no regular file (a FIFO
would block, a device may act) and to raise into the program's ``open``. Files that a C or Rust library opens by itself
(HDF5, safetensors) raise no audit event and are not seen; of SQLite the connection is told, just before it is made.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from reprodebug.recorder.handlers import pass_on

WHOLE_BYTES = 64 << 20
"""a file up to this size is hashed whole, a larger one in 16 blocks of 1 MiB: first, last and evenly between"""
_BLOCKS = 16
_BLOCK_BYTES = 1 << 20
LIMIT_BYTES = 1 << 30
"""bytes read for hashing, of all files together"""
LIMIT_FILES = 2000
"""files hashed"""
LIMIT_NAMES = 20_000
"""files listed, hashed or not"""
LIMIT_SOURCES = 2000
"""files of code noted that no table of modules may name"""
LIMIT_FOLDERS = 200
LIMIT_LISTED = 100_000
"""folders whose listing is looked at, and names in them, all together"""
_VERSIONS = 4
"""contents recorded of one path that changes while the program runs"""
_CODE = (".py", ".pyc", ".pyi", ".so", ".pyd", ".dylib")
_LOCKS = (".lock", ".lck")
"""never opened by us: closing any descriptor of a file drops the process's POSIX locks on it"""
_WRITE = frozenset("wxa")
_ACCESS = os.O_RDONLY | os.O_WRONLY | os.O_RDWR
_OPEN = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)


def hash_file(path: str, size: int, algorithm: str, new: Callable[[int], Any]) -> tuple[str, bool]:
    """``(algorithm:hexadecimal digest, sampled)`` of a regular file of ``size`` bytes. Raises ``OSError``."""
    fd = os.open(path, _OPEN)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError("no regular file")
        h = new(0)
        if size > WHOLE_BYTES:
            last = size - _BLOCK_BYTES
            for n in range(_BLOCKS):
                h.update(os.pread(fd, _BLOCK_BYTES, last * n // (_BLOCKS - 1)))
            return f"{algorithm}:{h.hexdigest()}", True
        left = WHOLE_BYTES + _BLOCK_BYTES  # a file that grows while it is read ends somewhere all the same
        while left > 0:
            block = os.read(fd, _BLOCK_BYTES)
            if not block:
                break
            h.update(block)
            left -= len(block)
        return f"{algorithm}:{h.hexdigest()}", False
    finally:
        os.close(fd)


def code_folders() -> tuple[str, ...]:
    """Where the interpreter and installed packages lie, each with a separator behind it."""
    found = {os.path.dirname(os.__file__)}
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix}:
        found.update(os.path.join(prefix, name) for name in ("lib", "lib64", "bin", "include", "share", "etc", "conda-meta"))
    found.update(p for p in sys.path if os.path.basename(p) in ("site-packages", "dist-packages"))
    return tuple(sorted(os.path.abspath(p) + os.sep for p in found if p))


def _thread_name() -> dict[str, str]:
    """``{"thread": name}`` of a thread of the program's other than its main one; asked without making one known."""
    thread = threading._active.get(threading.get_ident())  # type: ignore[attr-defined]
    if thread is None or thread is threading.main_thread():
        return {}
    return {"thread": str(thread.name)[:80]}


def _is_open(file: os.stat_result) -> bool:
    """Whether this process has a file open: to open and close it once more would drop the locks that SQLite holds on it."""
    try:
        for fd in os.listdir("/proc/self/fd"):
            try:
                about = os.stat(f"/proc/self/fd/{fd}")
            except OSError:  # the one that lists them
                continue
            if (about.st_dev, about.st_ino) == (file.st_dev, file.st_ino):
                return True
        return False
    except OSError:  # no Linux
        return True


class _Busy(threading.local):
    inside = False


class FileWatch:
    """Reports each file once per content: ``report`` gets plain records, on the thread that opens the file.

    A record has ``path`` (absolute) and ``mode``. ``read``: ``size``, ``hash`` (``sampled: true`` for a large file),
    ``modified`` (seconds since 1970), ``written: true`` where the file was written since this process began, ``why``
    instead of a hash that was not taken. ``write``: ``existed``, whether there was such a file before; reported once per
    path. ``database: true``: SQLite connects to it. ``thread`` names the thread that read or wrote, where it is not the main one.

    ``list``: a folder was listed: number of names, a hash of them as the file system gives them (``order``) and sorted
    (``names``), and the first few.
    """

    def __init__(
        self, report: Callable[[dict[str, Any]], None], *, ignore: Iterable[str] = (), limit_bytes: int = LIMIT_BYTES,
        limit_files: int = LIMIT_FILES,
    ) -> None:  # fmt: skip
        from reprodebug.recorder.fingerprint import hasher

        self.left_out: dict[str, int] = {}
        """reason -> number of openings not listed: ``packages``, ``system``, ``not a regular file``, ``beyond the limit`` ..."""
        self.sources: set[str] = set()
        """Python files of the program's own that were opened, by way of an import or otherwise"""
        self._algorithm, _, self._new = hasher()
        self._report = report
        self._packages = code_folders()
        self._system = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/lib/", "/usr/share/", "/run/")
        self._own = tuple(os.path.abspath(p).rstrip(os.sep) + os.sep for p in ignore)
        self._bytes = limit_bytes
        self._files = limit_files
        self._names = LIMIT_NAMES
        self._started = time.time_ns()
        self._seen: set[tuple[Any, ...]] = set()
        self._versions: dict[str, int] = {}
        self._written: set[str] = set()
        self._folders: set[tuple[str, str]] = set()
        self._databases: set[str] = set()
        self._connecting = threading.Lock()
        self._busy = _Busy()
        self._pid = os.getpid()
        self._on = False
        self._hooked = False
        self._listed_names = LIMIT_LISTED

    def start(self) -> None:
        """From now on every ``open`` of this process is looked at. An audit hook stays for ever, so it is added once."""
        self._on = True
        if not self._hooked:
            self._hooked = True
            sys.addaudithook(self._hook())

    def stop(self) -> None:
        """The hook stays and does nothing."""
        self._on = False

    def _hook(self) -> Callable[[str, tuple[Any, ...]], None]:
        busy = self._busy
        handlers: dict[str, Callable[..., None]] = {
            "open": self._opened,
            "os.listdir": self._lists,
            "os.scandir": self._lists,
            "sqlite3.connect": self._connects,
        }
        known = handlers.get

        def hook(event: str, args: tuple[Any, ...]) -> None:
            handler = known(event)
            if handler is None or not self._on or busy.inside:
                return
            busy.inside = True
            try:
                handler(*args)
            except Exception as error:
                pass_on(error)
                self._count(f"{type(error).__name__} in the recorder")
            finally:
                busy.inside = False

        return hook

    def _count(self, why: str) -> None:
        self.left_out[why] = self.left_out.get(why, 0) + 1

    def _opened(self, path: Any, mode: Any, flags: int) -> None:
        if type(path) is not str:
            if isinstance(path, int):
                return
            path = os.fsdecode(path)
        if path.endswith(_CODE):
            return self._source(path) if mode is None or _WRITE.isdisjoint(mode) else None
        if path[:1] != "/" or "/." in path or "//" in path:
            path = os.path.abspath(path)
        if not self._counts(path):
            return
        if mode is None:
            access = flags & _ACCESS
            fresh = bool(flags & (os.O_CREAT | os.O_TRUNC | os.O_APPEND))
            writes, reads = access != os.O_RDONLY, access == os.O_RDONLY or (access == os.O_RDWR and not fresh)
        else:
            fresh = not _WRITE.isdisjoint(mode)
            writes, reads = fresh or "+" in mode, not fresh
        if os.getpid() != self._pid:
            self._forked()
        if reads:
            self._reads(path)
        if writes:
            self._writes(path)

    def _counts(self, path: str) -> bool:
        """Whether a file is the program's data, by where it lies."""
        if path.startswith(self._own):
            return False
        if path.startswith(self._packages):
            self._count("packages")
        elif path.startswith(self._system):
            self._count("system")
        else:
            return True
        return False

    def _connects(self, database: Any) -> None:
        """SQLite will open this file: what lies there is read before, at the first connection of this process."""
        path = os.fsdecode(database)
        if path.startswith("file:"):
            path = path[5:].partition("?")[0]
        if not path or path == ":memory:":
            return
        path = os.path.abspath(path)
        if not self._counts(path):
            return
        if os.getpid() != self._pid:
            self._forked()
        with self._connecting:  # another thread may not connect, and lock, before the file is closed again
            if path in self._databases or len(self._databases) >= LIMIT_FOLDERS:
                return
            self._databases.add(path)
            if os.path.exists(path):
                self._reads(path, database=True)
                self._reads(path + "-wal")  # changes that are not in the database itself yet
            else:
                self._writes(path)

    def _source(self, path: str) -> None:
        """Code that a program runs by path stands in no table of modules: plugins, ``runpy``, ``exec(open(...).read())``."""
        folder, name = os.path.split(os.path.abspath(path))
        if name.endswith(".pyc") and os.path.basename(folder) == "__pycache__":
            folder, name = os.path.dirname(folder), name.partition(".")[0] + ".py"
        path = os.path.join(folder, name)
        if name.endswith(".py") and len(self.sources) < LIMIT_SOURCES and not path.startswith((*self._own, *self._packages, *self._system)):
            self.sources.add(path)

    def _forked(self) -> None:
        """A forked child (a DataLoader's worker, often one per epoch) gets an eighth of what is left."""
        self._pid = os.getpid()
        self._bytes //= 8
        self._files //= 8
        self._names //= 8
        self._connecting = threading.Lock()

    def _writes(self, path: str) -> None:
        if path in self._written or len(self._written) >= LIMIT_NAMES:
            return
        try:
            existed = True
            if not stat.S_ISREG(os.stat(path).st_mode):
                return
        except OSError:
            existed = False
        self._written.add(path)
        self._report({"path": path, "mode": "write", "existed": existed, **_thread_name()})

    def _lists(self, path: Any = None, *_: Any) -> None:
        if path is None or path == "":
            path = "."
        if isinstance(path, int) or sys._getframe(2).f_code.co_filename.startswith("<frozen importlib"):
            return  # a descriptor, or the search for a module
        path = os.path.abspath(os.fsdecode(path))
        if (path + os.sep).startswith((*self._own, *self._packages, *self._system)):
            return
        if len(self._folders) >= LIMIT_FOLDERS or self._listed_names <= 0:
            return self._count("listings beyond the limit")
        try:
            names = os.listdir(path)
        except OSError:
            return
        self._listed_names -= len(names)
        order, content = self._new(0), self._new(0)
        order.update("\0".join(names).encode("utf-8", "surrogateescape"))
        digest = order.hexdigest()
        if (path, digest) in self._folders:
            return
        self._folders.add((path, digest))
        content.update("\0".join(sorted(names)).encode("utf-8", "surrogateescape"))
        self._report({"path": path, "mode": "list", "count": len(names), "order": digest, "names": content.hexdigest(), "first": names[:8]})

    def _reads(self, path: str, database: bool = False) -> None:
        try:
            s = os.stat(path)
        except OSError:
            return  # the program's own open will fail
        if not stat.S_ISREG(s.st_mode):
            return self._count("not a regular file")
        size = s.st_size
        key = (path, size, s.st_mtime_ns, s.st_ino)
        if key in self._seen:
            return
        if self._names <= 0:
            return self._count("beyond the limit")
        versions = self._versions.get(path, 0)
        if versions >= _VERSIONS:
            return self._count("changed too often")
        self._versions[path] = versions + 1
        self._seen.add(key)
        self._names -= 1
        record: dict[str, Any] = {"path": path, "mode": "read", "size": size, "modified": round(s.st_mtime, 3), **_thread_name()}
        if path in self._written or s.st_ctime_ns > self._started:  # libraries that write by themselves raise no event
            record["written"] = True
        if database:
            record["database"] = True
        cost = size if size <= WHOLE_BYTES else _BLOCKS * _BLOCK_BYTES
        if path.endswith(_LOCKS):
            record["why"] = "a lock file is not read"
        elif database and _is_open(s):
            record["why"] = "it is open here already, and may be locked"
        elif self._files <= 0:
            record["why"] = "more files were read than are hashed"
        elif cost > self._bytes:
            record["why"] = "more bytes were read than are hashed"
        else:
            self._files -= 1
            self._bytes -= cost
            try:
                record["hash"], sampled = hash_file(path, size, self._algorithm, self._new)
                if sampled:
                    record["sampled"] = True
            except OSError as error:
                record["why"] = f"not readable: {error.strerror or error}"
        self._report(record)
