"""The search over commits: against git as an oracle on random graphs, and its number of questions."""

from __future__ import annotations

import math
import os
import random
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprodebug.bisect.log import git_log
from reprodebug.bisect.search.graph import GraphSearch
from reprodebug.model.experiment import Bisection, Trial


def line(n: int) -> tuple[list[str], dict[str, list[str]]]:
    order = [str(i) for i in range(n)]
    return order, {str(i): [str(i - 1)] for i in range(1, n)}


def walk(search: GraphSearch, bad: set[str], blocked: set[str] = frozenset()) -> int:  # type: ignore[assignment]
    asked = 0
    while (commit := search.next()) is not None:
        asked += 1
        assert asked < 5000
        search.answer(commit, None if commit in blocked else commit in bad)
    return asked


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[str], dict[str, list[str]]]:
    """A history with merges whose last commit descends from all others."""
    n = draw(st.integers(1, 24))
    parents: dict[str, list[str]] = {}
    for i in range(1, n):
        first = draw(st.integers(max(0, i - 4), i - 1))
        second = draw(st.integers(0, i - 1))
        parents[str(i)] = sorted({str(first), str(second)}) if draw(st.booleans()) else [str(first)]
    order = [str(i) for i in range(n)]
    heads = [c for c in order if not any(c in p for p in parents.values())]
    if len(heads) > 1:
        order.append(str(n))
        parents[str(n)] = heads
    return order, parents


@given(graphs(), st.data())
@settings(max_examples=200, deadline=None)
def test_the_first_bad_commit_of_any_graph_is_found(graph: tuple[list[str], dict[str, list[str]]], data: st.DataObject) -> None:
    order, parents = graph
    search = GraphSearch(order, parents)
    culprit = data.draw(st.sampled_from(order))
    bad = {c for c in order if culprit in search.ancestors(c)}
    asked = walk(search, bad)
    assert search.result() == ([culprit], 1.0)
    assert asked <= 2 * math.ceil(math.log2(len(order) + 1)) + 2


@given(graphs(), st.data())
@settings(max_examples=200, deadline=None)
def test_untestable_commits_never_hide_the_culprit(graph: tuple[list[str], dict[str, list[str]]], data: st.DataObject) -> None:
    order, parents = graph
    search = GraphSearch(order, parents)
    culprit = data.draw(st.sampled_from(order))
    blocked = data.draw(st.sets(st.sampled_from(order[:-1] or order)) if len(order) > 1 else st.just(set()))
    bad = {c for c in order if culprit in search.ancestors(c)}
    walk(search, bad, blocked)
    found, _ = search.result()
    assert culprit in found
    if not blocked:
        assert found == [culprit]
    # every candidate that is left was untestable, or is the first testable one behind untestable ones
    assert all(c in blocked for c in found if c not in search.answers and c != order[-1]) or len(found) == 1


@given(graphs(), st.integers(2, 5), st.data())
@settings(max_examples=100, deadline=None)
def test_several_questions_at_once_find_the_same(graph: tuple[list[str], dict[str, list[str]]], width: int, data: st.DataObject) -> None:
    order, parents = graph
    search = GraphSearch(order, parents)
    culprit = data.draw(st.sampled_from(order))
    blocked = data.draw(st.sets(st.sampled_from(order), max_size=3))
    bad = {c for c in order if culprit in search.ancestors(c)}
    rounds = 0
    while batch := search.several(width):
        rounds += 1
        assert len(set(batch)) == len(batch) <= width
        assert rounds <= len(order)
        for commit in batch:
            search.answer(commit, None if commit in blocked else commit in bad)
    assert culprit in search.result()[0]
    assert blocked or search.result()[0] == [culprit]


def test_three_at_once_take_half_the_rounds() -> None:
    search = GraphSearch(*line(1024))
    rounds = 0
    while batch := search.several(3):
        rounds += 1
        for commit in batch:
            search.answer(commit, int(commit) >= 700)
    assert search.result()[0] == ["700"]
    assert rounds <= 6


def git(repo: str, *words: str, check: bool = True) -> str:
    environment = {
        "PATH": os.environ["PATH"], "HOME": repo, "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org", "GIT_AUTHOR_DATE": "1700000000 +0000",
        "GIT_COMMITTER_DATE": "1700000000 +0000",
    }  # fmt: skip
    return subprocess.run(["git", *words], cwd=repo, env=environment, check=check, capture_output=True, text=True).stdout


def grown(repo: str, order: list[str], parents: dict[str, list[str]]) -> dict[str, str]:
    """A repository with this graph: name -> hash."""
    git(repo, "init", "-q", "-b", "main")
    tree = git(repo, "write-tree").strip()
    root = git(repo, "commit-tree", tree, "-m", "root").strip()
    made = {}
    for name in order:
        words = [w for p in parents.get(name, ()) for w in ("-p", made[p])] or ["-p", root]
        made[name] = git(repo, "commit-tree", tree, "-m", name, *words).strip()
    git(repo, "update-ref", "refs/heads/main", made[order[-1]])
    git(repo, "tag", "good", root)
    return made


@pytest.mark.parametrize("seed", range(6))
def test_git_bisect_gives_the_same_answer(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = random.Random(seed)
    n = rng.randrange(6, 30)
    parents = {str(i): sorted({str(rng.randrange(max(0, i - 4), i)) for _ in range(rng.choice((1, 1, 2)))}) for i in range(1, n)}
    order = [str(i) for i in range(n)]
    heads = [c for c in order if not any(c in p for p in parents.values())]
    if len(heads) > 1:
        order.append(str(n))
        parents[str(n)] = heads
    repo = str(tmp_path_factory.mktemp("repo"))
    made = grown(repo, order, parents)
    search = GraphSearch(order, parents)
    # git's own weights: how many ancestors each candidate has
    listed = git(repo, "rev-list", "--bisect-all", "main", "^good").split("\n")
    distances = {row.split()[0]: int(row.split("dist=")[1].rstrip(")")) for row in listed if "dist=" in row}
    for name in order:
        count = len(search.ancestors(name))
        assert distances[made[name]] == min(count, len(order) - count)
    culprit = rng.choice(order)
    bad = {c for c in order if culprit in search.ancestors(c)}
    walk(search, bad)
    names = " ".join(made[c] for c in bad)
    git(repo, "bisect", "start", "main", "good", check=False)
    script = f'case " {names} " in *" $(git rev-parse HEAD) "*) exit 1;; *) exit 0;; esac'
    out = git(repo, "bisect", "run", "sh", "-c", script, check=False)
    assert f"{made[search.result()[0][0]]} is the first bad commit" in out
    assert search.result()[0] == [culprit]


@pytest.mark.parametrize("seed", range(6))
def test_git_replays_our_log_and_agrees(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = random.Random(seed)
    n = rng.randrange(6, 30)
    parents = {str(i): sorted({str(rng.randrange(max(0, i - 4), i)) for _ in range(rng.choice((1, 1, 2)))}) for i in range(1, n)}
    order = [str(i) for i in range(n)]
    heads = [c for c in order if not any(c in p for p in parents.values())]
    if len(heads) > 1:
        order.append(str(n))
        parents[str(n)] = heads
    repo = str(tmp_path_factory.mktemp("repo"))
    made = grown(repo, order, parents)
    search = GraphSearch(order, parents)
    culprit = rng.choice(order)
    bad = {c for c in order if culprit in search.ancestors(c)}
    near = {culprit, *parents.get(culprit, ())}
    blocked = {c for c in order if rng.random() < 0.25} - near if seed % 2 else set()
    trials, inferred = [], []
    while (commit := search.next()) is not None:
        said = None if commit in blocked else commit in bad
        search.answer(commit, said)
        if said is not None and rng.random() < 0.3:
            inferred.append((made[commit], said))
            continue
        verdict = {None: "untestable", True: "same-as-b", False: "same-as-a"}[said]
        trials.append(Trial(len(trials) + 1, f"commit {made[commit][:10]} ({commit})", verdict, 1.0))
        if said is not None and rng.random() < 0.5:  # repeated, and more often right than wrong
            trials += [Trial(0, trials[-1].candidate, v, 1.0) for v in (verdict, "same-as-a" if said else "other")]
    result = Bisection("found", "commits", "", trials=tuple(trials), inferred=tuple(inferred))
    log = os.path.join(repo, "log")
    with open(log, "w") as f:
        f.write(git_log(result, "good", "main"))
    out = git(repo, "bisect", "replay", log)
    assert search.result()[0] == [culprit]
    if "is the first bad commit" not in out:  # git asks for a merge base of its own, which ours takes from the good commit above it
        assert any(len(p) > 1 for p in parents.values()) and "merge base" in out
        names = " ".join(made[c] for c in bad)
        script = f'case " {names} " in *" $(git rev-parse HEAD) "*) exit 1;; *) exit 0;; esac'
        for _ in range(4):  # git stops after each merge base
            out = git(repo, "bisect", "run", "sh", "-c", script, check=False)
    assert f"{made[culprit]} is the first bad commit" in out or f"# first bad commit: [{made[culprit]}]" in git(repo, "bisect", "log"), out


@pytest.mark.parametrize("culprit", [0, 1, 311, 512, 1022, 1023])
def test_1024_commits_take_ten_questions(culprit: int) -> None:
    search = GraphSearch(*line(1024))
    assert walk(search, {str(i) for i in range(culprit, 1024)}) <= 10
    assert search.result()[0] == [str(culprit)]


@pytest.mark.parametrize(("start", "culprit"), [(470, 551), (235, 362), (0, 150), (700, 100), (300, 1000), (360, 360), (360, 660)])
def test_a_block_of_300_untestable_commits_takes_twenty_questions(start: int, culprit: int) -> None:
    search = GraphSearch(*line(1024))
    blocked = {str(i) for i in range(start, start + 300)}
    assert walk(search, {str(i) for i in range(culprit, 1024)}, blocked) <= 20
    found = search.result()[0]
    assert str(culprit) in found
    assert len(found) <= 301


def test_noise_is_survived_and_its_confidence_is_honest() -> None:
    rng = random.Random(3)
    right, claimed, tries = 0, 0.0, 120
    for _ in range(tries):
        culprit = rng.randrange(256)
        search = GraphSearch(*line(256), 0.05, 0.05)
        while (commit := search.next()) is not None:
            search.answer(commit, (int(commit) >= culprit) != (rng.random() < 0.05))
        found, confidence = search.result()
        right += found == [str(culprit)]
        claimed += confidence
    assert right / tries >= 0.96
    assert abs(right / tries - claimed / tries) < 0.04


def test_answers_that_contradict_each_other_are_seen() -> None:
    search = GraphSearch(*line(8))
    search.answer("2", True)
    search.answer("5", False)
    assert search.contradicted
    assert search.result() == ([], 0.0)
    search.false_bad = search.false_good = 0.05
    assert not search.contradicted


def test_a_wrong_order_is_refused() -> None:
    with pytest.raises(ValueError, match="topological"):
        GraphSearch(["1", "0"], {"1": ["0"]})
