"""Histories in which a commit brings a difference and a later one takes it back.

The search looks for the last change from good to bad. What differed before and is equal again is no noise, and no answer.
"""

from __future__ import annotations

from collections.abc import Callable

from reprodebug.bisect.lab import Lab, Wanted
from reprodebug.bisect.search.graph import GraphSearch
from reprodebug.model.experiment import OTHER, SAME_AS_B
from reprodebug.model.progress import CONFIRMING, Note

Request = Callable[[str, int], Wanted]
"""(commit, which attempt) -> the trial to ask for"""
_AGAIN = 3
"""further trials of a commit that differs and of one behind it that does not"""


def taken_back(lab: Lab, graph: GraphSearch, request: Request, name: Callable[[str], str], notes: list[str]) -> bool:
    """Whether commits differ that have equal ones behind them, and both do so again: then the search goes on without them."""
    crossed = graph.crossed()
    if graph.unsteady or not crossed:
        return False
    for _ in range(_AGAIN):
        pair = [request(c, len(graph.answers[c])) for c in crossed[-1]]
        lab.ahead(pair)
        for commit, trial in zip(crossed[-1], map(lab.ask, pair), strict=True):
            if trial.bad is None:
                return False
            graph.answer(commit, trial.bad, unlike=trial.verdict == OTHER)
    if any(len(set(graph.answers[c])) > 1 for c in crossed[-1]):
        return False
    for bad, good in crossed:
        graph.set_aside(bad)
        text = f"{name(bad)} differs as well, but {name(good)}, which descends from it, is equal to the good end again"
        notes.append(f"{text}: what came last was searched")
        lab.listen(Note(text))
    return True


def lasts(lab: Lab, graph: GraphSearch, request: Request, name: Callable[[str], str], notes: list[str]) -> bool | None:
    """Whether what the commit that was found brought is there up to the bad end: False where one behind it is equal to the good end.

    Asked only where it differs otherwise than the bad end does, as another one behind it has to make that difference; None elsewhere.
    """
    found, _ = graph.result()
    if graph.noisy or graph.unsteady or len(found) != 1 or found[0] == graph.order[-1]:
        return None
    said = graph.answers.get(found[0], [])
    if not said or graph.unlike[found[0]] < len(said):
        return None
    behind = [c for c in graph.order if found[0] in graph.ancestors(c) and c != found[0]]
    second = GraphSearch(behind, {c: [p for p in graph.parents.get(c, ()) if p in behind] for c in behind})
    for known in behind:
        for bad in graph.answers.get(known, ()):
            second.answer(known, bad and not graph.unlike[known])
    lab.phase(CONFIRMING)
    while (commit := second.next()) is not None:
        trial = lab.ask(request(commit, len(graph.answers.get(commit, ()))))
        graph.answer(commit, trial.bad, unlike=trial.verdict == OTHER)
        if trial.bad is False:
            return False
        second.answer(commit, None if trial.bad is None else trial.verdict == SAME_AS_B)
    again, _ = second.result()
    if len(again) == 1:
        notes.append(f"from {name(again[0])} on the program differs otherwise once more, as the bad end does: that is a second cause")
    return True
