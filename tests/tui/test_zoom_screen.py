"""Zooming from the compare screen, and the tensor view."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reprodebug import api
from reprodebug.tui.screens.compare import CompareScreen
from reprodebug.tui.screens.reading import ReadingScreen
from reprodebug.tui.screens.tensor import TensorScreen
from reprodebug.tui.screens.zoom import ZoomScreen
from tests.tui.opened import look, opened, opened_sample, page, told, until

TRAIN = """
import sys
import torch
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5 if "--more" in sys.argv else 0.1))
net(torch.ones(3, 4)).sum().backward()
"""


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPRODEBUG_SESSIONS", str(tmp_path / "sessions"))
    for name, extra in (("a", []), ("b", ["--more"])):
        command = [sys.executable, "-m", "reprodebug", "capture", "-o", name, "--", sys.executable, "train.py", *extra]
        subprocess.run(command, check=True, capture_output=True)
    return tmp_path


async def test_zoom_asks_runs_and_names_the_operation(pair: Path) -> None:
    comparison, evidence = api.examine("a", "b")
    async with opened(comparison, (100, 40), evidence) as (pilot, _):
        shown = await look(pilot, "z")
        screen = pilot.app.screen
        assert isinstance(screen, ZoomScreen)
        assert "nothing has been run yet" in shown and "train.py --more" in shown and "reprodebug zoom" in shown
        await pilot.press("enter")
        await ended(pilot, screen)
        shown = await look(pilot)
        assert "aten.bernoulli_" in shown and "0.9 in A, 0.5 in B" in shown, shown
        await look(pilot, "y")
        assert "aten.bernoulli_" in pilot.app.clipboard
        await look(pilot, "q")
        assert isinstance(pilot.app.screen, CompareScreen)


async def test_an_answer_may_be_asked_whether_it_is_necessary_and_sufficient(pair: Path) -> None:
    comparison, evidence = api.examine("a", "b")
    async with opened(comparison, (100, 40), evidence) as (pilot, _):
        assert "x starts it" in await look(pilot, "z")
        screen = pilot.app.screen
        assert isinstance(screen, ZoomScreen)
        await pilot.press("x")
        await ended(pilot, screen)
        shown = await look(pilot, "G")
        assert "Counterfactual" in screen.text and "necessary" in screen.text, shown
        assert "x necessary" not in shown
        await look(pilot, "x", "Y")
        assert any("exchanged already" in m for m in told(pilot))
        assert pilot.app.clipboard.endswith("--counterfactual")


async def ended(pilot: Any, screen: ZoomScreen) -> None:
    """Two programs have run again by then."""
    for _ in range(12):
        try:
            await until(pilot, lambda: screen.state == "ended")
            return
        except AssertionError:
            continue


async def test_a_cancelled_zoom_leaves_no_process(pair: Path) -> None:
    comparison, evidence = api.examine("a", "b")
    async with opened(comparison, (80, 24), evidence) as (pilot, _):
        await look(pilot, "z", "c")
        assert any("nothing runs" in m for m in told(pilot))
        screen = pilot.app.screen
        assert isinstance(screen, ZoomScreen)
        await pilot.press("enter")
        process = screen._process
        assert process is not None
        await until(pilot, lambda: screen._progress)
        await look(pilot, "q")
        assert any("c cancels it" in m for m in told(pilot))
        await look(pilot, "c")
        assert "cancelled" in page(pilot)
        assert process.wait(20) != 0
        await look(pilot, "q")


async def test_a_zoom_that_found_nothing_says_so_at_the_top() -> None:
    async with opened_sample("extra-draw", (80, 24)) as (pilot, _):
        await look(pilot, "z")
        screen = pilot.app.screen
        assert isinstance(screen, ZoomScreen)
        for code, said in ((1, "no operation was found"), (2, "zoom could not be run"), (0, "the first differing operation")):
            screen.state = "running"
            screen.post_message(ZoomScreen.Said("not-repeatable: A is not repeatable here", code))
            shown = await look(pilot)
            assert said in shown and "A is not repeatable here" in shown, shown


async def test_runs_that_agree_are_not_zoomed() -> None:
    async with opened_sample("identical") as (pilot, _):
        await look(pilot, "z")
        assert any("nothing to search for" in m for m in told(pilot))


async def test_the_tensor_view_draws_what_was_kept() -> None:
    async with opened_sample("full-level", (110, 50)) as (pilot, _):
        shown = await look(pilot, "v")
        assert isinstance(pilot.app.screen, TensorScreen)
        assert "element                           A                B  |A-B|" in shown, "no meaning is carried by a colour alone"
        assert "|A-B|, 0 to" in shown and "furthest apart" in shown and "ULP" in shown and "█" in shown
        await look(pilot, "q", "7", "v")
        assert isinstance(pilot.app.screen, ReadingScreen)


async def test_a_fingerprint_cannot_be_drawn_and_says_why() -> None:
    async with opened_sample("extra-draw") as (pilot, _):
        await look(pilot, "v")
        assert any("--level full" in m for m in told(pilot))
        await look(pilot, "6", "v")
        assert any("no single tensor" in m for m in told(pilot))
