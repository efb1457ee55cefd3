"""The guided walk: every page answers its question from the comparison, and its command prints the same."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from reprodebug.tui.screens.compare import CompareScreen
from reprodebug.tui.screens.walk import WalkScreen
from reprodebug.tui.walk import questions
from tests.tui import comparisons as made
from tests.tui.opened import SAMPLES, look, opened, opened_sample, page, sample, told


async def test_the_walk_leads_from_the_verdict_to_the_remedy_and_back() -> None:
    comparison, _ = sample("forgotten-train-mode")
    async with opened_sample("forgotten-train-mode", (80, 24)) as (pilot, _):
        shown = await look(pilot, "w")
        assert isinstance(pilot.app.screen, WalkScreen)
        assert "Do the two runs agree?" in shown and "✗ divergent" in shown
        asked = []
        for _ in range(len(questions(comparison))):
            screen = pilot.app.screen
            assert isinstance(screen, WalkScreen)
            asked.append(screen.page.question)
            assert screen.page.question[:30] in page(pilot) and "headless:" in page(pilot) and "next:" in page(pilot)
            await look(pilot, "enter")
        assert "last question" in told(pilot)[-1]
        assert asked == [
            "Do the two runs agree?", "What is the first thing that differs?", "What was still equal just before?",
            "Were they launched alike: environment, dependencies, code, configuration?", "Did they draw the same random numbers?",
            "Did they read the same data?", "How does it spread and grow?", "Why?", "What to do now?",
        ]  # fmt: skip
        assert comparison.causes[0].remedy[:30] in " ".join(page(pilot).split())
        assert "reprodebug bisect" in page(pilot)
        await look(pilot, "left")
        assert "Why?" in page(pilot)
        await look(pilot, "q")
        assert isinstance(pilot.app.screen, CompareScreen)


@pytest.mark.parametrize("name", ["identical", "incomparable", "equivalent", "truncated", "hostile", "numbers"])
async def test_every_state_has_a_walk(name: str) -> None:
    for size in ((60, 16), (120, 40)):
        async with opened(made.STATES[name][0](), size) as (pilot, _):
            await look(pilot, "w")
            screen = pilot.app.screen
            assert isinstance(screen, WalkScreen)
            for _ in screen.questions:
                assert "headless" in page(pilot)
                await look(pilot, "space")


async def test_a_page_opens_the_view_of_its_evidence() -> None:
    async with opened_sample("extra-draw") as (pilot, screen):
        await look(pilot, "w", *["right"] * 4)
        shown = await look(pilot, "v")
        assert screen.view.name == "random state" and "torch.cpu" in shown


async def test_a_page_can_be_copied() -> None:
    async with opened_sample("extra-draw") as (pilot, _):
        await look(pilot, "w", "right", "y")
        assert "What is the first thing that differs?" in pilot.app.clipboard and "\x1b" not in pilot.app.clipboard
        await look(pilot, "Y")
        assert pilot.app.clipboard.startswith("reprodebug compare ") and pilot.app.clipboard.endswith("--only first")


def test_the_commands_of_the_walk_print_what_it_says() -> None:
    comparison, _ = sample("changed-package")
    seen = set()
    for q in questions(comparison)[:-1]:
        words = shlex.split(q.command)
        if words[-1] in seen:
            continue
        seen.add(words[-1])
        assert words[0] == "reprodebug"
        done = subprocess.run([sys.executable, "-m", *words], cwd=SAMPLES.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and done.stdout, done.stderr
        if words[-1] == "environment":
            assert all(d.key in done.stdout for d in comparison.differences if d.section == "environment" and d.severity == "critical")
        if words[-1] == "causes":
            assert comparison.causes[0].summary[:40] in " ".join(done.stdout.split())
    assert {"verdict", "first", "environment", "random-state", "data,batches", "causes"} <= seen
