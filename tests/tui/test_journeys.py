"""Habits that lead from one screen to another, and back: palette, mouse, filter, swap, copied commands, other sizes, silent keys."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reprodebug import api
from reprodebug.report import text, words
from reprodebug.tui import actions
from reprodebug.tui.screens.compare import Filter
from reprodebug.tui.screens.reading import ReadingScreen
from reprodebug.tui.screens.states import FailureDialog
from reprodebug.tui.views import VIEWS
from tests.tui import comparisons as made
from tests.tui.opened import SAMPLES, look, opened, opened_sample, page, sample, selected, told, until


async def test_the_palette_does_what_the_keys_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every action of the registry is there, under a name of its own, and leads where its key leads."""
    todo = [a for a in actions.of("compare") if a.action not in ("app.command_palette", "app.leave", "leave")]
    seen: dict[bool, list[Any]] = {False: [], True: []}
    for by_name, found in seen.items():
        (tmp_path / str(by_name)).mkdir()
        monkeypatch.chdir(tmp_path / str(by_name))
        async with opened(made.divergent(), (100, 32)) as (pilot, screen):
            every = list(pilot.app.get_system_commands(screen))
            commands = {c.title: c for c in every}
            assert len(commands) == len(every)
            for action in [*todo, *(a for a in actions.of("compare") if a.action == "leave")]:
                if by_name:
                    command = commands[action.title.partition(": ")[0]]
                    assert f"key {actions.glyph(action.keys[0])}" in command.help
                    await command.callback()
                else:
                    await pilot.press(action.keys[0])
                await pilot.pause()
                state = type(pilot.app.screen), screen.opened, screen._list.cursor, screen.everything, pilot.app.return_code
                found.append((action.action, *state))
                while pilot.app.screen is not screen:
                    pilot.app.pop_screen()
                    await pilot.pause()
                if isinstance(screen.focused, Filter):
                    await pilot.press("escape")
                screen._list.focus()
                await pilot.pause()
    assert seen[False] == seen[True]
    assert seen[True][-1][-1] == 1  # the way out


async def test_a_click_on_the_selected_row_unfolds_or_opens_it() -> None:
    async with opened_sample("extra-draw", (100, 32)) as (pilot, screen):
        rows = len(screen.view.rows)
        at = next(n for n, line in enumerate(page(pilot).splitlines()) if "▸ ✗ Net" in line) - screen._list.region.y
        await pilot.click("#list", offset=(6, at))
        await look(pilot)
        assert "▸ ✗ Net" in selected(pilot) and len(screen.view.rows) == rows
        await pilot.click("#list", offset=(6, at))
        await look(pilot)
        assert "▾ ✗ Net" in selected(pilot) and len(screen.view.rows) > rows
        await look(pilot, "5")
        await pilot.click("#list", offset=(6, 0))
        await look(pilot)
        assert isinstance(pilot.app.screen, ReadingScreen)


@pytest.mark.parametrize("key", ["escape", "q"])
async def test_going_back_undoes_the_filter_before_it_quits(key: str) -> None:
    async with opened_sample("extra-draw") as (pilot, screen):
        await look(pilot, "slash", *"stem", "enter", "j", "j")
        assert "filter: stem" in page(pilot)
        found = screen.view.rows[screen._list.cursor]
        await look(pilot, key)
        assert pilot.app.return_code is None and not screen.view.filter and "filter:" not in page(pilot)
        assert screen.view.rows[screen._list.cursor] == found  # what was found stays in sight
        await pilot.press(key)
    assert pilot.app.return_code == 1


@pytest.mark.parametrize("number", range(len(VIEWS)))
async def test_swapping_in_any_view_tells_everything_anew(number: int) -> None:
    async with opened_sample("threads", (120, 40)) as (pilot, screen):
        assert "intra_op_threads (1 in A, 2 in B)" in page(pilot)
        if number:
            await look(pilot, str(number + 1))
        await pilot.press("x")
        await until(pilot, lambda: screen.swapped)
        shown = await look(pilot)
        assert "intra_op_threads (2 in A, 1 in B)" in shown and "(1 in A, 2 in B)" not in shown and screen.opened == number
        assert screen.comparison.causes == sample("threads", turned=True)[0].causes
        await look(pilot, "x")
        assert not screen.swapped and screen.comparison == sample("threads")[0]


async def test_a_swap_that_fails_says_why() -> None:
    def broken(say: Any) -> Any:
        raise ZeroDivisionError("by [/bold]")

    comparison, evidence = sample("extra-draw")
    async with opened(comparison, (100, 32), evidence, broken) as (pilot, screen):
        await pilot.press("x")
        await until(pilot, lambda: isinstance(pilot.app.screen, FailureDialog))
        shown = await look(pilot, "pagedown", "home", "z")
        assert "A and B could not be swapped" in shown and "by [/bold]" in shown
        assert any("z does nothing here; q and Enter lead out of it" in m for m in told(pilot))
        await look(pilot, "q")
        assert pilot.app.screen is screen and not screen.swapped


@pytest.mark.parametrize(("key", "part"), [("2", "steps"), ("3", "draws"), ("4", "batches"), ("6", "causes"), ("7", "records")])
async def test_the_command_of_a_view_prints_its_rows(key: str, part: str) -> None:
    async with opened_sample("extra-draw", (120, 40)) as (pilot, _):
        await look(pilot, key)
        row = selected(pilot).split("▌")[0].replace("❯", " ").replace("◆", " ").split()
        await look(pilot, "Y")
    typed = shlex.split(pilot.app.clipboard)
    assert part in typed[-1].split(",")
    done = subprocess.run([sys.executable, "-m", *typed], cwd=SAMPLES.parent, capture_output=True, text=True, check=False)
    wanted = {"steps": [row[0], row[1][:6], row[2][:6]], "draws": ["4fe42f16 +4 ", "af72f355 +5 "], "batches": ["step 6, DataLoader#0", "other"],
              "causes": ["--print-sample (in B only) leads there"], "records": [*row[-2:], "batch.0"]}[part]  # fmt: skip
    flat = " ".join(done.stdout.split())
    assert done.returncode == 1 and all(w in flat for w in wanted), (wanted, done.stdout)


async def test_the_copied_command_prints_what_the_screen_says() -> None:
    async with opened_sample("threads") as (pilot, screen):
        await look(pilot, "d", "x")
        await until(pilot, lambda: screen.swapped)
        await look(pilot, "Y")
    typed = shlex.split(pilot.app.clipboard)
    assert typed[0] == "reprodebug" and typed[-2:] == ["--headless", "--verbose"]
    done = subprocess.run([sys.executable, "-m", *typed], cwd=SAMPLES.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "(2 in A, 1 in B)" in " ".join(done.stdout.split()) and "Harmless differences" in done.stdout


def test_the_command_names_the_further_recordings() -> None:
    a, b = (str(SAMPLES / "identical" / n) for n in "ab")
    comparison, _ = api.examine(a, b, noise=[a])
    assert words.command(comparison, "--headless") == f"reprodebug compare {a} {b} --noise {a} --headless"


@pytest.mark.parametrize(
    ("key", "way"), [("r", "q and Enter"), ("question_mark", "q and Enter"), ("w", "? lists"), ("z", "? lists"), ("b", "? lists")]
)
async def test_no_key_is_silent_on_any_screen(key: str, way: str) -> None:
    async with opened_sample("threads") as (pilot, screen):
        await look(pilot, key)
        assert pilot.app.screen is not screen
        for silent in ("m", "f5", "delete"):
            await pilot.press(silent)
            await pilot.pause()
            assert told(pilot)[-1].startswith(f"{actions.glyph(silent)} does nothing here; {way}"), silent


@pytest.mark.parametrize("key", ["question_mark", "ctrl+p", "w", "slash", "enter", "b", "z"])
async def test_a_screen_over_the_screen_bears_another_size(key: str) -> None:
    async with opened_sample("threads", (120, 40)) as (pilot, screen):
        await pilot.press(key)
        await pilot.pause()
        for size in ((60, 16), (50, 10), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert page(pilot).strip()
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is screen and screen._list.has_focus)
        await pilot.press("escape")
    assert pilot.app.return_code == 1


async def test_keys_that_can_be_pressed_now_are_those_shown() -> None:
    async with opened_sample("threads") as (pilot, _):
        assert "Enter start" in (await look(pilot, "b")).splitlines()[-1]
        assert "Enter start" in (await look(pilot, "q", "z")).splitlines()[-1]
        first, last = (await look(pilot, "q", "w")).splitlines()[-1], (await look(pilot, *["l"] * 8)).splitlines()[-1]
        assert "next question" in first and "← back" not in first and "next question" not in last and "b bisect" in last


async def test_records_of_other_systems_are_not_said_to_be_equal(tmp_path: Path) -> None:
    for name, lr in (("a", 0.1), ("b", 0.2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(f'{{"lr": {lr}}}')
    comparison, evidence = api.examine(str(tmp_path / "a"), str(tmp_path / "b"))
    assert comparison.verdict == "divergent" and evidence is None
    async with opened(comparison, (100, 30)) as (pilot, screen):
        assert screen.view.name == "environment" and "lr" in selected(pilot)
        for key, words_ in (
            ("1", "No layer was recorded"),
            ("3", "no state of a random generator"),
            ("4", "of the data"),
            ("7", "execution order"),
        ):
            assert words_ in " ".join((await look(pilot, key)).split())
        shown = await look(pilot, "w")
        assert "of the model" not in shown
        shown = await look(pilot, "l", "l")
        assert "random numbers?" in shown and "is not known" in shown and "= nothing" not in shown
        shown = await look(pilot, *["l"] * 9)
        assert "b proves" not in shown and "b bisect" not in shown and "needs two runs" in " ".join(shown.split())


async def test_a_saved_state_of_a_generator_is_random_state() -> None:
    from reprodebug.model.comparison import Difference

    state = Difference("environment", "rng/numpy", "position 624", "position 2", "critical", "the state of a generator")
    sides = [dataclasses.replace(made.side(n), level="foreign", command=()) for n in "ab"]
    c = dataclasses.replace(made.incomparable(), verdict="divergent", a=sides[0], b=sides[1], differences=(state,))
    async with opened(c, (100, 30)) as (pilot, _):
        assert "rng/numpy" in (await look(pilot, "3"))
        shown = await look(pilot, "w", "l", "l")
        assert "random numbers?" in shown and "rng/numpy" in shown and "1 difference of random state" in shown
    assert "rng/numpy" in text.render(c, only=("random-state",))
