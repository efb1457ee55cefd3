"""Two tensor files, tensor by tensor and by name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from reprodebug._base.text import plural, visible
from reprodebug.compare.numbers import compare_bytes
from reprodebug.foreign.protocol import Unreadable
from reprodebug.foreign.tensor_files import Tensors
from reprodebug.model.comparison import (
    Comparison,
    Counts,
    Coverage,
    Difference,
    Divergence,
    LayerDifference,
    Numbers,
    RunSide,
    Tolerance,
    Unobserved,
)

_PHASES = {"parameter": "init", "activation": "forward", "gradient": "backward"}


def compare_tensors(a: Tensors, b: Tensors, tolerance: Tolerance | None = None) -> Comparison:
    """The comparison of two files, in the order of A's names (by step first where names tell one)."""
    tolerance = tolerance or Tolerance()
    partner, said = _partners(a.names, b.names)
    common = [n for n in a.names if n in partner]
    places = {n: a.place(n) for n in common}
    if any(p.step is not None for p in places.values()):
        common.sort(key=lambda n: -1 if (step := places[n].step) is None else step)
    layers: list[LayerDifference] = []
    unread: list[Unobserved] = [Unobserved(n, "in A's file") for n in a.notes] + [Unobserved(n, "in B's file") for n in b.notes]
    compared = 0
    for name in common:
        try:
            x, y = a.load(name), b.load(partner[name])
        except (Unreadable, OSError, ValueError, RuntimeError, MemoryError, TypeError) as error:
            unread.append(Unobserved(visible(name, 100), str(getattr(error, "message", error))[:160]))
            continue
        compared += 1
        alike = (x.dtype, x.shape) == (y.dtype, y.shape)
        if alike and len(x.data) == len(y.data) and bool((x.data == y.data).all()):
            continue
        numbers = compare_bytes(x.data, y.data, x.dtype, x.shape, tolerance) if alike else Numbers()
        where = places[name]
        first = Divergence(
            where.kind, 0, where.step or 0, _PHASES[where.kind], where.module, "", where.tensor, x.shape, x.dtype, None if alike else y.shape,
            None if alike else y.dtype, numbers=numbers,
        )  # fmt: skip
        layers.append(LayerDifference(first, 1, 1))
    lonely = [Difference("tensors", n, "(given)", "(absent)", "notable", "in A's file only") for n in a.names if n not in partner][:200]
    met = set(partner.values())
    lonely += [Difference("tensors", n, "(absent)", "(given)", "notable", "in B's file only") for n in b.names if n not in met][:200]
    verdict, reason = _verdict(layers, lonely, compared, len(common), tolerance)
    return Comparison(
        verdict, reason, _side(a), _side(b), layers[0].first if layers and verdict in ("divergent", "equivalent") else None, tolerance,
        layers=tuple(layers), differences=tuple(lonely),
        counts=Counts(compared, len(layers), len(a.names) - len(common), len(b.names) - len(common), len(unread)),
        coverage=Coverage(compared / max(1, len(a.names) + len(b.names) - len(common)), tuple(unread)),
        not_recorded=(*said, *([a.order] if a.order and a.dump else []), _SAYS_LITTLE),
    )  # fmt: skip


_SAYS_LITTLE = "a tensor file says neither where a difference came from nor what surrounded the run: record both with `reprodebug capture`"
_WRAPPERS = re.compile(r"(?:^|(?<=[./]))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


def _partners(a: Sequence[str], b: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """A's name -> B's name of the same tensor, and what was assumed for it.

    By name; else without what wrappers put in front (DDP's ``module.``, compile's ``_orig_mod.``); else, where the sides share no
    name at all, without what all names of a side begin with (``state_dict.``).
    """
    theirs = set(b)
    found = {n: n for n in a if n in theirs}
    said: list[str] = []
    if len(found) < max(len(a), len(b)):
        plain = _unique(b, {n: _WRAPPERS.sub("", n) for n in b if n not in found})
        more = {n: plain[own] for n, own in ((n, _WRAPPERS.sub("", n)) for n in a if n not in found) if own in plain}
        if len(set(more.values())) == len(more) and more:
            found |= more
            said.append(f"names of wrappers (module., _orig_mod.) were left out to compare {plural(len(more), 'tensor')}")
    if not found and a and b:
        starts = [_start(names) for names in (a, b)]
        plain = {n[len(starts[1]) :]: n for n in b}
        found = {n: plain[n[len(starts[0]) :]] for n in a if n[len(starts[0]) :] in plain}
        if found:
            said.append(f"names were compared without {' and '.join(visible(s, 60) for s in starts if s)} in front")
    return found, said


def _unique(names: Sequence[str], short: dict[str, str]) -> dict[str, str]:
    """Short name -> name, where it stands for one alone."""
    found: dict[str, str] = {}
    twice = set(names) - set(short)
    for name, own in short.items():
        if own in found or own in twice:
            twice.add(own)
        found[own] = name
    return {own: name for own, name in found.items() if own not in twice}


def _start(names: Sequence[str]) -> str:
    """What all names begin with, up to a separator."""
    first, last = min(names), max(names)
    common = first[: next((n for n, (x, y) in enumerate(zip(first, last, strict=False)) if x != y), min(len(first), len(last)))]
    return common[: max(common.rfind("."), common.rfind("/")) + 1]


def _verdict(layers: list[LayerDifference], lonely: list[Difference], compared: int, common: int, tolerance: Tolerance) -> tuple[str, str]:
    if not compared:
        return "incomparable", "the two files share no tensor that can be read" if common else "the two files share no tensor name"
    if layers:
        d = layers[0].first
        if not tolerance.exact and all(x.first.numbers.within is True for x in layers) and not lonely:
            return "equivalent", f"{plural(len(layers), 'tensor')} of {compared} differ, all within the tolerance asked for"
        name = f"{d.module}.{d.tensor}".strip(".")
        step = f" at step {d.step}" if d.step else ""
        return "divergent", f"{visible(name, 100)}{step} is the first to differ, {len(layers)} of {plural(compared, 'tensor')} do"
    if lonely:
        return "divergent", f"all {compared} common tensors are equal, {plural(len(lonely), 'tensor')} stand in one file only"
    return "identical", f"all {plural(compared, 'tensor')} are equal bit for bit"


def _side(t: Tensors) -> RunSide:
    return RunSide(t.path, t.path, True, level="tensors", events=len(t.names), notes=tuple(t.notes[:20]))
