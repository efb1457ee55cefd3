"""Which kernels an operation launched: names taken from real profiles, and oneDNN's own account."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from reprodebug.recorder.kernels import named, primitives
from reprodebug.recorder.stretch import VARIABLE, Stretch
from reprodebug.zoom.log import Log, read
from tests.recorder.test_neutral import environment

LAST = 10
"""position of the program's last event"""


def profiled(work: Any, *activities: Any) -> list[Any]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU, *activities]) as p:
        work()
    return list(p.events() or ())


@pytest.mark.filterwarnings("ignore")
def test_names_are_those_of_a_real_profile_in_order() -> None:
    x, w = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3)
    inner, kernels = named(profiled(lambda: torch.conv2d(x, w)), torch.autograd.DeviceType.CPU)
    assert inner[:2] == ["aten::convolution", "aten::_convolution"] and kernels == []
    assert any("conv" in n for n in inner[2:]), inner


class _Event:
    def __init__(self, name: str, start: int, device: Any, parent: Any = None) -> None:
        self.name, self.device_type, self.cpu_parent = name, device, parent
        self.time_range = type("Range", (), {"start": start})


def test_kernels_are_told_from_operations_and_from_copies() -> None:
    """A profile of a GPU has its kernels beside torch's operations, in any order."""
    kind = torch.autograd.DeviceType
    top = _Event("aten::convolution", 0, kind.CPU)
    events = [
        _Event("sm80_xmma_fprop_implicit_gemm_tf32f32", 9, kind.CUDA), _Event("Memcpy HtoD (Pageable -> Device)", 3, kind.CUDA), top,
        _Event("aten::cudnn_convolution", 2, kind.CPU, top), _Event("cudaLaunchKernel", 4, kind.CPU, top), _Event("nchwToNhwcKernel", 5, kind.CUDA),
    ]  # fmt: skip
    assert named(events, kind.CPU) == (["aten::cudnn_convolution"], ["nchwToNhwcKernel", "sm80_xmma_fprop_implicit_gemm_tf32f32"])


def test_lines_of_onednn_of_every_form() -> None:
    text = (
        "onednn_verbose,v1,info,oneDNN v3.11.0\nonednn_verbose,v1,primitive,exec,cpu,convolution,brg_conv_fwd:avx512_core,forward,src:f32,0.1\n"
        "onednn_verbose,primitive,exec,cpu,matmul,jit:avx2,undef,src\ndnnl_verbose,exec,cpu,reorder,jit:uni,undef\nanything,exec,cpu,x,y\nonednn_verbose,exec\n"
    )
    assert primitives(text) == ["convolution, brg_conv_fwd:avx512_core", "matmul, jit:avx2", "reorder, jit:uni"]


PROGRAM = """\
import torch
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 2))
print("begins", flush=True)
net(torch.randn(2, 3, 8, 8))
"""


def test_an_operation_that_is_profiled_gives_what_it_gives_unwatched(tmp_path: Path) -> None:
    """Torch's inner operations and oneDNN's primitives are in the log; the value is what it was, the program's output too."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)

    def watched(name: str, look: dict[str, int] | None) -> tuple[Log, str]:
        words = environment() | {VARIABLE: Stretch(target=LAST, stop=LAST, look=look).to_json()}
        command = [sys.executable, "-m", "reprodebug", "capture", "-o", str(tmp_path / name), "--", sys.executable, str(script)]
        done = subprocess.run(command, env=words, capture_output=True, text=True)
        log = read(str(tmp_path / name))
        assert done.returncode == 0 and log is not None, done.stderr
        return log, done.stdout

    plain, said = watched("plain", None)
    at = next(op.n for op in plain.ops if op.name == "aten.convolution.default")
    log, again = watched("looked", {"op": at})
    found = log.ops[at]
    assert found.outputs[0].digest == plain.ops[at].outputs[0].digest and again == said == "begins\n"
    assert "aten::_convolution" in found.inner and not found.unprofiled and found.kernels == ()
    if "aten::mkldnn_convolution" in found.inner:
        assert any(p.startswith("convolution, ") for p in found.primitives)
    assert not any(op.inner for op in log.ops if op.n != at)
