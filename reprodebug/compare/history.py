"""What the two programs did beside their tensors, in order: modules they built, generators they seeded, folders they
listed, files they read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from reprodebug.compare.importance import CRITICAL, HARMLESS, NOTABLE
from reprodebug.compare.surroundings import ABSENT, Side
from reprodebug.model.comparison import Difference
from reprodebug.model.run import Manifest

if TYPE_CHECKING:
    from reprodebug.compare.runs import Pair

_SHOWN = 4
_MOST = 40
"""differences of one kind that are listed"""


def history_differences(pairs: list[Pair], manifests: tuple[Manifest, Manifest]) -> list[Difference]:
    """Differences of rank 0's history; places inside each run's own folder are compared by their relative names."""
    if not pairs:
        return []
    sides = Side(manifests[0]), Side(manifests[1])
    notes = pairs[0].a.notes_meta, pairs[0].b.notes_meta
    return [*_modules(notes, pairs[0].align.renamed), *_seeds(notes, sides), *_listings(notes, sides), *_reading_order(notes, sides)]


Notes = list[dict[str, Any]]


def module_table(notes: Notes) -> dict[tuple[str, str], tuple[str, str]]:
    """(outermost module, name) -> (type, settings), as first described."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for note in notes:
        if note.get("type") == "modules" and isinstance(note.get("modules"), list):
            for row in note["modules"]:
                if isinstance(row, list) and len(row) == 3:
                    found.setdefault((str(note.get("root")), str(row[0])), (str(row[1]), str(row[2])))
    return found


def same_names(
    table: dict[tuple[str, str], tuple[str, str]], renamed: dict[tuple[str, str], tuple[str, str]]
) -> dict[tuple[str, str], tuple[str, str]]:
    """B's table of modules under A's names."""
    return {renamed.get(key, key): row for key, row in table.items()} if renamed else table


def _modules(notes: tuple[Notes, Notes], renamed: dict[tuple[str, str], tuple[str, str]]) -> list[Difference]:
    a, b = module_table(notes[0]), same_names(module_table(notes[1]), renamed)
    found = []
    for mine, other in renamed.items():
        above = tuple((root, name.rpartition(".")[0]) for root, name in (mine, other))
        if other[1] and renamed.get(above[0], above[0]) == above[1] and mine[1].rpartition(".")[2] == other[1].rpartition(".")[2]:
            continue  # only what is above it was renamed
        found.append(
            Difference(
                "code", f"module {other[1] or other[0]}", other[1] or other[0], mine[1] or mine[0], HARMLESS, "only its name differs"
            )
        )
    for key in [k for k in {**a, **b} if a.get(k) != b.get(k)]:
        x, y = a.get(key), b.get(key)
        name = f"module {key[1] or key[0]}"
        if x is not None and y is not None:
            changed = [_changed(p, q) for p, q in ((x, y), (y, x))] if x[0] == y[0] else [f"{t}({s})" if s else t for t, s in (x, y)]
            found.append(Difference("config", name, changed[0], changed[1], CRITICAL, "a layer was built with other settings"))
        else:
            shown = [ABSENT if v is None else f"{v[0]}({v[1]})" if v[1] else v[0] for v in (x, y)]
            found.append(Difference("code", name, shown[0], shown[1], NOTABLE, "a module that only one of the models has"))
    return found[:_MOST]


def _changed(a: tuple[str, str], b: tuple[str, str]) -> str:
    """The settings of ``a`` that ``b`` has not: ``p=0.1`` of ``p=0.1, inplace=False``."""
    mine, other = a[1].split(", "), b[1].split(", ")
    placed = [(w, w in other if "=" in w else other[n : n + 1] == [w]) for n, w in enumerate(mine)]  # of `32, 8` each is its place
    return f"{a[0]}({', '.join(w for w, same in placed if not same)})"


def seeds(notes: Notes, side: Side) -> list[dict[str, str]]:
    """The ledger of seeding: generator, seed, step, and the line that gave it, relative to the run's own folder; ``drawn_from``
    names the state from which numbers had been drawn before a generator's first seed, empty where none had; ``by`` the function of
    a package that made the generator, empty where the program did."""
    rows = [n for n in notes if n.get("type") == "seed"]
    return [
        {k: str(n.get(k, "")) for k in ("generator", "seed", "step", "drawn_from", "by")} | {"where": side.neutral(str(n.get("where")))}
        for n in rows
    ]


def _seeds(notes: tuple[Notes, Notes], sides: tuple[Side, Side]) -> Iterator[Difference]:
    tables: list[dict[str, list[str]]] = []
    for own, side in zip(notes, sides, strict=True):
        table: dict[str, list[str]] = {}
        for row in seeds(own, side):
            table.setdefault(row["generator"], []).append(f"{row['seed']} by {row['where']}")
        tables.append(table)
    for name in sorted({*tables[0], *tables[1]}):
        x, y = tables[0].get(name, []), tables[1].get(name, [])
        if [r.partition(" by ")[0] for r in x] != [r.partition(" by ")[0] for r in y]:
            at = next(
                (n for n, (p, q) in enumerate(zip(x, y, strict=False)) if p.partition(" ")[0] != q.partition(" ")[0]), min(len(x), len(y))
            )
            shown = [rows[at] if at < len(rows) else ABSENT for rows in (x, y)]
            both = CRITICAL if at < len(x) and at < len(y) else NOTABLE
            yield Difference("random-state", f"seed of {name}", shown[0], shown[1], both, "the generator was seeded otherwise")


def _listings(notes: tuple[Notes, Notes], sides: tuple[Side, Side]) -> Iterator[Difference]:
    tables: list[dict[str, Mapping[str, Any]]] = []
    for own, side in zip(notes, sides, strict=True):
        table: dict[str, Mapping[str, Any]] = {}
        for n in own:
            if n.get("type") == "listing":
                table.setdefault(side.neutral(str(n.get("path"))) or ".", n)
        tables.append(table)
    for path in sorted(tables[0].keys() & tables[1].keys()):
        x, y = tables[0][path], tables[1][path]
        if x.get("order") == y.get("order"):
            continue
        shown = [", ".join(map(str, n.get("first", ())[:_SHOWN])) + f" … ({n.get('count')} names)" for n in (x, y)]
        if x.get("names") == y.get("names"):
            rated = NOTABLE, "the file system gives the same names in another order"
        elif path == ".":
            rated = HARMLESS, "the run's own folder holds other files; those that were read are compared by themselves"
        else:
            rated = NOTABLE, "the folder holds other files"
        yield Difference("data", f"listing of {path}", shown[0], shown[1], *rated)


def reads(notes: Notes, side: Side) -> dict[str, dict[str, Any]]:
    """Data files read, in order of their first reading: relative path -> record."""
    found: dict[str, dict[str, Any]] = {}
    for n in notes:
        if n.get("type") == "file" and n.get("mode") == "read":
            found.setdefault(side.neutral(str(n.get("path"))), n)
    return found


def _reading_order(notes: tuple[Notes, Notes], sides: tuple[Side, Side]) -> Iterator[Difference]:
    a, b = reads(notes[0], sides[0]), reads(notes[1], sides[1])
    order_a, order_b = [p for p in a if p in b], [p for p in b if p in a]
    if order_a == order_b:
        return
    at = next(n for n, (x, y) in enumerate(zip(order_a, order_b, strict=True)) if x != y)
    shown = [", ".join(os.path.basename(p) for p in order[at : at + _SHOWN]) + " …" for order in (order_a, order_b)]
    threads = {str(n["thread"]).rstrip("0123456789") for table in (a, b) for n in table.values() if n.get("thread")}
    why = "the same files were read in another order"
    if threads:
        why += f", by several threads ({', '.join(sorted(threads)[:3])})"
    yield Difference("data", "order of files read", shown[0], shown[1], CRITICAL, why)
