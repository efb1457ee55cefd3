"""Which of the things that the user gave the two runs could have led to the first divergence, and how likely.

Owns the relevance of an option, a file, a package or a variable to a stage of a training step, by name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reprodebug.compare.history import module_table
from reprodebug.compare.sources import ONE_SIDED
from reprodebug.diagnose.rule import belongs
from reprodebug.diagnose.scene import Scene
from reprodebug.model.comparison import Difference

_WORDS: dict[str, str] = {
    "init": """init seed layer depth width hidden dim head arch model block embed vocab weight pretrain checkpoint ckpt resume tie
        aux extra""",
    "loaded": "weight pretrain checkpoint ckpt resume load ema init preempt restore",
    "data": """data batch shuffle worker order sort augment aug crop flip noise sampl split fold drop_?last seq context block token
        vocab image path file cache norm scale limit subset seed print log eval every resume preempt prefetch round size""",
    "forward": """drop activation act norm eps precision amp fp16 bf16 half dtype autocast compile attn attention flash sdpa backend
        layer head hidden dim arch model eval train mode scale temperature checkpoint round tie bias mkldnn onednn tf32 determin""",
    "loss": "loss criterion smooth label weight reduction margin temperature aux lambda alpha beta gamma scale",
    "backward": "loss scale accum clip checkpoint precision amp determin thread smooth weight micro",
    "optimizer": """lr learning optim momentum decay beta eps sched warm anneal cosine clip accum fused foreach step gamma nesterov
        ema scale wd resume""",
}
_PATTERNS = {stage: re.compile("|".join(words.split()), re.I) for stage, words in _WORDS.items()}


def relates(stage: str, name: str) -> bool:
    """Whether an option or variable of this name has to do with this stage (see ``Scene.stage``), or with seeds."""
    return bool(_PATTERNS[stage].search(name) or re.search("seed", name, re.I))


@dataclass(frozen=True, slots=True)
class Trigger:
    """One difference in what the runs were given."""

    difference: Difference
    weight: float
    """0 to 1: how well it explains a divergence of this stage"""


def triggers(s: Scene) -> list[Trigger]:
    """Options, configuration keys, changed files and packages that could have led to it, best first.

    A file of a package of another version did not change by itself: the package stands for it.
    """
    found: dict[str, Trigger] = {}
    for d in s.differences:
        weight = _weight(s, d)
        shown = (package(s, d.key) if d.section == "code" else None) or d
        if weight > 0 and (shown.key not in found or weight > found[shown.key].weight):
            found[shown.key] = Trigger(shown, weight)
    return sorted(found.values(), key=lambda t: -t.weight)


def upgraded(s: Scene) -> list[Difference]:
    """Imported packages that are of another version, or installed from elsewhere."""
    names = {**s.sides[0].part("packages"), **s.sides[1].part("packages")}
    return [d for d in s.differences if d.section == "environment" and (d.key in names or d.key.endswith("(installed from)"))]


def package(s: Scene, path: str) -> Difference | None:
    """The package of another version that a source file belongs to, by its name or that of its folder."""
    folders = {**s.sides[0].part("folders"), **s.sides[1].part("folders")}
    own = {str(name) for folder, name in folders.items() if belongs(path, str(folder))}
    return next((d for d in upgraded(s) if belongs(path, d.key) or d.key.partition(" ")[0] in own), None)


def nearness(s: Scene, d: Difference) -> int:
    """2: a changed file defines what computes the first difference, or what calls it; 0: nothing but other modules; else 1."""
    table = module_table(s.pair.a.notes_meta)
    above = [s.first.module]
    while above[-1]:
        above.append(above[-1].rpartition(".")[0])
    roots = {s.first.root} if s.first.root else {root for root, _ in table}
    types = {kind for kind, _ in table.values()}
    own = {kind for (root, name), (kind, _) in table.items() if root in roots and name in above} if s.stage != "data" else set()
    changed = {
        re.sub(r"^class ", "", part.strip()) for m in re.findall(r"\((.+)\)", f"{d.a}\n{d.b}") for part in re.split(r"[,;:]| changed", m)
    }
    classes = {part.partition(".")[0] for part in changed if part and part != "only here"}
    return 2 if classes & own else 0 if classes and classes <= types else 1


def _weight(s: Scene, d: Difference) -> float:
    critical = d.severity == "critical"
    if d.section == "config":
        if re.match(r"DataLoader#", d.key):
            return 0.0  # the data rules read these
        if d.key.startswith("optimizer#"):
            return 0.0
        if d.key.startswith("module "):
            return 0.0
        name = d.key.lstrip("-").rpartition(": ")[2]
        if name == d.key and re.search(r"\.\w+$", name):  # a whole file: its lines are the values
            name = f"{d.a} {d.b}"
        related = bool(_PATTERNS[s.stage].search(name) or (s.first.module_type.endswith("Loss") and _PATTERNS["loss"].search(name)))
        return (0.85 if related else 0.45) * (1.0 if critical else 0.7)
    if d.section == "code":
        if d.key.startswith("module "):
            return 0.0
        if d.key in ("commit", "uncommitted changes", "branch") or d.reason.startswith("untracked"):
            return 0.25 if critical or d.severity == "notable" else 0.0
        return 0.8 if critical else 0.6 if d.reason == ONE_SIDED else 0.35
    return 0.0


def best(s: Scene, pattern: str = "", most: int = 2) -> list[Difference]:
    """The differences most likely behind a mechanism: options whose name matches, then what matches otherwise, else the likeliest of all."""
    rated = triggers(s)
    found = [t.difference for t in rated if t.weight > 0.5 * rated[0].weight]  # beside a changed file its commit says nothing
    if pattern:
        wanted = re.compile(pattern, re.I)
        matching = [d for d in found if wanted.search(d.key) or wanted.search(d.b) or wanted.search(d.a)]
        found = sorted(matching, key=lambda d: not (d.section == "config" and wanted.search(d.key))) or found
    return found[:most]


def resuming(s: Scene) -> list[Difference]:
    """What made one run stop and go on from a checkpoint; nothing where it is plain: it trains in several processes."""
    return [] if s.cut else best(s, r"resume|preempt|restart|checkpoint|ckpt|load|interrupt|stop")
