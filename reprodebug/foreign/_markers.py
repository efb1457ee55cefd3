"""Which branch of a lock file a project's Python selects: environment markers (PEP 508) for a Linux machine.

Owns where the project's Python is looked up: ``.python-version``, else a virtual environment; where neither is there, any that the
lock allows may be the one. What cannot be evaluated counts as selected: nothing is hidden that might have been installed.
"""

from __future__ import annotations

import posixpath
import re
from functools import lru_cache
from typing import Any

from reprodebug.foreign.tree import Tree


def possible(marker: str) -> bool:
    """Whether a marker selects with any Python on Linux."""
    return any(holds(marker, _variables(f"3.{minor}.0")) for minor in range(8, _NEWEST + 1))


def environments(tree: Tree, place: str, requires: str = "") -> list[dict[str, str]]:
    """The variables of PEP 508 for the project that a lock file belongs to, one mapping for each Python that it may use, the lowest
    first; ``requires``: its ``requires-python``."""
    return [_variables(full) for full in _pythons(tree, posixpath.dirname(place), requires)]


def _variables(full: str) -> dict[str, str]:
    return {
        "python_full_version": full, "python_version": ".".join(full.split(".")[:2]), "implementation_name": "cpython",
        "platform_python_implementation": "CPython", "implementation_version": full, "os_name": "posix", "sys_platform": "linux",
        "platform_system": "Linux", "platform_machine": "x86_64", "platform_release": "", "platform_version": "", "extra": "",
    }  # fmt: skip


def _pythons(tree: Tree, folder: str, requires: str) -> list[str]:
    places = [f"{folder}/.python-version" if folder else ".python-version", ".python-version"]
    for name in places:
        if tree.exists(name):
            found = re.search(r"^[^#\n]*?(\d+\.\d+(?:\.\d+)?)", tree.text(name, 4096), re.M)
            if found:
                return [_full(found[1], requires)]
    for name in tree.match("pyvenv.cfg"):
        found = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+(?:\.\d+)?)", tree.text(name, 1 << 16), re.M)
        if found:
            return [_full(found[1], requires)]
    exact = re.search(r"(?:==|~=|>=|\^|~)\s*(\d+\.\d+(?:\.\d+)?)", requires)
    lowest = _full(exact[1], "") if exact else "3.12.0"
    return [lowest, *(f"3.{minor}.0" for minor in range(int(lowest.split(".")[1]) + 1, _NEWEST + 1) if _allowed(requires, f"3.{minor}.0"))]


_NEWEST = 15
"""minor version of the newest Python that is thought of"""


def _allowed(requires: str, version: str) -> bool:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    text = re.sub(r"\^\s*(\d+)(\.[\d.]+)?", lambda m: f">={m[1]}{m[2] or ''},<{int(m[1]) + 1}", requires)  # Poetry's caret
    text = re.sub(r"(?<![~=<>!])~(?!=)\s*(\d+\.\d+)(\.\d+)?", r"==\1.*", text)
    try:
        return SpecifierSet(text).contains(version)
    except InvalidSpecifier:
        return False


def _full(version: str, requires: str) -> str:
    """Three parts: the lowest patch release that the project allows where none is named."""
    if version.count(".") > 1:
        return version
    found = re.search(rf"{re.escape(version)}\.(\d+)", requires)
    return f"{version}.{found[1] if found else 0}"


def holds(marker: Any, values: dict[str, str]) -> bool:
    """Whether a marker (text, or several of which one is enough) selects. True for none, and for what cannot be told."""
    from packaging.markers import UndefinedComparison, UndefinedEnvironmentName

    if isinstance(marker, dict):  # Poetry 2: one per group
        marker = list(marker.values())
    if isinstance(marker, list):
        return not marker or any(holds(m, values) for m in marker[:50])
    if not isinstance(marker, str) or not marker.strip() or len(marker) > 4000:
        return True
    if re.search(r"\b(extras|dependency_groups)\b", marker):
        return True  # which extras and groups were asked for is not known
    try:
        parsed = _parsed(marker)
        return True if parsed is None else bool(parsed.evaluate(dict(values)))
    except (UndefinedComparison, UndefinedEnvironmentName, ValueError, KeyError, RecursionError):
        return True


@lru_cache(maxsize=4096)
def _parsed(marker: str) -> Any:
    from packaging.markers import InvalidMarker, Marker

    try:
        return Marker(marker)
    except (InvalidMarker, ValueError, RecursionError):
        return None
