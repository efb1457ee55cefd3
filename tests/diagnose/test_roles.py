"""Source, carrier, unexplained: what went into a record decides."""

from __future__ import annotations

from reprodebug.compare.runs import examine
from reprodebug.diagnose.ranking import diagnose
from reprodebug.model.events import Flag, Kind, Phase
from tests.compare.traces import event, run, trace

INPUT = Flag.TRAINING | Flag.INPUT


def call(batch: int, inside: int, output: int, inputs: bool = True) -> list[dict[str, object]]:
    """A batch, then one call of ``block``: an input, its child, an input by keyword that was noted after the call, the output."""
    rows = [
        event("block.fc", 1, tensor="weight", kind=Kind.PARAMETER, phase=Phase.INIT, flags=Flag(0)),
        event("", batch, tensor="batch.0", kind=Kind.DATA, phase=Phase.DATA, root="DataLoader#0", flags=Flag(0)),
        event("block", batch + 1, tensor="input.0", flags=INPUT),
        event("block.fc", batch + 1, tensor="input.0", flags=INPUT),
        event("block.fc", inside),
        event("block", 7, tensor="input.mask", flags=INPUT),
        event("block", output),
    ]
    return [r for r in rows if inputs or not r["flags"] & Flag.INPUT]


def roles_of(a: list[dict[str, object]], b: list[dict[str, object]]) -> dict[str, str]:
    c = diagnose(examine(run(trace(a)), run(trace(b))))
    return {f"{row.first.module} {row.first.tensor}".strip(): row.role for row in c.layers}


def test_where_the_batch_differs_every_module_is_a_carrier() -> None:
    found = roles_of(call(10, 20, 30), call(11, 21, 31))
    assert found.pop("batch.0") == "source"
    assert set(found) == {"block input.0", "block.fc input.0", "block.fc output.0", "block output.0"}
    assert set(found.values()) == {"carrier"}


def test_where_all_that_went_in_was_equal_the_module_is_the_source() -> None:
    assert roles_of(call(10, 20, 30), call(10, 20, 31)) == {"block output.0": "source"}


def test_what_ran_inside_brought_it_in() -> None:
    assert roles_of(call(10, 20, 30), call(10, 21, 31)) == {"block.fc output.0": "source", "block output.0": "carrier"}


def test_where_no_input_was_observed_nothing_is_claimed() -> None:
    assert roles_of(call(10, 20, 30, inputs=False), call(10, 20, 31, inputs=False)) == {"block output.0": "unexplained"}
