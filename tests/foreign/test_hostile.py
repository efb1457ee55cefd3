"""Damaged and hostile records: a clear error or a partial answer, in bounded time and memory, and nothing executed or written."""

from __future__ import annotations

import json
import os
import pickle
import random
import re
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

ROOT = Path(__file__).resolve().parents[2]
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


def arguments_seed() -> tuple[str, bytes]:
    from tests.foreign.test_training_logs import arguments

    return "training_args.bin", arguments(lr=0.1, betas=(0.9, 0.99), names=["a", "b"], nested={"x": None})


SEEDS: dict[str, Callable[[], tuple[str, bytes]]] = {
    "wandb": wandb_seed, "tensorboard": tensorboard_seed, "mlflow": sqlite_seed, "neptune-scale": neptune_seed, "clearml": zip_seed, "sif": sif_seed, "arguments": arguments_seed,
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


TEXTS: dict[str, object] = {
    "params.yaml": {"lr": 0.1}, "dvc.yaml": {"stages": {"t": {"metrics": ["m.json"]}}}, "m.json": {"acc": 0.5},
    "dvc.lock": {"schema": "2.0", "stages": {"t": {"cmd": "x", "deps": [{"path": "d", "md5": "1"}], "outs": [{"path": "o", "md5": "2"}], "params": {"params.yaml": {"lr": 1}}}}},
    "runs/1/run.json": {"experiment": {"dependencies": ["numpy==1"], "sources": [["t.py", "x_1.py"]], "repositories": [{"commit": "c"}]}, "command": "m",
                        "heartbeat": "h", "host": {"ENV": {"A": "1"}, "gpus": {"gpus": [{"model": "x"}]}}, "status": "COMPLETED"},
    "runs/1/metrics.json": {"loss": {"steps": [0], "values": [1.0]}}, "offline-1/task.json": {"hyperparams": {"Args": {"lr": {"value": "1"}}}, "script": {}},
    "out/1/.hydra/config.yaml": {"lr": 0.1, "x": ["${lr}"]}, "out/1/.hydra/overrides.yaml": ["lr=0.1"],
    "out/1/.hydra/hydra.yaml": {"hydra": {"runtime": {"version": "1.3", "choices": {"model": "x"}}}}, "inspect.json": [{"Id": "1", "Config": {"Env": ["A=1"], "Labels": {"x": "y"}},
                        "HostConfig": {"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}]}, "Mounts": [{"Destination": "/d"}]}],
    "compose.yaml": {"services": {"t": {"image": "x:1", "environment": {"A": 1}, "deploy": {"resources": {"reservations": {"devices": [{"count": 1, "capabilities": ["gpu"]}]}}}}}},
    "Pipfile.lock": {"_meta": {"requires": {"python_version": "3.11"}}, "default": {"numpy": {"version": "==1", "hashes": ["sha256:a"], "extras": ["x"]}}},
    "pixi.lock": {"environments": {"default": {"packages": {"linux-64": [{"conda": "https://x/noarch/a-1-0.conda"}]}}}, "packages": [{"conda": "https://x/noarch/a-1-0.conda"}]},
    "trainer_state.json": {"max_steps": 1, "log_history": [{"step": 1, "loss": 1.0}]},
    "t/_delta_log/00000000000000000000.json": {"add": {"path": "p", "stats": {"numRecords": 1}, "deletionVector": {"cardinality": 1}, "partitionValues": {"a": "1"}}},
}  # fmt: skip
"""records as text, small"""


def with_other_types(node: object, rng: random.Random) -> object:
    """The same with a few values of other types."""
    if rng.random() < 0.06:
        return rng.choice([None, 0, -1.5, True, "", "x", [], {}, [None], [[1]], [{"a": 1}], {"a": None}, 10**30])
    if isinstance(node, dict):
        return {k: with_other_types(v, rng) for k, v in node.items()}
    return [with_other_types(v, rng) for v in node] if isinstance(node, list) else node


def test_values_of_another_type_cost_no_more_than_themselves(tmp_path: Path) -> None:
    rng = random.Random(1)
    for _ in range(max(ROUNDS // 2, 20)):
        folder = put(tmp_path, {name: json.dumps(with_other_types(content, rng)) for name, content in TEXTS.items()})
        for record in read_all(str(folder)):
            assert not any(re.search(r"could not be read: \w*(Error|Exception):", n) for n in record.notes), record.notes


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


HDF5_LOOP = """
import random, signal, sys
from pathlib import Path
from reprodebug.foreign.protocol import Unreadable
from reprodebug.foreign.tensor_files import open_tensors
from tests.foreign.test_hostile import mutated
data, path = Path(sys.argv[1]).read_bytes(), Path(sys.argv[1]).with_name("x.h5")
for n in range(int(sys.argv[2])):
    path.write_bytes(mutated(data, random.Random(n)))
    signal.alarm(20)
    try:
        opened = open_tensors(str(path))
        for name in opened.names[:50]:
            try:
                opened.load(name)
            except Unreadable:
                pass
    except Unreadable:
        pass
"""


@pytest.mark.parametrize("layout", ["earliest", "latest"])
def test_mutated_hdf5_files_never_take_the_tool_down(layout: str, tmp_path: Path) -> None:
    """libhdf5 is C: the mutants are read in a process of its own, so that a crash or an endless loop is seen as what it is."""
    import h5py
    import numpy as np

    path = tmp_path / "seed.h5"
    a = np.arange(400, dtype=np.float32).reshape(20, 20)
    with h5py.File(path, "w", libver=layout) as f:
        f.create_dataset("step_1/conv/output", data=a, chunks=(5, 5), compression="gzip", shuffle=True, fletcher32=True)
        f.create_dataset("step_1/fc/output", data=a.astype("f2"), chunks=(20, 20), compression="lzf", maxshape=(None, 20))
        f.create_dataset("step_2/conv/output", data=a)
        f["step_2"].attrs["x"] = np.arange(5)
        f.create_dataset("names", data=["a", "b"], dtype=h5py.string_dtype())
    done = subprocess.run([sys.executable, "-c", HDF5_LOOP, str(path), str(ROUNDS)], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_mutated_aim_repositories(tmp_path: Path) -> None:
    """Rows as RocksDB gives them, and a few whole repositories (RocksDB itself runs in a process of its own)."""
    import shutil

    from reprodebug.foreign import aim
    from reprodebug.foreign.protocol import Record

    pair = ROOT / "tests" / "foreign" / "records" / "aim-killed" / "a"
    from reprodebug.foreign.tree import Tree

    tree = Tree(str(pair))
    place = aim.runs(tree)[0]
    run = place.rsplit("/", 1)[-1]
    meta, series = aim._databases(tree, [place, f".aim/seqs/chunks/{run}"])
    rng = random.Random(3)
    for _ in range(ROUNDS):
        rows = [
            (mutated(k, rng), v) if rng.random() < 0.1 else (k, mutated(v, rng)) if rng.random() < 0.1 else (k, v) for k, v in meta[:80]
        ]
        aim._tree_of(rows, run)
        record = Record("Aim", "x")
        aim._series(record, aim._tree_of([(mutated(k, rng), v) if rng.random() < 0.3 else (k, v) for k, v in series[:60]], run), {}, run)
    files = [p for p in pair.rglob("*") if p.is_file() and p.stat().st_size]
    for n in range(max(4, ROUNDS // 100)):
        copy = tmp_path / str(n)
        shutil.copytree(pair, copy)
        victim = copy / rng.choice(files).relative_to(pair)
        victim.write_bytes(mutated(victim.read_bytes(), rng))
        found = read_all(str(copy))
        assert all(r.facts or r.series or r.notes for r in found)


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


class Evil:
    """A pickle that creates a file when it is loaded in full."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (self.path,))


def test_payloads_inside_torch_archives_are_not_run(tmp_path: Path) -> None:
    import torch

    marker = tmp_path / "was-here"
    folder = tmp_path / "run" / "checkpoint-1"
    folder.mkdir(parents=True)
    for name in ("rng_state.pth", "model.pt", "random_states_0.pkl"):
        torch.save({"cpu": torch.zeros(2), "python": Evil(str(marker)), "numpy": Evil(str(marker))}, folder / name)
    read_all(str(tmp_path / "run"))
    with pytest.raises(Unreadable, match="without executing"):
        open_tensors(str(folder / "model.pt"))
    assert not marker.exists()


def test_nothing_outside_is_read_through_hdf5_or_zip(tmp_path: Path) -> None:
    import h5py
    import numpy as np

    (tmp_path / "raw.bin").write_bytes(b"\x01" * 16)
    with h5py.File(tmp_path / "other.h5", "w") as f:
        f["secret"] = np.arange(4.0)
    inside = tmp_path / "run"
    inside.mkdir()
    with h5py.File(inside / "a.h5", "w") as f:
        f["own"] = np.arange(3.0)
        f["link"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/secret")
        f["soft"] = h5py.SoftLink("/link")
        f.create_dataset("raw", (4,), "f4", external=[(str(tmp_path / "raw.bin"), 0, 16)])
        virtual = h5py.VirtualLayout((4,), "f8")
        virtual[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "secret", (4,))
        f.create_virtual_dataset("virtual", virtual)
    opened = open_tensors(str(inside / "a.h5"))
    assert opened.names == ["/own"]
    assert len(opened.notes) == 4
    with zipfile.ZipFile(inside / "offline-1.zip", "w") as z:
        z.writestr("../../task.json", '{"hyperparams": {"Args": {"lr": {"value": "0.1"}}}, "script": null}')
    before = sorted(p.name for p in tmp_path.rglob("*"))
    read_all(str(inside))
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_arrays_that_were_never_written_do_not_fill_the_memory(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "huge.h5", "w") as f:
        f.create_dataset("x", (1 << 20, 1 << 11), "f8", chunks=(1024, 1024), compression="gzip")
    with pytest.raises(Unreadable, match="unpacks to"):
        open_tensors(str(tmp_path / "huge.h5")).load("/x")
    with zipfile.ZipFile(tmp_path / "offline-1.zip", "w", zipfile.ZIP_DEFLATED) as z, z.open("task.json", "w") as f:
        for _ in range(64):
            f.write(b" " * (1 << 20))
    assert any("unpacks to" in n for r in read_all(str(tmp_path)) for n in r.notes)


DEEP = {
    "config.yaml": "[" * 100_000, "params.yaml": "{a: " * 50_000, "settings.json": "[" * 1_000_000, "settings.toml": "a = " + "[" * 100_000,
    "conf/laughs.yaml": "a0: x\n" + "".join(f"a{n}: '{f'${{a{n - 1}}}' * 10}'\n" for n in range(1, 25)),
    "task.json": json.dumps({"hyperparams": {}, "configuration": {"x": {"value": "#" * 3000}, "y": {"value": "{a " * 3000}}}),
    "Dockerfile": "FROM " + "${A:-" * 5000 + "x" + "}" * 5000 + "\nRUN " + "$(" * 5000,
    "compose.yaml": "services:\n  a:\n    image: '" + "${A:-" * 3000 + "x" + "}" * 3000 + "'\n    extends: {service: a}\n",
    "REPRODUCE.md": "```\n" * 20_000 + "|" * 20_000, "checklist.tex": "\\item {\\bf " * 20_000 + "\\answerYes",
    "requirements.txt": "-r requirements.txt\n" + "a" * 100_000 + "==1\n", "uv.lock": "version=1\n[[package]]\nname='a'\nversion='1'\nresolution-markers=['" + "(" * 500 + "']\n",
    "job.json": '{"pipeline": {"name":"x"}, "input": ' + '{"cross":[' * 500 + "1" + "]}" * 500 + "}", ".env": "A=" + "\\" * 100_000 + '\nB="' + "\\" * 99_999,
}  # fmt: skip


@pytest.mark.parametrize("name", DEEP)
def test_deep_and_endless_texts_end(name: str, tmp_path: Path) -> None:
    put(tmp_path, {name: DEEP[name]})
    started = time.monotonic()
    read_all(str(tmp_path))
    assert time.monotonic() - started < 20, "a text of a few hundred kilobytes"


def test_what_a_killed_run_left_is_read_up_to_the_cut(tmp_path: Path) -> None:
    """Every cut of a log gives a prefix of what the whole log says."""
    name, whole = wandb_seed()
    full = {r.system: r.series for r in read_all(str(put(tmp_path / "whole", {name: whole})))}["Weights & Biases"]["loss"]
    for cut in range(len(whole) - 1, 7, -11):
        records = read_all(str(put(tmp_path / "cut", {name: whole[:cut]})))
        for record in records:
            assert record.series.get("loss", {}).items() <= full.items()
    name, whole = tensorboard_seed()
    for cut in range(len(whole) - 1, 0, -7):
        for record in read_all(str(put(tmp_path / "events", {name: whole[:cut]}))):
            assert set(record.series) <= {"loss", "x"}
    folder = tmp_path / "wal"
    folder.mkdir()
    db = sqlite3.connect(folder / "mlflow.db")
    db.executescript(
        "pragma journal_mode=wal; create table experiments (x); create table tags (key, value, run_uuid);"
        "create table runs (run_uuid, status, start_time, lifecycle_stage); create table params (key, value, run_uuid);"
        "create table metrics (key, value, timestamp, run_uuid, step, is_nan); insert into runs values ('r', 'RUNNING', 1, 'active');"
        "insert into params values ('lr', '0.1', 'r');"
    )
    assert (folder / "mlflow.db-wal").stat().st_size
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    found = [f.value for r in read_all(str(folder)) for (_, k), f in r.facts.items() if k == "lr"]
    assert found == ["0.1"], "what only stands in the write-ahead log"
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    db.close()


def test_values_named_like_secrets_are_never_told(tmp_path: Path) -> None:
    secret = "verysecretvalue"
    put(
        tmp_path,
        {".env": f"API_TOKEN={secret}\n", "config.yaml": f"db: {{password: {secret}, url: 'postgres://u:{secret}@h/d'}}\n",
         "compose.yaml": f"services: {{a: {{image: x, environment: {{DB_PASSWORD: {secret}}}}}}}\n",
         "environment.yml": f"dependencies: [python=3.11]\nvariables: {{HF_TOKEN: {secret}}}\n",
         "Dockerfile": f"FROM x\nENV AWS_SECRET_ACCESS_KEY={secret}\nARG PIP_PASSWORD={secret}\n",
         "requirements.txt": f"tool @ git+https://user:{secret}@git.example/tool.git@{'a' * 40}\n",
         "offline-1/task.json": json.dumps({"hyperparams": {"Args": {"api_key": {"value": secret}}}, "script": {"diff": f"+token = '{secret}'\n"}}),
         ".neptune/offline/run__a/data-1.log": json.dumps({"obj": {"type": "AssignString", "path": ["params", "auth_token"], "value": secret}}),
         "mlruns/0/" + "a" * 32 + "/meta.yaml": "run_id: a\nstatus: 3\n", "mlruns/0/" + "a" * 32 + "/params/password": secret,
         "params.yaml": f"api_key: {secret}\n", "dvc.lock": f"stages: {{t: {{cmd: 'python t.py --api-key {secret}'}}}}\n"},
    )  # fmt: skip
    records = read_all(str(tmp_path))
    assert len([r for r in records if r.facts]) > 8
    for record in records:
        for fact in record.facts.values():
            assert secret not in json.dumps([fact.key, fact.value, fact.note]), (record.system, fact.key)
        assert secret not in " ".join(record.notes)
