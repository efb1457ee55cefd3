"""The README's commands do what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [c.split("#")[0].strip() for c in re.findall(r"^reprodebug (?:compare|show) sample_runs.*$", README, re.MULTILINE)]


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True)
    differs = " compare " in command and "tol" not in command
    assert done.returncode == (1 if differs else 0), done.stderr
    assert done.stdout
    assert not done.stderr


def test_help_names_every_command_of_the_readme() -> None:
    done = subprocess.run([sys.executable, "-m", "reprodebug", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    for name in set(re.findall(r"`reprodebug ([a-z]+) ", README)):
        assert f"reprodebug {name} " in done.stdout


def test_every_option_of_the_readme_exists() -> None:
    known = ""
    for name in ("capture", "compare", "bisect", "check", "zoom", "show"):
        known += subprocess.run([sys.executable, "-m", "reprodebug", name, "--help"], cwd=ROOT, capture_output=True, text=True).stdout
    options = set(re.findall(r"`(--[a-z]+)", README)) | set(re.findall(r"^reprodebug .*?(--[a-z]+)", README, re.MULTILINE))
    assert {"--level", "--rtol", "--json"} <= options
    assert not [o for o in options if o not in known]


def test_there_are_commands_and_every_make_target_exists() -> None:
    assert len(COMMANDS) >= 3
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)) <= targets


def test_every_floor_is_named() -> None:
    folders = {p.name for p in (ROOT / "reprodebug").iterdir() if p.is_dir() and not p.name.startswith("__") and list(p.glob("*.py"))}
    named = set(re.findall(r"`reprodebug/(\w+)/`", README))
    assert folders <= named


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)h][^)]*)\)", README):
        if target.startswith("#"):
            titles = {re.sub(r"[^a-z0-9]+", "-", t.lower()).strip("-") for t in re.findall(r"^#+ (.*)$", README, re.MULTILINE)}
            assert target[1:] in titles, target
        else:
            assert (ROOT / target).exists(), target


def test_the_keys_are_those_of_the_registry() -> None:
    from reprodebug.tui import actions

    assert actions.markdown() in README
