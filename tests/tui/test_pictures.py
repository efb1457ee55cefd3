"""Snapshots of the compare screen, and the picture for the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from reprodebug.tui import picture
from reprodebug.tui.app import CompareApp
from reprodebug.tui.screens.compare import CompareScreen
from tests.tui import comparisons as made


async def ready(pilot: Pilot[Any]) -> None:
    for _ in range(200):
        if isinstance(pilot.app.screen, CompareScreen):
            break
        await pilot.pause(0.01)
    await pilot.pause(0.1)


@pytest.mark.parametrize(
    ("name", "size"), [("divergent", (80, 24)), ("numbers", (110, 32)), ("identical", (80, 24)), ("hostile", (60, 16))]
)
def test_the_screen_looks_as_before(snap_compare: Any, name: str, size: tuple[int, int]) -> None:
    app = CompareApp(made.STATES[name][0])
    assert snap_compare(app, terminal_size=size, run_before=ready)


def test_save_writes_an_svg(tmp_path: Path) -> None:
    path = tmp_path / "compare.svg"
    picture.save(made.divergent(), str(path))
    text = path.read_text(encoding="utf-8")
    assert text.lstrip().startswith("<svg") and "divergent" in text
