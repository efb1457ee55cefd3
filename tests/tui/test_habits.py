"""Habits on recorded runs that no other file walks through: mouse, command palette, copying, exporting, help, no colour."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from textual.command import CommandPalette

from reprodebug.tui.screens.compare import CompareScreen
from reprodebug.tui.screens.help import HelpScreen
from reprodebug.tui.screens.walk import WalkScreen
from tests.tui.opened import look, opened_sample, page, sample, selected, until
from tests.tui.test_terminal import play


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (120, 40)])
async def test_every_view_and_the_walk_at_every_size(size: tuple[int, int]) -> None:
    async with opened_sample("extra-draw", size) as (pilot, screen):
        for number, view in enumerate(screen.views):
            shown = page(pilot) if not number else await look(pilot, str(number + 1))
            assert f"{number + 1} {view.name}" in shown or f"{number + 1} {view.short}" in shown
            assert "✗ divergent" in shown and "? help" in shown and selected(pilot)
        shown = await look(pilot, "w")
        assert "question 1 of" in shown and "headless:" in shown


async def test_the_mouse_opens_views_and_selects_rows() -> None:
    async with opened_sample("extra-draw", (120, 40)) as (pilot, screen):
        await pilot.click("#tabs", offset=(screen._tab_ends[0] + 3, 0))
        await look(pilot)
        assert screen.view.name == "steps"
        await pilot.click("#list", offset=(6, 1))
        await look(pilot)
        assert screen._list.cursor == 1
        await pilot.click("#detail", offset=(3, 3))
        await look(pilot)
        assert screen.query_one("#detail").has_focus


async def test_the_command_palette_finds_what_can_be_done() -> None:
    async with opened_sample("extra-draw", (100, 32)) as (pilot, _):
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(pilot.app.screen, CommandPalette))
        await pilot.press(*"guided")
        await until(pilot, lambda: "guided walk" in page(pilot))
        await until(pilot, lambda: pilot.app.screen.query_one("CommandList").option_count > 0)  # type: ignore[attr-defined]
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, WalkScreen))


async def test_copy_and_export_what_was_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison, _ = sample("changed-package")
    monkeypatch.chdir(tmp_path)
    async with opened_sample("changed-package", (100, 32)) as (pilot, _):
        await look(pilot, "5", "y")
        assert "tinyaug" in pilot.app.clipboard
        await look(pilot, "Y")
        assert pilot.app.clipboard == "reprodebug compare sample_runs/changed-package/a sample_runs/changed-package/b --only environment"
        await look(pilot, "e")
    assert json.loads((tmp_path / "reprodebug-report.json").read_text())["verdict"] == comparison.verdict
    assert (tmp_path / "reprodebug-report.svg").read_text().lstrip().startswith("<svg")
    assert "tinyaug" in (tmp_path / "reprodebug-report.md").read_text()


async def test_help_says_what_has_the_focus() -> None:
    async with opened_sample("extra-draw", (100, 60)) as (pilot, _):
        shown = await look(pilot, "3", "question_mark")
        assert isinstance(pilot.app.screen, HelpScreen) and "the list of the view random state" in " ".join(shown.split())
        shown = await look(pilot, "q", "tab", "tab", "question_mark")
        assert "the details of the row" in shown or "the first divergence" in shown


async def test_back_then_quit() -> None:
    async with opened_sample("extra-draw") as (pilot, screen):
        await look(pilot, "enter", "escape")
        assert isinstance(pilot.app.screen, CompareScreen)
        await look(pilot, "tab", "escape")
        assert screen._list.has_focus
        await pilot.press("escape")
    assert pilot.app.return_code == 1


def test_no_colour_writes_no_colour() -> None:
    program = (
        "import sys; from tests.tui.opened import sample; from reprodebug.tui import run_compare\n"
        "sys.exit(run_compare(lambda say: sample('extra-draw')))"
    )
    code, out = play(program, b"3w qq", NO_COLOR="1")
    assert code == 1 and b"divergent" in out
    colours = set(re.findall(rb"\x1b\[[0-9;]*[34]8;2;(\d+);(\d+);(\d+)", out))
    assert all(r == g == b for r, g, b in colours), colours  # greys alone
