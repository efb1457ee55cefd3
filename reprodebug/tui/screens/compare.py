"""The compare screen: verdict, first divergence, top cause, and seven views of what differs.

Owns which view is open, what is hidden and which way round A and B stand. Refuses to compare: it shows one Comparison and the
records behind it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Vertical
from textual.geometry import Size
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input

from reprodebug._base.text import plural, visible
from reprodebug.compare.evidence import Evidence
from reprodebug.model.comparison import Comparison
from reprodebug.report import words
from reprodebug.tui import actions, content
from reprodebug.tui.screens.states import FailureDialog, TooSmall
from reprodebug.tui.screens.ways import Ways
from reprodebug.tui.views import VIEWS, View
from reprodebug.tui.widgets.lines import Lines
from reprodebug.tui.widgets.panes import Bar, Pane


class Filter(Input):
    """The line in which the filter is typed."""

    BINDINGS: ClassVar = [b for b in actions.bindings("filter") if isinstance(b, Binding) and b.key == "escape"]  # Enter is Input's own
    DEFAULT_CSS = """
    Filter { display: none; height: 1; border: none; padding: 0 1; background: $surface; }
    Filter.-open { display: block; }
    Filter:focus { border: none; }
    """


class CompareScreen(Ways, Screen[None]):
    """Opens on the answer, the cursor on the first difference."""

    NAME: ClassVar[str] = "compare"
    BINDINGS: ClassVar = actions.bindings("compare")
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - an instance variable of the base class
        (0, "-narrow"),
        (110, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-short"),
        (20, "-normal"),
        (30, "-tall"),
    ]
    DEFAULT_CSS = """
    CompareScreen { layout: vertical; overflow: hidden; }
    CompareScreen #verdict { height: auto; max-height: 4; padding: 0 1; }
    CompareScreen #first { max-height: 4; border-left: outer $panel; padding: 0 1; }
    CompareScreen #first:focus, CompareScreen #detail:focus { border-left: outer $accent; }
    CompareScreen #cause { height: auto; max-height: 3; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    CompareScreen #cause.-none { display: none; }
    CompareScreen #tabs { height: 1; margin: 0 0 0 0; background: $surface; }
    CompareScreen #header { height: 1; }
    CompareScreen #body { height: 1fr; layout: vertical; }
    CompareScreen #left { height: 1fr; }
    CompareScreen #detail { height: 6; max-height: 6; border-left: outer $panel; padding: 0 1; }
    CompareScreen #coverage, CompareScreen #keys { height: 1; padding: 0 1; }
    CompareScreen #tabs, CompareScreen #header { text-wrap: nowrap; text-overflow: ellipsis; }
    CompareScreen #coverage, CompareScreen #keys { text-wrap: nowrap; text-overflow: ellipsis; }
    CompareScreen #empty { height: 1fr; padding: 1 2; display: none; }
    CompareScreen.-nothing #empty { display: block; }
    CompareScreen.-nothing #header, CompareScreen.-nothing #detail { display: none; }
    CompareScreen.-nothing #list { height: 0; } /* not hidden: it keeps the focus */
    CompareScreen.-tall #first { max-height: 10; }
    CompareScreen.-tall #detail { height: 9; max-height: 9; }
    CompareScreen.-wide #body { layout: horizontal; }
    CompareScreen.-wide #detail { width: 46; height: 1fr; max-height: 100%; }
    CompareScreen.-wide #left { width: 1fr; }
    CompareScreen.-other #first { display: none; } /* where there is little room, it stands beside the view that the screen opens on */
    CompareScreen.-other #detail { height: 10; max-height: 10; }
    CompareScreen.-tall #first { display: block; }
    CompareScreen.-tall.-other #detail { height: 12; max-height: 12; }
    CompareScreen.-wide.-other #detail { height: 1fr; max-height: 100%; }
    CompareScreen.-short #verdict { max-height: 2; }
    CompareScreen.-short #first { max-height: 3; }
    CompareScreen.-short #detail { display: none; }
    CompareScreen.-too-small > * { display: none; }
    CompareScreen.-too-small > TooSmall { display: block; }
    """

    class Prepared(Message):
        """A view has read what its rows are made of, or failed to."""

        def __init__(self, view: View, error: BaseException | None) -> None:
            super().__init__()
            self.view = view
            self.error = error

    class Turned(Message):
        """The comparison of B with A has been made, or has failed."""

        def __init__(self, comparison: Comparison | None, error: BaseException | None) -> None:
            super().__init__()
            self.comparison = comparison
            self.error = error

    def __init__(self, comparison: Comparison, evidence: Evidence | None = None, turn: Callable[[], Comparison] | None = None) -> None:
        """``turn`` compares B with A: what the sentences of the causes say of a side cannot be exchanged by rewriting them."""
        super().__init__()
        self.comparison = comparison
        self.evidence = evidence
        self.swapped = False
        self._drawn_for: Size | None = None
        self._turn = turn
        self._turning = False
        self._other: Comparison | None = None
        """the same two runs the other way round, once that was asked for"""
        self.everything = False
        self.views: list[View] = []
        self.opened = 0
        self._cursors: dict[int, int] = {}
        self._tab_ends: list[int] = []
        self._make_views()
        if not comparison.layers and comparison.differences and evidence is None:
            self.opened = next(n for n, v in enumerate(self.views) if v.name == "environment")
        self._home = self.opened

    def _make_views(self) -> None:
        self.views = [make(self.comparison, self.evidence) for make in VIEWS]
        self._cursors = {}
        for view in self.views:
            view.everything = self.everything
            if view.ready:
                view.build()

    def compose(self) -> ComposeResult:
        width, height = self.app.size  # so that the first layout is the last one
        for at, steps in ((width, self.HORIZONTAL_BREAKPOINTS), (height, self.VERTICAL_BREAKPOINTS)):
            self.add_class(max(step for step in steps if step[0] <= at)[1])
        yield Bar(id="verdict")
        yield Pane(id="first")
        yield Bar(id="cause")
        yield Bar(id="tabs", fixed=True)
        with Container(id="body"):
            with Vertical(id="left"):
                yield Bar(id="header", fixed=True)
                yield Lines(id="list")
                yield Bar(id="empty", fixed=True)
            yield Pane(id="detail")
        yield Filter(placeholder="filter the rows; Enter keeps it, Esc shows all", id="filter")
        yield Bar(id="coverage", fixed=True)
        yield Bar(id="keys", fixed=True)
        yield TooSmall()

    def on_mount(self) -> None:
        self.show()
        self._list.focus()

    # what is shown

    @property
    def view(self) -> View:
        """The open view."""
        return self.views[self.opened]

    @property
    def at_home(self) -> bool:
        return self.opened == self._home

    @property
    def _detail(self) -> Pane:
        return self.query_one("#detail", Pane)

    def show(self) -> None:
        """Draw everything anew: another view, theme or order of the runs."""
        c = self.comparison
        self.query_one("#first", Pane).say(content.first(c).lay)
        self._rows()

    def _rows(self) -> None:
        """Draw the open view anew; it is read first where it was not yet."""
        view = self.view
        if not view.ready:
            self._prepare(view)
        elif self.opened not in self._cursors:
            self._cursors[self.opened] = view.start()
        self.set_class(not len(view.rows), "-nothing")
        self.set_class(not self.at_home, "-other")
        self.query_one("#empty", Bar).say(Text(self._why_empty()))
        self._list.show(len(view.rows), view.row, self._cursors.get(self.opened, 0))
        self._bars()

    def _why_empty(self) -> str:
        if not self.view.ready:
            return f"… reading the {self.view.name}; another view can be opened meanwhile"
        if self.view.filter:
            return f"No row of {self.view.name} contains {visible(self.view.filter, 60)!r}. / changes the filter, an empty one shows all."
        return self.view.empty()

    def _prepare(self, view: View) -> None:
        """Let a thread read what the view shows; it dies with the process, so that leaving never waits for it."""
        if getattr(view, "preparing", False):
            return
        view.preparing = True  # type: ignore[attr-defined]

        app = self.app

        def work() -> None:
            error: BaseException | None = None
            try:
                view.prepare()
            except BaseException as e:  # noqa: BLE001 - shown in a dialog
                error = e
            if app.is_running:
                self.post_message(self.Prepared(view, error))

        threading.Thread(target=work, name=f"reprodebug-{view.name}", daemon=True).start()

    def on_compare_screen_prepared(self, message: Prepared) -> None:
        view = message.view
        if view not in self.views:
            return
        view.ready = True
        if message.error is not None:
            self.app.push_screen(FailureDialog(message.error, what=f"the view of {view.name} could not be made", leave=False))
        else:
            view.build()
        if view is self.view:
            self._rows()
        else:
            self._bars()

    def _bars(self) -> None:
        """The lines that depend on the width."""
        if not self.is_attached:
            return
        width, height = self.size or self.app.size  # before the first layout: what it will be
        self._drawn_for = Size(width, height)
        width -= 2
        self.query_one("#verdict", Bar).say(content.verdict(self.comparison, width, 2 if height < 20 else 4))
        why = content.cause(self.comparison, width, 1 if height < 20 else 2 if height < 30 else 3)
        self.query_one("#cause", Bar).say(why)
        self.query_one("#cause", Bar).set_class(not why, "-none")
        tabs, self._tab_ends = content.tabs(self.views, self.opened, self.everything, width + 2)
        self.query_one("#tabs", Bar).say(tabs)
        self.query_one("#coverage", Bar).say(content.coverage(self.comparison, width, self.view.filter))
        self.query_one("#keys", Bar).say(content.key_line(self.NAME, width))
        columns = self._list.scrollable_content_region.width or width
        self.query_one("#header", Bar).say(self.view.header(columns))

    def on_lines_moved(self, message: Lines.Moved) -> None:
        if len(self.view.rows) and message.lines is self._list:
            self._cursors[self.opened] = message.index
            self._detail.say(self.view.detail(message.index).lay)

    def on_lines_chosen(self, message: Lines.Chosen) -> None:
        if message.lines is self._list and not self._fold(0):
            self.action_details()

    def on_lines_sized(self, message: Lines.Sized) -> None:
        if message.lines is self._list:
            self.query_one("#header", Bar).say(self.view.header(message.width))

    def on_resize(self, event: events.Resize) -> None:
        was_hidden = self.has_class("-too-small")
        self.set_class(self.query_one(TooSmall).measure(event.size.width, event.size.height), "-too-small")
        if was_hidden and not self.has_class("-too-small"):
            self.call_after_refresh(self._list.focus)
        if event.size != self._drawn_for:
            self.call_after_refresh(self._bars)

    # keys

    def on_click(self, event: events.Click) -> None:
        if event.widget is not None and event.widget.id == "tabs":
            hit = next((n for n, end in enumerate(self._tab_ends) if event.x < end), None)
            if hit is not None and hit != self.opened:
                self.action_view(hit)

    def _pane(self) -> Lines | Pane:
        return self.focused if isinstance(self.focused, (Lines, Pane)) else self._list

    def action_move(self, rows: int) -> None:
        pane = self._pane()
        if isinstance(pane, Lines) and not len(self.view.rows):
            self.tell("there is no row to go to")
        else:
            pane.move(rows)

    def action_page(self, sign: int) -> None:
        self.action_move(sign * max(1, self._pane().size.height - 1))

    def action_ends(self, sign: int) -> None:
        self.action_move(sign * 10**9)

    def action_cycle(self, sign: int) -> None:
        (self.focus_next if sign > 0 else self.focus_previous)()

    def action_side(self, sign: int) -> None:
        on_list = self.focused is self._list
        if sign < 0 and on_list and not len(self.view.rows):
            self.tell("there is no list here")
        elif sign < 0 and not on_list:
            self._list.focus()
        elif on_list and self._fold(sign):
            return
        elif sign < 0:
            self.tell("this row has nothing to fold, and nothing above it")
        elif self._detail.display and len(self.view.rows):
            self._detail.focus()
        else:
            self.action_details()

    def _fold(self, way: int) -> bool:
        at = self.view.toggle(self._list.cursor, way) if len(self.view.rows) else None
        if at is None:
            return False
        self._cursors[self.opened] = at
        self._rows()
        return True

    def action_fold(self) -> None:
        if not self._fold(0):
            self.tell("this row has nothing to fold; Enter opens it")

    def action_view(self, number: int) -> None:
        if number == self.opened:
            self.tell(f"the view of {self.view.name} is open already")
            return
        self.opened = number
        self._rows()
        self._list.focus()

    def action_everything(self) -> None:
        self.everything = not self.everything
        for n, view in enumerate(self.views):
            at = self._cursors.get(n)
            row = view.rows[at] if at is not None and at < len(view.rows) else None
            view.everything = self.everything
            if view.ready:
                view.build()
                if row is not None:
                    self._cursors[n] = view.find(row)
        self._rows()
        hidden = plural(len(words.by_severity(self.comparison.differences)[1]), "harmless difference")
        self.tell(f"everything is shown, {hidden} too" if self.everything else f"differences only; {hidden} hidden")

    def action_swap(self) -> None:
        from reprodebug.tui.exchange import exchanged

        if self._turning:
            self.tell("A and B are being swapped already")
        elif self._other is None and self._turn is not None:
            self._turning = True
            self.tell("swapping A and B: what is said of each is worked out anew")
            turn, app = self._turn, self.app

            def work() -> None:
                try:
                    message = self.Turned(turn(), None)
                except BaseException as e:  # noqa: BLE001 - shown in a dialog
                    message = self.Turned(None, e)
                if app.is_running:
                    self.post_message(message)

            threading.Thread(target=work, name="reprodebug-swap", daemon=True).start()
        else:
            self._swap(self._other or exchanged(self.comparison))

    def on_compare_screen_turned(self, message: Turned) -> None:
        self._turning = False
        if message.comparison is None:
            assert message.error is not None
            self.app.push_screen(FailureDialog(message.error, what="A and B could not be swapped", leave=False))
        else:
            from reprodebug.tui.exchange import exchanged, retold

            self._swap(retold(exchanged(self.comparison), message.comparison))

    def _swap(self, other: Comparison) -> None:
        self._other, self.comparison = self.comparison, other
        self.evidence = self.evidence.exchanged() if self.evidence is not None else None
        self.swapped = not self.swapped
        filters = [v.filter for v in self.views]
        self._make_views()
        for view, text in zip(self.views, filters, strict=True):
            view.filter = text
            if view.ready:
                view.build()
        self.show()
        note = "; the verdict is that of the original order" if self.comparison.tolerance.rtol else ""
        self.tell(f"A is now {self.comparison.a.path}{note}")

    def action_first(self) -> None:
        if self.comparison.first is None:
            self.tell("there is no divergence to go to")
            return
        if self.view.name not in ("layers", "steps", "records", "random state", "data"):
            self.opened = 0
        if not self.view.ready:
            self._rows()
            return
        self._cursors[self.opened] = self.view.start()
        self._rows()
        self._list.focus()

    def action_divergence(self, sign: int) -> None:
        found = self.view.next(self._list.cursor, sign) if len(self.view.rows) else None
        if found is None:
            self.tell(f"there is no {'further' if sign > 0 else 'earlier'} divergence in this view")
            return
        self._cursors[self.opened] = found
        if self._list.count != len(self.view.rows) or self.view.name == "layers":  # it may have unfolded a branch
            self._rows()
        self._list.cursor = found
        self._list.focus()

    def action_details(self) -> None:
        if not len(self.view.rows):
            self.tell("there is no row whose details could be shown")
            return
        from reprodebug.tui.screens.reading import ReadingScreen

        page = self.view.detail(self._list.cursor)
        self.app.push_screen(ReadingScreen("The selected row", lambda width: list(page.lay(width).split())))

    def action_filter(self) -> None:
        box = self.query_one(Filter)
        box.add_class("-open")
        box.value = self.view.filter
        box.focus()

    def action_filter_away(self) -> None:
        self._filter("")
        self.query_one(Filter).remove_class("-open")
        self._list.focus()

    def on_input_changed(self, message: Input.Changed) -> None:
        if self.query_one(Filter).has_class("-open"):
            self._filter(message.value)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        self.query_one(Filter).remove_class("-open")
        self._list.focus()

    def _filter(self, text: str) -> None:
        view = self.view
        if text == view.filter:
            return
        row = view.rows[self._list.cursor] if len(view.rows) else None
        view.filter = text
        if view.ready:
            view.build()
            find = view.find if text else view.reveal  # a row found by the filter stays in sight without it
            self._cursors[self.opened] = find(row) if row is not None else view.start()
        self._rows()

    def action_walk(self) -> None:
        from reprodebug.tui.screens.walk import WalkScreen

        self.app.push_screen(WalkScreen(self.comparison), self._walked)

    def _walked(self, result: str | None) -> None:
        """Back from the walk, perhaps with a view to open."""
        if result == "bisect":
            self.action_bisect()
        elif result:
            self.opened = next(n for n, v in enumerate(self.views) if v.name == result)
            self._rows()
            self._list.focus()

    def action_help(self) -> None:
        from reprodebug.tui.screens.help import HelpScreen

        focus = (
            "the list"
            if self.focused is self._list
            else "the details of the row"
            if self.focused is self._detail
            else "the first divergence"
        )
        about = f"The focus is on {focus} of the view {self.view.name}: {self.view.question}."
        self.app.push_screen(HelpScreen(self.NAME, about))

    def action_leave(self) -> None:
        if self.has_class("-too-small"):
            self.app.action_leave()  # type: ignore[attr-defined]
            return
        if self.focused is not None and self.focused is not self._list:
            self._list.focus()
            return
        if self.view.filter:
            self._filter("")
            self.tell("the filter is gone, all rows are shown")
            return
        self.app.action_leave()  # type: ignore[attr-defined]

    def theme_changed(self) -> None:
        """The colours are others now."""
        self.show()
