"""Colours by what they mean. Glyph and word carry the meaning; a colour only repeats it.

Owns the themes and the one that is on. Refuses colour names elsewhere in the interface. The colour-blind safe theme uses the
colours of M. Okabe and K. Ito, "Color Universal Design" (2008).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textual.theme import Theme

THEMES = ("dark", "light", "colour-blind safe", "no colour")

_COLOURS: dict[str, tuple[str, str, str, str, str, str]] = {
    # good, bad, warn, hint, A, B
    "dark": ("#5fd787", "#ff6b6b", "#e5c07b", "#61afef", "#56c2d6", "#d68cf0"),
    "light": ("#1a7f37", "#c02626", "#8a6100", "#0b5cad", "#00687a", "#8a2da5"),
    "colour-blind safe": ("#56b4e9", "#f0803c", "#f0e442", "#56b4e9", "#56b4e9", "#e69f00"),
    "no colour": ("", "", "", "", "", ""),
}
_NAMES = ("good", "bad", "warn", "hint", "a", "b")
_CURSORS = {"dark": "#2f4368", "light": "#c6dcf7", "colour-blind safe": "#2f4368", "no colour": ""}
_on = THEMES[0]


def use(theme: str) -> None:
    """Switch every style asked for from now on. Raises KeyError for a name that is none of ``THEMES``."""
    global _on
    _COLOURS[theme]
    _on = theme


def style(*roles: str) -> str:
    """Rich's style for roles: ``good``, ``bad``, ``warn``, ``hint``, ``a``, ``b``, and any word of Rich such as ``bold``."""
    words = []
    for role in roles:
        word = _COLOURS[_on][_NAMES.index(role)] if role in _NAMES else role
        words += [word] if word else ["bold"] if role == "bad" else ["underline"] if role == "warn" else []
    return " ".join(dict.fromkeys(words))


def cursor(focused: bool) -> dict[str, Any]:
    """Rich's style (keywords) of the row under the cursor: a background that leaves the colours of the row readable."""
    background = _CURSORS[_on]
    if not background:
        return {"reverse": True} if focused else {"underline": True}
    return {"bgcolor": background, "bold": True} if focused else {"bold": True}


def textual_themes() -> list[Theme]:
    """The themes as Textual wants them, named ``reprodebug-`` and the name."""
    from textual.theme import Theme

    frames = {  # primary, foreground, background, surface, panel
        "dark": ("#61afef", "#d7dae0", "#16181d", "#1e2127", "#2a2e36"),
        "light": ("#0b5cad", "#1c1e21", "#fbfbfa", "#f0f0ee", "#e2e2df"),
        "colour-blind safe": ("#56b4e9", "#d7dae0", "#16181d", "#1e2127", "#2a2e36"),
        "no colour": ("#d0d0d0", "#d8d8d8", "#101010", "#181818", "#282828"),
    }
    out = []
    for name, (primary, foreground, background, surface, panel) in frames.items():
        good, bad, warn, _, _, _ = (c or foreground for c in _COLOURS[name])
        out.append(
            Theme(
                name=internal(name), primary=primary, secondary=primary, accent=primary, foreground=foreground, background=background,
                surface=surface, panel=panel, success=good, warning=warn, error=bad, dark=name != "light",
            )
        )  # fmt: skip
    return out


def internal(name: str) -> str:
    """Textual's name of a theme."""
    return "reprodebug-" + name.replace(" ", "-")
