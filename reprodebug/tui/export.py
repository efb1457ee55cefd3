"""Writes the report into the current directory.

Owns the two file names. Refuses to overwrite: a number is added, the same for both files.
"""

from __future__ import annotations

import os

from reprodebug.model.comparison import Comparison
from reprodebug.report import json, markdown


def export(c: Comparison, directory: str = ".") -> tuple[str, str]:
    """Write ``reprodebug-report.md`` and ``.json``; returns the two paths. Raises OSError."""
    texts = (markdown.render(c), json.render(c) + "\n")
    number = 1
    while True:
        stem = os.path.join(directory, "reprodebug-report" + (f"-{number}" if number > 1 else ""))
        paths = (stem + ".md", stem + ".json")
        number += 1
        if any(os.path.lexists(p) for p in paths):
            continue
        try:
            for path, text in zip(paths, texts, strict=True):
                with open(path, "x", encoding="utf-8") as file:
                    file.write(text)
        except FileExistsError:
            continue  # somebody else took the name just now
        return paths
