"""The keys, made from the registry and from nothing else."""

from __future__ import annotations

import textwrap

from rich.text import Text

from reprodebug.tui import actions
from reprodebug.tui.screens.reading import ReadingScreen


class HelpScreen(ReadingScreen):
    """Every key of the compare screen."""

    def __init__(self) -> None:
        super().__init__("Keys", lines)


def lines(width: int) -> list[Text]:
    """The help as lines of at most ``width`` cells."""
    out: list[Text] = []
    for group, rows in actions.help_groups():
        out += [Text(), Text(group, "bold")]
        for keys, title in rows:
            wrapped = textwrap.wrap(title, max(10, width - 18))
            out.append(Text.assemble((f"  {keys:<14}", "bold"), "  " + wrapped[0]))
            out += [Text(" " * 18 + more) for more in wrapped[1:]]
    out += [Text(), Text("Marks", "bold")]
    for mark, meaning in (
        ("✓ ≈ ✗ ?", "identical, equivalent, divergent, incomparable"),
        ("✗ ! ·", "critical, notable, harmless"),
        ("▸", "the selected row"),
    ):
        out.append(Text.assemble((f"  {mark:<14}", "bold"), "  " + meaning))
    return out[1:]
