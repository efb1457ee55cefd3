"""Every reader on small records written after the documented formats: older versions, other variants, broken files."""

from __future__ import annotations

import json
import sqlite3
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from reprodebug import api
from reprodebug.foreign.protocol import Record
from reprodebug.foreign.registry import read_all, readers
from reprodebug.model.comparison import Comparison
from reprodebug.report import words


def put(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def facts(folder: Path, system: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for record in read_all(str(folder)):
        if not system or record.system == system:
            found |= {f"{s}:{k}": f.value for (s, k), f in record.facts.items()}
            found |= {f"metrics:{n}": p for n, p in record.series.items()}
    return found


def notes(folder: Path) -> str:
    return " ".join(n for r in read_all(str(folder)) for n in r.notes)


def compared(tmp_path: Path, a: dict[str, str | bytes], b: dict[str, str | bytes]) -> tuple[Comparison, dict[str, tuple[str, str]]]:
    comparison = api.compare(str(put(tmp_path / "a", a)), str(put(tmp_path / "b", b)))
    return comparison, {d.key: (d.a, d.b) for d in comparison.differences if d.severity != "harmless"}


def test_every_reader_has_a_name_and_both_functions() -> None:
    found = readers()
    assert len(found) >= 25
    for module in found:
        assert isinstance(module.NAME, str) and callable(module.find) and callable(module.read)
        assert module.__doc__


def test_an_empty_directory_and_strange_files_are_no_record(tmp_path: Path) -> None:
    put(tmp_path, {"notes.txt": "hello", "data.bin": b"\0\xff" * 100, "x.yaml": "[", "x.json": "{"})
    assert not any(r.facts for r in read_all(str(tmp_path)))


# environments


def test_requirements_in_every_form(tmp_path: Path) -> None:
    text = """\
# a comment
numpy==1.26.4 \\
    --hash=sha256:abc \\
    --hash=sha256:def
Torch_Vision == 0.17.0  # trailing
scipy>=1.11,<2 ; python_version >= "3.9"
-r more.txt
-c limits.txt
-e git+https://git.example/user/tool.git@0123456789abcdef0123456789abcdef01234567#egg=tool
package @ https://files.example/package-2.0-py3-none-any.whl
--index-url https://index.example/simple
this is no requirement ~~~
"""
    put(tmp_path, {"requirements.txt": text, "more.txt": "six==1.16.0\n", "limits.txt": "wheel==0.43.0\n"})
    found = facts(tmp_path, "pip")
    assert found["environment:package/numpy"] == "1.26.4"
    assert found["environment:package/torch-vision"] == "0.17.0"
    assert "1.11" in found["environment:package/scipy"]
    assert found["environment:package/six"] == "1.16.0"
    assert found["environment:package-commit/tool"].startswith("0123456789")
    assert found["environment:package/package"] == "2.0"
    assert "no requirement" in notes(tmp_path)


def test_a_commit_behind_one_version_is_reported(tmp_path: Path) -> None:
    line = "tool @ git+https://git.example/user/tool.git@{}\n"
    _, found = compared(tmp_path, {"requirements.txt": line.format("a" * 40)}, {"requirements.txt": line.format("b" * 40)})
    assert [x[-40:] for x in found["package/tool"]] == ["a" * 40, "b" * 40]


def test_pip_inspect_and_freeze_meet(tmp_path: Path) -> None:
    report = {
        "version": "1", "environment": {"python_full_version": "3.11.7"},
        "installed": [{"metadata": {"name": "NumPy", "version": "1.26.4"}}, {"metadata": {"name": "six", "version": "1.16.0"}}],
    }  # fmt: skip
    comparison, found = compared(tmp_path, {"pip-inspect.json": json.dumps(report)}, {"freeze.txt": "numpy==1.26.4\nsix==1.17.0\n"})
    assert found == {"package/six": ("1.16.0", "1.17.0")}
    assert comparison.causes[0].category == "environment"


def test_conda_builds_and_explicit_lists(tmp_path: Path) -> None:
    meta = {"name": "numpy", "version": "1.26.4", "build": "py311_0", "channel": "https://conda.example/conda-forge/linux-64"}
    explicit = "@EXPLICIT\nhttps://mirror.example/conda-forge/linux-64/numpy-1.26.4-py311_0.conda#0123\n"
    comparison, found = compared(tmp_path, {"env/conda-meta/numpy-1.26.4-py311_0.json": json.dumps(meta)}, {"explicit.txt": explicit})
    assert comparison.verdict == "identical", found
    other = explicit.replace("py311_0", "mkl_py311_0")
    _, found = compared(tmp_path / "2", {"explicit.txt": explicit}, {"explicit.txt": other})
    assert found == {"package/numpy": ("1.26.4=py311_0", "1.26.4=mkl_py311_0")}


def test_conda_yaml_forms(tmp_path: Path) -> None:
    text = "name: x\nchannels: [conda-forge]\ndependencies:\n  - python=3.11\n  - conda-forge::numpy=1.26.4=py_0\n  - pytorch>=2\n  - pip:\n    - einops==0.7\nvariables: {SEED: 3}\n"
    put(tmp_path, {"environment.yml": text})
    found = facts(tmp_path, "conda")
    assert found["environment:package/numpy"] == "1.26.4"
    assert found["environment:package-build/numpy"] == "py_0"
    assert found["environment:package/einops"] == "0.7"
    assert found["environment:python"] == "3.11"
    assert found["environment:env/SEED"] == "3"


def test_pylock_of_two_tools_agree(tmp_path: Path) -> None:
    pip = 'lock-version = "1.0"\ncreated-by = "pip"\n[[packages]]\nname = "six"\nversion = "1.17.0"\n[[packages.wheels]]\nname = "six-1.17.0-py2.py3-none-any.whl"\n'
    uv = 'lock-version = "1.0"\ncreated-by = "uv"\n[[packages]]\nname = "six"\nversion = "1.17.0"\nindex = "https://index.example/simple"\n'
    comparison, found = compared(tmp_path, {"pylock.toml": pip}, {"pylock.toml": uv})
    assert comparison.verdict == "identical", found


def test_lock_files_with_git_sources_and_two_versions(tmp_path: Path) -> None:
    poetry = '[[package]]\nname = "tool"\nversion = "1.0"\n[package.source]\ntype = "git"\nurl = "https://git.example/tool"\nreference = "main"\nresolved_reference = "{}"\n'
    _, found = compared(tmp_path, {"poetry.lock": poetry.format("a" * 40)}, {"poetry.lock": poetry.format("b" * 40)})
    assert found == {"package/tool": (f"1.0 @ {'a' * 40}", f"1.0 @ {'b' * 40}")}
    uv = 'version = 1\n[[package]]\nname = "me"\nversion = "0.1"\nsource = { virtual = "." }\n[[package]]\nname = "tool"\nversion = "1"\nsource = { git = "https://git.example/tool?rev=main#%s" }\n'
    _, found = compared(tmp_path / "2", {"uv.lock": uv % ("c" * 40)}, {"uv.lock": uv % ("d" * 40)})
    assert found == {"package/tool": (f"1 @ {'c' * 40}", f"1 @ {'d' * 40}")}


def test_pyenv_takes_the_first_version(tmp_path: Path) -> None:
    _, found = compared(tmp_path, {".python-version": "# ours\n3.11.7\n3.10.1\n"}, {".python-version": "3.12.1 3.11.7\n"})
    assert found == {"python": ("3.11.7", "3.12.1")}


def test_collect_env_reports(tmp_path: Path) -> None:
    text = """\
PyTorch version: {torch}
Is debug build: False
CUDA used to build PyTorch: 12.1
Python version: 3.11.7 (main, Dec  8 2023, 18:56:58) [GCC 11.2.0] (64-bit runtime)
Nvidia driver version: {driver}
GPU models and configuration:
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-1)
Versions of relevant libraries:
[pip3] numpy==1.26.4
[pip3] torch=={torch}
[conda] blas                      1.0                         mkl
"""
    a, b = text.format(torch="2.2.0", driver="535.1"), text.format(torch="2.3.0", driver="550.2")
    _, found = compared(tmp_path, {"collect_env.txt": a}, {"collect_env.txt": b})
    assert found == {"package/torch": ("2.2.0", "2.3.0"), "driver": ("535.1", "550.2")}


# tracking


def mlflow_files(run: str, lr: str, stage: str = "active", start: int = 1) -> dict[str, str | bytes]:
    base = f"mlruns/0/{run}"
    return {
        f"{base}/meta.yaml": f"run_id: {run}\nlifecycle_stage: {stage}\nstatus: 3\nstart_time: {start}\n",
        f"{base}/params/lr": lr, f"{base}/params/model/depth": "4", f"{base}/metrics/loss": "1 0.5 0\n2 0.25 1\n2 nan 2\n",
        f"{base}/tags/mlflow.source.git.commit": "f" * 40, f"{base}/tags/mlflow.runName": "funny-name", f"{base}/tags/team": "x",
    }  # fmt: skip


def test_mlflow_file_store(tmp_path: Path) -> None:
    a, b = "1" * 32, "2" * 32
    files = mlflow_files(a, "0.1") | mlflow_files("3" * 32, "9", "deleted", 7)
    comparison, found = compared(tmp_path, files, mlflow_files(b, "0.10"))
    assert comparison.verdict == "identical", found
    _, found = compared(tmp_path / "2", files, mlflow_files(b, "0.2"))
    assert found == {"lr": ("0.1", "0.2")}


def test_mlflow_both_stores_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir(parents=True)
    db = sqlite3.connect(tmp_path / "b" / "mlflow.db")
    db.executescript(
        "create table experiments (experiment_id, name);"
        "create table runs (run_uuid, status, start_time, lifecycle_stage); create table params (key, value, run_uuid);"
        "create table metrics (key, value, timestamp, run_uuid, step, is_nan); create table tags (key, value, run_uuid);"
        "insert into runs values ('r1', 'FINISHED', 1, 'active'), ('r2', 'FINISHED', 9, 'deleted'), ('r0', 'FAILED', 5, 'active');"
        "insert into params values ('lr', '0.1', 'r1'), ('model/depth', '4', 'r1'), ('lr', '7', 'r2');"
        "insert into metrics values ('loss', 0.5, 1, 'r1', 0, 0), ('loss', 0.25, 2, 'r1', 1, 0), ('loss', 0, 3, 'r1', 2, 1);"
        f"insert into tags values ('mlflow.source.git.commit', '{'f' * 7}', 'r1'), ('team', 'x', 'r1');"
    )
    db.commit()
    db.close()
    comparison, found = compared(tmp_path, mlflow_files("1" * 32, "0.1"), {})
    assert comparison.verdict == "identical", found


def test_neptune_offline(tmp_path: Path) -> None:
    def log(lr: float) -> str:
        operations = [
            {"obj": {"type": "AssignFloat", "path": ["params", "lr"], "value": lr}, "version": 1},
            {"obj": {"type": "AssignString", "path": ["sys", "id"], "value": "X-1"}, "version": 2},
            {
                "obj": {
                    "type": "LogFloats",
                    "path": ["loss"],
                    "values": [{"value": 1.0, "step": None, "ts": 1}, {"value": lr, "step": 5, "ts": 2}],
                }
            },
        ]
        return "".join(json.dumps(o) for o in operations)

    place = ".neptune/offline/run__aaaa__x"
    _, found = compared(tmp_path, {f"{place}/data-1.log": log(0.1)}, {f"{place}/data-1.log": log(0.2) + '{"obj": {"ty'})
    assert found == {"params/lr": ("0.1", "0.2"), "loss": ("0.1", "0.2")}
    assert "was cut" in notes(tmp_path / "b")


def test_clearml_zip_and_folder(tmp_path: Path) -> None:
    task = {
        "hyperparams": {"Args": {"lr": {"value": "0.1", "type": "float"}, "seed": {"value": "3"}}},
        "configuration": {"model": {"value": 'depth = 4\nblock { width = 8, name = "x" }'}},
        "script": {"version_num": "a" * 40, "requirements": {"pip": "# Python 3.11.7 [GCC]\n\nnumpy == 1.26.4\n"}, "diff": ""},
    }
    metrics = json.dumps([{"type": "training_stats_scalar", "metric": "loss", "variant": "train", "iter": 0, "value": 0.5}]) + "\n"
    put(tmp_path / "a" / "offline-1", {"task.json": json.dumps(task), "metrics.jsonl": metrics})
    (tmp_path / "b").mkdir()
    with zipfile.ZipFile(tmp_path / "b" / "offline-1.zip", "w") as z:
        z.writestr("task.json", json.dumps(task))
        z.writestr("metrics.jsonl", metrics)
    assert facts(tmp_path / "a") == facts(tmp_path / "b")
    found = facts(tmp_path / "a")
    assert found["config:model.block.width"] == 8
    assert found["config:Args/seed"] == 3
    assert found["environment:package/numpy"] == "1.26.4"
    assert found["metrics:loss/train"] == {0: 0.5}
    del task["script"]
    put(tmp_path / "c" / "offline-1", {"task.json": json.dumps(task)})
    assert "no script section" in notes(tmp_path / "c")


def event(payload: bytes) -> bytes:
    from reprodebug.foreign._wire import masked_crc

    head = struct.pack("<Q", len(payload))
    return head + struct.pack("<I", masked_crc(head)) + payload + struct.pack("<I", masked_crc(payload))


def field(number: int, value: bytes | int | float) -> bytes:
    def varint(n: int) -> bytes:
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])

    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(value)


def scalar(tag: str, step: int, value: float, *, tensor: bool = False) -> bytes:
    body = field(1, tag.encode())
    body += field(8, field(1, 1) + field(4, struct.pack("<f", value))) if tensor else field(2, value)
    return event(field(2, step) + field(5, field(1, body)))


def test_tensorboard_scalars_of_both_kinds_meet(tmp_path: Path) -> None:
    a = b"".join(scalar("loss", s, 1.0 / (s + 1)) for s in range(3))
    b = b"".join(scalar("loss", s, 1.0 / (s + 1), tensor=True) for s in range(3))
    comparison, found = compared(tmp_path, {"events.out.tfevents.1.h.1.0": a}, {"events.out.tfevents.1.h.1.0": b})
    assert comparison.verdict == "identical", found
    # a later file wins, and a cut record is tolerated
    put(tmp_path / "b", {"events.out.tfevents.2.h.1.0": scalar("loss", 2, 9.0) + scalar("loss", 3, 1.0)[:-6]})
    found = {d.key: (d.a, d.b) for d in api.compare(str(tmp_path / "a"), str(tmp_path / "b")).differences}
    assert found["loss"][1] == "9.0"
    assert "was cut" in notes(tmp_path / "b")


def wandb_log(config: dict[str, Any], losses: list[float]) -> bytes:
    import zlib

    def record(payload: bytes, at: int) -> bytes:
        out = b""
        first = True
        while True:
            left = 32768 - (at + len(out)) % 32768
            if left < 7:
                out += b"\0" * left
                continue
            part, payload = payload[: left - 7], payload[left - 7 :]
            kind = (1 if not payload else 2) if first else (4 if not payload else 3)
            first = False
            out += struct.pack("<IHB", zlib.crc32(part, zlib.crc32(bytes([kind]))), len(part), kind) + part
            if not payload:
                return out

    items = [field(1, field(1, k.encode()) + field(16, json.dumps(v).encode())) for k, v in config.items()]
    out = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
    out += record(field(17, field(4, b"".join(items)) + field(21, field(2, b"abc" * 13))), len(out))
    for step, loss in enumerate(losses):
        item = field(1, b"loss") + field(16, json.dumps(loss).encode())
        out += record(field(2, field(1, item) + field(2, field(1, step))), len(out))
    return out


def test_wandb_log_with_long_records_and_a_cut(tmp_path: Path) -> None:
    place = "wandb/offline-run-20250101_000000-abc/run-abc.wandb"
    big = {"lr": 0.1, "opt": {"name": "sgd", "betas": [0.9, 0.99]}, "text": "x" * 70000}
    whole = wandb_log(big, [0.5, 0.25, 0.125])
    put(tmp_path, {place: whole})
    found = facts(tmp_path)
    assert found["config:opt.name"] == "sgd"
    assert found["metrics:loss"] == {0: 0.5, 1: 0.25, 2: 0.125}
    put(tmp_path / "cut", {place: whole[:-10]})
    assert facts(tmp_path / "cut")["metrics:loss"] == {0: 0.5, 1: 0.25}
    assert "was cut" in notes(tmp_path / "cut")


def test_wandb_old_files(tmp_path: Path) -> None:
    run = "wandb/run-20210101_000000-abc/files"
    config = "wandb_version: 1\nlr:\n  desc: null\n  value: 0.1\n_wandb:\n  desc: null\n  value:\n    python_version: 3.7.9\n"
    put(tmp_path, {f"{run}/config.yaml": config, f"{run}/wandb-summary.json": '{"loss": 0.5, "_step": 9}', f"{run}/requirements.txt": "numpy==1.19.5\n",
                   f"{run}/wandb-metadata.json": '{"git": {"commit": "' + "a" * 40 + '"}, "args": ["--lr", "0.1"]}'})  # fmt: skip
    found = facts(tmp_path, "Weights & Biases")
    assert found["config:lr"] == 0.1
    assert found["environment:python"] == "3.7.9"
    assert found["code:git_commit"] == "a" * 40
    assert found["metrics:loss"] == {0: 0.5}


# configuration


def test_hydra_interpolation_shows_the_cause_first(tmp_path: Path) -> None:
    def job(lr: str) -> dict[str, str | bytes]:
        config = f"optimizer: {{lr: {lr}, twice: '${{.lr}}'}}\nlog: '${{oc.env:HOME,x}}/run'\nname: m-${{optimizer.lr}}\nmissing: ???\n"
        return {
            ".hydra/config.yaml": config,
            ".hydra/overrides.yaml": f"- optimizer.lr={lr}\n",
            ".hydra/hydra.yaml": "hydra: {runtime: {version: 1.3.2}}\n",
        }

    comparison, found = compared(tmp_path, job("0.1"), job("0.2"))
    assert found["optimizer.lr"] == ("0.1", "0.2")
    assert found["optimizer.twice"] == ("0.1", "0.2")
    keys = [d.key for d in comparison.differences]
    assert keys.index("optimizer.lr") < keys.index("optimizer.twice")
    assert next(d for d in comparison.differences if d.key == "optimizer.twice").reason == "follows from optimizer.lr"
    assert "log" not in found and "missing" not in found
    assert "depends on the environment" in notes(tmp_path / "a")


def test_hydra_multirun_jobs_are_told_apart(tmp_path: Path) -> None:
    def sweep(lr: str) -> dict[str, str | bytes]:
        base = "multirun/2025-01-01/00-00-00"
        return {f"{base}/multirun.yaml": "x: 1\n"} | {
            f"{base}/{n}/.hydra/{name}.yaml": text
            for n, value in (("0", "1"), ("1", lr))
            for name, text in (("config", f"lr: {value}\n"), ("overrides", f"- lr={value}\n"), ("hydra", "hydra: {}\n"))
        }

    _, found = compared(tmp_path, sweep("2"), sweep("3"))
    assert {k: v for k, v in found.items() if "overrides" not in k} == {"1.lr": ("2", "3")}


def test_configurations_mean_the_same_in_every_writing(tmp_path: Path) -> None:
    yaml = "SOLVER:\n  BASE_LR: 0.0010\n  STEPS: (1000, 2000)\n  GAMMA: 1e-1\nSEED: 3\n"
    as_json = json.dumps({"SEED": 3, "SOLVER": {"GAMMA": 0.1, "STEPS": [1000, 2000], "BASE_LR": 1e-3}})
    comparison, found = compared(tmp_path, {"config.yaml": yaml}, {"config.json": as_json})
    assert comparison.verdict == "identical", found


def test_yacs_bases_come_first(tmp_path: Path) -> None:
    base = "SOLVER: {LR: 0.1, STEPS: 3}\n"
    _, found = compared(
        tmp_path, {"configs/base.yaml": base, "configs/run.yaml": "_BASE_: base.yaml\nSOLVER: {LR: 0.2}\n"},
        {"configs/base.yaml": base, "configs/run.yaml": "_BASE_: base.yaml\nSOLVER: {LR: 0.3}\n"},
    )  # fmt: skip
    assert list(found.values()) == [("0.2", "0.3")]


def test_secrets_of_dotenv_files_never_appear(tmp_path: Path) -> None:
    comparison, found = compared(
        tmp_path, {".env": "API_KEY=topsecret1\nSEED='1'\n"}, {".env": 'export API_KEY="topsecret2"\nSEED=1 # one\n'}
    )  # fmt: skip
    text = json.dumps(comparison.to_json())
    assert "topsecret" not in text
    assert list(found) == ["env/API_KEY"]


def test_ml_collections_writings_agree(tmp_path: Path) -> None:
    tagged = """\
!!python/object:ml_collections.config_dict.config_dict.ConfigDict
_fields:
  lr: &id1 !!python/object:ml_collections.config_dict.config_dict.FieldReference
    _field_type: !!python/name:builtins.float ''
    _ops: []
    _required: false
    _value: 0.1
  opt: !!python/object:ml_collections.config_dict.config_dict.ConfigDict
    _fields:
      lr: *id1
      steps: !!python/tuple [1, 2]
    _locked: true
_locked: true
_type_safe: true
"""
    plain = "lr: 0.1\nopt:\n  lr: 0.1\n  steps: !!python/tuple\n  - 1\n  - 2\n"
    comparison, found = compared(tmp_path, {"config.yaml": tagged}, {"config.yaml": plain})
    assert comparison.verdict == "identical", found
    assert not any("_fields" in k or "_locked" in k for k in facts(tmp_path / "a"))


# data, code, documents


def test_dvc_imports_foreach_and_directories(tmp_path: Path) -> None:
    def project(digest: str) -> dict[str, str | bytes]:
        listing = json.dumps([{"md5": digest, "relpath": "1.png"}, {"md5": "b" * 32, "relpath": "2.png"}])
        return {
            "data.dvc": f"outs:\n- md5: {digest}.dir\n  nfiles: 2\n  path: data\n",
            f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}.dir": listing,
            "model.dvc": "deps:\n- path: m\n  repo: {url: https://git.example/m, rev: v1, rev_lock: " + digest + "}\nouts:\n- {md5: " + "c" * 32 + ", path: model}\n",
            "dvc.lock": "schema: '2.0'\nstages:\n  train@one:\n    cmd: python t.py\n    deps:\n    - {path: data, md5: " + digest + ".dir}\n    outs:\n    - {path: out.bin, hash: md5, md5: " + digest + "}\n  still:\n    cmd: x\n    outs:\n    - {path: luck.bin, md5: " + digest + "}\n",
        }  # fmt: skip

    comparison, found = compared(tmp_path, project("a" * 32), project("d" * 32))
    assert found["data/1.png"] == ("a" * 32, "d" * 32)
    assert "data/2.png" not in found
    reasons = {d.key: d.reason for d in comparison.differences}
    assert reasons["model/import.rev_lock"].startswith("another revision with the same data")
    assert reasons["out.bin"] == "follows from data" and reasons["data/1.png"] == "follows from data"
    assert not reasons["luck.bin"].startswith("follows"), "a stage that gives something else of the same inputs is no consequence"


def test_lakefs_branches_are_flagged(tmp_path: Path) -> None:
    reference = "src: lakefs://repo/main/data/\nat_head: {}\n"
    _, found = compared(
        tmp_path, {"data/.lakefs_ref.yaml": reference.format("a" * 64)}, {"data/.lakefs_ref.yaml": reference.format("b" * 64)}
    )
    assert list(found.values()) == [("a" * 64, "b" * 64)]
    put(tmp_path / "c", {"config.yaml": "data: lakefs://repo/main/train.csv\n"})
    assert "not pinned" in notes(tmp_path / "c")


def test_pachyderm_jobs(tmp_path: Path) -> None:
    def job(commit: str, image: str) -> str:
        return json.dumps(
            {"job": {"pipeline": {"name": "train"}, "id": commit[::-1]}, "pipelineVersion": "3",
             "details": {"transform": {"image": image, "cmd": ["python", "t.py"]},
                         "input": {"cross": [{"pfs": {"repo": "images", "commit": commit, "glob": "/*"}}, {"pfs": {"repo": "labels", "commit": "same"}}]}}}
        )  # fmt: skip

    _, found = compared(tmp_path, {"job.json": job("a1", "x@sha256:1")}, {"job.json": job("b2", "x@sha256:2")})
    assert found == {"input/images": ("a1", "b2"), "pipeline/train/image": ("x@sha256:1", "x@sha256:2")}


def test_delta_tables(tmp_path: Path) -> None:
    schema = json.dumps({"fields": [{"name": "x", "type": "long"}]})
    first = (
        json.dumps({"metaData": {"schemaString": schema}}) + "\n" + json.dumps({"add": {"path": "1", "stats": '{"numRecords": 3}'}}) + "\n"
    )
    second = json.dumps({"remove": {"path": "1"}}) + "\n" + json.dumps({"add": {"path": "2", "stats": '{"numRecords": 5}'}}) + "\n"
    log = {f"t/_delta_log/{0:020d}.json": first}
    _, found = compared(tmp_path, log, log | {f"t/_delta_log/{1:020d}.json": second})
    assert found["t"] == ("0", "1") and found["t rows"] == ("3", "5")


def test_checklists_read_answers_and_not_their_explanations(tmp_path: Path) -> None:
    def paper(answer: str) -> str:
        return (
            "\\item {\\bf Claims}\n\\item[] Question: Do they?\n\\item[] Answer: \\answer" + answer + "{} % \\answerNo{}\n\\item[] Justification: yes\n"
            "\\item[] Guidelines: the answer \\answerNA{} means that there are none.\n"
        )  # fmt: skip

    _, found = compared(tmp_path, {"checklist.tex": paper("Yes")}, {"checklist.tex": paper("TODO")})
    assert found == {"checklist/Claims": ("Yes", "TODO")}


def test_reproduce_documents(tmp_path: Path) -> None:
    text = "# REPRODUCE\n- Python 3.11\n- `pip install torch=={} numpy==1.26.4`\n```bash\npython train.py --seed {}\n```\n| metric | value | tolerance |\n|--|--|--|\n| acc | {} | 0.01 |\n"
    _, found = compared(tmp_path, {"REPRODUCE.md": text.format("2.3.1", 1, "0.9")}, {"REPRODUCE.md": text.format("2.4.0", 2, "91%")})
    assert found["package/torch"] == ("2.3.1", "2.4.0")
    assert found["acc"] == ("0.9", "0.91")
    assert found["command 1"] == ("python train.py --seed 1", "python train.py --seed 2")


def test_random_states_of_transformers(tmp_path: Path) -> None:
    import numpy as np
    import torch

    def state(draws: int) -> dict[str, Any]:
        generator = np.random.RandomState(0)
        generator.rand(draws)
        return {"python": (3, tuple(range(625)), None), "numpy": generator.get_state(), "cpu": torch.Generator().manual_seed(1).get_state()}

    for side, draws in (("a", 1), ("b", 2)):
        (tmp_path / side / "checkpoint-10").mkdir(parents=True)
        torch.save(state(draws), tmp_path / side / "checkpoint-10" / "rng_state.pth")
    comparison = api.compare(str(tmp_path / "a"), str(tmp_path / "b"))
    assert [d.key for d in comparison.differences] == ["rng/numpy"]
    assert comparison.causes[0].category == "random-state"


# joining


def test_a_run_of_ours_meets_a_lock_file(tmp_path: Path) -> None:
    sample = Path(__file__).resolve().parents[2] / "sample_runs" / "identical" / "a"
    put(tmp_path, {"requirements.txt": "numpy==1.0.0\ntinyaug==9\n"})
    comparison = api.compare(str(sample), str(tmp_path))
    found = {d.key: (d.a, d.b) for d in comparison.differences if d.severity != "harmless"}
    assert found["package/numpy"][1] == "1.0.0"
    assert not any(d.b == "(absent)" for d in comparison.differences), "an incomplete list does not know what it leaves out"
    assert [words.recorded(side) for side in (comparison.a, comparison.b)] == ["records of reprodebug", "records of pip"]


def test_unknown_is_not_equal(tmp_path: Path) -> None:
    comparison, _ = compared(tmp_path, {"config.yaml": "lr: 1\n"}, {"requirements.txt": "numpy==1\n"})
    assert comparison.verdict == "incomparable"
    assert "configuration: recorded by A alone" in " ".join(comparison.not_recorded)


def test_one_record_names_its_place(tmp_path: Path) -> None:
    record = Record("x", "y")
    record.add("config", "token", "hunter2hunter2", "f")
    assert "hunter2" not in str(record.facts["config", "token"].value)
    with pytest.raises(ValueError, match="no section"):
        record.add("weather", "x", 1, "f")


def test_many_facts_and_points_are_compared_quickly(tmp_path: Path) -> None:
    from reprodebug.compare.joined import join
    from reprodebug.compare.records import compare_records

    sides = []
    for n in range(2):
        record = Record("x", "y")
        for k in range(10_000):
            record.add("config", f"p{k}", k + (n if k == 7 else 0), "f")
        record.series["loss"] = dict.fromkeys(range(100_000), 0.5) | {99_000: 0.5 + n}
        sides.append(join("p", [record]))
    found = compare_records(*sides)
    assert {d.key for d in found.differences} == {"p7", "loss"}
    assert (
        next(d for d in found.differences if d.key == "loss").reason
        == "first differs at step 99000: 0.5 in A, 1.5 in B; the last values are equal"
    )


# what the bulk readers, the choice of runs and the extras must hold


def test_event_files_read_in_bulk_say_what_record_by_record_reading_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops that begin, change their tags and steps that grow over the widths of a varint: rounds taken at once lose and invent nothing."""
    import random

    from reprodebug.foreign import tensorboard

    rng = random.Random(1)
    data, truth = b"", {}
    for step in range(0, 40_000, 7):
        for tag in ["loss", "acc"] + (["lr"] if 9_000 < step < 20_000 else []) + (["odd"] if rng.random() < 0.002 else []):
            value = struct.unpack("<f", struct.pack("<f", rng.random()))[0]
            wall = field(1, b"")[:0] + b"\x09" + struct.pack("<d", rng.random())
            data += event(wall + field(2, step) + field(5, field(1, field(1, tag.encode()) + field(2, value))))
            truth.setdefault(tag, {})[step] = value
    put(tmp_path, {"events.out.tfevents.1.h.1.0": data})
    taken: list[int] = []
    inner = tensorboard._rounds
    monkeypatch.setattr(tensorboard, "_rounds", lambda *a: taken.append(inner(*a)) or taken[-1])
    found = {k[8:]: v for k, v in facts(tmp_path).items() if k.startswith("metrics:")}
    assert found == truth
    assert sum(taken) > len(data) // 2, "most of it was read in bulk"


def test_wandb_histories_that_change_their_keys(tmp_path: Path) -> None:
    from reprodebug.foreign import _wire, wandb

    log = wandb_log({"lr": 1}, [n / 7 for n in range(50)])
    put(tmp_path, {"wandb/offline-run-20250101_000000-abc/run-abc.wandb": log})
    assert facts(tmp_path)["metrics:loss"] == {n: n / 7 for n in range(50)}
    history = wandb._History(Record("x", "y"))
    raws = [r for r in _wire.leveldb_records(log, 7) if r[:1] == b"\x12"]
    assert [history.take(r) for r in raws] == [None, *range(1, 50)], "the first one teaches the layout"


def test_a_run_of_several_can_be_named(tmp_path: Path) -> None:
    a, b = "1" * 32, "2" * 32
    put(tmp_path / "both", mlflow_files(a, "0.1", start=1) | mlflow_files(b, "0.2", start=9))
    both = str(tmp_path / "both")
    assert [(d.a, d.b) for d in api.compare(f"{both}#111", f"{both}#2222").differences] == [("0.1", "0.2")]
    assert api.compare(f"{both}/mlruns/0/{a}", f"{both}#{a}").verdict == "identical"
    with pytest.raises(Exception, match="holds no run 77"):
        api.compare(f"{both}#77", both)


def test_installed_files_that_were_edited_are_found_by_their_record(tmp_path: Path) -> None:
    import base64
    import hashlib

    def environment(body: str) -> dict[str, str | bytes]:
        site = ".venv/lib/python3.11/site-packages"
        digest = base64.urlsafe_b64encode(hashlib.sha256(b"x = 1\n").digest()).rstrip(b"=").decode()
        return {
            ".venv/pyvenv.cfg": "version = 3.11.7\n", f"{site}/tool/core.py": body, f"{site}/tool-1.0.dist-info/METADATA": "Name: tool\nVersion: 1.0\n\n",
            f"{site}/tool-1.0.dist-info/RECORD": f"tool/core.py,sha256={digest},6\ntool/gone.py,sha256={digest},6\ntool-1.0.dist-info/RECORD,,\n",
        }  # fmt: skip

    comparison, found = compared(tmp_path, environment("x = 1\n"), environment("x = 2\n"))
    assert found["package/tool"][0] == "1.0" and "edited: tool/core.py" in found["package/tool"][1]
    assert len(comparison.causes) == 1 and "gone.py" not in json.dumps(comparison.to_json())


def test_locks_tell_other_bytes_and_the_selected_branch(tmp_path: Path) -> None:
    poetry = '[[package]]\nname = "tool"\nversion = "1.0"\ngroups = ["dev"]\nfiles = [{{file = "t.whl", hash = "sha256:{}"}}]\n[metadata]\nlock-version = "2.1"\ncontent-hash = "{}"\n'
    comparison, found = compared(tmp_path, {"poetry.lock": poetry.format("aa", "1")}, {"poetry.lock": poetry.format("bb", "2")})
    assert found == {"package/tool": ("1.0 (sha256:aa)", "1.0 (sha256:bb)")}
    assert comparison.differences[0].reason.startswith("the same version, other bytes")
    _, found = compared(
        tmp_path / "2", {"poetry.lock": poetry.format("aa", "1")}, {"poetry.lock": poetry.replace('"1.0"', '"1.1"').format("bb", "2")}
    )
    assert found == {"package/tool": ("1.0", "1.1")}
    old = '[[package]]\nname = "tool"\nversion = "{}"\ncategory = "main"\n[metadata]\nlock-version = "1.1"\n[metadata.files]\ntool = [{{file = "t.whl", hash = "sha256:aa"}}]\n'
    comparison, _ = compared(tmp_path / "3", {"poetry.lock": old.format("1")}, {"poetry.lock": old.format("2")})
    assert "group main" in comparison.differences[0].reason
    uv = 'version = 1\nrequires-python = ">=3.10"\n' + "".join(
        f'[[package]]\nname = "tool"\nversion = "{v}"\nresolution-markers = ["{m}"]\n'
        for v, m in (("1.{}", "python_full_version < '3.11'"), ("2.{}", "python_full_version >= '3.11'"))
    )
    files = [{"uv.lock": uv.format(x, y), ".python-version": "3.12\n"} for x, y in ((0, 0), (0, 1), (1, 1))]
    assert compared(tmp_path / "4", files[0], files[1])[1] == {"package/tool": ("2.0", "2.1")}
    comparison, found = compared(tmp_path / "5", files[1], files[2])
    assert not found and not comparison.causes and comparison.verdict == "identical"


def test_what_both_sides_do_not_write_alike_is_no_consequence(tmp_path: Path) -> None:
    def config(lr: str, warm: str) -> dict[str, str | bytes]:
        return {"config.yaml": f"lr: {lr}\nwarm: {warm}\n"}

    comparison, _ = compared(tmp_path, config("0.1", "${lr}"), config("0.2", "0.7"))
    assert not any(d.reason.startswith("follows") for d in comparison.differences)


def test_states_of_other_seeds_have_an_unknown_distance(tmp_path: Path) -> None:
    import torch

    for side, seed in (("a", 1), ("b", 2)):
        (tmp_path / side).mkdir()
        torch.save({"cpu": torch.Generator().manual_seed(seed).get_state()}, tmp_path / side / "rng_state.pth")
    (difference,) = api.compare(str(tmp_path / "a"), str(tmp_path / "b")).differences
    assert difference.key == "rng/torch" and "not known: the states come from different seeds" in difference.reason


def test_exports_of_neptune(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    columns = "project_id, run_id, attribute_path, attribute_type, step, int_value, float_value, string_value, bool_value"
    for side, lr in (("a", 0.1), ("b", 0.2)):
        folder = tmp_path / side / "exports" / "data" / "w_toy_1234"
        folder.mkdir(parents=True)
        rows = [
            f"('w/toy', 'R-{side}', 'params/lr', 'float', null, null, {lr}, null, null)", f"('w/toy', 'R-{side}', 'params/n', 'int', null, 3, null, null, null)",
            f"('w/toy', 'R-{side}', 'sys/id', 'string', null, null, null, 'R-{side}', null)",
            *(f"('w/toy', 'R-{side}', 'loss', 'float_series', {n}, null, {lr if n > 1 else n}, null, null)" for n in range(4)),
        ]  # fmt: skip
        where = str(folder / f"R-{side}_part_0.parquet")
        duckdb.sql(
            f"copy (select * replace (step::decimal(18, 6) as step, float_value::double as float_value) from (values {', '.join(rows)}) t({columns})) to '{where}' (format parquet)"
        )
    comparison = api.compare(str(tmp_path / "a"), str(tmp_path / "b"))
    assert {d.key: d.reason for d in comparison.differences if d.section == "metrics"} == {"loss": "first differs at step 2"}
    assert {d.key for d in comparison.differences if d.section != "metrics"} == {"params/lr"}


@pytest.mark.parametrize(("module", "system", "extra"), [("rocksdict", "aim-killed", "reprodebug[aim]")])
def test_a_missing_extra_is_named(module: str, system: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, module, None)
    said = " ".join(n for r in read_all(str(Path(__file__).parent / "records" / system / "a")) for n in r.notes)
    assert extra in said
