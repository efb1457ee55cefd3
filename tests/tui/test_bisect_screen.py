"""The bisect screen: a scripted search for its states, and a real one from the compare screen to the proof."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from reprodebug import api
from reprodebug._base.errors import UsageError
from reprodebug.bisect.control import Control, Listener
from reprodebug.cli.bisect import EXIT_CODES
from reprodebug.model import progress
from reprodebug.model.experiment import Bisection, Culprit, Trial
from reprodebug.tui.app import BisectApp
from reprodebug.tui.screens.bisect import BisectScreen
from reprodebug.tui.screens.job import Job, tail
from reprodebug.tui.screens.reading import ReadingScreen
from tests.tui.opened import look, opened, page, told, until

SHAS = tuple(f"{n:040x}" for n in range(0x1000, 0x1010))
FOUND = Bisection(
    "found", "commits", "commit 0000000003 makes the difference", Culprit(commit=SHAS[3], subject="a subject [/bold]\x1b]0;pwned\x07"),
    confidence=0.99, bound="log2(16) = 4.0", trials=(Trial(1, "A", "same-as-a", 1.5), Trial(2, "B", "same-as-b", 0.5, 3)),
    proof=("python train.py # equal", "python train.py # differs"),
)  # fmt: skip


class Script:
    """A search that does what it is told, one step for each ``go``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gate = threading.Semaphore(0)
        self.calls: list[bool] = []

    def __call__(self, resume: bool, listen: Listener, control: Control) -> Bisection:
        self.calls.append(resume)
        listen(progress.Began(str(self.folder), "bisect", resume))
        listen(progress.Phase(progress.SEARCHING, "commits"))
        for n, left in enumerate((16, 8, 4)):
            control.gate(listen)
            listen(progress.Left("commits", "range", SHAS[:left], 16, steps=4 - n))
            log = self.folder / f"{n}.log"
            log.write_text(f"line of trial {n + 1} [/bold]\x1b]0;pwned\x07\n")
            listen(progress.TrialStarted(n + 1, n + 1, SHAS[n], str(log), 3 - n, 12.0))
            while not self.gate.acquire(timeout=0.02):
                control.check()
            listen(
                progress.TrialEnded(
                    Trial(n + 1, SHAS[n], ("same-as-a", "same-as-b", "untestable")[n], 1.25, 2, reason="a reason"), str(log)
                )
            )
        listen(progress.Finished(FOUND))
        return FOUND


@asynccontextmanager
async def searching(search: Callable[..., Bisection], size: tuple[int, int] = (90, 28)) -> AsyncIterator[tuple[Pilot[Any], BisectScreen]]:
    app = BisectApp(Job(search, (), "reprodebug bisect a b --headless"), EXIT_CODES)
    try:
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: isinstance(app.screen, BisectScreen))
            screen = app.screen
            assert isinstance(screen, BisectScreen)
            yield pilot, screen
    finally:
        app.end_threads()


async def test_a_search_is_shown_while_it_runs(tmp_path: Path) -> None:
    script = Script(tmp_path)
    async with searching(script) as (pilot, screen):
        await until(pilot, lambda: "running: trial 1" in page(pilot))
        shown = page(pilot)
        assert "searching  commits" in shown and "16 of 16 left" in shown and "about 3 more, 1" in shown
        assert "line of trial 1 [/bold]" in shown
        script.gate.release()
        await until(pilot, lambda: "running: trial 2" in page(pilot))
        shown = page(pilot)
        assert "8 of 16 left" in shown and "= same as A" in shown and "step 2" in shown
        script.gate.release()
        script.gate.release()
        await until(pilot, lambda: screen.state == "ended")
        shown = await look(pilot)
        assert "✓ found" in shown and "a subject [/bold]" in shown and "confidence 0.99" in shown and "# differs" in shown
        await look(pilot, "r")
        assert isinstance(pilot.app.screen, ReadingScreen)
        await look(pilot, "q", "tab", "q")
    assert pilot.app.return_code == 0


async def test_pause_holds_the_next_trial(tmp_path: Path) -> None:
    script = Script(tmp_path)
    async with searching(script) as (pilot, screen):
        await until(pilot, lambda: screen.running)
        await look(pilot, "p")
        assert "pausing" in page(pilot)
        script.gate.release()
        await until(pilot, lambda: screen.state == "paused")
        assert len(screen.trials) == 1 and not screen.running
        await look(pilot, "p")
        await until(pilot, lambda: screen.running)
        await look(pilot, "c")
        await until(pilot, lambda: screen.state == "cancelled")


async def test_cancel_and_resume(tmp_path: Path) -> None:
    script = Script(tmp_path)
    async with searching(script) as (pilot, screen):
        await until(pilot, lambda: screen.running)
        await look(pilot, "q")
        assert any("c cancels it" in m for m in told(pilot)) and pilot.app.screen is screen
        await look(pilot, "s")
        assert any("only a search that was cancelled" in m for m in told(pilot))
        await look(pilot, "c")
        await until(pilot, lambda: screen.state == "cancelled")
        assert "s goes on" in page(pilot)
        await look(pilot, "s")
        await until(pilot, lambda: screen.running)
        assert script.calls == [False, True]
        for _ in range(3):
            script.gate.release()
        await until(pilot, lambda: screen.state == "ended")


async def test_leaving_in_the_middle_ends_the_search_and_exits_130(tmp_path: Path) -> None:
    script = Script(tmp_path)
    async with searching(script) as (pilot, screen):
        await until(pilot, lambda: screen.running)
        await pilot.press("ctrl+c")
    assert pilot.app.return_code == 130
    assert not any(t.name == "reprodebug-bisect" for t in threading.enumerate())


async def test_a_question_without_sense_is_one_sentence_and_exit_2() -> None:
    def refuse(*_: object) -> Bisection:
        raise UsageError("no command was given [/bold]\x1b]0;pwned\x07", hint="reprodebug bisect --help")

    async with searching(refuse) as (pilot, screen):
        await until(pilot, lambda: screen.state == "failed")
        assert "no command was given [/bold]" in await look(pilot)
        await look(pilot, "q")
    assert pilot.app.return_code == 2
    assert "no command was given" in pilot.app.last_words and "\x1b" not in pilot.app.last_words  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (120, 40)])
async def test_every_key_does_something_or_says_why(tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = Script(tmp_path)
    async with searching(script, size) as (pilot, screen):
        await until(pilot, lambda: screen.running)
        for key in ["r", "e", "enter", "s", "x", "z"]:
            seen = len(pilot.app._notifications)
            await pilot.press(key)
            assert len(pilot.app._notifications) == seen + 1, key
        for _ in range(3):
            script.gate.release()
        await until(pilot, lambda: screen.state == "ended")
        await look(pilot, "e")
        assert (tmp_path / "reprodebug-bisect.md").exists() and (tmp_path / "reprodebug-bisect.json").exists()
        await look(pilot, "tab", "j", "k", "G", "g", "enter")
        assert isinstance(pilot.app.screen, ReadingScreen)
        await look(pilot, "q", "question_mark")
        assert isinstance(pilot.app.screen, ReadingScreen)


def test_the_tail_of_a_growing_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert tail(str(path)) == [] and tail("") == []
    path.write_bytes(b"\xff" + b"".join(b"line %d\n" % n for n in range(10_000)))
    assert tail(str(path))[-1] == "line 9999" and len(tail(str(path))) == 40


TRAIN = """
import sys
import torch
torch.manual_seed(0)
layer = torch.nn.Linear(3, 3)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.2 if "--fast" in sys.argv else 0.1)
for step in range(3):
    optimizer.zero_grad()
    layer(torch.ones(2, 3)).pow(2).sum().backward()
    optimizer.step()
"""


async def test_a_real_search_from_the_comparison_to_its_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, extra in (("a", []), ("b", ["--fast"])):
        command = [sys.executable, "-m", "reprodebug", "capture", "-o", name, "--", sys.executable, "train.py", *extra]
        subprocess.run(command, check=True, capture_output=True)
    comparison, evidence = api.examine("a", "b")
    async with opened(comparison, (100, 30), evidence) as (pilot, _):
        shown = await look(pilot, "b")
        screen = pilot.app.screen
        assert isinstance(screen, BisectScreen) and "nothing has been run yet" in shown and "train.py --fast" in shown
        await pilot.press("enter")
        for _ in range(60):
            try:
                await until(pilot, lambda: screen.state in ("ended", "failed"))
                break
            except AssertionError:
                continue
        shown = await look(pilot)
        assert screen.state == "ended" and "--fast" in shown and "✓ found" in shown, shown
        await look(pilot, "q")
        await look(pilot, "q")
    assert pilot.app.return_code == 1
