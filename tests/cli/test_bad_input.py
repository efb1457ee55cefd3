"""Every mistake gets one sentence, one hint and the exit code of the contract; never a traceback, never a word on stdout."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.cli.program import PYTHON, complaint, environment, here, reprodebug
from tests.store.journals import build_run, journal_bytes, training


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(build_run(tmp_path_factory.mktemp("runs") / "good", extras=True))


# without anything


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"], ["capture", "--help"], ["compare", "-h"], ["show", "--help"]])
def test_help(words: list[str]) -> None:
    done = reprodebug(*words)
    assert done.returncode == 0 and done.stderr == b""
    assert b"reprodebug capture" in done.stdout or b"usage: reprodebug" in done.stdout


def test_version() -> None:
    done = reprodebug("--version")
    assert done.returncode == 0 and done.stdout.startswith(b"reprodebug ") and done.stderr == b""


@pytest.mark.parametrize(
    ("word", "part"),
    [("captur", "`reprodebug capture`"), ("comapre", "`reprodebug compare`"), ("sohw", "`reprodebug show`"), ("zzz", "--help"),
     ("--frobnicate", "--help"), ("x\x1b[31m\n", "\\x1b"),
     ("bisect", "no command"), ("check", "must stand behind"), ("zoom", "--help")],
)  # fmt: skip
def test_unknown_commands(word: str, part: str) -> None:
    complaint(reprodebug(word), 2, part)


# capture


def test_capture_without_the_dashes_shows_the_right_form(tmp_path: Path) -> None:
    err = complaint(reprodebug("capture", "-o", "r", "python", "train.py", "--lr", "1 2", cwd=tmp_path), 2, "`--`")
    assert "reprodebug capture -o r -- python train.py --lr '1 2'" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["--"], [], ["-o", "r"], ["-o", "r", "--"], ["--level", "full", "--"]])
def test_capture_of_nothing(tmp_path: Path, words: list[str]) -> None:
    complaint(reprodebug("capture", *words, cwd=tmp_path), 2, "no command", "reprodebug capture -- python train.py")
    assert list(tmp_path.iterdir()) == []


def test_commands_that_cannot_be_started(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain.py").write_text("print(1)\n")
    (tmp_path / "broken").write_bytes(b"\x00\x01\x02")
    (tmp_path / "broken").chmod(0o755)
    (tmp_path / "no-interpreter").write_text("#!/nowhere/python\n")
    (tmp_path / "no-interpreter").chmod(0o755)
    before = sorted(os.listdir(tmp_path))
    for word, part in (
        ("no-such-command-anywhere", "was not found"), ("plain.py", "python plain.py"), ("./none", "does not exist"),
        ("./folder", "is a directory"),
        (str(tmp_path), "is a directory"), ("./plain.py", "not executable"), ("./broken", "could not be started"), ("", "not found"),
        ("./no-interpreter", "could not be started"),
    ):  # fmt: skip
        complaint(reprodebug("capture", "-o", "r", "--", word, cwd=tmp_path), 125, part)
        assert sorted(os.listdir(tmp_path)) == before


def test_out_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("full", "file", "."):
        complaint(reprodebug("capture", "-o", name, "--", PYTHON, "-c", "open('ran', 'w')", cwd=tmp_path), 2, "not empty", "--out")
    assert sorted(os.listdir(tmp_path)) == ["file", "full"]


def test_out_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name in ("file/run", "/proc/run", "n" * 300, "/dev/null/x"):
        complaint(reprodebug("capture", "-o", name, "--", PYTHON, "-c", "open('ran', 'w')", cwd=tmp_path), 125, "--out")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_out_below_a_folder_without_permission(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=stat.S_IRUSR)
    complaint(reprodebug("capture", "-o", "closed/run", "--", "true", cwd=tmp_path), 125, "--out")


def test_a_working_directory_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    line = f"rmdir ../gone; exec {PYTHON} -m reprodebug capture -o r -- true"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path / "gone", env=environment(), capture_output=True, timeout=60)
    complaint(done, 125, "working directory")


@pytest.mark.parametrize(
    "options",
    [
        ["--steps", "x"], ["--steps", "3:3"], ["--steps", "5:2"], ["--steps", "-1:2"], ["--steps", "1:2:3"], ["--steps", ""],
        ["--steps", "9" * 5000], ["--steps"], ["--level", "everything"], ["--level"], ["--budget", "x"], ["--budget", "-1"],
        ["--budget", "nan"],
        ["--budget", "inf"], ["--budget", "1e999"], ["--budget", "G"], ["--steps", "1:2"], ["--modules", "a*"], ["--frobnicate"], ["-o"],
        ["-o", ""],
        ["--against", "nowhere"], ["--against"], ["--data"], ["--data", "nowhere.csv"],
    ],
)  # fmt: skip
def test_bad_options_of_capture(
    tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    complaint(here(capsys, "capture", *options, "--", PYTHON, "-c", "open('ran', 'w')"), 2)
    assert list(tmp_path.iterdir()) == []


# compare and show


def damaged(tmp_path: Path, name: str) -> Path:
    """Run directories that cannot be read, by what is wrong with them."""
    path = tmp_path / "run"
    if name in ("missing", "file", "empty", "other"):
        if name == "file":
            path.write_text("x")
        elif name != "missing":
            path.mkdir()
        if name == "other":
            (path / "x.txt").write_text("x")
        return path
    build_run(path)
    trace = path / "trace-rank0.h5"
    if name == "truncated trace":
        trace.write_bytes(trace.read_bytes()[:-1000])
    elif name == "empty trace":
        trace.write_bytes(b"")
    elif name == "missing trace":
        trace.unlink()
    elif name == "foreign trace":
        with h5py.File(trace, "w") as f:
            f["weights"] = np.zeros(3)
    elif name == "newer trace":
        with h5py.File(trace, "a") as f:
            f.attrs["schema_version"] = 7
    elif name == "newer run.json":
        value = json.loads((path / "run.json").read_text())
        (path / "run.json").write_text(json.dumps(value | {"schema_version": 7}))
    elif name == "corrupt run.json":
        (path / "run.json").write_text((path / "run.json").read_text()[:-20])
    elif name == "foreign run.json":
        (path / "run.json").write_text('{"tool": "another"}')
    elif name == "trace elsewhere":
        value = json.loads((path / "run.json").read_text())
        value["processes"][0]["trace"] = "../../x.h5"
        (path / "run.json").write_text(json.dumps(value))
    return path


def test_a_folder_of_runs_names_them(tmp_path: Path) -> None:
    for name in ("old", "new"):
        build_run(tmp_path / "runs" / name)
    os.utime(tmp_path / "runs" / "old" / "run.json", (1, 1))
    runs = str(tmp_path / "runs")
    for words in (["show", runs], ["compare", runs, f"{runs}/old"]):
        complaint(reprodebug(*words), 2, "holds no run", f"it holds 2 runs: {runs}/new, {runs}/old")


DAMAGES = {
    "missing": "does not exist", "file": "is a file", "empty": "is empty", "other": "holds no run",
    "truncated trace": "trace-rank0.h5",
    "empty trace": "trace-rank0.h5", "missing trace": "is missing", "foreign trace": "no reprodebug trace",
    "newer trace": "newer reprodebug",
    "newer run.json": "newer reprodebug", "corrupt run.json": "not valid JSON", "foreign run.json": "no manifest",
    "trace elsewhere": "wrong type",
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_runs_that_cannot_be_read(tmp_path: Path, good: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    bad = damaged(tmp_path, name)
    complaint(here(capsys, "compare", str(bad), str(good), "--json", "-"), 2, DAMAGES[name])
    complaint(here(capsys, "show", str(bad)), 2, DAMAGES[name])
    complaint(reprodebug("compare", good, bad), 2, DAMAGES[name])


def test_runs_that_say_nothing_of_tensors(tmp_path: Path, good: Path) -> None:
    nothing = build_run(tmp_path / "a", form="journal", data=journal_bytes(training(0, 0)))
    complaint(reprodebug("compare", good, nothing), 3)
    complaint(reprodebug("compare", nothing, nothing), 3)
    assert reprodebug("show", nothing).returncode == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--rtol", "-1"], ["--atol", "-1e-3"], ["--ulps", "-2"], ["--rtol", "nan"], ["--atol", "inf"], ["--ulps", "1.5"], ["--rtol", "x"],
        ["--json", "-", "--markdown", "-"], ["--rtol"], ["--rtol=-1"], ["--frobnicate"], ["--color", "blue"], ["third"], ["--ulps", "9" * 5000],
    ],
)  # fmt: skip
def test_bad_options_of_compare(good: Path, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    complaint(here(capsys, "compare", str(good), str(good), *options), 2)


def test_too_few_runs(good: Path) -> None:
    complaint(reprodebug("compare"), 2)
    complaint(reprodebug("compare", good), 2)
    complaint(reprodebug("show"), 2)


@pytest.mark.parametrize("option", ["--json", "--markdown"])
def test_results_that_cannot_be_written(tmp_path: Path, good: Path, option: str) -> None:
    for target in (tmp_path / "none" / "x", tmp_path, "/dev/full"):
        complaint(reprodebug("compare", good, good, option, target), 2, "cannot be written" if target != "/dev/full" else "")


@pytest.mark.parametrize("command", ["bisect", "check"])
def test_results_that_cannot_be_written_are_refused_before_the_work(tmp_path: Path, good: Path, command: str) -> None:
    ran = tmp_path / "ran"
    words = [command, *([good, good] if command == "bisect" else []), "--json", tmp_path / "none" / "x", "--", "touch", ran]
    complaint(reprodebug(*words), 2, "cannot be written")
    assert not ran.exists()


# the other end of stdout


@pytest.mark.parametrize("words", [["--help"], [], ["compare", "--help"], ["compare"], ["show"]])
def test_a_reader_that_has_gone(good: Path, words: list[str]) -> None:
    if words == ["compare"]:
        words = ["compare", str(good), str(good)]
    elif words == ["show"]:
        words = ["show", str(good)]
    read, write = os.pipe()
    os.close(read)
    try:
        done = reprodebug(*words, stdout=write, stderr=subprocess.PIPE)
    finally:
        os.close(write)
    assert done.stderr == b""
    assert done.returncode == 141


def test_the_head_of_a_pipe(good: Path) -> None:
    line = f"{PYTHON} -m reprodebug compare {good} {good} | head -0"
    done = subprocess.run(["sh", "-c", line], env=environment(), capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("how", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors(good: Path, how: str) -> None:
    for words, code in ((f"compare {good} {good}", 0), ("compare x y", 2), ("", 0)):
        line = f"{PYTHON} -m reprodebug {words} {how}"
        done = subprocess.run(["sh", "-c", line], env=environment(), capture_output=True, timeout=60)
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr and (b"reprodebug: " not in done.stdout or code != 2)


def test_a_full_stdout(good: Path) -> None:
    with open("/dev/full", "w") as full:
        for words in (["compare", good, good], ["show", good], ["--help"]):
            done = reprodebug(*words, stdout=full, stderr=subprocess.PIPE)
            assert done.returncode == 2 and b"Traceback" not in done.stderr and b"  hint: " in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_of_another_encoding(tmp_path: Path, encoding: str) -> None:
    run = build_run(tmp_path / "läuft 日本")
    for words in (["compare", run, run], ["show", run], ["compare", run, run, "--markdown", "-"]):
        done = reprodebug(*words, env=environment(PYTHONIOENCODING=encoding))
        assert done.returncode == 0 and done.stderr == b"", done.stderr
