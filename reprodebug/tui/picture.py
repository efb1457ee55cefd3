"""A picture of the compare screen, for the documentation."""

from __future__ import annotations

import asyncio

from reprodebug.model.comparison import Comparison


def save(comparison: Comparison, path: str, size: tuple[int, int] = (110, 32)) -> None:
    """Write the compare screen of ``comparison`` to ``path`` as SVG. Needs no terminal; not for use inside an event loop."""
    asyncio.run(_save(comparison, path, size))


async def _save(comparison: Comparison, path: str, size: tuple[int, int]) -> None:
    from reprodebug.tui.app import CompareApp
    from reprodebug.tui.screens.compare import CompareScreen

    app = CompareApp(lambda: comparison)
    async with app.run_test(size=size) as pilot:
        while not isinstance(app.screen, CompareScreen):
            await pilot.pause(0.01)
        await pilot.pause(0.2)
        picture = app.export_screenshot(title="reprodebug compare")
    with open(path, "w", encoding="utf-8") as file:
        file.write(picture)
