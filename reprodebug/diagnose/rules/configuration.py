"""Configuration: options, configuration files, hyper-parameters of optimizer and layers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from reprodebug.diagnose.rule import Draft, leading, listed, named, rule, said
from reprodebug.diagnose.scene import CHECKPOINT, Scene
from reprodebug.diagnose.triggers import best, triggers, upgraded
from reprodebug.model.comparison import Difference

_SAME_VERSIONS = "Install the same versions of the packages in both environments (pip freeze, a lock file)."
_SETTINGS_FILE = re.compile(r"(^|[/_])(conf|cfg|setting|h?param|default|option|exp)[a-z]*(/.*|_\w+)?\.py$", re.I)
"""a source whose name says that it holds settings"""
_IMPLEMENTATION = re.compile(r"\.(fused|foreach|capturable|differentiable)$")


@rule("optimizer settings")
def optimizer_settings(s: Scene) -> Iterator[Draft]:
    """The optimizer was told something else: learning rate, momentum, schedule, implementation."""
    found = [d for d in s.find(r"^optimizer#", "config") if not d.key.endswith(".n_params") and "only one run" not in d.reason]
    grouped = [] if found or s.stage != "optimizer" else _grouped(s)
    found = found or grouped
    if not found:
        return
    now = [d for d in found if _by_now(s, d.a) and _by_now(s, d.b)]
    likely = {"optimizer": 0.95, "forward": 0.3, "loss": 0.2, "backward": 0.15, "data": 0.05, "init": 0.03, "loaded": 0.1}[s.stage]
    if s.stage in ("forward", "loaded") and any("LBFGS" in str(n.get("class")) for n in s.notes("optimizer")[1]):
        likely = 0.93  # it evaluates the model inside its step
    if not now:
        likely *= 0.2
    chosen = now or found
    words = r"lr|learning|optim|momentum|decay|beta|sched|warm|fused|foreach|wd|nesterov|gamma|batch"
    trigger = (best(s, words) + s.variables_used)[:2] or _read_otherwise(s)
    suspects = [] if trigger else _built_by(s)
    trigger = trigger or suspects
    packaged = bool(trigger) and trigger[0] in upgraded(s)
    likely *= 0.85 if len(suspects) > 1 else 1
    keys = ["groups of parameters (weight_decay, lr)"] if grouped else [d.key.rpartition(".")[2] for d in chosen]
    what = "is computed by another implementation" if all(_IMPLEMENTATION.search(d.key) for d in chosen) else "has other hyper-parameters"
    if grouped:
        what = "has its parameters in other groups"
    summary = f"the optimizer {what}: {listed((named(d) for d in chosen), 3)}" + leading(
        trigger, one_of=len(suspects) > 1 or {"config", "code"} <= {d.section for d in trigger}
    )
    evidence = [*(said(d) for d in [*chosen[:4], *trigger]), f"first to differ: {s.place}"]
    evidence += [f"equal before: {row.removesuffix(': equal')}" for row in s.equal[-4:]]
    remedy = _SAME_VERSIONS if packaged else f"Use the same {listed(dict.fromkeys(keys), 3)} in both runs."
    if s.resumed is not None and any(n.get("step") for n in s.notes("optimizer")[s.resumed[0]]):
        side, loaded = "AB"[s.resumed[0]], s.resumed[1]
        summary = f"{side} resumes from the checkpoint {loaded[0]} without the state of its scheduler or optimizer: " + summary
        evidence.append(f"{side} alone reads the checkpoint {listed(loaded, 2)} in the middle of the run, and makes a new optimizer")
        remedy = "Save and load the state_dict() of the scheduler with the optimizer's and the model's."
        yield Draft("implicit-state", summary, tuple(evidence), remedy, likely, frozenset([*loaded, *(d.key for d in [*found, *trigger])]))
        return
    if not trigger and not [d for d in s.given if d.section in ("config", "code")]:
        yield _computed(s, summary, evidence, likely, frozenset(d.key for d in found))
        return
    category = "environment" if packaged else "configuration"
    if trigger and trigger[0].section == "code" and not packaged and not _SETTINGS_FILE.search(trigger[0].key):
        category, remedy = "code", f"Compare what changed in {trigger[0].key}. {remedy}"
    yield Draft(category, summary, tuple(evidence), remedy, likely, frozenset(d.key for d in [*found, *trigger]))


def _grouped(s: Scene) -> list[Difference]:
    """The sizes of an optimizer's groups, where as many parameters lie in other groups."""
    found = s.find(r"^optimizer#\d+\.group\d+\.n_params$", "config")
    sizes = [[int(x) for x in values if x.isdigit()] for values in ([d.a for d in found], [d.b for d in found])]
    return found if found and sum(sizes[0]) == sum(sizes[1]) else []


def _built_by(s: Scene) -> list[Difference]:
    """Packages of another version, where nothing else was given that could have built the model or the optimizer otherwise."""
    return [] if [d for d in s.given if d.section in ("config", "code")] else upgraded(s)[:2]


def _computed(s: Scene, summary: str, evidence: list[str], likely: float, uses: frozenset[str]) -> Draft:
    """A hyper-parameter that differs between two launches of one command: the program computes it from what differs at each."""
    evidence.append(f"{s.launched}: the value is computed while the program runs")
    drawn = [
        h
        for name, kind in (("numpy.random", "numpy-global"), ("python.random", "python-global"))
        if name in s.parted and not all(s.seeded(name))
        for h in s.hint(kind)
    ]
    clock = s.hint("clock")
    lines = drawn or clock
    evidence += [f"differs at every launch: {h.place}" for h in lines[:3]]
    if not lines:
        return Draft("implicit-state", summary + "; where the value comes from is not known", tuple(evidence), "Print where the value comes from, and fix it.",
                     0.5 * likely, uses, within=True)  # fmt: skip
    how = "drawn from a generator that is not seeded" if drawn else "computed from the clock or another value made anew at each launch"
    summary += f"; it is {how} ({lines[0].file}:{lines[0].line}: {lines[0].text})"
    remedy = "Seed the generator." if drawn else "Let it depend on the step or the epoch, not on time."
    return Draft("random-state" if drawn else "implicit-state", summary, tuple(evidence), remedy, 0.85 * likely, uses, within=True)


def _by_now(s: Scene, value: str) -> bool:
    m = re.search(r" at step (\d+)$", value)
    return m is None or int(m[1]) <= s.first.step


@rule("layer settings", "ledger")
def layer_settings(s: Scene) -> Iterator[Draft]:
    """A layer was built with other settings: dropout probability, eps, width."""
    found = [d for d in s.find(r"^module ", "config") if "other settings" in d.reason]
    if not found:
        return
    name = s.first.module
    own = [d for d in found if d.key == f"module {name}" or (name and d.key.startswith(f"module {name}.")) or (not name)]
    likely = {"forward": 0.94, "init": 0.9, "loss": 0.6, "backward": 0.6, "data": 0.1, "optimizer": 0.4, "loaded": 0.7}[s.stage]
    if not own and s.stage != "init":
        likely *= 0.5
    chosen = own or found
    trigger = best(
        s, "|".join(re.escape(w) for d in chosen[:3] for w in re.findall(r"([a-z_]+)=", d.a + d.b)) or r"drop|eps|dim|hidden|layer"
    )
    suspects: list[Difference] = []
    settings: list[Difference] = []
    compiled = next((d for d in chosen if ("OptimizedModule" in d.a) != ("OptimizedModule" in d.b)), None)
    summary = f"{listed((named(d) for d in chosen), 3)}: the layer is built with other settings"
    if compiled is not None:
        trigger = best(s, r"compile|fast|optim|jit|speed") or s.variables_used[:1]
        summary = f"the model is compiled (torch.compile) in {'A' if 'OptimizedModule' in compiled.a else 'B'} only: fused kernels round otherwise"
    elif settings := [] if (trigger or s.variables_used or _sizes_only(chosen)) else _read_otherwise(s):
        trigger = settings
    elif suspects := [] if (trigger := trigger or s.variables_used[:1]) else _built_by(s):
        trigger = suspects
        likely *= 0.85 if len(suspects) > 1 else 1
    elif not trigger:
        likely *= 0.5
        summary += "; nothing that the runs were given names it, so it follows from what the program reads or counts"
    summary += leading(trigger, one_of=len(suspects) > 1)
    packaged = bool(trigger) and trigger[0] in upgraded(s)
    category = "environment" if packaged else "code" if trigger and trigger[0].section == "code" else "configuration"
    yield Draft(
        category,
        summary,
        tuple(said(d) for d in [*chosen[:4], *trigger]),
        "Compile the model in both runs or in neither, or compare with a tolerance."
        if compiled is not None
        else _SAME_VERSIONS
        if packaged
        else f"Compare {listed((d.key for d in settings if d.section == 'data'), 3)}, and use the same settings in both runs."
        if settings
        else f"Compare what changed in {trigger[0].key}, and build the model with the same settings in both runs."
        if category == "code" and "(absent)" not in (trigger[0].a, trigger[0].b)
        else f"Look at {trigger[0].key}, which {'A' if trigger[0].b == '(absent)' else 'B'} alone imports."
        if category == "code"
        else "Build the model with the same settings in both runs.",
        likely,
        frozenset(d.key for d in [*found, *trigger]),
    )


_SIZES = re.compile(r"\w*(features|embeddings|channels|dim|size|classes)|normalized_shape|\d+")


def _sizes_only(found: list[Difference]) -> bool:
    """Whether the layers differ in sizes alone, which a program also counts from its data."""
    named = [set(re.findall(r"(\w+)=([^,()]+)", text)) for d in found for text in (d.a, d.b)]
    return all(_SIZES.fullmatch(name) for a, b in zip(named[::2], named[1::2], strict=True) for name, _ in a ^ b)


def _read_otherwise(s: Scene) -> list[Difference]:
    """The files that the settings may come from: of other content, or of one name in the folders of A and of B; and what led there."""
    found = s.find("other content", "data", text="reason")[:1]
    if not found:
        alone = s.find(r"^read by one run only", "data", text="reason")
        names = [{os.path.basename(d.key) for d in alone if (d.a, d.b)[n] == "(absent)"} for n in (0, 1)]
        found = [d for d in alone if os.path.basename(d.key) in names[0] & names[1]]
    if not 0 < len(found) <= 2 or any(CHECKPOINT.search(d.key) for d in found):
        return []
    only_a, only_b = ([d.key for d in found if (d.b, d.a)[n] == "(absent)"] for n in (0, 1))
    return found + s.leading_to(only_a, only_b)[:1]


@rule("parameters that one run trains")
def trained(s: Scene) -> Iterator[Draft]:
    """Parameters have a gradient in one run only: frozen, detached, or no parameter there."""
    names = s.trained_alone
    if not any(names):
        return
    side, other = ("A", "B") if names[0] else ("B", "A")
    mine = names[0] or names[1]
    built = s.find(r"^optimizer#.*\.n_params$", "config")
    trigger = best(s, r"freez|frozen|train|grad|detach|tune|lora|layer|head|backbone|stem|encoder") or s.variables_used[:1]
    summary = f"{side} alone trains {listed(mine, 3)}: in {other} no gradient reaches {'it' if len(mine) == 1 else 'them'}"
    summary += leading(trigger, one_of=len(trigger) > 1)
    evidence = [
        f"has a gradient in {side} only: {listed(mine, 6)}",
        *(said(d) for d in [*built[:2], *trigger]),
        f"first to differ: {s.place}",
    ]
    yield Draft(
        {"code": "code", "environment": "environment"}.get(trigger[0].section if trigger else "", "configuration"),
        summary,
        tuple(evidence),
        "Freeze the same parameters in both runs (requires_grad_(), detach(), no_grad(), what the optimizer is given).",
        0.92 if len(trigger) < 2 else 0.85,
        frozenset(d.key for d in [*built, *trigger]),
    )


@rule("options")
def options(s: Scene) -> Iterator[Draft]:
    """An option, a configuration key or the number of processes differs."""
    found = [t for t in triggers(s) if t.difference.section == "config"]
    if not found:
        return
    critical = [t for t in found if t.difference.severity == "critical"] or found
    top = critical[0].weight
    chosen = [t.difference for t in critical if t.weight >= top - 0.05][:4]
    strength = top * (1.0 if len(critical) == 1 else 0.85)
    if {d.key for d in s.given} <= {t.difference.key for t in critical}:
        strength = max(strength, 0.85)  # nothing else that the user gave differs
    if [d for d in s.find(r".", "code") if not d.key.startswith("module ")]:  # modules are built from what was given
        strength *= 0.8
    if [d for d in s.find(r".", "hardware") if d not in s.idle] and s.numeric and s.rounding is not False:
        strength *= 0.6
    summary = f"the configuration differs: {listed((named(d) for d in chosen), 3)}"
    evidence = [*(said(d) for d in chosen), f"first to differ: {s.place}", *([s.samples.text] if s.stage == "data" else [])]
    alone = [x for x in s.alone if x.kind == "activation"]
    if alone:
        evidence.append(
            f"{'B' if alone[0].side == 'b' else 'A'} alone runs {listed(list(dict.fromkeys(x.module or x.root for x in alone)), 3)} before that"
        )
    yield Draft(
        "configuration",
        summary,
        tuple(evidence),
        f"Run both with the same {listed((d.key for d in chosen), 3)}.",
        strength,
        frozenset(t.difference.key for t in critical),
    )
