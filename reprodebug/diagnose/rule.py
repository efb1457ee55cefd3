"""What a rule is: a function from the scene of a first divergence to drafts of causes.

A rule names what it needs to have been recorded; where that is missing the draft loses confidence and says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from reprodebug._base.text import visible
from reprodebug.diagnose.scene import Scene
from reprodebug.model.comparison import Difference

CATEGORIES = (
    "environment", "random-state", "data", "hardware", "race", "implicit-state", "code", "configuration", "precision",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Draft:
    """A cause before it is ranked."""

    category: str
    summary: str
    evidence: tuple[str, ...]
    remedy: str
    strength: float
    """0 to 1: how sure, if nothing else explained the divergence as well"""
    uses: frozenset[str] = frozenset()
    """keys of the differences that it explains the divergence by"""
    within: bool = False
    """it would make the same program differ from itself at every launch"""
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A named rule."""

    name: str
    needs: tuple[str, ...]
    """facts of ``Scene.missing`` without which it is less sure"""
    find: Callable[[Scene], Iterable[Draft]]


RULES: list[Rule] = []
"""all of them, in the order in which their modules are imported"""


def rule(name: str, *needs: str) -> Callable[[Callable[[Scene], Iterator[Draft]]], Callable[[Scene], Iterator[Draft]]]:
    """Register a rule."""

    def register(find: Callable[[Scene], Iterator[Draft]]) -> Callable[[Scene], Iterator[Draft]]:
        RULES.append(Rule(name, needs, find))
        return find

    return register


def said(d: Difference) -> str:
    """One difference in words."""
    return f"{visible(d.key, 100)}: {visible(d.a, 120)} in A, {visible(d.b, 120)} in B ({visible(d.reason, 120)})"


def named(d: Difference) -> str:
    """One difference in few words, for a summary."""
    a, b = visible(d.a, 60), visible(d.b, 60)
    key = visible(d.key, 80)
    if d.section == "code" and (functions := _functions(d)):  # which functions, not the hashes
        return f"{key} ({functions})"
    if d.a == "(absent)":
        return f"{key} (in B only)" if d.b == "(given)" else f"{key} ({b}, in B only)"
    if d.b == "(absent)":
        return f"{key} (in A only)" if d.a == "(given)" else f"{key} ({a}, in A only)"
    return f"{key} ({a} in A, {b} in B)"


def _functions(d: Difference) -> str:
    """``f and g changed; only in B: h``, of the two sides of a changed source; empty where they do not name them."""
    changed: dict[str, None] = {}
    alone = ["", ""]
    for n, text in enumerate((d.a, d.b)):
        m = re.fullmatch(r"[0-9a-f]{12} \((.+)\)", text)
        for part in m[1].split("; ") if m else []:
            names = part.removeprefix("only here: ").removesuffix(" changed").split(", ")
            if part.startswith("only here: "):
                alone[n] = f"only in {'AB'[n]}: {visible(listed(names, 3), 60)}"
            else:
                changed |= dict.fromkeys(names)
    return "; ".join(filter(None, (f"{visible(listed(changed, 3), 80)} changed" if changed else "", *alone)))


def leading(found: list[Difference], *, one_of: bool = False) -> str:
    """What leads to a cause, for the end of its summary; empty where nothing does. ``one_of``: which of them is not known."""
    if one_of and len(found) > 1:
        return f"; {' or '.join(map(named, found))} may lead there"
    return f"; {listed(named(d) for d in found)} lead{'' if len(found) > 1 else 's'} there" if found else ""


def belongs(path: str, package: str) -> bool:
    """Whether a source file lies in the folder of an installed package."""
    folder = package.partition(" ")[0].replace("-", "_").lower()
    return f"/{folder}/" in f"/{path.lower()}" or path.lower().endswith(f"/{folder}.py")


def listed(words: Iterable[str], most: int = 4) -> str:
    """``a, b and c``; what is beyond ``most`` is counted."""
    found = list(words)
    if len(found) > most:
        found = [*found[: most - 1], f"{len(found) - most + 1} more"]
    return ", ".join(found[:-1]) + (" and " if len(found) > 1 else "") + found[-1] if found else ""
