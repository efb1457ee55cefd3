"""Every key of the compare screen, once: the bindings, the key line and the help screen are made from this list.

Refuses a key that two actions claim (at import).
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding, BindingType


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that the user can do on the compare screen."""

    keys: tuple[str, ...]
    action: str
    """Textual action, e.g. ``move(1)``"""
    title: str
    """what it does, for the help screen"""
    group: str
    hint: str = ""
    """a word for the key line at the bottom; empty: not shown there"""


_MOVE, _VIEW, _TAKE, _LEAVE = "Move", "Look", "Take away", "Leave"

ACTIONS = (
    Action(("down", "j"), "move(1)", "one row down", _MOVE),
    Action(("up", "k"), "move(-1)", "one row up", _MOVE),
    Action(("pagedown", "ctrl+d"), "page(1)", "one page down", _MOVE),
    Action(("pageup", "ctrl+u"), "page(-1)", "one page up", _MOVE),
    Action(("home", "g"), "ends(-1)", "first row", _MOVE),
    Action(("end", "G"), "ends(1)", "last row", _MOVE),
    Action(("left", "h"), "side(-1)", "to the list", _MOVE),
    Action(("right", "l"), "side(1)", "to the details of the row", _MOVE),
    Action(("tab",), "cycle(1)", "next pane", _MOVE),
    Action(("shift+tab",), "cycle(-1)", "previous pane", _MOVE),
    Action(("n",), "divergence(1)", "next divergence: the next other module, or the next section", _MOVE, "next"),
    Action(("N",), "divergence(-1)", "previous divergence", _MOVE),
    Action(("f",), "first", "first divergence", _MOVE),
    Action(("1",), "view('layers')", "layers: what differs, in order of its first difference", _VIEW),
    Action(("2",), "view('environment')", "environment: what differs around the tensors", _VIEW),
    Action(("enter",), "details", "the selected row on a page of its own", _VIEW, "open"),
    Action(("r",), "report", "the whole report: gaps, losses, coverage, blind spots", _VIEW, "report"),
    Action(("d",), "harmless", "show or hide harmless differences", _VIEW, "harmless"),
    Action(("x",), "swap", "swap A and B", _VIEW, "swap"),
    Action(("y",), "copy_row", "copy the selected row", _TAKE, "copy"),
    Action(("Y",), "copy_command", "copy the command that prints the same without this screen", _TAKE),
    Action(("e",), "export", "write the report as Markdown and JSON into the current directory", _TAKE, "export"),
    Action(("question_mark", "f1"), "help", "these keys", _LEAVE, "help"),
    Action(("q", "escape"), "leave", "quit, with the exit code of the verdict", _LEAVE, "quit"),
    Action(("ctrl+c",), "app.leave", "quit from anywhere", _LEAVE),
)

KEYS = frozenset(key for action in ACTIONS for key in action.keys)
if len(KEYS) != sum(len(action.keys) for action in ACTIONS):
    raise AssertionError("two actions claim one key")

_GLYPHS = {
    "down": "↓", "up": "↑", "left": "←", "right": "→", "pagedown": "PgDn", "pageup": "PgUp", "home": "Home", "end": "End",
    "tab": "Tab", "shift+tab": "Shift+Tab", "enter": "Enter", "escape": "Esc", "question_mark": "?", "f1": "F1",
    "ctrl+c": "Ctrl+C", "ctrl+d": "Ctrl+D", "ctrl+u": "Ctrl+U",
}  # fmt: skip


def glyph(key: str) -> str:
    """How a key is printed."""
    return _GLYPHS.get(key, key)


def bindings() -> list[BindingType]:
    """The bindings of the compare screen; those of the app are left to it."""
    return [Binding(",".join(a.keys), a.action, a.title, show=False) for a in ACTIONS if not a.action.startswith("app.")]


def help_groups() -> list[tuple[str, list[tuple[str, str]]]]:
    """(group, [(keys, what it does)]) in the order of the list."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for a in ACTIONS:
        groups.setdefault(a.group, []).append((" ".join(glyph(k) for k in a.keys), a.title))
    return list(groups.items())


def hints(width: int) -> list[tuple[str, str]]:
    """(key, word) for the key line, as many as fit into ``width`` cells; help and quit always."""
    every = [(glyph(a.keys[0]), a.hint) for a in ACTIONS if a.hint]
    last = every[-2:]
    room = width - sum(len(k) + len(w) + 3 for k, w in last)
    shown = []
    for k, w in [("1/2", "view"), *every[:-2]]:
        if room >= len(k) + len(w) + 3:
            room -= len(k) + len(w) + 3
            shown.append((k, w))
    return shown + last
