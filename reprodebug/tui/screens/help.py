"""What can be done on a screen, made from the registry and from nothing else."""

from __future__ import annotations

from rich.text import Text

from reprodebug.tui import actions
from reprodebug.tui.page import wrap
from reprodebug.tui.screens.reading import ReadingScreen


class HelpScreen(ReadingScreen):
    """The keys of one screen; ``about`` says what has the focus there."""

    def __init__(self, screen: str, about: str = "") -> None:
        super().__init__("Help", lambda width: lines(screen, about, width))


def lines(screen: str, about: str, width: int) -> list[Text]:
    """The help as lines of at most ``width`` cells."""
    out: list[Text] = [Text(piece) for piece in wrap(about, width)] if about else []
    for group, rows in actions.help_groups(screen):
        out += [Text(), Text(group, "bold")]
        for keys, title in rows:
            wrapped = wrap(title, width - 18)
            out.append(Text.assemble((f"  {keys:<14}", "bold"), "  " + wrapped[0]))
            out += [Text(" " * 18 + more) for more in wrapped[1:]]
    out += [Text(), Text("Marks", "bold")]
    for mark, meaning in _MARKS:
        wrapped = wrap(meaning, width - 18)
        out.append(Text.assemble((f"  {mark:<14}", "bold"), "  " + wrapped[0]))
        out += [Text(" " * 18 + more) for more in wrapped[1:]]
    return out if about else out[1:]


_MARKS = (
    ("✓ ≈ ✗ ?", "identical, equivalent, divergent, incomparable"),
    ("✗ ! ·", "critical, notable, harmless"),
    ("= ≠", "equal bit for bit, not equal"),
    ("◆", "the first divergence"),
    ("❯", "the selected row; a click on it unfolds or opens it"),
    ("▸ ▾", "folded, unfolded"),
    ("· ▁ to █", "over the steps: all equal, and the share of records that differ"),
    ("(1)", "named by the first cause"),
    ("⇄ ~", "same samples in another order, same samples with other content"),
)
