"""What a paper says of itself: the NeurIPS checklist, REPRODUCE.md, and a release checklist.

Owns the answers of ``checklist.tex``, the versions, commands and numbers of a reproduction document, and the ticks of a task list. Numbers are metrics
with the tolerance that stands beside them.
"""

from __future__ import annotations

import re

from reprodebug.foreign.pip import requirement
from reprodebug.foreign.protocol import Record
from reprodebug.foreign.tree import Tree

NAME = "document"
_ANSWER = re.compile(r"\\answer(Yes|No|NA|TODO)\b", re.I)
_REPRODUCE = re.compile(r"(^|/)(REPRODUC\w*|REPLICAT\w*|RESULTS)[\w.-]*\.(md|markdown|rst|txt)$", re.I)
_RELEASE = re.compile(r"(^|/)[\w.-]*(RELEASE|CHECKLIST|ARTIFACT)[\w.-]*\.(md|markdown)$", re.I)


def find(tree: Tree) -> list[str]:
    """Checklists and reproduction documents."""
    found = [
        f
        for f in tree.files
        if f.endswith(".tex") and ("checklist" in f.lower() or tree.size(f) < 4 << 20) and b"\\answer" in tree.read(f, 1 << 20)
    ]
    found += [
        f
        for f in tree.files
        if f.lower().endswith((".md", ".markdown", ".rst", ".txt"))
        and (_REPRODUCE.search(f) or (_RELEASE.search(f) and re.search(rb"^\s*[-*] \[[ xX]\]", tree.read(f, 1 << 18), re.M)))
    ]
    return list(dict.fromkeys(found))


def read(tree: Tree, place: str) -> Record:
    """One document."""
    record = Record(NAME, place, rank=1)
    text = tree.text(place, 4 << 20)
    if place.endswith(".tex"):
        _checklist(record, text, place)
    else:
        if _REPRODUCE.search(place):
            _reproduce(record, text, place)
        for tick, words in re.findall(r"^\s*[-*] \[([ xX])\]\s+(.+)$", text, re.M):
            record.add("code", f"checklist/{_plain(words)[:120]}", "done" if tick.lower() == "x" else "open", place)
    return record


def _checklist(record: Record, text: str, place: str) -> None:
    text = re.sub(r"(?<!\\)%.*", "", text)
    for block in re.split(r"\\item\s*(?=\{\\bf|\\textbf|\{\\bfseries)", text)[1:]:
        title = re.match(r"(?:\{\\bf(?:series)?|\\textbf\{)\s*([^}]*)\}", block)
        # the question explains what each answer means: the answer itself stands behind "Answer:"
        answered = re.search(r"Answer:\s*(.*)", block)
        answer = _ANSWER.search(answered[1] if answered else "")
        if title:
            record.add("code", f"checklist/{_plain(title[1])}", _word(answer[1]) if answer else "(none)", place)


def _word(answer: str) -> str:
    return {"yes": "Yes", "no": "No", "na": "NA", "todo": "TODO"}[answer.lower()]


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"[`*]|\\[a-z]+\{|\}", "", text)).strip().rstrip(".:")


def _reproduce(record: Record, text: str, place: str) -> None:
    python = re.search(r"\bPython\s*(?:>=|==|version)?\s*v?(\d+(?:\.\d+)+)", text, re.I)
    if python:
        record.add("environment", "python", python[1], place)
    cuda = re.search(r"\bCUDA\s*(?:Toolkit)?\s*(?:>=|==|version)?\s*v?(\d+(?:\.\d+)+)", text, re.I)
    if cuda:
        record.add("environment", "cuda", cuda[1], place)
    commit = re.search(r"\bcommit[:\s`]*\b([0-9a-f]{7,40})\b", text, re.I)
    if commit:
        record.add("code", "git_commit", commit[1], place)
    for line in re.findall(r"\b(?:pip3?|uv pip)\s+install\s+([^`\n]+)", text):
        for word in line.split():
            if re.match(r"^[A-Za-z][\w.-]*(\[[\w,]+\])?(==|>=|<=|~=)", word):
                requirement(record, word.strip("'\""), place)
    for name, version in re.findall(r"^\s*[-*]\s*`?([A-Za-z][\w.-]*)`?\s*(?:==|:|\s)\s*`?v?(\d+\.\d[\w.+]*)`?\s*$", text, re.M):
        if name.lower() not in ("python", "cuda"):
            record.package(name, version, place)
    commands = [c for block in re.findall(r"```(?:bash|sh|shell|console)?\n(.*?)```", text, re.S) for c in block.splitlines()]
    plain = [c.strip().removeprefix("$ ") for c in commands if c.strip() and not c.strip().startswith("#") and "pip install" not in c]
    for n, command in enumerate(plain):
        record.add("code", f"command {n + 1}", command, place)
    _results(record, text, place)


def _results(record: Record, text: str, place: str) -> None:
    """A table with the columns metric and value."""
    head: list[str] = []
    for line in text.splitlines():
        if "|" not in line:
            head = []
            continue
        cells = [c.strip().strip("`*") for c in line.strip().strip("|").split("|")]
        if all(re.fullmatch(r":?-{2,}:?", c) for c in cells):
            continue
        if not head:
            head = [c.lower() for c in cells]
            continue
        row = dict(zip(head, cells, strict=False))
        name = row.get("metric") or row.get("name") or cells[0]
        value = next((row[k] for k in ("value", "expected", "result", "mean") if k in row), cells[1] if len(cells) > 1 else "")
        number = re.match(r"^[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?", value)
        if number and name:
            record.point(name, 0, float(number[0]) / (100 if value.rstrip().endswith("%") else 1))
            record.summary.add(name)
        if row.get("tolerance"):
            record.add("metrics", f"{name} tolerance", row["tolerance"], place)
