"""What pairs of the real tools have in common and hand-written pairs often have not: nested runs, killed runs, branches, sources that
know different things, names of the time. Small, by form; each of them was reported wrongly once."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from reprodebug import api
from tests.foreign.test_systems import compared, event, field, mlflow_files, notes, put, scalar, wandb_log

# runs


def nested(store: Path, lr: float, name: str) -> None:
    store.mkdir(parents=True)
    with sqlite3.connect(store / "mlflow.db") as db:
        db.executescript(
            "create table experiments (experiment_id, name); create table runs (run_uuid, status, start_time, lifecycle_stage);"
            "create table params (key, value, run_uuid); create table tags (key, value, run_uuid);"
            "create table metrics (key, value, timestamp, run_uuid, step, is_nan);"
            "insert into runs values ('p', 'FINISHED', 1, 'active'), ('c0', 'FINISHED', 2, 'active'), ('c1', 'FINISHED', 3, 'active');"
            f"insert into params values ('lr', '{lr}', 'p'), ('lr', '7', 'c0'), ('lr', '{lr * 10}', 'c1');"
            "insert into metrics values ('loss', 0.5, 1, 'c1', 0, 0), ('system/cpu', 0.5, 1, 'p', 0, 0);"
            f"insert into tags values ('mlflow.parentRunId', 'p', 'c0'), ('mlflow.parentRunId', 'p', 'c1'), ('mlflow.runName', '{name}', 'c1');"
        )
    db.close()


def test_runs_nested_in_another_are_read_with_it_and_not_in_its_stead(tmp_path: Path) -> None:
    nested(tmp_path / "a", 0.1, "agile-fox-12")
    nested(tmp_path / "b", 0.2, "wise-owl-7")
    found = {d.key: (d.a, d.b) for d in api.compare(str(tmp_path / "a"), str(tmp_path / "b")).differences}
    assert found == {"lr": ("0.1", "0.2"), "nested 1/lr": ("1.0", "2.0")}


def test_nested_runs_of_both_stores_meet(tmp_path: Path) -> None:
    parent, child = "1" * 32, "2" * 32
    nested(tmp_path / "a", 0.1, "fast")
    files = mlflow_files(parent, "0.1", start=1) | mlflow_files(child, "1.0", start=9)
    tags = {f"mlruns/0/{child}/tags/mlflow.parentRunId": parent, f"mlruns/0/{child}/tags/mlflow.runName": "fast"}
    put(tmp_path / "b", files | tags)
    comparison = api.compare(str(tmp_path / "a"), str(tmp_path / "b"))
    assert "lr" not in {d.key for d in comparison.differences}
    assert api.compare(f"{tmp_path}/b#{child}", f"{tmp_path}/b#{child}").verdict == "identical"


def test_a_killed_run_is_compared_as_far_as_it_goes(tmp_path: Path) -> None:
    place = "wandb/offline-run-20250101_000000-abc/run-abc.wandb"
    ended = field(18, field(1, 0))
    import struct
    import zlib

    def with_end(log: bytes) -> bytes:
        return log + struct.pack("<IHB", zlib.crc32(ended, zlib.crc32(b"\1")), len(ended), 1) + ended

    whole = wandb_log({"lr": 0.1}, [0.5, 0.25, 0.125])
    put(tmp_path / "a", {place: with_end(whole)})
    put(tmp_path / "b", {place: wandb_log({"lr": 0.1}, [0.5, 0.25])})
    comparison = api.compare(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (comparison.a.complete, comparison.b.complete) == (True, False)
    assert comparison.verdict == "identical" and "B did not end or was cut" in comparison.reason
    assert [d.severity for d in comparison.differences] == ["harmless"]
    # what stands behind the cut is not known to be absent
    put(tmp_path / "c", {place: whole[:40], place.replace("run-abc.wandb", "files/requirements.txt"): "numpy==1.0\n"})
    assert api.compare(str(tmp_path / "a"), str(tmp_path / "c")).verdict != "divergent"
    # a run that ended with fewer steps is another run
    put(tmp_path / "d", {place: with_end(wandb_log({"lr": 0.1}, [0.5, 0.25]))})
    assert api.compare(str(tmp_path / "a"), str(tmp_path / "d")).verdict == "divergent"


def test_neptune_says_which_operations_were_lost(tmp_path: Path) -> None:
    def log(*rows: dict[str, Any]) -> str:
        return "".join(json.dumps({"obj": r, "version": n + 1}) for n, r in enumerate(rows))

    lr = {"type": "AssignFloat", "path": ["lr"], "value": 0.1}
    extra = [{"type": "AssignInt", "path": ["last"], "value": 1}, {"type": "AssignDatetime", "path": ["when"], "value": 17}]
    place = ".neptune/offline/run__{}__x"
    a = {f"{place.format('b')}/data-1.log": log(lr, *extra), f"{place.format('b')}/last_put_version": "3"}
    old = {
        f"{place.format('z')}/data-1.log": log({**lr, "value": 9.0}),
        f"{place.format('z')}/metadata.json": '{"createdAt": "2024-01-01"}',
    }
    new = {f"{place.format('b')}/metadata.json": '{"createdAt": "2025-01-01"}'}
    cut = {f"{place.format('b')}/data-1.log": log(lr), f"{place.format('b')}/last_put_version": "3"}
    comparison, found = compared(tmp_path, a | new, cut | old | new)
    assert found == {} and not comparison.b.complete
    assert "1 of 3 operations" in notes(tmp_path / "b")
    _, found = compared(tmp_path / "2", a, {k: v.replace("17", "18") for k, v in a.items()})
    assert found == {}, "a date is no setting"


def test_folders_that_are_named_after_the_time_are_the_same_in_the_next_run(tmp_path: Path) -> None:
    def run(stamp: str, layout: str) -> dict[str, str | bytes]:
        text = (
            field(1, b"custom_scalars__config__")
            + field(9, field(1, field(1, b"custom_scalars")))
            + field(8, field(1, 7) + field(8, layout.encode()))
        )
        main = scalar("loss", 0, 0.5) + event(field(2, 0) + field(5, field(1, text)))
        return {f"runs/e/events.out.tfevents.{stamp}.h": main, f"runs/e/{stamp}.25/events.out.tfevents.{stamp}.h": scalar("loss", 0, 0.75)}

    comparison, found = compared(tmp_path, run("1795618549", "x"), run("1795618999", "y"))
    assert comparison.verdict == "identical", found


# packages


def test_one_of_the_branches_of_a_lock_is_what_was_installed(tmp_path: Path) -> None:
    def lock(*versions: str, python: str = ">=3.9") -> dict[str, str | bytes]:
        rows = "".join(f'[[package]]\nname = "numpy"\nversion = "{v}"\noptional = false\n' for v in versions)
        return {"poetry.lock": f'{rows}[metadata]\nlock-version = "2.0"\npython-versions = "{python}"\n'}

    _, found = compared(tmp_path / "1", lock("1.24.4", "1.26.4"), lock("1.24.4", "1.26.3"))
    assert found == {"package/numpy": ("1.26.4", "1.26.3")}
    comparison, found = compared(tmp_path / "2", lock("1.24.4", "1.26.4"), {"pip-freeze.txt": "numpy==1.26.4\n"})
    assert comparison.verdict == "identical", found
    _, found = compared(tmp_path / "3", lock("1.24.4", "1.26.4"), {"pip-freeze.txt": "numpy==2.0.0\n"})
    assert found == {"package/numpy": ("1.24.4 or 1.26.4", "2.0.0")}


@pytest.mark.parametrize(("python", "expected"), [("3.11\n", "harmless"), ("", "critical")])
def test_a_branch_that_may_be_used_is_told_where_the_python_is_not_known(python: str, expected: str, tmp_path: Path) -> None:
    def lock(low: str) -> dict[str, str | bytes]:
        rows = f'[[package]]\nname = "numpy"\nversion = "{low}"\nresolution-markers = ["python_full_version < \'3.11\'"]\n'
        rows += '[[package]]\nname = "numpy"\nversion = "2.1.0"\nresolution-markers = ["python_full_version >= \'3.11\'"]\n'
        return {"uv.lock": f'version = 1\nrequires-python = ">=3.9"\n{rows}'} | ({".python-version": python} if python else {})

    put(tmp_path / "a", lock("1.24.0"))
    put(tmp_path / "b", lock("1.25.0"))
    assert {d.severity for d in api.compare(str(tmp_path / "a"), str(tmp_path / "b")).differences} == {expected}


def test_a_package_that_was_rebuilt_under_its_version_is_told(tmp_path: Path) -> None:
    def environment(body: str, tag: str, folder: str) -> dict[str, str | bytes]:
        site = ".venv/lib/python3.11/site-packages"
        digest = base64.urlsafe_b64encode(hashlib.sha256(body.encode()).digest()).rstrip(b"=").decode()
        pth = base64.urlsafe_b64encode(hashlib.sha256(folder.encode()).digest()).rstrip(b"=").decode()
        record = f"tool/core.py,sha256={digest},6\n../../../bin/tool,sha256={pth},9\ntool-1.0.dist-info/WHEEL,sha256={pth},1\n"
        return {
            ".venv/pyvenv.cfg": "version = 3.11.7\n", f"{site}/tool/core.py": body, f"{site}/tool-1.0.dist-info/METADATA": "Name: tool\nVersion: 1.0\n\n",
            f"{site}/tool-1.0.dist-info/RECORD": record, f"{site}/tool-1.0.dist-info/WHEEL": f"Tag: {tag}\n",
        }  # fmt: skip

    comparison, found = compared(tmp_path, environment("x = 1\n", "py3-none-any", "/a"), environment("x = 2\n", "py3-none-any", "/b"))
    assert list(found) == ["package/tool"] and "other files" in comparison.differences[0].reason
    comparison, found = compared(tmp_path / "2", environment("x = 1\n", "py3-none-any", "/a"), environment("x = 1\n", "py3-none-any", "/b"))
    assert comparison.verdict == "identical", found


CONDA = [("numpy", "1.26.4", "py311h64a7726_0"), ("pytorch", "2.1.2", "py3.11_cpu_0"), ("libblas", "3.9.0", "22_linux64_mkl")]


def conda_meta() -> dict[str, str | bytes]:
    return {f"conda-meta/{n}-{v}-{b}.json": json.dumps({"name": n, "version": v, "build": b}) for n, v, b in CONDA}


def test_conda_meets_pip_by_what_each_can_know(tmp_path: Path) -> None:
    comparison, found = compared(tmp_path, conda_meta(), {"pip-freeze.txt": "numpy==1.26.4\ntorch==2.1.2\nextra==1.0\n"})
    assert comparison.verdict == "identical", found
    assert "does not say what pip installed" in notes(tmp_path / "a")
    yml = "channels: [x]\ndependencies:\n" + "".join(f"  - {n}={v}={b}\n" for n, v, b in CONDA) + "  - pip:\n      - einops==0.7.0\n"
    comparison, found = compared(tmp_path / "2", conda_meta(), {"environment.yml": yml})
    assert comparison.verdict == "identical", found
    _, found = compared(tmp_path / "3", conda_meta(), {"pip-freeze.txt": "torch==2.1.2\n"})
    assert found == {"package/numpy": ("1.26.4", "(absent)")}


def test_a_lock_that_changed_is_told_where_the_installation_did_not(tmp_path: Path) -> None:
    def project(locked: str) -> dict[str, str | bytes]:
        lock = f'version = 1\n[[package]]\nname = "numpy"\nversion = "{locked}"\n'
        return {"uv.lock": lock, "wandb/run-20250101_000000-x/files/requirements.txt": "numpy==1.0\n", "wandb/run-20250101_000000-x/files/config.yaml": "a: {value: 1}\n"}  # fmt: skip

    put(tmp_path / "a", project("1.0"))
    put(tmp_path / "b", project("2.0"))
    comparison = api.compare(str(tmp_path / "a"), str(tmp_path / "b"))
    assert [(d.key, d.a, d.b, d.severity) for d in comparison.differences] == [("package/numpy", "1.0", "2.0", "harmless")]
    assert comparison.verdict == "identical"


# sources of one system


def test_sources_of_one_system_are_not_held_against_each_other(tmp_path: Path) -> None:
    driver = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version:  gcc 12.2.0\n"
    library = "/usr/lib/libcuda.so.535.104.05"
    cdi = f"cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices: []\ncontainerEdits:\n  mounts:\n  - {{containerPath: {library}, hostPath: {library}}}\n"
    comparison, found = compared(tmp_path, {"proc/driver/nvidia/version": driver}, {"etc/cdi/nvidia.yaml": cdi})
    assert comparison.verdict == "identical", found

    def inspect(own: dict[str, Any]) -> dict[str, str | bytes]:
        return {"inspect.json": json.dumps([{"Id": "sha256:1", "Config": {"Image": "x:1", "Env": ["A=1"]}, **own}])}

    host = {
        "Image": "sha256:1",
        "HostConfig": {"Runtime": "runc"},
        "Mounts": [{"Type": "bind", "Source": "/home/a/d", "Destination": "/data"}],
    }
    other = {**host, "Mounts": [{"Type": "bind", "Source": "/home/b/d", "Destination": "/data"}]}
    comparison, found = compared(tmp_path / "2", inspect(host), inspect(other))
    assert comparison.verdict == "identical", found


def test_what_trackers_leave_in_a_work_tree_is_no_untracked_file(tmp_path: Path) -> None:
    import subprocess

    for side, lines in (("a", "1"), ("b", "2")):
        root = put(tmp_path / side, {"t.py": "x\n", "u.py": "x\n"})
        for words in (["init", "-q"], ["add", "."], ["-c", "user.name=u", "-c", "user.email=u@x.example", "commit", "-qm", "x", "--date", "2026-01-01T00:00:00Z"]):  # fmt: skip
            subprocess.run(
                ["git", *words], cwd=root, check=True, env={"PATH": "/usr/bin:/bin", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}
            )
        put(root, {"wandb/run-1/x": side, "outputs/2026-01-01/00-00-00/o": side, "__pycache__/t.pyc": side, "mlflow.db": "", "u.py": "y\n"})
        put(root, {"t.py": f"{lines}\n"})
    comparison = api.compare(str(tmp_path / "a"), str(tmp_path / "b"))
    (difference,) = comparison.differences
    files = [set(text.split(", ")) for text in (difference.a, difference.b)]
    assert difference.key == "git_diff" and {f.partition(" ")[0] for f in files[0] ^ files[1]} == {"t.py"}, "u.py was changed alike"


def test_a_log_that_was_cleaned_does_not_lose_the_schema_or_the_operations(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    schema = json.dumps({"fields": [{"name": "x", "type": "long"}]})

    def commit(n: int) -> str:
        info, add = {"commitInfo": {"operation": "WRITE"}}, {"add": {"path": str(n), "stats": '{"numRecords": 2}'}}
        head = [{"metaData": {"schemaString": schema, "id": "1"}}] if n == 0 else []
        return "".join(json.dumps(x) + "\n" for x in (*head, info, add))

    log = {f"t/_delta_log/{n:020d}.json": commit(n) for n in range(4)}
    put(tmp_path / "a", log)
    put(tmp_path / "b", {k: v for k, v in log.items() if not k.endswith(("00.json", "01.json"))})
    target = tmp_path / "b/t/_delta_log" / f"{2:020d}.checkpoint.parquet"
    rows = "union all ".join(f"select {{'path': '{n}', 'stats': '{{\"numRecords\": 2}}'}} as add, null as metaData " for n in range(3))
    meta = f"select null, {{'schemaString': '{schema}', 'partitionColumns': []::varchar[]}}"
    duckdb.sql(f"copy ({rows} union all {meta}) to '{target}' (format parquet)")
    comparison = api.compare(str(tmp_path / "a"), str(tmp_path / "b"))
    assert comparison.verdict == "identical", comparison.differences
    put(tmp_path / "a", {f"t/_delta_log/{4:020d}.json": commit(4)})
    found = {d.key: (d.a, d.b) for d in api.compare(str(tmp_path / "a"), str(tmp_path / "b")).differences}
    assert found.keys() == {"t", "t rows", "t@4 operation", "t statistics"}
    assert found["t"] == ("4", "3") and found["t rows"] == ("10", "8") and found["t@4 operation"] == ("WRITE", "(absent)")


def test_weights_that_keras_saved_are_parameters(tmp_path: Path) -> None:
    import h5py
    import numpy as np

    for side in ("a", "b"):
        with h5py.File(tmp_path / f"{side}.h5", "w") as f:
            f["model_weights/dense/kernel:0"] = np.ones((2, 2), "f4")
            f["layers/dense/vars/0"] = np.full(2, 1 + (side == "b"), "f4")
    document = api.compare(str(tmp_path / "a.h5"), str(tmp_path / "b.h5")).to_json()
    (layer,) = document["layers"]  # type: ignore[misc]
    assert layer["kind"] == "parameter" and layer["module"] == "dense" and layer["tensor"] == "vars.0"
    assert layer["first"]["max_abs"] == 1.0 and layer["first"]["differing"] == 2


def test_a_table_with_other_rows_under_one_version_differs(tmp_path: Path) -> None:
    def table(path: str, most: int, predicate: str = "id = 1") -> dict[str, str | bytes]:
        stats = json.dumps({"numRecords": 2, "maxValues": {"x": most}})
        parameters = {"mode": "Overwrite", "predicate": predicate}
        rows = [{"commitInfo": {"timestamp": len(path), "operation": "WRITE", "operationParameters": parameters}}]
        return {f"t/_delta_log/{0:020d}.json": "".join(json.dumps(r) + "\n" for r in [*rows, {"add": {"path": path, "stats": stats}}])}

    comparison, found = compared(tmp_path / "1", table("part-aa", 5), table("part-other", 5))
    assert comparison.verdict == "identical", found  # names of files are drawn
    _, found = compared(tmp_path / "2", table("part-aa", 5), table("part-aa", 6))
    assert list(found) == ["t statistics"]
    _, found = compared(tmp_path / "3", table("part-aa", 5), table("part-aa", 5, "id = 2"))
    assert found == {"t@0 predicate": ("id = 1", "id = 2")}


# references


def test_a_reference_to_a_mapping_follows_the_references_in_it(tmp_path: Path) -> None:
    text = "lr: {}\nmodel: {{act: '${{..lr}}', sizes: ['${{lr}}', 2]}}\nother: ${{model}}\n"
    comparison, _ = compared(tmp_path, *({"outputs/1/2/.hydra/config.yaml": text.format(lr)} for lr in (0.1, 0.2)))
    found = {d.key: (d.a, d.b, d.reason) for d in comparison.differences}
    assert found["other.act"] == ("0.1", "0.2", "follows from lr")
    assert found["other.sizes"][:2] == ("[0.1, 2]", "[0.2, 2]")


def test_references_that_hold_each_other_end() -> None:
    from reprodebug.foreign._interpolation import resolve

    resolve({"a": {"x": ["${a}"] * 5}})
    resolve({f"k{n}": [f"${{k{n + 1}}}"] * 10 for n in range(15)})


def test_variables_over_several_lines_and_with_a_hash_are_read(tmp_path: Path) -> None:
    text = 'A="l1\nl2 {0}"\nB=x#{0}  # comment\nexport C=\'q {0}\'\nD="open\nE={0}\nF=\n'
    _, found = compared(tmp_path, {".env": text.format(1)}, {".env": text.format(2)})
    values = {"A": ("l1\nl2 1", "l1\nl2 2"), "B": ("x#1", "x#2"), "C": ("q 1", "q 2"), "E": ("1", "2")}
    assert found == {f"env/{name}": both for name, both in values.items()}


# runs that were resumed


def test_a_run_that_was_resumed_is_one_run(tmp_path: Path) -> None:
    def folders(early: float) -> dict[str, str | bytes]:
        parts = [
            ("20250101_000000", {"lr": 0.1, "only": {"first": early}}, [1.0, early]),
            ("20250102_000000", {"lr": 0.2}, [1.0, early, 0.25, 0.125]),
        ]
        own: dict[str, str | bytes] = {f"wandb/offline-run-{t}-abc/run-abc.wandb": wandb_log(c, v) for t, c, v in parts}
        return own | {"wandb/offline-run-20250101_000001-xyz/run-xyz.wandb": wandb_log({"lr": 9}, [early])}

    _, found = compared(tmp_path, folders(0.5), folders(0.75))
    assert found == {"only.first": ("0.5", "0.75"), "loss": ("0.125", "0.125")}
    assert "1 more W&B runs" in notes(tmp_path / "a")
    named = api.compare(f"{tmp_path}/a#abc", f"{tmp_path}/b#abc")
    assert {d.key for d in named.differences} == {"only.first", "loss"}
