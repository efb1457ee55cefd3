"""A list with a cursor that stays quick at 100,000 rows: only the visible rows are ever built.

Owns the cursor and the scrolling. Refuses to hold rows: it asks ``row(index, width, selected)`` for a ``rich.text.Text``,
and never takes a string. The screen owns the keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from reprodebug.tui.page import inert
from reprodebug.tui.palette import cursor

Row = Callable[[int, int, bool], Text]


class Lines(ScrollView, can_focus=True, inherit_bindings=False):
    """One line for each row; the row under the cursor is marked by its renderer and by reversed video."""

    DEFAULT_CSS = """
    Lines { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; background: $background; }
    """
    ALLOW_SELECT: ClassVar[bool] = False

    cursor: reactive[int] = reactive(0, init=False)

    class Moved(Message):
        """The cursor stands on another row."""

        def __init__(self, lines: Lines, index: int) -> None:
            super().__init__()
            self.lines = lines
            self.index = index

    class Chosen(Message):
        """The row that was under the cursor already has been clicked."""

        def __init__(self, lines: Lines) -> None:
            super().__init__()
            self.lines = lines

    class Sized(Message):
        """The rows are drawn in another width: what stands above them has to follow."""

        def __init__(self, lines: Lines, width: int) -> None:
            super().__init__()
            self.lines = lines
            self.width = width

    def __init__(self, *, cursor_shown: bool = True, id: str | None = None) -> None:
        super().__init__(id=id)
        self.count = 0
        self.cursor_shown = cursor_shown
        self._drawn = 0
        self._row: Row = lambda index, width, selected: Text()

    def show(self, count: int, row: Row, cursor: int = 0) -> None:
        """Replace what is listed."""
        self.count, self._row = count, row
        self.virtual_size = Size(max(1, self.size.width), count)
        self.set_reactive(Lines.cursor, max(0, min(cursor, count - 1)))
        self.post_message(self.Moved(self, self.cursor))
        self._follow(around=True)
        self.refresh()

    def move(self, rows: int) -> bool:
        """Move the cursor, or scroll where there is none; False where it cannot move that way."""
        if not self.cursor_shown:
            before = round(self.scroll_target_y)
            self.scroll_to(y=before + rows, animate=False)
            return round(self.scroll_target_y) != before
        before = self.cursor
        self.cursor = before + rows
        return self.cursor != before

    def validate_cursor(self, value: int) -> int:
        return max(0, min(value, self.count - 1))

    def watch_cursor(self) -> None:
        self._follow()
        self.refresh()
        self.post_message(self.Moved(self, self.cursor))

    def _follow(self, around: bool = False) -> None:
        """Keep the cursor in sight; with ``around`` also what stands above it."""
        if not (self.cursor_shown and self.count and self.is_mounted):
            return
        height = self.size.height
        if not height:
            return  # not laid out yet; the first resize comes back here
        if around and not self.scroll_y <= self.cursor < self.scroll_y + height:
            self.scroll_to(y=max(0, self.cursor - height // 2), animate=False, force=True)
        else:
            self.scroll_to_region(Region(0, self.cursor, 1, 1), animate=False, force=True)

    def on_resize(self) -> None:
        self._drawn = 0  # what stands above the rows may have been drawn for another width while none was shown
        self.virtual_size = Size(max(1, self.scrollable_content_region.width), self.count)
        self.call_after_refresh(self._follow, True)

    def on_click(self, event: events.Click) -> None:
        index = event.y + round(self.scroll_y)
        if not self.cursor_shown or not 0 <= index < self.count:
            return
        if index == self.cursor:
            self.post_message(self.Chosen(self))
        self.cursor = index

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        index = y + round(self.scroll_y)
        base = self.rich_style
        if width != self._drawn:
            self._drawn = width
            self.post_message(self.Sized(self, width))
        if not 0 <= index < self.count:
            return Strip.blank(width, base)
        selected = self.cursor_shown and index == self.cursor
        text = inert(self._row(index, width, selected))
        text.truncate(width, overflow="ellipsis", pad=True)
        strip = Strip(text.render(self.app.console), width).apply_style(base)
        if selected:
            under = Style(**cursor(self.has_focus))
            strip = Strip([Segment(s.text, (s.style or Style()) + under, s.control) for s in strip], width)
        return strip.adjust_cell_length(width, base)
