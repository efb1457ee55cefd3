"""Seeds: missing, others in one run, given too late, made of a name or by the operating system for a package's own generator."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reprodebug.compare.generators import Story
from reprodebug.compare.importance import OUTPUT_NAME
from reprodebug.diagnose.hints import Hint
from reprodebug.diagnose.rule import Draft, leading, listed, named, rule, said
from reprodebug.diagnose.scene import RANDOM_MODULES, Scene
from reprodebug.model.comparison import Difference

_SEED_CALL = {"torch": "torch.manual_seed(SEED)", "numpy.random": "numpy.random.seed(SEED)", "python.random": "random.seed(SEED)"}
_OWN = {
    "torch": "torch's generator",
    "numpy.random": "NumPy's global generator (numpy.random)",
    "python.random": "Python's random module (random)",
    "python.Random": "a generator object of Python's (random.Random)",
}


_HAND_OVER = "Hand a seed to what makes it: packages take one as an argument named seed, random_state, rng or generator."


def _family(name: str) -> str:
    return "torch" if name.startswith("torch") else name.partition("#")[0]


def _seeder(row: dict[str, str]) -> str:
    return f"{row['by']}, called at {row['where']}" if row["by"] else row["where"]


def other_seed(s: Scene, story: Story) -> str | None:
    """How the two runs seeded this generator otherwise, in words; None where they seeded it alike (or that is not known)."""
    rows_a, rows_b = s.seeded(story.name)
    seeds = s.torch_seeds(story) if story.name.startswith("torch") else (None, None)
    if story.name.startswith("torch.Generator"):  # one that the program made itself: never without a seed
        alike = None in seeds or seeds[0] == seeds[1]
        return None if alike else f"the {story.name} is seeded with {seeds[0]} in A and {seeds[1]} in B"
    own = _OWN.get(_family(story.name), story.name)
    if rows_a and rows_b:
        for x, y in zip(rows_a, rows_b, strict=False):
            if x["seed"] != y["seed"]:
                return f"{own} is seeded with {x['seed']} in A and {y['seed']} in B, by {_seeder(y)}"
            if x["seed"] == "from the system":
                return f"{own} is seeded from the operating system's randomness, by {_seeder(y)}"
        if len(rows_a) != len(rows_b) and None not in seeds and seeds[0] != seeds[1]:
            row, side = (rows_a[-1], "A") if len(rows_a) > len(rows_b) else (rows_b[-1], "B")
            return f"{own} is seeded once more in {side}, with {row['seed']} by {row['where']}"
        return None
    if rows_a or rows_b:
        row, side = (rows_a[0], "A") if rows_a else (rows_b[0], "B")
        return f"{own} is seeded in {side} only, by {row['where']}"
    if None not in seeds:
        if seeds[0] == seeds[1]:
            return None
        if s.has_ledger or story.name.startswith("torch.c"):
            return f"{own} is not seeded: each launch starts it from another state ({seeds[0]} in A, {seeds[1]} in B)"
        return f"{own} started from {seeds[0]} in A and {seeds[1]} in B"
    lines = s.hint({"python.random": "python-seed", "numpy.random": "numpy-seed"}.get(story.name, ""))
    if lines and not story.name.startswith("torch"):  # before torch was imported: no ledger is kept by then
        return f"{own} starts from another state in each run; what seeds it is not the same in both, at {lines[0].place}"
    if s.has_ledger and not story.name.startswith("torch") and "#" not in story.name:
        return f"{own} is not seeded: each launch starts it from another state"
    return None


@rule("missing or other seed", "ledger")
def missing_seed(s: Scene) -> Iterator[Draft]:
    """A generator that the program uses was not seeded, or with another seed."""
    found = [
        (weight, story.name, how)
        for story in s.parted.values()
        if (how := other_seed(s, story)) is not None and (weight := _weight(s, story, how)) > 0
    ]
    found += _let_go(s)
    if not found:
        return
    # Python's generator shuffles and chooses, NumPy's makes values
    values = s.samples.relation in ("unknown", "other content", "other samples") and str(s.first.dtype).startswith(("float", "bfloat"))
    found.sort(key=lambda x: (-x[0], not x[1].startswith("torch"), values == x[1].startswith("python")))
    weight, name, how = found[0]
    derived = s.hint("clock")
    hashed = s.hint("hash") if s.find(r"^PYTHONHASHSEED$", "environment") else []
    hashed = hashed if not derived else [h for h in hashed if "seed" in h.text]
    given = s.find(r"seed", "config", "environment")
    given = [d for d in given if d.key != "PYTHONHASHSEED" and not d.key.startswith("DataLoader#")]
    if "seeded with" in how:
        given += [d for d in s.variables_read if d not in given]
    summary = how + "".join(f"; likewise, {h}" for w, _, h in found[1:2] if w >= weight and h != how)
    evidence = [h for _, _, h in found]
    if given:
        summary += f"; {listed(named(d) for d in given[:2])}"
        evidence += [said(d) for d in given[:3]]
    elif "seeded with" in how and hashed:
        summary += f"; the seed is made by hash(), which differs at every launch while PYTHONHASHSEED is not fixed ({hashed[0].file}:{hashed[0].line})"
        evidence += [f"the source hashes: {h.place}" for h in hashed[:2]]
    elif "seeded with" in how and (named_by := _names(s)) and (digests := _of_text(s)):
        summary += f"; the seed is made of a text ({digests[0].file}:{digests[0].line}: {digests[0].text}){leading(named_by[:2])}"
        evidence += [*(f"makes a number of a text: {h.place}" for h in digests[:2]), *(said(d) for d in named_by[:2])]
    elif "seeded with" in how and derived:
        summary += f"; the seed is not fixed but made anew at each launch ({derived[0].file}:{derived[0].line})"
        evidence += [f"the source takes a value that differs at every launch: {h.place}" for h in derived[:2]]
    elif "seeded with" in how and (counted := s.find(r"^listing of ", "data")):
        summary += f"; the program lists the folder {counted[0].key.removeprefix('listing of ')}, which holds other files in B (earlier runs may have left them)"
        evidence += [said(d) for d in counted[:2]]
    if name in s.parted:
        step = int(s.pair.align.step_a[s.pair.align.a[s.parted[name].at]])
        evidence.append(f"the states of {name} differ from step {step} on, before {s.place}")
    if name.startswith(("numpy", "python")):
        used = s.hint("numpy-global" if name.startswith("numpy") else "python-global")
        evidence += [f"the program draws from it: {h.place}" for h in used[:2]]
    families = list(dict.fromkeys(_family(x) for _, x, _ in found))
    calls = [_SEED_CALL[f] for f in families if f in _SEED_CALL]
    call = f"call {listed(calls)} with a constant before anything else"
    steps = [f"Fix the seed: {call}; pass the same seed to both runs."] if calls else []
    if own := [f for f in families if f in ("numpy.default_rng", "python.Random")]:
        if any(r["by"] for r in s.seeded(own[0])[1]):
            steps = [_HAND_OVER, *([f"Where that is drawn from a global generator: {call}."] if calls else [])]
        else:
            steps.append("Give numpy.random.default_rng a fixed seed.")
    remedy = " ".join(steps or ["Fix the seed of the generator: pass the same one to both runs."])
    yield Draft(
        "random-state",
        summary,
        tuple(evidence),
        remedy,
        weight,
        frozenset(d.key for d in given) | {x for _, x, _ in found},
        within=bool(derived or hashed) or "not seeded" in how or "another state in each run" in how or "operating system" in how,
    )


def _let_go(s: Scene) -> list[tuple[float, str, str]]:
    """Generators that were seeded otherwise, used and let go before their state was looked at, such as by a data set that is
    shuffled: (how likely, name, what is wrong)."""
    found = []
    likely = {"data": 0.9, "init": 0.6, "forward": 0.6}.get(s.stage, 0.0) * s.likeness
    for name in ("numpy.default_rng", "python.Random"):
        if likely and not any(x.startswith(name) for x in s.parted) and (how := _first_other_seed(s, name)):
            found.append((likely, name, f"{_OWN.get(name, name)} is seeded with {how}"))
    return found


def _first_other_seed(s: Scene, name: str) -> str:
    """Where the two runs first gave generators of one kind another seed, by the same line and before they parted; '' where they did not."""
    for x, y in zip(*s.seeded(name), strict=False):
        if int(x["step"]) > s.first.step or x["where"] != y["where"]:
            break
        if x["seed"] != y["seed"]:
            return f"{x['seed']} in A and {y['seed']} in B, by {_seeder(y)}"
    return ""


def _weight(s: Scene, story: Story, how: str) -> float:
    """How likely this generator's state reached the first differing tensor."""
    torch = story.name.startswith("torch")
    if torch:
        if s.stage in ("init", "data"):
            return 0.95
        if s.stage in ("forward", "loaded"):
            return 0.95 if RANDOM_MODULES.search(s.first.module_type) else 0.8
        return 0.35 if s.stage == "loss" else 0.2
    kind = "numpy-global" if story.name.startswith("numpy.random") else "python-global" if story.name == "python.random" else ""
    drawn = s.hint(kind) if kind else []
    used = story.used_a or story.used_b
    if not kind:  # a numpy generator of its own
        if s.stage not in ("data", "init", "loaded", "forward"):
            return 0.2
        used = used or (s.stage == "data" and any(n.get("num_workers") for n in s.notes("loader")[0]))  # workers draw from copies
        # one that a library makes, draws from and drops within a call is seen once: whether it was used is not known
        return 0.85 if used else 0.6 if "operating system" in how and s.alike and not s.torch_parted else 0.2
    if s.has_sources and not drawn and not used:
        return 0.0
    if s.torch_parted and s.stage != "data":
        return 0.1
    likely = {"data": 0.9, "init": 0.6, "loaded": 0.5, "forward": 0.6, "loss": 0.4 if s.rounding else 0.7}.get(s.stage, 0.15)
    if used and drawn:
        return likely
    if drawn:  # drawn from before the first look, or in another process
        return likely * 0.6
    return likely * (0.35 if s.has_sources else 0.6)


def _names(s: Scene) -> list[Difference]:
    """Options that by their names only say what a run is called or where it writes, and whose values are words."""
    found = [d for d in s.comparison.differences if d.section == "config" and d.reason == OUTPUT_NAME]
    return [d for d in found if not all(re.fullmatch(r"\(\w+\)|[\d.]+|True|False", v) for v in (d.a, d.b))]


def _of_text(s: Scene) -> list[Hint]:
    """Lines that make a number of a text to seed a generator with, or another number where none does."""
    lines = s.hint("digest", *([] if s.find(r"^PYTHONHASHSEED$", "environment") else ["hash"]))
    return [h for h in lines if h.name == "seed" or "seed" in h.text] or lines


@rule("computed name", "sources")
def computed_name(s: Scene) -> Iterator[Draft]:
    """The name of a run or of its folder, which decides no number as a rule, is hashed, and the number computed with."""
    names, lines = _names(s), _of_text(s)
    if not names or not lines or not s.alike or s.torch_parted or s.stage not in ("data", "init", "forward", "loaded", "loss"):
        return
    seeding = lines[0].name == "seed" or "seed" in lines[0].text
    what = "and seeds a generator" if seeding else "which may get into the computation"
    yield Draft(
        "random-state" if seeding else "configuration",
        f"the program makes a number of a text, {what} ({lines[0].file}:{lines[0].line}: {lines[0].text}), and {listed(named(d) for d in names[:2])}"
        f" {'differ' if len(names) > 1 else 'differs'}: a name that looks as if it only said where the run writes",
        (
            *(f"{named(d)}: by its name it only says what the run is called or where it writes" for d in names[:3]),
            *(f"makes a number of a text: {h.place}" for h in lines[:3]),
            s.launched,
            f"first to differ: {s.place}",
            "the states of torch's global generators were equal",
        ),
        "Seed with a constant or an option of its own (--seed), not with a name; or give both runs the same name.",
        0.8 if seeding else 0.45,
        frozenset(d.key for d in names),
    )


@rule("seeded too late", "ledger")
def late_seed(s: Scene) -> Iterator[Draft]:
    """A generator was drawn from before the program seeded it."""
    if s.stage in ("backward", "optimizer"):
        return
    for family, kind in (("torch", ""), ("numpy.random", "numpy-global"), ("python.random", "python-global")):
        rows = [next((r for r in side if r["generator"] == family), None) for side in s.ledger]
        if rows[0] is None or rows[1] is None or "" in (rows[0]["drawn_from"], rows[1]["drawn_from"]):
            continue
        if rows[0]["drawn_from"] == rows[1]["drawn_from"] or (kind and s.has_sources and not s.hint(kind)):
            continue
        own = _OWN[family]
        evidence = [
            f"when {own} is first seeded, by {rows[0]['where']}, numbers had been drawn from it already, in both runs",
            "before that each launch starts from another state",
            f"first to differ: {s.place}",
            *(f"the program draws from it: {h.place}" for h in s.hint(kind)[:2]),
        ]
        what = "the initial weights" if family == "torch" and s.stage == "init" else "what was drawn before"
        summary = f"{own} is seeded too late, by {rows[0]['where']}: {what} came from an unseeded state, which differs at every launch"
        likely = {"init": 0.95, "data": 0.9, "forward": 0.6, "loaded": 0.7, "loss": 0.4}[s.stage] * (1.0 if family == "torch" else 0.9)
        if s.torch_parted:
            likely *= 0.6
        yield Draft("random-state", summary, tuple(evidence), "Seed before anything is built or drawn.", likely, within=True)


@rule("generator made without a seed", "sources")
def made_without_seed(s: Scene) -> Iterator[Draft]:
    """A generator object that is not recorded, of the program's own or of a package's, is made without a seed."""
    layers = s.stage == "init" and any("other settings" in d.reason for d in s.find(r"^module ", "config"))  # of other sizes, say
    if s.stage in ("backward", "optimizer") or s.likeness < 0.5 or (s.torch_parted and not layers):
        return
    recorded = any("default_rng" in n for n in s.parted)
    lines = [h for h in s.hint("unseeded") if "default_rng" not in h.text or not recorded]
    inside = _seeded_by_the_system(s, {f"{h.file}:{h.line}" for h in lines}, recorded)
    if not lines and not inside:
        return
    evidence = [f"made without a seed: {h.place}" for h in lines[:3]] + [f"made without a seed: {said}" for said in inside[:3]]
    evidence += [s.launched, *([] if s.torch_parted else ["torch's generators were equal"])]
    evidence += [s.samples.text] if s.stage == "data" else []
    first = f"{lines[0].file}:{lines[0].line} ({lines[0].text})" if lines else inside[0]
    summary = f"a random generator is made without a seed, so each launch draws other numbers from it: {first}"
    remedy = "Give it a seed: random.Random(SEED), numpy.random.default_rng(SEED)." if lines else _HAND_OVER
    if any(said.startswith(("gym.", "gymnasium.")) for said in inside):
        remedy += " An environment of gymnasium takes its own: env.reset(seed=SEED), env.action_space.seed(SEED)."
    strength = {"data": 0.85, "init": 0.7}.get(s.stage, 0.6) * s.likeness * (1.0 if lines else 0.9)
    yield Draft("random-state", summary, tuple(evidence), remedy, strength, within=True)


def _seeded_by_the_system(s: Scene, known: set[str], recorded: bool) -> list[str]:
    """Where both runs made a generator of NumPy that asked the system for a seed, before they parted. ``known``: lines told already;
    ``recorded``: the states of those of ``default_rng`` are known to differ, which is told elsewhere."""
    found = []
    for name in ("numpy.Generator", *(() if recorded else ("numpy.default_rng",))):
        a, b = s.seeded(name)
        others = {r["where"] for r in b if r["seed"] == "from the system"}
        found += [r for r in a if r["seed"] == "from the system" and r["where"] in others and int(r["step"]) <= s.first.step]
    return list(dict.fromkeys(_seeder(r) for r in found if r["where"].partition(" ")[0] not in known))
