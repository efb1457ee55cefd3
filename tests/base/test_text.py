"""What a terminal and a Markdown renderer may see of a run's text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reprodebug._base.text import code, markdown, plural, visible

ANY = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)
NASTY = st.text(st.sampled_from(list("`\\*_[]()<>#|~&$:@!=-+. \n\x1b\x07\u202eabwww1")), max_size=40)
TEXT = ANY | NASTY
LIMITS = st.none() | st.integers(3, 80)


@given(TEXT, LIMITS)
def test_visible_has_nothing_that_steers(text: str, limit: int | None) -> None:
    shown = visible(text, limit)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"}
    assert visible(shown, limit) == shown
    assert limit is None or len(shown) <= limit


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u202eb", "a\\u202eb"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
    ],
)
def test_visible_examples(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_visible_keeps_both_ends_of_what_it_cuts() -> None:
    shown = visible("a" * 500 + "z" * 500, 50)
    assert len(shown) == 50
    assert shown.startswith("a" * 20)
    assert shown.endswith("z" * 10)


@given(TEXT)
def test_code_is_one_code_span(text: str) -> None:
    tokens = MarkdownIt("commonmark").parse("x " + code(text) + " y")
    assert len(tokens) == 3
    kinds = [t.type for t in tokens[1].children or []]
    assert kinds == ["text", "code_inline", "text"]


@given(TEXT)
def test_markdown_shows_the_text_itself(text: str) -> None:
    tokens = MarkdownIt("commonmark").parse("x " + markdown(text) + " y")
    assert len(tokens) == 3
    children = tokens[1].children or []
    assert {t.type for t in children} <= {"text", "text_special"}
    assert "".join(t.content for t in children) == f"x {visible(text)} y"


@given(TEXT)
def test_a_table_cell_cannot_be_left(text: str) -> None:
    table = f"| a | b |\n|---|---|\n| {markdown(text)} | {code(text)} |\n"
    tokens = MarkdownIt("commonmark").enable("table").parse(table)
    assert [t.type for t in tokens].count("td_open") == 2


def test_plural() -> None:
    assert [plural(1, "step"), plural(2, "batch"), plural(0, "step"), plural(1234, "class")] == [
        "1 step", "2 batches", "0 steps", "1,234 classes",
    ]  # fmt: skip
