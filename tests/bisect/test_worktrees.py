"""The working tree of our own: what trials leave in it, and what a commit alone does not hold."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from reprodebug._base.errors import UsageError
from reprodebug.bisect.trial import Untestable
from reprodebug.bisect.worktrees import Worktree
from tests.bisect.test_whole import digest, git


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    made = tmp_path / "repo"
    made.mkdir()
    git(made, "init", "-q", "-b", "main")
    commit(made, "one", **{"model.py": "one\n", "same.py": "same\n"})
    commit(made, "two", **{"model.py": "two\n"})
    return made


def commit(repo: Path, subject: str, **files: str) -> str:
    for name, text in files.items():
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).write_text(text)
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", subject)
    return git(repo, "rev-parse", "HEAD")


def tree(repo: Path, tmp_path: Path) -> Worktree:
    session = tmp_path / "session"
    session.mkdir(exist_ok=True)
    return Worktree(str(repo), str(session))


def harm(work: Path, how: str) -> None:
    """What a trial may do to the tree in which it runs."""
    if how == "edits":
        (work / "model.py").write_text("edited\n")
        (work / "same.py").unlink()
        (work / "sitecustomize.py").write_text("raise SystemExit(9)\n")
    elif how == "hidden edits":
        git(work, "update-index", "--assume-unchanged", "same.py")
        (work / "same.py").write_text("edited\n")
    elif how == "own repository":
        (work / "runs").mkdir()
        git(work / "runs", "init", "-q")
        (work / "runs" / "x.py").write_text("x\n")
    elif how == "no rights":
        (work / "closed" / "inner").mkdir(parents=True)
        (work / "closed" / "inner" / "f").write_text("x")
        (work / "closed").chmod(0o000)
    elif how == "lock":
        (Path(git(work, "rev-parse", "--absolute-git-dir")) / "index.lock").write_text("")
    elif how == "no git":
        (work / ".git").unlink()
    elif how == "commits":
        (work / "model.py").write_text("committed\n")
        git(work, "commit", "-qam", "mine")
        git(work, "checkout", "-q", "-b", "elsewhere")
    elif how == "all gone":
        for path in work.rglob("*"):
            if path.is_file():
                path.unlink()


@pytest.mark.parametrize("how", ["edits", "hidden edits", "own repository", "no rights", "lock", "no git", "commits", "all gone"])
def test_what_a_trial_leaves_does_not_reach_the_next(repo: Path, tmp_path: Path, how: str) -> None:
    before = digest(repo)
    t = tree(repo, tmp_path)
    one, two = t.resolve("main~1"), t.resolve("main")
    work = Path(t.enter(one))
    assert (work / "model.py").read_text() == "one\n"
    harm(work, how)
    assert Path(t.enter(two)) == work
    found = {str(p.relative_to(work)): p.read_text() for p in work.rglob("*") if p.is_file() and p.name != ".git"}
    assert found == {"model.py": "two\n", "same.py": "same\n"}
    assert digest(repo) == before
    t.leave()
    assert not list((tmp_path / "session").iterdir())


def test_ignored_data_is_brought_and_large_data_is_named(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(repo, "three", **{".gitignore": "data/\n*.bin\n"})
    (repo / "data").mkdir()
    (repo / "data" / "train.csv").write_text("1,2\n")
    (repo / "notes.txt").write_text("not ignored, not added\n")
    (repo / ".venv" / "lib").mkdir(parents=True)
    (repo / ".venv" / "lib" / "x.py").write_text("x\n")
    (repo / "large.bin").write_bytes(b"x" * 5000)
    monkeypatch.setattr("reprodebug.bisect.worktrees.COPIED_MOST", 4000)
    t = tree(repo, tmp_path)
    work = Path(t.enter(t.resolve("main~2")))
    assert (work / "data" / "train.csv").read_text() == "1,2\n"
    assert (work / "notes.txt").exists()
    assert not (work / ".venv").exists() and not (work / "large.bin").exists()
    assert any("large.bin" in note for note in t.notes)
    (work / "data" / "train.csv").write_text("overwritten by a trial\n")
    t.enter(t.resolve("main"))
    assert (work / "data" / "train.csv").read_text() == "1,2\n"
    assert (repo / "data" / "train.csv").read_text() == "1,2\n"


def test_submodules_are_entered_at_the_recorded_commit(repo: Path, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.mkdir()
    git(part, "init", "-q", "-b", "main")
    commit(part, "p1", **{"part.py": "1\n"})
    git(repo, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(part), "libs/part")
    with_one = commit(repo, "with a part")
    commit(part, "p2", **{"part.py": "2\n"})
    git(repo / "libs" / "part", "pull", "-q", "origin", "main")
    with_two = commit(repo, "a newer part")
    before = digest(repo)
    t = tree(repo, tmp_path)
    for where, content in ((with_one, "1\n"), (with_two, "2\n"), (t.resolve("main~3"), None), (with_one, "1\n")):
        work = Path(t.enter(where))
        file = work / "libs" / "part" / "part.py"
        assert (file.read_text() if file.exists() else None) == content
        if file.exists():
            file.write_text("edited by a trial\n")
    assert not t.notes
    assert digest(repo) == before


def test_a_submodule_that_is_not_there_is_named(repo: Path, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.mkdir()
    git(part, "init", "-q", "-b", "main")
    commit(part, "p1", **{"part.py": "1\n"})
    git(repo, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(part), "part")
    commit(repo, "with a part")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repo), str(clone))
    t = tree(clone, tmp_path)
    t.enter(t.resolve("main"))
    assert any("submodule part" in note and "git submodule update" in note for note in t.notes)


def test_pointers_of_large_files_become_the_files_or_are_named(repo: Path, tmp_path: Path) -> None:
    content = b"weights\n"
    oid = hashlib.sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{{}}\nsize {len(content)}\n"
    commit(
        repo, "large", **{".gitattributes": "*.pt filter=lfs diff=lfs merge=lfs -text\n", "there.pt": pointer.format(oid),
                          "sub/lost.pt": pointer.format("0" * 64)},
    )  # fmt: skip
    store = repo / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4]
    store.mkdir(parents=True)
    (store / oid).write_bytes(content)
    t = tree(repo, tmp_path)
    work = Path(t.enter(t.resolve("main")))
    assert (work / "there.pt").read_bytes() == content
    assert (work / "sub" / "lost.pt").read_text().startswith("version https://git-lfs")
    assert any("Git LFS" in note and "git lfs fetch" in note for note in t.notes)
    assert (store / oid).read_bytes() == content


def test_a_patch_that_does_not_apply_is_untestable(repo: Path, tmp_path: Path) -> None:
    patch = "diff --git a/model.py b/model.py\n--- a/model.py\n+++ b/model.py\n@@ -1 +1 @@\n-two\n+three\n"
    t = tree(repo, tmp_path)
    work = Path(t.enter(t.resolve("main"), patch))
    assert (work / "model.py").read_text() == "three\n"
    with pytest.raises(Untestable, match="do not apply"):
        t.enter(t.resolve("main~1"), patch)
    t.enter(t.resolve("main~1"))
    assert (work / "model.py").read_text() == "one\n"
    assert os.listdir(work) and not list(work.glob("*.rej"))


def test_what_two_commits_differ_in(tmp_path: Path) -> None:
    folder = tmp_path / "history"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for name in ("a.py", "gone.py", "kept/x.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("1\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "one")
    (folder / "a.py").write_text("2\n")
    (folder / "gone.py").unlink()
    (folder / "new").mkdir()
    (folder / "new/y z.py").write_text("1\n")
    (folder / "link").symlink_to("a.py")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "two")
    changes, folders = Worktree(str(folder), str(tmp_path / "s")).changed("main~1", "main")
    assert {(c.path, c.status) for c in changes} == {("a.py", "M"), ("gone.py", "D"), ("new/y z.py", "A"), ("link", "A")}
    assert {c.path: c.modes[1] for c in changes}["link"] == "120000"
    assert folders == {"new"}


def test_a_commit_that_a_shallow_clone_has_not_is_refused_with_the_remedy(repo: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--depth", "1", repo.as_uri(), "shallow")
    with pytest.raises(UsageError) as error:
        tree(tmp_path / "shallow", tmp_path).resolve(git(repo, "rev-parse", "main~1"))
    assert "--unshallow" in error.value.hint


def test_how_files_are_written_follows_the_commit_though_they_are_the_same(repo: Path, tmp_path: Path) -> None:
    before = commit(repo, "text", **{"words.txt": "a\nb\n"})
    after = commit(repo, "for Windows", **{".gitattributes": "*.txt text eol=crlf\n"})
    made = tree(repo, tmp_path)
    for at, content in ((before, b"a\nb\n"), (after, b"a\r\nb\r\n"), (before, b"a\nb\n")):
        assert (Path(made.enter(at)) / "words.txt").read_bytes() == content
