"""The environment view: packages, settings, variables, hardware, containers, code and configuration that differ."""

from __future__ import annotations

from typing import ClassVar

from reprodebug._base.text import plural
from reprodebug.model.comparison import SECTIONS
from reprodebug.tui.views.base import SECTIONS_ELSEWHERE, View


class EnvironmentView(View):
    """Rows are differences: those that a cause names first, then the gravest."""

    name: ClassVar[str] = "environment"
    short: ClassVar[str] = "env"
    parts: ClassVar[str] = "environment"
    question: ClassVar[str] = "what differs around the run: packages, settings, variables, hardware, code, configuration"
    sections: ClassVar[tuple[str, ...]] = tuple(s for s in SECTIONS if s not in SECTIONS_ELSEWHERE)

    def tab(self) -> str:
        every = self.of_sections()
        harmless = sum(d.severity == "harmless" for d in every)
        return f"{len(every) - harmless:,}" + (f" + {harmless:,} harmless" if harmless and self.everything else "")

    def empty(self) -> str:
        hidden = len(self.of_sections())
        if hidden and not self.everything:
            it = "it" if hidden == 1 else "them"
            return f"Nothing that could change numbers differs. {plural(hidden, 'harmless difference')} hidden: d shows {it}."
        if self.foreign():
            return "Nothing that was recorded of environment, code, configuration and hardware differs."
        return "Nothing around the tensors differs: environment, code, configuration and hardware are equal as far as recorded."
