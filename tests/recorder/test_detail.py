"""Level ``full`` keeps every kind of tensor exactly: what lies in the HDF5 file is rebuilt and held against the original."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from reprodebug.store.journal import pack, unpack
from reprodebug.store.run import open_run
from reprodebug.store.trace import pays
from tests.recorder.test_neutral import environment

PROGRAM = """\
import torch

def tensors():
    g = torch.Generator().manual_seed(1)
    x = torch.randn(3, 5, generator=g)
    found = {str(d)[6:]: x.to(d) for d in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128,
             torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)}
    found |= {str(d)[6:]: (x * 50).to(d) for d in (torch.int8, torch.int16, torch.int32, torch.int64)}
    found |= {"uint8": (x.abs() * 50).to(torch.uint8), "bool": x > 0, "scalar": torch.tensor(2.5), "empty": torch.empty(0, 4)}
    found |= {"conjugate": x.to(torch.complex64).mul(1j).conj(), "transposed": x.t(), "expanded": x[:1].expand(4, 5), "nan": x / 0 - x / 0}
    found |= {str(d)[6:]: (x.abs() * 50).to(d) for d in (torch.uint16, torch.uint32, torch.uint64, torch.complex32, torch.float8_e8m0fnu)}
    found |= {"negative": x.to(torch.complex64).conj().imag, "reversed": x.flip(0)[1:], "ones": torch.ones(200, 300), "noise": torch.rand(200, 300)}
    found["coo"] = torch.sparse_coo_tensor([[0, 1, 1], [2, 0, 0]], [3.0, -0.0, 5.0], (2, 3))
    found["coalesced"] = found["coo"].coalesce()
    found["hybrid"] = torch.sparse_coo_tensor([[0, 2]], torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.bfloat16), (3, 2))
    dense = torch.tensor([[0.0, 1.0, 0.0, 2.0], [0.0, 0.0, 3.0, 0.0]])
    found |= {"csr": dense.to_sparse_csr(), "csc": dense.to_sparse_csc(), "bsr": dense.to_sparse_bsr((1, 2)), "bsc": dense.to_sparse_bsc((1, 2))}
    found["tensorwise"] = torch.quantize_per_tensor(x, 0.1, 3, torch.qint8)
    found["wide"] = torch.quantize_per_tensor(x, 0.001, 0, torch.qint32)
    found["channelwise"] = torch.quantize_per_channel(x, torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0, 1, 2]), 0, torch.quint8)
    return found

class Passing(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
    def forward(self):
        torch.manual_seed(0)
        return tensors()

if __name__ == "__main__":
    Passing()()
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tensors as the program made them, what the run kept of them)."""
    import warnings

    folder = tmp_path_factory.mktemp("full")
    (folder / "program.py").write_text(PROGRAM)
    command = [
        sys.executable,
        "-m",
        "reprodebug",
        "capture",
        "-o",
        "run",
        "--level",
        "full",
        "--",
        sys.executable,
        "-W",
        "ignore",
        "program.py",
    ]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0 and "note:" not in done.stderr, done.stderr
    assert (folder / "run" / "trace-rank0.h5").exists()
    trace = open_run(str(folder / "run")).trace(0)
    found: dict[str, Any] = {}
    for row in trace.events:
        name = trace.sites[int(row["site"])][3]
        if name.startswith("output."):
            found[name.removeprefix("output.")] = trace.tensor(int(row["seq"]))
    space: dict[str, Any] = {"__name__": "program"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(PROGRAM, "program.py", "exec"), space)
        torch.manual_seed(0)
        return space["tensors"](), found | {"file": str(folder / "run" / "trace-rank0.h5")}


def dense(raw: bytes, dtype: str, shape: list[int]) -> torch.Tensor:
    if not raw:
        return torch.empty(shape, dtype=getattr(torch, dtype))
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(getattr(torch, dtype)).reshape(shape)


def bits(t: torch.Tensor) -> bytes:
    t = t.resolve_conj().resolve_neg().contiguous()
    return bytes(t.reshape(-1).view(torch.uint8).numpy()) if t.numel() else b""


def rebuilt(raw: bytes, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    form, parts = unpack(raw)
    assert form["layout"] == dtype
    p = {x["name"]: dense(parts[x["name"]], x["dtype"], x["shape"]) for x in form["parts"]}
    if dtype == "sparse_coo":
        return torch.sparse_coo_tensor(p["indices"], p["values"], shape, is_coalesced=form["coalesced"])
    if dtype == "quantized":
        if "scale" in p:
            return torch._make_per_channel_quantized_tensor(p["int_repr"], p["scale"], p["zero_point"], form["axis"])
        return torch._make_per_tensor_quantized_tensor(p["int_repr"], form["scale"], form["zero_point"])
    outer, inner = ("crow_indices", "col_indices") if dtype in ("sparse_csr", "sparse_bsr") else ("ccol_indices", "row_indices")
    return torch.sparse_compressed_tensor(p[outer], p[inner], p["values"], shape, layout=getattr(torch, dtype))


@pytest.mark.filterwarnings("ignore")
def test_every_kind_of_tensor_is_kept_exactly(kept: tuple[dict[str, Any], dict[str, Any]]) -> None:
    made, found = kept
    assert set(found) - {"file"} == set(made)
    for name, t in made.items():
        assert found[name] is not None, name
        raw, dtype, shape = found[name]
        assert shape == tuple(t.shape), name
        if t.layout is torch.strided and not t.is_quantized:
            assert dtype == str(t.dtype).removeprefix("torch.") and raw.tobytes() == bits(t), name
            continue
        again = rebuilt(raw.tobytes(), dtype, shape)
        assert again.layout is t.layout and again.dtype is t.dtype, name
        if t.is_quantized:
            assert again.qscheme() == t.qscheme() and torch.equal(again.int_repr(), t.int_repr()) and torch.equal(again, t), name
            continue
        if t.layout is torch.sparse_coo:
            assert again.is_coalesced() == t.is_coalesced(), name
            pairs = [(again._indices(), t._indices()), (again._values(), t._values())]
        else:
            pairs = [(again.values(), t.values())]
        assert all(bits(p) == bits(q) for p, q in pairs), name
        assert torch.equal(again.to_dense(), t.to_dense()), name


def test_a_tensor_is_compressed_where_that_pays(kept: tuple[dict[str, Any], dict[str, Any]], tmp_path: Any) -> None:
    import h5py

    noise = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    assert pays(np.zeros(1 << 16, np.uint8)) and pays(np.repeat(noise > 1, 4).view(np.uint8))
    assert not pays(noise.view(np.uint8)) and not pays(np.zeros(1 << 10, np.uint8))
    with h5py.File(kept[1]["file"]) as f:
        compression = {d.attrs["shape"].tolist() == [200, 300] and bytes(d[:8]): d.compression for d in f["tensors"].values()}
    ones = bytes(np.ones(2, np.float32).tobytes())
    assert compression[ones] == "gzip" and {v for k, v in compression.items() if k != ones} == {None}


def test_what_is_no_tensor_in_parts_is_refused() -> None:
    whole = pack({"layout": "quantized", "parts": [{"name": "a", "dtype": "int8", "shape": [2], "nbytes": 2}]}, [b"xy"])
    assert unpack(whole)[1] == {"a": b"xy"}
    generator = random.Random(3)
    for n in range(len(whole)):
        with pytest.raises(ValueError):
            unpack(whole[:n])
    for _ in range(500):
        damaged = bytearray(whole)
        damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        try:
            unpack(bytes(damaged))
        except ValueError:
            continue


KILLED = """\
import os, signal, torch
net = torch.nn.Sequential(*[torch.nn.Linear(8, 8) for _ in range(20)])
net[12].register_forward_hook(lambda *_: os.kill(os.getpid(), signal.SIGKILL))
net(torch.ones(4, 8))
"""


def test_a_killed_program_loses_no_tensor_that_was_written(tmp_path: Any) -> None:
    (tmp_path / "program.py").write_text(KILLED)
    command = [sys.executable, "-m", "reprodebug", "capture", "-o", "run", "--level", "full", "--", sys.executable, "program.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 128 + 9
    run = open_run(str(tmp_path / "run"))
    trace = run.trace(0)
    assert not run.manifest.complete
    outputs = [r for r in trace.events if trace.sites[int(r["site"])][3] == "output.0"]
    assert len(outputs) == 13, "the hook that kills runs behind ours"
    assert all((kept := trace.tensor(int(r["seq"]))) is not None and len(kept[0]) == 4 * 8 * 4 for r in outputs)


BIG = """\
import torch
class Huge(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
    def forward(self, x):
        return x.clone()
net = Huge()
for n in range(1, 200):
    net(torch.full((1 << 21,), float(n)))
"""


def test_a_kill_in_the_middle_of_a_tensor_loses_no_more_than_that_one(tmp_path: Any) -> None:
    """The journal is cut wherever the kernel happened to be: 8 MiB a tensor, killed as soon as 40 MiB lie there."""
    import os
    import signal
    import time

    (tmp_path / "program.py").write_text(BIG)
    command = [sys.executable, "-m", "reprodebug", "capture", "-o", "run", "--level", "full", "--", sys.executable, "program.py"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    folder = tmp_path / "run" / "journal"
    name = ""
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        name = next((n for n in os.listdir(folder) if os.path.getsize(folder / n) > 40 << 20), "") if folder.exists() else ""
        if name:
            break
        time.sleep(0.002)
    assert name
    os.kill(int(re.findall(r"\d+", name)[0]), signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode == 128 + 9
    run = open_run(str(tmp_path / "run"))
    trace = run.trace(0)
    assert not run.manifest.complete
    calls = [(r, trace.tensor(int(r["seq"]))) for r in trace.events if trace.sites[int(r["site"])][3] == "output.0"]
    whole = [(int(kept[0][:4].view("<f4")[0]), len(kept[0])) for _, kept in calls if kept is not None]
    assert whole == [(n, 1 << 23) for n in range(1, len(whole) + 1)] and len(whole) >= 2
    assert len(calls) - len(whole) <= 1, "more than the tensor that was being written is lost"
