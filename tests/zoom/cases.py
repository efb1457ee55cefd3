"""Zoom on cases with known truth, each answer held against a brute-force trace of the two whole programs.

    python -m tests.zoom.cases [NAME...]

prints for each divergent case what zoom names, what the oracle names, and whether they agree.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cases import runner
from tests.zoom import oracle

ORACLE = os.path.abspath(oracle.__file__)
TIMEOUT_S = 600
BEYOND = {
    "own-58-budget": "the clock decides when it ends: run again it ends elsewhere",
    "own-66-cut-job": "it goes on in another process, into which zoom does not follow",
    "own-59-unpacked": "names are made anew at each launch: run again it reads in another order",
    "own-75-epochs": "it goes on in another process, into which zoom does not follow",
    "own-80-experiment": "it is started by make, into which the oracle does not follow",
    "own-83-later-part": "the part before the checkpoint was not recorded",
}
"""own cases whose divergence cannot be reached, or not by the oracle -> why"""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Judged:
    """One case."""

    found: Row
    """what zoom says (its JSON)"""
    truth: tuple[Row | None, Row | None]
    """the oracle's first operation of A and of B"""
    wrong: str
    """why zoom's answer is not true; '' where it is"""


def divergent(**which: bool) -> list[str]:
    """Paths of the cases whose runs differ. ``which``: as of ``runner.cases``."""
    return [c for c in runner.cases(**which) if runner.load(c)["truth"]["verdict"] == "divergent"]


def surroundings(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8",
        "REPRODEBUG_SESSIONS": str(folder / "sessions"),
    }  # fmt: skip


def zoom(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reprodebug", "zoom", *words]
    return subprocess.run(command, cwd=folder, env=surroundings(folder), capture_output=True, text=True, timeout=TIMEOUT_S)


def trace(words: list[str], cwd: str, log: str, environment: dict[str, str]) -> list[Row]:
    """The plain trace of one program; ``words``: interpreter and its options, script, arguments; what starts it may stand before."""
    at = next(n for n, word in enumerate(words) if os.path.basename(word).startswith("python")) + 1
    while words[at].startswith("-") and words[at] != "-m":
        at += 1
    done = subprocess.run(
        [*words[:at], ORACLE, log, *words[at:]], cwd=cwd, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return oracle.rows(log)


def traced(case: str, folder: Path) -> tuple[list[Row], list[Row]]:
    """The plain traces of both runs of a case, each in a fresh copy of the project."""
    truth = runner.load(case)
    found = []
    for side in ("a", "b"):
        run = truth["run"][side]
        workdir = str(folder / ("oracle" if truth.get("shared_workdir") else f"oracle-{side}"))
        runner.prepare(case, run, truth, workdir)
        words = runner._words(run["command"], workdir)
        cwd = os.path.join(workdir, run.get("cwd", truth.get("cwd", ".")))
        found.append(trace(words, cwd, str(folder / f"{side}.jsonl"), runner._environment(run, workdir)))
    return found[0], found[1]


def named(op: Row | None) -> tuple[str, str] | None:
    """Operation and source line, the same in both worlds."""
    return None if op is None else (op.get("op") or op["name"], os.path.basename(op["line"]))


def judge(case: str, folder: Path) -> Judged:
    """Record a case, zoom into it, and hold what it names against the oracle."""
    race = runner.load(case)["category"] == "race"
    runs = runner.record(case, str(folder))
    done = zoom(folder, *runs, "--json", "-")
    found: Row = json.loads(done.stdout) if done.stdout else {"outcome": done.stderr[-500:], "reason": ""}
    if race and found["outcome"] in ("not-repeatable", "not-reproduced"):  # the order of threads may part the executions sooner, or not
        ok = done.returncode == 1 and ("first at" in found["reason"] or "did not get the recorded value again" in found["reason"])
        return Judged(found, (None, None), "" if ok else "it does not say where the executions part")
    if done.returncode or found["outcome"] != "found":
        return Judged(found, (None, None), f"exit code {done.returncode}, {found['outcome']}: {found['reason']} {done.stderr[-500:]}")
    if list((folder / "sessions").iterdir()):
        return Judged(found, (None, None), "an execution was left behind")
    a, b = traced(case, folder)
    where = found["first_divergence"]
    truth = oracle.first(a, b, where), oracle.first(b, a, where)
    return Judged(found, truth, _wrong(found, truth, a, b, race))


def _wrong(found: Row, truth: tuple[Row | None, Row | None], a: list[Row], b: list[Row], race: bool) -> str:
    """Why an answer does not agree with the traces; '' where it does."""
    said = [found["operation"]["a"], found["operation"]["b"]]
    kind = found["kind"]
    if said == [None, None]:  # no operation of the main thread made it: then one was given what no operation gave
        if kind != "outside":
            return f"no operation is named, though the kind is {kind}"
        if race and "between the last equal record" in found["reason"]:  # no more was to be had: the wider look met another order
            return ""
        return "" if all(oracle.entered(rows, found["first_divergence"]) for rows in (a, b)) else "the oracle saw every input made"
    if kind == "sequence" and None in said:  # one does something that the other does not
        only = named(said[0] or said[1])
        counts = [sum(named(r) == only for r in rows) for rows in (a, b)]
        if counts[0] != counts[1]:
            return ""
        if truth == (None, None):
            return "the oracle saw that operation as often in both"
    if kind == "input" and truth == (None, None) and said[0] and said[1]:  # both have every value: another one of them arrives
        return "" if _fed_otherwise(named(said[0]), a, b) else "the oracle saw that operation given the same each time"
    if kind == "outside" and said[0] and said[1] and _fed_otherwise(named(said[0]), a, b, truth[0]):
        return ""  # values that another sample has elsewhere: the oracle knows them by what is made of several
    if not _agreed(found, said, truth, a, b) and not (race and kind in ("input", "outside")):
        return "the oracle names another operation"
    if kind not in ("operation", "argument", "random") or named(said[0]) != named(truth[0]):
        return ""
    assert truth[0] is not None
    partners = [r for r in b if r["op"] == truth[0]["op"] and r["given"] == truth[0]["given"] and r["step"] == truth[0]["step"]]
    if truth[0]["op"].endswith(("_.default", "_.float")):  # it overwrites memory that may have held anything
        return "the oracle's arguments are equal" if kind == "argument" and any(p["args"] == truth[0]["args"] for p in partners) else ""
    if not partners:
        return "the oracle knows no call with equal inputs"
    if kind == "argument":
        return "the oracle's arguments are equal" if any(p["args"] == truth[0]["args"] for p in partners) else ""
    alike = any(p["args"] == truth[0]["args"] and p["gave"] != truth[0]["gave"] for p in partners)
    return "" if alike else "the oracle knows no call with equal inputs and arguments that gave another result"


def _fed_otherwise(operation: tuple[str, str] | None, a: list[Row], b: list[Row], before: Row | None = None) -> bool:
    """Whether an operation comes as often in both programs, and one of its calls (of A's, one that stands before ``before``) is given
    values that both have, but not the same."""
    calls = [[r for r in rows if named(r) == operation] for rows in (a, b)]
    values = [{v for r in rows for v in (*r["given"], *r["gave"])} for rows in (a, b)]
    parted = [(p, q) for p, q in zip(*calls, strict=False) if p["given"] != q["given"]]
    if before is not None:
        parted = [(p, q) for p, q in parted if a.index(p) < a.index(before)]
    return len(calls[0]) == len(calls[1]) and any(set(p["given"]) <= values[1] and set(q["given"]) <= values[0] for p, q in parted)


def _agreed(found: Row, said: list[Row | None], truth: tuple[Row | None, Row | None], a: list[Row], b: list[Row]) -> bool:
    """Whether the two name one operation."""
    if any(s is not None and named(s) == named(t) for s, t in zip(said, truth, strict=True)):
        return True
    if found["kind"] == "argument":
        calls = [[r for r in rows if named(r) == named(s)] for rows, s in zip((a, b), said, strict=True)]
        if any(p["given"] == q["given"] and p["args"] != q["args"] and p["gave"] != q["gave"] for p in calls[0] for q in calls[1]):
            return True  # a value that occurs elsewhere too: the oracle knows the two calls by their inputs
        # memory of another dtype is filled: the words are the same
        return "the memory that it fills" in found["reason"] and all(calls) and calls[0][0]["gave"] != calls[1][0]["gave"]
    if found["kind"] == "random" and truth[0] is not None:
        # numbers that a worker of the other run draws too, for another batch: the oracle names what is made of them
        drawn = [r for r in oracle.behind(a, truth[0]) if named(r) == named(said[0])]
        others = [r for r in b if named(r) == named(said[1])]
        return any(p["given"] == q["given"] and p["args"] == q["args"] and p["gave"] != q["gave"] for p in drawn for q in others)
    if found["kind"] == "uninitialised":  # memory that nothing wrote is no value for the oracle: it has to be read, and to differ
        left = {v for r in a if named(r) == named(said[0]) and r["op"].startswith(oracle.GARBAGE) for v in r["gave"]}
        read = {v for r in a if not r["op"].split(".")[1].endswith("_") for v in r["given"]}
        return bool(left & read - {v for r in b for v in (*r["given"], *r["gave"])})
    return False


def main(names: list[str]) -> int:
    """Print a table; returns 1 where an answer is wrong."""
    chosen = [c for c in divergent() if not names or any(n in os.path.basename(c) for n in names)]
    wrong = 0
    print(f"{'case':24} {'kind':13} {'zoom':54} {'oracle':54} {'right':5} {'s':>5}")
    for case in chosen:
        started = time.time()
        with tempfile.TemporaryDirectory() as folder:
            try:
                x = judge(case, Path(folder))
            except Exception as error:
                x = Judged({"kind": "-"}, (None, None), f"{type(error).__name__}: {error}")
        said = x.found.get("operation") or {"a": None, "b": None}
        ops = [next((" at ".join(named(o) or ()) for o in side if o is not None), "-") for side in (said.values(), x.truth)]
        mark = "NO" if x.wrong else "yes"
        print(
            f"{os.path.basename(case):24} {x.found.get('kind') or '-':13} {ops[0]:54} {ops[1]:54} {mark:5} {time.time() - started:5.0f}",
            flush=True,
        )
        if x.wrong:
            print(f"   {x.wrong}; {x.found.get('reason', '')}", flush=True)
        wrong += bool(x.wrong)
    print(f"{len(chosen) - wrong} of {len(chosen)} right")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
