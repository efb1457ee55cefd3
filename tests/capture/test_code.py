"""The code record, from real repositories, which must not notice."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest

from reprodebug.capture import code

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
KEY = b"k" * 32
SECRET = "ghp_" + "a1B2" * 9


def git(folder, *args: str) -> str:
    who = ("-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false", "-c", "protocol.file.allow=always")
    done = subprocess.run(["git", "-C", str(folder), *who, *args], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repo(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    repo = tmp_path / "repo"
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    (repo / "train.py").write_text("lr = 1\n")
    (repo / "base.yaml").write_text("lr: 1\npassword: 'hunter22'\n")
    (repo / ".gitignore").write_text("ignored.py\n")
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", f"first {SECRET}")
    return repo


def state(folder) -> dict[str, tuple[str, int]]:
    """Every file below a folder: content and time of last change."""
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            if not os.path.islink(path):
                with open(path, "rb") as f:
                    found[path] = hashlib.sha256(f.read()).hexdigest(), os.stat(path).st_mtime_ns
    return found


def test_clean_repository(repo) -> None:
    found = code.describe_code(str(repo), ["python", "train.py"], key=KEY)
    assert found["vcs"] == "git"
    assert found["commit"] == git(repo, "rev-parse", "HEAD")
    assert found["branch"] == "main"
    assert (found["dirty"], found["patch"], found["untracked"]) == (False, "", {})
    assert "why" not in found
    assert SECRET not in json.dumps(found)


def test_changes_staged_unstaged_and_untracked(repo) -> None:
    (repo / "train.py").write_text(f'lr = 2\ntoken = "hunter22"  # {SECRET}\n')
    (repo / "staged.py").write_text("s = 1\n")
    git(repo, "add", "staged.py")
    (repo / "new.py").write_text("n = 1\n")
    (repo / "weights.bin").write_text("no source")
    (repo / "ignored.py").write_text("i = 1\n")
    os.mkfifo(repo / "pipe.py")
    found = code.describe_code(str(repo), ["python"], key=KEY)
    assert found["dirty"] is True
    assert "+lr = 2" in str(found["patch"])
    assert "+s = 1" in str(found["patch"])
    assert list(found["untracked"]) == ["new.py"]
    text = json.dumps(found)
    assert SECRET not in text
    assert "hunter22" not in text


def test_the_repository_does_not_notice(repo) -> None:
    """Same bytes and times in .git and in the tree, even where the index is stale, and nothing of its configuration runs."""
    trap, fired = repo.parent / "trap.sh", repo.parent / "fired"
    trap.write_text(f"#!/bin/sh\necho fired >> {fired}\ncat\n")
    trap.chmod(0o755)
    for name, value in (("core.fsmonitor", str(trap)), ("core.hooksPath", str(repo.parent)), ("diff.external", str(trap)),
                        ("diff.x.textconv", str(trap)), ("diff.x.command", str(trap)), ("core.pager", str(trap))):  # fmt: skip
        git(repo, "config", name, value)
    (repo / ".git" / "info").mkdir(exist_ok=True)
    (repo / ".git" / "info" / "attributes").write_text("*.py diff=x\n")
    (repo / "train.py").write_text("lr = 2\n")
    os.utime(repo / "base.yaml", (1, 1))  # stat differs, content does not: an ordinary `git status` would refresh the index
    before = state(repo)
    found = code.describe_code(str(repo), ["python", "train.py"], key=KEY)
    assert "+lr = 2" in str(found["patch"])
    assert "base.yaml" not in str(found["patch"])
    assert state(repo) == before
    assert not fired.exists()


def test_from_below_and_with_a_foreign_git_dir(repo, tmp_path, monkeypatch) -> None:
    (repo / "sub").mkdir()
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other-index"))
    found = code.describe_code(str(repo / "sub"), ["python"], key=KEY)
    assert found["root"] == str(repo)
    assert (found["dirty"], found["untracked"]) == (False, {})


def test_script_elsewhere(repo, tmp_path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    found = code.describe_code(str(plain), ["python", str(repo / "train.py")], key=KEY)
    assert found["root"] == str(repo)


def test_remotes_lose_their_credentials(repo) -> None:
    git(repo, "remote", "add", "origin", "https://user:hunter2@host/x.git")
    git(repo, "remote", "add", "short", "https://tok@host/x.git")
    git(repo, "remote", "add", "ssh", "git@host:x.git")
    found = code.describe_code(str(repo), ["python"], key=KEY)
    assert found["remotes"] == {"origin": "https://host/x.git", "short": "https://host/x.git", "ssh": "git@host:x.git"}


def test_no_commit_yet(tmp_path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "a.py").write_text("a = 1\n")
    git(tmp_path, "add", "a.py")
    found = code.describe_code(str(tmp_path), ["python"], key=KEY)
    assert found["commit"] is None
    assert "+a = 1" in str(found["patch"])


def test_detached_head(repo) -> None:
    git(repo, "checkout", "-q", "--detach")
    found = code.describe_code(str(repo), ["python"], key=KEY)
    assert found["branch"] is None
    assert found["commit"]


def test_submodules(repo, tmp_path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    git(inner, "init", "-q", "-b", "main")
    (inner / "x.py").write_text("x = 1\n")
    git(inner, "add", ".")
    git(inner, "commit", "-q", "-m", "inner")
    git(repo, "submodule", "add", "-q", str(inner), "deps/inner")
    git(repo, "commit", "-q", "-m", "with submodule")
    first = git(inner, "rev-parse", "HEAD")
    assert code.describe_code(str(repo), ["python"], key=KEY)["submodules"] == {"deps/inner": first}
    git(repo / "deps" / "inner", "commit", "-q", "--allow-empty", "-m", "ahead")
    moved = code.describe_code(str(repo), ["python"], key=KEY)
    assert f"the commit asks for {first}" in str(moved["submodules"])
    assert moved["dirty"] is True


def test_a_huge_patch_is_cut(repo, monkeypatch) -> None:
    monkeypatch.setattr(code, "_MAX_PATCH", 1000)
    (repo / "train.py").write_text("x = 1\n" * 10_000)
    found = code.describe_code(str(repo), ["python"], key=KEY)
    assert found["patch_cut"] is True
    assert len(str(found["patch"])) == 1000


def test_time_limit(repo, monkeypatch) -> None:
    monkeypatch.setattr(code, "TIME_LIMIT_S", 0.0)
    found = code.describe_code(str(repo), ["python"], key=KEY)
    assert found["commit"]
    assert "time limit" in str(found["why"])


def test_no_repository(tmp_path) -> None:
    found = code.describe_code(str(tmp_path), ["python", "x.py"], key=KEY)
    assert (found["vcs"], found["why"]) == (None, "not a git repository")


def test_broken_repository(tmp_path) -> None:
    (tmp_path / ".git").mkdir()
    found = code.describe_code(str(tmp_path), ["python"], key=KEY)
    assert found["vcs"] is None
    assert found["why"]


def test_without_git(repo) -> None:
    """In a child: GitPython looks for git when it is imported."""
    program = "import json\nfrom reprodebug.capture import code\n"
    program += f"print(json.dumps(code.describe_code({str(repo)!r}, ['python'], key=b'k')))"
    variables = {k: v for k, v in os.environ.items() if k != "PATH"} | {"PATH": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["vcs"] is None
    assert "git" in found["why"]


def test_files_that_the_command_names(repo) -> None:
    (repo / "data.csv").write_text("1,2\n")
    argv = ["python", "train.py", "--config=base.yaml", "--data", "data.csv", "--missing", "none.csv", "data=data.csv", "\0", ""]
    found = code.describe_code(str(repo), argv, key=KEY)["named"]
    assert sorted(found) == ["base.yaml", "data.csv", "train.py"]
    assert "lr: 1" in found["base.yaml"]["text"]
    assert "hunter22" not in json.dumps(found)
    assert "text" not in found["data.csv"]


def test_gitpython_is_imported_late() -> None:
    program = "import sys, reprodebug.capture.code, reprodebug.capture.environment; print('git' in sys.modules, 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split() == [
        "False",
        "False",
    ]
