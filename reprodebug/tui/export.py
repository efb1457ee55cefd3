"""Writes the report into the current directory.

Owns the names of the files. Refuses to overwrite: a number is added, the same for all.
"""

from __future__ import annotations

import os

from reprodebug.model.comparison import Comparison
from reprodebug.report import json, markdown


def export(c: Comparison, directory: str = ".", picture: str = "") -> tuple[str, ...]:
    """Write ``reprodebug-report.md``, ``.json`` and, where ``picture`` is an SVG, ``.svg``; returns their paths. Raises OSError."""
    texts = {".md": markdown.render(c), ".json": json.render(c) + "\n", **({".svg": picture} if picture else {})}
    return write(texts, "reprodebug-report", directory)


def write(texts: dict[str, str], name: str, directory: str = ".") -> tuple[str, ...]:
    """Write each text under ``name`` and its suffix, with a number where one of them is there already. Raises OSError."""
    number = 1
    while True:
        stem = os.path.join(directory, name + (f"-{number}" if number > 1 else ""))
        paths = tuple(stem + suffix for suffix in texts)
        number += 1
        if any(os.path.lexists(p) for p in paths):
            continue
        try:
            for path, text in zip(paths, texts.values(), strict=True):
                with open(path, "x", encoding="utf-8") as file:
                    file.write(text)
        except FileExistsError:
            continue  # somebody else took the name just now
        return paths
