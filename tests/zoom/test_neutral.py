"""A program whose every operation is written down computes what it computes unwatched, bit for bit."""

from __future__ import annotations

from pathlib import Path

from reprodebug.recorder.stretch import VARIABLE, Stretch
from reprodebug.zoom.log import read
from tests.recorder.test_neutral import PROGRAMS, environment, run

NEVER = 1 << 40


def test_a_program_with_one_of_everything(tmp_path: Path) -> None:
    script = str(PROGRAMS / "kitchen.py")
    plain = run(script, [], tmp_path, None, "fingerprint", environment())
    watched = environment() | {VARIABLE: Stretch(target=NEVER, stop=NEVER).to_json()}
    assert run(script, [], tmp_path, tmp_path / "run", "fingerprint", watched) == plain
    log = read(str(tmp_path / "run"))
    assert log is not None
    names = {op.name for op in log.ops}
    assert {"aten.addmm.default", "aten.convolution_backward.default", "aten.uniform_.default", "aten.native_batch_norm.default"} <= names
    assert any(op.node and op.forward.endswith(".py:" + op.forward.rpartition(":")[2]) and "kitchen.py" in op.forward for op in log.ops)
    assert all(log.raw(v) is not None for op in log.ops[:200] for v in op.outputs if v.digest)
