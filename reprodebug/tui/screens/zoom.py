"""Zooming from the screen: asks, runs ``reprodebug zoom`` as a process of its own, shows what it found.

A process can be ended, and with it everything that it started, whatever it is doing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.message import Message
from textual.screen import Screen

from reprodebug._base.text import visible
from reprodebug.model.comparison import Comparison
from reprodebug.report import words
from reprodebug.tui import actions, content
from reprodebug.tui.page import wrap
from reprodebug.tui.palette import style
from reprodebug.tui.screens.base import Keyed
from reprodebug.tui.screens.help import HelpScreen
from reprodebug.tui.widgets.lines import Lines
from reprodebug.tui.widgets.panes import Bar

_NOW = {
    "asking": {"start": "start", "exchange": "with exchange", "copy_command": "copy command"},
    "running": {"cancel": "cancel"},
    "ended": {"exchange": "necessary, sufficient?", "copy_row": "copy", "copy_command": "copy command"},
    "cancelled": {"start": "start again", "exchange": "with exchange"},
}
"""what can be done in each state"""
_ENDED = {0: ("the first differing operation", "bold"), 1: ("no operation was found; why stands below", "warn")}
_FAILED = "zoom could not be run; why stands below", "bad"
"""what the exit code of the process means"""


class ZoomScreen(Keyed, Screen[None]):
    """``asking``, ``running``, ``ended``, ``cancelled``."""

    NAME: ClassVar[str] = "zoom"
    BINDINGS: ClassVar = actions.bindings("zoom")
    DEFAULT_CSS = """
    ZoomScreen { layout: vertical; overflow: hidden; }
    ZoomScreen #state, ZoomScreen #keys { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    ZoomScreen Lines { margin: 0 1; }
    """

    class Said(Message):
        """The process wrote a line of progress, or ended with ``code``."""

        def __init__(self, line: str, code: int | None = None) -> None:
            super().__init__()
            self.line = line
            self.code = code

    def __init__(self, comparison: Comparison) -> None:
        super().__init__()
        self.paths = tuple(os.path.abspath(side.path) for side in (comparison.a, comparison.b))
        self._command = self.command = f"reprodebug zoom {words.paths(comparison)}"
        self._options: tuple[str, ...] = ()
        self.state = "asking"
        self.code = 0
        self._commands = [" ".join(side.command) for side in (comparison.a, comparison.b)]
        self._process: subprocess.Popen[str] | None = None
        self._since = 0.0
        self._progress: list[str] = []
        self.text = ""

    def compose(self) -> ComposeResult:
        yield Bar(id="state")
        yield Lines(cursor_shown=False)
        yield Bar(id="keys")

    def on_mount(self) -> None:
        self.query_one(Lines).focus()
        self.set_interval(0.5, self._tick)
        self.show()

    def show(self) -> None:
        """Draw everything."""
        words_, role = {
            "asking": ("? nothing has been run yet: Enter starts it", "warn"),
            "running": (f"… zooming, {time.monotonic() - self._since:.0f} s", "hint"),
            "ended": _ENDED.get(self.code, _FAILED), "cancelled": ("■ cancelled", "warn"),
        }[self.state]  # fmt: skip
        self.query_one("#state", Bar).say(Text(words_, style("bold", role)))
        rows = self._rows(max(20, self.size.width - 4))
        self.query_one(Lines).show(len(rows), lambda index, width, selected: rows[index].copy())
        now = {k: v for k, v in _NOW[self.state].items() if k != "exchange" or self._may_exchange()}
        self.query_one("#keys", Bar).say(content.key_line(self.NAME, self.size.width - 2, now))

    def _rows(self, width: int) -> list[Text]:
        if self.state == "asking":
            about = (
                "This runs both recorded programs again, up to their first divergence, in copies of their directories, with every operation "
                "written down just there; each is ended right after it. Your files are not touched."
            )
            rows = [Text(x) for x in wrap(about, width)]
            rows += [Text(), *(Text(f"{n}: {visible(c, 300)}", "dim") for n, c in zip("AB", self._commands, strict=True))]
            rows += [Text(), Text("Enter starts it.", style("bold", "hint"))]
            rows += [
                Text(x)
                for x in wrap(
                    "x starts it and then also puts what A had at that place into B, and the reverse: necessary, sufficient?", width
                )
            ]
            return [*rows, Text(f"without this screen: {self.command}", "dim")]
        if self.text:
            return [
                Text(piece)
                for line in self.text.splitlines()
                for piece in (wrap(line, width) if len(line) > width else [visible(line, None)])
            ]
        return [Text(visible(line, 300), "dim") for line in self._progress] or [Text("…", "dim")]

    def _tick(self) -> None:
        if self.state == "running":
            self.query_one("#state", Bar).say(Text(f"… zooming, {time.monotonic() - self._since:.0f} s", style("bold", "hint")))

    def on_resize(self) -> None:
        self.call_after_refresh(self.show)

    def action_start(self) -> None:
        if self.state == "running":
            self.tell("it runs already; c cancels it")
            return
        if self.state == "ended":
            self.tell("it has ended; q goes back")
            return
        self._start()

    def _may_exchange(self) -> bool:
        """An answer without it may still be asked for it, where there is an operation."""
        return self.state in ("asking", "cancelled") or (self.state == "ended" and self.code == 0 and not self._options)

    def action_exchange(self) -> None:
        if not self._may_exchange():
            self.tell(
                "it runs already; c cancels it" if self.state == "running"
                else "it was exchanged already" if self.code == 0 else "no operation was found at which something could be exchanged"
            )  # fmt: skip
            return
        self._start("--counterfactual")

    def _start(self, *options: str) -> None:
        self.state, self._since, self.text, self._progress = "running", time.monotonic(), "", []
        self._options, self.command = options, " ".join([self._command, *options])
        width = min(self.size.width - 4, 120)
        answer = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the thread; a pipe would fill up while stderr is read
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "reprodebug", "zoom", *self.paths, *options], stdin=subprocess.DEVNULL, stdout=answer,
            stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="backslashreplace", start_new_session=True,
            env={**os.environ, "COLUMNS": str(width), "TERM": "dumb"},
        )  # fmt: skip
        app = self.app

        def read() -> None:
            assert process.stderr is not None
            with process, answer:
                for line in process.stderr:
                    if app.is_running:
                        self.post_message(self.Said(line.rstrip()))
                code = process.wait()
                answer.seek(0)
                text = answer.read().decode("utf-8", "backslashreplace")
            if app.is_running:
                self.post_message(self.Said(text, code))

        thread = threading.Thread(target=read, name="reprodebug-zoom")
        app.wait_for(thread, self._end)  # type: ignore[attr-defined]
        thread.start()
        self.show()

    def on_zoom_screen_said(self, message: Said) -> None:
        if message.code is None:
            self._progress.append(message.line)
        elif self.state == "running":
            self.state, self.code = "ended", message.code
            self.text = message.line or "\n".join(self._progress)
        self.show()

    def _end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def action_cancel(self) -> None:
        if self.state != "running":
            self.tell("nothing runs that could be cancelled")
            return
        self._end()
        self.state = "cancelled"
        self.show()

    def action_move(self, rows: int) -> None:
        self.query_one(Lines).move(rows)

    def action_page(self, sign: int) -> None:
        self.action_move(sign * max(1, self.query_one(Lines).size.height - 1))

    def action_ends(self, sign: int) -> None:
        self.action_move(sign * 10**9)

    def action_copy_row(self) -> None:
        if not self.text:
            self.tell("there is nothing to copy yet")
            return
        self.app.copy_to_clipboard(self.text)
        self.tell("the answer was handed to the terminal's clipboard")

    def action_copy_command(self) -> None:
        self.app.copy_to_clipboard(self.command)
        self.tell(f"copied: {self.command}")

    def action_help(self) -> None:
        self.app.push_screen(HelpScreen(self.NAME, f"Zooming to the first differing operation: {self.state}."))

    def action_leave(self) -> None:
        if self.state == "running":
            self.tell("it runs; c cancels it")
            return
        self.app.pop_screen()

    def theme_changed(self) -> None:
        """The colours are others now."""
        self.show()
