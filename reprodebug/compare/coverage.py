"""How much of the two runs was looked at, and what was not, by name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from reprodebug.model.comparison import Coverage, Unobserved
from reprodebug.model.events import Flag, Kind, Phase

if TYPE_CHECKING:
    from reprodebug.store.trace import Trace

_NAMED = 40


def coverage(a: list[Trace], b: list[Trace]) -> Coverage:
    """Coverage of the side that was observed less.

    The share is the mean of two: the share of parameter elements whose values were fingerprinted, and the share of
    parameter elements that belong to modules whose calls were seen with readable outputs; times the share of records
    that could be read at all.
    """
    sides = [_side(traces) for traces in (a, b)]
    worst = min(sides, key=lambda s: s.share)
    rows: dict[tuple[str, str], None] = {}
    for side in sides:
        for u in side.unobserved:
            rows[(u.what, u.why)] = None
    return Coverage(worst.share, tuple(Unobserved(*r) for r in rows)[:_NAMED])


def _side(traces: list[Trace]) -> Coverage:
    import numpy as np

    total = fingerprinted = called_total = 0
    rows: list[Unobserved] = []
    for trace in traces:
        events = trace.events
        if len(events) == 0:
            continue
        blind_flag = (events["flags"] & Flag.UNOBSERVED) != 0
        site, kind_of = events["site"], events["kind"]
        sizes: dict[tuple[str, str, str], int] = {}
        readable: set[tuple[str, str, str]] = set()
        types: dict[tuple[str, str], str] = {}
        parameters = np.flatnonzero((kind_of == Kind.PARAMETER) & ((events["flags"] & Flag.BUFFER) == 0))
        first = np.full(len(trace.sites), -1, np.int64)
        first[site[parameters[::-1]]] = parameters[::-1]
        for event in events[np.sort(first[first >= 0])]:
            root, module, kind, tensor = trace.sites[event["site"]]
            if root.startswith("optimizer#"):
                continue
            key = (root, module, tensor)
            sizes[key] = math.prod(trace.metas[event["meta"]][0])
            types[(root, module)] = kind
            if not event["flags"] & Flag.UNOBSERVED:
                readable.add(key)
        calls = ((kind_of == Kind.ACTIVATION) | (kind_of == Kind.DATA)) & (events["phase"] == Phase.FORWARD)
        seen = {trace.sites[s][:2] for s in _used(site[calls & ~blind_flag])}
        reached = {trace.sites[s][:2] for s in _used(site[calls])}
        touched = {trace.sites[s][:2] for s in _used(site[kind_of == Kind.GRADIENT]) if not trace.sites[s][3].startswith("output")}
        compiled = {str(m) for note in trace.notes_meta if note.get("type") == "compiled" for m in _names(note)}
        named: set[tuple[str, str]] = set()
        for (root, module, tensor), n in sizes.items():
            total += n
            called_total += n
            key2 = (root, module)
            fingerprinted += n * ((root, module, tensor) in readable)
            if key2 in seen:
                fingerprinted += n
            elif key2 not in named:
                named.add(key2)
                rows.append(Unobserved(_label(root, module, types[key2]), _why(root, module, key2, reached, touched, compiled)))
        reasons: dict[tuple[str, str], None] = {}
        for place, meta in {(int(e["site"]), int(e["meta"])) for e in events[blind_flag][:20_000]}:
            root, module, kind, tensor = trace.sites[place]
            reasons[(f"{_label(root, module, kind)}: {tensor}", trace.metas[meta][4] or "its values could not be read")] = None
        rows += [Unobserved(*r) for r in sorted(reasons)[:_NAMED]]
        rows += [
            Unobserved("CUDA graphs", f"replayed {n.get('replays')} times: what runs inside one does not pass through Python")
            for n in trace.notes_meta
            if n.get("type") == "graphs"
        ]
        rows += [Unobserved("the recorder", str(n.get("what", ""))) for n in trace.notes_meta if n.get("type") == "lost"]
    every = sum(len(t.events) for t in traces)
    if not every:
        return Coverage(0.0, tuple(rows))
    readable_share = 1.0 - sum(int(((t.events["flags"] & Flag.UNOBSERVED) != 0).sum()) for t in traces) / every
    return Coverage((fingerprinted / (total + called_total) if total else 1.0) * readable_share, tuple(rows))


def _used(site: Any) -> list[int]:
    """The numbers that occur, in order."""
    import numpy as np

    return [int(n) for n in np.flatnonzero(np.bincount(site))]


def _names(note: dict[str, object]) -> list[object]:
    found = note.get("modules")
    return found if isinstance(found, list) else []


def _label(root: str, module: str, kind: str) -> str:
    return f"{module} ({kind})" if module else f"{root}"


def _why(
    root: str, module: str, key: tuple[str, str], reached: set[tuple[str, str]], touched: set[tuple[str, str]], compiled: set[str]
) -> str:
    if any(c in (module, root) or module.startswith(c + ".") for c in compiled):
        return "inside a compiled region: its calls do not pass through Python"
    if key in reached:
        return "its calls were seen, their values could not be read"
    if key in touched:
        return (
            "its parameters received gradients, but no call was seen: "
            ".forward() was called directly, or its weights were used by another function"
        )
    return "never called, or called in a way that hooks do not see"
