"""``reprodebug show``: what one run recorded."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

from reprodebug._base.text import plural, visible
from reprodebug.cli.arguments import Parser


def parser() -> Parser:
    p = Parser(prog="reprodebug show", usage="reprodebug show RUN", description="Say what one run recorded.")
    p.add_argument("run", metavar="RUN", help="run directory")
    return p


def run(words: list[str]) -> int:
    """Print the run's facts; returns 0."""
    arguments = parser().parse_args(words)
    from reprodebug import api

    stored = api.open_run(arguments.run)
    m = stored.manifest
    code = "" if m.exit_code is None else f", exit code {m.exit_code}"
    out = [
        f"run       {visible(stored.label)}",
        f"command   {visible(' '.join(m.command), 400)}",
        f"in        {visible(m.cwd, 300)}",
        f"started   {visible(m.started)}{code}",
        f"complete  {'yes' if stored.complete else 'no'}",
        f"level     {visible(m.level)}",
    ]
    for (rank, ordinal), process in sorted(stored.traces.items()):
        trace = stored.trace(rank, ordinal) if process.events else None
        name = f"rank {rank}" + (f", process {ordinal + 1}" if ordinal else "")
        out.append(f"{name:<9} {plural(process.events, 'record')}, {plural(process.steps, 'step')}")
        if trace is not None:
            out += _counts(trace)
    out += _surroundings(stored)
    out += [f"note      {visible(n, 400)}" for n in stored.notes]
    sys.stdout.write("\n".join(out) + "\n")
    sys.stdout.flush()
    return 0


def _counts(trace: object) -> list[str]:
    import numpy as np

    from reprodebug.compare.coverage import coverage
    from reprodebug.model.events import Kind
    from reprodebug.store.trace import Trace

    assert isinstance(trace, Trace)
    kinds, counts = np.unique(trace.events["kind"], return_counts=True)
    words = ", ".join(f"{n:,} {Kind(int(k)).word}" for k, n in zip(kinds.tolist(), counts.tolist(), strict=True))
    found = coverage([trace], [trace])
    rows = [f"          {words}", f"          generators: {', '.join(visible(n, 60) for n, _ in trace.generators) or 'none'}"]
    if trace.tensor_seqs:
        rows.append(f"          {plural(len(trace.tensor_seqs), 'tensor')} kept")
    rows.append(f"coverage  {found.share:.0%}")
    rows += [f"          not seen: {visible(u.what, 120)}: {visible(u.why, 200)}" for u in found.unobserved[:12]]
    return rows


def _surroundings(stored: object) -> list[str]:
    from reprodebug.store.run import StoredRun

    assert isinstance(stored, StoredRun)
    m = stored.manifest
    rows = []
    commit = m.code.get("commit")
    if commit:
        dirty = " with uncommitted changes" if m.code.get("dirty") else ""
        rows.append(f"code      commit {visible(commit)}{dirty}")
    rows += _machine(m.environment)
    packages = m.environment.get("packages")
    if isinstance(packages, dict):
        rows.append(f"packages  {len(packages):,}")
    if m.data:
        rows.append(f"data      {plural(len(m.data), 'file')} opened or named")
    return rows


def _machine(environment: Mapping[str, Any]) -> list[str]:
    """Which Python and torch, and on what machine, as far as it was recorded."""

    def part(name: str) -> dict[str, Any]:
        found = environment.get(name)
        return found if isinstance(found, dict) else {}

    hardware, torch, python = part("hardware"), part("packages").get("torch"), part("interpreter").get("version")
    listed = hardware.get("gpus")
    gpus = Counter(str(g.get("name")) for g in listed if isinstance(g, dict)) if isinstance(listed, list) else Counter()
    driver = f"driver {hardware['nvidia_driver']}" if gpus and hardware.get("nvidia_driver") else None
    cores = f"{hardware['cpus_allowed']} cores" if hardware.get("cpus_allowed") else None
    cards = [name if n == 1 else f"{n} x {name}" for name, n in gpus.items()]
    rows = (
        ("python", [python, f"torch {torch}" if torch else None]),
        ("machine", [part("system").get("os"), hardware.get("cpu"), cores, *cards, driver]),
    )
    return [f"{name:<9} {visible(', '.join(map(str, filter(None, words))), 300)}" for name, words in rows if any(words)]
