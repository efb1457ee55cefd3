"""What zooming found: the first operation that differs, what went into it and what came out, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from reprodebug.model.comparison import Divergence, Numbers, Portrait

FOUND, NOT_FOUND, NOT_REPEATABLE, NOT_REPRODUCED = "found", "not-found", "not-repeatable", "not-reproduced"
OPERATION, ARGUMENT, RANDOM, SEQUENCE, INPUT, OUTSIDE, UNINITIALISED = (
    "operation", "argument", "random", "sequence", "input", "outside", "uninitialised"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor that went into an operation or came out of it."""

    name: str
    """the argument's name in the operation's schema, or ``out``"""
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    device: str = "cpu"
    equal: bool | None = None
    """whether the other run has the same values here; None where that could not be read, or where it has no partner"""
    origin: str = ""
    """where it came from: an operation and its line, a parameter's name, or '' where that was not seen"""


@dataclass(frozen=True, slots=True)
class Operation:
    """One dispatched ATen operation of one run."""

    name: str
    """with overload, e.g. ``aten.addmm.default``"""
    number: int
    """position among the operations of the stretch that was looked at"""
    line: str
    """``file:line`` of the nearest frame of the program's; in backward that is the call of backward; '' where there is none"""
    function: str = ""
    via: str = ""
    """torch's functions between that line and the operation"""
    forward_line: str = ""
    """in backward: the line of the forward pass that made the node; '' where it is not known"""
    node: str = ""
    """in backward: the node of the autograd graph"""
    module: str = ""
    module_type: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    """arguments that are no tensors, as Python writes them"""
    inputs: tuple[Operand, ...] = ()
    outputs: tuple[Operand, ...] = ()


@dataclass(frozen=True, slots=True)
class Element:
    """One element of the two tensors."""

    index: tuple[int, ...]
    a: float
    b: float
    ulp: int | None


@dataclass(frozen=True, slots=True)
class Size:
    """How the first differing tensor differs, element by element."""

    operand: str
    """which of the operation's results, or of its inputs"""
    numbers: Numbers
    ulp_histogram: tuple[tuple[int, int], ...] = ()
    """(most ULP of this class, elements), classes 0, 1, 2, 4, 8 ...; elements that are finite in both"""
    first: tuple[Element, ...] = ()
    """the first differing elements, in memory order"""
    worst: tuple[Element, ...] = ()
    """those with the largest difference"""
    terms: int | None = None
    """length of the sums that each element is made of; 1 for none; None where it is not known"""
    judgement: str = ""
    """the size against what rounding in another order would give"""
    portrait: Portrait | None = None
    """both, to be drawn"""


@dataclass(frozen=True, slots=True)
class Region:
    """What was found inside a region that ``torch.compile`` made."""

    reason: str
    """one sentence"""
    graphs: tuple[str, ...] = ()
    """each graph that was opened: its number, function and line, size, backend"""
    node: str = ""
    """the operation inside, as a line of the graph; '' where none was found"""
    line: str = ""
    """``file:line`` of the program that it stands for"""
    operations: tuple[str, ...] = ()
    """ATen operations that it is made of where it runs eagerly"""
    size: Size | None = None
    """of its value: A's against B's where both are compiled, else the eager one (A) against the compiled one (B)"""
    between: str = ""
    """what ``size`` compares"""
    same_graph: bool = True
    """false where both sides are compiled, from graphs that are not the same"""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kernels:
    """What one side launched for the operation."""

    inner: tuple[str, ...] = ()
    """torch's operations within it"""
    device: tuple[str, ...] = ()
    """kernels on a GPU"""
    primitives: tuple[str, ...] = ()
    """what oneDNN ran: kind and implementation"""
    why: str = ""
    """why there is nothing"""


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """What became of the divergence when one run got what the other had."""

    what: str
    """what was put in, e.g. ``input.0 of fc1``"""
    necessary: bool | None
    """with A's put into B the divergence disappears; None where that could not be tried"""
    sufficient: bool | None
    """with B's put into A the divergence appears"""
    reason: str
    """one sentence"""


@dataclass(frozen=True, slots=True)
class Zoom:
    """The answer of ``reprodebug zoom``."""

    outcome: str
    """``found`` | ``not-found`` | ``not-repeatable`` | ``not-reproduced``"""
    kind: str
    """how the difference came in. ``operation``: equal inputs, another result; ``argument``: another number given to it;
    ``random``: its generator was in another state; ``sequence``: the runs call other operations; ``input``: it is given another
    tensor; ``outside``: no torch operation made the difference; ``uninitialised``: memory that nothing was written to; '' for none"""
    reason: str
    """one sentence"""
    first: Divergence | None
    """the first divergence of the two recordings"""
    a: Operation | None = None
    b: Operation | None = None
    size: Size | None = None
    operations: tuple[int, int] = (0, 0)
    """operations looked at in A and in B"""
    repeats: tuple[bool | None, bool | None] = (None, None)
    """whether each re-execution had its recording's very value at the divergence"""
    notes: tuple[str, ...] = ()
    remedy: str = ""
    """what to do where nothing was found"""
    counterfactual: Counterfactual | None = None
    region: Region | None = None
    kernels: tuple[Kernels, Kernels] | None = None
    seconds: float = 0.0
    paths: tuple[str, str] = ("", "")
