"""Damaged and hostile records: a clear error or a partial answer, in bounded time and memory, and nothing executed or written."""

from __future__ import annotations

import os
import pickle
import random
import sqlite3
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from reprodebug.foreign.protocol import Unreadable
from reprodebug.foreign.registry import read_all
from reprodebug.foreign.tensor_files import open_tensors
from tests.foreign.test_systems import field, put, scalar, wandb_log

ROUNDS = int(os.environ.get("REPRODEBUG_FUZZ", "150"))
"""mutants per format; 10000 with `make fuzz`"""


def wandb_seed() -> tuple[str, bytes]:
    return "wandb/offline-run-20250101_000000-a/run-a.wandb", wandb_log({"lr": 0.1, "x": {"y": [1, 2]}}, [0.5, 0.25])


def tensorboard_seed() -> tuple[str, bytes]:
    return "events.out.tfevents.1.h.1.0", scalar("loss", 0, 1.0) + scalar("loss", 1, 0.5, tensor=True) + scalar("x", 2, 3.0)


def sqlite_seed() -> tuple[str, bytes]:
    db = sqlite3.connect(":memory:")
    db.executescript(
        "create table experiments (experiment_id, name); create table runs (run_uuid, status, start_time, lifecycle_stage);"
        "create table params (key, value, run_uuid); create table metrics (key, value, timestamp, run_uuid, step, is_nan);"
        "create table tags (key, value, run_uuid); insert into runs values ('r1', 'FINISHED', 1, 'active');"
        "insert into params values ('lr', '0.1', 'r1'); insert into metrics values ('loss', 0.5, 1, 'r1', 0, 0);"
    )
    return "mlflow.db", db.serialize()


def neptune_seed() -> tuple[str, bytes]:
    db = sqlite3.connect(":memory:")
    snapshot = (
        field(1, field(1, 3)) + field(4, field(1, b"lr") + field(2, field(6, b"x"))) + field(8, field(1, b"loss") + field(2, field(3, 5)))
    )
    db.execute("create table run_operations (sequence_id integer, timestamp, operation_type, operation)")
    db.execute("insert into run_operations values (1, 0, 0, ?)", (snapshot,))
    db.commit()
    return ".neptune/p_r_1/run_operations.sqlite3", db.serialize()


def zip_seed() -> tuple[str, bytes]:
    import io

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("task.json", '{"hyperparams": {"Args": {"lr": {"value": "0.1"}}}, "script": null}')
        z.writestr("metrics.jsonl", '[{"type": "scalar", "metric": "l", "iter": 0, "value": 1}]\n')
    return "offline-1.zip", out.getvalue()


def sif_seed() -> tuple[str, bytes]:
    definition = b"Bootstrap: docker\nFrom: ubuntu:22.04\n%labels\n  A b\n"
    at = 128 + 585
    descriptor = struct.pack("<i?IIIqqqqqqq128s384s", 0x4001, True, 1, 1, 0, at, len(definition), len(definition), 0, 0, 0, 0, b"def", b"")
    head = b"#!/usr/bin/env run-singularity\n".ljust(32, b"\0") + b"SIF_MAGIC\0" + b"01\0" + b"02\0" + b"\0" * 16
    return "image.sif", (head + struct.pack("<8q", 0, 0, 0, 1, 128, 585, at, len(definition))).ljust(128, b"\0")[
        :128
    ] + descriptor + definition


SEEDS: dict[str, Callable[[], tuple[str, bytes]]] = {
    "wandb": wandb_seed, "tensorboard": tensorboard_seed, "mlflow": sqlite_seed, "neptune-scale": neptune_seed, "clearml": zip_seed, "sif": sif_seed,
}  # fmt: skip


def mutated(data: bytes, rng: random.Random) -> bytes:
    raw = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if not raw:
            break
        at = rng.randrange(len(raw))
        kind = rng.randrange(5)
        if kind == 0:
            raw[at] = rng.randrange(256)
        elif kind == 1:
            raw[at : at + rng.randrange(1, 16)] = b"\xff" * rng.randrange(0, 16)
        elif kind == 2:
            del raw[at : at + rng.randrange(1, 64)]
        elif kind == 3:
            raw[at:at] = raw[: rng.randrange(1, 64)]
        else:
            raw = raw[:at]
    return bytes(raw)


@pytest.mark.parametrize("system", SEEDS)
def test_mutants_give_an_answer_or_a_note(system: str, tmp_path: Path) -> None:
    name, data = SEEDS[system]()
    assert any(r.facts or r.series for r in read_all(str(put(tmp_path / "whole", {name: data})))), "the seed itself is read"
    rng = random.Random(system)
    for n in range(ROUNDS):
        folder = tmp_path / "x"
        put(folder, {name: mutated(data, rng)})
        before = sorted(p.name for p in folder.rglob("*"))
        started = time.monotonic()
        for record in read_all(str(folder)):
            assert len(record.facts) < 10_000
        assert time.monotonic() - started < 5, n
        assert sorted(p.name for p in folder.rglob("*")) == before


def tensor_seed(kind: str, folder: Path) -> Path:
    import numpy as np

    path = folder / f"seed.{kind}"
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    if kind == "npy":
        np.save(path, a)
    elif kind == "npz":
        np.savez(path, a=a, b=a.T)
    elif kind == "safetensors":
        header = b'{"a":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]},"__metadata__":{"x":"y"}}'
        path.write_bytes(struct.pack("<Q", len(header)) + header + a.tobytes())
    elif kind == "pt":
        import torch

        torch.save({"a": torch.from_numpy(a), "n": {"b": torch.zeros(2)}}, path)
    else:
        import h5py

        with h5py.File(path, "w") as f:
            f["step_000001/layer1/conv/activation"] = a
            f["step_000002/layer1/conv/activation"] = a + 1
    return path


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors", "pt"])
def test_mutated_tensor_files(kind: str, tmp_path: Path) -> None:
    data = tensor_seed(kind, tmp_path).read_bytes()
    rng = random.Random(kind)
    path = tmp_path / f"x.{kind}"
    for _ in range(ROUNDS if kind != "pt" else ROUNDS // 3):
        path.write_bytes(mutated(data, rng))
        try:
            opened = open_tensors(str(path))
            for name in opened.names[:50]:
                opened.load(name)
        except Unreadable:
            continue


def test_mutated_hdf5_files_never_take_the_tool_down(tmp_path: Path) -> None:
    """libhdf5 may crash or loop on what it reads: the attempt is made in a process of its own."""
    data = tensor_seed("h5", tmp_path).read_bytes()
    rng = random.Random(5)
    for n in range(12):
        (tmp_path / f"{n}.h5").write_bytes(mutated(data, rng))
    for n in range(12):
        path = str(tmp_path / f"{n}.h5")
        done = subprocess.run(
            [sys.executable, "-m", "reprodebug", "compare", path, path, "--json", "-"], capture_output=True, text=True, timeout=60
        )
        assert done.returncode in (0, 1, 2, 3), done.stderr
        assert "Traceback" not in done.stderr


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, ("touch /tmp/reprodebug-was-here",))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    import numpy as np

    marker = Path("/tmp/reprodebug-was-here")
    marker.unlink(missing_ok=True)
    bad = pickle.dumps({"random_state": Payload(), "numpy_random_seed": Payload()})
    put(tmp_path, {"random_states_0.pkl": bad, "rng_state.pth": bad, "model.pt": bad})
    np.save(tmp_path / "objects.npy", np.array([Payload()], dtype=object), allow_pickle=True)
    assert not any(r.facts for r in read_all(str(tmp_path)))
    for name in ("model.pt", "objects.npy"):
        with pytest.raises(Unreadable):
            open_tensors(str(tmp_path / name))
    assert not marker.exists()


def test_yaml_objects_are_never_made_and_aliases_do_not_explode(tmp_path: Path) -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
    )
    put(tmp_path, {"config.yaml": "x: !!python/object/apply:os.system ['touch /tmp/reprodebug-was-here']\n", "params.yaml": bomb})
    found = read_all(str(tmp_path))
    assert not Path("/tmp/reprodebug-was-here").exists()
    assert any("unfold" in n for r in found for n in r.notes)


def test_links_out_of_the_directory_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.yaml"
    secret.write_text("password_of: the-neighbour\n")
    inside = tmp_path / "run"
    inside.mkdir()
    (inside / "config.yaml").symlink_to(secret)
    (inside / "requirements.txt").write_text("-r ../secret.txt\nnumpy==1\n")
    (tmp_path / "secret.txt").write_text("stolen==1\n")
    found = [f for r in read_all(str(inside)) for f in r.facts]
    assert ("environment", "package/numpy") in found
    assert not any("stolen" in k or "password" in k for _, k in found)


def test_a_zip_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "big.npz", "w", zipfile.ZIP_DEFLATED) as z, z.open("a.npy", "w", force_zip64=True) as f:
        f.write(b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (100000000000,), }".ljust(117) + b"\n")
        f.write(b"\0" * (4 << 20))
    with pytest.raises(Unreadable):
        open_tensors(str(tmp_path / "big.npz")).load("a")


def test_repository_configuration_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    script = tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {marker}\n")
    script.chmod(0o755)
    repo = tmp_path / "repo"
    repo.mkdir()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *words], cwd=repo, check=True, capture_output=True)
    (repo / "f.py").write_text("x")
    subprocess.run([*git, "add", "f.py"], cwd=repo, check=True)
    for key in ("core.fsmonitor", "diff.external", "core.pager", "core.editor", "filter.x.clean", "core.sshCommand"):
        subprocess.run(["git", "config", key, str(script)], cwd=repo, check=True)
    (repo / ".gitattributes").write_text("*.py filter=x diff=y\n")
    subprocess.run(["git", "config", "diff.y.textconv", str(script)], cwd=repo, check=True)
    (repo / "f.py").write_text("y")
    marker.unlink(missing_ok=True)
    found = [f for r in read_all(str(repo)) for f in r.facts]
    assert ("code", "git_commit") in found
    assert not marker.exists()
