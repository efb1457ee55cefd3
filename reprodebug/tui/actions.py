"""Every key of every screen, once: bindings, key line, help, command palette and the README are made from this list.

Refuses a key that two actions of one screen claim (at import).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from textual.binding import Binding, BindingType


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that the user can do."""

    screens: str
    """names of the screens that have it, separated by blanks"""
    keys: tuple[str, ...]
    action: str
    """Textual action, e.g. ``move(1)``"""
    title: str
    """what it does, for help, palette and README"""
    group: str
    hint: str = ""
    """a word for the key line at the bottom; empty: not shown there"""


_MOVE, _LOOK, _NEXT, _TAKE, _LEAVE = "Move", "Look", "Go on", "Take away", "Leave"
_LISTS = "compare bisect"
_PAGES = "reading walk zoom failure"

ACTIONS = (
    Action(_LISTS, ("down", "j"), "move(1)", "one row down", _MOVE),
    Action(_LISTS, ("up", "k"), "move(-1)", "one row up", _MOVE),
    Action(_PAGES, ("down", "j"), "move(1)", "one line down", _MOVE),
    Action(_PAGES, ("up", "k"), "move(-1)", "one line up", _MOVE),
    Action(f"{_LISTS} {_PAGES}", ("pagedown", "ctrl+d"), "page(1)", "one page down", _MOVE),
    Action(f"{_LISTS} {_PAGES}", ("pageup", "ctrl+u"), "page(-1)", "one page up", _MOVE),
    Action(f"{_LISTS} {_PAGES}", ("home", "g"), "ends(-1)", "to the start", _MOVE),
    Action(f"{_LISTS} {_PAGES}", ("end", "G"), "ends(1)", "to the end", _MOVE),
    Action("compare", ("left", "h"), "side(-1)", "fold the row, go to what is above it; from the details to the list", _MOVE),
    Action("compare", ("right", "l"), "side(1)", "unfold the row; from the list to the details", _MOVE),
    Action("compare", ("tab",), "cycle(1)", "next pane", _MOVE),
    Action("compare", ("shift+tab",), "cycle(-1)", "previous pane", _MOVE),
    Action(
        "compare", ("n",), "divergence(1)", "next divergence: the next module, section, step, batch or record that differs", _MOVE, "next"
    ),
    Action("compare", ("N",), "divergence(-1)", "previous divergence", _MOVE),
    Action("compare", ("f",), "first", "first divergence", _MOVE, "first"),
    Action("walk", ("right", "l", "enter", "space"), "turn(1)", "next question", _MOVE, "next question"),
    Action("walk", ("left", "h", "backspace"), "turn(-1)", "previous question", _MOVE, "back"),
    Action("compare", ("w",), "walk", "guided walk: from the verdict to the cause, question by question", _NEXT, "walk"),
    Action("compare", ("1",), "view(0)", "layers: the module tree with what differs in it", _LOOK),
    Action("compare", ("2",), "view(1)", "steps: both loss curves, growth of the difference", _LOOK),
    Action("compare", ("3",), "view(2)", "random state: where each generator parts, draws between looks", _LOOK),
    Action("compare", ("4",), "view(3)", "data: batches and samples, same, reordered or changed; files", _LOOK),
    Action("compare", ("5",), "view(4)", "environment: packages, settings, variables, hardware, code, configuration", _LOOK),
    Action("compare", ("6",), "view(5)", "causes: why, with evidence and remedy", _LOOK),
    Action("compare", ("7",), "view(6)", "records: every single one, in execution order", _LOOK),
    Action("walk", ("v",), "view", "view: the one that shows this page's evidence", _LOOK, "view"),
    Action("compare", ("enter",), "details", "open: the selected row on a page of its own", _LOOK, "open"),
    Action("compare", ("space",), "fold", "fold or unfold the selected row", _LOOK),
    Action("compare", ("d",), "everything", "differences only, or everything", _LOOK, "all"),
    Action("compare", ("slash",), "filter", "filter: the rows of this view that contain a word; Esc shows all again", _LOOK, "filter"),
    Action("compare", ("r",), "report", "whole report: gaps, losses, coverage, blind spots", _LOOK, "report"),
    Action("compare", ("x",), "swap", "swap A and B", _LOOK, "swap"),
    Action(
        "compare walk",
        ("b",),
        "bisect",
        "bisect: prove the cause by experiment, the program is run again under both circumstances",
        _NEXT,
        "bisect",
    ),
    Action("compare", ("z",), "zoom", "zoom: run both again just around the divergence, down to the operation", _NEXT, "zoom"),
    Action("compare", ("v",), "tensor", "tensors of the selected row: heat maps, histograms, ULP, worst elements", _LOOK),
    Action("zoom", ("enter",), "start", "run it", _NEXT, "run"),
    Action(
        "zoom",
        ("x",),
        "exchange",
        "exchange: run it, and then once more with what A had there put into B, and the reverse: necessary, sufficient?",
        _NEXT,
        "exchange",
    ),
    Action("zoom", ("c",), "cancel", "cancel: end both programs", _NEXT, "cancel"),
    Action("bisect", ("p",), "pause", "pause: after the running trial, or go on", _NEXT, "pause"),
    Action("bisect", ("c",), "cancel", "cancel: end the running trial, keep what was found", _NEXT, "cancel"),
    Action("bisect", ("s",), "resume", "resume: go on with a search that was cancelled", _NEXT, "resume"),
    Action("bisect", ("enter",), "details", "start; later, open the selected trial: what was asked, verdict, its output", _LOOK, "open"),
    Action("bisect", ("r",), "report", "report of the search, once it has ended", _LOOK, "report"),
    Action("compare", ("y",), "copy_row", "copy the selected row", _TAKE, "copy"),
    Action("walk zoom", ("y",), "copy_row", "copy this page", _TAKE),
    Action("compare walk bisect zoom", ("Y",), "copy_command", "copy the command: it says the same without this screen", _TAKE),
    Action("compare", ("e",), "export", "export: write Markdown, JSON and a picture (SVG) into the current directory", _TAKE, "export"),
    Action("bisect", ("e",), "export", "export: write the report as Markdown and JSON into the current directory", _TAKE, "export"),
    Action("compare bisect walk zoom", ("t",), "app.theme", "next theme: dark, light, colour-blind safe, no colour", _LOOK),
    Action("compare bisect walk zoom", ("question_mark", "f1"), "help", "help: what can be done here", _LEAVE, "help"),
    Action("compare bisect walk zoom", ("ctrl+p",), "app.command_palette", "everything that can be done here, by name", _LEAVE),
    Action(
        "compare",
        ("q", "escape"),
        "leave",
        "back: to the list, to all its rows, then quit with the exit code of the verdict",
        _LEAVE,
        "quit",
    ),
    Action("walk bisect zoom", ("q", "escape"), "leave", "back", _LEAVE, "back"),
    Action("reading", ("q", "escape", "enter", "question_mark"), "dismiss", "back", _LEAVE, "back"),
    Action("filter", ("enter",), "submit", "keep the filter, go to the rows", _LEAVE),
    Action("filter", ("escape",), "screen.filter_away", "all rows again", _LEAVE),
    Action("failure", ("q", "escape", "enter"), "away", "back; quit, where there is nothing to go back to", _LEAVE),
    Action("loading error", ("q", "escape", "enter"), "app.leave", "quit", _LEAVE),
    Action("compare bisect walk reading zoom loading error failure", ("ctrl+c",), "app.leave", "quit from anywhere", _LEAVE),
)
SCREENS = ("compare", "filter", "walk", "bisect", "zoom", "reading", "loading", "error", "failure")


def of(screen: str) -> list[Action]:
    """What can be done on a screen, in the order of the list."""
    return [a for a in ACTIONS if screen in a.screens.split()]


def keys(screen: str) -> frozenset[str]:
    """Every key that does something there."""
    return frozenset(key for a in of(screen) for key in a.keys)


for _screen in SCREENS:
    if len(keys(_screen)) != sum(len(a.keys) for a in of(_screen)):
        raise AssertionError(f"two actions of the {_screen} screen claim one key")

_GLYPHS = {
    "down": "↓", "up": "↑", "left": "←", "right": "→", "pagedown": "PgDn", "pageup": "PgUp", "home": "Home", "end": "End",
    "tab": "Tab", "shift+tab": "Shift+Tab", "enter": "Enter", "escape": "Esc", "question_mark": "?", "f1": "F1", "slash": "/",
    "space": "Space", "backspace": "Backspace", "ctrl+c": "Ctrl+C", "ctrl+d": "Ctrl+D", "ctrl+u": "Ctrl+U", "ctrl+p": "Ctrl+P",
}  # fmt: skip


def glyph(key: str) -> str:
    """How a key is printed."""
    return _GLYPHS.get(key, key)


def bindings(screen: str) -> list[BindingType]:
    """The bindings of a screen; those of the app are left to it."""
    keys_ = [(",".join(k for k in a.keys if k != "ctrl+c"), a) for a in of(screen)]
    return [Binding(k, a.action, a.title, show=False) for k, a in keys_ if k]


def help_groups(screen: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """(group, [(keys, what it does)]) in the order of the list."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for a in of(screen):
        groups.setdefault(a.group, []).append((" ".join(glyph(k) for k in a.keys), a.title))
    return list(groups.items())


def hints(screen: str, width: int, now: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """(key, word) for the key line, as many as fit into ``width`` cells; help and the way out always.

    ``now`` maps the actions that can be done at the moment to a word for each; without it those with a word of their own are named.
    """
    if now is None:
        every = [(glyph(a.keys[0]), a.hint) for a in of(screen) if a.hint]
    else:
        every = [(glyph(a.keys[0]), now.get(a.action, a.hint)) for a in of(screen) if a.action in now or (a.group == _LEAVE and a.hint)]
    last = [h for h in every if h[0] in ("?", "q")]
    room = width - sum(len(k) + len(w) + 3 for k, w in last)
    shown = []
    for k, w in [("1-7", "views")] * (screen == "compare") + [h for h in every if h not in last]:
        if room >= len(k) + len(w) + 3:
            room -= len(k) + len(w) + 3
            shown.append((k, w))
    return shown + last


def markdown() -> str:
    """The keys as a table for the README."""
    rows = ["| keys | on | what |", "|---|---|---|"]
    for a in ACTIONS:
        names = " ".join(f"`{glyph(k)}`" for k in a.keys)
        rows.append(f"| {names} | {', '.join(a.screens.split())} | {a.title} |")
    return "\n".join(rows)
