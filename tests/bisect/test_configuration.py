"""Configuration files leaf by leaf: the mixture has A's values but for the chosen leaves, and its scalars as they were written."""

from __future__ import annotations

import datetime
import json
import tomllib
from functools import partial
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reprodebug.bisect.configuration import Configurations, _flat, _leaves, _toml, segments

A_YAML = "# comment\nlr: 1e-3\nmode: on\nmodel: {width: 16, name: 'small'}\ndata:\n  path: x\n  sizes: [1, 2]\nold: 1\n"
B_YAML = "lr: 2e-3\nmode: off\nmodel: {width: 32, name: 'small'}\ndata:\n  path: x\n  sizes: [1, 3]\n  extra: {deep: 010}\n"


def mixed(file: str, a: str, b: str, *names: str) -> str:
    found = Configurations([], [], {file: (a, b)}, _leaves(file, a, b))
    assert set(names) <= {x.name for x in found.leaves}, [x.name for x in found.leaves]
    return found.files(set(names))[file]


def test_yaml_scalars_stay_as_they_are_written() -> None:
    text = mixed("c.yaml", A_YAML, B_YAML, "c.yaml:lr", "c.yaml:data.extra.deep", "c.yaml:old")
    assert "lr: 2e-3\n" in text
    assert "mode: on\n" in text
    assert "deep: 010" in text
    assert yaml.safe_load(text) == {
        "lr": "2e-3", "mode": True, "model": {"width": 16, "name": "small"}, "data": {"path": "x", "sizes": [1, 2], "extra": {"deep": 8}},
    }  # fmt: skip
    assert mixed("c.yaml", A_YAML, B_YAML) == A_YAML


def test_toml_is_searched_by_its_keys() -> None:
    a = 'seed = 1\nwhen = 2024-01-02\n[optim]\nlr = 0.1\nbetas = [0.9, 0.99]\n[optim."odd key"]\nx = "a\\"b"\n[[layers]]\nn = 1\n'
    b = a.replace("0.1", "0.2").replace("seed = 1", "seed = 2").replace("n = 1", "n = 3")
    text = mixed("c.toml", a, b, "c.toml:optim.lr")
    assert tomllib.loads(text) == tomllib.loads(a.replace("0.1", "0.2"))
    assert tomllib.loads(text)["when"] == datetime.date(2024, 1, 2)


@pytest.mark.parametrize("form", ["yaml", "json", "toml"])
def test_tables_in_a_list_are_searched_by_their_keys(form: str) -> None:
    a = {"stages": [{"gain": 1, "name": "x"}, {"gain": 2, "name": "y"}], "sizes": [1, 2]}
    b = {"stages": [{"gain": 1, "name": "x2"}, {"gain": 3, "more": 1}], "sizes": [1, 3]}
    write = {"yaml": yaml.safe_dump, "json": json.dumps, "toml": _toml}[form]
    read = {"yaml": yaml.safe_load, "json": json.loads, "toml": tomllib.loads}[form]
    names = [f"c.{form}:stages.1.{key}" for key in ("gain", "more", "name")]
    text = mixed(f"c.{form}", write(a), write(b), *names)
    assert read(text) == a | {"stages": [a["stages"][0], b["stages"][1]]}
    assert {x.name for x in _leaves(f"c.{form}", write(a), write(b))} - set(names) == {f"c.{form}:stages.0.name", f"c.{form}:sizes"}


LEAF = st.one_of(
    st.integers(-5, 5), st.floats(allow_nan=False), st.booleans(), st.text(max_size=8), st.lists(st.integers(0, 3), max_size=3)
)
TABLE = partial(st.dictionaries, st.text(max_size=4), max_size=3)
TREE = st.dictionaries(st.text(max_size=4), st.recursive(LEAF, lambda inner: TABLE(inner) | st.lists(TABLE(inner), max_size=2)), max_size=4)


@given(TREE)
def test_what_is_written_as_toml_is_read_as_it_was(tree: dict[str, Any]) -> None:
    assert tomllib.loads(_toml(tree)) == tree


@pytest.mark.parametrize("form", ["yaml", "json", "toml"])
@given(st.data())
def test_all_leaves_of_b_make_b(form: str, data: st.DataObject) -> None:
    a, b = ({"k": 0, **{k: v for k, v in data.draw(TREE).items() if k.isascii() and k.isalnum()}} for _ in "ab")
    write = {"yaml": lambda x: yaml.safe_dump(x, sort_keys=False), "json": json.dumps, "toml": _toml}[form]
    read = {"yaml": yaml.safe_load, "json": json.loads, "toml": tomllib.loads}[form]
    before, after = write(a), write(b)
    leaves = _leaves(f"c.{form}", before, after)
    if not leaves:
        return
    one = data.draw(st.sampled_from(leaves))
    got = read(mixed(f"c.{form}", before, after, one.name))
    assert one.name not in {x.name for x in _leaves(f"c.{form}", write(got), after)}
    was, now = _flat(read(before), got), _flat(got, read(before))
    apart = [p for p in {*was, *now} if p[: len(one.path)] != one.path[: len(p)]]
    assert {p: was.get(p) for p in apart if was.get(p) != {}} == {p: now.get(p) for p in apart if now.get(p) != {}}


def test_options_and_overrides_of_a_command_line() -> None:
    words = ["python", "train.py", "--flag", "--lr", "0.1", "--size=4", "optimizer.lr=3", "+new=1", "~old"]
    assert [name for name, _ in segments(words)][2:] == ["--flag", "--lr", "--size", "optimizer.lr", "new", "argument 2"]


def test_a_list_of_tables_may_be_the_whole_file_and_one_side_may_be_empty() -> None:
    a, b = '[{"n": 1}, {"lr": 0.1, "c": "a"}]', '[{"n": 2}, {"lr": 0.2, "c": "a"}]'
    for form in ("json", "yaml"):
        assert {x.name for x in _leaves(f"c.{form}", a, b)} == {f"c.{form}:0.n", f"c.{form}:1.lr"}
        assert yaml.safe_load(mixed(f"c.{form}", a, b, f"c.{form}:1.lr")) == [{"n": 1}, {"lr": 0.2, "c": "a"}]
        assert yaml.safe_load(mixed(f"c.{form}", "{}", '{"lr": 1, "x": 2}', f"c.{form}:lr")) == {"lr": 1}
        assert yaml.safe_load(mixed(f"c.{form}", '{"lr": 1, "x": 2}', "{}", f"c.{form}:lr")) == {"x": 2}


def test_lines_that_changed_side_by_side_are_leaves_of_their_own() -> None:
    a, b = "[x]\nscale = 1\nunused = 1\n[y]\n", "[x]\nscale = 2\nunused = 2\n[y]\nmore = 1\n"
    assert [x.name for x in _leaves("c.ini", a, b)] == ["c.ini:2", "c.ini:3", "c.ini:5"]
    assert mixed("c.ini", a, b, "c.ini:2") == a.replace("scale = 1", "scale = 2")
    assert mixed("c.ini", a, b, "c.ini:3", "c.ini:5") == b.replace("scale = 2", "scale = 1")
