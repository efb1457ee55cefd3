"""Panes of text that scroll, and one-line bars. They hold ``rich.text.Text`` only."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static


class Bar(Static):
    """Lines of text without focus. Starts empty."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(Text(), id=id, markup=False)

    def say(self, text: Text) -> None:
        """Replace the text."""
        self.update(text)


class Pane(VerticalScroll, can_focus=True, inherit_bindings=False):
    """Wrapped text that scrolls under the keys of the screen."""

    DEFAULT_CSS = """
    Pane { height: auto; scrollbar-size-vertical: 1; }
    Pane > Bar { height: auto; }
    """

    def compose(self) -> ComposeResult:
        yield Bar()

    def say(self, text: Text) -> None:
        """Replace the text and go to its start."""
        self.query_one(Bar).say(text)
        self.scroll_home(animate=False)

    def move(self, rows: int) -> bool:
        """Scroll; False where there is no more that way."""
        before = round(self.scroll_target_y)
        self.scroll_to(y=before + rows, animate=False)
        return round(self.scroll_target_y) != before
