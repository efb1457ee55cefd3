"""A picture of the compare screen, for the documentation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from reprodebug.compare.evidence import Evidence
from reprodebug.model.comparison import Comparison


def save(comparison: Comparison, evidence: Evidence | None, path: str, size: tuple[int, int] = (110, 32), keys: Sequence[str] = ()) -> None:
    """Write what the compare screen shows after ``keys`` to ``path`` as SVG. Needs no terminal; not for use inside an event loop."""
    asyncio.run(_save(comparison, evidence, path, size, keys))


async def _save(comparison: Comparison, evidence: Evidence | None, path: str, size: tuple[int, int], keys: Sequence[str]) -> None:
    from reprodebug.tui.app import CompareApp
    from reprodebug.tui.screens.compare import CompareScreen

    app = CompareApp(lambda say: (comparison, evidence))
    async with app.run_test(size=size) as pilot:
        while not isinstance(app.screen, CompareScreen):
            await pilot.pause(0.01)
        await pilot.pause(0.2)
        for key in keys:
            await pilot.press(key)
            await pilot.pause(0.2)
        picture = app.export_screenshot(title="reprodebug compare")
    with open(path, "w", encoding="utf-8") as file:
        file.write(picture)
