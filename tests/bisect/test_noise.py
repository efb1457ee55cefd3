"""Programs that do not repeat themselves: a noisy search that ends at the right commit, and ends that are findings."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from reprodebug.bisect.log import git_log
from reprodebug.bisect.repeat import Command, _whole, as_it_is, enough, minimize, seen, thinned
from reprodebug.bisect.search.noise import by_chance
from reprodebug.bisect.search.sets import solve
from reprodebug.bisect.settings import CATALOGUE
from reprodebug.model.comparison import Divergence
from reprodebug.model.experiment import SAME_AS_A, SAME_AS_B, Bisection, Trial
from tests.bisect import simulated
from tests.bisect.test_whole import git, tool

FLAKY = """\
import os, random, torch
from scale import SCALE
turn = int(open(os.environ["TURNS"]).read() or 0)
open(os.environ["TURNS"], "w").write(str(turn + 1))
odd = random.Random(1000 * turn + int(os.environ["SEED"])).random() < {share} and turn >= {since}
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
x = torch.randn(8, 4) * SCALE + (1e-3 * turn if odd else 0.0)
for _ in range(3):
    opt.zero_grad(); net(x).square().mean().backward(); opt.step()
"""
"""which of its runs are odd follows from how often it was started: random, and the same in each run of the test"""


def flaky(repo: Path, commits: int, culprit: int, share: float, since: int = 1) -> dict[str, str]:
    """A repository whose program differs in ``share`` of its runs, in each run in its own way; returns the environment."""
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    (repo / "train.py").write_text(FLAKY.format(share=share, since=since))
    for n in range(commits):
        (repo / "scale.py").write_text(f"SCALE = {1.0 if n < culprit else 1.5}\n# {n}\n")
        git(repo, "add", "-A")
        git(repo, "commit", "-q", "-m", f"commit {n}")
    turns = repo.parent / "turns"
    turns.write_text("")
    return {"TURNS": str(turns), "SEED": "7"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["3", "7"])
def test_a_search_over_commits_survives_a_third_of_odd_runs(tmp_path: Path, seed: str) -> None:
    env = flaky(tmp_path / "repo", 6, 3, 0.3) | {"SEED": seed}
    words = ["bisect", "--good", "main~5", "--bad", "main", "--json", "-", "--", "python", "train.py"]
    done = tool(*words, cwd=tmp_path / "repo", sessions=tmp_path / "s", env=env)
    found = json.loads(done.stdout)
    assert found["outcome"] == "found", (found["reason"], done.stderr)
    assert found["culprit"]["subject"] == "commit 3"
    assert 0.9 <= found["confidence"] < 1.0
    assert any("rests on probabilities" in note for note in found["notes"])
    assert {t["verdict"] for t in found["trials"]} >= {"same-as-a", "same-as-b", "other"}


@pytest.mark.slow
def test_a_good_end_that_never_repeats_is_a_finding(tmp_path: Path) -> None:
    env = flaky(tmp_path / "repo", 3, 1, 1.0)
    words = ["bisect", "--good", "main~2", "--bad", "main", "--json", "-", "--", "python", "train.py"]
    done = tool(*words, cwd=tmp_path / "repo", sessions=tmp_path / "s", env=env)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert found["outcome"] == "ends-do-not-reproduce"
    assert "does not repeat itself" in found["reason"]


@pytest.mark.slow
def test_ends_that_are_equal_are_a_finding(tmp_path: Path) -> None:
    env = flaky(tmp_path / "repo", 3, 9, 0.0)
    words = ["bisect", "--good", "main~2", "--bad", "main", "--json", "-", "--", "python", "train.py"]
    done = tool(*words, cwd=tmp_path / "repo", sessions=tmp_path / "s", env=env)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["outcome"] == "ends-do-not-reproduce"


@pytest.mark.parametrize("how", [{"shows": 0.5}, {"shows": 0.5, "like_b": 0.0}, {"shows": 0.8, "like_b": 0.5}, {"odd": 0.2}], ids=str)
def test_a_bad_commit_that_shows_at_times_is_seldom_mistaken(how: dict[str, float]) -> None:
    rng = random.Random(5)
    said = [simulated.search(16, rng, **how) for _ in range(60)]
    found = [(b, right) for b, right in said if b.outcome == "found"]
    assert len(found) >= 45
    assert sum(not right for _, right in found) <= 5
    assert all(b.confidence <= 0.99 for b, _ in found)


def test_a_commit_that_is_found_was_seen_to_differ_itself() -> None:
    rng, varied = random.Random(6), 0
    for _ in range(40):
        found, _ = simulated.search(16, rng, shows=0.4)
        own = [t.bad for t in found.trials if t.candidate.startswith(f"commit {found.culprit.commit} ")]
        assert found.outcome != "found" or any(own)
        if found.outcome == "found" and not all(own):
            varied += 1
            assert found.proof[1].endswith("# differs from A at times")
    assert varied > 10


@pytest.mark.parametrize(("how", "most"), [({}, 12), ({"shows": 0.5}, 72), ({"shows": 0.8, "odd": 0.1}, 72)], ids=str)
def test_the_first_bad_release_is_seldom_mistaken_where_trials_vary(how: dict[str, float], most: int) -> None:
    rng = random.Random(8)
    said = [simulated.first_bad(rng, **how) for _ in range(60)]
    named = [right for version, _, right, _ in said if version]
    assert len(named) >= 50 and named.count(False) <= 5
    assert all(n <= most for *_, n in said) and all(sure >= 0.8 for version, sure, *_ in said if version)


@pytest.mark.parametrize("how", [{}, {"like_b": 0.0}], ids=str)
@pytest.mark.parametrize("n", [1, 2, 11, 16, 24, 64])
def test_trials_stay_few_where_nothing_contradicts(n: int, how: dict[str, float]) -> None:
    rng = random.Random(n)
    for _ in range(20):
        found, right = simulated.search(n, rng, **how)
        assert right
        assert 0.9 < found.confidence <= 0.99
        assert len(found.trials) <= math.ceil(math.log2(n)) + 6


def test_the_log_of_a_noisy_search_says_what_the_answer_takes_a_commit_for() -> None:
    trials = [Trial(n, "commit aaaaaaaaaa (first)", v, 1.0) for n, v in enumerate(("same-as-a", "same-as-b", "same-as-a"))]
    said = git_log(Bisection("found", "commits", "", trials=tuple(trials), counted=(("a" * 40, True),)), "good", "bad", paths=("x y",))
    assert "git bisect start '--' 'x y'\n" in said
    assert "git bisect bad aaaaaaaaaa\n" in said


def numbered(folder: Path, commits: int) -> Path:
    """A repository in which each commit holds its number."""
    repo = folder / "repo"
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    for n in range(commits):
        (repo / "n").write_text(f"{n}\n")
        git(repo, "add", "-A")
        git(repo, "commit", "-q", "-m", f"commit {n}")
    return repo


def test_a_probe_that_shows_the_bad_only_at_times_is_no_steady_one(tmp_path: Path) -> None:
    repo = numbered(tmp_path, 16)
    turns, probe = tmp_path / "turns", tmp_path / "probe.sh"
    turns.write_text("0")
    # of the trials from commit 9 on six in ten are bad: which, follows from how often it was asked
    odds = f"t=$(cat {turns}); echo $((t + 1)) > {turns}; x=$(echo $SEED$t | cksum); x=${{x%% *}}"
    probe.write_text(f'#!/bin/sh\n{odds}\n[ "$(cat n)" -ge 9 ] && [ $((x % 10)) -lt 6 ] && exit 1\nexit 0\n')
    probe.chmod(0o755)
    words = ["bisect", "--good", "main~15", "--bad", "main", "--probe", str(probe), "--json", "-"]
    done = tool(*words, cwd=repo, sessions=tmp_path / "s", env={"SEED": "3"})
    found = json.loads(done.stdout)
    assert found["outcome"] == "found", (found["reason"], done.stderr)
    assert found["culprit"]["subject"] == "commit 9"
    assert any("rests on probabilities" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("verdicts", "commit", "note"),
    [
        ("..ooooooo..bbbbb", "12", "number 3) differs as well, but commit 10"),
        ("..ooooooooobbbbb", "3", "from commit 12 (number 12) on the program differs otherwise once more"),
        ("..oooo.ooo..bbbb", "13", "is equal to the good end again"),
        ("..bbbbbbbbbbbbbb", "3", ""),
    ],
)
def test_a_commit_that_differs_otherwise_than_the_bad_end_is_followed_to_there(verdicts: str, commit: str, note: str) -> None:
    found = simulated.told(verdicts)
    assert (found.outcome, found.culprit.commit) == ("found", commit)
    assert note in " ".join(found.notes) and bool(note) == bool(found.notes)
    assert found.confidence > 0.95 and "at times" not in found.proof[1]


def test_a_difference_that_was_taken_back_is_no_noise(tmp_path: Path) -> None:
    repo = numbered(tmp_path, 13)
    probe = tmp_path / "probe.sh"
    probe.write_text("#!/bin/sh\nn=$(cat n)\n[ $n -ge 9 ] || [ $n = 3 ] && exit 1\nexit 0\n")
    probe.chmod(0o755)
    words = ["bisect", "--good", "main~12", "--bad", "main", "--probe", str(probe), "--jobs", "3", "--json", "-"]
    done = tool(*words, cwd=repo, sessions=tmp_path / "s")
    found = json.loads(done.stdout)
    assert (found["outcome"], found["culprit"]["subject"]) == ("found", "commit 9"), done.stderr
    assert any(t["candidate"].endswith("(commit 3)") for t in found["trials"]), "otherwise nothing crosses here"
    assert any("is equal to the good end again" in n for n in found["notes"])
    assert not any("probabilities" in n for n in found["notes"]) and "at times" not in found["proof"][1]


def test_a_probe_that_takes_the_bad_end_for_good_at_first_is_asked_again(tmp_path: Path) -> None:
    repo = numbered(tmp_path, 6)
    turns, probe = tmp_path / "turns", tmp_path / "probe.sh"
    turns.write_text("0")
    # the second trial is the first one of the bad end
    probe.write_text(f'#!/bin/sh\nt=$(cat {turns}); echo $((t + 1)) > {turns}\n[ $t = 1 ] || [ "$(cat n)" -lt 3 ]\n')
    probe.chmod(0o755)
    words = ["bisect", "--good", "main~5", "--bad", "main", "--probe", str(probe), "--json", "-"]
    found = json.loads(tool(*words, cwd=repo, sessions=tmp_path / "s").stdout)
    assert (found["outcome"], found["culprit"]["subject"]) == ("found", "commit 3"), found["reason"]
    assert any("rests on probabilities" in note for note in found["notes"])
    probe.write_text("#!/bin/sh\nexit 0\n")
    found = json.loads(tool(*words, cwd=repo, sessions=tmp_path / "t").stdout)
    assert found["outcome"] == "ends-do-not-reproduce" and "is good, in 20 trials" in found["reason"]


def test_one_of_ten_variables_is_found_though_b_shows_it_only_at_times(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import torch\ntorch.nn.ReLU()(torch.ones(2))\n")
    for side in ("1", "2"):
        words = ["capture", "-o", side, "--", "python", "train.py"]
        done = tool(*words, cwd=tmp_path, sessions=tmp_path / "s", env={f"V{n}": side for n in range(10)})
        assert done.returncode == 0, done.stderr
    turns, probe = tmp_path / "turns", tmp_path / "probe.sh"
    # with V3 six trials in ten are bad, the first ones among them: which, follows from how often it was asked
    odds = f"t=$(cat {turns}); echo $((t + 1)) > {turns}; x=$(echo $SEED$t | cksum); x=${{x%% *}}"
    turns.write_text("0")
    probe.write_text(f'#!/bin/sh\nSEED=seed3x\n{odds}\n[ "$V3" != 2 ] || [ $((x % 10)) -ge 6 ]\n')
    probe.chmod(0o755)
    words = ["bisect", "1", "2", "--axis", "env", "--probe", str(probe), "--json", "-"]
    found = json.loads(tool(*words, cwd=tmp_path, sessions=tmp_path / "s").stdout)
    assert (found["outcome"], list(found["culprit"]["env"])) == ("found", ["V3"]), found["reason"]
    assert found["trials"][1]["verdict"] == "same-as-b" and 0.9 <= found["confidence"] <= 0.99


def test_equal_runs_that_settle_it_follow_from_how_often_runs_differed() -> None:
    first, later = (Divergence("data", 0, 0, phase, "", tensor="input.0") for phase in ("forward", "optimizer"))

    def trials(*said: str) -> list[Trial]:
        """``A:b.b``: runs of a set, the first one and then those that differed (b: there, l: later) and were equal (.)"""
        return [
            Trial(0, name, SAME_AS_A if x in "=." else SAME_AS_B, 1.0, first={"b": first, "l": later}.get(x))
            for name, _, runs in (s.partition(":") for s in said) for x in "=" + runs
        ]  # fmt: skip

    assert seen(trials("plain:b", "A:b", "B:..", "C:.b")) == (3, 1)
    assert enough(first, trials("plain:b")) == 4  # one pair may differ by chance
    assert enough(first, trials("plain:b", "A:b")) == 3
    assert enough(first, trials("plain:...b")) == 13
    assert enough(first, trials("plain:b", "A:b", "B:b", "C:l")) == 8  # a second thing behind the first shows perhaps more seldom


def test_the_chance_that_a_command_that_varies_seems_to_repeat_is_what_drawn_commands_show() -> None:
    rng, most = random.Random(4), 6
    held = {True: [0, 0], False: [0, 0]}
    for _ in range(40_000):
        share = 1.0 if rng.random() < 0.7 else rng.random()
        before = [rng.random() < share for _ in range(3)]
        if any(before):
            counts = held[all(before)]
            counts[0] += 1
            counts[1] += not any(rng.random() < share for _ in range(most))
    assert held[True][1] / held[True][0] == pytest.approx(by_chance(3, 0, most), abs=0.002)
    assert held[False][1] / held[False][0] < by_chance(1, 2, most)
    assert by_chance(1, 0, 0) == 1.0


@pytest.mark.parametrize(("seconds", "odd", "runs"), [(1.0, 99, 20), (1.0, 14, 15), (100.0, 99, 5)])
def test_a_command_that_seldom_differs_is_run_more_often_before_it_counts_as_repeating(seconds: float, odd: int, runs: int) -> None:
    lab = simulated.Repeated(odd, seconds)
    found = as_it_is(lab, Command(["python"], ".", {}))  # type: ignore[arg-type]
    assert (len(found.trials), found.differing is not None) == (runs, odd < 99)
    if odd == 99:
        said = minimize(simulated.Repeated(odd, seconds), Command(["python"], ".", {}))  # type: ignore[arg-type]
        assert said.outcome == "not-found" and f"{runs} runs were equal" in said.reason
        assert f"less than {15 if runs == 20 else 53}% of the runs" in said.notes[0]


@pytest.mark.parametrize("refused", ["deterministic_algorithms", "compile"])
def test_a_setting_under_which_the_program_does_not_run_is_left_out_alone(refused: str) -> None:
    names, asked = [s.name for s in CATALOGUE], list[frozenset[str]]()

    def under(chosen: frozenset[str]) -> bool | None:
        asked.append(chosen)
        return None if refused in chosen else "intra_op_threads" in chosen

    assert _whole(under, names, lambda: "put_ does not have a deterministic implementation") == (True, [refused])
    assert len(asked) == 2 or refused != "deterministic_algorithms"
    assert _whole(lambda chosen: None, names, lambda: "")[0] is None


def test_what_a_set_could_not_do_without_for_want_of_a_trial_is_left_out() -> None:
    tried: dict[frozenset[str], int] = {}

    def under(chosen: frozenset[str]) -> bool | None:
        tried[chosen] = tried.get(chosen, 0) + 1
        return None if len(chosen) in (2, 3) and "c" not in chosen else {"a", "b"} <= chosen

    kept = solve(["a", "b", "c", "d", "e"], None, under).items
    assert "c" in kept, "otherwise nothing is to be left out"
    assert thinned(kept, lambda chosen: {"a", "b"} <= chosen) == ("a", "b")


def test_a_bad_end_that_shows_in_three_of_ten_runs_is_seldom_taken_for_a_good_one() -> None:
    rng = random.Random(9)
    commits = [simulated.search(8, rng, shows=0.3)[0].outcome for _ in range(50)]
    sets = [simulated.smallest(6, 1, rng, shows=0.3)[0].outcome for _ in range(50)]
    for said in (commits, sets):
        assert said.count("ends-do-not-reproduce") <= 5, said
