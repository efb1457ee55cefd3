"""What is said of a difference is true and of use: which remedy, how severe, what it follows from, and what was left out of the comparison."""

from __future__ import annotations

import sqlite3
import subprocess
from pathlib import Path

import pytest

from reprodebug import api
from reprodebug._base.errors import RunUnreadable
from reprodebug.compare.meaning import same
from reprodebug.model.comparison import Comparison
from reprodebug.report import markdown, text
from tests.foreign.test_mechanisms import with_records
from tests.foreign.test_systems import compared, field, put, wandb_log


def remedy(comparison: Comparison, thing: str) -> str:
    return next(c.remedy for c in comparison.causes if thing in c.summary)


@pytest.mark.parametrize(("version", "whole"), [("0.15.12", True), ("0.18.7", False)])
def test_a_package_list_of_an_older_wandb_has_no_last_end_of_line(version: str, whole: bool, tmp_path: Path) -> None:
    run = "wandb/offline-run-20250101_000000-abc"
    telemetry = field(17, field(19, field(5, version.encode())))
    log = with_records(wandb_log({"lr": 1}, []), telemetry, field(18, field(1, 0)))
    a, b = ({f"{run}/run-abc.wandb": log, f"{run}/files/requirements.txt": f"numpy==2.0.0\ntorch==2.{n}.0"} for n in (1, 2))
    comparison, found = compared(tmp_path, a, b)
    assert found == ({"package/torch": ("2.1.0", "2.2.0")} if whole else {})
    assert any("ends within a line" in n for n in comparison.not_recorded) != whole and comparison.a.complete == whole


def test_an_empty_log_of_wandb_is_called_empty(tmp_path: Path) -> None:
    run = "wandb/offline-run-20250101_000000-abc"
    files: dict[str, str | bytes] = {f"{run}/run-abc.wandb": b"", f"{run}/files/requirements.txt": "numpy==2.0.0\n"}
    comparison, _ = compared(tmp_path, files, files)
    assert "abc.wandb is empty" in (said := " ".join(comparison.not_recorded)) and "no W&B log" not in said


def test_infinity_beside_nan_is_infinity_in_a_database_of_mlflow(tmp_path: Path) -> None:
    for side, large in (("a", "1.7976931348623157e308"), ("b", "9e999")):
        (tmp_path / side).mkdir()
        with sqlite3.connect(tmp_path / side / "mlflow.db") as db:
            db.executescript(
                "create table experiments (experiment_id, name); create table runs (run_uuid, status, start_time, lifecycle_stage);"
                "create table params (key, value, run_uuid); create table tags (key, value, run_uuid);"
                "create table metrics (key, value, timestamp, run_uuid, step, is_nan);"
                "insert into runs values ('r', 'FINISHED', 1, 'active'); insert into params values ('lr', '1', 'r');"
                f"insert into metrics values ('x', 0.0, 1, 'r', 0, 1), ('x', {large}, 2, 'r', 1, 0);"
            )
        db.close()
    assert api.compare(str(tmp_path / "a"), str(tmp_path / "b")).verdict == "identical"


def test_the_address_of_an_object_is_no_setting() -> None:
    assert same("config", "act", "<function relu at 0x7f01a2b3c4d5>", "<function relu at 0x7f99a2b3c4d5>")
    assert same("config", "act", "partial(<f at 0x7f01a2b3c4d5 in a>)", "partial(<f at 0x7f99a2b3c4d5 in a>)")
    assert not same("config", "act", "<function relu at 0x7f01a2b3c4d5>", "<function gelu at 0x7f01a2b3c4d5>")
    assert not same("config", "note", "seen at 0x7f01a2b3c4d5", "seen at 0x7f01a2b3c4d6")
    assert same("config", "dtype", "<class 'float'>", "unserializable object: <class 'float'>")


def test_a_product_of_several_changed_inputs_follows_from_all_of_them(tmp_path: Path) -> None:
    def lock(n: int) -> dict[str, str | bytes]:
        deps = "".join(f"    - path: {name}\n      md5: {n}{name[0]}\n" for name in ("raw.csv", "train.py"))
        return {"dvc.lock": f"schema: '2.0'\nstages:\n  fit:\n    cmd: x\n    deps:\n{deps}    params:\n      params.yaml:\n        lr: {n}\n"
                            f"    outs:\n    - path: model\n      md5: {n}9\n"}  # fmt: skip

    comparison, _ = compared(tmp_path, lock(1), lock(2))
    assert {d.key: d.reason for d in comparison.differences}["model"] == "follows from raw.csv, train.py and lr"


def test_uncommitted_and_committed_changes_have_remedies_of_their_own(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        own = ["-c", "user.name=u", "-c", "user.email=u@example.com", "-C", str(tmp_path / "a")]
        return subprocess.run(["git", *own, *words], check=True, capture_output=True, text=True).stdout.strip()

    put(tmp_path / "a", {"t.py": "x = 1\n"})
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    subprocess.run(["cp", "-r", tmp_path / "a", tmp_path / "b"], check=True)
    put(tmp_path / "b", {"t.py": "x = 2\n", "new.py": "y\n"})
    comparison = api.compare(str(tmp_path / "a"), str(tmp_path / "b"))
    assert remedy(comparison, "git_diff").startswith("Look at the change with `git diff`")
    assert remedy(comparison, "untracked").startswith("Commit the files")
    git("commit", "-qm", "two", "--allow-empty")
    first, second = git("rev-parse", "HEAD~1")[:12], git("rev-parse", "HEAD")[:12]
    said = remedy(api.compare(str(tmp_path / "a"), str(tmp_path / "b")), "git_commit")
    assert f"git diff {second} {first}" in said and f"--good {second} --bad {first}" in said


def test_a_command_line_counts_where_nothing_else_tells_its_options(tmp_path: Path) -> None:
    script = "#!/bin/bash\n#SBATCH --nodes={0}\nmodule load cuda/12.{0} git/2.{0}\nexport NCCL_ALGO={1}\nsrun python t.py --seed {0}\n"
    comparison, _ = compared(tmp_path, {"job.sbatch": script.format(1, "Ring")}, {"job.sbatch": script.format(2, "Tree")})
    severity = {d.key: d.severity for d in comparison.differences}
    assert severity == {
        "slurm/nodes": "critical",
        "slurm/env/NCCL_ALGO": "critical",
        "module/cuda": "critical",
        "module/git": "notable",
        "commands": "notable",
    }
    assert "commands" in comparison.causes[0].summary and "one command line" in comparison.causes[0].remedy
    other, _ = compared(
        tmp_path / "told",
        {"job.sbatch": script.format(1, "Ring"), "config.yaml": "seed: 1\n"},
        {"job.sbatch": script.format(2, "Ring"), "config.yaml": "seed: 2\n"},
    )
    assert "setting seed" in other.causes[0].summary and "commands" in other.causes[-1].summary


def test_the_image_counts_and_a_note_of_the_run_does_not(tmp_path: Path) -> None:
    def files(n: int) -> dict[str, str | bytes]:
        return {"compose.yaml": f"services:\n  train:\n    image: base:{n}\n    command: python t.py --lr {n}\n"}

    comparison, _ = compared(tmp_path, files(1), files(2))
    severity = {d.key: d.severity for d in comparison.differences}
    assert severity == {"services/train/image": "critical", "services/train/command": "notable"}
    assert "digest" in remedy(comparison, "image") and "one command line" in remedy(comparison, "command")


def test_packages_that_a_list_need_not_name_are_told_to_be_left_out(tmp_path: Path) -> None:
    installed = '[{"name": "numpy", "version": "1.0"}, {"name": "idna", "version": "3.6"}, {"name": "pip", "version": "24"}]'
    comparison, found = compared(tmp_path, {"pip_list.json": installed}, {"requirements.txt": "numpy==1.0\n"})
    assert not found and comparison.verdict == "identical"
    assert [n for n in comparison.not_recorded if "alone names" in n] == [
        "packages that A alone names (idna): what B recorded need not be all that it had, so not compared"
    ]


def test_a_failed_or_damaged_run_of_guild_says_so(tmp_path: Path) -> None:
    run = ".guild/runs/0123456789abcdef/.guild"
    freeze = f"- numpy==1.26.4\n- tool @ git+https://git.example/tool.git@{'a' * 40}\n"
    a: dict[str, str | bytes] = {
        f"{run}/opref": "x", f"{run}/attrs/flags": "lr: 0.1\n", f"{run}/attrs/exit_status": "0\n", f"{run}/attrs/pip_freeze": freeze,
        f"{run}/attrs/vcs_commit": f"git:{'b' * 40}\n", f"{run}/attrs/env": "API_TOKEN: hunter2\nOMP_NUM_THREADS: '4'\nRUN_ID: q\n",
        f"{run}/manifest": f"s train.py {'1' * 40} train.py\nd data.csv {'2' * 40} file:data.csv\n",
    }  # fmt: skip
    b = a | {f"{run}/attrs/exit_status": "1\n", f"{run}/attrs/flags": "lr: [", f"{run}/attrs/pip_freeze": freeze.replace("26.4", "26.3"),
             f"{run}/attrs/vcs_commit": f"git:{'c' * 40}\n", f"{run}/attrs/env": "API_TOKEN: hunter3\nOMP_NUM_THREADS: '8'\nRUN_ID: p\n",
             f"{run}/manifest": f"s train.py {'3' * 40} train.py\nd data.csv {'4' * 40} file:data.csv\n"}  # fmt: skip
    comparison, found = compared(tmp_path, a, b)
    assert {"package/numpy", "git_commit", "env/OMP_NUM_THREADS", "env/API_TOKEN", "file/train.py", "data.csv"} == found.keys()
    assert "hunter" not in str(comparison.to_json()) and not comparison.b.complete
    said = " ".join(comparison.not_recorded)
    assert "attrs/flags cannot be parsed" in said and "did not end with success" in said


@pytest.mark.parametrize("text", ["", "{", '{"cells": []}', '{"cells": [1, {"cell_type": "code", "source": 3}]}', "[" * 100_000])
def test_a_damaged_notebook_is_no_crash(text: str, tmp_path: Path) -> None:
    whole = '{"cells": [{"cell_type": "code", "source": ["x = 1\\n", "y"], "execution_count": 2}, {"cell_type": "code", "source": "z", "execution_count": 1}]}'
    comparison, _ = compared(
        tmp_path, {"n.ipynb": whole, "c.yaml": "", "config.yaml": "a: 1\n"}, {"n.ipynb": text, "config.yaml": "a: 1\n"}
    )
    assert any("another order" in n for n in comparison.not_recorded)


def test_a_configuration_that_an_mlflow_run_logged_whole_is_compared(tmp_path: Path) -> None:
    run = "mlruns/1/" + "a" * 32

    def files(n: int) -> dict[str, str | bytes]:
        return {
            f"{run}/meta.yaml": f"run_id: {'a' * 32}\nstatus: 3\nlifecycle_stage: active\n", f"{run}/params/lr": f"{n}",
            f"{run}/artifacts/conf/extra.json": f'{{"thr": 0.{n}, "lr": {n}, "same": 1}}', f"{run}/artifacts/report.json": f'{{"x": {n}}}',
            f"{run}/artifacts/m/MLmodel": "flavors: {}\n", f"{run}/artifacts/m/config.json": f'{{"x": {n}}}',
        }  # fmt: skip

    comparison, found = compared(tmp_path, files(1), files(2) | {f"{run}/artifacts/config.yaml": "a: ["})
    assert found == {"lr": ("1", "2"), "conf/extra.json:thr": ("0.1", "0.2"), "conf/extra.json:lr": ("1", "2")}
    assert {d.key: d.reason for d in comparison.differences}["conf/extra.json:lr"] == "follows from lr"
    assert any("config.yaml cannot be parsed" in n for n in comparison.not_recorded)


def test_a_printed_namespace_is_a_configuration(tmp_path: Path) -> None:
    text = "Namespace(lr={}, layers=[1, 2], tags={{'b', 'a'}}, act=<function relu at 0x7f01a2b3c4d{}>, kind='x\\d', power=2**999999999, odd={{[1]: 2}})\n"
    _, found = compared(tmp_path, {"args.txt": text.format(0.1, 1)}, {"args.txt": text.format(0.2, 2)})
    assert found == {"lr": ("0.1", "0.2")}
    comparison, _ = compared(
        tmp_path / "no", {"args.txt": "Namespace(a=<<", "config.yaml": "a: 1\n"}, {"args.txt": "Namespace(" * 9999, "config.yaml": "a: 1\n"}
    )
    assert sum("args.txt cannot be parsed" in n for n in comparison.not_recorded) == 2


def test_scripts_that_launch_without_a_batch_system_and_those_of_pbs(tmp_path: Path) -> None:
    def script(n: int) -> dict[str, str | bytes]:
        return {"run.sh": f"export OMP_NUM_THREADS={n}\ntorchrun --nproc_per_node={n} train.py --lr 0.1\n", "setup.sh": f"echo {n}\n"}

    comparison, found = compared(tmp_path, script(1), script(2))
    assert found.keys() == {"script/env/OMP_NUM_THREADS", "commands"} and comparison.a.systems == ("launch script",)

    def job(n: int) -> dict[str, str | bytes]:
        return {"job.pbs": f"#PBS -N run{n}\n#PBS -l select={n}:ncpus=8,walltime=0{n}:00:00\nmodule load cuda/12.4\npython train.py\n"}

    comparison, found = compared(tmp_path / "pbs", job(1), job(2))
    assert found == {"pbs/select": ("1", "2")} and comparison.a.systems == ("PBS",)


def test_why_a_file_is_not_read_is_said_once(tmp_path: Path) -> None:
    put(tmp_path, {"zero.yaml": "", "bad.json": "{", "good.yaml": "a: 1\n"})
    for name, why in (("zero.yaml", "zero.yaml is empty"), ("bad.json", "bad.json cannot be parsed: ")):
        with pytest.raises(RunUnreadable) as caught:
            api.compare(str(tmp_path / name), str(tmp_path / "good.yaml"))
        assert f"(configuration: {why}" in str(caught.value) and "could not be read" not in str(caught.value)


def test_a_report_of_records_claims_nothing_of_a_model(tmp_path: Path) -> None:
    comparison, _ = compared(tmp_path, {"config.yaml": "a: 1\nb: 2\n"}, {"config.yaml": "a: 2\n"})
    plain, table = text.render(comparison), markdown.render(comparison)
    for said in (plain, table):
        assert "of the model" not in said and "only in A" not in said and "no tensor was recorded" in " ".join(said.split())
    assert "| started |" not in table and "Coverage 0%" not in plain


def test_a_package_of_one_side_alone_is_not_said_to_have_two_versions(tmp_path: Path) -> None:
    comparison, _ = compared(tmp_path, {"uv.lock": LOCK.format("einops")}, {"uv.lock": LOCK.format("numpy")})
    assert {c.remedy for c in comparison.causes} == {"Install it on both sides or on neither, and compare again."}


LOCK = "version = 1\n[[package]]\nname = 'x'\nversion = '1'\n[[package]]\nname = '{}'\nversion = '1.0'\n"
