"""Where the difference came in: the first operation whose result one run has and the other has not.

Reasoned on the flow of data: of all operations of the stretch only those count on which the divergent tensor depends, found
by walking back from it through the memory that operations read and wrote. Among these the first that yields a value which
does not occur in the other run is the one: everything before it had equal values, in whatever order it ran. What uninitialised
memory holds is no value; an operation that overwrites a tensor does not read it; a generator's state is an input.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from reprodebug._base.text import listed_words, plural
from reprodebug.model.zoom import ARGUMENT, INPUT, OPERATION, OUTSIDE, RANDOM, SEQUENCE, UNINITIALISED, Operand, Operation
from reprodebug.zoom.log import Log, Op, Value

_SINKS = ("aten._local_scalar_dense.default", "aten.equal.default", "aten.nonzero.default")
"""operations through which values leave for Python, and may choose what the program does"""

ITSELF = "the tensor itself"
SENT = "memory that another process sent"
_BESIDE = "{} was written by something else than a torch operation (NumPy, another library, another thread)"
_MAPPED = "aten.set_.source_Storage"
"""a tensor is laid over memory that comes from elsewhere"""


@dataclass(slots=True)
class Origin:
    """What was found in two logs."""

    kind: str
    """as in ``model.zoom.Zoom.kind``; '' where nothing was found"""
    a: Op | None = None
    b: Op | None = None
    value: tuple[Value, Value] | None = None
    """the two tensors whose numbers tell the size of the difference"""
    notes: list[str] = field(default_factory=list)
    earlier: bool = False
    """the answer lies before the stretch"""
    what: str = ""
    """the thing that differs, in words: an argument, an input"""


class Side:
    """One run's log, with what follows from it."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.ops = log.ops
        self.values = {
            v.digest for op in log.ops for v in (*op.reads, *(() if op.undefined else op.outputs)) if v.digest
        }  # fmt: skip
        seen: Counter[tuple[str, str]] = Counter()
        self.key: list[tuple[str, str, int]] = []
        """operation, source line, how often before: by which an operation of one run is known in the other"""
        for op in log.ops:
            place = (op.name, op.place)
            self.key.append((*place, seen[place]))
            seen[place] += 1
        self.calls = seen
        """how often each operation comes on each source line"""
        self.at = dict(zip(self.key, log.ops, strict=True))
        self.began_empty = {v.storage for op in log.ops if op.undefined for v in op.outputs if v.storage >= 0}
        self.empty_views = {_view_of(op) for op in log.ops if op.view and any(v.storage in self.began_empty for v in op.outputs)}
        self.unwritten: set[int] = set()
        """numbers of the views of memory to which no operation has written yet"""
        empty: set[int] = set()
        for op in log.ops:
            made = {v.storage for v in op.outputs if v.storage >= 0}
            if op.undefined:
                empty |= made
            elif not op.view:
                empty -= made
            elif made & empty:
                self.unwritten.add(op.n)

    def behind(self, storages: Iterable[int], before: int) -> list[Op]:
        """The operations on which the memory ``storages`` depends, of those before number ``before``, in execution order."""
        need = {s for s in storages if s >= 0}
        found = []
        for op in reversed(self.ops[:before]):
            if any(v.storage in need for v in op.outputs):
                found.append(op)
                need |= {v.storage for v in op.inputs if v.storage >= 0}
        return found[::-1]

    def maker(self, value: Value, before: int) -> Op | None:
        """The last operation before number ``before`` that made or wrote the memory of a value."""
        for op in reversed(self.ops[:before]):
            if not op.view and any(v.storage == value.storage for v in op.outputs) and value.storage >= 0:
                return op
        return None

    def name(self, value: Value) -> str:
        """The parameter or buffer that lies in a value's memory, or ''."""
        return self.log.first_names.get(value.storage) or self.log.names.get(value.storage, "")

    def new(self, ops: Iterable[Op], other: Side) -> list[Op]:
        """Operations that yield a value which does not occur in the other run."""
        return [op for op in ops if not op.undefined and any(v.digest and v.digest not in other.values for v in op.outputs)
                and not self._nothing_yet(op, other)]  # fmt: skip

    def _nothing_yet(self, op: Op, other: Side) -> bool:
        """A view of memory that began uninitialised, and is unwritten or the same in both runs: what lies there may not be written
        yet, and is no value."""
        if not op.view or not any(v.storage in self.began_empty for v in op.outputs):
            return False
        return op.n in self.unwritten or _view_of(op) in other.empty_views


def _view_of(op: Op) -> tuple[str, tuple[tuple[str, str], ...]]:
    return op.name, tuple(sorted(op.arguments.items()))


def find(a: Log, b: Log, *, whole: bool) -> Origin:
    """Where the targets of two logs part. ``whole``: the logs begin with the program."""
    left, right = Side(a), Side(b)
    assert a.target is not None and b.target is not None
    if a.target.digest and a.target.digest == b.target.digest:
        return Origin("")
    slices = [s.behind([t.storage], len(s.ops)) for s, t in ((left, a.target), (right, b.target))]
    x, y = _partners(left, right, *_first(left.new(slices[0], right), right.new(slices[1], left)))
    origin = _classified(left, right, x, y, slices, whole)
    if origin.kind in (ARGUMENT, OUTSIDE, INPUT, SEQUENCE) and not (origin.kind == ARGUMENT and _own_words(origin)):
        sooner = _through_python(left, right, origin)
        if sooner is not None:
            return sooner
    return origin


def made_in(logs: list[Log], value: Value) -> Log | None:
    """The log that made a value, cut behind the operation that did, with that value for its target; None where none did.

    Operations that hand the value on as it is, such as a product with 1, belong to its making."""
    for log in logs:
        made: tuple[int, Value] | None = None
        for at, op in enumerate(log.ops):
            found = next((v for v in op.outputs if v.digest == value.digest), None)
            if found is not None and (made is None or any(v.storage == made[1].storage for v in op.reads)):
                made = at, found
        if made is not None:
            return replace(log, ops=log.ops[: made[0] + 1], target=replace(made[1], name="target"))
    return None


def _first(a: list[Op], b: list[Op]) -> tuple[Op | None, Op | None]:
    """The first of each list; a mere view gives way where the other run has nothing like it."""
    i = j = 0
    while True:
        x, y = a[i] if i < len(a) else None, b[j] if j < len(b) else None
        if x is not None and y is not None and x.name == y.name:
            return x, y
        if x is not None and x.view and i + 1 < len(a):
            i += 1
        elif y is not None and y.view and j + 1 < len(b):
            j += 1
        else:
            return x, y


def _partners(left: Side, right: Side, x: Op | None, y: Op | None) -> tuple[Op | None, Op | None]:
    """Two calls of one operation on one line belong together, though the value that one of them gave occurs elsewhere too.

    A product with 1, a sum with 0: what that call gave is what it was given, and its partner alone yields a new value."""
    if x is not None and y is not None and x.name == y.name:
        return x, y
    if y is not None:
        p = left.at.get(right.key[y.n])
        if p is not None and _results(p, y) is not None and (p.n < x.n if x is not None else _correspond(left, right, p, y)):
            return p, y
    if x is not None:
        q = right.at.get(left.key[x.n])
        if q is not None and _results(x, q) is not None and (q.n < y.n if y is not None else _correspond(left, right, x, q)):
            return x, q
    return x, y


def _correspond(left: Side, right: Side, p: Op, q: Op) -> bool:
    """Whether the same call of an operation on a line is the same in two runs: it is given the same, or comes as often in both."""
    return not _inputs_apart(p, q) or left.calls[p.name, p.place] == right.calls[q.name, q.place]


def _classified(left: Side, right: Side, x: Op | None, y: Op | None, slices: list[list[Op]], whole: bool) -> Origin:
    a, b = left.log.target, right.log.target
    assert a is not None and b is not None
    if x is None and y is None:
        last = [s[-1] if s else None for s in slices]
        if last[0] is not None and last[1] is not None and last[0].undefined and last[1].undefined:
            if _holds_other(last[0], [a]) or _holds_other(last[1], [b]):
                return Origin(OUTSIDE, value=(a, b), notes=[_BESIDE.format("it")], what=ITSELF)
            return Origin(UNINITIALISED, last[0], last[1], (a, b))
        makers = left.maker(a, len(left.ops)), right.maker(b, len(right.ops))
        if whole and a.digest and b.digest and makers[0] is not None and makers[1] is not None:
            return _no_new_value(left, right, (makers[0], makers[1]), slices)
        if makers[0] is not None or makers[1] is not None:
            return Origin(INPUT, makers[0], makers[1], (a, b), earlier=not whole, what=ITSELF)
        return Origin(OUTSIDE, value=(a, b), earlier=not whole, what=ITSELF)
    if x is None or y is None or x.name != y.name:
        if not whole and any(_sent(op) for op in (x, y)) and not all(slices):  # the other side had received it before the stretch began
            return Origin(OUTSIDE, x, y, (a, b), what=SENT, earlier=True)
        notes = _alone(left, right, slices)
        earlier = not whole and (_brought(left, x, right) or _brought(right, y, left))
        if x is not None and y is not None:
            p, q = left.at.get(right.key[y.n]), right.at.get(left.key[x.n])
            if p is None and q is not None and q.n > y.n:  # B does one thing more, then what A does
                x = None
            elif q is None and p is not None and p.n > x.n:
                y = None
        return Origin(SEQUENCE, x, y, None, notes, earlier)
    if x.name.startswith(_MAPPED):
        if _sent(x):  # looked at from the beginning on, its makers are followed too
            return Origin(OUTSIDE, x, y, _results(x, y), what=SENT, earlier=not whole)
        return Origin(OUTSIDE, x, y, _results(x, y), what="memory read from elsewhere, such as a file")
    pairs = [(p, q) for p, q in zip(x.inputs, y.inputs, strict=False) if p.overwritten and _form(p) != _form(q)]
    filled = next(((p, q) for p, q in pairs if p.dtype != q.dtype or x.arguments == y.arguments), None)
    if filled is not None:
        k = 0 if filled[0].dtype != filled[1].dtype else 1
        return Origin(ARGUMENT, x, y, what=f"the memory that it fills is {_form(filled[0])[k]} in A, {_form(filled[1])[k]} in B")
    differing = _inputs_apart(x, y)
    if differing and _composed_otherwise(left, right, x, y, differing):
        return Origin(SEQUENCE, x, y, None, _alone(left, right, slices))
    if differing:
        return _given(left, right, x, y, differing, whole)
    if (x.random is not None or y.random is not None) and x.random != y.random and x.arguments == y.arguments:
        origin = Origin(RANDOM, x, y, _results(x, y))
        origin.notes, origin.earlier = _drawn(left, right, x, y)
        origin.earlier = origin.earlier and not whole
        return origin
    if x.arguments != y.arguments:
        notes = [n for n in _drawn(left, right, x, y)[0] if "alone" in n] if x.view else []  # an index: who drew it?
        return Origin(ARGUMENT, x, y, _results(x, y), notes, what=_words_apart(x, y))
    origin = Origin(OPERATION, x, y, _results(x, y))
    layouts = [p.name for p, q in zip(x.reads, y.reads, strict=False) if p.strides != q.strides]
    if layouts:
        origin.notes.append(f"equal values lie in memory otherwise: {listed_words(layouts)} has other strides in A than in B")
    return origin


def _no_new_value(left: Side, right: Side, makers: tuple[Op, Op], slices: list[list[Op]]) -> Origin:
    """The targets differ, and every operation behind them gave what the other run has too: put into another place, or not all that wrote."""
    a, b = left.log.target, right.log.target
    assert a is not None and b is not None
    if a.digest in right.values and b.digest in left.values:  # which of them comes was chosen outside of torch: by a thread, a clock
        return Origin(INPUT, *makers, (a, b), what=ITSELF)
    for p, q in zip(*slices, strict=False):
        if p.name == q.name and p.arguments != q.arguments:
            return Origin(ARGUMENT, p, q, (a, b), what=_words_apart(p, q))
        if p.name != q.name:
            return Origin(SEQUENCE, p, q, (a, b))
    if len(slices[0]) != len(slices[1]) or any(op.undefined for s in slices for op in s):
        return Origin(INPUT, *makers, (a, b), what=ITSELF)
    note = f"{_BESIDE.format('its memory')} after {_where(makers[0])} had left it"
    return Origin(OUTSIDE, None, None, (a, b), [note], what=ITSELF)


def _where(op: Op | None) -> str:
    return f"{op.name} at {op.place}" if op is not None else "nothing that was looked at"


def _form(v: Value) -> tuple[str, list[int]]:
    return v.dtype, list(v.shape)


def _brought(side: Side, op: Op | None, other: Side) -> bool:
    """Whether an operation is given what was made before the stretch and is not known in the other run: that may differ already."""
    return op is not None and any(v.digest and v.digest not in other.values and side.maker(v, op.n) is None for v in op.reads)


def _sent(op: Op | None) -> bool:
    """Whether it receives a tensor of another process."""
    return op is not None and op.name.startswith(_MAPPED) and "rebuild_tensor" in op.via and "load" not in op.via


def _given(left: Side, right: Side, x: Op, y: Op, differing: list[tuple[Value | None, Value | None]], whole: bool) -> Origin:
    """An operation whose inputs differ though no operation before it made a difference."""
    p, q = differing[0]
    value = (p, q) if p is not None and q is not None else None
    makers = [s.maker(v, op.n) if v is not None else None for s, v, op in ((left, p, x), (right, q, y))]
    beside = [_written_beside(s, m, op) for s, m, op in zip((left, right), makers, (x, y), strict=True)]
    if makers[0] is not None and makers[1] is not None and makers[0].undefined and makers[1].undefined and not any(beside):
        return Origin(UNINITIALISED, makers[0], makers[1], value)
    names = [s.name(v) if v is not None else "" for s, v in ((left, p), (right, q))]
    shown = p or q
    assert shown is not None
    what = f"its input {shown.name}"
    if any(names):
        same = names[0] == names[1]
        what += f", which is {names[0]}" if same else f", which is {names[0] or 'no parameter'} in A and {names[1] or 'no parameter'} in B"
    if any(beside):
        which = " and ".join(n for n, b in zip("AB", beside, strict=True) if b)
        last = next(m for m, b in zip(makers, beside, strict=True) if b)
        return Origin(OUTSIDE, x, y, value, [f"in {which} {_BESIDE.format('its memory')} after {_where(last)} had left it"], what=what)
    if any(m is not None and not m.undefined for m in makers):
        by = [_where(m) for m in makers]
        what += f", made by {by[0]} in A, by {by[1]} in B" if by[0] != by[1] else ""
        return Origin(INPUT, x, y, value, what=what)
    return Origin(OUTSIDE if whole else INPUT, x, y, value, what=what, earlier=not whole)


def _written_beside(side: Side, maker: Op | None, reader: Op) -> bool:
    """Whether memory does not hold any more what the operation left that wrote it last: something wrote it that is no operation.

    Seen at ``reader`` or at an operation between the two, such as the view through which it is read."""
    return maker is not None and _holds_other(maker, [v for op in side.ops[maker.n + 1 : reader.n + 1] for v in op.reads])


def _holds_other(maker: Op, seen: Iterable[Value]) -> bool:
    """Whether the memory that an operation wrote held something else when it was ``seen`` again."""
    left = {(v.storage, v.dtype, v.shape, v.strides): v.digest for v in maker.outputs if v.digest and v.storage >= 0}
    pairs = [(left.get((v.storage, v.dtype, v.shape, v.strides)), v.digest) for v in seen]
    return any(was and now and was != now for was, now in pairs)


def _inputs_apart(x: Op, y: Op) -> list[tuple[Value | None, Value | None]]:
    """Inputs of two calls of one operation that are not equal; None for one that the other call has not."""
    found: list[tuple[Value | None, Value | None]] = []
    a, b = {v.name: v for v in x.reads}, {v.name: v for v in y.reads}
    for name in dict.fromkeys([*a, *b]):
        p, q = a.get(name), b.get(name)
        if p is None or q is None or (p.dtype, p.shape) != (q.dtype, q.shape) or (p.digest and q.digest and p.digest != q.digest):
            found.append((p, q))
    return found


def _composed_otherwise(
    left: Side, right: Side, x: Op, y: Op, differing: list[tuple[Value | None, Value | None]]
) -> bool:  # fmt: skip
    """Whether two calls of one operation are no partners: values that both runs have go into it in another place or number."""
    known = all((p is None or p.digest in right.values) and (q is None or q.digest in left.values) for p, q in differing)
    moved = any(p.digest and p.digest == q.digest and p.name != q.name for p in x.reads for q in y.reads)
    return known and (moved or [p.name for p in x.reads] != [q.name for q in y.reads])


def _results(x: Op | None, y: Op | None) -> tuple[Value, Value] | None:
    """The first results of one name, shape and dtype that differ."""
    if x is None or y is None:
        return None
    pairs = [
        (p, q) for p, q in zip(x.outputs, y.outputs, strict=False) if p.digest != q.digest and (p.dtype, p.shape) == (q.dtype, q.shape)
    ]  # fmt: skip
    return next((pair for pair in pairs if pair[0].name.startswith("out")), pairs[0] if pairs else None)


def _alone(left: Side, right: Side, slices: list[list[Op]]) -> list[str]:
    """Which operations each run uses where the other uses others."""
    notes = []
    for name, side, other, ops in (("A", left, right, slices[0]), ("B", right, left, slices[1])):
        used = [op.name for op in side.new((op for op in ops if not op.view), other)]
        if used:
            named = Counter(used)
            said = [f"{op}{f' ({k} times)' if k > 1 else ''}" for op, k in list(named.items())[:6]]
            notes.append(f"in {name}: {listed_words(said)}{' and others' if len(named) > 6 else ''}")
    return notes


def _words_apart(x: Op, y: Op) -> str:
    names = [n for n in dict.fromkeys([*x.arguments, *y.arguments]) if x.arguments.get(n) != y.arguments.get(n)]
    return listed_words(f"{n} = {x.arguments.get(n, '(default)')} in A, {y.arguments.get(n, '(default)')} in B" for n in names)


def _own_words(origin: Origin) -> bool:
    """Whether the other argument is a setting (a probability, a flag, a factor) and not the place of an element."""
    return origin.a is not None and not origin.a.view


def _through_python(left: Side, right: Side, origin: Origin) -> Origin | None:
    """An earlier difference that went through Python: a draw, or a value that the program read, and chose by."""
    ends = [op.n if op is not None else len(s.ops) for s, op in ((left, origin.a), (right, origin.b))]
    candidates = []
    for side, end in ((left, ends[0]), (right, ends[1])):
        read = [v.storage for op in side.ops[:end] if op.name in _SINKS for v in op.inputs]
        drawn = [op for op in side.ops[:end] if op.random is not None]
        candidates.append({op.n: op for op in (*side.behind(read, end), *drawn)})
    for n in sorted(candidates[0]):
        x = candidates[0][n]
        y = right.at.get(left.key[n])
        if y is None or y.n not in candidates[1] or x.undefined:
            continue
        if [v.digest for v in x.outputs] == [v.digest for v in y.outputs] or not (left.new([x], right) or right.new([y], left)):
            continue
        sooner = _classified(left, right, x, y, [[], []], True)
        if sooner.kind in (RANDOM, OPERATION) or (sooner.kind == ARGUMENT and not x.view):
            if origin.a is not None:
                sooner.notes.append(f"what it gave chose the arguments of {origin.a.name} later on, which made the divergent tensor")
            return sooner
    return None


def _drawn(left: Side, right: Side, x: Op, y: Op) -> tuple[list[str], bool]:
    """Why a generator's state differs: draws that one run made and the other did not. (sentences, whether it lies earlier)"""
    draws = [[op for op in s.ops[: op_.n] if op.random is not None] for s, op_ in ((left, x), (right, y))]
    first = next(((p, q) for p, q in zip(*draws, strict=False) if p.random != q.random), None)
    equal_before = any(p.random == q.random for p, q in zip(*draws, strict=False))
    places = [Counter((op.name, op.line) for op in d) for d in draws]
    notes = []
    short = [Counter((n, line.rpartition("/")[2]) for (n, line), k in p.items() for _ in range(k)) for p in places]
    for name, mine, other in (("A", short[0], short[1]), ("B", short[1], short[0])):
        more = [(op, line, k - other.get((op, line), 0)) for (op, line), k in mine.items() if k > other.get((op, line), 0)]
        if more:
            said = [f"{op}{f' {k} times' if k > 1 else ''} at {line or 'no line of Python'}" for op, line, k in more[:4]]
            rest = f" and {plural(len(more) - 4, 'more place')}" if len(more) > 4 else ""
            notes.append(f"before it {name} alone drew random numbers: {listed_words(said)}{rest}")
    if not notes:
        if first is None and not equal_before:
            notes.append(
                "no operation drew random numbers before it: the generator's state differed already, by its seed or for want of one"
            )
        elif first is not None:
            notes.append(f"the generator's state differed already at {first[0].name} ({first[0].place})")
    return notes, not notes or "already" in notes[0]


# for the report


def make_relative(line: str, root: str) -> str:
    """``file:line`` as seen from the directory ``root``."""
    return line[len(root) + 1 :] if root and line.startswith(root + "/") else line


def described(side: Side, op: Op | None, other: Side, partner: Op | None, root: str) -> Operation | None:
    """An operation as the report shows it; paths below ``root`` are made relative."""
    if op is None:
        return None

    def place(line: str) -> str:
        return make_relative(line, root)

    def operand(v: Value, partners: dict[str, Value], is_input: bool) -> Operand:
        q = partners.get(v.name)
        equal = None if q is None or not v.digest or not q.digest or v.overwritten else v.digest == q.digest
        origin = ""
        if is_input:
            maker = side.maker(v, op.n)
            origin = side.name(v) or (f"{maker.name} at {place(maker.line)}" if maker is not None and maker.line else "")
        return Operand(v.name, v.dtype, v.shape, v.strides, v.device, equal, origin)

    ins = {v.name: v for v in partner.inputs} if partner is not None else {}
    outs = {v.name: v for v in partner.outputs} if partner is not None else {}
    return Operation(
        op.name, op.n, place(op.line), op.function, op.via, place(op.forward), op.node, op.module, op.module_type, op.arguments,
        tuple(operand(v, ins, True) for v in op.inputs), tuple(operand(v, outs, False) for v in op.outputs)
    )  # fmt: skip
