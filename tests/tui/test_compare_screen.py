"""The compare screen under a pilot: what each key does, at 80x24 and at 60x16, and every state."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from reprodebug._base.errors import NothingComparable, RunUnreadable
from reprodebug.compare.evidence import Evidence
from reprodebug.model.comparison import Comparison
from reprodebug.tui import actions, content
from reprodebug.tui.app import CompareApp
from reprodebug.tui.exchange import exchanged
from reprodebug.tui.page import fit
from reprodebug.tui.screens.compare import CompareScreen
from reprodebug.tui.screens.help import HelpScreen
from reprodebug.tui.screens.reading import ReadingScreen
from reprodebug.tui.screens.states import ErrorScreen, FailureDialog, LoadingScreen
from reprodebug.tui.screens.walk import WalkScreen
from reprodebug.tui.widgets.lines import Lines
from tests.tui import comparisons as made
from tests.tui.opened import opened, page, sample, told, until

SIZES = [(80, 24), (60, 16)]


@pytest.mark.parametrize(("name", "size"), [*((name, (80, 24)) for name in made.STATES), ("divergent", (60, 16)), ("hostile", (60, 16))])
async def test_every_state_can_be_walked_and_gives_its_exit_code(
    name: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    make, code = made.STATES[name]
    comparison = make()
    async with opened(comparison, size) as (pilot, _):
        word = comparison.verdict
        assert word in page(pilot).splitlines()[0]
        for key in [k for a in actions.of("compare") for k in a.keys if k not in ("q", "escape", "ctrl+c", "ctrl+p")]:
            await pilot.press(key)
            if key == "slash":
                await pilot.press("a", "escape")
            if isinstance(pilot.app.screen, (ReadingScreen, WalkScreen)):
                await pilot.press("G", "escape")
            assert isinstance(pilot.app.screen, CompareScreen), key
        await pilot.press("h", "h", "q", "q")
    assert pilot.app.return_value == code
    assert pilot.app.return_code == code


@pytest.mark.parametrize("size", SIZES)
async def test_opens_on_the_answer(size: tuple[int, int]) -> None:
    async with opened(made.divergent(), size) as (pilot, screen):
        lines = page(pilot).splitlines()
        assert lines[0].startswith(" ✗ divergent: an activation of module bn")
        assert any("bn (BatchNorm2d)" in line for line in lines)
        row = next(line for line in lines if line.startswith("❯"))
        assert "bn output.0" in row and "12/20" in row
        assert "coverage 90%, 1 blind spot" in lines[-2]
        assert "? help" in lines[-1] and "q quit" in lines[-1]
        assert screen.query_one("#list", Lines).has_focus


@pytest.mark.parametrize("size", [(80, 24), (110, 32)])
async def test_the_details_follow_the_cursor(size: tuple[int, int]) -> None:
    async with opened(made.divergent(), size) as (pilot, _):
        await pilot.pause(0.1)
        assert "bn (BatchNorm2d) output.0, activation" in page(pilot)
        await pilot.press("j", "j")
        await pilot.pause(0.1)
        assert "layer0.conv1 (BatchNorm2d) output.0" in page(pilot)


async def test_the_cursor_moves_with_arrows_and_letters() -> None:
    async with opened(made.divergent()) as (pilot, screen):
        lines = screen.query_one("#list", Lines)
        for key, expected in [("down", 1), ("j", 2), ("k", 1), ("up", 0), ("G", 40), ("g", 0), ("end", 40), ("home", 0)]:
            await pilot.press(key)
            assert lines.cursor == expected, key
        await pilot.press("pagedown")
        assert lines.cursor > 1
        await pilot.press("pageup")
        assert lines.cursor == 0
        await pilot.press("l")
        assert screen.query_one("#detail").has_focus
        await pilot.press("h")
        assert lines.has_focus
        await pilot.press("tab")
        assert not lines.has_focus


async def test_next_divergence_is_another_module() -> None:
    async with opened(made.divergent(3)) as (pilot, screen):
        lines = screen.query_one("#list", Lines)
        await pilot.press("n")
        assert lines.cursor == 2  # rows 0 and 1 are both of bn
        await pilot.press("n", "n")
        assert lines.cursor == 3
        assert "there is no further divergence in this view" in told(pilot)
        await pilot.press("f")
        assert lines.cursor == 0
        await pilot.press("N")
        assert "there is no earlier divergence in this view" in told(pilot)


async def test_environment_hides_what_is_harmless_until_asked() -> None:
    async with opened(made.divergent()) as (pilot, screen):
        await pilot.press("5")
        await pilot.pause()
        assert "HOSTNAME" not in page(pilot)
        rows = [line for line in page(pilot).splitlines() if "critical" in line or "notable" in line]
        assert "critical" in rows[0] and "code" in rows[0]
        await pilot.press("d")
        await pilot.pause()
        assert "· harmless" in page(pilot) and "HOSTNAME" in page(pilot)
        await pilot.press("d", "1")
        await pilot.pause()
        assert screen.view.name == "layers"


async def test_swap_exchanges_everything_that_is_shown() -> None:
    comparison = made.with_numbers()
    async with opened(comparison, (110, 40)) as (pilot, screen):
        before = page(pilot)
        assert "A 0.125" in before and "B 0.25" in before and "A train, B eval" in before and "180 only in A" in before
        await pilot.press("x")
        await pilot.pause()
        after = page(pilot)
        assert "A 0.25" in after and "B 0.125" in after and "A eval, B train" in after and "180 only in B" in after
        assert "[32, 8, 16, 8] float16 in A, [32, 8, 16, 16] float32 in B" in after
        assert screen.comparison.differences[0].a == "3d9a29"
        await pilot.press("Y")
        assert "reprodebug compare runs/b runs/a --headless" in pilot.app.clipboard
        await pilot.press("x")
    assert screen.comparison == comparison


@pytest.mark.parametrize("make", [make for make, _ in made.STATES.values()])
def test_two_swaps_are_none(make: Callable[[], Comparison]) -> None:
    once = exchanged(make())
    assert (once.a, once.b) == (make().b, make().a)
    assert exchanged(once).to_json() == make().to_json()


def test_swap_touches_only_sentences_that_name_a_side() -> None:
    from dataclasses import replace

    reason = "all 9 records that both runs have are equal bit for bit; A goes on for 1 step more"
    c = replace(made.identical(), reason=reason, equal_before=("1 input of A in this call: equal",))
    swapped = exchanged(c)
    assert swapped.reason == reason.replace("A goes", "B goes")
    assert swapped.equal_before == c.equal_before


async def test_copy_row_is_plain_text() -> None:
    async with opened(made.hostile()) as (pilot, _):
        await pilot.press("down", "down", "y")
        assert "pwned" in pilot.app.clipboard and "\x1b" not in pilot.app.clipboard


async def test_export_never_overwrites(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reprodebug-report.json").write_text("mine")
    async with opened(made.divergent()) as (pilot, _):
        await pilot.press("e", "e")
        assert any("reprodebug-report-2.md" in m and "reprodebug-report-2.json" in m for m in told(pilot))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *(f"reprodebug-report-{n}.{suffix}" for n in (2, 3) for suffix in ("json", "md", "svg")), "reprodebug-report.json",
    ]  # fmt: skip
    assert (tmp_path / "reprodebug-report.json").read_text() == "mine"
    assert json.loads((tmp_path / "reprodebug-report-2.json").read_text())["verdict"] == "divergent"


async def test_export_says_why_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left [/bold]")

    monkeypatch.setattr("reprodebug.tui.export.export", refuse)
    async with opened(made.divergent()) as (pilot, _):
        await pilot.press("e")
        assert any("No space left [/bold]" in m for m in told(pilot))


async def test_keys_that_do_nothing_say_why() -> None:
    async with opened(made.incomparable()) as (pilot, _):
        for key in "1jndyflzb":
            seen = len(pilot.app._notifications)
            await pilot.press(key)
            assert len(pilot.app._notifications) == seen + 1, key
        await pilot.press("enter")
        assert isinstance(pilot.app.screen, CompareScreen)


async def test_help_lists_every_action() -> None:
    async with opened(made.divergent(), (100, 80)) as (pilot, _):
        await pilot.press("question_mark")
        await pilot.pause()
        assert isinstance(pilot.app.screen, HelpScreen)
        shown = page(pilot)
        for action in actions.of("compare"):
            assert " ".join(action.title.split()[:4]) in shown, action.title
        await pilot.press("q")
        assert isinstance(pilot.app.screen, CompareScreen)


async def test_report_names_the_blind_spots() -> None:
    async with opened(made.divergent(5), (80, 60)) as (pilot, _):
        await pilot.press("r")
        await pilot.pause()
        assert "not seen: module fused" in page(pilot)


async def test_too_small_says_so_and_recovers() -> None:
    async with opened(made.divergent(), (59, 20)) as (pilot, _):
        assert "it takes 60x16" in page(pilot) and "bn" not in page(pilot)
        await pilot.resize_terminal(60, 16)
        await pilot.pause()
        assert "it takes" not in page(pilot) and "bn output.0" in page(pilot)
        await pilot.resize_terminal(80, 15)
        await pilot.pause()
        await pilot.press("q")
    assert pilot.app.return_value == 1


async def test_incomplete_run_is_announced() -> None:
    async with opened(made.truncated()) as (pilot, _):
        assert "! B is incomplete: killed by signal 9" in page(pilot)


@pytest.mark.parametrize("width", [58, 78, 118])
def test_a_long_name_hides_neither_the_step_nor_that_a_run_is_cut_short(width: int) -> None:
    name = "encoder.layers." + "a_very_long_module_name_" * 12 + "17.self_attention"
    c = dataclasses.replace(
        made.truncated(), first=made.divergence(name), reason=f"an activation of module {name} is the first to differ, at step 6"
    )
    for lines in (2, 4):
        rows = content.verdict(c, width, lines).plain.splitlines()
        assert len(rows) <= lines and all(len(r) <= width for r in rows) and "! B is incomplete" in rows[-1]
    assert "17.self_attention" in " ".join(rows) and "at step 6" in " ".join(rows)


def test_a_cause_fills_its_lines_and_says_that_there_are_more() -> None:
    c, _ = sample("threads")
    for lines in (1, 2, 3):
        rows = content.cause(dataclasses.replace(c, causes=c.causes * 2), 78, lines).plain.splitlines()
        assert len(rows) <= lines and all(len(r) <= 78 for r in rows) and rows[-1].endswith("(+1: 6)")
    assert content.cause(made.identical(), 78).plain == ""


async def test_a_hundred_thousand_rows_stay_quick() -> None:
    async with opened(made.divergent(100_000)) as (pilot, screen):
        await pilot.press("G")
        await pilot.pause()
        assert screen.query_one("#list", Lines).cursor == 100_000
        assert "layer24999.conv3" in page(pilot)


async def test_a_click_selects_its_row() -> None:
    async with opened(made.divergent()) as (pilot, screen):
        await pilot.click("#list", offset=(5, 2))
        assert screen.query_one("#list", Lines).cursor == 2


async def run_failing(error: BaseException, *keys: str) -> CompareApp:
    def load(say: Callable[[str], None]) -> tuple[Comparison, Evidence | None]:
        raise error

    app = CompareApp(load)
    async with app.run_test(size=(60, 16)) as pilot:
        for _ in range(200):
            if isinstance(app.screen, (ErrorScreen, FailureDialog)):
                break
            await pilot.pause(0.01)
        await pilot.pause()
        assert "[/bold]" in page(pilot)
        await pilot.press(*keys)
    return app


async def test_an_unreadable_run_exits_2() -> None:
    app = await run_failing(RunUnreadable("no run [/bold]\x1b]0;pwned\x07", hint="try [this"), "q")
    assert app.return_value == 2
    assert "no run [/bold]\\x1b]0;pwned\\x07" in app.last_words and "try [this" in app.last_words


async def test_nothing_comparable_exits_3() -> None:
    assert (await run_failing(NothingComparable("nothing [/bold]"), "escape")).return_value == 3


async def test_an_unforeseen_error_exits_2_and_shows_its_cause() -> None:
    app = await run_failing(ZeroDivisionError("by [/bold]"), "j", "k", "enter")
    assert app.return_value == 2
    assert "ZeroDivisionError" in app.last_words


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
async def test_leaving_does_not_wait_for_the_load(key: str) -> None:
    release = threading.Event()

    def load(say: Callable[[str], None]) -> tuple[Comparison, Evidence | None]:
        say("waiting for nothing")
        release.wait(30)
        return made.identical(), None

    app = CompareApp(load)
    async with app.run_test() as pilot:
        await pilot.pause()
        assert isinstance(app.screen, LoadingScreen)
        await until(pilot, lambda: "waiting for nothing" in page(pilot))
        await pilot.press(key)
    assert app.return_value == 130
    release.set()


async def test_ctrl_c_leaves_from_anywhere() -> None:
    async with opened(made.divergent()) as (pilot, _):
        await pilot.press("question_mark", "ctrl+c")
    assert pilot.app.return_value == 1


def test_fit_fills_exactly() -> None:
    from rich.cells import cell_len

    for text in ("", "abc", "層層層層", "x" * 50, "a層" * 20):
        for width in range(0, 30):
            for keep_end in (False, True):
                assert cell_len(fit(text, width, keep_end=keep_end)) == width


def test_hints_fit() -> None:
    for screen in actions.SCREENS:
        for width in (58, 78, 108):
            assert len(content.key_line(screen, width).plain) <= width + 2
