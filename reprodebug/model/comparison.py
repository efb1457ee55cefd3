"""The comparison: the one tree that compare returns and that report, JSON and TUI read.

Field names and words are those of the contract (schema ``reprodebug.diagnosis/1``).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

SECTIONS = ("environment", "config", "code", "data", "random-state", "hardware", "container", "metrics", "tensors")
SEVERITIES = ("critical", "notable", "harmless")
VERDICTS = ("identical", "equivalent", "divergent", "incomparable")


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What the user asked to count as equal. All zero: bit for bit."""

    rtol: float = 0.0
    atol: float = 0.0
    ulps: int = 0

    @property
    def exact(self) -> bool:
        return not (self.rtol or self.atol or self.ulps)


@dataclass(frozen=True, slots=True)
class Numbers:
    """How two tensors of one shape differ. Every field is exact, over all elements; None where not recorded."""

    elements: int | None = None
    differing: int | None = None
    """elements whose bits differ"""
    max_abs: float | None = None
    """largest |a - b| over elements where both are finite; inf where exactly one is not finite"""
    max_rel: float | None = None
    """largest |a - b| / max(|a|, |b|)"""
    max_ulp: int | None = None
    """largest distance in units in the last place, in the tensor's own dtype; None for integers and bool"""
    nan_only: bool = False
    """every difference is NaN against NaN of another payload"""
    signed_zero_only: bool = False
    """every difference is -0.0 against 0.0"""
    worst_index: tuple[int, ...] | None = None
    within: bool | None = None
    """inside the tolerance asked for; None where the numbers cannot tell"""


@dataclass(frozen=True, slots=True)
class Divergence:
    """One record of A against its partner in B, and they differ."""

    kind: str
    rank: int
    step: int
    phase: str
    module: str
    """name in named_modules() of the outermost module; "" for itself or for none"""
    module_type: str = ""
    tensor: str = ""
    """which tensor: ``output.0``, ``input.0``, ``weight``, ``weight.grad``, ``batch.0``, ``exp_avg`` ..."""
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    shape_b: tuple[int, ...] | None = None
    dtype_b: str | None = None
    op: str | None = None
    call: int = 0
    """how often this place had been reached before in the same step"""
    index_a: int = -1
    """position in A's trace of this rank, in execution order; -1 where it stands in one run only"""
    index_b: int = -1
    numbers: Numbers = field(default_factory=Numbers)
    statistics: dict[str, tuple[float, float]] = field(default_factory=dict)
    """statistic -> (A, B), at level summary or full"""
    root: str = ""
    """the outermost module that it belongs to, where the program has several of them"""


@dataclass(frozen=True, slots=True)
class LayerDifference:
    """All differing records of one module, kind and tensor, folded into a row."""

    first: Divergence
    differing: int
    """records that differ"""
    compared: int
    """records compared"""
    root: str = ""
    """label of the outermost module, e.g. ``MicroResNet``"""
    role: str = ""
    """of its first differing record: ``source`` (all that went in was equal), ``carrier`` or ``unexplained``"""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing around the tensors that the two runs do not share."""

    section: str
    key: str
    a: str
    """as text, redacted; ``(absent)`` where the run has none, ``(not recorded)`` where it could not be known"""
    b: str
    severity: str
    reason: str = ""
    """why it has this severity, e.g. ``a name, no input of the computation``"""


@dataclass(frozen=True, slots=True)
class Unobserved:
    """Something that the recorder could not see, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of what could have differed was looked at."""

    share: float
    """0 to 1: the share of the parameters' elements that belong to modules whose calls were seen, of the smaller run"""
    unobserved: tuple[Unobserved, ...] = ()


@dataclass(frozen=True, slots=True)
class RunSide:
    """One of the two runs, as far as a report needs it."""

    path: str
    label: str
    complete: bool
    command: tuple[str, ...] = ()
    started: str = ""
    """ISO 8601, UTC"""
    exit_code: int | None = None
    level: str = "fingerprint"
    steps: int = 0
    """optimizer steps finished"""
    events: int = 0
    ranks: int = 1
    notes: tuple[str, ...] = ()
    """what was lost or cut, one sentence each"""
    systems: tuple[str, ...] = ()
    """whose records these are, where the level is ``foreign``"""


@dataclass(frozen=True, slots=True)
class Counts:
    """How the records of the two runs met."""

    compared: int = 0
    differing: int = 0
    only_a: int = 0
    only_b: int = 0
    unobserved: int = 0


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of records that one run has and the other has not."""

    side: str
    """``a`` or ``b``: the run that has them"""
    rank: int
    step: int
    phase: str
    module: str
    module_type: str
    records: int


@dataclass(frozen=True, slots=True)
class Cause:
    """A ranked explanation. Filled by the diagnose floor; empty where that has not been run."""

    category: str
    summary: str
    evidence: tuple[str, ...]
    remedy: str
    confidence: float
    rule: str = ""
    """name of the rule that found it"""


@dataclass(frozen=True, slots=True)
class Roles:
    """How many differing records brought a difference in, passed it on, or could not be judged."""

    source: int = 0
    carrier: int = 0
    unexplained: int = 0


@dataclass(frozen=True, slots=True)
class Level:
    """One level of reproducibility."""

    name: str
    """``code``, ``results``, ``inference`` or ``training``"""
    state: str
    """``holds``, ``fails`` or ``unknown``"""
    evidence: str


@dataclass(frozen=True, slots=True)
class Portrait:
    """Two tensors of one shape, small enough to be drawn."""

    shape: tuple[int, ...]
    a: tuple[tuple[float, ...], ...]
    """cells of a heat map, rows by columns: means"""
    b: tuple[tuple[float, ...], ...]
    difference: tuple[tuple[float, ...], ...]
    """the largest |a - b| of each cell; inf where just one of two elements is not finite"""
    low: float
    high: float
    """of the finite elements of both"""
    histogram_a: tuple[int, ...]
    """finite elements in equal classes from ``low`` to ``high``"""
    histogram_b: tuple[int, ...]
    ulps: tuple[tuple[int, int], ...]
    """(most ULP of the class, elements), classes 0, 1, 2, 4, 8 ...; empty where the dtype has none"""
    first: tuple[tuple[tuple[int, ...], float, float, int | None], ...]
    """(index, A, B, ULP) of the first differing elements, in memory order"""
    worst: tuple[tuple[tuple[int, ...], float, float, int | None], ...]
    """those that are furthest apart"""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that was found between two runs."""

    verdict: str
    reason: str
    a: RunSide
    b: RunSide
    first: Divergence | None
    tolerance: Tolerance = Tolerance()
    first_by_rank: tuple[Divergence, ...] = ()
    equal_before: tuple[str, ...] = ()
    """one sentence for each thing that was still equal just before the first divergence"""
    layers: tuple[LayerDifference, ...] = ()
    """differing modules, in order of their first difference"""
    gaps: tuple[Gap, ...] = ()
    """the first stretches that only one run has, in execution order"""
    differences: tuple[Difference, ...] = ()
    """causes first, harmless last"""
    counts: Counts = Counts()
    coverage: Coverage = Coverage(0.0)
    not_recorded: tuple[str, ...] = ()
    losses: tuple[tuple[int, float | None, float | None], ...] = ()
    """(step, A, B): the last loss of each step; None where a run has none"""
    steps_differing: tuple[tuple[int, int, int], ...] = ()
    """(step, differing records, compared records), in order"""
    causes: tuple[Cause, ...] = ()
    nature: tuple[str, ...] = ()
    """statements about the size and the growth of the difference, each with its numbers"""
    roles: Roles = Roles()
    levels: tuple[Level, ...] = ()
    """which levels of reproducibility hold"""
    portrait: Portrait | None = None
    """the tensor of the first divergence, where both runs kept it"""
    smallest_tolerance: Numbers | None = None
    """the least ``max_abs``, ``max_rel``, ``max_ulp`` that would have passed; None unless every difference has numbers"""
    noise: tuple[str, ...] = ()
    """paths of the further recordings that were the yardstick"""

    def to_json(self) -> dict[str, object]:
        """The document of schema ``reprodebug.diagnosis/1``."""

        def side(s: RunSide) -> dict[str, object]:
            return {"path": s.path, "label": s.label, "complete": s.complete, "steps": s.steps, "events": s.events,
                    "level": s.level, "notes": list(s.notes)}  # fmt: skip

        return {
            "schema": "reprodebug.diagnosis/1",
            "verdict": self.verdict,
            "reason": self.reason,
            "runs": {"a": side(self.a), "b": side(self.b)},
            "first_divergence": divergence_json(self.first) if self.first else None,
            "causes": [dataclasses.asdict(c) for c in self.causes[:10]],
            "differences": [
                {"section": d.section, "key": d.key, "a": _json_value(d.a), "b": _json_value(d.b), "severity": d.severity, "reason": d.reason}
                for d in self.differences
            ],
            "coverage": {
                "share": round(self.coverage.share, 6),
                "unobserved": [{"what": u.what, "why": u.why} for u in self.coverage.unobserved],
            },
            "not_recorded": list(self.not_recorded),
            "equal_before": list(self.equal_before),
            "nature": list(self.nature),
            "roles": dataclasses.asdict(self.roles),
            "reproducibility": {x.name: {"state": x.state, "evidence": x.evidence} for x in self.levels},
            "first_by_rank": [divergence_json(d) for d in self.first_by_rank],
            "counts": dataclasses.asdict(self.counts),
            "layers": [
                {"module": x.first.module, "module_type": x.first.module_type, "kind": x.first.kind, "tensor": x.first.tensor,
                 "first_step": x.first.step, "phase": x.first.phase, "rank": x.first.rank,
                 "differing": x.differing, "compared": x.compared, "role": x.role, "first": divergence_json(x.first)}
                for x in self.layers
            ],
        }  # fmt: skip


def loss_gap(a: float | None, b: float | None) -> float | None:
    """How far two losses are apart: 0 where they are alike, as NaN is with NaN; None where one is missing."""
    if a is None or b is None:
        return None
    return 0.0 if a == b or (a != a and b != b) else abs(a - b)


def _json_value(text: str) -> str | None:
    return None if text == "(absent)" else text


def divergence_json(d: Divergence) -> dict[str, object]:
    """One divergence with the keys of the contract; numbers that were not recorded are null."""

    def number(x: float | None) -> object:
        return None if x is None else x if x == x and abs(x) != float("inf") else str(x)

    return {
        "kind": d.kind,
        "rank": d.rank,
        "step": d.step,
        "phase": d.phase,
        "module": d.module,
        "module_type": d.module_type,
        "op": d.op,
        "tensor": d.tensor,
        "shape": None if d.shape is None else list(d.shape),
        "dtype": d.dtype,
        "shape_b": None if d.shape_b is None else list(d.shape_b),
        "dtype_b": d.dtype_b,
        "differing": d.numbers.differing,
        "elements": d.numbers.elements,
        "max_abs": number(d.numbers.max_abs),
        "max_rel": number(d.numbers.max_rel),
        "max_ulp": d.numbers.max_ulp,
    }
