"""Snapshots of the screens on recorded runs, and the pictures for the documentation."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from reprodebug._base.errors import RunUnreadable
from reprodebug.bisect.control import Control, Listener
from reprodebug.cli.bisect import EXIT_CODES
from reprodebug.model import progress
from reprodebug.model.experiment import Bisection, Culprit, Trial
from reprodebug.tui import picture
from reprodebug.tui.app import BisectApp, CompareApp
from reprodebug.tui.screens.bisect import BisectScreen
from reprodebug.tui.screens.compare import CompareScreen
from reprodebug.tui.screens.job import Job
from reprodebug.tui.screens.states import ErrorScreen
from tests.tui import comparisons as made
from tests.tui.opened import look, sample, until

PICTURES = [
    # (sample pair, size, keys)
    ("forgotten-train-mode", (60, 16), ""),
    ("forgotten-train-mode", (80, 24), ""),
    ("forgotten-train-mode", (120, 40), ""),
    ("full-level", (120, 40), ""),
    ("extra-draw", (120, 40), "2"),
    ("extra-draw", (80, 24), "3"),
    ("data-order", (120, 40), "4"),
    ("changed-package", (80, 24), "5"),
    ("threads", (120, 40), "6"),
    ("extra-draw", (80, 24), "7"),
    ("missing-seed", (80, 24), "w"),
    ("identical", (80, 24), ""),
]


@pytest.mark.parametrize(("pair", "size", "keys"), PICTURES)
def test_the_screen_looks_as_before(snap_compare: Any, pair: str, size: tuple[int, int], keys: str) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen))
        await look(pilot, *keys)

    assert snap_compare(CompareApp(lambda say: sample(pair)), terminal_size=size, run_before=ready)


def test_hostile_names_look_as_before(snap_compare: Any) -> None:
    async def ready(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen))
        await look(pilot)

    assert snap_compare(CompareApp(lambda say: (made.hostile(), None)), terminal_size=(60, 16), run_before=ready)


def test_an_error_looks_as_before(snap_compare: Any) -> None:
    def load(say: Any) -> Any:
        raise RunUnreadable("runs/b was recorded by a newer version (schema 9, this one reads up to 1)", hint="pip install -U reprodebug")

    async def ready(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: isinstance(pilot.app.screen, ErrorScreen))
        await look(pilot)

    assert snap_compare(CompareApp(load), terminal_size=(80, 24), run_before=ready)


def test_a_search_looks_as_before(snap_compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reprodebug.tui.screens.bisect.BisectScreen.seconds", lambda self: 7.0)  # the clock is part of the picture
    hold = threading.Event()

    def search(resume: bool, listen: Listener, control: Control) -> Bisection:
        listen(progress.Phase(progress.SEARCHING, "settings"))
        names = ("deterministic_algorithms", "intra_op_threads", "mkldnn", "autocast")
        for n, (candidate, verdict) in enumerate((("A", "same-as-a"), ("B", "same-as-b"), ("mkldnn, autocast", "same-as-a")), 1):
            listen(progress.TrialEnded(Trial(n, candidate, verdict, 1.5 * n, 4 if n > 1 else None), ""))
        listen(progress.Left("settings", "set", names[:2], 4, ("cpu_capability",), 2))
        while not control.cancelled and not hold.wait(0.02):
            pass
        control.check()
        return Bisection("found", "settings", "", Culprit())

    app = BisectApp(Job(search, (), "reprodebug bisect runs/a runs/b --headless"), EXIT_CODES)

    async def ready(pilot: Pilot[Any]) -> None:
        screen = pilot.app.screen
        assert isinstance(screen, BisectScreen)
        await until(pilot, lambda: screen._left is not None and len(screen.trials) == 3)
        await look(pilot)

    try:
        assert snap_compare(app, terminal_size=(80, 24), run_before=ready)
    finally:
        hold.set()
        app.end_threads()


def test_save_writes_an_svg(tmp_path: Path) -> None:
    path = tmp_path / "compare.svg"
    comparison, evidence = sample("extra-draw")
    picture.save(comparison, evidence, str(path), keys="3")
    text = path.read_text(encoding="utf-8")
    assert text.lstrip().startswith("<svg") and "divergent" in text and "torch.cpu" in text
