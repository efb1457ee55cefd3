"""Plain tensor files: the numbers of every difference, names, shapes, and dumps of activations."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from reprodebug import api
from reprodebug.model.comparison import Tolerance

Arrays = dict[str, "np.ndarray[Any, Any]"]
SAFE = {"float32": "F32", "float16": "F16", "int64": "I64", "float64": "F64"}


def npz(path: Path, arrays: Arrays) -> None:
    np.savez(path, **arrays)  # type: ignore[arg-type]


def npy(path: Path, arrays: Arrays) -> None:
    np.save(path, next(iter(arrays.values())))


def hdf5(path: Path, arrays: Arrays) -> None:
    with h5py.File(path, "w") as f:
        for name, a in arrays.items():
            f[name] = a


def pt(path: Path, arrays: Arrays) -> None:
    torch.save({k: torch.from_numpy(a) for k, a in arrays.items()}, path)


def safetensors(path: Path, arrays: Arrays) -> None:
    header, data = {}, b""
    for name, a in arrays.items():
        raw = a.tobytes()
        header[name] = {"dtype": SAFE[a.dtype.name], "shape": list(a.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)


WRITERS: dict[str, Callable[[Path, Arrays], None]] = {"npz": npz, "npy": npy, "h5": hdf5, "pt": pt, "safetensors": safetensors}


def pair(folder: Path, suffix: str, a: Arrays, b: Arrays) -> tuple[str, str]:
    for side, arrays in (("a", a), ("b", b)):
        WRITERS[suffix](folder / f"{side}.{suffix}", arrays)
    return str(folder / f"a.{suffix}"), str(folder / f"b.{suffix}")


@pytest.mark.parametrize("suffix", WRITERS)
def test_numbers_of_a_difference(suffix: str, tmp_path: Path) -> None:
    a = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    b = a.copy()
    b[1, 2] = np.nextafter(b[1, 2], np.float32(99))  # one unit in the last place
    b[2, 3] += 0.5
    c = api.compare(*pair(tmp_path, suffix, {"weight": a}, {"weight": b}))
    assert c.verdict == "divergent" and c.first is not None
    n = c.first.numbers
    assert (n.elements, n.differing, n.max_abs, n.worst_index) == (12, 2, 0.5, (2, 3))
    assert n.max_rel == pytest.approx(0.5 / 12.5)
    assert n.max_ulp == 0.5 / np.spacing(np.float32(12))
    first = c.to_json()["first_divergence"]
    assert (first["differing"], first["elements"], first["max_abs"], first["dtype"]) == (2, 12, 0.5, "float32")
    assert api.compare(str(tmp_path / f"a.{suffix}"), str(tmp_path / f"a.{suffix}")).verdict == "identical"
    within = api.compare(str(tmp_path / f"a.{suffix}"), str(tmp_path / f"b.{suffix}"), tolerance=Tolerance(rtol=0.1))
    assert within.verdict == "equivalent"


def test_bfloat16_meets_itself_in_two_formats(tmp_path: Path) -> None:
    a = torch.tensor([1.0, 2.0, -0.0], dtype=torch.bfloat16)
    b = torch.tensor([1.0, 2.015625, 0.0], dtype=torch.bfloat16)
    torch.save({"w": a}, tmp_path / "a.pt")
    raw = b.view(torch.uint8).numpy().tobytes()
    head = json.dumps({"w": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}).encode()
    (tmp_path / "b.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + raw)
    c = api.compare(str(tmp_path / "a.pt"), str(tmp_path / "b.safetensors"))
    assert c.first is not None and c.first.dtype == "bfloat16"
    assert (c.first.numbers.differing, c.first.numbers.max_ulp) == (2, 1), "one step, and a sign of zero"


def test_missing_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    ones, wide = np.ones((2, 3), np.float32), np.ones((3, 2), np.float32)
    c = api.compare(*pair(tmp_path, "safetensors", {"x": ones, "y": ones, "only_a": ones}, {"x": ones, "y": wide, "only_b": ones}))
    assert c.verdict == "divergent" and c.first is not None
    assert (c.first.tensor, c.first.shape, c.first.shape_b, c.first.numbers.max_abs) == ("y", (2, 3), (3, 2), None)
    assert {(d.key, d.a, d.b) for d in c.differences} == {("only_a", "(given)", "(absent)"), ("only_b", "(absent)", "(given)")}
    lower = api.compare(*pair(tmp_path, "npz", {"x": ones}, {"x": ones.astype(np.float16)}))
    assert lower.first is not None and (lower.first.dtype, lower.first.dtype_b) == ("float32", "float16")
    assert api.compare(*pair(tmp_path, "h5", {"x": ones}, {"z": ones})).verdict == "incomparable"


def test_names_meet_behind_wrappers(tmp_path: Path) -> None:
    w, other = np.ones(3, np.float32), np.zeros(3, np.float32)
    c = api.compare(*pair(tmp_path, "pt", {"module.fc.weight": w, "module.fc.bias": w}, {"fc._orig_mod.weight": w, "fc.bias": other}))
    assert c.first is not None and (c.first.module, c.first.tensor) == ("module.fc", "bias")
    assert not c.differences and any("wrappers" in n for n in c.not_recorded)
    torch.save({"state_dict": {"fc.weight": torch.ones(3)}}, tmp_path / "nested.pt")
    torch.save({"fc.weight": torch.ones(3)}, tmp_path / "flat.pt")
    assert api.compare(str(tmp_path / "nested.pt"), str(tmp_path / "flat.pt")).verdict == "identical"


LAYOUTS = {
    "a group per step": "step_{step:06d}/{layer}/activation", "a group per layer": "{layer}/step_{step}", "steps as numbers": "{step}/{layer}/output",
    "under a heading": "activations/step-{step}/{layer}", "gradients": "iter_{step}/{layer}/grad",
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_dump_of_activations_gives_the_first_divergence_in_time(layout: str, tmp_path: Path) -> None:
    """The layers are called so that the order of their names is not the order in which they were written."""
    layers = ("stem", "blocks.0", "blocks.1", "attention", "head")
    sides = []
    for side in (0, 1):
        arrays = {}
        for step in (2, 10):
            for n, layer in enumerate(layers):
                a = np.full((2, 3), step + n, np.float32)
                if side and (step, n) >= (10, 2):
                    a[0, 0] += 0.25
                arrays[LAYOUTS[layout].format(step=step, layer=layer)] = a
        sides.append(arrays)
    c = api.compare(*pair(tmp_path, "h5", sides[0], sides[1]))
    assert c.first is not None
    assert (c.first.step, c.first.module) == (10, "blocks.1")
    assert c.first.kind == ("gradient" if layout == "gradients" else "activation")
    assert [x.first.module for x in c.layers] == ["blocks.1", "attention", "head"]
    assert c.first.numbers.max_abs == 0.25 and c.first.numbers.differing == 1


def test_folders_are_compared_by_the_tensor_files_that_they_share(tmp_path: Path) -> None:
    for side, shift in (("a", 0.0), ("b", 1.0)):
        folder = tmp_path / side / "dump"
        folder.mkdir(parents=True)
        for step in range(3):
            np.savez(folder / f"step_{step}.npz", **{"conv.output": np.ones(3), "fc.output": np.full(3, shift if step == 1 else 0.0)})
    c = api.compare(str(tmp_path / "a"), str(tmp_path / "b"))
    assert c.first is not None and c.first.step == 1 and c.first.module.endswith("fc.output")
    for side in "ab":
        (tmp_path / side / "config.yaml").write_text(f"lr: {0.1 if side == 'a' else 0.2}\n")
    c = api.compare(str(tmp_path / "a"), str(tmp_path / "b"))
    assert c.first is not None and [d.key for d in c.differences] == ["lr"]
    assert c.causes and "lr" in c.causes[0].summary
