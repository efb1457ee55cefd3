"""Data: loaders set up otherwise, files of other content, the same samples in another order."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reprodebug.compare.importance import CHANGED_BY_BOTH, MOVED, REORDERED
from reprodebug.diagnose.rule import Draft, leading, listed, named, rule, said
from reprodebug.diagnose.samples import repeating
from reprodebug.diagnose.scene import CHECKPOINT, Scene, short
from reprodebug.diagnose.triggers import best

_LOADER = re.compile(r"^DataLoader#\d+\.(\w+)$")
_DATA_STAGES = ("data", "init", "loaded", "forward")


@rule("loader workers")
def workers(s: Scene) -> Iterator[Draft]:
    """Another number of workers: whatever is random in a worker depends on which of them loads a sample."""
    changed = s.find(r"^DataLoader#\d+\.num_workers$")
    if not changed or s.stage != "data":
        return
    d = changed[0]
    trigger = best(s, r"worker")
    trigger = [t for t in trigger if re.search("worker", t.key, re.I)] or [t for t in s.given if (t.a, t.b) == (d.a, d.b)]
    trigger = trigger or s.find(r"^(cpus_allowed|logical_cpus)$", "hardware")
    evidence = [said(d), *(said(t) for t in trigger), s.samples.text]
    if not s.torch_parted:
        evidence.append("the states of torch's generators were equal, so the order was drawn alike")
    drawn = s.hint("numpy-global", "python-global") + [h for h in s.hint("unseeded") if "rng" in h.text]
    evidence += [f"drawn inside the dataset: {h.place}" for h in drawn[:2]]
    again, category = repeating(s), "data"
    remedy = (
        "Use the same number of workers (num_workers); draw augmentation from a generator seeded per sample (epoch and index), not per worker,"
        " and let __getitem__ change nothing of the dataset (clone what it returns)."
    )
    if again is not None and (d.a, d.b)[again] not in ("0", "1"):
        evidence.append(f"the batch of {'AB'[again]} has the samples of the batch before it once more")
        effect = (
            "the dataset (an IterableDataset) does not share its items out among the workers, so each worker yields all of them and"
            f" {'AB'[again]} gets duplicates: every sample comes once per worker"
        )
        remedy = "Let each worker yield its own share: torch.utils.data.get_worker_info() gives its number and how many there are."
    elif s.samples.relation in ("other batches", "same samples, other order"):
        effect = "each worker yields its own share of the samples, and batches are taken from the workers in turn, so the order follows from their number"
    elif "0" in (d.a, d.b) and not drawn and s.has_sources and s.first.step > 0:
        category = "implicit-state"
        effect = (
            "a worker has its own copy of the dataset, made anew at the start of each epoch, so what the dataset changes in itself"
            " (rows in place, counters, caches) lasts only where it is loaded in the main process"
        )
    else:
        effect = "each worker has its own random state, so what augmentation draws for a sample depends on which worker loads it"
    summary = f"the DataLoader has {d.a} workers (num_workers) in A and {d.b} in B: {effect}" + leading(trigger)
    strength = 0.95 if "duplicates" in effect else 0.93 if s.samples.relation in ("other content", "unknown") else 0.88 if trigger else 0.8
    yield Draft(category, summary, tuple(evidence), remedy, strength, frozenset([d.key, *(t.key for t in trigger)]))


_WORDS = {
    "sampler": "the samples are chosen by another sampler (shuffle)", "batch_sampler": "the batches are made by another sampler",
    "batch_size": "the batches have another size", "drop_last": "the last incomplete batch is dropped in one run (drop_last)",
    "generator": "the order is drawn from another generator", "size": "the dataset has another number of samples",
    "dataset": "the dataset is of another class", "worker_init_fn": "the workers are set up by another function",
    "persistent_workers": "the workers live on from epoch to epoch in one run, with what their datasets and generators have become, and start anew in the other (persistent_workers)",
    "in_order": "batches are handed out as they are ready in one run (in_order)", "start_method": "the workers are started in another way",
}  # fmt: skip


@rule("loader settings")
def loader_settings(s: Scene) -> Iterator[Draft]:
    """The DataLoader was told something else."""
    changed = [d for d in s.find(r"^DataLoader#\d+\.") if (m := _LOADER.match(d.key)) and m[1] in _WORDS]
    if not changed or s.stage not in ("data", "forward", "loss", "backward", "optimizer"):
        return
    fields = [_LOADER.match(d.key)[1] for d in changed]  # type: ignore[index]
    workers_only = set(fields) <= {"persistent_workers", "worker_init_fn", "in_order", "start_method"}
    trigger = best(
        s, r"worker|persist" if workers_only else r"shuffle|batch|drop|order|sampl|split|size|limit|subset|data|train\.py|\.json|\.ya?ml"
    )
    trigger = [t for t in trigger if t.section in ("config", "code")] or s.variables_used[:1]
    category = "data" if {"size", "dataset"} & set(fields) else "configuration" if trigger and trigger[0].section == "config" else "data"
    summary = f"{_WORDS[fields[0]]}: {named(changed[0])}" + leading(trigger)
    evidence = [*(said(d) for d in changed[:4]), *(said(t) for t in trigger), s.samples.text]
    strength = 0.92 if s.stage == "data" else 0.45
    remedy = "Build the DataLoader with the same arguments in both runs."
    if fields[0] == "persistent_workers" and s.torch_parted and s.samples.same_indices is False:
        summary = (
            "workers that live on (persistent_workers) are seeded once, others anew in each epoch (base_seed), which is one draw from the generator that"
            f" shuffles: {named(changed[0])}" + leading(trigger)
        )
        remedy += " Where they have to differ, give the sampler a generator of its own: RandomSampler(dataset, generator=...)."
    if s.ended is not None and all(" at step " in d.a + d.b for d in changed):
        strength *= 0.5  # the loader of what comes after the training, against the training's
    if not trigger and s.alike:  # an effect, not a cause: the program computed it while it ran
        category, strength = "implicit-state", 0.5 * strength
        summary += "; the program computes it anew at each launch, from what is not known"
        evidence.append(s.launched)
        remedy = f"Print where the {fields[0]} comes from, and fix it."
    uses = frozenset(d.key for d in [*changed, *trigger])
    yield Draft(category, summary, tuple(evidence), remedy, strength, uses, within=not trigger and s.alike)


@rule("file content")
def file_content(s: Scene) -> Iterator[Draft]:
    """A file that both runs read has other content."""
    changed = s.find("other content", "data", text="reason")
    yield from _reordered(s)
    alone = {d.key for d in s.given} == {d.key for d in changed}
    if not changed:
        return
    weights = [d for d in changed if CHECKPOINT.search(d.key)]
    if len(weights) == len(changed) and s.stage == "data":
        weights = []  # arrays and tensors of data are stored in the same formats
    plain = [d for d in changed if d not in weights]
    likely = {"data": 0.93, "init": 0.9, "loaded": 0.92, "forward": 0.6, "loss": 0.6}.get(s.stage, 0.3)
    if s.numeric and alone:  # options kept in a file of a kind that holds weights elsewhere
        plain, weights, likely = changed, [], max(likely, 0.75)
    if all(d.reason == CHANGED_BY_BOTH for d in changed):  # a tracker's or a cache's database differs between any two runs
        likely *= 0.4 if s.numeric or s.given or s.torch_parted else 0.85
    for found, what in ((plain, "file" if s.numeric else "data file"), (weights, "checkpoint")):
        if not found:
            continue
        fits = s.stage in ("init", "loaded", "forward") if what == "checkpoint" else s.stage != "init"
        evidence = [*(said(d) for d in found[:5])]
        if s.stage == "data":
            evidence.append(s.samples.text)
        if not s.torch_parted:
            evidence.append("the states of torch's generators were equal before")
        paths = s.find(r".", "environment", "config")
        pointing = [d for d in paths if any(short(f.key) in d.a + d.b or (d.a not in ("", "(absent)") and d.a in f.key) for f in found)]
        summary = f"the {what}{'s' if len(found) > 1 else ''} {listed((d.key for d in found), 3)} {'have' if len(found) > 1 else 'has'} other content in B"
        verb = "load the same weights" if what == "checkpoint" else "use the same data"
        remedy = (
            f"Compare the two files and {verb} in both runs; keep data under version control (DVC, git-lfs) or check its hash at the start."
        )
        category, own = "data", s.files_written
        if all(d.key in own for d in found):
            category = "implicit-state"
            summary += ": the program itself opens it for writing, so that a run finds what the one before it left"
            evidence.append(f"read and then opened for writing, in both runs: {listed((d.key for d in found), 3)}")
            remedy = "Keep the program from changing what it reads (open it read-only or as a copy: numpy.memmap(mode='c')), and restore the file."
        elif all(d.key in s.files_made for d in found):
            summary += "; it is made anew during each run"
            evidence.append("in both runs it was written after the command had started")
            remedy = (
                "Look into what makes it: sort what a pool of processes or threads returns (as_completed, imap_unordered), sort sets and"
                " folders, seed its generators; or make the file once and use it in both runs."
            )
        yield Draft(
            category, summary, tuple(evidence), remedy, likely if fits else likely * 0.6, frozenset(d.key for d in [*found, *pointing])
        )


def _reordered(s: Scene) -> Iterator[Draft]:
    """A JSON or TOML file that was written anew with its keys in another order."""
    found = [d for d in s.find(r".", "data") if d.reason == REORDERED]
    if not found or s.stage not in _DATA_STAGES or s.torch_parted:
        return
    yield Draft(
        "data",
        f"{listed((d.key for d in found), 3)} {'hold' if len(found) > 1 else 'holds'} the same values in another order in B,"
        " and the program takes them as they come",
        (*(said(d) for d in found[:4]), f"first to differ: {s.place}", s.samples.text),
        "Use the same file in both runs, or sort what is read from it.",
        (0.85 if s.stage == "data" else 0.6) * (1.0 if {d.key for d in s.given} == {d.key for d in found} else 0.5),
        frozenset(d.key for d in found),
    )


@rule("files of one run")
def one_sided_files(s: Scene) -> Iterator[Draft]:
    """The runs read different files: another folder, split or version of the data."""
    every = s.find(r"^read by one run only", "data", text="reason")  # what a run wrote itself is no cause
    found = [d for d in every if not CHECKPOINT.search(d.key)] or (every if s.stage == "data" else [])
    if not found or s.stage not in _DATA_STAGES:
        return
    a, b = [d.key for d in found if d.b == "(absent)"], [d.key for d in found if d.a == "(absent)"]
    if not a and not b:
        return
    variables = s.variables_used
    trigger = s.leading_to(a, b) or variables[:1] or best(s, r"data|path|file|folder|root|split|input|version")
    both = bool(a and b)
    read = " and ".join(
        f"{listed(names, 2)} {'is' if len(names) == 1 else 'are'} read by {side} only" for names, side in ((a, "A"), (b, "B")) if names
    )
    summary = read + leading(trigger)
    category = "environment" if trigger and trigger[0].section == "environment" else "data"
    evidence = [*(said(d) for d in found[:4]), *(said(t) for t in trigger), *([s.samples.text] if s.stage == "data" else [])]
    strength = (0.88 if both and trigger else 0.75 if both else 0.55) if s.stage == "data" else 0.5
    yield Draft(
        category,
        summary,
        tuple(evidence),
        "Point both runs at the same files.",
        strength,
        frozenset([d.key for d in found] + [t.key for t in trigger]),
    )


@rule("other checkpoint")
def other_checkpoint(s: Scene) -> Iterator[Draft]:
    """The runs load their weights from different files, or only one of them loads any."""
    found = [d for d in s.find(r"read by one run only", "data", text="reason") if CHECKPOINT.search(d.key)]
    if not found or s.stage not in ("init", "loaded", "forward"):
        return
    a, b = [d.key for d in found if d.b == "(absent)"], [d.key for d in found if d.a == "(absent)"]
    pointing = s.leading_to(a, b)
    trigger = pointing or [t for t in best(s, r"weight|pretrain|checkpoint|ckpt|resume|load|init|model|path") if t.section == "config"]
    read = " and ".join(f"{listed(names, 2)} in {side}" for names, side in ((a, "A"), (b, "B")) if names)
    what = "the weights are loaded from different files" if a and b else f"only {'A' if a else 'B'} loads weights from a file"
    summary = f"{what}: {read}" + leading(trigger[:2])
    strength = (0.9 if a and b else 0.65) * {"init": 1.0, "loaded": 1.0, "forward": 0.5}[s.stage]
    if s.torch_parted and s.stage != "init":
        strength *= 0.5
    names = {d.key for d in found}
    if bool(a) != bool(b) and s.stage != "forward" and {d.key for d in s.given} <= names:  # the same command
        side, other = ("A", "B") if a else ("B", "A")
        checks = s.hint("exists", "listing")
        yield Draft(
            "implicit-state",
            f"{side} finds the checkpoint {listed(a or b, 2)}, which an earlier run left, and goes on from it; {other} finds none and starts anew",
            (
                *(said(d) for d in found[:4]),
                *(f"the source asks for it: {h.place}" for h in checks[:2]),
                f"the command and its options are the same; first to differ: {s.place}",
                *([s.warm] if s.warm else []),
                *([f"the optimizers step {s.lengths[0]} times in A and {s.lengths[1]} times in B"] if s.lengths[0] != s.lengths[1] else []),
            ),
            f"Delete {(a or b)[0]} before a run that should start anew, or give each run a folder of its own; to go on from it in both, copy it.",
            0.92 if checks else 0.8,
            frozenset(names) | {story.name for story in s.torch_parted},
        )
        return
    yield Draft(
        "environment" if trigger and trigger[0].section == "environment" else "data",
        summary,
        (*(said(d) for d in found[:4]), *(said(t) for t in trigger[:2]), f"first to differ: {s.place}"),
        "Load the same weights in both runs.",
        strength,
        frozenset([d.key for d in found] + [t.key for t in trigger]),
    )


@rule("reading order", "sources")
def reading_order(s: Scene) -> Iterator[Draft]:
    """The same files were read, or listed, in another order."""
    order = s.find(r"^order of files read$")
    listings = [d for d in s.find(r"^listing of ") if "another order" in d.reason]
    if s.stage not in ("data", "init", "loaded") or not (order or listings):
        return
    if order and "several threads" in order[0].reason:
        return  # said by the race rule
    trigger = [t for t in best(s, r"order|sort|date|list") if re.search(r"order|sort|date|list", t.key, re.I)]
    lines = s.hint("listing", "mtime")
    by_time = [h for h in lines if h.kind == "mtime"]
    evidence = [
        *(said(d) for d in [*order, *listings[:2], *trigger]),
        s.samples.text,
        *(f"unsorted in the source: {h.place}" for h in lines[:3]),
    ]
    if trigger:
        why = leading(trigger)
    elif by_time:
        why = f": they are ordered by modification time (mtime), at {by_time[0].file}:{by_time[0].line}"
    elif listings:
        why = f": the file system lists {listed((d.key.removeprefix('listing of ') for d in listings), 2)} in another order, and the program does not sort"
    else:
        why = ""
    what = "the data files are read in another order" if order else "a folder is listed in another order"
    strength = 0.9 if order else 0.7 if lines else 0.4
    if s.samples.relation == "other content":
        strength *= 0.6
    yield Draft(
        "data",
        what + why,
        tuple(evidence),
        "Sort the names: `sorted(os.listdir(...))`, `sorted(path.glob(...))`.",
        strength,
        frozenset(d.key for d in [*order, *listings, *trigger]),
    )


@rule("files of other names", "sources")
def renamed(s: Scene) -> Iterator[Draft]:
    """The same files have other names, and the program takes them in the order of their names."""
    moved = {d.a: d.b for d in s.comparison.differences if d.section == "data" and d.reason == MOVED}
    if len(moved) < 2 or s.stage not in ("data", "init", "loaded") or s.torch_parted or s.hint("temporary"):
        return
    read = [{p: str(x["hash"]) for p, x in side.items() if x.get("hash")} for side in s.files_read]
    both = set(read[0].values()) & set(read[1].values())
    orders = [[p for p, digest in side.items() if digest in both] for side in read]
    if [read[0][p] for p in orders[0]] == [read[1][p] for p in orders[1]]:
        return
    at = next((n for n, (x, y) in enumerate(zip(*orders, strict=False)) if read[0][x] != read[1][y]), 0)
    shown = [listed(map(short, order[max(at - 1, 0) :]), 4) for order in orders]
    yield Draft(
        "data",
        f"{len(moved)} files of the same content have other names, and so the data is read in another order: {shown[0]} in A, {shown[1]} in B",
        (
            *(f"{x} in A is {y} in B, the same content" for x, y in list(moved.items())[:3]),
            s.samples.text,
            *(f"goes through names: {h.place}" for h in s.hint("listing")[:2]),
        ),
        "Use the same names in both runs (with leading zeros, where they are numbered), or sort by what a name holds: `key=lambda name: int(...)`.",
        (0.9 if s.stage == "data" else 0.6) * s.likeness,
        frozenset(moved) | {d.key for d in s.find("^listing of ")},
    )
