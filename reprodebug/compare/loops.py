"""Differences of the training loop itself: DataLoaders, optimizers and their hyper-parameters, settings during the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reprodebug.model.comparison import Difference

if TYPE_CHECKING:
    from reprodebug.compare.runs import Pair

ABSENT = "(absent)"
_IGNORED = frozenset({"type", "seq", "step", "number"})


def loop_differences(pairs: list[Pair]) -> list[Difference]:
    """What the loaders and optimizers of rank 0 were told, where the two runs differ; the first time each."""
    rows: dict[str, Difference] = {}
    for pair in pairs[:1]:
        for kind, section in (("loader", "config"), ("optimizer", "config")):
            a, b = _notes(pair.a, kind), _notes(pair.b, kind)
            for number in sorted(set(a) | set(b)):
                if number not in a or number not in b:
                    present = (a.get(number) or b[number])[0]
                    what = str(present.get("class") or present.get("dataset"))
                    key = _key(kind, number)
                    sides = (what, ABSENT) if number in a else (ABSENT, what)
                    rows[key] = Difference(section, key, *sides, "notable", f"only one run has this {kind}")
                    continue
                for note_a, note_b in _together(kind, a[number], b[number]):
                    _walk(rows, section, _key(kind, number), kind, note_a, note_b)
    return list(rows.values())


def _notes(trace: Any, kind: str) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for note in trace.notes_meta:
        if note.get("type") == kind and isinstance(note.get("number"), int):
            found.setdefault(note["number"], []).append(note)
    return found


def _together(kind: str, a: list[dict[str, Any]], b: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Notes that belong together: a loader's by order; an optimizer's by what holds at each step where either changed, up
    to the last step at which both had said something or gone on."""
    if kind == "loader":
        return list(zip(a, b, strict=False))
    found = []
    for step in sorted({int(n.get("step", 0)) for n in (*a, *b)}):
        now = [[n for n in notes if int(n.get("step", 0)) <= step] for notes in (a, b)]
        if now[0] and now[1]:
            found.append(({**now[0][-1], "step": step}, {**now[1][-1], "step": step}))
    return found


def _key(kind: str, number: int) -> str:
    return f"DataLoader#{number}" if kind == "loader" else f"optimizer#{number}"


def _walk(rows: dict[str, Difference], section: str, prefix: str, kind: str, a: dict[str, Any], b: dict[str, Any]) -> None:
    step = a.get("step")
    flat_a, flat_b = _flat(a), _flat(b)
    for name in sorted(set(flat_a) | set(flat_b)):
        va, vb = flat_a.get(name, ABSENT), flat_b.get(name, ABSENT)
        key = f"{prefix}.{name}"
        if va == vb or key in rows:
            continue
        if name == "base_seed":
            severity, reason = "notable", "the seed of the workers is drawn from torch's generator, whose state differed"
        else:
            what = "DataLoader was built" if kind == "loader" else "optimizer was set" if step else "optimizer was built"
            severity, reason = "critical", f"the {what} differently"
        at = f" at step {step}" if step else ""
        rows[key] = Difference(section, key, f"{va}{at}", f"{vb}{at}", severity, reason)


def _flat(note: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in note.items():
        if name in _IGNORED:
            continue
        if name == "groups" and isinstance(value, list):
            for n, group in enumerate(value):
                flat.update({(k if len(value) == 1 else f"group{n}.{k}"): v for k, v in group.items()})
        else:
            flat[name] = value
    return flat
