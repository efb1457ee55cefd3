"""The compare screen: verdict, first divergence, and the lists of layers and of differences around them.

Owns which view is open, what is hidden and which way round A and B stand. Refuses to compare: it shows one Comparison.
"""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.screen import Screen

from reprodebug._base.text import plural, visible
from reprodebug.model.comparison import Comparison, Difference, LayerDifference
from reprodebug.report import text as report_text
from reprodebug.report import words
from reprodebug.tui import actions, content
from reprodebug.tui.exchange import exchanged
from reprodebug.tui.export import export
from reprodebug.tui.screens.help import HelpScreen
from reprodebug.tui.screens.reading import ReadingScreen
from reprodebug.tui.screens.states import TooSmall
from reprodebug.tui.widgets.lines import Lines
from reprodebug.tui.widgets.panes import Bar, Pane


class CompareScreen(Screen[None]):
    """Opens on the answer, the cursor on the first difference."""

    BINDINGS: ClassVar = actions.bindings()
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - an instance variable of the base class
        (0, "-narrow"),
        (100, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-short"),
        (20, "-normal"),
        (30, "-tall"),
    ]
    DEFAULT_CSS = """
    CompareScreen { layout: vertical; overflow: hidden; }
    CompareScreen #verdict { height: auto; max-height: 4; padding: 0 1; }
    CompareScreen #first { max-height: 7; border-left: outer $surface-lighten-2; padding: 0 1; }
    CompareScreen #first:focus, CompareScreen #detail:focus { border-left: outer $accent; }
    CompareScreen #tabs { height: 1; margin: 0 0 0 0; }
    CompareScreen #header { height: 1; }
    CompareScreen #body { height: 1fr; layout: vertical; }
    CompareScreen #left { height: 1fr; }
    CompareScreen #detail { height: 6; max-height: 6; border-left: outer $surface-lighten-2; padding: 0 1; }
    CompareScreen #coverage, CompareScreen #keys { height: 1; padding: 0 1; }
    CompareScreen #tabs, CompareScreen #header { text-wrap: nowrap; text-overflow: ellipsis; }
    CompareScreen #coverage, CompareScreen #keys { text-wrap: nowrap; text-overflow: ellipsis; }
    CompareScreen #empty { height: 1fr; padding: 1 2; display: none; }
    CompareScreen.-nothing #empty { display: block; }
    CompareScreen.-nothing #list, CompareScreen.-nothing #header, CompareScreen.-nothing #detail { display: none; }
    CompareScreen.-tall #first { max-height: 11; }
    CompareScreen.-wide #body { layout: horizontal; }
    CompareScreen.-wide #detail { width: 44; height: 1fr; max-height: 100%; }
    CompareScreen.-wide #left { width: 1fr; }
    CompareScreen.-short #verdict { max-height: 2; }
    CompareScreen.-short #first { max-height: 4; }
    CompareScreen.-short #detail { display: none; }
    CompareScreen.-too-small > * { display: none; }
    CompareScreen.-too-small > TooSmall { display: block; }
    """

    def __init__(self, comparison: Comparison) -> None:
        super().__init__()
        self.comparison = comparison
        self.swapped = False
        self.harmless = False
        self.view = "layers" if comparison.layers or not comparison.differences else "environment"
        self._columns = content.LayerColumns(comparison.layers)
        self._differences: list[Difference] = []
        self._cursors = {"layers": 0, "environment": 0}

    def compose(self) -> ComposeResult:
        yield Bar(id="verdict")
        yield Pane(id="first")
        yield Bar(id="tabs")
        with Container(id="body"):
            with Vertical(id="left"):
                yield Bar(id="header")
                yield Lines(id="list")
                yield Bar(id="empty")
            yield Pane(id="detail")
        yield Bar(id="coverage")
        yield Bar(id="keys")
        yield TooSmall()

    def on_mount(self) -> None:
        self._show()
        self._list.focus()

    # what is shown

    @property
    def _list(self) -> Lines:
        return self.query_one("#list", Lines)

    @property
    def _detail(self) -> Pane:
        return self.query_one("#detail", Pane)

    @property
    def rows(self) -> tuple[LayerDifference, ...] | list[Difference]:
        """The rows of the open view."""
        return self.comparison.layers if self.view == "layers" else self._differences

    def _show(self) -> None:
        c = self.comparison
        self._differences = content.sorted_differences(c, self.harmless)
        self.query_one("#verdict", Bar).say(content.verdict(c))
        self.query_one("#first", Pane).say(content.first(c).lay)
        self.query_one("#empty", Bar).say(Text(self._why_empty()))
        self.set_class(not self.rows, "-nothing")
        self._list.show(len(self.rows), self._row, self._cursors[self.view])
        self._bars()

    def _bars(self) -> None:
        """The lines that depend on the width."""
        width = self.size.width - 2
        self.query_one("#tabs", Bar).say(content.tabs(self.comparison, self.view, self.harmless))
        self.query_one("#coverage", Bar).say(content.coverage(self.comparison, width))
        self.query_one("#keys", Bar).say(content.key_line(width))
        columns = self._list.scrollable_content_region.width or width
        header = self._columns.header(columns) if self.view == "layers" else content.difference_header(columns)
        self.query_one("#header", Bar).say(header)

    def _why_empty(self) -> str:
        if self.view == "layers":
            return content.no_layers(self.comparison)
        return content.no_differences(self.comparison, len(self.comparison.differences))

    def _row(self, index: int, width: int, selected: bool) -> Text:
        if self.view == "layers":
            return self._columns.row(self.comparison.layers[index], width, selected)
        above = self._differences[index - 1] if index else None
        return content.difference_row(self._differences[index], above, width, selected)

    def _detail_page(self) -> content.Page:
        row = self.rows[self._list.cursor]
        if isinstance(row, LayerDifference):
            return content.layer_detail(row, self.comparison)
        return content.difference_detail(row)

    def on_lines_moved(self, message: Lines.Moved) -> None:
        if self.rows and message.lines is self._list:
            self._cursors[self.view] = message.index
            self._detail.say(self._detail_page().lay)

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(self.query_one(TooSmall).measure(event.size.width, event.size.height), "-too-small")
        self.call_after_refresh(self._bars)

    # keys

    def _tell(self, text: str, severity: str = "information") -> None:
        self.notify(visible(text, 400), severity=severity, timeout=4, markup=False)  # type: ignore[arg-type]

    def on_key(self, event: events.Key) -> None:
        if event.key not in actions.KEYS and event.is_printable:
            self._tell(f"{event.character} does nothing here; ? lists the keys")

    def _pane(self) -> Lines | Pane:
        return self.focused if isinstance(self.focused, (Lines, Pane)) else self._list

    def action_move(self, rows: int) -> None:
        pane = self._pane()
        if isinstance(pane, Lines) and not self.rows:
            self._tell("there is no row to go to")
        else:
            pane.move(rows)

    def action_page(self, sign: int) -> None:
        self.action_move(sign * max(1, self._pane().size.height - 1))

    def action_ends(self, sign: int) -> None:
        self.action_move(sign * 10**9)

    def action_cycle(self, sign: int) -> None:
        (self.focus_next if sign > 0 else self.focus_previous)()

    def action_side(self, sign: int) -> None:
        if sign < 0 and not self._list.display:
            self._tell("there is no list here")
        elif sign < 0:
            self._list.focus()
        elif self._detail.display and self.rows:
            self._detail.focus()
        else:
            self.action_details()

    def action_view(self, name: str) -> None:
        if name == self.view:
            self._tell(f"the {name} are open already" if name == "layers" else f"the {name} is open already")
            return
        self.view = name
        self._show()
        self._list.focus()

    def action_harmless(self) -> None:
        hidden = len(words.by_severity(self.comparison.differences)[1])
        if not hidden:
            self._tell("there is no harmless difference to show")
            return
        self.harmless = not self.harmless
        self._cursors["environment"] = 0
        if self.view == "layers":
            self.view = "environment"
        self._show()
        self._tell(f"{plural(hidden, 'harmless difference')} {'shown' if self.harmless else 'hidden'}")

    def action_swap(self) -> None:
        self.comparison = exchanged(self.comparison)
        self.swapped = not self.swapped
        self._show()
        note = "; the verdict is that of the original order" if self.comparison.tolerance.rtol else ""
        self._tell(f"A is now {self.comparison.a.path}{note}")

    def action_first(self) -> None:
        if not self.comparison.layers:
            self._tell("there is no divergence to go to" if self.comparison.first is None else "it is described above")
            return
        self.view = "layers"
        self._cursors["layers"] = 0
        self._show()
        self._list.focus()

    def action_divergence(self, sign: int) -> None:
        def group(row: LayerDifference | Difference) -> tuple[object, ...]:
            return (row.first.module, row.first.rank) if isinstance(row, LayerDifference) else (row.section,)

        rows, at = self.rows, self._list.cursor
        here = group(rows[at]) if rows else ()
        found = next((n for n in range(at + sign, len(rows) if sign > 0 else -1, sign) if group(rows[n]) != here), None)
        if found is None:
            what = "module that differs" if self.view == "layers" else "section"
            self._tell(f"there is no {'further' if sign > 0 else 'earlier'} {what}")
            return
        self._list.cursor = found
        self._list.focus()

    def action_details(self) -> None:
        if not self.rows:
            self._tell("there is no row whose details could be shown")
            return
        page = self._detail_page()
        self.app.push_screen(ReadingScreen("The selected row", lambda width: list(page.lay(width).split())))

    def action_report(self) -> None:
        c = self.comparison

        def lines(width: int) -> list[Text]:
            page = report_text.render(c, width=width, verbose=len(c.layers) <= 2000)
            return [Text(visible(line, None), no_wrap=True) for line in page.splitlines()]

        self.app.push_screen(ReadingScreen("The whole report", lines))

    def action_copy_row(self) -> None:
        if not self.rows:
            self._tell("there is no row to copy")
            return
        self.app.copy_to_clipboard(self._detail_page().plain())
        self._tell("the row was handed to the terminal's clipboard; where that does not work, e writes the report to a file")

    def action_copy_command(self) -> None:
        command = words.command(self.comparison, "--headless")
        self.app.copy_to_clipboard(command)
        self._tell(f"copied: {command}")

    def action_export(self) -> None:
        try:
            paths = export(self.comparison)
        except OSError as error:
            self._tell(f"the report could not be written: {error}", "error")
            return
        self._tell(f"written: {' and '.join(paths)}")

    def action_help(self) -> None:
        self.app.push_screen(HelpScreen())

    def action_leave(self) -> None:
        self.app.action_leave()  # type: ignore[attr-defined]
