"""Which module of B is which module of A, where the two models are the same but for names.

Owns the rule: a module that only one run names meets one that only the other names, where both are children of the
same module, come in the same order, and agree in type, settings and everything below. Refuses to match modules that
both runs name: those are compared under their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import SequenceMatcher

Module = tuple[str, str]
"""(outermost module, name inside it)"""
Table = Mapping[Module, tuple[str, str]]
"""module -> (type, settings), in the order of the model"""

_MOST = 20_000
"""modules beyond which nothing is looked for"""


def renames(a: Table, b: Table) -> dict[Module, Module]:
    """B's module -> A's module, for every module of B that has another name in A; empty for most pairs."""
    if a.keys() == b.keys() or len(a) + len(b) > _MOST:
        return {}
    found: dict[Module, Module] = {}
    roots = list(dict.fromkeys(r for r, _ in a)), list(dict.fromkeys(r for r, _ in b))
    only = [r for r in roots[0] if r not in roots[1]], [r for r in roots[1] if r not in roots[0]]
    shapes = [[_shape(t, root, "", top=True) for root in own] for t, own in zip((a, b), only, strict=True)]
    pairs = [(r, r) for r in roots[1] if r in roots[0]]
    for i, j, n in SequenceMatcher(None, shapes[0], shapes[1], autojunk=False).get_matching_blocks():
        pairs += [(only[0][i + k], only[1][j + k]) for k in range(n)]
    for root_a, root_b in pairs:
        _children(a, b, (root_a, ""), (root_b, ""), found)
    return {mine: other for mine, other in found.items() if mine != other}


def _children(a: Table, b: Table, above_a: Module, above_b: Module, found: dict[Module, Module]) -> None:
    found[above_b] = above_a
    names = _below(a, above_a), _below(b, above_b)
    shared = set(names[0]) & set(names[1])
    pairs = [(n, n) for n in names[1] if n in shared]
    left = [[n for n in own if n not in shared] for own in names]
    shapes = [[_shape(t, m[0], _join(m[1], n)) for n in own] for t, m, own in zip((a, b), (above_a, above_b), left, strict=True)]
    for i, j, n in SequenceMatcher(None, shapes[0], shapes[1], autojunk=False).get_matching_blocks():
        pairs += [(left[0][i + k], left[1][j + k]) for k in range(n)]
    for mine, other in pairs:
        _children(a, b, (above_a[0], _join(above_a[1], mine)), (above_b[0], _join(above_b[1], other)), found)


def _join(above: str, name: str) -> str:
    return f"{above}.{name}" if above else name


def _below(table: Table, module: Module) -> list[str]:
    """Names of the direct children, in order."""
    root, name = module
    start = f"{name}." if name else ""
    return [n[len(start) :] for r, n in table if r == root and n and n.startswith(start) and "." not in n[len(start) :]]


def _shape(table: Table, root: str, name: str, top: bool = False) -> tuple[tuple[str, str], ...]:
    """Types and settings of a module and of all below it; an outermost module's own type is its name, and left out."""
    start = f"{name}." if name else ""
    own = () if top else (table[root, name],)
    return own + tuple(v for (r, n), v in table.items() if r == root and n and n.startswith(start))
