"""Implicit state: files that an earlier run left, memory that nobody filled, state that a checkpoint does not hold, the clock."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from reprodebug._base.text import plural
from reprodebug.compare.importance import MOVED
from reprodebug.diagnose.hints import Hint
from reprodebug.diagnose.rule import Draft, leading, listed, named, rule, said
from reprodebug.diagnose.rules.random_state import drawn_from, restored
from reprodebug.diagnose.scene import CHECKPOINT, STATISTICS, Scene
from reprodebug.diagnose.triggers import best, resuming
from reprodebug.model.comparison import Difference
from reprodebug.model.events import Flag, Kind

_SEEDING = re.compile(r"seed|rng|RandomState|Generator|\bRandom\(")


@rule("leftover file")
def leftover(s: Scene) -> Iterator[Draft]:
    """One run wrote a file that the other found: a cache, statistics, an index."""
    found = s.find("one run made this file", "data", text="reason")
    found = [d for d in found if not CHECKPOINT.search(d.key)] or found
    if not found:
        return
    d = found[0]
    side, other = ("A", "B") if d.a.startswith("written") else ("B", "A")
    checks = s.hint("exists")
    evidence = [*(said(x) for x in found[:3]), *(f"the source asks for it: {h.place}" for h in checks[:2])]
    if not s.torch_parted:
        evidence.append("seeds and states of torch's generators were equal")
    evidence += [s.warm] if s.warm else []
    n = 0 if other == "A" else 1
    wrote = [x for x in s.notes("file")[1 - n] if x.get("mode") == "write" and s.sides[1 - n].neutral(str(x.get("path"))) == d.key]
    made = "wrote it anew before it read it" if any(x.get("existed") for x in wrote) else "found none and made it itself"
    summary = f"{other} reads {listed((x.key for x in found), 2)}, a cache or other file left by an earlier run; {side} {made}"
    likely = {"data": 0.94, "init": 0.85, "loaded": 0.9, "forward": 0.8}.get(s.stage, 0.5)
    remedy = f"Delete {d.key} before each run, give each run a folder of its own, or store the cache without loss (same dtype, no rounding) and check its version."
    listed_there = {s.sides[n].neutral(str(x.get("path"))) for x in s.notes("listing")[n]}
    if not checks and os.path.dirname(d.key) in listed_there:  # not asked for by its name: found among the data
        evidence.append(f"{other} takes what it finds: it lists the folder {os.path.dirname(d.key)}")
        remedy = f"Delete {d.key}, and let each run write where no run looks for its data (or read a fixed list of names)."
    yield Draft("implicit-state", summary, tuple(evidence), remedy, likely, frozenset(x.key for x in found) | {"seed of numpy.default_rng"})


@rule("uninitialised memory", "sources")
def uninitialised(s: Scene) -> Iterator[Draft]:
    """Memory that was never filled is used."""
    lines = s.hint("uninitialised")
    if s.stage not in ("init", "forward", "loaded", "data", "loss") or s.torch_parted:
        return
    if s.stage == "forward" and s.inputs_equal is False:
        return
    if not s.alike and not lines:
        return
    filled = s.find("fill_uninitialized_memory")
    if lines:
        evidence = [f"allocated without filling: {h.place}" for h in lines[:3]]
        evidence += ["the states of torch's generators were equal", *(said(d) for d in filled)]
        summary = f"uninitialised memory is used: {lines[0].file}:{lines[0].line} allocates without filling ({lines[0].text}), so it holds whatever lay there"
        strength = (0.85 if s.stage in ("init", "loaded") else 0.7) * (s.likeness if s.likeness > 0.5 else 0.4)
    elif s.stage == "init" and s.has_sources:
        evidence = [s.launched, "the states of torch's generators were equal"]
        summary = f"{s.place} differs although all generators agree: it may be uninitialised memory"
        strength = 0.3
    else:
        return
    remedy = "Use zeros() or full(), or fill all of it; to find such places run with torch.use_deterministic_algorithms(True), which fills torch's fresh memory with NaN."
    yield Draft("implicit-state", summary, tuple(evidence), remedy, strength, within=True)


@rule("optimizer state not restored", "code")
def optimizer_state(s: Scene) -> Iterator[Draft]:
    """A resumed run lost the optimizer's state (momentum, second moments, step count)."""
    if s.first.step == 0 or s.stage not in ("optimizer", "forward", "loss", "backward"):
        return
    limits = [int(e["seq"]) for e in s.events]
    sides = []
    for n, side in enumerate("AB"):
        later = [x for x in s.notes("optimizer")[n] if int(x.get("step", 0)) > 0 and int(x.get("seq", 0)) <= limits[n]]
        numbers = {x.get("number") for x in s.notes("optimizer")[n] if int(x.get("step", 0)) == 0}
        new = [x for x in later if x.get("number") not in numbers]
        loaded = [p for p, x in s.files_read[n].items() if CHECKPOINT.search(p) and 0 < int(x.get("seq", 0)) <= limits[n]]
        sides.append((side, new, loaded))
    if bool(sides[0][1] or sides[0][2]) == bool(sides[1][1] or sides[1][2]):
        return
    side, new, loaded = sides[1] if sides[1][1] or sides[1][2] else sides[0]
    trigger = resuming(s)
    evidence = [f"{side} alone makes a new optimizer at step {new[0].get('step')} ({new[0].get('class')})"] if new else []
    evidence += [f"{side} alone reads the checkpoint {listed(loaded, 2)} in the middle of the run"] if loaded else []
    evidence += [s.cut, f"gradients before it were equal; first to differ: {s.place}", *(said(d) for d in trigger)]
    resumes = f"{side} resumes{' from the checkpoint ' + loaded[0] if loaded else ''}"
    summary = f"{resumes} without the optimizer's state (momentum, moments, step count): its update at step {s.first.step} starts anew"
    if s.flag(Flag.BUFFER)[0]:
        summary = f"{resumes} and does not take up {s.place} where it was left: averaged weights and running statistics belong into a checkpoint too"
    if trigger:
        summary += f"; {named(trigger[0])}"
    remedy = "Save and load optimizer.state_dict() (and the scheduler's, GradScaler's and averaged model's) with the model's."
    if s.flag(Flag.BUFFER)[0]:
        remedy = "Save and load state_dict() of the model, and of an averaged one: unlike parameters() it holds the buffers too."
    yield Draft(
        "implicit-state",
        summary,
        tuple(evidence),
        remedy,
        0.9 if s.stage == "optimizer" else 0.5,
        frozenset([*(d.key for d in trigger), *loaded, "optimizer#1"]),
    )


@rule("resume without place in the data", "code")
def place_in_data(s: Scene) -> Iterator[Draft]:
    """A run that goes on from a checkpoint takes up an epoch elsewhere than it left it; weights and generators are as they were."""
    if s.stage != "data" or (s.torch_parted and not s.own_sampler) or s.resumed is None:
        return
    n, loaded = s.resumed
    side = "AB"[n]
    trigger = resuming(s)
    summary = (
        f"{side} resumes from the checkpoint {loaded[0]} and does not take up its data where it left it: from step {s.first.step} on it gets"
        " other batches, from equal weights and random states"
    )
    states = "the states of torch's generators were equal"
    if s.torch_parted:
        states = f"{s.torch_parted[0].name} differs too, but only seeds the workers: the order is {s.own_sampler}'s"
        summary = summary.removesuffix(", from equal weights and random states") + f", in the order of its own sampler {s.own_sampler}"
    if drawn := [x for x in drawn_from(s) if restored(s, x)]:
        states = f"{drawn[0].name} was the same in both runs after the checkpoint was read, and parts where other numbers are drawn from it"
    evidence = [f"{side} reads the checkpoint {listed(loaded, 2)} in the middle of the run, the other does not", s.cut]
    evidence += [
        f"first to differ: {s.place}",
        s.samples.text,
        states,
        *(said(d) for d in trigger),
    ]
    yield Draft(
        "implicit-state",
        summary + (f"; {named(trigger[0])}" if trigger else ""),
        tuple(evidence),
        "Save with the checkpoint what decides the order: the epoch that the sampler is in (set_epoch, or a counter of its own) and how many of"
        " its batches were used; restore the one and skip the others when resuming (or use a loader that can be saved, such as torchdata's"
        " StatefulDataLoader). What batches are drawn from (a replay memory, a queue) belongs into it too.",
        0.9,
        frozenset([*(d.key for d in trigger), *loaded, *(x.name for x in s.torch_parted)]),
    )


@rule("work beside the training", "sources")
def beside(s: Scene) -> Iterator[Draft]:
    """One run evaluates or logs where the other does not, and that changes what the training goes on with."""
    if s.stage not in ("data", "loaded", "forward", "loss") or s.torch_parted:
        return
    trigger = s.asides[:2] if s.alike else best(s, _WATCHING.pattern)
    if not trigger or {d.key for d in s.given} - {d.key for d in trigger}:
        return
    kept, alone = s.hint("kept"), [x for x in s.alone if x.kind == "activation"]
    only_watches = all(d in s.asides or _WATCHING.search(d.key) for d in trigger)
    if not alone:
        drawn = [x for x in s.parted.values() if x.used_a or x.used_b]
        if only_watches and kept and not drawn and s.stage == "data" and s.samples.relation in ("other content", "other samples"):
            yield _changed_by_looking(s, trigger, kept)
        return
    if s.stage == "loss" and not only_watches:
        return
    if not kept and not s.alike:
        return
    side, names = "B" if alone[0].side == "b" else "A", list(dict.fromkeys(x.root or x.module for x in alone))
    what = f" ({kept[0].file}:{kept[0].line}: {kept[0].text})" if kept else ""
    yield Draft(
        "implicit-state",
        f"{side} alone runs {listed(names, 2)} at step {alone[0].step}, and the training then goes on from something that this work changed:"
        f" state that outlives a call, such as running statistics, a cache or a counter{what}" + leading(trigger),
        (
            *(f"{named(d)}: by its name it only says when to look" if d in s.asides else said(d) for d in trigger),
            f"{side} alone runs {listed(names)} before {s.place} ({sum(x.records for x in alone):,} records)",
            *(f"outlives a call: {h.place}" for h in kept[:4]),
            "the states of torch's generators were equal",
        ),
        "Let what only watches change nothing: hand such state in, and let the training alone update it (or give the evaluation a copy).",
        0.87 if kept else 0.6,
        frozenset(d.key for d in trigger),
    )


_WATCHING = re.compile(
    r"log|eval|valid|(^|\W|_)val(\W|_|$)|sanity|every|print|monitor|report|debug|plot|verbose|summar|describe|inspect|preview|quality|profil|stats",
    re.I,
)
"""options of such names make a program look at its data or model, and as a rule change neither"""


def _changed_by_looking(s: Scene, trigger: list[Difference], kept: list[Hint]) -> Draft:
    """The batches hold other values, nothing was drawn or called otherwise, and one run only looked at more."""
    return Draft(
        "implicit-state",
        f"the data itself was changed by what only looks at it: {s.samples.text}; probably values are changed in place (x -= ..., out=x) that"
        f" outlive a call and are handed to the training too ({kept[0].file}:{kept[0].line}: {kept[0].text})" + leading(trigger),
        (
            *(said(d) for d in trigger),
            *(f"outlives a call: {h.place}" for h in kept[:4]),
            f"first to differ: {s.place}",
            "no generator that was recorded had been drawn from otherwise, and no module was called by one run alone",
        ),
        "Let what only looks work on a copy (x = x.copy(), tensor.clone()), or let what is kept be read-only (array.flags.writeable = False).",
        0.87,
        frozenset(d.key for d in trigger),
    )


@rule("running statistics")
def statistics(s: Scene) -> Iterator[Draft]:
    """A normalisation in evaluation mode differs from equal inputs: what it has gathered of earlier calls differs."""
    if s.stage != "forward" or not STATISTICS.search(s.first.module_type) or any(s.flag(Flag.TRAINING)) or not s.inputs_equal:
        return
    calls = [_trained_calls(s, n) for n in (0, 1)]
    if bool(calls[0]) == bool(calls[1]):
        return
    side, steps = ("A", calls[0]) if calls[0] else ("B", calls[1])
    name = s.first.module or s.first.root
    trigger = s.asides[:2] if s.alike else best(s, r"log|eval|valid|every|print|monitor|report|debug|plot|calib|agree|check")
    yield Draft(
        "implicit-state",
        f"the running statistics of {name} ({s.first.module_type}) have come apart: {side} alone calls it in training mode at step {steps[0]},"
        " and every such call changes running_mean and running_var, even under no_grad()" + leading(trigger),
        (
            f"first to differ: {s.place}, in evaluation mode in both runs, of equal inputs",
            f"{side} makes {plural(len(steps), 'call')} of it in training mode that the other does not make",
            *(said(d) for d in trigger),
        ),
        "Call eval() before what only watches or measures, and train() again after it; or measure on a copy of the model.",
        0.9,
        frozenset(d.key for d in trigger),
    )


def _trained_calls(s: Scene, side: int) -> list[int]:
    """Steps of the calls of the first module that differs which this run alone made before, in training mode."""
    trace, only = (s.pair.a, s.pair.b)[side], (s.pair.align.only_a, s.pair.align.only_b)[side]
    step, limit = (s.pair.align.step_a, s.pair.align.step_b)[side], int(s.events[side]["seq"])
    own = trace.sites[s.events[side]["site"]][:2]
    sites = {n for n, site in enumerate(trace.sites) if site[:2] == own}
    return [
        int(step[n])
        for n in only[:20_000].tolist()
        if (e := trace.events[n])["site"] in sites
        and e["kind"] == Kind.ACTIVATION
        and e["flags"] & Flag.TRAINING
        and not e["flags"] & Flag.INPUT
        and e["seq"] < limit
    ]


@rule("folder of the run", "sources")
def folder(s: Scene) -> Iterator[Draft]:
    """The program computes with an absolute path, and the two runs lie in different folders."""
    if s.a.manifest.cwd == s.b.manifest.cwd or s.stage not in ("data", "init", "loaded", "forward") or s.torch_parted:
        return
    if [d for d in s.given if "read by one run only" not in d.reason]:  # which files are read may follow from it
        return
    paths, digests = s.hint("path"), s.hint("digest", "hash")
    both = [h for h in paths if (h.file, h.line) in {(d.file, d.line) for d in digests}]
    if not paths or not digests:
        return
    line = (both or paths)[0]
    evidence = [f"A ran in {s.a.manifest.cwd}, B in {s.b.manifest.cwd}; nothing else that was given differs"]
    evidence += [f"makes an absolute path: {h.place}" for h in (both or paths)[:2]]
    evidence += [f"makes a number of a text: {h.place}" for h in digests[:2]]
    yield Draft(
        "environment",
        f"the program computes with an absolute path, {line.file}:{line.line} ({line.text}), and the two runs lie in different folders (directories)",
        tuple(evidence),
        "Compute with the path relative to the data's own folder, or with the file's name.",
        0.85 if both else 0.6 if {h.file for h in paths} & {h.file for h in digests} else 0.3,
        frozenset(d.key for d in s.given),
    )


@rule("clock or process id", "sources")
def clock(s: Scene) -> Iterator[Draft]:
    """A value that differs at every launch gets into the computation, by no generator that is known."""
    if s.stage not in ("data", "init", "forward", "loaded", "loss") or s.likeness < 0.5 or s.torch_parted:
        return
    lines = s.hint("clock")
    if not lines:
        return
    seeding = [h for h in lines if _SEEDING.search(h.text)]
    if seeding:
        h = seeding[0]
        yield Draft(
            "random-state",
            f"a generator is seeded with a value made anew at each launch (clock, process id, system randomness): {h.file}:{h.line} ({h.text})",
            (*(f"differs at every launch: {x.place}" for x in seeding[:3]), s.launched, *([s.samples.text] if s.stage == "data" else [])),
            "Seed it with a constant, or with an option of the command.",
            (0.8 if s.stage in ("data", "init") else 0.6) * s.likeness,
            within=True,
        )
        return
    evidence = [f"differs at every launch: {h.place}" for h in lines[:4]]
    summary = f"a value made anew at each launch (clock, process id, system randomness) may reach the computation: {lines[0].file}:{lines[0].line}"
    others = s.hint("set-order", "hash", "arrival", "uninitialised")
    likely = 0.6 if s.stage == "data" and not others and not s.pools else 0.4
    remedy = "Pass the value as an argument, or keep it out of what is computed."
    yield Draft("implicit-state", summary, tuple(evidence), remedy, likely * s.likeness, within=True)


@rule("names made anew")
def names(s: Scene) -> Iterator[Draft]:
    """Files of the same content have names that are made anew at each launch, and the program goes by the names."""
    moved = [d for d in s.comparison.differences if d.section == "data" and d.reason == MOVED]
    moved = [d for d in moved if os.path.basename(d.a) != os.path.basename(d.b)]
    lines = s.hint("temporary")
    if len(moved) < 2 or not lines or s.stage not in ("data", "init", "loaded", "forward") or s.torch_parted or s.likeness < 0.5:
        return
    listing = [h for h in s.hint("listing", "hash", "digest") if h.file == lines[-1].file]
    yield Draft(
        "implicit-state",
        f"the same {len(moved)} files have other names in each run, made anew at each launch (temporary names, {lines[-1].file}:{lines[-1].line}:"
        f" {lines[-1].text}): what sorts or hashes the names takes the files in another order",
        (*(said(d) for d in moved[:3]), *(f"goes through names: {h.place}" for h in listing[:2]), s.samples.text, s.launched),
        "Name the files by what they hold (a number, the name in the archive), and sort by that.",
        (0.85 if s.stage == "data" else 0.6) * s.likeness,
        within=True,
    )


@rule("end of the training")
def ended(s: Scene) -> Iterator[Draft]:
    """One run takes no further step where the other goes on: other epochs, a budget of time, early stopping."""
    if s.ended is None:
        return
    side, other = ("A", "B") if s.ended == 0 else ("B", "A")
    trigger = best(s, r"epoch|step|iter|max|budget|time|hour|minute|limit|patience|stop|total|batch|size") or s.variables_used[:1]
    clock = [] if trigger else s.hint("clock")
    clock = [h for h in clock if re.search(r"[<>]|while|if ", h.text)] or clock
    what = f"{side} ends its training after {min(s.lengths)} steps, {other} after {max(s.lengths)}"
    evidence = [what, f"first to differ: {s.place}", *(said(d) for d in trigger), *(f"takes the time: {h.place}" for h in clock[:3])]
    category = "implicit-state"
    if trigger:
        category = {"config": "configuration", "code": "code", "environment": "environment"}.get(trigger[0].section, "data")
        what += leading(trigger)
    elif clock:
        what += f": the clock decides how long it trains, and differs at every launch ({clock[0].file}:{clock[0].line}: {clock[0].text})"
    else:
        what += "; the program decides it while it runs, by what is not known"
    strength = 0.9 if trigger else 0.8 if clock else 0.5
    if [d for d in s.find(r"^DataLoader#\d+\.(sampler|batch|drop|size)") if " at step " not in d.a + d.b]:
        strength *= 0.5  # an epoch has another number of steps
    remedy = "Give the number of steps or epochs, the same in both runs."
    yield Draft(category, what, tuple(evidence), remedy, strength, frozenset(d.key for d in trigger), within=not trigger)


@rule("order of addresses", "sources")
def addresses(s: Scene) -> Iterator[Draft]:
    """Sets of objects without a hash of their own, and ``id()``, follow memory addresses, which differ at every launch."""
    summed = s.stage in ("backward", "optimizer", "loss")  # an order changes how a sum rounds, not what is summed
    if (
        (summed and s.rounding is False)
        or s.likeness < 0.5
        or s.torch_parted
        or (s.find(r"^PYTHONHASHSEED$", "environment") and not summed)
    ):
        return  # where strings hash otherwise too, that is the likelier reason
    lines = [*s.hint("address"), *s.hint("set-order")]
    if summed:
        lines = [h for h in reversed(lines) if "param" in h.text]
    if not lines:
        return
    seeding = [h for h in s.hint("address") if _SEEDING.search(h.text)]
    if seeding and not summed:
        h = seeding[0]
        yield Draft(
            "random-state",
            f"a generator is seeded with id(), an address in memory, which differs at every launch: {h.file}:{h.line} ({h.text})",
            (*(f"differs at every launch: {x.place}" for x in seeding[:3]), s.launched, s.samples.text),
            "Seed it with a constant, or with a number of the object's own.",
            0.8 * s.likeness,
            within=True,
        )
        return
    evidence = [f"depends on the order of a set or on id(): {h.place}" for h in lines[:3]]
    if not summed:
        evidence += ["PYTHONHASHSEED was fixed alike: strings hash alike in both runs", s.samples.text]
    evidence.append(s.launched)
    what = "in which order parameters are summed (the norm of the gradients, for one)" if summed else "what the model sees"
    summary = (
        f"the order of memory addresses decides {what}, at {lines[0].file}:{lines[0].line} ({lines[0].text}): the iteration order"
        " of a set of objects without __hash__ of their own, and id(), differ at every launch, whatever PYTHONHASHSEED is"
    )
    reordered = s.samples.relation in ("same samples, other order", "other batches")
    strength = (0.8 if reordered and s.stage == "data" else 0.7 if summed and lines[0].kind == "set-order" else 0.5) * s.likeness
    yield Draft(
        "implicit-state",
        summary,
        tuple(evidence),
        "Keep such objects in a list or a dict, or sort them by a key of their own.",
        strength,
        within=True,
    )
