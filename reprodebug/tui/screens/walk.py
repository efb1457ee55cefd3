"""The guided walk on the screen: one question a page, back and forward."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.screen import Screen

from reprodebug._base.text import visible
from reprodebug.model.comparison import Comparison
from reprodebug.report import words
from reprodebug.tui import actions, content
from reprodebug.tui.palette import style
from reprodebug.tui.screens.base import Keyed
from reprodebug.tui.screens.help import HelpScreen
from reprodebug.tui.screens.states import TooSmall
from reprodebug.tui.walk import Question, questions
from reprodebug.tui.widgets.panes import Bar, Pane


class WalkScreen(Keyed, Screen[str | None]):
    """Returns the name of the view to open, ``bisect``, or None."""

    NAME: ClassVar[str] = "walk"
    BINDINGS: ClassVar = actions.bindings("walk")
    DEFAULT_CSS = """
    WalkScreen { layout: vertical; overflow: hidden; }
    WalkScreen #way { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; background: $surface; }
    WalkScreen #question { height: auto; padding: 1 1 0 1; }
    WalkScreen #answer { height: auto; max-height: 5; padding: 0 1 1 1; }
    WalkScreen #evidence { height: 1fr; border-left: outer $panel; padding: 0 1; margin: 0 0 0 1; }
    WalkScreen #next { height: auto; max-height: 6; padding: 1 1 0 1; }
    WalkScreen #keys { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    WalkScreen.-short #question, WalkScreen.-short #next { padding: 0 1; }
    WalkScreen.-short #answer { padding: 0 1; max-height: 3; }
    WalkScreen.-too-small > * { display: none; }
    WalkScreen.-too-small > TooSmall { display: block; }
    """
    VERTICAL_BREAKPOINTS = [(0, "-short"), (20, "-normal")]  # noqa: RUF012

    def __init__(self, comparison: Comparison) -> None:
        super().__init__()
        self.questions = questions(comparison)
        self.bisects = words.can_run_again(comparison)
        self.at = 0

    def compose(self) -> ComposeResult:
        yield Bar(id="way")
        yield Bar(id="question")
        yield Bar(id="answer")
        yield Pane(id="evidence")
        yield Bar(id="next")
        yield Bar(id="keys")
        yield TooSmall()

    def on_mount(self) -> None:
        self.show()
        self.query_one("#evidence", Pane).focus()

    @property
    def page(self) -> Question:
        return self.questions[self.at]

    def show(self) -> None:
        """Draw the page."""
        q = self.page
        way = Text(no_wrap=True)
        for n in range(len(self.questions)):
            way.append("● " if n == self.at else "○ ", style("hint", "bold") if n == self.at else "dim")
        way.append(f" question {self.at + 1} of {len(self.questions)}", "dim")
        self.query_one("#way", Bar).say(way)
        self.query_one("#question", Bar).say(Text(q.question, "bold"))
        self.query_one("#answer", Bar).say(Text(visible(q.answer, 600), style(q.role)))
        self.query_one("#evidence", Pane).say(q.evidence.lay)
        self.query_one("#next", Bar).say(Text.assemble(("next: ", "dim"), q.action, ("\nheadless: ", "dim"), (q.command, style("hint"))))
        self._keys()

    def _keys(self) -> None:
        now = {"turn(1)": "next question", "turn(-1)": "back", "view": "view", "copy_row": "copy", "copy_command": "copy command"}
        if self.at == len(self.questions) - 1:
            del now["turn(1)"]
            now = {"bisect": "bisect"} | now if self.bisects else now
        elif not self.at:
            del now["turn(-1)"]
        self.query_one("#keys", Bar).say(content.key_line(self.NAME, self.size.width - 2, now))

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(self.query_one(TooSmall).measure(event.size.width, event.size.height), "-too-small")
        self.call_after_refresh(self._keys)

    def action_turn(self, sign: int) -> None:
        if not 0 <= self.at + sign < len(self.questions):
            last = "this is the last question; " + ("b proves the cause, " if self.bisects else "") + "q goes back"
            self.tell(last if sign > 0 else "this is the first question")
            return
        self.at += sign
        self.show()

    def action_move(self, rows: int) -> None:
        self.query_one("#evidence", Pane).move(rows)

    def action_page(self, sign: int) -> None:
        self.action_move(sign * max(1, self.query_one("#evidence", Pane).size.height - 1))

    def action_ends(self, sign: int) -> None:
        self.action_move(sign * 10**9)

    def action_view(self) -> None:
        self.dismiss(self.page.view)

    def action_bisect(self) -> None:
        self.dismiss("bisect")

    def action_copy_row(self) -> None:
        q = self.page
        self.app.copy_to_clipboard("\n".join((q.question, visible(q.answer, None), q.evidence.plain(), f"next: {q.action}", q.command)))
        self.tell("the page was handed to the terminal's clipboard")

    def action_copy_command(self) -> None:
        self.app.copy_to_clipboard(self.page.command)
        self.tell(f"copied: {self.page.command}")

    def action_help(self) -> None:
        self.app.push_screen(HelpScreen(self.NAME, f"The guided walk, at the question: {self.page.question}"))

    def action_leave(self) -> None:
        self.dismiss(None)

    def theme_changed(self) -> None:
        """The colours are others now."""
        self.show()
