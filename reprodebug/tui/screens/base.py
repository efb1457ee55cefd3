"""What all screens share: notes that go away by themselves, and a key without a meaning says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.widgets import Input

from reprodebug._base.text import visible
from reprodebug.tui import actions

if TYPE_CHECKING:
    from textual.screen import Screen

    _Base = Screen[Any]
else:
    _Base = object


class Keyed(_Base):
    """Stands before Textual's class among the bases of a screen. ``NAME`` is the screen's name in the registry of actions."""

    NAME: ClassVar[str]

    def tell(self, text: str, severity: str = "information") -> None:
        """A note that goes away by itself."""
        self.notify(visible(text, 400), severity=severity, timeout=4, markup=False)  # type: ignore[arg-type]

    def on_key(self, event: events.Key) -> None:
        """Only keys that nothing else has taken come here."""
        if event.key in actions.keys(self.NAME) or isinstance(self.focused, Input):
            return
        name = event.character if event.is_printable and event.character else actions.glyph(event.key)
        here = actions.glyph("question_mark") if "question_mark" in actions.keys(self.NAME) and self.NAME != "reading" else ""
        ways = " and ".join(actions.glyph(k) for k in ("q", "enter") if k in actions.keys(self.NAME))
        self.tell(f"{name} does nothing here; " + (f"{here} lists the keys" if here else f"{ways} lead out of it"))
