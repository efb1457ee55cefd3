"""What a trial opened is told by the kernel, and which changes of a tree it cannot have noticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reprodebug.bisect.opened import Change, Watch, unaffected

PROGRAM = """\
import os, pathlib
exec(open("conf.py").read())
try:
    import local_settings
except ImportError:
    pass
os.system("cat inner/data.csv > /dev/null")
print(sorted(p.name for p in pathlib.Path("plugins").iterdir()))
"""


@pytest.fixture
def seen(tmp_path: Path) -> str:
    """What a program opened that runs a file, fails to import another, starts a process and lists a folder."""
    tree = tmp_path / "tree"
    for name in ("conf.py", "inner/data.csv", "inner/other.csv", "plugins/a.py", "docs/x.md", "tests/test_a.py", "idle.py"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("x = 1\n")
    (tree / "main.py").write_text(PROGRAM)
    path = str(tmp_path / "opened.json")
    watch = Watch(str(tree))
    subprocess.run([sys.executable, "main.py"], cwd=tree, check=True, capture_output=True)
    watch.stop(path)
    if not Path(path).exists():
        pytest.skip("this system does not tell what is opened")
    return path


def change(path: str, status: str = "M", mode: str = "100644") -> Change:
    return Change(path, status, ("000000" if status == "A" else mode, "000000" if status == "D" else mode))


@pytest.mark.parametrize(
    "one",
    [
        change("conf.py"), change("inner/data.csv"), change("local_settings.py", "A"), change("plugins/b.py", "A"),
        change("plugins/a.py", "D"), change("inner/note.md", "A"), change("main.py"), change("idle.py", "D"),
        change("docs/x.md", mode="120000"), change("sub", mode="160000"), change(".gitattributes", "A"), change("docs/flag", "A"),
    ],
    ids=lambda c: f"{c.status} {c.path} {c.modes[1]}",
)  # fmt: skip
def test_what_may_have_been_noticed_is_no_answer(seen: str, one: Change) -> None:
    assert not unaffected(seen, [one], ())


@pytest.mark.parametrize(
    "one", [change("idle.py"), change("inner/other.csv"), change("docs/x.md"), change("tests/test_b.py", "A"), change("tests/test_a.py", "D")],
    ids=lambda c: f"{c.status} {c.path}",
)  # fmt: skip
def test_what_cannot_have_been_noticed_is_one(seen: str, one: Change) -> None:
    assert unaffected(seen, [one], ())


def test_a_new_folder_shows_in_the_folder_above(seen: str) -> None:
    assert not unaffected(seen, [change("data/__init__.py", "A")], {"data"})
    assert unaffected(seen, [change("docs/more/x.md", "A")], {"docs/more"})


def test_what_was_not_seen_is_no_answer(tmp_path: Path) -> None:
    assert not unaffected(str(tmp_path / "none"), [change("idle.py")], ())
    Watch(str(tmp_path / "nowhere")).stop(str(tmp_path / "found"))
    assert not (tmp_path / "found").exists()
