"""Where a difference came in, on logs made by hand; reading of logs that are damaged; the numbers of two tensors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprodebug.compare.numbers import elements_apart, ulp_histogram
from reprodebug.model.events import Flag, Kind, Phase
from reprodebug.model.zoom import Operation
from reprodebug.zoom import origin
from reprodebug.zoom.drive import sentence
from reprodebug.zoom.log import Log, Op, Value, mark_fresh, read
from reprodebug.zoom.rounding import terms
from reprodebug.zoom.window import bounds
from tests.compare.traces import event, run, trace


def value(name: str, storage: int, digest: str, **more: Any) -> Value:
    given: dict[str, Any] = {"dtype": "float32", "shape": (4,), "strides": (1,), "device": "cpu"}
    return Value(name=name, storage=storage, digest=digest, **(given | more))


def log(*ops: tuple[Any, ...], target: Value) -> Log:
    """Operations as (name, line, inputs, outputs, more)."""
    found = Log("log", target=target, complete=True)
    for n, (name, line, ins, outs, *more) in enumerate(ops):
        fields: dict[str, Any] = {"arguments": {}, "view": False, "undefined": False, "random": None} | (more[0] if more else {})
        found.ops.append(
            Op(n, name, line, "", "", "", "", "", "", inputs=tuple(ins), outputs=tuple(outs), **fields)
        )  # fmt: skip
    return found


def chain(*, mid: str = "m", out: str = "o", noise: str = "n", word: str = "1", state: str | None = None) -> Log:
    """x -> mul -> relu, with an unrelated operation between."""
    return log(
        ("aten.mul", "t.py:1", [value("self", 0, "x")], [value("out", 1, mid)], {"arguments": {"other": word}, "random": state}),
        ("aten.noise", "t.py:2", [], [value("out", 9, noise)]),
        ("aten.relu", "t.py:3", [value("self", 1, mid)], [value("out", 2, out)]),
        target=value("target", 2, out),
    )


@pytest.mark.parametrize(
    ("a", "b", "kind", "name"),
    [
        (chain(), chain(out="p"), "operation", "aten.relu"),
        (chain(), chain(mid="q", out="p"), "operation", "aten.mul"),
        (chain(word="1"), chain(mid="q", out="p", word="2"), "argument", "aten.mul"),
        (chain(state="s"), chain(mid="q", out="p", state="t"), "random", "aten.mul"),
        (chain(noise="n"), chain(noise="other", out="p"), "operation", "aten.relu"),
    ],
)
def test_the_first_operation_on_the_way_to_the_target(a: Log, b: Log, kind: str, name: str) -> None:
    found = origin.find(a, b, whole=True)
    assert (found.kind, found.a and found.a.name, found.b and found.b.name) == (kind, name, name)


def test_equal_targets_have_no_origin() -> None:
    assert origin.find(chain(), chain(noise="other"), whole=True).kind == ""


def test_an_input_that_nothing_made() -> None:
    def given(x: str) -> Log:
        return log(("aten.relu", "t.py:1", [value("self", 0, x)], [value("out", 1, x + "r")]), target=value("target", 1, x + "r"))

    found = origin.find(given("x"), given("y"), whole=True)
    assert found.kind == "outside" and "self" in found.what
    found = origin.find(given("x"), given("y"), whole=False)
    assert found.kind == "input" and found.earlier
    a, b = given("x"), given("y")
    a.names[0] = b.names[0] = "layer.weight"
    assert "layer.weight" in origin.find(a, b, whole=True).what


def test_an_input_that_another_operation_made() -> None:
    """A state that is kept in one run and begun anew in the other: both have both values."""

    def given(maker: str, state: str, other: str) -> Log:
        return log(
            (maker, "t.py:1", [], [value("out", 0, state)]), ("aten.ones", "t.py:1", [], [value("out", 9, other)]),
            ("aten.gru", "t.py:2", [value("hx", 0, state)], [value("out", 1, state + "r")]),
            target=value("target", 1, state + "r"),
        )  # fmt: skip

    found = origin.find(given("aten.zeros", "0", "h"), given("aten.stack", "h", "0"), whole=True)
    assert (found.kind, found.what) == ("input", "its input hx, made by aten.zeros at t.py:1 in A, by aten.stack at t.py:1 in B")


def test_a_view_of_memory_that_is_not_written_yet_is_no_value() -> None:
    """buffer = torch.empty(...); buffer[:] = 0; buffer[3] = x: what the slice shows before it is filled is garbage."""

    def filled(garbage: str, *more: str) -> Log:
        last = more[-1] if more else "zeros"
        element = [("aten.fill_", "t.py:3", [value("self", 0, "", overwritten=True)], [value("self", 0, m, written=True)]) for m in more]
        return log(
            ("aten.empty", "t.py:1", [], [value("out", 0, garbage)], {"undefined": True}),
            ("aten.slice", "t.py:2", [value("self", 0, garbage)], [value("out", 0, garbage + "s")], {"view": True}),
            ("aten.zero_", "t.py:2", [value("self", 0, "", overwritten=True)], [value("self", 0, "zeros", written=True)]),
            *element, ("aten.relu", "t.py:4", [value("self", 0, last)], [value("out", 1, last + "r")]),
            target=value("target", 1, last + "r"),
        )  # fmt: skip

    found = origin.find(filled("g"), filled("h", "one"), whole=True)
    assert found.kind == "sequence" and found.a is None and found.b is not None and found.b.name == "aten.fill_"


def test_memory_that_a_copy_is_laid_over_is_no_value_before_it_is_written() -> None:
    """``copy.deepcopy`` of a tensor: what the memory held before differs at each launch, and is overwritten."""

    def copied(garbage: str, noise: str) -> Log:
        found = log(
            ("aten.set_.source_Storage", "t.py:1", [], [value("self", 1, garbage)]),
            ("aten.copy_.default", "t.py:1", [value("self", 1, "", overwritten=True), value("src", 0, "x")], [value("self", 1, "x")]),
            ("aten.add.Tensor", "t.py:2", [value("self", 1, "x")], [value("out", 2, noise)]),
            target=value("target", 2, noise),
        )
        mark_fresh(found.ops)
        return found

    found = origin.find(copied("g", "m"), copied("h", "n"), whole=True)
    assert (found.kind, found.a and found.a.name) == ("operation", "aten.add.Tensor")
    read_from_a_file = log(("aten.set_.source_Storage", "t.py:1", [], [value("self", 1, "y")]), target=value("target", 1, "y"))
    mark_fresh(read_from_a_file.ops)
    assert not read_from_a_file.ops[0].undefined


def test_a_counter_that_began_again() -> None:
    """Both runs have every value: the call of the same line, as often as in the other, is given another of them."""

    def counted(*calls: tuple[int, int]) -> Log:
        ops: list[tuple[Any, ...]] = [("aten.lift_fresh.default", "t.py:1", [], [value("out", k, "0")]) for k in (7, 8)]
        ops += [("aten.add_.Tensor", "t.py:2", [value("self", k, str(v))], [value("self", k, str(v + 1))]) for k, v in calls]
        return log(*ops, target=value("target", calls[-1][0], str(calls[-1][1] + 1)))

    found = origin.find(counted((7, 0), (7, 1), (7, 2)), counted((7, 0), (7, 1), (8, 0)), whole=True)
    assert (found.kind, found.a and found.a.n, found.b and found.b.n) == ("input", 4, 4)
    assert "made by aten.add_.Tensor at t.py:2 in A, by aten.lift_fresh.default at t.py:1 in B" in found.what


def test_memory_that_was_written_beside_torch() -> None:
    """NumPy shares a tensor's memory: what the last operation left there is not what the next one reads."""

    def read_back(left: str, found: str) -> Log:
        return log(
            ("aten.add_", "t.py:1", [value("self", 0, "w")], [value("self", 0, left, written=True)]),
            ("aten.relu", "t.py:2", [value("self", 0, found)], [value("out", 1, found + "r")]),
            target=value("target", 1, found + "r"),
        )

    found = origin.find(read_back("v", "v"), read_back("v", "changed"), whole=True)
    assert found.kind == "outside" and found.notes[0].startswith("in B its memory was written by something else")
    assert found.notes[0].endswith("after aten.add_ at t.py:1 had left it")


def test_memory_that_was_written_beside_torch_is_known_through_a_view() -> None:
    """A weight is read transposed: what the view was given tells."""

    def read_back(found: str) -> Log:
        return log(
            ("aten.add_", "t.py:1", [value("self", 0, "w")], [value("self", 0, "v", written=True)]),
            ("aten.t", "t.py:2", [value("self", 0, found)], [value("out", 0, found + "t", shape=(2, 2))], {"view": True}),
            ("aten.mm", "t.py:2", [value("mat2", 0, found + "t", shape=(2, 2))], [value("out", 1, found + "r")]),
            target=value("target", 1, found + "r"),
        )

    found = origin.find(read_back("v"), read_back("changed"), whole=True)
    assert found.kind == "outside" and found.notes[0].startswith("in B its memory was written by something else"), found


def test_a_call_that_is_put_together_otherwise() -> None:
    """g * x * 3 against g * (x * 3): the first product has other factors, all of which both runs have."""

    def product(*factors: str, out: str) -> Log:
        ins = [value(n, k, f) for k, (n, f) in enumerate(zip(("self", "other"), factors, strict=False))]
        first = ("aten.mul", "t.py:1", ins, [value("out", 5, out)])
        seen = ("aten.add", "t.py:0", [value("self", 7, "g"), value("other", 8, "x")], [value("out", 9, "s")])
        return log(seen, first, target=value("target", 5, out))

    found = origin.find(product("x", out="p"), product("g", "x", out="q"), whole=True)
    assert found.kind == "sequence" and found.a is not None and found.b is not None and found.a.name == found.b.name == "aten.mul"


def test_a_call_whose_argument_changes_nothing_in_one_run_is_the_partner_of_one_that_does() -> None:
    """x * 1 gives x, which both runs have: A calls the operation all the same."""
    a = log(
        ("aten.mul", "t.py:1", [value("self", 0, "x")], [value("out", 1, "x")], {"arguments": {"other": "1.0"}}),
        ("aten.relu", "t.py:2", [value("self", 1, "x")], [value("out", 2, "r")]),
        target=value("target", 2, "r"),
    )
    for one, other in ((a, chain(mid="m", word="0.5")), (chain(mid="m", word="0.5"), a)):
        found = origin.find(one, other, whole=True)
        assert found.kind == "argument" and found.a is not None and found.b is not None and found.a.name == found.b.name == "aten.mul"
    b = log(("aten.mul", "t.py:1", [value("self", 0, "y")], [value("out", 2, "r2")]), target=value("target", 2, "r2"))
    found = origin.find(a, b, whole=True)
    assert found.kind == "outside" and found.a is not None and found.a.name == "aten.mul", (
        "given other inputs they are not told apart by this"
    )


def test_a_batch_that_arrived_before_the_stretch() -> None:
    """Of two workers the second may be ready first: what it sent was received before the last batch that was equal."""
    received = log(
        ("aten.set_.source_Storage_storage_offset", "t.py:9", [], [value("self", 1, "x", written=True)]), target=value("target", 1, "x")
    )
    received.ops[0].via = "_BaseDataLoaderIter.__next__ > rebuild_tensor"
    for one, other in ((received, log(target=value("target", 3, "y"))), (log(target=value("target", 3, "y")), received)):
        found = origin.find(one, other, whole=False)
        assert (found.kind, found.earlier) == ("outside", True), "it is looked for from the beginning on"


def test_an_operation_that_is_given_what_was_made_before_the_stretch() -> None:
    """A second gradient that only A has is added within the stretch, and was made before it."""
    added = log(
        ("aten.mm", "t.py:1", [value("self", 0, "x")], [value("out", 1, "g")]),
        ("aten.add", "t.py:1", [value("self", 1, "g"), value("other", 7, "second")], [value("out", 2, "sum")]),
        target=value("target", 2, "sum"),
    )
    alone = log(("aten.mm", "t.py:1", [value("self", 0, "x")], [value("out", 1, "g")]), target=value("target", 1, "g"))
    found = origin.find(added, alone, whole=False)
    assert (found.kind, found.earlier, found.b) == ("sequence", True, None)
    assert not origin.find(added, alone, whole=True).earlier


def test_a_value_is_found_in_the_worker_that_made_it() -> None:
    def made(x: str) -> Log:
        return log(
            ("aten.lift_fresh", "d.py:4", [value("self", 0, x)], [value("out", 0, x)]),
            ("aten.stack", "d.py:9", [value("tensors.0", 0, x)], [value("out", 1, x + "s")]),
            ("aten.stack", "d.py:9", [value("tensors.0", 0, x)], [value("out", 2, "later")]),
            target=value("target", 9, ""),
        )

    logs = [origin.made_in([made("other"), made(x)], value("out", 3, x + "s")) for x in ("x", "y")]
    assert logs[0] is not None and logs[1] is not None and [len(x.ops) for x in logs] == [2, 2]
    assert logs[0].target is not None and logs[0].target.name == "target", "it is the divergent tensor, not the operation's result"
    found = origin.find(logs[0], logs[1], whole=True)
    assert found.kind == "outside" and found.a is not None and found.a.name == "aten.lift_fresh"
    assert origin.made_in([made("other")], value("out", 3, "nowhere")) is None
    whole = origin.made_in([chain(mid="x", out="x")], value("out", 3, "x"))
    assert whole is not None and [op.name for op in whole.ops] == ["aten.mul", "aten.noise", "aten.relu"], "relu hands it on as it is"


def test_memory_that_nothing_wrote_is_no_value_until_it_is_read() -> None:
    def filled(garbage: str, content: str) -> Log:
        return log(
            ("aten.empty", "t.py:1", [], [value("out", 0, garbage)], {"undefined": True}),
            ("aten.fill_", "t.py:2", [value("self", 0, "", overwritten=True)], [value("self", 0, content, written=True)]),
            ("aten.relu", "t.py:3", [value("self", 0, content)], [value("out", 1, content + "r")]),
            target=value("target", 1, content + "r"),
        )

    found = origin.find(filled("g", "1"), filled("h", "2"), whole=True)
    assert found.kind == "operation" and found.a is not None and found.a.name == "aten.fill_"

    def unfilled(garbage: str) -> Log:
        return log(
            ("aten.empty", "t.py:1", [], [value("out", 0, garbage)], {"undefined": True}),
            ("aten.relu", "t.py:3", [value("self", 0, garbage)], [value("out", 1, garbage + "r")]),
            target=value("target", 1, garbage + "r"),
        )

    found = origin.find(unfilled("g"), unfilled("h"), whole=True)
    assert found.kind == "uninitialised" and found.a is not None and found.a.name == "aten.empty"


def test_memory_that_nothing_wrote_may_serve_as_a_shape() -> None:
    """vmap draws for a dropout with an empty tensor for its shape, widened in one run alone."""

    def drawn(garbage: str, wide: bool, state: str) -> Log:
        name = garbage + "w"
        return log(
            ("aten.empty", "t.py:1", [], [value("out", 0, garbage)], {"undefined": True}),
            *([("aten.expand", "t.py:2", [value("self", 0, garbage)], [value("out", 0, name, shape=(3, 4))], {"view": True})] if wide else []),
            ("aten.bernoulli.p", "t.py:2", [value("self", 0, "", overwritten=True, shape=(3, 4) if wide else (4,))],
             [value("out", 1, state)], {"random": state}),
            target=value("target", 1, state),
        )  # fmt: skip

    found = origin.find(drawn("g", False, "s"), drawn("h", False, "t"), whole=True)
    assert found.kind == "random" and found.a is not None and found.a.name == "aten.bernoulli.p"
    found = origin.find(drawn("g", True, "s"), drawn("h", False, "t"), whole=True)
    assert found.kind == "argument" and found.what == "the memory that it fills is [3, 4] in A, [4] in B"


def test_empty_memory_that_numpy_filled_is_not_uninitialised() -> None:
    def filled(garbage: str, content: str, *more: tuple[Any, ...]) -> Log:
        return log(("aten.empty", "t.py:1", [], [value("out", 0, garbage)], {"undefined": True}), *more, target=value("target", 0, content))

    found = origin.find(filled("g", "1"), filled("g", "2"), whole=True)
    assert found.kind == "outside" and found.notes[0].startswith("it was written by something else than a torch operation")

    def read(content: str) -> Log:
        operation = ("aten.relu", "t.py:3", [value("self", 0, content)], [value("out", 1, content + "r")])
        return replace(filled("g", "", operation), target=value("target", 1, content + "r"))

    found = origin.find(read("1"), read("2"), whole=True)
    assert found.kind == "outside" and found.notes[0].endswith("after aten.empty at t.py:1 had left it"), found


def test_the_same_values_in_another_place_and_a_part_that_numpy_wrote() -> None:
    """x[1] = 0 against x[2] = 0: no operation gives a value that the other run has not."""

    def written(index: str, content: str) -> Log:
        return log(
            ("aten.randn", "t.py:1", [], [value("out", 0, "x", shape=(4, 4))]),
            ("aten.select.int", "t.py:2", [value("self", 0, "x", shape=(4, 4))], [value("out", 0, "row")],
             {"view": True, "arguments": {"index": index}}),
            ("aten.zero_", "t.py:2", [value("self", 0, "row")], [value("self", 0, "zeros", written=True)]),
            target=value("target", 0, content, shape=(4, 4)),
        )  # fmt: skip

    found = origin.find(written("1", "p"), written("2", "q"), whole=True)
    assert (found.kind, found.what) == ("argument", "index = 1 in A, 2 in B")
    found = origin.find(written("1", "p"), written("1", "q"), whole=True)
    assert found.kind == "outside" and found.notes[0].startswith("its memory was written by something else than a torch operation")
    assert found.notes[0].endswith("after aten.zero_ at t.py:2 had left it")


def test_a_thread_chose_which_of_two_tensors_comes_first() -> None:
    def made(chosen: int) -> Log:
        both = [("aten.randn", "t.py:1", [], [value("out", n, f"x{n}")]) for n in range(2)]
        return log(*both, target=value("target", chosen, f"x{chosen}"))

    found = origin.find(made(0), made(1), whole=True)
    assert (found.kind, found.what) == ("input", origin.ITSELF)
    operation = Operation("aten.randn", 0, "t.py:1")
    assert sentence(found, operation, operation).startswith(
        "the divergent tensor, last written by aten.randn at t.py:1, is another one; no op"
    )


def test_other_operations_and_a_copy_that_changes_nothing() -> None:
    def cast(name: str, digest: str, *before: tuple[Any, ...]) -> Log:
        end = (name, "t.py:2", [value("self", 0, "x")], [value("out", 1, digest)])
        return log(*before, end, target=value("target", 1, digest))

    clone = ("aten.clone", "t.py:1", [value("self", 5, "x")], [value("out", 0, "x")])
    found = origin.find(cast("aten.gelu", "g"), cast("aten.relu", "r", clone), whole=True)
    assert found.kind == "sequence"
    assert found.a is not None and found.b is not None and (found.a.name, found.b.name) == ("aten.gelu", "aten.relu")
    assert any("aten.gelu" in n for n in found.notes)


def test_an_operation_put_between() -> None:
    def scaled(out: str, *between: tuple[Any, ...]) -> Log:
        first = ("aten.tanh", "t.py:1", [value("self", 0, "x")], [value("out", 1, "t")])
        source = value("self", 2, "s") if between else value("self", 1, "t")
        return log(first, *between, ("aten.pow", "t.py:3", [source], [value("out", 3, out)]), target=value("target", 3, out))

    found = origin.find(scaled("p"), scaled("q", ("aten.mul", "t.py:2", [value("self", 1, "t")], [value("out", 2, "s")])), whole=True)
    assert found.kind == "sequence" and found.a is None and found.b is not None and found.b.name == "aten.mul"
    assert found.value is None, "results of two operations are not compared"


def test_who_drew() -> None:
    def drawing(state: str, out: str, *extra: tuple[Any, ...]) -> Log:
        first = ("aten.rand", "t.py:1", [], [value("out", 7, "same")], {"random": "s0"})
        end = ("aten.bernoulli", "t.py:9", [], [value("out", 1, out)], {"random": state})
        return log(first, *extra, end, target=value("target", 1, out))

    more = ("aten.rand", "t.py:5", [], [value("out", 8, "extra")], {"random": "s1"})
    found = origin.find(drawing("s1", "o"), drawing("s2", "p", more), whole=True)
    assert found.kind == "random" and found.a is not None and found.a.name == "aten.bernoulli"
    assert found.notes == ["before it B alone drew random numbers: aten.rand at t.py:5"]


def test_a_draw_that_chose_an_element() -> None:
    """The number goes through Python: the flow of tensors ends there, the draw is found all the same."""

    def chosen(state: str, drawn: str, index: str, out: str) -> Log:
        return log(
            ("aten.randint", "t.py:1", [], [value("out", 3, drawn)], {"random": state}),
            ("aten.select", "t.py:2", [value("self", 0, "x")], [value("out", 0, out)], {"arguments": {"index": index}, "view": True}),
            ("aten.stack", "t.py:3", [value("tensors.0", 0, out)], [value("out", 1, out + "s")]),
            target=value("target", 1, out + "s"),
        )

    found = origin.find(chosen("s", "3", "3", "u"), chosen("t", "5", "5", "v"), whole=True)
    assert found.kind == "random" and found.a is not None and found.a.name == "aten.randint"
    found = origin.find(chosen("s", "3", "3", "u"), chosen("s", "3", "5", "v"), whole=True)
    assert found.kind == "argument" and found.what == "index = 3 in A, 5 in B"


# stretches


def pair(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> Any:
    from reprodebug.compare.runs import examine

    return examine(run(trace(a)), run(trace(b)))


def test_a_stretch_begins_behind_the_inputs_of_the_divergent_call() -> None:
    def calls(out: int) -> list[dict[str, Any]]:
        return [
            event("", 1, kind=Kind.PARAMETER, phase=Phase.INIT, tensor="w"),
            event("a", 2, tensor="input.0", flags=Flag.INPUT), event("a", 3),
            event("b", 3, tensor="input.0", flags=Flag.INPUT), event("b", out),
        ]  # fmt: skip

    found = pair(calls(4), calls(5))
    (a, b) = bounds(found.pair, found.at)
    assert a == b and (a.start, a.stop, a.whole) == (4, 4, False)


def test_a_stretch_in_a_recomputation_is_followed_from_before_the_forward_pass() -> None:
    """Activation checkpointing runs modules within backward, where following cannot begin."""

    def recomputed(out: int) -> list[dict[str, Any]]:
        again = Flag.RECOMPUTE
        return [
            event("a", 2, tensor="input.0", flags=Flag.INPUT, kind=Kind.DATA), event("a", 3),
            event("loss", 4, kind=Kind.LOSS, tensor="loss.0"), event("b", 9, kind=Kind.GRADIENT, phase=Phase.BACKWARD, tensor="output.0.grad"),
            event("a", 2, tensor="input.0", flags=Flag.INPUT | again), event("a", out, flags=again),
        ]  # fmt: skip

    found = pair(recomputed(5), recomputed(6))
    (a, _) = bounds(found.pair, found.at)
    assert (a.start, a.stop) == (5, 5) and a.arm == 0


def test_a_stretch_of_a_parameter_at_its_first_sight_is_the_whole_program() -> None:
    def made(w: int) -> list[dict[str, Any]]:
        return [
            event("", 1, kind=Kind.PARAMETER, phase=Phase.INIT, tensor="v"),
            event("", w, kind=Kind.PARAMETER, phase=Phase.INIT, tensor="w"),
        ]

    found = pair(made(2), made(3))
    (a, _) = bounds(found.pair, found.at)
    assert a.whole and a.stop == 1


def test_a_stretch_of_a_parameter_after_a_step_begins_behind_the_gradients() -> None:
    def stepped(w: int) -> list[dict[str, Any]]:
        return [
            event("a", 2, tensor="input.0", flags=Flag.INPUT), event("a", 3),
            event("loss", 4, kind=Kind.LOSS, tensor="loss.0"),
            event("a", 5, kind=Kind.GRADIENT, phase=Phase.BACKWARD, tensor="w.grad"),
            event("a", 6, kind=Kind.PARAMETER, phase=Phase.OPTIMIZER, tensor="v"),
            event("a", w, kind=Kind.PARAMETER, phase=Phase.OPTIMIZER, tensor="w"),
        ]  # fmt: skip

    found = pair(stepped(7), stepped(8))
    (a, _) = bounds(found.pair, found.at)
    assert (a.start, a.stop) == (4, 5) and a.arm == 0


# logs on disk


def test_a_log_is_read_up_to_the_line_that_was_cut(tmp_path: Path) -> None:
    folder = tmp_path / "zoom"
    folder.mkdir()
    whole = [
        {"kind": "head", "names": {"0": "w"}},
        {"kind": "value", "digest": "aa", "at": 0, "nbytes": 4},
        {"kind": "value", "digest": "bb", "at": 2, "nbytes": 4},
        {"kind": "op", "n": 0, "op": "aten.relu", "line": "t.py:1", "in": "f", "args": {}, "inputs": [], "outputs":
         [["out", "float32", [1], [1], "cpu", 0, "aa", "k"]]},
    ]  # fmt: skip
    lines = [json.dumps(r) for r in whole]
    (folder / "7.bin").write_bytes(b"\0\0\x80?")
    (folder / "7.jsonl").write_text("\n".join(lines) + '\n{"kind": "op", "n": 1, "op"')
    found = read(str(tmp_path))
    assert found is not None and [op.name for op in found.ops] == ["aten.relu"] and not found.complete
    raw = found.raw(found.ops[0].outputs[0])
    assert raw is not None and raw.view("<f4").tolist() == [1.0]
    assert found.raw(value("out", 0, "bb")) is None, "a value outside of the file"
    for n in range(0, len(lines[3]), 7):  # nonsense of any kind is no traceback
        (folder / "7.jsonl").write_text("\n".join([*lines[:3], lines[3][:n] + "[" + lines[3][n + 1 :]]))
        assert read(str(tmp_path)) is not None
    assert read(str(tmp_path / "none")) is None


# numbers


def test_ulp_histogram_and_elements() -> None:
    a = np.array([1.0, 1.0, 1.0, -0.0, 2.0, np.nan], np.float32)
    b = a.copy()
    b[1] = np.nextafter(np.float32(1), np.float32(2))
    b[2] = 1 + 5 * 2.0**-23
    b[4] = np.inf
    raw = tuple(x.view(np.uint8) for x in (a, b))
    histogram = dict(ulp_histogram(*raw, "float32"))
    assert histogram == {0: 2, 1: 1, 8: 1}
    first, worst = elements_apart(*raw, "float32", (2, 3))
    assert [e[0] for e in first] == [(0, 1), (0, 2), (1, 1)] and first[0][3] == 1
    assert worst[0][0] == (1, 1) and worst[0][3] is None and worst[1][0] == (0, 2) and worst[1][3] == 5
    assert ulp_histogram(np.zeros(8, np.uint8), np.ones(8, np.uint8), "int64") == ()


def test_terms_of_a_sum() -> None:
    def op(name: str, *shapes: tuple[str, tuple[int, ...]], **words: str) -> Op:
        ins = tuple(value(n, 0, "", shape=s) for n, s in shapes)
        return Op(0, name, "", "", "", "", "", "", "", words, ins, (), False, False, None)

    out = value("out", 0, "", shape=(2, 5))
    assert terms(op("aten.addmm.default", ("self", (5,)), ("mat1", (2, 7)), ("mat2", (7, 5))), out) == 7
    assert terms(op("aten.convolution.default", ("input", (1, 3, 9, 9)), ("weight", (8, 3, 5, 5))), out) == 75
    assert terms(op("aten.sum.dim_IntList", ("self", (2, 6, 5))), out) == 6
    assert terms(op("aten.mul.Tensor", ("self", (2, 5))), out) == 1
    assert terms(op("aten.index_add.default", ("self", (2, 5))), out) is None
