"""Data files that the sources name are described, though no opening of them was seen."""

from __future__ import annotations

import os
import time
from pathlib import Path

from reprodebug.capture.files import changed_since, named_by_sources


def test_files_that_a_string_names(tmp_path: Path) -> None:
    for name in ("rows.db", "known.csv", "helper.py", "fresh.h5"):
        (tmp_path / name).write_text(name)
    (tmp_path / "folder.d").mkdir()
    old = time.time() - 100
    for name in ("rows.db", "known.csv", "helper.py"):
        os.utime(tmp_path / name, (old, old))
    source = "open_db('rows.db'); use('known.csv', 'helper.py', 'folder.d', 'fresh.h5', 'absent.db', 'a\\0b.c', 'word')"
    started = time.time() + 10
    found = named_by_sources(
        {"train.py": {"text": source}, "odd.py": {"text": "def ("}}, {str(tmp_path / "known.csv"): {}}, str(tmp_path), started
    )
    assert set(found) == {str(tmp_path / "rows.db"), str(tmp_path / "fresh.h5")}
    row = found[str(tmp_path / "rows.db")]
    assert (row["mode"], row["by"], row["size"]) == ("named", "source", 7)
    assert row["hash"].endswith(
        named_by_sources({"x": {"text": "'rows.db'"}}, {}, str(tmp_path), started)[str(tmp_path / "rows.db")]["hash"][-8:]
    )


def test_a_file_changed_since_the_start_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "out.db").write_text("x")
    assert named_by_sources({"train.py": {"text": "save('out.db')"}}, {}, str(tmp_path), time.time() - 60) == {}


def test_a_database_changed_since_it_was_connected_to(tmp_path: Path) -> None:
    path = tmp_path / "rows.db"
    path.write_bytes(b"1")
    about = path.stat()
    entry = {"mode": "read", "database": True, "size": 1, "modified": round(about.st_mtime, 3)}
    found = {str(path): dict(entry), str(tmp_path / "gone.db"): dict(entry)}
    changed_since(found)
    assert not any("changed" in e for e in found.values())
    path.write_bytes(b"12")
    changed_since(found)
    assert found[str(path)]["changed"] and "changed" not in found[str(tmp_path / "gone.db")]
