"""The views of the compare screen on recorded runs: what each of them says is what was recorded."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from reprodebug.model.events import Kind
from reprodebug.tui import palette
from reprodebug.tui.views import VIEWS
from reprodebug.tui.views.base import View
from reprodebug.tui.views.steps import StepsView
from reprodebug.tui.widgets.lines import Lines
from tests.tui import comparisons as made
from tests.tui.opened import look, opened_sample, page, sample, selected, told

PAIRS = [
    "identical", "missing-seed", "data-order", "extra-draw", "changed-package", "threads", "precision", "forgotten-train-mode", "full-level",
]  # fmt: skip


def view(name: str, pair: str, *, everything: bool = False) -> View:
    """A view of a sample pair, read."""
    comparison, evidence = sample(pair)
    made_view = next(v for v in VIEWS if v.name == name)(comparison, evidence)
    made_view.everything = everything
    made_view.prepare()
    made_view.ready = True
    made_view.build()
    return made_view


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("width", [54, 58, 78, 118])
def test_every_row_of_every_view_fits(pair: str, width: int) -> None:
    for make in VIEWS:
        for everything in (False, True):
            v = view(make.name, pair, everything=everything)
            assert v.header(width).cell_len <= width, v.name
            for n in range(0, len(v.rows), max(1, len(v.rows) // 40)):
                assert v.row(n, width, True).cell_len <= width, (v.name, n)
                assert v.detail(n).plain()
                v.detail(n).lay(width)


# layers


async def test_layers_open_on_the_first_divergent_tensor_with_its_chain() -> None:
    async with opened_sample("forgotten-train-mode") as (pilot, _):
        shown = page(pilot)
        assert "◆ output.0 first" in selected(pilot)
        rows = shown.splitlines()
        chain = [next(n for n, r in enumerate(rows) if mark in r) for mark in ("▾ ✗ Net", "▾ ✗ norm BatchNorm2d", "◆ output.0")]
        assert chain == sorted(chain)
        assert "train/eval mode: A train, B eval" in shown and "why? 0.96" in shown


def test_layers_show_only_what_differs_until_everything_is_asked_for() -> None:
    few, all_ = view("layers", "forgotten-train-mode"), view("layers", "forgotten-train-mode", everything=True)
    comparison, evidence = sample("forgotten-train-mode")
    assert evidence is not None
    assert len(few.rows) < len(all_.rows)
    root = evidence.tree[0]
    assert (root.differing, root.compared) == (
        sum(x.differing for x in comparison.layers if x.root == "Net"),
        sum(1 for s in evidence.pairs[0].a.events["site"][evidence.pairs[0].align.a] if evidence.pairs[0].a.sites[s][0] == "Net"),
    )


def test_the_heat_is_the_share_of_each_stretch() -> None:
    _, evidence = sample("forgotten-train-mode")
    assert evidence is not None
    pair = evidence.pairs[0]
    wrong = np.zeros(len(pair.align.a), bool)
    wrong[pair.mismatch] = True
    for node in evidence.tree:
        if node.children:
            continue
        of_node = np.array([pair.a.sites[s][:2] == (node.root, node.module) for s in pair.a.events["site"][pair.align.a]])
        step = pair.align.step_a[pair.align.a]
        for (low, high), share in zip(evidence.stretches, node.heat, strict=True):
            here = of_node & (step >= low) & (step <= high)
            assert share == (None if not here.any() else pytest.approx(wrong[here].mean()))


async def test_folding_and_unfolding() -> None:
    async with opened_sample("forgotten-train-mode") as (pilot, screen):
        count = len(screen.view.rows)
        assert "▾ ✗ norm" in await look(pilot, "left")
        assert "norm" in selected(pilot)
        await look(pilot, "left")
        assert len(screen.view.rows) < count and "▸ ✗ norm" in selected(pilot)
        await look(pilot, "right")
        assert len(screen.view.rows) == count
        await look(pilot, "space")
        assert "▸ ✗ norm" in selected(pilot)
        await look(pilot, "left")
        assert "▾ ✗ Net" in selected(pilot)
        await look(pilot, "left", "left")
        assert any("nothing to fold" in m for m in told(pilot))


async def test_next_divergence_follows_the_order_of_execution() -> None:
    comparison, _ = sample("forgotten-train-mode")
    order = list(dict.fromkeys((x.root, x.first.module) for x in comparison.layers))
    async with opened_sample("forgotten-train-mode") as (pilot, screen):
        seen = [screen.view.group(screen.view.rows[screen._list.cursor])[1:]]
        for _ in range(len(order) - 1):
            await look(pilot, "n")
            seen.append(screen.view.group(screen.view.rows[screen._list.cursor])[1:])
        assert seen == order
        await look(pilot, "n")
        assert "there is no further divergence in this view" in told(pilot)
        await look(pilot, "f")
        assert "◆" in selected(pilot)
        await look(pilot, "N")
        assert "there is no earlier divergence in this view" in told(pilot)


async def test_a_full_recording_shows_numbers() -> None:
    async with opened_sample("full-level", (110, 40)) as (pilot, _):
        shown = page(pilot)
        assert "max abs" in shown and "ULP" in shown and "elements" in shown


# steps


async def test_steps_mark_the_first_divergent_one_and_draw_the_losses() -> None:
    comparison, _ = sample("extra-draw")
    assert comparison.first is not None
    async with opened_sample("extra-draw", (110, 40)) as (pilot, _):
        shown = await look(pilot, "2")
        assert "◆" in selected(pilot) and f" {comparison.first.step} " in selected(pilot)
        a, b = next((a, b) for s, a, b in comparison.losses if s == comparison.first.step)
        assert f"{a:.8g}" in selected(pilot) and f"{b:.8g}" in selected(pilot)
        assert any("⠀" <= c <= "⣿" for c in shown) and "▲" in shown
        assert "= equal" in shown


def test_a_step_that_one_run_did_not_reach_is_no_divergence() -> None:
    c = dataclasses.replace(made.identical(), losses=((0, 0.5, 0.5), (1, 3.1296571e-6, None), (2, math.nan, math.nan)))
    v = StepsView(c, None)
    v.build()
    rows = [v.row(n, 78, False).plain for n in range(3)]
    assert "= loss" in rows[0] and "only A" in rows[1] and "3.129657e-06" in rows[1] and "≠" not in "".join(rows)
    assert v.next(0, 1) is None


# random state


async def test_random_state_tells_the_draws_between_two_looks() -> None:
    async with opened_sample("extra-draw", (100, 36)) as (pilot, _):
        shown = await look(pilot, "3")
        assert "torch.cpu" in shown and "≠" in selected(pilot)
        assert "+4" in selected(pilot) and "+5" in selected(pilot)  # the extra draw of B
        assert "B is 1 word of 32 bits" in " ".join(shown.replace("▌", " ").split())


def test_a_generators_looks_are_those_recorded() -> None:
    v = view("random state", "extra-draw", everything=True)
    _, evidence = sample("extra-draw")
    assert evidence is not None
    pair = evidence.pairs[0]
    for g in v._all:  # type: ignore[attr-defined]
        seqs = {int(s) for t, n in ((pair.a, g.story.number_a), (pair.b, g.story.number_b)) for s in t.rng["seq"][t.rng["generator"] == n]}
        assert 0 < len(g.looks) <= len(seqs)
        at = [o.at for o in g.looks]
        assert at == sorted(at)
        parted = [o.at for o in g.looks if not o.equal]
        assert (g.story.at >= 0) == bool(parted)
        if parted:
            assert parted[0] == g.story.at


# data


@pytest.mark.parametrize(("pair", "word"), [("data-order", "changed"), ("extra-draw", "other")])
async def test_data_says_how_samples_met(pair: str, word: str) -> None:
    async with opened_sample(pair, (100, 36)) as (pilot, _):
        shown = await look(pilot, "4")
        assert word in selected(pilot), shown
        assert "index A" in shown and "samples" in shown


def test_relations_of_samples() -> None:
    from reprodebug.compare.evidence import relation

    def batch(prints: list[int], index: list[int]) -> tuple[object, object]:
        return np.array(prints, np.uint64), np.array(index, np.int64)

    assert relation(batch([1, 2, 3], [0, 1, 2]), batch([3, 1, 2], [2, 0, 1]))[0] == "reordered"
    assert relation(batch([1, 2, 3], [0, 1, 2]), batch([1, 2, 9], [0, 1, 2])) == (
        "changed",
        "1 of 3 samples have other content; the sampler chose the same indices",
    )
    assert relation(batch([1, 2, 3], [0, 1, 2]), batch([1, 7, 9], [0, 5, 6]))[0] == "other"
    assert relation(batch([], []), batch([1], []))[0] == "differs"
    assert relation(batch([1, 2], []), batch([1, 2], []))[0] == "same"


# environment, causes


async def test_environment_puts_what_a_cause_names_first() -> None:
    async with opened_sample("changed-package", (100, 36)) as (pilot, _):
        await look(pilot, "5")
        assert "(1)" in selected(pilot)


async def test_causes_show_evidence_and_remedy() -> None:
    comparison, _ = sample("forgotten-train-mode")
    async with opened_sample("forgotten-train-mode", (110, 40)) as (pilot, _):
        shown = await look(pilot, "6")
        assert f"1. {comparison.causes[0].confidence:.2f}" in selected(pilot)
        assert "because" in shown and "remedy" in shown


async def test_an_identical_pair_has_nothing_to_explain() -> None:
    async with opened_sample("identical") as (pilot, _):
        assert "No layer differs. d shows the whole tree, w says how far that goes." in page(pilot)
        assert "✓ same training?" in await look(pilot, "6")
        shown = await look(pilot, "d", "1")
        assert "= Net" in shown


# records


def test_records_hold_every_record_once() -> None:
    for pair_name in ("forgotten-train-mode", "extra-draw", "identical"):
        _, evidence = sample(pair_name)
        assert evidence is not None
        r, pair = evidence.records, evidence.pairs[0]
        rows = [r.row(n)[1:] for n in range(len(r))]
        assert sorted(a for a, _ in rows if a >= 0) == list(range(len(pair.a.events)))
        assert sorted(b for _, b in rows if b >= 0) == list(range(len(pair.b.events)))
        assert [a for a, _ in rows if a >= 0] == sorted(a for a, _ in rows if a >= 0)
        assert int(r.wrong.sum()) == len(pair.mismatch) + len(pair.align.only_a) + len(pair.align.only_b)


async def test_records_open_on_the_first_divergence_and_filter_quickly() -> None:
    comparison, evidence = sample("forgotten-train-mode")
    assert evidence is not None and comparison.first is not None
    async with opened_sample("forgotten-train-mode", (110, 40)) as (pilot, screen):
        await look(pilot, "7")
        assert "norm output.0" in selected(pilot) and "≠" in selected(pilot)
        await look(pilot, "d")
        assert len(screen.view.rows) == len(evidence.records) and "norm output.0" in selected(pilot)
        await look(pilot, "slash", *"gradient", "enter")
        pair = evidence.pairs[0]
        kinds = {int(t.events["kind"][i]) for t, i in ((pair.a, evidence.records.row(int(n))[1]) for n in screen.view.rows) if i >= 0}
        assert kinds == {Kind.GRADIENT}
        assert "filter: gradient" in page(pilot)
        await look(pilot, "slash", "escape")
        assert len(screen.view.rows) == len(evidence.records)


# what all share


@pytest.mark.parametrize("name", ["layers", "steps", "random state", "data", "environment", "causes", "records"])
async def test_the_filter_narrows_and_leaves_no_trace(name: str) -> None:
    number = [v.name for v in VIEWS].index(name)
    async with opened_sample("extra-draw") as (pilot, screen):
        if number:
            await look(pilot, str(number + 1))
        before = len(screen.view.rows)
        assert before
        await look(pilot, "slash", *"zzzz")
        assert "No row of" in page(pilot) and not len(screen.view.rows)
        await look(pilot, "escape")
        assert len(screen.view.rows) == before
        assert screen.query_one("#list", Lines).has_focus


async def test_swap_turns_the_records_too() -> None:
    async with opened_sample("forgotten-train-mode", (110, 40)) as (pilot, _):
        assert "only in A" in page(pilot)
        shown = await look(pilot, "x")
        assert "A eval, B train" in shown and "only in B" in shown
        assert "◆" in selected(pilot)


async def test_themes_change_colours_and_nothing_else() -> None:
    async with opened_sample("forgotten-train-mode") as (pilot, _):
        pages = [page(pilot)]
        for name in (*palette.THEMES[1:], palette.THEMES[0]):
            shown = await look(pilot, "t")
            assert f"theme: {name}" in told(pilot)
            pages.append(shown)
    plain = [[line for line in p.splitlines() if "theme:" not in line and "▌" not in line and "─" not in line] for p in pages]
    assert plain[0][:8] == plain[-1][:8]


def test_a_colour_is_never_the_only_difference() -> None:
    glyphs = {mark for mark, _ in __import__("reprodebug.tui.views.base", fromlist=["MARKS"]).MARKS.values()}
    assert len(glyphs) == 3


async def test_views_of_a_foreign_comparison_are_lists() -> None:
    from tests.tui.opened import opened

    async with opened(made.divergent(), (100, 30)) as (pilot, _):
        for key in "234567":
            shown = await look(pilot, key)
            assert "divergent" in shown
        assert "hold records in execution order" in " ".join(shown.split())
