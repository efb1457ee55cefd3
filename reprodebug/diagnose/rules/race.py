"""Race: order of arrival decides, among threads of the program or inside a nondeterministic kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reprodebug.diagnose.hints import Hint
from reprodebug.diagnose.rule import Draft, listed, rule, said
from reprodebug.diagnose.rules.random_state import drawn_from, side_by_side
from reprodebug.diagnose.rules.seeds import other_seed
from reprodebug.diagnose.samples import chosen_otherwise
from reprodebug.diagnose.scene import Scene

_NONDETERMINISTIC = {
    "cuda": re.compile(
        r"Embedding(Bag)?$|AdaptiveAvgPool[23]d|AdaptiveMaxPool2d|AvgPool3d|MaxPool3d|FractionalMaxPool|MaxUnpool|ReflectionPad|ReplicationPad"
        r"|Upsample|CTCLoss|NLLLoss|RNN|LSTM|GRU|Conv(Transpose)?[123]d|MultiheadAttention|GridSample"
    ),
    "cpu": re.compile(r"MaxUnpool|Embedding(Bag)?$"),
}
"""module types whose forward or backward is on PyTorch's list of nondeterministic operations, per device
(torch.use_deterministic_algorithms, https://pytorch.org/docs/stable/generated/torch.use_deterministic_algorithms.html)"""


@rule("order of arrival", "sources")
def arrival(s: Scene) -> Iterator[Draft]:
    """Batches, samples or parts of a sum are taken in the order in which threads or processes deliver them."""
    if s.numeric:
        yield from _sums(s)
        return
    order = [d for d in s.find(r"^order of files read$") if "several threads" in d.reason]
    lines = s.hint("arrival")
    taken = [h for h in lines if _AS_THEY_COME.search(h.text)] or [h for h in lines if h.name == "task"]
    if any("Queue(" in h.text for h in lines) and any("Process(" in h.text for h in lines):
        taken = taken or [h for h in lines if "Queue(" in h.text or "Process(" in h.text]
    loose = s.find(r"^DataLoader#\d+\.in_order$") or [d for d in s.comparison.differences if d.key.endswith(".in_order")]
    if not (s.pools or order or taken):
        return
    reordered = s.samples.relation in ("same samples, other order", "other batches")
    strength = 0.9 if reordered or order else 0.75 if s.samples.relation == "unknown" else 0.45
    if not lines and s.has_sources:
        strength *= 0.7
    strength *= max(s.likeness, 0.8 if reordered and taken else 0.0)
    if s.torch_parted and s.stage == "data":
        strength *= 0.3
    evidence = [f"the program starts threads that run {listed(s.pools, 3)}"] if s.pools else []
    evidence += [s.samples.text, *(said(d) for d in [*order, *loose][:2]), *(f"in the source: {h.place}" for h in (taken or lines)[:3])]
    if s.alike:
        evidence.append(s.launched)
    if not s.torch_parted:
        evidence.append("seeds and states of torch's generators were equal")
    shown = (taken or lines)[-1:]
    who = _workers(s, taken or lines)
    in_turn = s.hint("in-turn")
    if in_turn and not taken and not reordered and all("Pool" in h.text for h in lines):
        h = in_turn[0]
        drawn = [x for x in s.hint("numpy-global", "python-global") if x.file == h.file] if s.pools else []
        yield Draft(
            "race",
            f"a race between {who}: they share a random generator or other state, and what each takes from it depends on which comes first"
            f" ({h.file}:{h.line}: {h.text}); the results themselves come in the order of the tasks",
            (*evidence, *(f"draws from a generator that all threads share: {x.place}" for x in drawn[:2])),
            "Give each task a generator of its own, seeded by its number (numpy.random.default_rng([SEED, i])), and let tasks change nothing they share.",
            max(strength, 0.75 * s.likeness) if drawn else strength,
            within=True,
        )
        return
    if s.pools and not taken and not order and chosen_otherwise(s):
        yield Draft(
            "race",
            f"a race between {who}: every sample is the same in both runs by its index, but the sampler chose others: probably what it goes by (weights,"
            f" counts, a split) is computed by {listed(s.pools, 2)}, which change it without a lock or in the order of arrival"
            + "".join(f" ({h.file}:{h.line}: {h.text})" for h in shown),
            tuple(evidence),
            "Let each thread count for itself and put the parts together in a fixed order, or guard what they share with a lock.",
            strength,
            within=True,
        )
        return
    counted = [x for x in drawn_from(s) if other_seed(s, x) is None]
    if s.samples.relation == "other samples":  # one of the program's own makes values, and the threads may have it too
        counted = [x for x in counted if "default_rng" not in x.name]
    if counted and s.alike and s.pools and not taken and not order:
        yield Draft(
            "race",
            f"a race between threads: how much {listed(s.pools, 2)} {'has' if len(s.pools) == 1 else 'have'} put where the main thread looks differs"
            f" in each run, so it draws other numbers from {counted[0].name} and takes other samples"
            + "".join(f" ({h.file}:{h.line}: {h.text})" for h in shown),
            (*evidence, f"the states of {counted[0].name} differ, which was seeded alike"),
            "Let the training fetch what it needs itself, or let the thread hand over a fixed number of items before each draw (a queue that is read"
            " so many times, a barrier).",
            strength,
            frozenset({counted[0].name}),
            within=True,
        )
        return
    if s.samples.relation == "other samples" and s.pools and not taken and not order:
        yield Draft(
            "race",
            f"a race between {who}: what {listed(s.pools, 2)} compute{'s' if len(s.pools) == 1 else ''} is no other order of the same samples: probably they"
            " change something that they share without a lock, or draw from one generator, and which comes first differs in each run"
            + "".join(f" ({h.file}:{h.line}: {h.text})" for h in shown),
            tuple(evidence),
            "Let each thread work on its own copy and generator and put the parts together in a fixed order, or guard what they share with a lock"
            " (a lock alone does not fix the order in which floating-point numbers are added).",
            max(strength, 0.6 * s.likeness),
            within=True,
        )
        return
    line = "".join(f" ({h.file}:{h.line}: {h.text})" for h in shown)
    remedy = _IN_ORDER
    if s.stage in ("init", "loaded"):
        effect = f"{s.place} is put together of parts in the order of arrival{line}; a list, and a sum of floating-point numbers, depends on the order of its terms"
    elif s.samples.relation == "unknown" and s.pools and not taken and not order:
        effect = (
            f"how far {listed(s.pools, 2)} {'has' if len(s.pools) == 1 else 'have'} come when the main thread looks differs in each run{line}: it takes what"
            " is there, in the order of arrival, or reads memory that is being written"
        )
        remedy = _HAND_OVER
    elif reordered:
        effect = f"data comes in the order of arrival{line}, so the batches come in another order in each run"
    else:
        effect = f"data comes in the order of arrival{line}, which differs in each run"
    yield Draft("race", f"a race between {who}: {effect}", tuple(evidence), remedy, strength, within=True)


_AS_THEY_COME = re.compile(r"as_completed|imap_unordered|FIRST_COMPLETED|asyncio\.wait\b")
_IN_ORDER = "Take the results in the order in which they were asked for (executor.map, pool.imap, asyncio.gather, a list of futures), or sort them by key before use."

_HAND_OVER = (
    "Hand over copies (tensor.clone(), array.copy()) in a fixed order, through a queue that holds as many as may wait, and let nobody write what"
    " another thread may still read (a lock, a barrier, an event that says it was used)."
)


def _workers(s: Scene, lines: list[Hint]) -> str:
    text = " ".join(h.text for h in lines)
    if "imap_unordered" in text or "Process(" in text or any("multiprocessing" in p or "process" in p for p in s.pools):
        return "processes"
    return "tasks" if ("asyncio" in text or any(h.name == "task" for h in lines)) and not s.pools else "threads"


def _sums(s: Scene) -> Iterator[Draft]:
    """Threads of the program compute parts of it, and the parts are put together as they come."""
    lines = s.hint("arrival")
    taken = [h for h in lines if _AS_THEY_COME.search(h.text)]
    if not lines or not s.pools or s.likeness < 0.5 or s.rounding is False or (s.torch_parted and s.stage in ("forward", "loss")):
        return
    evidence = [f"the program starts threads that run {listed(s.pools, 3)}", f"first to differ: {s.place}"]
    evidence += [f"in the source: {h.place}" for h in (taken or lines)[:3]]
    evidence.append(s.launched)
    shown = (taken or lines)[-1]
    summary = (
        f"a race between {_workers(s, taken or lines)}: parts of {s.place} are computed beside each other and put together in the order of"
        f" arrival ({shown.file}:{shown.line}: {shown.text}); a sum of floating-point numbers depends on the order of its terms"
    )
    yield Draft("race", summary, tuple(evidence), _IN_ORDER, (0.8 if taken else 0.6) * s.likeness, within=True)


@rule("memory that threads share", "sources")
def shared_memory(s: Scene) -> Iterator[Draft]:
    """What went in was equal when it was looked at, and the result is another by more than rounding: a thread wrote into it."""
    lines = s.hint("arrival")
    if not s.numeric or not s.pools or s.rounding is not False or s.likeness < 0.5 or s.inputs_equal is False:
        return
    if (s.torch_parted and s.stage in ("forward", "loss")) or (s.has_sources and not lines):
        return
    views = s.hint("shared-memory")
    late = "what forward kept for it was written before backward read it" if s.stage == "backward" else "it was written while in use"
    yield Draft(
        "race",
        f"a race between threads: {listed(s.pools, 2)} and the main thread probably share memory, and one writes what the other still reads:"
        f" {s.place} differs by more than rounding although what went in was equal"
        + "".join(f" ({h.file}:{h.line}: {h.text})" for h in lines[-1:]),
        (
            f"the program starts threads that run {listed(s.pools, 3)}",
            *(f"equal before: {row.removesuffix(': equal')}" for row in s.equal[-4:]),
            f"first to differ: {s.place}; {late}, if it is so (a buffer that is filled anew, parameters of one model)",
            *(f"starts or feeds a thread: {h.place}" for h in lines[:2]),
            *(f"shares memory instead of copying it: {h.place}" for h in views[:2]),
            s.launched,
        ),
        _HAND_OVER,
        (0.8 if views else 0.6) * s.likeness,
        within=True,
    )


@rule("generator of several threads")
def drawn_beside(s: Scene) -> Iterator[Draft]:
    """Threads of the program and its main thread draw from one generator: who draws next is not the same in any two runs."""
    if (s.numeric and s.stage != "forward") or not s.pools or not s.alike:
        return
    beside = side_by_side(s)
    shared = [x for x in s.parted.values() if x.name in _ONE_FOR_ALL and x.last_equal >= 0]
    shared = [x for x in shared if (x.used_a and x.used_b) or (beside and (x.used_a or x.used_b))]  # the first draw may be the race's
    lines = {x.name: s.hint(kind) for x in shared if (kind := _ONE_FOR_ALL[x.name])}
    shared = [x for x in shared if x.name not in lines or lines[x.name] or not s.has_sources]
    if not shared or ([x for x in s.alone if x.kind == "activation"] and not beside):
        return
    story = shared[0]
    step = int(s.pair.align.step_a[s.pair.align.a[story.at]])
    drawn = lines.get(story.name, [])
    who = (
        f"several of them call modules and may draw ({listed(s.pools, 2)})"
        if beside
        else f"{listed(s.pools, 2)} and the main thread may both draw"
    )
    yield Draft(
        "race",
        f"a race between threads: {who} from {story.name}, and which of them comes first differs"
        f" in each run: its states were equal at first and part at step {step}",
        (
            f"the program starts threads that run {listed(s.pools, 3)}",
            f"{story.name} was equal in both runs before{', and both drew from it' * (story.used_a and story.used_b)}; {s.launched}",
            *(f"draws from it: {h.place}" for h in drawn[:4]),
            f"first to differ: {s.place}",
        ),
        "Give each thread a generator of its own (numpy.random.default_rng([SEED, k]), random.Random(k), torch.Generator().manual_seed(k)).",
        0.88 if len(drawn) > 1 else 0.8,
        frozenset({story.name}),
        within=True,
    )


_ONE_FOR_ALL = {"numpy.random": "numpy-global", "python.random": "python-global", "torch.cpu": ""}
"""generators that all threads of a process share -> the hint that names the lines that draw from them"""


@rule("nondeterministic kernel", "settings")
def kernel(s: Scene) -> Iterator[Draft]:
    """Everything that went in was equal, the runs were launched alike, and a computed tensor differs."""
    if not s.numeric or not s.alike or s.inputs_equal is False:
        return
    written = [h for h in s.hint("overwriting") if not h.name or h.name == s.first.module_type] if s.stage in ("forward", "loss") else []
    if s.rounding is False and not written:  # another order of additions is a difference of rounding
        return
    device = str(s.pair.a.metas[s.events[0]["meta"]][2])
    kind = "cuda" if device.startswith("cuda") else "cpu"
    known = bool(_NONDETERMINISTIC[kind].search(s.first.module_type))
    backward = s.stage == "backward" and kind == "cuda"
    lines = s.hint("nondeterministic", *(["nondeterministic-gradient"] if backward else []))
    if s.stage in ("forward", "loss") or not s.first.tensor.startswith("output"):  # the gradient of an output comes from other modules
        lines = [h for h in lines if h.name in ("", s.first.module_type)]
    lines.sort(key=lambda h: (h.name != s.first.module_type, h.name != ""))
    deterministic = [part.get("deterministic_algorithms") for part in (s.sides[0].part("settings"), s.sides[1].part("settings"))]
    if s.torch_parted and s.stage in ("forward", "loss"):
        return
    inside = [h for h in written if h.name == s.first.module_type]
    listed_there = kind == "cuda" and (known or any(h.name == s.first.module_type for h in lines))
    strength = 0.8 if inside or listed_there else 0.6 if lines or written else 0.45
    threads = [part.get("intra_op_threads") for part in (s.sides[0].part("settings"), s.sides[1].part("settings"))]
    if kind == "cpu" and threads == [1, 1]:
        strength *= 0.3
    if all(deterministic):
        strength *= 0.6
    if s.enters:
        where = f"what is computed of the output of {s.first.module or s.first.root or s.first.module_type}"
    else:
        where = f"module {s.first.module} ({s.first.module_type})" if s.first.module else s.first.module_type or "the program"
    evidence = [
        f"{s.launched}: nothing else that was recorded around the tensors differs",
        f"first to differ: {s.place}, on {device}",
    ]
    evidence += [f"equal before: {row.removesuffix(': equal')}" for row in s.equal[-4:]]
    if known:
        evidence.append(f"{s.first.module_type} has a nondeterministic kernel on {kind}, by PyTorch's list")
    evidence += [f"in the source: {place}" for place in dict.fromkeys(h.place for h in [*(inside or written)[:3], *lines[:3]])]
    if kind == "cpu":
        evidence.append(f"threads inside an operation: {threads[0]} in A, {threads[1]} in B")
    evidence.append(f"deterministic_algorithms is {'on' if all(deterministic) else 'off'}")
    summary = f"a nondeterministic operation (a race or atomic additions) in the {s.first.phase} of {where}: it gave another result from equal inputs"
    if written:
        shown = (inside or written)[0]
        summary = (
            f"a nondeterministic operation in the {s.first.phase} of {where}: {shown.file}:{shown.line} ({shown.text}) writes by index; where an index"
            " occurs twice the element that is written last stays, and which one that is depends on how threads race"
        )
    remedy = "Run with torch.use_deterministic_algorithms(True) (and CUBLAS_WORKSPACE_CONFIG=:4096:8 on CUDA): it names the operation or replaces it."
    yield Draft("race", summary, tuple(evidence), remedy, strength, within=True)
