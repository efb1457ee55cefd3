"""Modules that were only renamed meet; others do not."""

from __future__ import annotations

from reprodebug.compare.renames import renames
from reprodebug.compare.runs import examine
from tests.compare import traces

TABLE = {
    ("Net", ""): ("Net", ""),
    ("Net", "stem"): ("Conv2d", "1, 4, kernel_size=(3, 3)"),
    ("Net", "body"): ("Sequential", ""),
    ("Net", "body.0"): ("Linear", "in_features=4, out_features=8"),
    ("Net", "body.1"): ("Linear", "in_features=8, out_features=2"),
}


def renamed(**names: str) -> dict:
    """The same model under other names of its parts; ``Net`` names the outermost module."""
    found = {}
    for (root, name), row in TABLE.items():
        parts = [names.get(p, p) for p in name.split(".")]
        kind = names.get("Net", "Net") if not name else row[0]
        found[names.get(root, root), ".".join(parts)] = (kind, row[1])
    return found


def test_equal_names_need_no_table() -> None:
    assert renames(TABLE, dict(TABLE)) == {}


def test_a_renamed_part_takes_what_is_below_along() -> None:
    found = renames(TABLE, renamed(stem="entry", body="trunk"))
    assert found == {
        ("Net", "entry"): ("Net", "stem"),
        ("Net", "trunk"): ("Net", "body"),
        ("Net", "trunk.0"): ("Net", "body.0"),
        ("Net", "trunk.1"): ("Net", "body.1"),
    }


def test_a_renamed_class_and_part() -> None:
    found = renames(TABLE, renamed(Net="Model", stem="entry"))
    assert found[("Model", "")] == ("Net", "")
    assert found[("Model", "entry")] == ("Net", "stem")
    assert found[("Model", "body.1")] == ("Net", "body.1")


def test_other_settings_are_no_other_name() -> None:
    other = renamed(stem="entry")
    other["Net", "entry"] = ("Conv2d", "1, 4, kernel_size=(5, 5)")
    assert renames(TABLE, other) == {}


def test_a_part_that_only_one_model_has_stays_alone() -> None:
    assert renames(TABLE, {**TABLE, ("Net", "aux"): ("Linear", "in_features=4, out_features=2")}) == {}


def test_runs_of_a_renamed_model_are_identical_and_the_name_is_said() -> None:
    def note(name: str) -> list[dict]:
        return [{"type": "modules", "root": "Net", "modules": [["", "Net", ""], [name, "Linear", "2, 2"], ["c", "ReLU", ""]]}]

    runs = [traces.run(traces.trace(traces.training(modules=(name, "c")), note(name))) for name in ("fc", "proj")]
    comparison = examine(*runs).comparison
    assert comparison.verdict == "identical"
    assert comparison.counts.only_a == comparison.counts.only_b == 0
    assert [(d.a, d.b, d.severity) for d in comparison.differences if d.key == "module fc"] == [("fc", "proj", "harmless")]


def test_the_first_difference_in_a_renamed_model_bears_the_name_of_a() -> None:
    def note(name: str) -> list[dict]:
        return [{"type": "modules", "root": "Net", "modules": [["", "Net", ""], [name, "Linear", "2, 2"], ["c", "ReLU", ""]]}]

    a = traces.run(traces.trace(traces.training(modules=("fc", "c")), note("fc")))
    b = traces.run(traces.trace(traces.training(modules=("proj", "c"), change=(1, "proj")), note("proj")))
    first = examine(a, b).comparison.first
    assert first is not None
    assert (first.module, first.step) == ("fc", 1)
