"""The bisect screen: a search while it runs, and its proof at the end.

Owns the wording of events and the thread of the search. Refuses to search: ``api.bisect`` does, and is told to pause or to end.
"""

from __future__ import annotations

import threading
import time
from itertools import zip_longest
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.message import Message
from textual.screen import Screen

from reprodebug._base.errors import ReprodebugError
from reprodebug._base.text import plural, visible
from reprodebug.bisect.control import Cancelled, Control
from reprodebug.model import progress
from reprodebug.model.experiment import Bisection, Trial
from reprodebug.report import bisection, words
from reprodebug.tui import actions, content
from reprodebug.tui.export import write
from reprodebug.tui.page import Page, fit
from reprodebug.tui.palette import style
from reprodebug.tui.screens.base import Keyed
from reprodebug.tui.screens.help import HelpScreen
from reprodebug.tui.screens.job import NOW, STATES, Job, named, tail
from reprodebug.tui.screens.reading import ReadingScreen
from reprodebug.tui.screens.states import FailureDialog, TooSmall
from reprodebug.tui.views.base import CURSOR
from reprodebug.tui.widgets.lines import Lines
from reprodebug.tui.widgets.panes import Bar, Pane

_VERDICTS = {
    "same-as-a": ("=", "good", "same as A"), "same-as-b": ("✗", "bad", "same as B"), "other": ("≠", "warn", "another result"),
    "untestable": ("?", "dim", "untestable"),
}  # fmt: skip
_OUTCOMES = {"found": "good", "not-found": "warn", "ends-do-not-reproduce": "warn", "inconclusive": "warn"}


class BisectScreen(Keyed, Screen[None]):
    """Asks before it runs anything where ``confirm`` is set; then shows the search live."""

    NAME: ClassVar[str] = "bisect"
    BINDINGS: ClassVar = actions.bindings("bisect")
    VERTICAL_BREAKPOINTS = [(0, "-short"), (20, "-normal"), (30, "-tall")]  # noqa: RUF012
    DEFAULT_CSS = """
    BisectScreen { layout: vertical; overflow: hidden; }
    BisectScreen #state, BisectScreen #eta { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    BisectScreen #candidates { height: auto; max-height: 4; padding: 0 1; background: $surface; }
    BisectScreen #answer { height: auto; max-height: 50%; border-left: outer $accent; padding: 0 1; display: none; }
    BisectScreen.-ended #answer { display: block; }
    BisectScreen.-ended #candidates, BisectScreen.-ended #eta { display: none; }
    BisectScreen #header { height: 1; }
    BisectScreen #trials { height: 1fr; min-height: 3; }
    BisectScreen #which { height: 1; padding: 0 1; background: $surface; text-wrap: nowrap; text-overflow: ellipsis; }
    BisectScreen #tail { height: 8; border-left: outer $panel; padding: 0 1; }
    BisectScreen.-tall #tail { height: 14; }
    BisectScreen.-short #tail { height: 3; }
    BisectScreen.-short #candidates { max-height: 2; }
    BisectScreen.-asking #candidates { max-height: 8; }
    BisectScreen.-asking #header { display: none; }
    BisectScreen.-asking #trials { height: 0; min-height: 0; } /* not hidden: it keeps the focus */
    BisectScreen.-asking #tail { height: 1fr; }
    BisectScreen #keys { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    BisectScreen.-too-small > * { display: none; }
    BisectScreen.-too-small > TooSmall { display: block; }
    """

    class Told(Message):
        """Something happened in the search."""

        def __init__(self, event: progress.Event) -> None:
            super().__init__()
            self.event = event

    class Ended(Message):
        """The search's thread is done. ``error`` is what it raised."""

        def __init__(self, error: BaseException | None) -> None:
            super().__init__()
            self.error = error

    def __init__(self, job: Job, *, confirm: bool) -> None:
        super().__init__()
        self.job = job
        self.state = "asking" if confirm else "starting"
        """asking, starting, running, pausing, paused, cancelling, cancelled, failed, ended"""
        self.result: Bisection | None = None
        self.trials: list[Trial] = []
        self.running: dict[int, progress.TrialStarted] = {}
        self._logs: dict[int, str] = {}
        self._phase: progress.Phase | None = None
        self._left: progress.Left | None = None
        self._note = ""
        self._eta: tuple[int | None, float | None, float] = (None, None, 0.0)
        self._since = time.monotonic()
        self._control = Control()
        self._tail_of = ""
        self.failure = ""
        """for stderr, where the search could not be made"""

    def compose(self) -> ComposeResult:
        yield Bar(id="state")
        yield Bar(id="candidates")
        yield Bar(id="eta")
        yield Pane(id="answer")
        yield Bar(id="header")
        yield Lines(id="trials")
        yield Bar(id="which")
        yield Pane(id="tail")
        yield Bar(id="keys")
        yield TooSmall()

    def on_mount(self) -> None:
        self._trials.focus()
        self.set_interval(0.5, self._tick)
        if self.state == "starting":
            self._start(self.job.resume)
        self.show()

    # the search

    def _start(self, resume: bool) -> None:
        self._control = control = Control()
        self.state, self._since, self._note = "running", time.monotonic(), ""
        if resume:
            self.trials, self._logs = [], {}
        self.running = {}
        self.remove_class("-ended")

        app = self.app

        def listen(event: progress.Event) -> None:
            if app.is_running:
                self.post_message(self.Told(event))

        def run() -> None:
            error: BaseException | None = None
            try:
                self.job.search(resume, listen, control)
            except BaseException as e:  # noqa: BLE001 - shown on the screen
                error = e
            if app.is_running:
                self.post_message(self.Ended(error))

        thread = threading.Thread(target=run, name="reprodebug-bisect")
        app.wait_for(thread, control.cancel)  # type: ignore[attr-defined]
        thread.start()

    def on_bisect_screen_told(self, message: Told) -> None:
        e = message.event
        if isinstance(e, progress.Phase):
            self._phase = e
        elif isinstance(e, progress.Left):
            self._left = e
        elif isinstance(e, progress.TrialStarted):
            self.running[e.number] = e
            self._logs[e.number] = e.log
            self._eta = (e.steps_left, e.eta_s, time.monotonic())
            self._note = ""
        elif isinstance(e, progress.TrialEnded):
            at_end = self._trials.cursor >= self._trials.count - 1
            self.running.pop(e.trial.number, None)
            self.trials.append(e.trial)
            self._logs[e.trial.number] = e.log
            self._trials.show(len(self.trials), self._row, len(self.trials) - 1 if at_end else self._trials.cursor)
        elif isinstance(e, progress.Note):
            self._note = e.text
        elif isinstance(e, progress.Paused):
            self.state = "paused"
        elif isinstance(e, progress.Resumed):
            self.state = "running"
        elif isinstance(e, progress.Finished):
            self.result = e.result
            self.app.bisected(e.result)  # type: ignore[attr-defined]
        self.show()

    def on_bisect_screen_ended(self, message: Ended) -> None:
        error = message.error
        self.running = {}
        if error is None:
            self.state = "ended"
        elif isinstance(error, Cancelled):
            self.state = "cancelled"
        elif isinstance(error, ReprodebugError):
            self.state = "failed"
            self._note = error.message + (f" (hint: {error.hint})" if error.hint else "")
            self.failure = f"reprodebug: {visible(error.message, 400)}" + (f"\n  hint: {visible(error.hint, 400)}" if error.hint else "")
        else:
            self.state = "failed"
            self._note = f"{type(error).__name__}: {error}"
            self.failure = f"reprodebug: the search failed unexpectedly: {type(error).__name__}: {visible(error, 400)}"
            self.app.push_screen(FailureDialog(error, what="the search failed unexpectedly", leave=False))
        self.set_class(self.state == "ended", "-ended")
        if self.result is not None and self.state == "ended":
            self.query_one("#answer", Pane).say(self._answer().lay)
            self.query_one("#answer", Pane).focus()
        self.show()

    # what is shown

    @property
    def _trials(self) -> Lines:
        return self.query_one("#trials", Lines)

    def show(self) -> None:
        """Draw everything but the rows of the trials, which their list draws."""
        if not self.is_mounted:
            return
        width = self.size.width - 2
        self.query_one("#state", Bar).say(self._state_line())
        self.query_one("#candidates", Bar).say(self._candidates(width))
        self.query_one("#eta", Bar).say(self._eta_line())
        header = f"  {'':>4}  {fit('verdict', 16)}{fit('seconds', 9)}{fit('stopped', 11)}candidate"
        self.query_one("#header", Bar).say(Text(header, "dim", no_wrap=True))
        self.query_one("#keys", Bar).say(content.key_line(self.NAME, width, NOW[self.state]))
        self.set_class(self.state in ("asking", "failed"), "-asking")
        self._trials.refresh()
        self._tail()

    def _tick(self) -> None:
        if self.state in ("running", "pausing", "paused", "cancelling"):
            self.query_one("#eta", Bar).say(self._eta_line())
            self._tail()

    def _state_line(self) -> Text:
        words_, role = {
            "asking": ("? nothing has been run yet", "warn"), "starting": ("… starting", "hint"), "running": ("… searching", "hint"),
            "pausing": ("‖ pausing after the running trial", "warn"), "paused": ("‖ paused: p goes on", "warn"),
            "cancelling": ("… ending the running trial", "warn"), "cancelled": ("■ cancelled: s goes on where it ended", "warn"),
            "failed": ("✗ the search cannot be made", "bad"), "ended": ("", ""),
        }[self.state]  # fmt: skip
        if self.state == "ended" and self.result is not None:
            r = self.result
            words_, role = f"{'✓' if r.outcome == 'found' else '?'} {r.outcome}: {visible(r.reason, 400)}", _OUTCOMES[r.outcome]
        out = Text(words_, style("bold", role), no_wrap=True, overflow="ellipsis")
        if self.state in ("running", "pausing", "paused") and self._phase is not None:
            name = "" if self._phase.name == progress.SEARCHING else f"{self._phase.name} · "
            out.append(f"  {name}{self._phase.axis}", style("not bold"))
        return out

    def _candidates(self, width: int) -> Text:
        if self.state == "asking":
            text = Text("This runs the recorded program again, a few times to a few dozen, in copies of its directory; ")
            text.append("your files, your repository and your environment are not touched. ")
            return text.append("Enter starts it.", style("bold", "hint"))
        if self.state == "failed":
            return Text(visible(self._note, 600), style("bad"))
        left = self._left
        if left is None:
            return Text("candidates: not counted yet" if self.state == "running" else "")
        n = len(left.candidates)
        cells = max(8, min(40, width - 34))
        full = max(1, round(cells * n / max(1, left.total)))
        out = Text(no_wrap=True, overflow="ellipsis")
        out.append(f"{left.axis}: {n:,} of {left.total:,} left  ", style("bold")).append("█" * full, style("hint")).append(
            "░" * (cells - full), "dim"
        )
        if left.kept:
            out.append("\npart of the answer: ", "dim").append(visible(", ".join(left.kept), 300), style("bad"))
        shown = [visible(named(c), 60) for c in left.candidates]
        names = ", ".join(shown) if len(shown) <= 6 else f"{', '.join(shown[:3])} … {', '.join(shown[-2:])}"
        return out.append("\none of: " if left.form == "range" else "\namong: ", "dim").append(names)

    def seconds(self) -> float:
        """Since the search began, or went on."""
        return time.monotonic() - self._since

    def _eta_line(self) -> Text:
        if self.state == "asking":
            return Text(f"without this screen: {self.job.command}", style("dim"), no_wrap=True, overflow="ellipsis")
        parts = [plural(len(self.trials), "trial"), f"{self.seconds():.0f} s"]
        steps, eta, then = self._eta
        if steps is not None and self.running:
            parts.append(f"about {steps} more" + (f", {max(0.0, eta - (time.monotonic() - then)):.0f} s" if eta is not None else ""))
        out = Text(" · ".join(parts), "dim", no_wrap=True, overflow="ellipsis")
        if self._note and self.state != "failed":
            out.append(f"  {visible(self._note, 300)}", style("warn"))
        return out

    def _row(self, index: int, width: int, selected: bool) -> Text:
        t = self.trials[index]
        glyph, role, word = _VERDICTS[t.verdict]
        out = Text(CURSOR if selected else "  ", no_wrap=True).append(f"{t.number:>4}  ", "dim")
        out.append(fit(f"{glyph} {word}", 16), style(role)).append(f"{t.seconds:>7.1f}  ")
        out.append(fit("to its end" if t.stopped_at_step is None else f"step {t.stopped_at_step}", 10) + " ")
        return out.append(fit(named(t.candidate), max(10, width - 44)))

    def _answer(self) -> Page:
        r, out = self.result, Page()
        assert r is not None
        c = r.culprit
        if c.commit:
            out.field("commit", f"{c.commit[:12]}  {visible(c.subject, 200)}", "bold")
        for one, subject in zip_longest(c.range[:8], c.subjects[:8], fillvalue=""):
            out.field("one of", f"{one[:12]}  {visible(subject, 200)}".strip())
        for file in c.files[:8]:
            out.field("file", f"{visible(file, 200)}, changed and not committed", "bold")
        for axis in (c.settings, c.packages, c.env, c.config):
            for name, values in axis.items():
                extra = f" (first bad release {visible(str(values['first_bad']), 40)})" if values.get("first_bad") else ""
                a, b = ("(absent)" if values.get(k) is None else visible(str(values.get(k)), 120) for k in "ab")
                out.field("culprit", f"{visible(name, 120)}: {a} in A, {b} in B{extra}", "bold")
        if r.outcome == "found":
            rests = f"{plural(len(r.trials), 'trial')} in {r.wall_seconds:.0f} s; the bound is {visible(r.bound, 80)}"
            out.field("sure", f"confidence {r.confidence:.2f} after {rests}")
        if r.first is not None:
            out.field("first", f"{r.first.kind}, {words.tensor(r.first)} of {words.place(r.first)}, step {r.first.step}, {r.first.phase}")
        for n, line in enumerate(r.proof):
            out.field("proof" if n == 0 else "", visible(line, 600), "good")
        for n, line in enumerate(r.notes):
            out.field("notes" if n == 0 else "", visible(line, 600), "dim")
        if not out:
            out.line(visible(r.reason, 600))
        return out

    def _tail(self) -> None:
        """The end of what the running trial prints; of the selected one where none runs."""
        now = next(reversed(self.running.values()), None) if self.running else None
        path = ""
        if now is not None:
            title, path = f"running: trial {now.count}, {named(now.candidate)}", now.log
        elif self.trials:
            t = self.trials[max(0, min(self._trials.cursor, len(self.trials) - 1))]
            title, path = f"output of trial {t.number}, {named(t.candidate)}", self._logs.get(t.number, "")
        else:
            title = "what would be run" if self.state == "asking" else "no trial has begun yet"
        self.query_one("#which", Bar).say(Text(title, style("bold"), no_wrap=True))
        lines = list(self.job.about) if self.state == "asking" else tail(path)
        text = Text("\n".join(visible(line, 300) for line in lines), "dim")
        if text.plain != self._tail_of:
            self._tail_of = text.plain
            pane = self.query_one("#tail", Pane)
            pane.say(lambda width: text)
            pane.call_after_refresh(pane.move, 10**6)

    def on_lines_moved(self, message: Lines.Moved) -> None:
        if not self.running:
            self._tail()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(self.query_one(TooSmall).measure(event.size.width, event.size.height), "-too-small")
        self.call_after_refresh(self.show)

    # keys

    def _pane(self) -> Lines | Pane:
        return self.focused if isinstance(self.focused, (Lines, Pane)) else self._trials

    def action_move(self, rows: int) -> None:
        self._pane().move(rows)

    def action_page(self, sign: int) -> None:
        self.action_move(sign * max(1, self._pane().size.height - 1))

    def action_ends(self, sign: int) -> None:
        self.action_move(sign * 10**9)

    def action_pause(self) -> None:
        if self.state == "running":
            self.state = "pausing"
            self._control.pause()
        elif self.state in ("pausing", "paused"):
            self.state = "running"
            self._control.resume()
        else:
            self.tell(f"nothing runs that could be paused: the search is {self.state}")
        self.show()

    def action_cancel(self) -> None:
        if self.state not in ("running", "pausing", "paused"):
            self.tell(f"nothing runs that could be cancelled: the search is {self.state}")
            return
        self.state = "cancelling"
        self._control.cancel()
        self.show()

    def action_resume(self) -> None:
        if self.state not in ("cancelled", "failed"):
            self.tell("only a search that was cancelled can go on; p goes on after a pause")
            return
        self._start(resume=True)
        self.show()

    def action_details(self) -> None:
        if self.state == "asking":
            self._start(self.job.resume)
            self.show()
            return
        if not self.trials:
            self.tell("no trial has ended yet")
            return
        t = self.trials[self._trials.cursor]
        page = Page()
        glyph, role, word = _VERDICTS[t.verdict]
        page.line(f"trial {t.number}: {visible(t.candidate, 400)}", "bold")
        page.line(f"{glyph} {word}", role)
        page.field(
            "took",
            f"{t.seconds:.1f} s" + (f", stopped at step {t.stopped_at_step}" if t.stopped_at_step is not None else ", to its own end"),
        )
        if t.reason:
            page.field("because", visible(t.reason, 600))
        if t.first is not None:
            page.field("first", f"{t.first.kind}, {words.tensor(t.first)} of {words.place(t.first)}, step {t.first.step}, {t.first.phase}")
        path = self._logs.get(t.number, "")
        page.field("log", visible(path, 400) or "none")
        page.line("")
        for line in tail(path, 64_000, 400):
            page.line(visible(line, 400), "dim")
        self.app.push_screen(ReadingScreen("One trial", lambda width: list(page.lay(width).split())))

    def action_report(self) -> None:
        if self.result is None:
            self.tell("there is no report before the search has ended")
            return
        result = self.result

        def lines(width: int) -> list[Text]:
            return [Text(visible(line, None), no_wrap=True) for line in bisection.to_text(result, width).splitlines()]

        self.app.push_screen(ReadingScreen("The report of the search", lines))

    def action_export(self) -> None:
        if self.result is None:
            self.tell("there is no report before the search has ended")
            return
        try:
            texts = {".md": bisection.to_markdown(self.result), ".json": bisection.to_json(self.result) + "\n"}
            paths = write(texts, "reprodebug-bisect")
        except OSError as error:
            self.tell(f"the report could not be written: {error}")
            return
        self.tell(f"written: {' and '.join(paths)}")

    def action_copy_command(self) -> None:
        self.app.copy_to_clipboard(self.job.command)
        self.tell(f"copied: {self.job.command}")

    def action_help(self) -> None:
        self.app.push_screen(HelpScreen(self.NAME, f"{STATES[self.state]}. Without this screen: {self.job.command}"))

    def action_leave(self) -> None:
        if self.state in ("running", "pausing", "paused", "cancelling"):
            self.tell("the search runs: c cancels it and keeps what was found, Ctrl+C does so and quits")
            return
        self.app.left_bisect(self)  # type: ignore[attr-defined]

    def theme_changed(self) -> None:
        """The colours are others now."""
        self.show()
