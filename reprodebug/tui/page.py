"""A page of named fields and lines, laid out for a width when it is known, and the cutting of text to cells.

Refuses markup and raw text: what comes from a run goes through ``visible`` before it is handed over.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from rich.cells import cell_len
from rich.text import Text

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


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` columns; at least one."""
    return textwrap.wrap(text, max(12, width), break_on_hyphens=False) or [""]


class Page:
    """Fields, lines and figures in order; values hang under values."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, str] | Callable[[int], Text]] = []

    def line(self, text: str, *roles: str) -> None:
        """A line of its own, wrapped."""
        self._rows.append(("", text, style(*roles)))

    def field(self, name: str, value: str, *roles: str) -> None:
        """``name  value``, the value wrapped under itself."""
        self._rows.append((name or " ", value, style(*roles)))

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
        rows = [row for row in self._rows if not callable(row)]
        return "\n".join(f"{name:<{_NAME}}{value}" if name else value for name, value, _ in rows)
