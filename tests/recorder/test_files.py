"""Files read and written, seen through the audit event. Audit hooks cannot be taken out, so each case runs in a child."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

HEAD = """
import json, os, sys
from reprodebug.recorder import files
seen = []
watch = files.FileWatch(seen.append, ignore=[os.path.join(os.getcwd(), "run")], **{options})
watch.start()
"""
TAIL = """
watch.stop()
print(json.dumps([seen, watch.left_out]))
"""


def watch(tmp_path, body: str, options: str = "{}") -> tuple[list[dict], dict]:
    code = HEAD.replace("{options}", options) + textwrap.dedent(body) + TAIL
    root = os.getcwd()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"PYTHONPATH": root},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen, left_out = json.loads(done.stdout.splitlines()[-1])
    return seen, left_out


def test_reads_are_hashed_once_per_content(tmp_path) -> None:
    (tmp_path / "a.csv").write_bytes(b"1,2\n")
    (tmp_path / "b.csv").write_bytes(b"1,2\n")
    seen, _ = watch(
        tmp_path,
        """
        import pathlib
        for _ in range(3):
            with open("a.csv") as f: f.read()
        pathlib.Path("b.csv").read_bytes()
        os.close(os.open("./b.csv", os.O_RDONLY))
        with open(b"a.csv", "rb") as f: f.read()
        """,
    )
    assert [os.path.basename(s["path"]) for s in seen] == ["a.csv", "b.csv"]
    assert seen[0]["path"] == str(tmp_path / "a.csv")
    assert seen[0]["hash"] == seen[1]["hash"]
    assert seen[0]["size"] == 4
    assert seen[0]["mode"] == "read"


def test_written_files_and_reading_them_again(tmp_path) -> None:
    (tmp_path / "old.txt").write_text("x")
    seen, _ = watch(
        tmp_path,
        """
        with open("new.txt", "w") as f: f.write("1")
        with open("new.txt") as f: f.read()
        with open("old.txt", "a") as f: f.write("1")
        """,
    )
    assert [(os.path.basename(s["path"]), s["mode"], s.get("existed"), s.get("written")) for s in seen] == [
        ("new.txt", "write", False, None), ("new.txt", "read", None, True), ("old.txt", "write", True, None),
    ]  # fmt: skip


def test_update_in_place_is_a_read_and_a_write(tmp_path) -> None:
    (tmp_path / "x.npy").write_bytes(b"abc")
    seen, _ = watch(tmp_path, 'open("x.npy", "r+b").close(); os.close(os.open("x.npy", os.O_RDWR))')
    assert [s["mode"] for s in seen] == ["read", "write"]
    assert "hash" in seen[0]


def test_what_is_no_data_is_left_out(tmp_path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x").write_text("x")
    (tmp_path / "m.py").write_text("x = 1\n")
    (tmp_path / "model.pth").write_text("weights")
    seen, left_out = watch(
        tmp_path,
        """
        sys.path.insert(0, ".")
        import m
        open("run/x").close()
        open(os.__file__).close()
        open("/proc/self/status").close()
        open("/dev/null").close()
        open("model.pth").close()
        try: open("absent")
        except FileNotFoundError: pass
        try: open(".")
        except IsADirectoryError: pass
        """,
    )
    assert [os.path.basename(s["path"]) for s in seen] == ["model.pth"]
    assert left_out["system"] >= 2
    assert left_out["not a regular file"] == 1


def test_code_that_is_run_by_its_path_is_noted(tmp_path) -> None:
    (tmp_path / "plugin.py").write_text("X = 1\n")
    (tmp_path / "other.py").write_text("Y = 2\n")
    seen, _ = watch(
        tmp_path,
        """
        import importlib.util, runpy
        for _ in range(2):  # from the source, then from its cached bytecode
            spec = importlib.util.spec_from_file_location("p", "plugin.py")
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
        runpy.run_path("other.py")
        open("copy.py", "w").close()
        print(json.dumps([[{"path": p} for p in sorted(watch.sources)], {}]))
        sys.stdout.flush()
        os._exit(0)
        """,
    )
    assert [os.path.basename(s["path"]) for s in seen] == ["other.py", "plugin.py"]


def test_a_fifo_is_never_opened(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    seen, left_out = watch(
        tmp_path,
        """
        import threading
        def write():
            with open("pipe", "w") as f: f.write("through")
        t = threading.Thread(target=write); t.start()
        with open("pipe") as f: assert f.read() == "through"
        t.join()
        """,
    )
    assert seen == []
    assert left_out == {"not a regular file": 1}


def test_limits_keep_the_name_and_say_why(tmp_path) -> None:
    for n in range(4):
        (tmp_path / f"{n}.bin").write_bytes(b"x" * 10)
    body = 'for n in range(4): open(f"{n}.bin").close()'
    by_files, _ = watch(tmp_path, body, "{'limit_files': 2}")
    assert ["hash" in s for s in by_files] == [True, True, False, False]
    assert by_files[3].pop("modified") > 0
    assert by_files[3] == {
        "path": str(tmp_path / "3.bin"),
        "mode": "read",
        "size": 10,
        "why": "more files were read than are hashed",
    }
    by_bytes, _ = watch(tmp_path, body, "{'limit_bytes': 25}")
    assert ["hash" in s for s in by_bytes] == [True, True, False, False]


def test_large_files_are_sampled(tmp_path) -> None:
    for name, at in (("a", 0), ("b", 0), ("c", (64 << 20) + 999)):
        with open(tmp_path / name, "wb") as f:
            f.truncate((64 << 20) + 1000)
            f.seek(at)
            f.write(b"!" if name != "a" else b"\0")
    seen, _ = watch(tmp_path, 'for n in "abc": open(n).close()')
    assert [s["sampled"] for s in seen] == [True] * 3
    assert len({s["hash"] for s in seen}) == 3


def test_lock_files_are_not_touched(tmp_path) -> None:
    (tmp_path / "x.lock").write_text("")
    seen, _ = watch(tmp_path, 'open("x.lock").close()')
    assert seen[0]["why"] == "a lock file is not read"


def test_forked_children_and_threads(tmp_path) -> None:
    for n in range(8):
        (tmp_path / f"{n}.bin").write_bytes(bytes([n]))
    seen, _ = watch(
        tmp_path,
        """
        import threading
        def read(n):
            with open(f"{n}.bin", "rb") as f: assert f.read() == bytes([n])
        ts = [threading.Thread(target=read, args=(n,)) for n in range(6)]
        [t.start() for t in ts]; [t.join() for t in ts]
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            read(6); read(7)
            os.write(w, json.dumps(seen[-2:]).encode()); os._exit(0)
        os.waitpid(pid, 0)
        seen += json.loads(os.read(r, 10000))
        """,
    )
    assert sorted(os.path.basename(s["path"]) for s in seen) == [f"{n}.bin" for n in range(8)]
    assert all("hash" in s for s in seen)


def test_a_report_that_fails_does_not_reach_the_program(tmp_path) -> None:
    (tmp_path / "a").write_text("x")
    _, left_out = watch(tmp_path, 'watch._report = None\nwith open("a") as f: assert f.read() == "x"')
    assert left_out == {"TypeError in the recorder": 1}


def test_stop_stops(tmp_path) -> None:
    (tmp_path / "a").write_text("x")
    assert watch(tmp_path, 'watch.stop()\nopen("a").close()') == ([], {})


@pytest.mark.parametrize("module", ["torch", "numpy"])
def test_the_watch_imports_nothing_heavy(tmp_path, module: str) -> None:
    watch(tmp_path, f"assert {module!r} not in sys.modules")


def test_databases_are_hashed_before_they_are_connected_to(tmp_path) -> None:
    make = "import sqlite3; c = sqlite3.connect('rows.db'); c.execute('create table r (x)'); c.commit()"
    subprocess.run([sys.executable, "-c", make], cwd=tmp_path, check=True)
    whole = (tmp_path / "rows.db").read_bytes()
    seen, _ = watch(
        tmp_path,
        """
        import pathlib, sqlite3
        sqlite3.connect(":memory:")
        for name in ("rows.db", pathlib.Path("rows.db"), "file:rows.db?mode=rw"):
            with sqlite3.connect(name, uri=True) as connection:
                connection.execute("insert into r values (1)")
        sqlite3.connect("new.db")
        """,
    )
    first, new = seen
    assert (os.path.basename(first["path"]), first["mode"], first["database"]) == ("rows.db", "read", True)
    assert first["size"] == len(whole) and first["hash"] == hashed(tmp_path, whole)
    assert (os.path.basename(new["path"]), new["mode"], new["existed"]) == ("new.db", "write", False)


def hashed(tmp_path, content: bytes) -> str:
    """The hash that the watch gives a file of this content."""
    (tmp_path / "same.bin").write_bytes(content)
    return watch(tmp_path, "open('same.bin').close()")[0][0]["hash"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what is open is asked of /proc")
def test_a_database_that_is_open_already_keeps_its_locks(tmp_path) -> None:
    """A process that closes a file drops all its locks on it: another process could then write into the transaction."""
    body = """
        import sqlite3, subprocess
        watch.stop()
        connection = sqlite3.connect("rows.db", isolation_level=None)
        connection.execute("create table r (x)")
        connection.execute("begin exclusive")
        watch.start()
        sqlite3.connect("rows.db")
        other = "import sqlite3; sqlite3.connect('rows.db', timeout=0).execute('insert into r values (1)')"
        assert subprocess.run([sys.executable, "-c", other], stderr=subprocess.DEVNULL).returncode == 1
    """
    seen, _ = watch(tmp_path, body)
    assert seen[0]["database"] and "hash" not in seen[0] and "open here already" in seen[0]["why"]
