"""Code: changed files and functions, a module left in the wrong mode."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from reprodebug.diagnose.rule import Draft, leading, listed, named, rule, said
from reprodebug.diagnose.scene import Scene
from reprodebug.diagnose.triggers import best, nearness, package, triggers
from reprodebug.model.comparison import Difference
from reprodebug.model.events import Flag


@rule("train or eval mode")
def mode(s: Scene) -> Iterator[Draft]:
    """A module was in training mode in one run and in evaluation mode in the other."""
    if s.stage not in ("forward", "loss", "backward", "data"):
        return
    a, b = s.flag(Flag.TRAINING)
    if a == b or s.ended is not None or s.first.kind not in ("activation", "data"):
        return
    words = ["train" if x else "eval" for x in (a, b)]
    asserted = s.hint("assertion")
    trigger = s.find(r"^sys\.flags\.optimize$") if asserted or not s.has_sources else []  # python -O leaves `assert model.train()` out
    trigger = trigger or best(s, r"train|eval|valid|mode|\.py$") or s.asides[:2]
    evidence = [f"at {s.place} the module is in {words[0]} mode in A and in {words[1]} mode in B", *(said(d) for d in trigger)]
    evidence += [f"equal before: {row.removesuffix(': equal')}" for row in s.equal[-3:]]
    what = f"the module {s.first.module} ({s.first.module_type})" if s.first.module else "the model"
    summary = f"the training mode differs: from step {s.first.step} on {what} is in {words[0]} mode in A and in {words[1]} mode in B (model.train() / model.eval())"
    summary += leading(trigger)
    if asserted and trigger and trigger[0].key == "sys.flags.optimize":
        summary += f": python -O (PYTHONOPTIMIZE) leaves out what {asserted[0].file}:{asserted[0].line} asserts"
        evidence += [f"an assertion that does something: {h.place}" for h in asserted[:3]]
    category = "configuration" if trigger and trigger[0].section == "config" else "code"
    remedy = "Call model.train() after every evaluation, and model.eval() before it."
    if s.first.step == 0 and trigger and trigger[0].section == "code":  # no evaluation came before
        remedy = f"Put the module in the same mode in both runs; compare what changed in {trigger[0].key}."
    if s.pools and s.alike and not trigger:
        category = "race"
        summary = (
            f"a race between threads: {listed(s.pools, 2)} and the training share the model, and its mode changes while it is used: from step"
            f" {s.first.step} on {what} is in {words[0]} mode in A and in {words[1]} mode in B (model.train() / model.eval())"
        )
        evidence += [f"the program starts threads that run {listed(s.pools, 3)}", s.launched]
        remedy = (
            "Evaluate a copy of the model in the thread (copy.deepcopy, or load its state_dict() into a second one), or between two steps."
        )
    yield Draft(category, summary, tuple(evidence), remedy, 0.96, frozenset(d.key for d in trigger))


@rule("changed code", "code")
def changed_code(s: Scene) -> Iterator[Draft]:
    """Files that the program imports, or its own module structure, differ."""
    found = [t for t in triggers(s) if t.difference.section == "code"]
    modules = s.one_sided_modules
    other = [t for t in triggers(s) if t.difference.section == "config" and t.difference.severity == "critical"]
    machine = [d for d in s.find(r".", "hardware") if d not in s.idle] if s.rounding is not False else []
    if not found:
        if modules and s.numeric and other:
            return
        if modules and not s.torch_parted:
            side = "A" if modules[0][0] == "a" else "B"
            what = listed([f"{n} ({k})" for _, n, k in modules], 3)
            yield Draft(
                "code",
                f"the models are built otherwise: {what} stands in {side} only",
                (f"{what} stands in {side} only",),
                "Build the same model in both runs.",
                0.5,
            )
        return
    files = [t.difference for t in found if t.weight >= 0.5]
    weaker = [t.difference for t in found if t.weight < 0.5]
    chosen = sorted(files or weaker, key=lambda d: (-nearness(s, d), not s.related(f"{d.key} {_functions([d])}")))
    near = [nearness(s, d) for d in chosen]
    shown = [d for d, x in zip(chosen, near, strict=True) if x or not near[0] or s.stage != "data"]  # a batch is made before any module
    strength = (0.85 if len(files) == 1 or near[0] > near[1] else 0.8) if files else 0.3
    if files and not [d for d in files if d.severity == "critical"]:
        strength = 0.75  # files that one run alone imports
    if other:
        strength *= 0.6
    if machine and s.numeric:
        strength *= 0.7
    if s.stage == "data" and s.find(r"other content|made this file", "data", text="reason"):
        strength *= 0.6
    if near[0] < 2 and any(package(s, d.key) for d in s.find(r".", "code")):
        strength *= 0.8  # a package's sources changed too
    layers = s.find(r"^module ", "config", "code") + s.find(r"^optimizer#", "config")
    functions = _functions(shown)
    summary = f"the code differs: {listed((_file(s, d) for d in shown), 3)}" + (f" ({functions})" if functions else "")
    effect = _effect(s, layers)
    summary += f"; first effect: {effect}" if effect else ""
    places = _other_places(s, chosen)
    summary += leading(places[:1])
    evidence = [*(said(d) for d in chosen[:4]), *(said(d) for d in places), *(said(d) for d in layers[:3]), f"first to differ: {s.place}"]
    lines = s.hint("clip") if s.stage == "optimizer" else []
    evidence += [f"changes gradients between backward and step: {h.place}" for h in lines[:2]]
    commits = s.find(r"^commit$", "code")
    evidence += [said(d) for d in commits]
    remedy = (
        "Compare the changed functions (`git diff`), or let `reprodebug bisect A B --axis commits` find the commit."
        if commits
        else "Compare the changed functions, and run both with the same code."
    )
    if places:
        remedy = "Start both runs with the same PYTHONPATH: Python imports what it finds first along it."
    category = "environment" if places else "code"
    yield Draft(category, summary, tuple(evidence), remedy, strength, frozenset(d.key for d in [*chosen, *places, *commits, *layers]))


def _other_places(s: Scene, files: list[Difference]) -> list[Difference]:
    """``PYTHONPATH``, where each run imports a file of the same name from another folder, or one run a hook of the interpreter."""
    names = [{d.key.rpartition("/")[2] for d in files if (d.a, d.b)[n] == "(absent)"} for n in (0, 1)]
    found = names[0] & names[1] or (names[0] ^ names[1]) & {"sitecustomize.py", "usercustomize.py"}
    return s.find(r"^PYTHONPATH$", "environment") if found else []


def _file(s: Scene, d: Difference) -> str:
    """A file's name, and which run has it alone."""
    if "(absent)" not in (d.a, d.b):
        return d.key
    run, side = (s.a, "A") if d.b == "(absent)" else (s.b, "B")
    untracked = run.manifest.code.get("untracked")
    return f"{d.key} ({'untracked, ' if isinstance(untracked, Mapping) and d.key in untracked else ''}in {side} only)"


def _functions(found: list[Difference]) -> str:
    names: list[str] = []
    for d in found:
        for side, text in (("A", d.a), ("B", d.b)):
            m = re.search(r"\((.+)\)", text)
            for part in m[1].split("; ") if m and text != "(absent)" else []:
                part = part.replace("only here:", f"only in {side}:")
                if part not in names:
                    names.append(part)
    return listed(names, 3)


def _effect(s: Scene, layers: list[Difference]) -> str:
    if layers:
        return named(layers[0])
    return s.place
