"""A page of text to read: the whole report, or one row in full. Any line count; closed with q, Esc or the key that opened it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.screen import ModalScreen

from reprodebug.tui import actions
from reprodebug.tui.screens.base import Keyed
from reprodebug.tui.widgets.lines import Lines
from reprodebug.tui.widgets.panes import Bar


class ReadingScreen(Keyed, ModalScreen[None]):
    """Scrolls lines that ``render(width)`` makes anew for each width."""

    NAME: ClassVar[str] = "reading"
    BINDINGS: ClassVar = actions.bindings("reading")
    DEFAULT_CSS = """
    ReadingScreen { background: $background; overflow: hidden; }
    ReadingScreen > Bar { height: 1; padding: 0 1; }
    ReadingScreen > Lines { margin: 0 1; }
    """

    def __init__(self, title: str, render: Callable[[int], list[Text]]) -> None:
        super().__init__()
        self._title = title
        self._render_lines = render
        self._width = 0

    def compose(self) -> ComposeResult:
        yield Bar(id="title")
        yield Lines(cursor_shown=False)
        yield Bar(id="keys")

    def on_mount(self) -> None:
        self.query_one("#title", Bar).say(Text(self._title, "bold"))
        self.query_one("#keys", Bar).say(Text("↑ ↓ PgUp PgDn scroll   q back", "dim"))
        self.query_one(Lines).focus()

    def on_resize(self) -> None:
        width = max(20, self.size.width - 4)
        if width != self._width:
            self._width = width
            rows = self._render_lines(width)
            self.query_one(Lines).show(len(rows), lambda index, _width, _selected: rows[index].copy())

    def action_move(self, rows: int) -> None:
        self.query_one(Lines).move(rows)

    def action_page(self, sign: int) -> None:
        self.query_one(Lines).move(sign * max(1, self.query_one(Lines).size.height - 1))

    def action_ends(self, sign: int) -> None:
        self.query_one(Lines).move(sign * 10**9)
