"""Random state: draws that one run makes alone, states that a resume does not restore."""

from __future__ import annotations

from collections.abc import Iterator

from reprodebug._base.text import plural
from reprodebug.compare.align import several_call
from reprodebug.compare.generators import Story
from reprodebug.diagnose.rule import Draft, leading, listed, named, rule, said
from reprodebug.diagnose.rules.seeds import other_seed
from reprodebug.diagnose.scene import RANDOM_MODULES, Scene
from reprodebug.diagnose.triggers import best, resuming
from reprodebug.model.events import Flag

_KEEP_APART = {
    "torch": "Give whatever draws in between a generator of its own (`torch.Generator().manual_seed(...)`), or save and restore the state around it (`torch.random.fork_rng()`).",
    "numpy": "Give whatever draws in between a generator of its own (`numpy.random.default_rng(SEED)`).",
    "python": "Give whatever draws in between a generator of its own (`random.Random(SEED)`).",
}


@rule("extra draws", "ledger")
def extra_draws(s: Scene) -> Iterator[Draft]:
    """One run draws from a generator where the other does not."""
    if s.stage in ("backward", "optimizer"):
        return
    for story in [*s.torch_parted, *drawn_from(s)]:
        if other_seed(s, story) is not None or (s.own_sampler and story in s.torch_parted):
            continue
        n, between = s.apart(story)
        step = int(s.pair.align.step_a[s.pair.align.a[story.at]])
        unit = between.unit if between is not None else "draws"
        if n is None:
            how = f"the states of {story.name} part at step {step}"
            why = f" (how many draws lie between them cannot be told: {between.reason})" if between is not None and between.reason else ""
        elif n == 0:
            how = f"the states of {story.name} part at step {step}"
            why = f" ({between.reason})" if between is not None and between.reason else ""
        else:
            side, other = ("B", "A") if n > 0 else ("A", "B")
            how = f"{side} is {plural(abs(n), 'draw')} ({unit}) of {story.name} ahead of {other} at step {step}"
            why = ""
        alone = [x for x in s.alone if x.step <= s.first.step and x.kind in ("activation", "parameter", "data")]
        near = [x for x in alone if x.step == step] or alone
        names = list(dict.fromkeys(f"{x.module or x.root}" + (f" ({x.module_type})" if x.module_type else "") for x in near))
        drawers = list(dict.fromkeys(f"{x.module} ({x.module_type})" for x in near if RANDOM_MODULES.search(x.module_type)))
        trigger = best(s, r"sampl|print|log|eval|valid|every|seed|random|debug|resume|preempt") or s.asides[:2]
        evidence = [how + why, _span(s, story)]
        summary = f"the random state differs: {how}"
        if names:
            side = "B" if near[0].side == "b" else "A"
            evidence.append(f"{side} alone runs {listed(names)} before that ({sum(x.records for x in near):,} records)")
            summary += f"; {side} alone runs {listed(drawers or names, 2)} before that"
        loaders = [d for d in s.find(r"DataLoader#\d+$") if "only one run" in d.reason]
        evidence += [said(d) for d in loaders[:1]]
        if trigger:
            summary += leading(trigger)
            evidence += [said(d) for d in trigger]
        again = story.name.startswith("torch") and any(s.flag(Flag.RECOMPUTE))
        if again:
            summary = f"the backward pass computes {s.first.module or 'the model'} again (activation checkpointing) and draws other random numbers: {how}"
            summary += leading(trigger)
        remedy = _KEEP_APART["torch" if story.name.startswith("torch") else "numpy" if story.name.startswith("numpy") else "python"]
        if again:
            remedy = (
                "Keep the random state for the recomputation in both runs: checkpoint(..., preserve_rng_state=True), which is the default."
            )
        strength = 0.8 + 0.06 * (n is not None) + 0.07 * bool(names or trigger)
        if s.alike and not trigger and (not names or side_by_side(s)):  # both draw by the same code: something else decides how often
            strength *= 0.3 if s.pools else 0.8
        if not story.name.startswith("torch") and s.stage != "data":
            strength *= 0.7
        if s.find(r"^DataLoader#\d+\.(sampler|batch_sampler|batch_size|drop_last|size|generator)$"):
            strength *= 0.6  # another number of batches: the loader's draws follow from that
        if s.find(r"^DataLoader#\d+\.persistent_workers$"):
            strength *= 0.8  # kept workers draw no other seed at the start of an epoch
        if s.stage == "init" and s.find("other settings", "config", text="reason"):
            strength *= 0.5  # layers of another size take another number of draws
        if restored(s, story):
            strength *= 0.6  # what the checkpoint does not hold decides how often it is drawn from
        if s.ended is not None:
            strength *= 0.6  # what a run does after its training draws too
        if s.stage == "forward" and not RANDOM_MODULES.search(s.first.module_type) and s.first.module and s.inputs_equal:
            strength *= 0.6
        category = "random-state"
        if trigger and trigger[0].section == "config" and s.lengths[0] != s.lengths[1]:  # it trains otherwise, not only draws
            category = "configuration"
            evidence.append(f"the optimizers step {s.lengths[0]} times in A and {s.lengths[1]} times in B")
        yield Draft(category, summary, tuple(evidence), remedy, strength, frozenset({story.name} | {d.key for d in trigger}))
        return


def drawn_from(s: Scene) -> list[Story]:
    """Generators of Python and NumPy that both runs seeded and drew from, and whose states part before the first divergence."""
    found = []
    for name, story in s.parted.items():
        rows = s.seeded(name)
        if name.startswith("torch") or not all(rows):
            continue
        if name.startswith("numpy.default_rng"):  # one of the program's own: seeded alike, other states come of draws
            used = len(rows[0]) == len(rows[1])
        else:
            kind = {"numpy.random": "numpy-global", "python.random": "python-global"}.get(name)
            used = story.used_a and story.used_b and (kind is None or bool(s.hint(kind)) or not s.has_sources)
        if used:
            found.append(story)
    return found


def side_by_side(s: Scene) -> bool:
    """Several threads call modules: which calls stand in one run alone is then chance."""
    return several_call(s.pair.a) and several_call(s.pair.b)


def _span(s: Scene, story: Story) -> str:
    """Between which two records the states parted."""

    def name(at: int) -> str:
        e = s.pair.a.events[s.pair.align.a[at]]
        root, module, _, tensor = s.pair.a.sites[e["site"]]
        return f"{tensor} of {module or root} at step {int(s.pair.align.step_a[s.pair.align.a[at]])}"

    if story.last_equal < 0:
        return f"the states of {story.name} were never seen equal: the first look is before {name(story.at)}"
    return f"the states of {story.name} were equal at {name(story.last_equal)} and differ at {name(story.at)}"


@rule("construction order", "code")
def construction(s: Scene) -> Iterator[Draft]:
    """A module that only one model has, or another order of building, shifts the initial weights of those built after it."""
    if s.stage != "init" or any(other_seed(s, x) is not None for x in s.torch_parted[:1]):
        return
    extra = s.one_sided_modules
    if not extra:
        yield from _built_in_another_order(s)
    if not extra or not s.torch_parted:
        return
    trigger = best(s, r"head|layer|aux|extra|arch|model|depth|block|init")
    keys = frozenset({d.key for d in trigger} | {x.name for x in s.torch_parted} | {f"module {n}" for _, n, _ in extra})
    category = "configuration" if trigger and trigger[0].section == "config" else "code"
    side = "A" if extra[0][0] == "a" else "B"
    what = listed([f"{name} ({kind})" for _, name, kind in extra], 3)
    n, between = s.apart(s.torch_parted[0])
    evidence = [f"module {what} stands in {side} only", _span(s, s.torch_parted[0])]
    if n:
        evidence.append(
            f"{'B' if n > 0 else 'A'} has drawn {abs(n):,} more {between.unit if between else 'draws'} when the first parameters are seen"
        )
    evidence += [said(d) for d in trigger]
    summary = f"the extra layer {what} is built in {side} only and draws its initial weights from torch's generator: every layer built after it starts from other weights"
    summary += leading(trigger)
    remedy = "Build what is added last, or initialise it from a generator of its own, so that the layers that both models share draw the same numbers."
    yield Draft(category, summary, tuple(evidence), remedy, 0.94, keys)


def _built_in_another_order(s: Scene) -> Iterator[Draft]:
    """Both models have the same layers, registered in another order."""
    orders = s.module_orders
    if orders is None:
        return
    trigger = best(s, r"first|order|build|arch|model|init|layer")
    evidence = [f"order of the layers in {side}: {listed(names, 8)}" for side, names in zip("AB", orders, strict=True)]
    if not s.torch_parted:
        evidence.append("the state of torch's generator is the same once all are built: as many numbers were drawn, by others")
    evidence += [said(d) for d in trigger]
    summary = (
        f"the layers are built in another order ({listed(orders[0], 4)} in A, {listed(orders[1], 4)} in B): each draws its initial weights"
        " from torch's generator in its turn, so they start from other weights"
    )
    summary += leading(trigger)
    keys = frozenset({d.key for d in trigger} | {x.name for x in s.torch_parted})
    category = "configuration" if trigger and trigger[0].section == "config" else "code"
    yield Draft(category, summary, tuple(evidence), "Construct the layers in the same order in both runs.", 0.93, keys)


def restored(s: Scene, story: Story) -> bool:
    """The run that goes on from a checkpoint was seen with the other's state after it had read it: what parts later is drawn later."""
    if s.resumed is None or story.last_equal < 0:
        return False
    which, loaded = s.resumed
    trace, column = ((s.pair.a, s.pair.align.a), (s.pair.b, s.pair.align.b))[which]
    return int(trace.events["seq"][column[story.last_equal]]) > max(int(s.files_read[which][p]["seq"]) for p in loaded)


@rule("resume without random state", "code")
def resume(s: Scene) -> Iterator[Draft]:
    """A run that goes on from a checkpoint, and whose generators were not restored."""
    if s.stage in ("backward", "optimizer", "loss") or s.resumed is None or s.own_sampler:
        return
    which, loaded = s.resumed
    lost = [x for x in s.torch_parted or drawn_from(s) if not restored(s, x)]
    if not lost:
        return
    side, limit = "AB"[which], int(s.events[which]["seq"])
    rebuilt = [n for n in s.notes("modules")[which] if int(n.get("step", 0)) > 0 and int(n.get("seq", 0)) <= limit]
    story = lost[0]
    trigger = resuming(s)
    n, between = s.apart(story)
    evidence = [f"{side} reads the checkpoint {listed(loaded, 2)} in the middle of the run, the other does not", s.cut, _span(s, story)]
    if rebuilt:
        evidence.append(f"{side} builds its model anew at step {rebuilt[0].get('step')}, which draws initial weights")
    if n:
        evidence.append(f"there {'B' if n > 0 else 'A'} has drawn {abs(n):,} more {between.unit if between else 'draws'}")
    evidence += [said(d) for d in trigger]
    summary = f"{side} resumes from the checkpoint {loaded[0]} and does not restore the random state (rng): {story.name} differs from step {s.first.step} on"
    if trigger:
        summary += f"; {named(trigger[0])}"
    remedy = "Save the generators' states with the checkpoint (torch.get_rng_state(), torch.cuda.get_rng_state_all(), random.getstate(), numpy.random.get_state()) and set them after everything has been rebuilt."
    yield Draft("random-state", summary, tuple(evidence), remedy, 0.95, frozenset({story.name} | {d.key for d in trigger} | set(loaded)))


@rule("random module")
def random_module(s: Scene) -> Iterator[Draft]:
    """A dropout-like module is first, though its input and torch's state were equal: its own settings, or its generator."""
    if s.stage != "forward" or not RANDOM_MODULES.search(s.first.module_type) or s.torch_parted:
        return
    trigger = best(s, r"drop|p$|prob|rate|noise")
    changed = s.find(rf"^module {s.first.module}$")
    if changed:
        return  # its settings differ: said by the configuration rule
    evidence = [
        f"{s.place} is the first to differ; {plural(len(s.equal), 'kind')} of record before it are equal",
        *(said(d) for d in trigger),
    ]
    summary = f"the random module {s.first.module} ({s.first.module_type}) gave another result from an equal state of torch's generators"
    summary += leading(trigger)
    if not trigger and s.alike:
        summary += ": it draws from a generator that is not recorded (one of its own, the operating system's or a C library's)"
    yield Draft(
        "configuration" if trigger else "random-state",
        summary,
        tuple(evidence),
        "Let it draw from torch's generator (torch.rand), or seed the one that it draws from."
        if s.alike
        else "Compare the module's settings and the state it draws from.",
        0.75 if s.alike and s.inputs_equal else 0.6,
        frozenset(d.key for d in trigger),
    )
