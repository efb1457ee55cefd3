"""Uncommitted changes, file by file: a recorded patch taken apart, and one that holds some of its files."""

from __future__ import annotations

import re
from collections.abc import Collection

_HEAD = re.compile(r"^diff --git (?=[\"a])", re.M)


def sections(patch: str) -> dict[str, str]:
    """Path of a changed file -> its part of the patch, without those that say only that a binary file differs."""
    starts = [m.start() for m in _HEAD.finditer(patch)]
    found = {}
    for start, end in zip(starts, [*starts[1:], len(patch)], strict=False):
        part = patch[start:end]
        if not re.search(r"^Binary files .* differ$", part, re.M):
            found[_path(part)] = part
    return found


def binary(patch: str) -> list[str]:
    """The changed files whose content a patch does not hold."""
    return re.findall(r"^Binary files .* and (?:b/)?(.*) differ$", patch, re.M)


def differing(a: str, b: str) -> list[str]:
    """The files in which two patches of one commit differ."""
    left, right = sections(a), sections(b)
    return [p for p in dict.fromkeys([*left, *right]) if left.get(p) != right.get(p)]


def mixed(a: str, b: str, chosen: Collection[str]) -> str:
    """The patch ``a``, with the chosen files as ``b`` has them."""
    left, right = sections(a), sections(b)
    paths = dict.fromkeys([*left, *right])
    return "".join((right if p in chosen else left).get(p, "") for p in paths)


def _path(part: str) -> str:
    """The file that a part of a patch leads to, from the lines that name one file alone."""
    for mark in (r"\+\+\+ \"?b/", 'rename to "?', '--- "?a/'):
        line = re.search(rf"^{mark}(.*?)\"?\t?$", part, re.M)
        if line:
            return line[1]
    line = re.match(r"diff --git a/(.*) b/\1$", part.partition("\n")[0])  # a change of mode, or an empty file
    return line[1] if line else part.partition("\n")[0]
