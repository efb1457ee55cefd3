"""The floors hold, the guard bites, and start-up imports nothing heavy."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "numpy", "textual", "h5py", "scipy", "git", "deepdiff", "rich")


def loaded(code: str, *names: str) -> set[str]:
    """Which of ``names`` are imported after running ``code`` in a fresh interpreter."""
    check = f"\nimport sys\nprint('LOADED', *[n for n in {names!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code + check], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rsplit("LOADED", 1)[1].split())


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.executable).parent / "lint-imports"
    if not tool.exists():
        pytest.skip("import-linter is not installed")
    return subprocess.run([str(tool), "--no-cache"], cwd=folder, capture_output=True, text=True)


def test_floors_hold() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [("model/run.py", "import reprodebug.store.run"), ("compare/align.py", "import torch"), ("report/text.py", "import textual")],
)
def test_the_guard_bites(tmp_path: Path, file: str, line: str) -> None:
    shutil.copytree(ROOT / "reprodebug", tmp_path / "reprodebug", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / "reprodebug" / file
    path.write_text(path.read_text() + f"\n{line}\n")
    assert lint(tmp_path).returncode != 0


@pytest.mark.parametrize(
    "code",
    [
        "import reprodebug",
        "import reprodebug.store.run",
        "import reprodebug.compare.runs",
        "import reprodebug.cli; reprodebug.cli.main(['--help'])",
        "import reprodebug.store.run, reprodebug.compare.runs, reprodebug.report.text, reprodebug.api, reprodebug.tui",
        "import reprodebug.cli.capture, reprodebug.capture.launch, reprodebug.capture.finish",
    ],
)
def test_nothing_heavy_at_start(code: str) -> None:
    assert loaded(code, *HEAVY) == set()


def imported(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, by its full name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add(node.module)
    return found


def test_the_guest_needs_nothing_but_what_it_finds() -> None:
    """Inside the user's program: standard library, numpy, torch and xxhash; of our own floors only those below, and the journal."""
    files = sorted((ROOT / "reprodebug" / "recorder").rglob("*.py"))
    assert files
    floors, journal = ("reprodebug.recorder", "reprodebug.model", "reprodebug._base"), ("reprodebug.store.journal", "reprodebug.store")
    for path in files:
        for name in imported(path):
            if name.split(".")[0] == "reprodebug":
                assert name.startswith(floors) or name in journal, f"{path.name} imports {name}"
            else:
                assert name.split(".")[0] in {*sys.stdlib_module_names, "sitecustomize", "numpy", "torch", "xxhash"}, f"{path.name}: {name}"
    for path in [*(ROOT / "reprodebug" / "model").glob("*.py"), *(ROOT / "reprodebug" / "_base").glob("*.py")]:
        foreign = {n.split(".")[0] for n in imported(path)} - sys.stdlib_module_names - {"reprodebug", "numpy"}
        assert not foreign, f"{path.name} imports {foreign}"


def test_a_headless_comparison_needs_neither_torch_nor_textual() -> None:
    pair = ROOT / "sample_runs" / "missing-seed"
    code = f"import reprodebug.cli\nassert reprodebug.cli.main(['compare', {str(pair / 'a')!r}, {str(pair / 'b')!r}, '--headless']) == 1"
    assert loaded(code, "torch", "textual", "rich", "scipy", "git") == set()


def test_the_tests_for_gpus_take_no_more_than_a_bare_machine_has() -> None:
    """All of them are collected with nothing but pytest, NumPy and torch; those of whole pairs are skipped by name."""
    absent = ("textual", "rich", "h5py", "scipy", "git", "deepdiff", "xxhash", "yaml", "pynvml", "transformers", "hypothesis", "psutil")
    code = f"import sys, pytest; sys.modules.update(dict.fromkeys({absent})); sys.exit(pytest.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "-q", "-m", "gpu", "--collect-only", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout[-2000:]
    for file in sorted((ROOT / "tests" / "gpu").glob("test_*.py")):
        assert (f"tests/gpu/{file.name}::" in done.stdout) is (file.name != "test_cases.py"), done.stdout[-2000:]
    marked = [p for p in (ROOT / "tests").rglob("test_*.py") if "mark." + "gpu" in p.read_text() and p.parent.name != "gpu"]
    assert not marked, "`-m gpu` looks into tests/gpu only"


def test_a_program_without_torch_pays_nothing(tmp_path: Path) -> None:
    from reprodebug.capture.launch import Request, child_environment

    (tmp_path / "journal").mkdir()
    environment = child_environment(str(tmp_path), Request(["python"]))
    code = "import sys; print([m for m in sys.modules if m.startswith('reprodebug')], [p for p in sys.path if 'hook' in p])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "[] []\n"
    assert list((tmp_path / "journal").iterdir()) == []
