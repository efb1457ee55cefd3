"""Where the compare screen leads: report, experiment, zoom, tensors, clipboard and files.

Owns nothing but the ways; the screen has what they take along. What a way needs is imported when it is taken: the first
frame does not wait for it.
"""

from __future__ import annotations

from rich.text import Text

from reprodebug._base.text import visible
from reprodebug.compare.evidence import Evidence
from reprodebug.model.comparison import Comparison
from reprodebug.report import words
from reprodebug.tui.screens.base import Keyed
from reprodebug.tui.views import View
from reprodebug.tui.widgets.lines import Lines


class Ways(Keyed):
    """The actions of the compare screen that show something else, or take something away."""

    comparison: Comparison
    evidence: Evidence | None
    everything: bool

    @property
    def at_home(self) -> bool:
        """The view on which the screen opens is open: what it says is what the whole report says."""
        raise NotImplementedError

    @property
    def view(self) -> View:
        """The open view."""
        raise NotImplementedError

    @property
    def _list(self) -> Lines:
        return self.query_one("#list", Lines)

    def action_report(self) -> None:
        from reprodebug.report import text as report_text
        from reprodebug.tui.screens.reading import ReadingScreen

        c = self.comparison

        def lines(width: int) -> list[Text]:
            page = report_text.render(c, width=width, verbose=len(c.layers) <= 2000)
            return [Text(visible(line, None), no_wrap=True) for line in page.splitlines()]

        self.app.push_screen(ReadingScreen("The whole report", lines))

    def action_bisect(self) -> None:
        c = self.comparison
        why = self._why_no_bisect(c)
        if why:
            self.tell(why)
            return
        from reprodebug.tui.screens.bisect import BisectScreen
        from reprodebug.tui.screens.job import from_comparison

        self.app.push_screen(BisectScreen(from_comparison(c), confirm=True))

    def action_zoom(self) -> None:
        why = self._why_no_bisect(self.comparison)
        if why:
            self.tell(why)
            return
        from reprodebug.tui.screens.zoom import ZoomScreen

        self.app.push_screen(ZoomScreen(self.comparison))

    def action_tensor(self) -> None:
        where = self.view.record(self.view.rows[self._list.cursor]) if len(self.view.rows) else None
        if where is None or self.evidence is None:
            self.tell("this row stands for no single tensor; those of layers (1) and records (7) do")
            return
        found = self.evidence.portrait(*where)
        if found is None:
            self.tell("neither can be drawn unless both runs kept this tensor: record both with --level full, or press z to zoom")
            return
        from reprodebug.tui.screens.tensor import TensorScreen

        self.app.push_screen(TensorScreen(self.view.detail(self._list.cursor).plain().splitlines()[0], found))

    def _why_no_bisect(self, c: Comparison) -> str:
        if c.verdict in ("identical", "equivalent"):
            return f"the runs are {c.verdict}: there is nothing to search for"
        if self.evidence is None:
            return "a search needs two runs of `reprodebug capture`: it runs their command again"
        return "" if words.can_run_again(c) else "the command of a run was not recorded, so it cannot be run again"

    def action_copy_row(self) -> None:
        if not len(self.view.rows):
            self.tell("there is no row to copy")
            return
        self.app.copy_to_clipboard(self.view.detail(self._list.cursor).plain())
        self.tell("the row was handed to the terminal's clipboard; where that does not work, e writes the report to a file")

    def action_copy_command(self) -> None:
        part = "--headless" if self.at_home else f"--only {self.view.parts}"
        command = words.command(self.comparison, part, *["--verbose"] * self.everything)
        self.app.copy_to_clipboard(command)
        self.tell(f"copied: {command}")

    def action_export(self) -> None:
        from reprodebug.tui.export import export

        try:
            paths = export(self.comparison, picture=self.app.export_screenshot(title="reprodebug compare"))
        except OSError as error:
            self.tell(f"the report could not be written: {error}", "error")
            return
        self.tell(f"written: {', '.join(paths[:-1])} and {paths[-1]}")
