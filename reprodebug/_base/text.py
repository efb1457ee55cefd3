"""Text that came from a run, made safe to show. The only place that decides what a terminal may see.

Refuses to guess at markup: callers hand the result to sinks as plain text (``rich.text.Text``,
``markup=False``) or through :func:`markdown`, never as markup.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

# Cc control, Cf format (bidi, zero width), Zl/Zp line and paragraph separators, Cs surrogates, Co private use
_UNSAFE = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"})
_MARKDOWN = frozenset("\\`*_{}[]()<>#+-.!|~&$:@=")


def visible(text: object, limit: int | None = 200) -> str:
    """``text`` with every character that could steer a terminal printed as an escape such as ``\\x1b``.

    Control, format (bidi, zero width), separator, surrogate, private-use and unassigned characters are replaced;
    longer than ``limit`` characters (at least 3) is cut in the middle with ``…``. Idempotent.
    """
    s = text if isinstance(text, str) else str(text)
    if limit is None:
        return _escaped(s)
    if len(s) <= limit:
        s = _escaped(s)
        if len(s) <= limit:
            return s
        start, end = s, s
    else:  # an escape is no shorter than what it stands for, so these two ends are enough
        start, end = _escaped(s[:limit]), _escaped(s[-limit:])
    head = limit * 2 // 3
    return start[:head] + "…" + end[len(end) - (limit - head - 1) :]


def _escaped(s: str) -> str:
    if s.isascii() and s.isprintable():
        return s
    out = []
    for c in s:
        if c.isascii() and c.isprintable():
            out.append(c)
        elif unicodedata.category(c) in _UNSAFE:
            n = ord(c)
            out.append(f"\\x{n:02x}" if n < 0x100 else f"\\u{n:04x}" if n < 0x10000 else f"\\U{n:08x}")
        else:
            out.append(c)
    return "".join(out)


def markdown(text: object, limit: int | None = 200) -> str:
    """``text`` made visible and then backslash-escaped, so that Markdown and HTML renderers show it literally."""
    return "".join("\\" + c if c in _MARKDOWN else c for c in visible(text, limit))


def code(text: object, limit: int | None = 200) -> str:
    """``text`` as a Markdown code span that it cannot leave: the fence is longer than any run of backticks inside."""
    s = visible(text, limit)
    longest = run = 0
    for c in s:
        run = run + 1 if c == "`" else 0
        longest = max(longest, run)
    fence = "`" * (longest + 1)
    pad = " " if s.startswith("`") or s.endswith("`") or not s else ""
    # a pipe inside a table cell ends the cell even in a code span
    return fence + pad + s.replace("|", "\\|") + pad + fence


def plural(n: int, noun: str) -> str:
    """``1 step``, ``2 steps``, ``0 batches``."""
    if n == 1:
        return f"1 {noun}"
    return f"{n:,} {noun}{'es' if noun.endswith(('s', 'x', 'ch', 'sh')) else 's'}"


def listed_words(words: Iterable[str]) -> str:
    """``a, b and c``."""
    found = list(words)
    return ", ".join(found[:-1]) + (" and " if len(found) > 1 else "") + found[-1] if found else ""
