"""The contents of RocksDB folders, read in a process of its own: a damaged database can take RocksDB down or keep it busy for ever.

``python -m reprodebug.foreign._rocks OUT FOLDER...`` writes, for each folder, frames of key length, value length (u32, little-endian), key and
value, and an end mark. Owns the limits of time, memory and size.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile

_FRAME = struct.Struct("<II")
_END = 0xFFFFFFFF
_FAILED = 0xFFFFFFFE
LIMIT_S = 60
_MEMORY = 8 << 30
_MOST_BYTES = 1 << 30


class Failed(Exception):
    """RocksDB could not read a folder; the text says why."""


def contents(folders: list[str]) -> list[list[tuple[bytes, bytes]]]:
    """Keys and values of each folder; these are copies, RocksDB may write beside them. Raises Failed, and ImportError where the extra is missing."""
    import rocksdict  # noqa: F401 - said here, where it can be told from a damaged database

    with tempfile.TemporaryDirectory(prefix="reprodebug-") as temporary:
        out = os.path.join(temporary, "out")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        command = [sys.executable, "-m", "reprodebug.foreign._rocks", out, *folders]
        try:
            done = subprocess.run(command, env=environment, cwd=temporary, capture_output=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"RocksDB was not done after {LIMIT_S} seconds: the database is damaged") from error
        if done.returncode:
            raise Failed(f"RocksDB ended with {done.returncode}: the database is damaged")
        with open(out, "rb") as f:
            return _parsed(f.read(), len(folders))


def _parsed(data: bytes, count: int) -> list[list[tuple[bytes, bytes]]]:
    found: list[list[tuple[bytes, bytes]]] = [[]]
    at = 0
    while at + 8 <= len(data):
        key, value = _FRAME.unpack_from(data, at)
        at += 8
        if key == _FAILED:
            raise Failed(data[at : at + value].decode("utf-8", "replace"))
        if key == _END:
            found.append([])
            continue
        found[-1].append((data[at : at + key], data[at + key : at + key + value]))
        at += key + value
    if len(found) != count + 1:
        raise Failed("the database is damaged")
    return found[:count]


def main(out: str, folders: list[str]) -> None:
    """The child."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass
    from rocksdict import AccessType, Options, Rdict

    written = 0
    with open(out, "wb") as f:
        for folder in folders:
            try:
                db = Rdict(folder, Options(raw_mode=True), access_type=AccessType.read_only())
                for key, value in db.items():
                    if isinstance(key, bytes) and isinstance(value, bytes) and written < _MOST_BYTES:
                        f.write(_FRAME.pack(len(key), len(value)) + key + value)
                        written += len(key) + len(value)
                db.close()
            except Exception as error:  # noqa: BLE001 - rocksdict raises plain Exception
                text = str(error)[:160].encode()
                f.write(_FRAME.pack(_FAILED, len(text)) + text)
                return
            f.write(_FRAME.pack(_END, 0))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
