"""Panes of text that scroll, and one-line bars. They hold ``rich.text.Text`` only."""

from __future__ import annotations

from collections.abc import Callable

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from reprodebug.tui.page import inert

Lay = Callable[[int], Text]


class Bar(Static):
    """Lines of text without focus. Starts empty. With ``fixed`` its height is that of its style, whatever it says: no new layout."""

    def __init__(self, id: str | None = None, *, fixed: bool = False) -> None:
        super().__init__(Text(), id=id, markup=False)
        self._fixed = fixed
        self._said: object = None

    def say(self, text: Text) -> None:
        """Replace the text."""
        text = inert(text)
        said = text.plain, text.style, tuple(text.spans)
        if said != self._said:
            self._said = said
            self.update(text, layout=not self._fixed)


class Pane(VerticalScroll, can_focus=True, inherit_bindings=False):
    """Wrapped text that scrolls under the keys of the screen."""

    DEFAULT_CSS = """
    Pane { height: auto; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0; scrollbar-gutter: stable; }
    Pane > Bar { height: auto; width: 1fr; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lay: Lay = lambda width: Text()
        self._width = 0

    def compose(self) -> ComposeResult:
        yield Bar()

    def say(self, lay: Lay) -> None:
        """Replace the text by what ``lay`` makes for a width, and go to its start."""
        self._lay = lay
        self._width = self.scrollable_content_region.width
        self.query_one(Bar).say(lay(self._width or self.app.size.width - 4))  # before the first layout: most are that wide
        self.scroll_home(animate=False)

    def on_resize(self) -> None:
        width = self.scrollable_content_region.width
        if width and width != self._width:
            self._width = width
            self.call_after_refresh(self._again)  # a height asked for in the middle of a layout would be that of the old text

    def _again(self) -> None:
        self.query_one(Bar).say(self._lay(self._width))

    def move(self, rows: int) -> bool:
        """Scroll; False where there is no more that way."""
        before = round(self.scroll_target_y)
        self.scroll_to(y=before + rows, animate=False)
        return round(self.scroll_target_y) != before
