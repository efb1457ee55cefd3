"""What pairs of the real tools have in common and hand-written pairs often have not: nested runs, killed runs, branches, sources that
know different things, names of the time. Small, by form; each of them was reported wrongly once."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
import struct
import zlib
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


def with_records(log: bytes, *more: bytes) -> bytes:
    """A short log of W&B with more records behind it."""
    for record in more:
        log += struct.pack("<IHB", zlib.crc32(record, zlib.crc32(b"\1")), len(record), 1) + record
    return log


def test_a_killed_run_is_compared_as_far_as_it_goes(tmp_path: Path) -> None:
    place = "wandb/offline-run-20250101_000000-abc/run-abc.wandb"
    ended = field(18, field(1, 0))
    whole = wandb_log({"lr": 0.1}, [0.5, 0.25, 0.125])
    put(tmp_path / "a", {place: with_records(whole, ended)})
    put(tmp_path / "b", {place: wandb_log({"lr": 0.1}, [0.5, 0.25])})
    comparison = api.compare(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (comparison.a.complete, comparison.b.complete) == (True, False)
    assert comparison.verdict == "identical" and "B did not end or was cut" in comparison.reason
    assert [d.severity for d in comparison.differences] == ["harmless"]
    # what stands behind the cut is not known to be absent
    put(tmp_path / "c", {place: whole[:40], place.replace("run-abc.wandb", "files/requirements.txt"): "numpy==1.0\n"})
    assert api.compare(str(tmp_path / "a"), str(tmp_path / "c")).verdict != "divergent"
    # a run that ended with fewer steps is another run
    put(tmp_path / "d", {place: with_records(wandb_log({"lr": 0.1}, [0.5, 0.25]), ended)})
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


# consequences, results and credentials


def reasons(comparison: Any) -> dict[str, str]:
    return {d.key: d.reason for d in comparison.differences}


def test_what_a_choice_of_hydra_brings_in_follows_from_it(tmp_path: Path) -> None:
    def job(name: str, lr: float, rest: str) -> dict[str, str | bytes]:
        return {
            ".hydra/config.yaml": f"opt:\n  lr: {lr}\n  name: {name}\n{rest}seed: 1\n",
            ".hydra/overrides.yaml": f"- opt={name}\n- opt.lr={lr}\n",
            ".hydra/hydra.yaml": f"hydra:\n  runtime:\n    choices:\n      opt: {name}\n",
        }

    comparison, _ = compared(tmp_path, job("adam", 0.1, ""), job("sgd", 0.2, "  momentum: 0.9\n"))
    told = reasons(comparison)
    assert told["opt.momentum"] == told["opt.name"] == "follows from choices/opt"
    assert "follows" not in told["opt.lr"], "the command line says it by itself"
    assert "momentum" not in " ".join(c.summary for c in comparison.causes)

    def with_experiment(choice: str, name: str) -> dict[str, str | bytes]:
        return {".hydra/hydra.yaml": f"hydra:\n  runtime:\n    choices:\n      experiment: {choice}\n      opt: {name}\n"}

    a = put(tmp_path / "c", job("adam", 0.1, "") | with_experiment("null", "adam"))
    b = put(tmp_path / "d", job("sgd", 0.1, "  momentum: 0.9\n") | with_experiment("big", "sgd"))
    # an experiment may set any key: which of the two choices did is not known
    assert not any("follows" in r for r in reasons(api.compare(str(a), str(b))).values())


def test_parameters_of_any_file_of_dvc_are_told_once_and_before_the_command_that_has_them(tmp_path: Path) -> None:
    def project(n: int) -> dict[str, str | bytes]:
        params = f"    params:\n      conf/params.toml:\n        train.lr: 0.{n}\n      params.yaml:\n        n: {n}\n"
        return {
            "dvc.yaml": "stages:\n  make:\n    cmd: python make.py ${n}\n",
            "dvc.lock": f"schema: '2.0'\nstages:\n  make:\n    cmd: python make.py {n}\n{params}"
            f"    outs:\n    - path: out.csv\n      md5: {n:032d}\n",
            "params.yaml": f"n: {n}\n",
            "conf/params.toml": f"[train]\nlr = 0.{n}\n",
        }  # fmt: skip

    comparison, found = compared(tmp_path, project(1), project(2))
    assert found.keys() == {"train.lr", "n", "stage make/cmd", "out.csv"}
    assert reasons(comparison)["stage make/cmd"] == "follows from n"
    assert {c.category for c in comparison.causes} == {"configuration"}
    other = project(2) | {"dvc.yaml": "stages:\n  make:\n    cmd: python make.py --fast ${n}\n"}
    assert "follows" not in reasons(api.compare(str(tmp_path / "a"), str(put(tmp_path / "c", other))))["stage make/cmd"]


def test_the_folder_of_dvclive_may_have_any_name(tmp_path: Path) -> None:
    def live(last: float) -> dict[str, str | bytes]:
        return {
            "live/plots/metrics/train/loss.tsv": f"step\tloss\n0\t1.0\n1\t{last}\n", "live/metrics.json": json.dumps({"train": {"loss": last}}),
            "dvc.yaml": "metrics:\n- live/metrics.json\n",
        }  # fmt: skip

    comparison, found = compared(tmp_path, live(0.5), live(0.25))
    assert found == {"train/loss": ("0.5", "0.25")} and comparison.reason.startswith("the metric train/loss differs first, at step 1")


def test_results_of_a_session_of_hparams_have_no_step(tmp_path: Path) -> None:
    names = field(2, field(5, field(1, field(2, b"hparam/acc"))))  # experiment, metric_infos
    plugin = field(9, field(1, field(1, b"hparams") + field(2, names)))
    marks = event(field(5, field(1, field(1, b"_hparams_/experiment") + plugin)))

    def run(value: float) -> dict[str, str | bytes]:
        scalars = [scalar("loss", s, 1.0 if s < 3 else value) for s in range(5)]
        return {"events.out.tfevents.1700000000.h.1.0": b"".join([marks, scalar("hparam/acc", 0, value), *scalars])}

    comparison, _ = compared(tmp_path, run(0.5), run(0.25))
    assert reasons(comparison)["hparam/acc"] == "the last value differs"
    assert comparison.reason.startswith("the metric loss differs first, at step 3")


def test_a_credential_is_told_and_is_no_first_cause(tmp_path: Path) -> None:
    def files(n: int) -> dict[str, str | bytes]:
        return {"config.yaml": f"hub_token: abcdefgh{n}\n", "requirements.txt": f"numpy==2.{n}.0\n"}

    comparison, found = compared(tmp_path, files(1), files(2))
    assert [c.summary.split(" (")[0] for c in comparison.causes] == ["the package numpy", "the setting hub_token"]
    assert comparison.causes[1].confidence < 0.1 and "abcdefgh" not in str(found)


# what a system records beside its main thing


def test_models_of_nested_runs_say_their_packages(tmp_path: Path) -> None:
    for side, version in (("a", "1.0"), ("b", "2.0")):
        nested(tmp_path / side, 0.1, "fold")
        model = f"mlruns/0/models/m-{side}/artifacts"
        put(tmp_path / side, {f"{model}/MLmodel": "run_id: c1\nflavors: {}\n", f"{model}/requirements.txt": f"scikit-learn=={version}\n"})
    comparison = api.compare(str(tmp_path / "a"), str(tmp_path / "b"))
    assert {d.key: (d.a, d.b) for d in comparison.differences} == {"package/scikit-learn": ("1.0", "2.0")}
    assert not any("no package list" in n for n in comparison.not_recorded)


def test_data_that_wandb_logged_as_an_artifact_is_told_and_what_a_run_made_is_not(tmp_path: Path) -> None:
    def run(n: int) -> dict[str, str | bytes]:
        kinds = (b"dataset", b"ds:v0"), (b"model", b"net"), (b"run_table", b"run-abc-table")
        artifacts = [
            field(8, field(4, kind) + field(5, name) + field(6, b"digest%d" % n) + field(8, b'{"rows": %d}' % n)) for kind, name in kinds
        ]
        return {"wandb/offline-run-20250101_000000-abc/run-abc.wandb": with_records(wandb_log({}, []), *artifacts, field(18, field(1, 0)))}

    comparison, found = compared(tmp_path, run(1), run(2))
    assert found == {"ds": ("digest1", "digest2"), "ds/metadata.rows": ("1", "2")}
    assert [c.category for c in comparison.causes] == ["data"]


def test_text_of_hocon_may_end_in_a_quote() -> None:
    from reprodebug.foreign import _hocon

    assert _hocon.load('a = """say "no""""\nb = """x"""\nc = 1') == {"a": 'say "no"', "b": "x", "c": 1}


def test_requirement_lines_are_chosen_by_the_projects_python(tmp_path: Path) -> None:
    new = "numpy==2.3.0 ; python_full_version >= '3.12' \\\n    --hash=sha256:" + "0" * 64
    a = {".python-version": "3.11\n", "requirements.txt": f"{new}\nnumpy==1.26.4 ; python_full_version < '3.12'\n"}
    b = {".python-version": "3.11\n", "requirements.txt": "numpy==2.0.2\n"}
    assert compared(tmp_path, a, b)[1] == {"package/numpy": ("1.26.4", "2.0.2")}


# cut and empty


def test_half_a_number_and_an_empty_configuration_are_no_differences(tmp_path: Path) -> None:
    files = {
        "live/plots/metrics/loss.tsv": "step\tloss\n0\t1.0\n1\t0.1234\n",
        ".hydra/config.yaml": "lr: 1\n",
        ".hydra/overrides.yaml": "[]\n",
    }
    cut = {"live/plots/metrics/loss.tsv": "step\tloss\n0\t1.0\n1\t0.12", ".hydra/config.yaml": ""}
    comparison, found = compared(tmp_path, files, files | cut)
    assert not found and not comparison.b.complete
    assert "loss.tsv was cut" in (said := " ".join(comparison.not_recorded)) and "config.yaml is empty" in said


def test_a_list_that_ends_within_a_line_was_cut(tmp_path: Path) -> None:
    run = "wandb/offline-run-20250101_000000-abc"
    log = with_records(wandb_log({"lr": 1}, []), field(18, field(1, 0)))
    whole = "numpy==2.0.0\ntorch==2.13.0\nxxhash==3.0\n"
    files = {f"{run}/run-abc.wandb": log, f"{run}/files/requirements.txt": whole}
    comparison, found = compared(tmp_path, files, files | {f"{run}/files/requirements.txt": whole[:-9]})
    assert not found and comparison.verdict == "identical" and not comparison.b.complete
    assert any("ends within a line" in n for n in comparison.not_recorded)


@pytest.mark.parametrize("damaged", ["", "schema: '2.0'\nstages:\n  make:\n    cmd: [x"])
def test_a_lock_of_dvc_that_cannot_be_read_is_not_known_to_hold_nothing(damaged: str, tmp_path: Path) -> None:
    lock = "schema: '2.0'\nstages:\n  make:\n    cmd: x\n    outs:\n    - path: out.csv\n      md5: 0123\n"
    files = {"data.csv.dvc": "outs:\n- path: data.csv\n  md5: 4567\n", "dvc.lock": lock}
    comparison, found = compared(tmp_path, files, files | {"dvc.lock": damaged})
    assert not found and any("dvc.lock" in n for n in comparison.not_recorded)


def test_an_empty_version_of_a_table_and_an_empty_configuration_say_so(tmp_path: Path) -> None:
    commit = json.dumps({"add": {"path": "x", "stats": json.dumps({"numRecords": 3})}}) + "\n"
    files = {"t/_delta_log/00000000000000000000.json": commit, "t/_delta_log/00000000000000000001.json": "", "conf/params.toml": ""}
    said = notes(put(tmp_path, files))
    assert "version 1 does not count" in said and "params.toml is empty" in said
