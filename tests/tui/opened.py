"""Screens under a pilot, and what they show as text."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from textual.pilot import Pilot
from textual.screen import Screen

from reprodebug import api
from reprodebug.compare.evidence import Evidence
from reprodebug.model.comparison import Comparison
from reprodebug.tui.app import CompareApp, Loader
from reprodebug.tui.screens.compare import CompareScreen

SAMPLES = Path(__file__).parents[2] / "sample_runs"


@cache
def sample(name: str, turned: bool = False) -> tuple[Comparison, Evidence | None]:
    """The comparison of a recorded sample pair, with the records behind it; its paths are those of a call from the root."""
    names = "ba" if turned else "ab"
    c, evidence = api.examine(*(str(SAMPLES / name / n) for n in names))
    a, b = (dataclasses.replace(side, path=f"sample_runs/{name}/{n}") for side, n in zip((c.a, c.b), names, strict=True))
    return dataclasses.replace(c, a=a, b=b), evidence


@asynccontextmanager
async def opened(
    comparison: Comparison, size: tuple[int, int] = (80, 24), evidence: Evidence | None = None, turned: Loader | None = None
) -> AsyncIterator[tuple[Pilot[Any], CompareScreen]]:
    """The compare screen, drawn."""
    app = CompareApp(lambda say: (comparison, evidence), turned)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        await pilot.pause()
        assert isinstance(app.screen, CompareScreen)
        yield pilot, app.screen


@asynccontextmanager
async def opened_sample(name: str, size: tuple[int, int] = (100, 32)) -> AsyncIterator[tuple[Pilot[Any], CompareScreen]]:
    """The compare screen of a sample pair, drawn."""
    comparison, evidence = sample(name)
    async with opened(comparison, size, evidence, lambda say: sample(name, turned=True)) as both:
        yield both


async def until(pilot: Pilot[Any], condition: Any) -> None:
    """Wait for something that a thread brings about. Raises AssertionError after ten seconds."""
    for _ in range(1000):
        if condition():
            return
        await pilot.pause(0.01)
    raise AssertionError(f"it did not happen: {page(pilot)}")


async def ready(pilot: Pilot[Any]) -> None:
    """Wait until the open view has been read."""
    screen = pilot.app.screen
    assert isinstance(screen, CompareScreen)
    await until(pilot, lambda: screen.view.ready)
    await pilot.pause()


async def look(pilot: Pilot[Any], *keys: str) -> str:
    """Press keys, wait, and return what stands on the screen."""
    for key in keys:
        await pilot.press(key)
        if isinstance(pilot.app.screen, CompareScreen):
            await ready(pilot)
    shown, still = "", 0
    while still < 3:  # what a key brought about may bring about something else
        await pilot.pause(0.03)
        before, shown = shown, page(pilot)
        still = still + 1 if shown == before else 0
    return shown


def page(pilot: Pilot[Any]) -> str:
    """What stands on the screen, as text."""
    height = pilot.app.size.height
    strips = pilot.app.screen._compositor.render_strips()
    assert len(strips) == height
    return "\n".join(strip.text for strip in strips)


def told(pilot: Pilot[Any]) -> list[str]:
    """The notes that were shown."""
    return [n.message for n in pilot.app._notifications]


def selected(pilot: Pilot[Any]) -> str:
    """The row under the cursor."""
    return next(line for line in page(pilot).splitlines() if line.startswith("❯"))


AnyScreen = Screen[Any]
