"""The scene of the first divergence: everything that a rule may ask, gathered once.

Owns the facts; refuses every conclusion, those are the rules'. Answers are computed when first asked.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from reprodebug._base.text import visible
from reprodebug.compare import restarts
from reprodebug.compare.before import inputs_of_call
from reprodebug.compare.generators import Story, stories
from reprodebug.compare.history import module_table, reads, same_names, seeds
from reprodebug.compare.importance import CHANGED_BY_BOTH, NAMED, UNKNOWN
from reprodebug.compare.surroundings import Side
from reprodebug.diagnose.draws import Between, apart, seed_of
from reprodebug.diagnose.hints import CONVERTED, Hint, hints
from reprodebug.diagnose.samples import Samples, own_sampler, samples
from reprodebug.model.comparison import Difference, Divergence, loss_gap
from reprodebug.model.events import Flag, Kind

if TYPE_CHECKING:
    from reprodebug.compare.runs import Examined, Pair

CHECKPOINT = re.compile(r"\.(pt|pth|ckpt|bin|safetensors|pkl|npz|h5|tar|model|state)$")
RANDOM_MODULES = re.compile(r"Dropout|DropPath|StochasticDepth|RReLU|GaussianNoise|Gumbel|Noise|Bernoulli", re.I)
STATISTICS = re.compile(r"(Lazy|Sync)?(Batch|Instance)Norm(\dd)?$")
"""types of modules that gather statistics of the batches they are given"""
LIBRARY_THREAD = re.compile(r"(tqdm|torch|multiprocessing\.queues|tensorboard|wandb|mlflow|threading\._?Timer|_pytest)")
"""what a thread runs that a library started beside the program's own"""
_GAP_RECORDS = 200_000


@dataclass(frozen=True, slots=True)
class Alone:
    """Records that one run has alone, before the first divergence, folded by module."""

    side: str
    module: str
    module_type: str
    root: str
    kind: str
    phase: str
    step: int
    records: int


class Scene:
    """What is known about one first divergence."""

    def __init__(self, examined: Examined, repeats: bool | None = None) -> None:
        assert examined.comparison.first is not None and examined.pair is not None
        self.comparison = examined.comparison
        self.first: Divergence = examined.comparison.first
        self.pair: Pair = examined.pair
        self.at = examined.at
        self.a, self.b = examined.a, examined.b
        self.sides = Side(examined.a.manifest), Side(examined.b.manifest)
        self.repeats = repeats
        """whether one of the runs is known to repeat itself bit for bit; None where that was not tried"""
        self._apart: dict[str, tuple[int | None, Between | None]] = {}
        self.differences = [d for d in self.comparison.differences if d.severity != "harmless"]

    # where

    @cached_property
    def stage(self) -> str:
        """``init``: a parameter or buffer before the first use; ``loaded``: one that changed outside an optimizer;
        ``data``; ``forward``; ``loss``; ``backward``; ``optimizer``: a parameter after a step, or an optimizer's state."""
        d = self.first
        if d.kind == "parameter":
            return {"init": "init", "optimizer": "optimizer"}.get(d.phase, "loaded")
        if self.enters:
            return "loss"
        return {"data": "data", "activation": "forward", "gradient": "backward", "optimizer": "optimizer", "loss": "loss", "rng": "data"}[
            d.kind
        ]

    @cached_property
    def enters(self) -> bool:
        """The first difference is the gradient with which backward begins: what the program computed of its outputs made it."""
        before = int(self.pair.align.a[self.at]) - 1
        output = self.first.kind == "gradient" and self.first.tensor.startswith("output")
        return output and before >= 0 and self.pair.a.events["kind"][before] != Kind.GRADIENT

    @property
    def numeric(self) -> bool:
        """The first difference is the result of a computation, not of what was put in."""
        return self.stage in ("forward", "loss", "backward", "optimizer")

    @cached_property
    def place(self) -> str:
        """The first divergence in words."""
        d = self.first
        of = f" of {visible(d.root, 60)}" if d.root else ""
        name = f"module {visible(d.module, 100)}{of}" if d.module else visible(d.root or d.module_type, 60) or "the program"
        return f"{visible(d.tensor, 60)} of {name} at step {d.step} ({d.phase})"

    @property
    def events(self) -> tuple[Any, Any]:
        """The two records of the first divergence."""
        return self.pair.a.events[self.pair.align.a[self.at]], self.pair.b.events[self.pair.align.b[self.at]]

    # what was equal

    def flag(self, flag: Flag) -> tuple[bool, bool]:
        a, b = self.events
        return bool(a["flags"] & flag), bool(b["flags"] & flag)

    @cached_property
    def wrong(self) -> Any:
        """bool[n]: which records of the alignment differ."""
        import numpy as np

        wrong = np.zeros(len(self.pair.align.a), bool)
        wrong[self.pair.mismatch] = True
        return wrong

    @cached_property
    def inputs_equal(self) -> bool | None:
        """Whether the inputs of the very call were equal; None where none was seen."""
        if self.stage != "forward":
            return None
        seen, different = inputs_of_call(self.pair, self.at, self.wrong)
        return None if not seen else not different

    @cached_property
    def equal(self) -> list[str]:
        """What was compared and equal before, in short words, for the evidence of causes."""
        return [row for row in self.comparison.equal_before if row.endswith("equal")]

    # random generators

    @cached_property
    def generators(self) -> dict[str, Story]:
        return {s.name: s for s in stories(self.pair, self.at)}

    @cached_property
    def parted(self) -> dict[str, Story]:
        """Generators whose states differed when the first divergence was recorded, or earlier."""
        return {n: s for n, s in self.generators.items() if 0 <= s.at <= self.at}

    @cached_property
    def torch_parted(self) -> list[Story]:
        """Those of torch's generators, the default one first."""
        return sorted((s for n, s in self.parted.items() if n.startswith("torch")), key=lambda s: not s.name.startswith("torch.cpu"))

    def bodies(self, s: Story) -> tuple[bytes, bytes] | None:
        """The two states where they part, whole; None where they were not kept."""
        a = self.pair.a.state(s.number_a, int(s.row_a["lo"]), int(s.row_a["hi"]))
        b = self.pair.b.state(s.number_b, int(s.row_b["lo"]), int(s.row_b["hi"]))
        return None if a is None or b is None else (a, b)

    def torch_seeds(self, s: Story) -> tuple[int | None, int | None]:
        """The seeds that the two states of a torch generator were made from."""
        bodies = self.bodies(s)
        return (None, None) if bodies is None else (seed_of(s.name, s.algorithm, bodies[0]), seed_of(s.name, s.algorithm, bodies[1]))

    def apart(self, s: Story) -> tuple[int | None, Between | None]:
        """Draws by which B is ahead of A where their states part; (None, why) where that cannot be told."""
        if s.name not in self._apart:
            bodies = self.bodies(s)
            self._apart[s.name] = (None, None) if bodies is None else apart(s.name, s.algorithm, *bodies)
        return self._apart[s.name]

    @cached_property
    def ledger(self) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        """Calls that seeded a generator, in A and in B."""
        return seeds(self.pair.a.notes_meta, self.sides[0]), seeds(self.pair.b.notes_meta, self.sides[1])

    def seeded(self, generator: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        """The ledger's rows for one generator."""
        name = "torch" if generator.startswith("torch.c") else generator.partition("#")[0]
        return tuple([r for r in rows if r["generator"] == name] for rows in self.ledger)  # type: ignore[return-value]

    @property
    def has_ledger(self) -> bool:
        """Both runs were recorded by a version that keeps the ledger (and the modules' settings)."""
        return all(any(n.get("type") == "modules" for n in t.notes_meta) for t in (self.pair.a, self.pair.b))

    # what only one run has

    @cached_property
    def alone(self) -> list[Alone]:
        """Stretches of records before the first divergence that stand in one run only, folded by module, in order."""
        import numpy as np

        found: dict[tuple[str, str, str, str, int], Alone] = {}
        for side, trace, only, step, limit in (
            ("a", self.pair.a, self.pair.align.only_a, self.pair.align.step_a, int(self.pair.align.a[self.at])),
            ("b", self.pair.b, self.pair.align.only_b, self.pair.align.step_b, int(self.pair.align.b[self.at])),
        ):
            before = only[: min(int(np.searchsorted(only, limit)), _GAP_RECORDS)]
            for index in before[:20_000].tolist():
                e = trace.events[index]
                root, module, kind, _ = trace.sites[e["site"]]
                word = Kind(int(e["kind"])).word
                key = (side, root, module, word, int(step[index]))
                old = found.get(key)
                phase = ("init", "data", "forward", "backward", "optimizer")[int(e["phase"])]
                found[key] = Alone(side, module, kind, root, word, phase, int(step[index]), (old.records if old else 0) + 1)
        return list(found.values())

    @cached_property
    def one_sided_modules(self) -> list[tuple[str, str, str]]:
        """(side, name, type and settings) of modules that only one of the models has."""
        a, b = module_table(self.pair.a.notes_meta), same_names(module_table(self.pair.b.notes_meta), self.pair.align.renamed)
        roots = {root for root, _ in a} & {root for root, _ in b}
        found = []
        for key in [*a, *b]:
            if (key in a) != (key in b) and key[0] in roots and key[1]:
                kind, settings = a.get(key) or b[key]
                found.append(("a" if key in a else "b", key[1], f"{kind}({settings})" if settings else kind))
        return found

    @cached_property
    def trained_alone(self) -> tuple[list[str], list[str]]:
        """Names of parameters or buffers that both runs have, of which A alone, B alone had a gradient before the first divergence."""
        import numpy as np

        held, trained = [], []
        for n, (trace, column) in enumerate(((self.pair.a, self.pair.align.a), (self.pair.b, self.pair.align.reached_b))):
            renamed = self.pair.align.renamed if n else {}
            sites = [(*renamed.get((root, module), (root, module)), tensor) for root, module, _, tensor in trace.sites]
            kinds, before = trace.events["kind"], np.arange(len(trace.events)) < int(column[self.at])
            held.append({sites[k] for k in np.unique(trace.events["site"][kinds == Kind.PARAMETER]).tolist()})
            given = [sites[k] for k in np.unique(trace.events["site"][before & (kinds == Kind.GRADIENT)]).tolist()]
            trained.append({(root, module, tensor.removesuffix(".grad")): None for root, module, tensor in given})
        both = held[0] & held[1]
        left, right = ([k for k in trained[n] if k in both and k not in trained[1 - n]] for n in (0, 1))
        return [".".join(filter(None, k[1:])) for k in left], [".".join(filter(None, k[1:])) for k in right]

    @cached_property
    def module_orders(self) -> tuple[list[str], list[str]] | None:
        """Names of sibling modules that both models have, in the order of each, where that is not the same."""
        a, b = module_table(self.pair.a.notes_meta), same_names(module_table(self.pair.b.notes_meta), self.pair.align.renamed)
        siblings: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
        for n, table in enumerate((a, b)):
            for root, name in table:
                if name and (root, name) in (b, a)[n]:
                    siblings.setdefault((root, name.rpartition(".")[0]), ([], []))[n].append(name)
        return next(((x, y) for x, y in siblings.values() if x != y), None)

    @cached_property
    def lengths(self) -> tuple[int, int]:
        """Optimizer steps of the whole of A and B."""
        found = []
        for trace, step in ((self.pair.a, self.pair.align.step_a), (self.pair.b, self.pair.align.step_b)):
            updated = step[trace.events["kind"] == Kind.GRADIENT]
            found.append(int(updated.max()) + 1 if len(updated) else 0)
        return found[0], found[1]

    @property
    def ended(self) -> int | None:
        """The run (0 for A, 1 for B) that takes no further step of training at the first divergence while the other goes on."""
        a, b = self.lengths
        return None if a == b or min(a, b) != self.first.step or self.stage not in ("data", "forward", "loss") else int(b < a)

    # data

    @cached_property
    def samples(self) -> Samples:
        """How the samples of the first differing batch met."""
        return samples(self)

    @cached_property
    def resumed(self) -> tuple[int, list[str]] | None:
        """(0 for A, 1 for B; checkpoints that it alone read on its way to the first divergence); None where neither did."""
        for n in (1, 0):
            mine, others, limit = self.files_read[n], self.files_read[1 - n], int(self.events[n]["seq"])
            loaded = [p for p, x in mine.items() if CHECKPOINT.search(p) and p not in others and 0 < int(x.get("seq", 0)) <= limit]
            if loaded:
                return n, loaded
        return None

    @cached_property
    def own_sampler(self) -> str:
        return own_sampler(self)

    @cached_property
    def cut(self) -> str:
        """Which run did in several processes what the other did in one, in words; empty where neither did."""
        on, step = restarts.goes_on([self.pair.a], [self.pair.b])
        if step:
            return on
        found = [(side, n) for side, t in (("A", self.pair.a), ("B", self.pair.b)) if (n := restarts.parts(t)) > 1]
        return f"{found[0][0]} trains in {found[0][1]} processes, one after the other" if found else ""

    @cached_property
    def warm(self) -> str:
        """Which run starts from weights that the other reached later, in words; empty where neither does."""
        if self.stage == "init":
            for side, other, on, whole in (("B", "A", self.pair.b, self.pair.a), ("A", "B", self.pair.a, self.pair.b)):
                if k := restarts.went_on(whole, on):
                    return restarts.begins_with(side, other, k)
        return ""

    @cached_property
    def files_read(self) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
        return reads(self.pair.a.notes_meta, self.sides[0]), reads(self.pair.b.notes_meta, self.sides[1])

    @cached_property
    def files_written(self) -> set[str]:
        """Files that both runs read and that each of them, finding them there, then opened for writing."""
        found = [
            {side.neutral(str(n.get("path"))) for n in notes if n.get("mode") == "write" and n.get("existed")}
            for notes, side in zip(self.notes("file"), self.sides, strict=True)
        ]
        return found[0] & found[1] & self.files_read[0].keys() & self.files_read[1].keys()

    @cached_property
    def files_made(self) -> set[str]:
        """Files that both runs read and that were last written after the run's command had started, in each."""
        found = []
        for run, side in ((self.a, self.sides[0]), (self.b, self.sides[1])):
            try:
                began = datetime.fromisoformat(run.manifest.started).timestamp()
            except ValueError:
                return set()
            found.append({side.neutral(path) for path, x in run.manifest.data.items() if _later(x, began)})
        return found[0] & found[1]

    def leading_to(self, a: list[str], b: list[str]) -> list[Difference]:
        """Variables and options whose values lie in the paths of the files that only A and only B read; ``HOME`` too."""
        paths = [
            [p for p in run.manifest.data if any(p.endswith(k.removeprefix("~")) for k in keys)] for run, keys in ((self.a, a), (self.b, b))
        ]
        found = []
        for d in self.comparison.differences:
            if d.section in ("environment", "config") and d.key not in ("PWD", "OLDPWD", "cwd", "PATH"):
                fits = [len(v) > 1 and all(v in p for p in own) for v, own in ((d.a, paths[0]), (d.b, paths[1])) if own]
                if fits and all(fits):
                    found.append(d)
        return found

    def notes(self, kind: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The notes of one kind in A and in B."""
        return tuple([n for n in t.notes_meta if n.get("type") == kind] for t in (self.pair.a, self.pair.b))  # type: ignore[return-value]

    @cached_property
    def pools(self) -> list[str]:
        """What the program's own threads run, in both runs, before the first divergence; library threads left out."""
        limits = [int(e["seq"]) for e in self.events]
        sides = []
        for rows, limit in zip(self.notes("thread"), limits, strict=True):
            sides.append({str(n.get("runs")) for n in rows if int(n.get("seq", 0)) <= limit})
        return sorted(r for r in sides[0] | sides[1] if not LIBRARY_THREAD.match(r))

    # differences

    def find(self, pattern: str, *sections: str, text: str = "key") -> list[Difference]:
        """Differences that may matter whose key matches, in the sections named (all where none is)."""
        wanted = re.compile(pattern, re.I)
        return [d for d in self.differences if wanted.search(getattr(d, text)) and (not sections or d.section in sections)]

    @cached_property
    def variables_read(self) -> list[Difference]:
        """Environment variables of which the values differ and that the program's sources read."""
        return [d for d in self.find(r"^\w+$", "environment") if self.reading(d.key) is not None]

    @cached_property
    def variables_used(self) -> list[Difference]:
        """Those of them that are more than the name of a user, a job or a place."""
        return [d for d in self.variables_read if not d.reason.endswith(NAMED) or self.computes(d)]

    @cached_property
    def _variable_lines(self) -> tuple[dict[str, list[Hint]], list[Hint]]:
        """Lines that name a variable, by its name, and lines that name the beginning of some."""
        named: dict[str, list[Hint]] = {}
        for h in self.hint("variable"):
            named.setdefault(h.name, []).append(h)
        return named, [h for name, lines in named.items() if name.endswith("*") for h in lines]

    def reading(self, variable: str) -> Hint | None:
        """The line that reads an environment variable, by its name rather than by a beginning that it shares with others."""
        named, beginnings = self._variable_lines
        found = named.get(variable, []) + [h for h in beginnings if variable.startswith(h.name[:-1])]
        return next((h for h in found if CONVERTED.search(h.text)), found[0] if found else None)

    @cached_property
    def packages_name(self) -> dict[str, str]:
        """Environment variables that an imported installed package names, and its line that does."""
        return {str(k): str(v) for side in self.sides for k, v in side.part("named_by_packages").items()}

    def computes(self, d: Difference) -> bool:
        """Whether the program makes a number or a decision of a variable that it reads, so that it is no mere name."""
        line = self.reading(d.key)
        return line is not None and (line.name.endswith("*") or bool(CONVERTED.search(line.text)))

    @cached_property
    def variables_unread(self) -> list[Difference]:
        """Environment variables of unknown names that no recorded source reads; none where the sources were not recorded."""
        found = [d for d in self.find(r"^\w+$", "environment") if d.reason == UNKNOWN] if self.has_sources else []
        return [d for d in found if d not in self.variables_read]

    @cached_property
    def alike(self) -> bool:
        """The two runs were launched alike: nothing that the user gives differs, and no machine, package or file.

        What nothing says that it matters (see ``idle``) does not count; ``launched`` tells it.
        """
        built = [] if self.has_sources else [d for d in self.differences if _BUILT.match(d.key) and not is_consequence(d)]
        return not self.given and not built

    @cached_property
    def given(self) -> list[Difference]:
        """Differences in what the user gave the runs; what the program built from it (layers, loaders, optimizers) left out."""
        found = [d for d in self.differences if not is_consequence(d) and d not in self.idle]
        return [d for d in found if not _BUILT.match(d.key)]

    @cached_property
    def asides(self) -> list[Difference]:
        """Switches and numbers of the command that by their names only print, save or log: suspects where nothing else differs."""
        found = [d for d in self.comparison.differences if d.section == "config" and d.severity == "harmless" and d.key.startswith("-")]
        return [d for d in found if all(re.fullmatch(r"\(given\)|\(absent\)|\d+|True|False", v) for v in (d.a, d.b))]

    @cached_property
    def idle(self) -> list[Difference]:
        """Differences around the runs of which nothing that was recorded says that they matter."""
        named = [d for d in self.variables_read if d.reason.endswith(NAMED) or (d.reason == UNKNOWN and not self.related(d.key))]
        named = [d for d in named if not self.computes(d)]
        kept = [d for d in self.differences if d.reason == CHANGED_BY_BOTH]
        return [*self.variables_unread, *named, *kept, *self._weak]

    @cached_property
    def _weak(self) -> list[Difference]:
        """Differences of the machine or the repository that have no effect as far as was recorded: cores where the number of
        threads is the same, a libc, a commit whose imported files are the same."""
        threads = [side.part("settings").get("intra_op_threads") for side in self.sides]
        files = [d for d in self.differences if d.section == "code" and d.key not in ("commit", "branch", "uncommitted changes")]
        found = [d for d in self.differences if d.key == "libc" and d.section == "environment"]
        if threads[0] is not None and threads[0] == threads[1] and not self.hint("cores"):
            found += [d for d in self.differences if d.key in ("cores", "logical_cpus", "cpus_allowed")]
        if not files:
            found += [d for d in self.differences if d.section == "code"]
        return found

    def related(self, name: str) -> bool:
        """Whether the words in a name have to do with the stage of the first divergence, or with seeds."""
        from reprodebug.diagnose.triggers import relates

        return relates(self.stage, name)

    @property
    def launched(self) -> str:
        """How far the two runs were launched alike, in words, where ``alike`` is true."""
        idle = [d.key for d in (*self.asides, *self.idle)]
        return "the two runs were launched alike" + (f", but for {', '.join(idle[:3])}{' and more' if idle[3:] else ''}" if idle else "")

    @cached_property
    def likeness(self) -> float:
        """1 where the runs were launched alike; less where something differs that may explain the divergence instead."""
        return 1.0 if self.alike else 0.75 if not [d for d in self.given if d.section in ("config", "code", "data")] else 0.45

    @cached_property
    def rounding(self) -> bool | None:
        """Whether the first difference is of the size of rounding, by the first losses that differ (their values are always
        kept); None where that cannot be told, or lies between."""
        parted = [(step, gap, a, b) for step, a, b in self.comparison.losses if a is not None and b is not None and (gap := loss_gap(a, b))]
        if not parted or parted[0][0] > self.first.step + 1 or str(self.first.dtype) not in ("float32", "float64"):
            return None
        _, gap, a, b = parted[0]
        gap /= max(abs(a), abs(b), 1e-30)
        return True if gap < 1e-5 else False if gap > 3e-4 else None

    # sources

    @cached_property
    def hints(self) -> list[Hint]:
        """Lines of the recorded sources (B's, then A's where another) that can make a program irreproducible."""
        found = hints(self.b.manifest.code)
        known = {(h.kind, h.file, h.text) for h in found}
        return found + [h for h in hints(self.a.manifest.code) if (h.kind, h.file, h.text) not in known]

    def hint(self, *kinds: str) -> list[Hint]:
        return [h for h in self.hints if h.kind in kinds]

    @cached_property
    def has_sources(self) -> bool:
        files = self.b.manifest.code.get("files")
        return isinstance(files, dict) and any("text" in e for e in files.values() if isinstance(e, dict))

    @cached_property
    def missing(self) -> dict[str, str]:
        """What one of the runs did not record, and what it would tell: fact -> sentence."""
        found = {}
        for fact, key, why in (
            ("packages", "packages", "the installed packages"),
            ("variables", "variables", "the environment variables"),
            ("settings", "settings", "torch's settings and thread counts"),
            ("hardware", "hardware", "the hardware"),
        ):
            if not self.sides[0].part(key) or not self.sides[1].part(key):
                found[fact] = f"{why} of both runs were not recorded"
        if not all(r.manifest.code for r in (self.a, self.b)):
            found["code"] = "the code of both runs was not recorded"
        if not self.has_ledger:
            found["ledger"] = "which generators were seeded was not recorded"
        if not self.has_sources:
            found["sources"] = "the program's sources were not recorded"
        return found


_BUILT = re.compile(r"optimizer#|module |DataLoader#")
"""what the program built from what it was given"""
_CONSEQUENCE = re.compile(r"\.(base_seed|n_params)$|^listing of |^order of files")
_OWN_DOING = ("only one run has this", "each run wrote", "written and read")


def is_consequence(d: Difference) -> bool:
    """A difference that is a result of the run, or that lies between any two launches."""
    if d.section in ("random-state", "metrics", "tensors") or _CONSEQUENCE.search(d.key) or d.reason.startswith(_OWN_DOING):
        return True
    return d.key == "PYTHONHASHSEED" and d.severity != "critical"


def short(path: str) -> str:
    """A file's own name."""
    return os.path.basename(path.rstrip("/")) or path


def _later(entry: object, began: float) -> bool:
    """Whether the record of a file says that it was written after that time."""
    modified = entry.get("modified") if isinstance(entry, dict) and entry.get("mode") == "read" else None
    return isinstance(modified, (int, float)) and modified > began
