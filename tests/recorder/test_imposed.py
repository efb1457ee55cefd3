"""What a trial imposes holds against what the program sets itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import warnings
warnings.simplefilter("ignore")
import torch
from reprodebug.recorder import imposed
print(imposed.at_torch(torch, {wanted}))
b = torch.backends
b.cudnn.benchmark = b.cudnn.deterministic = False
b.cudnn.allow_tf32 = b.cuda.matmul.allow_tf32 = False
torch.set_float32_matmul_precision("highest")
torch.set_num_threads(2)
torch.set_num_interop_threads(2)
torch.use_deterministic_algorithms(False)
b.cuda.matmul.allow_bf16_reduced_precision_reduction = True
with b.mkldnn.flags(enabled=True), b.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
    print(b.cudnn.benchmark, b.cudnn.allow_tf32, torch._C._get_mkldnn_enabled())
with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
    print(b.cuda.flash_sdp_enabled(), b.cuda.math_sdp_enabled())
print(b.cuda.matmul.allow_tf32, torch.get_num_threads(), torch.get_num_interop_threads(), torch.are_deterministic_algorithms_enabled())
print(b.cuda.matmul.allow_bf16_reduced_precision_reduction)
"""


@pytest.mark.parametrize(
    ("wanted", "printed"),
    [
        (
            {"tf32": True, "cudnn_benchmark": True, "intra_op_threads": 1, "inter_op_threads": 1, "mkldnn": False,
             "deterministic_algorithms": True, "sdp_backend": "math", "reduced_precision_reduction": False},
            "[]\nTrue True False\nFalse True\nTrue 1 1 True\nFalse\n",
        ),
        ({}, "[]\nFalse False True\nTrue False\nFalse 2 2 False\nTrue\n"),
    ],
    ids=["imposed", "nothing imposed"],
)  # fmt: skip
def test_the_program_cannot_take_it_back(wanted: dict[str, object], printed: str) -> None:
    source = PROGRAM.replace("{wanted}", repr(wanted))
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed
