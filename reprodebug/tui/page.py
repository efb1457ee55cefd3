"""A page of named fields and lines, laid out for a width when it is known, and the cutting of text to cells.

Refuses markup and raw text: what comes from a run goes through ``visible`` before it is handed over.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from rich.cells import cell_len
from rich.text import Text

from reprodebug._base.text import visible
from reprodebug.tui.palette import style

_NAME = 8


def fit(text: str, width: int, *, keep_end: bool = False) -> str:
    """``text`` in exactly ``width`` cells: padded, or cut with an ellipsis at the end (or the start)."""
    if width <= 0:
        return ""
    if cell_len(text) > width:
        while cell_len(text) > width - 1:
            text = text[1:] if keep_end else text[:-1]
        text = "…" + text if keep_end else text + "…"
    return text + " " * (width - cell_len(text))


def inert(text: Text) -> Text:
    """``text``; without its colours, but with every control character printed as an escape, where somebody forgot to make one visible."""
    if text.plain.replace("\n", "").isprintable():
        return text
    return Text("\n".join(visible(line, None) for line in text.plain.split("\n")), no_wrap=text.no_wrap, overflow=text.overflow)


def squeeze(text: str, width: int) -> str:
    """``text`` in exactly ``width`` cells; where it is longer its middle is left out, since names differ at their ends."""
    if cell_len(text) <= width or width < 8:
        return fit(text, width)
    tail = width // 2
    head = fit(text, width - tail).rstrip()
    return fit(head + fit(text, tail, keep_end=True).lstrip("…"), width)


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` columns; at least one."""
    return textwrap.wrap(text, max(12, width), break_on_hyphens=False) or [""]


class Page:
    """Fields, lines and figures in order; values hang under values."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, str] | tuple[str, str, str, None] | Callable[[int], Text]] = []

    def line(self, text: str, *roles: str) -> None:
        """A line of its own, wrapped."""
        self._rows.append(("", text, style(*roles)))

    def field(self, name: str, value: str, *roles: str) -> None:
        """``name  value``, the value wrapped under itself."""
        self._rows.append((name or " ", value, style(*roles)))

    def both(self, name: str, a: str, b: str) -> None:
        """A value of each run: said once where they are equal, side by side where there is room, else one below the other."""
        if a == b:
            self._rows.append((name, f"{a} in both", ""))
        else:
            self._rows.append((name, a, b, None))

    def figure(self, draw: Callable[[int], Text]) -> None:
        """What ``draw`` makes for a width, as it is."""
        self._rows.append(draw)

    def __bool__(self) -> bool:
        return bool(self._rows)

    def lay(self, width: int) -> Text:
        """As text of at most ``width`` columns."""
        out = Text()
        for row in self._rows:
            if callable(row):
                out.append("\n" if out else "").append_text(row(width))
                continue
            if len(row) == 4:
                _side_by_side(out, row[0], row[1], row[2], width)
                continue
            name, value, look = row
            indent = _NAME if name else 0
            for n, piece in enumerate(wrap(value, width - indent)):
                out.append("\n" if out else "")
                if indent:
                    out.append(f"{name if n == 0 else '':<{indent - 1}} ", "dim")
                out.append(piece, look)
        return out

    def plain(self) -> str:
        """As lines that are not wrapped and without figures, for the clipboard."""
        out = []
        for row in self._rows:
            if callable(row):
                continue
            name, value = row[0], f"A {row[1]}, B {row[2]}" if len(row) == 4 else row[1]
            out.append(f"{name:<{_NAME}}{value}" if name else value)
        return "\n".join(out)


def _side_by_side(out: Text, name: str, a: str, b: str, width: int) -> None:
    room = (width - _NAME) // 2 - 3  # the letter, a blank, and one between the columns
    stacked = max(cell_len(a), cell_len(b)) > room
    for n, (side, value) in enumerate((("A", a), ("B", b))):
        if n == 0 or stacked:
            out.append("\n" if out else "").append(f"{name if n == 0 else '':<{_NAME - 1}} ", "dim")
        pieces = wrap(value, width - _NAME - 2) if stacked else [fit(value, room) + " " if n == 0 else value]
        out.append(f"{side} ", style("bold", side.lower())).append(pieces[0], style(side.lower()))
        for piece in pieces[1:]:
            out.append("\n" + " " * (_NAME + 2)).append(piece, style(side.lower()))
