"""A search over commits in the form that git keeps: what ``git bisect replay`` reads."""

from __future__ import annotations

import re

from reprodebug._base.text import visible
from reprodebug.bisect.commits import CHANGED, CHANGED_OF_A
from reprodebug.model.experiment import Bisection


def git_log(result: Bisection, good: str, bad: str, *, first_parent: bool = False, paths: tuple[str, ...] = ()) -> str:
    """The search in the form of ``git bisect log``: one line for each commit that was tried or inferred.

    Where trials of one commit contradict each other it says what the answer takes the commit for, and the trials are a remark.
    """
    words = [*(["--first-parent"] if first_parent else []), *(["--", *paths] if paths else [])]
    start = " ".join(["git bisect start", *("'" + w.replace("'", "'\\''") + "'" for w in words)])
    lines = [start, f"# bad: {bad}", f"git bisect bad {bad}", f"# good: {good}", f"git bisect good {good}"]
    said: dict[str, list[bool | None]] = {}
    names: dict[str, str] = {}
    for t in result.trials:
        commit = re.match(r"commit ([0-9a-f]{10,})", t.candidate)
        if commit and not t.candidate.endswith((CHANGED, CHANGED_OF_A)):
            names[commit[1]] = t.candidate
            said.setdefault(commit[1], []).append(t.bad)
    for full, was in result.inferred:
        names.setdefault(full, f"commit {full[:10]} changes nothing that a tried run used")
        said.setdefault(full, []).append(was)
    counted = {c[:10]: was for c, was in result.counted}
    for commit_, answers in said.items():
        known = [x for x in answers if x is not None]
        counts = counted.get(commit_[:10], sum(known) * 2 > len(known))
        verdict = "skip" if not known else "bad" if counts else "good"
        lines.append(f"# {verdict}: {visible(names[commit_], 200)}")
        if len(set(known)) > 1:
            lines.append(f"# {sum(known)} of {len(known)} trials differed from the good end")
        lines.append(f"git bisect {verdict} {commit_}")
    return "\n".join(lines) + "\n"
