"""A small journal with every kind of frame, written by the guest's own writer in several flushes."""

from __future__ import annotations

from pathlib import Path

from reprodebug.model.events import Kind, Phase
from reprodebug.recorder.writer import Writer

PLACES = 9


def write_journal(folder: Path, steps: int = 3) -> Path:
    folder.mkdir(exist_ok=True)
    w = Writer(str(folder))
    w.meta_event({"type": "start", "rank": 0, "pid": 1, "argv": ["train.py"], "started": "2026", "facts": {"a": 1}})
    w.generator(0, "torch.cpu", "mt19937")
    meta = w.meta([2], "float32", "cpu", "strided", "")
    for step in range(steps):
        digest = (step + 1).to_bytes(16, "little")
        w.rng(step + 1, 0, 5, digest)
        w.state(0, digest, b"state" * (step + 1))
        seq = 0
        for n in range(PLACES):
            site = w.site("Net", f"layer.{n}", "Linear", "output.0")
            seq = w.event(site, meta, step, 0, step + 1, 1, int(Kind.ACTIVATION), int(Phase.FORWARD), 0, 0, 0, bytes([n + step] * 16))
            w.stats(seq, *[float(n)] * 9)
        w.samples(seq, [1, 2**63], [5, -1])
        w.flush()
    w.meta_event({"type": "end", "steps": steps})
    w.flush()
    return Path(w.path)
