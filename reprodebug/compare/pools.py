"""Processes of a pool: which of them takes a task is a matter of time, so what they computed is compared together.

Owns which processes are exchangeable. Refuses to call runs equal where one of them computed something that the other did not.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from reprodebug.model.events import Phase

if TYPE_CHECKING:
    from reprodebug.compare.runs import Pair
    from reprodebug.store.run import StoredRun
    from reprodebug.store.trace import Trace

_STARTED_BY = re.compile(r"\bmultiprocessing\b|\bloky\b")
"""in the command line of a worker that was not forked: spawn, forkserver, joblib"""


def settle(a: StoredRun, b: StoredRun, pairs: list[Pair]) -> None:
    """Where the pool of a rank computed the same in both runs, shared out otherwise, its pairs keep their equal records as
    partners and count the others in ``elsewhere``; nothing in them differs."""
    import numpy as np

    for rank in {p.rank for p in pairs}:
        workers = [[key for key in run.traces if key[0] == rank and _is_worker(run, key)] for run in (a, b)]
        mine = [p for p in pairs if p.rank == rank and all((rank, p.ordinal) in keys for keys in workers)]
        if max(len(keys) for keys in workers) < 2 or not any(len(x) for p in mine for x in (p.mismatch, p.align.only_a, p.align.only_b)):
            continue
        if not _alike([[run.trace(*key) for key in keys] for run, keys in zip((a, b), workers, strict=True)]):
            continue
        none = np.empty(0, np.int64)
        for p in mine:
            equal = np.ones(len(p.align.a), bool)
            equal[p.mismatch] = False
            p.elsewhere = len(p.a.events) - int(equal.sum())
            p.align = dataclasses.replace(p.align, a=p.align.a[equal], b=p.align.b[equal], only_a=none, only_b=none)
            p.mismatch = none


def _is_worker(run: StoredRun, key: tuple[int, int]) -> bool:
    process = run.traces[key]
    return process.events > 0 and (process.role == "forked" or any(_STARTED_BY.search(word) for word in process.argv))


def _alike(sides: list[list[Trace]]) -> bool:
    """Whether both sides hold the same records, however they lie in the processes; a side that was cut may lack some."""
    import numpy as np

    names: dict[Any, int] = {}
    rows = [np.concatenate([_rows(trace, names) for trace in traces]) for traces in sides if traces]
    if len(rows) < 2:
        return False
    distinct, number = np.unique(np.concatenate(rows), return_inverse=True)
    counts = [np.bincount(part, minlength=len(distinct)) for part in np.split(number.ravel(), [len(rows[0])])]
    once = distinct["phase"] == Phase.INIT  # each process that uses a model has its initial parameters
    more, fewer = (np.where(once, np.minimum(x, 1), x) > np.where(once, np.minimum(y, 1), y) for x, y in (counts, counts[::-1]))
    cut = [not all(trace.complete for trace in traces) for traces in sides]
    return not (more.any() and fewer.any()) and not (more.any() and not cut[1]) and not (fewer.any() and not cut[0])


def _rows(trace: Trace, names: dict[Any, int]) -> Any:
    """What each record is and holds, without when: a sortable array."""
    import numpy as np

    events = trace.events
    columns = ("lo", "hi", "kind", "phase")
    rows = np.empty(len(events), [("site", "i8"), ("meta", "i8"), *((c, events.dtype[c]) for c in columns)])
    for column, table in (("site", trace.sites), ("meta", trace.metas)):
        known = np.array([names.setdefault((column, repr(row)), len(names)) for row in table], np.int64)
        rows[column] = known[events[column]]
    for column in columns:
        rows[column] = events[column]
    return rows
