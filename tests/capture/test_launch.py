"""What the parent decides before and while the command runs."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from reprodebug import api
from reprodebug._base.errors import CaptureFailed, UsageError
from reprodebug.capture import finish
from reprodebug.capture.launch import Request, _Signals, child_environment, new_run_directory, python_is_shut


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        ("python -I x.py", "-I"), ("python3.12 -uE x.py", "-uE"), ("python -X dev -S x.py", "-S"), ("python -W error -I x", "-I"),
        ("python x.py -I", ""), ("python -m mod -E", ""), ("python -c pass -S", ""), ("python -W ImportWarning x.py", ""),
        ("python -WImportWarning x.py", ""), ("python -XIES x.py", ""), ("python - -I", ""), ("sh -I", ""), ("python -OOu x.py", ""),
        ("python --help-Env", ""),
    ],
)  # fmt: skip
def test_flags_that_keep_the_hook_out(command: str, flag: str) -> None:
    assert python_is_shut(command.split()) == flag


def test_run_directories_are_never_shared(tmp_path: Path) -> None:
    paths = [new_run_directory(None, str(tmp_path), "x") for _ in range(5)]
    assert len(set(paths)) == 5
    (tmp_path / "empty").mkdir()
    assert new_run_directory("empty", str(tmp_path), "x") == str(tmp_path / "empty")
    with pytest.raises(UsageError):
        new_run_directory("empty", str(tmp_path), "x")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(UsageError):
        new_run_directory("dangling", str(tmp_path), "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(CaptureFailed):
        new_run_directory("file/run", str(tmp_path), "x")


def test_the_environment_gains_only_ours(tmp_path: Path) -> None:
    before = {"PATH": "/bin", "PYTHONPATH": "/a:/b", "X": "1"}
    after = child_environment(str(tmp_path), Request(["x"], environment=before))
    assert after["PYTHONPATH"].endswith(":/a:/b") and {k for k in after if k not in before} <= {
        k for k in after if k.startswith("REPRODEBUG")
    }
    assert after["X"] == "1" and before["PYTHONPATH"] == "/a:/b"


def test_a_signal_while_the_command_is_being_started_is_kept() -> None:
    old = signal.getsignal(signal.SIGTERM)
    with _Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        process = subprocess.Popen(["sleep", "20"])
        signals.started(process)
        assert process.wait(timeout=10) == -signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == old


@pytest.mark.parametrize("broken", ["finish", "_enrich", "write_manifest", "journal_facts", "describe_code"])
def test_a_failure_of_ours_never_changes_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("ours") if broken != "write_manifest" else OSError(28, "No space left on device")

    monkeypatch.setattr(finish, broken, fails)
    line = 'printf x > "$REPRODEBUG_RUN/journal/1-1.rdj"; sleep 0.5; exit 6'
    recording = api.capture(["sh", "-c", line], str(tmp_path / "run"))
    assert recording.exit_code == 6
    assert recording.notes, broken


def test_a_recorder_that_failed_is_told(tmp_path: Path) -> None:
    line = 'printf "ImportError: no numpy" > "$REPRODEBUG_RUN/journal/failed-1.txt"; exit 3'
    recording = api.capture(["sh", "-c", line], str(tmp_path / "run"))
    assert recording.exit_code == 3 and recording.unreached
    assert any("no numpy" in n for n in recording.notes)
    assert sorted(os.listdir(tmp_path / "run")) == ["run.json"]
