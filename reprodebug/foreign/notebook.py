"""Jupyter notebooks: the code of their cells, the order in which it was run, the interpreter, and what they installed.

Refuses to run anything; outputs are no input of the computation and are left out.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from typing import Any

from reprodebug.foreign.pip import requirement
from reprodebug.foreign.protocol import Record, Unreadable, mapping, rows
from reprodebug.foreign.tree import Tree

NAME = "Jupyter"
_MOST, _LARGEST = 20, 32 << 20
_INSTALLS = re.compile(r"^[ \t]*[%!][ \t]*(?:python3? -m )?pip3?[ \t]+install[ \t]+(.+)$", re.M)


def find(tree: Tree) -> list[str]:
    """Notebooks, without the copies that Jupyter keeps."""
    return [f for f in tree.files if f.endswith(".ipynb") and ".ipynb_checkpoints/" not in f][:_MOST]


def read(tree: Tree, place: str) -> Record:
    """One notebook. Raises Unreadable."""
    record = Record(NAME, place, rank=1, few=True)
    try:
        found = json.loads(tree.text(place, _LARGEST))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{place} is no notebook: it cannot be parsed") from error
    cells = [c for c in rows(mapping(found).get("cells")) if isinstance(c, dict) and c.get("cell_type") == "code"]
    if not cells:
        raise Unreadable(f"{place} holds no cell of code")
    python = mapping(mapping(mapping(found).get("metadata")).get("language_info")).get("version")
    if isinstance(python, str):
        record.add("environment", "python", python, place)
    texts = [_text(c.get("source")) for c in cells]
    digest = hashlib.sha256("\0".join(t.rstrip() for t in texts).encode("utf-8", "surrogatepass")).hexdigest()
    record.add("code", f"file/{place}", f"sha256:{digest[:16]}", place, note=f"{len(cells)} cells of code")
    for text in texts:
        for line in _INSTALLS.findall(text):
            _installed(record, line, place)
    counts = [c.get("execution_count") for c in cells]
    ran = sorted((n, i + 1) for i, n in enumerate(counts) if isinstance(n, int))
    order = [i for _, i in ran]
    record.add("code", f"file/{place}/order", order, place, note="the cells that were run, in this order")
    if order != sorted(order):
        record.notes.append(f"{place}: cells were run in another order than they stand in")
    elif len(order) < len(cells):
        record.notes.append(f"{place}: {len(cells) - len(order)} of {len(cells)} cells bear no mark of having been run")
    return record


def _text(source: Any) -> str:
    return source if isinstance(source, str) else "".join(x for x in rows(source) if isinstance(x, str))


def _installed(record: Record, line: str, place: str) -> None:
    """The packages that one ``%pip install`` pins."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return
    for word in words:
        if re.match(r"[A-Za-z0-9][\w.-]*(\[[\w,-]*\])?==", word):
            requirement(record, word, place)
