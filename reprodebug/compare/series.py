"""Metrics that two sides recorded, met by their names and steps: where the first of them part.

Owns how series of other loggers meet: 32-bit numbers, last values alone, a logger that logs less often, and steps that are counted otherwise.
Refuses to call equal, or different, what was logged at no common step and does not agree one by one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from reprodebug._base.text import listed_words, plural, visible
from reprodebug.compare.joined import ABSENT, Joined
from reprodebug.compare.meaning import first_unequal
from reprodebug.model.comparison import Difference

_SINGLE = 1e-6
"""relative tolerance where one side keeps 32-bit numbers"""
_CLOCK = re.compile(
    r"(^|.*/)(time|timings?|timers?|throughput)/[^/]+"
    r"|(^|.*[/.])(\w*_)?((wall|iter|iteration|step|epoch|batch|data|train|training|eval|forward|backward|load|compute|cpu|gpu|total)_?time"
    r"|time|time_(this_iter|total|since_restore|per_\w+|elapsed)|elapsed\w*|duration|runtime|latency|throughput|fps|\w+_?(per|/)_?sec(ond)?s?)"
    r"(_?(s|ms|sec|secs|seconds|h|hours))?",
    re.I,
)
"""names of durations and rates, which are others in each run"""
Series = Mapping[float, float]


def compare_series(a: Joined, b: Joined) -> tuple[list[Difference], int, tuple[str, float] | None, list[str]]:
    """(what differs, values compared, metric and step that differ first, what could not be compared and why)."""
    found: list[Difference] = []
    apart: list[str] = []
    points = 0
    first: tuple[str, float] | None = None
    for name in dict.fromkeys([*a.series, *b.series]):
        x, y = a.series.get(name), b.series.get(name)
        if x is None or y is None:
            lacking = a if x is None else b
            known = lacking.complete and not any(part == "metrics" for part, _ in lacking.unknown)
            if a.trackers & b.trackers and known:
                left, right = (ABSENT if s is None else repr(s[max(s)]) for s in (x, y))
                found.append(Difference("metrics", name, left, right, "notable", "logged by one run alone"))
            continue
        tolerance = _SINGLE if name in a.single | b.single else 0.0
        last = repr(x[max(x)]), repr(y[max(y)])
        clock = _CLOCK.fullmatch(name) is not None
        severity = "harmless" if clock else "notable"
        if name in a.summary | b.summary:
            points += 1
            if first_unequal({0: x[max(x)]}, {0: y[max(y)]}, tolerance) is not None:
                found.append(Difference("metrics", name, *last, severity, "the last value differs"))
            continue
        common = len(x.keys() & y.keys())
        if not common:
            if not _equal_one_by_one(x, y, tolerance):
                apart.append(name)
                continue
            reason = f"the same {plural(len(x), 'value')} at other steps: {_span(x)} in A, {_span(y)} in B"
            found.append(Difference("metrics", name, *last, "harmless", reason))
            points += len(x)
            continue
        points += 0 if clock else common
        at = first_unequal(x, y, tolerance)
        if at is not None:
            reason = f"first differs at step {at}"
            if not clock and (first is None or at < first[1]):
                first = (name, at)
            if last[0] == last[1]:
                reason += f": {x[at]!r} in A, {y[at]!r} in B; the last values are equal"
            found.append(Difference("metrics", name, *last, severity, f"{reason} (a duration or a rate)" if clock else reason))
        elif max(x) != max(y):
            rated, reason = _shorter(x, y, a, b)
            found.append(Difference("metrics", name, *last, rated, reason))
    some = listed_words([visible(n, 60) for n in apart[:4]] + ([f"{len(apart) - 4} more"] if len(apart) > 4 else []))
    said = [f"{plural(len(apart), 'metric')} that both logged at no common step ({some}): not compared"] if apart else []
    return found, points, first, said


def _equal_one_by_one(x: Series, y: Series, tolerance: float) -> bool:
    """Whether two series hold the same values in one order, by whatever steps."""
    p, q = ({float(n): s[step] for n, step in enumerate(sorted(s))} for s in (x, y))
    return len(p) == len(q) > 1 and first_unequal(p, q, tolerance) is None


def _span(series: Series) -> str:
    return f"{min(series):g} to {max(series):g}"


def _shorter(x: Series, y: Series, a: Joined, b: Joined) -> tuple[str, str]:
    """Severity and reason of two series that agree as far as both go, and do not end together."""
    which, shorter, joined, end = ("A", x, a, max(y)) if max(x) < max(y) else ("B", y, b, max(x))
    own = sorted(shorter)
    if len(own) > 1 and end - own[-1] < own[-1] - own[-2]:
        return "harmless", f"equal wherever both logged; {which} logged less often"
    reason = f"equal as far as both go; A ends at step {max(x)}, B at step {max(y)}"
    return ("notable", reason) if joined.complete else ("harmless", f"{reason}: it was cut or did not end")


def losses_of(a: Joined, b: Joined) -> tuple[tuple[int, float | None, float | None], ...]:
    """The series that looks most like a training loss, for the sparkline."""
    common = [n for n in a.series if n in b.series and "loss" in n.lower() and n not in a.summary | b.summary]
    if not common:
        return ()
    name = min(common, key=lambda n: (("train" not in n.lower()), len(n)))
    x, y = a.series[name], b.series[name]
    steps = [int(s) for s in sorted({*x, *y})[:10_000] if s == int(s)]
    return tuple((s, x.get(s), y.get(s)) for s in steps)
