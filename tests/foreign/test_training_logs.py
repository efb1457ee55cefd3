"""What training loops write by themselves, in the layouts of the real tools."""

from __future__ import annotations

import argparse
import enum
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest

from reprodebug import api
from reprodebug.foreign import _pickled
from tests.foreign.test_systems import compared, facts, notes, put


class Strategy(enum.Enum):
    STEPS = "steps"


def arguments(**values: Any) -> bytes:
    """A ``training_args.bin``: one object with attributes, pickled into the archive that torch writes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("training_args/data.pkl", pickle.dumps(argparse.Namespace(**values), protocol=2))
    return out.getvalue()


def checkpoint(step: int, loss: float, lr: float, output: str) -> dict[str, str | bytes]:
    history = [{"epoch": 1.0, "step": 10, "loss": 1.0, "grad_norm": 0.5}, {"step": 10, "eval_loss": 0.9, "eval_runtime": loss}]
    history += [{"epoch": 2.0, "step": 20, "loss": loss}]
    state = {"global_step": step, "max_steps": 20, "train_batch_size": 8, "log_history": history}
    args = arguments(learning_rate=lr, betas=(0.9, 0.99), eval_strategy=Strategy.STEPS, output_dir=output, seed=1, none=None)
    folder = f"out/checkpoint-{step}"
    return {f"{folder}/trainer_state.json": json.dumps(state), f"{folder}/training_args.bin": args}


def test_transformers_state_and_arguments_of_the_newest_checkpoint(tmp_path: Path) -> None:
    a = checkpoint(10, 9.0, 9.0, "x") | checkpoint(20, 0.8, 5e-5, "/home/ann/out")
    b = checkpoint(10, 7.0, 7.0, "x") | checkpoint(20, 0.7, 1e-4, "/home/zoe/out")
    comparison, found = compared(tmp_path, a, b)
    assert found == {"learning_rate": ("5e-05", "0.0001"), "loss": ("0.8", "0.7")}
    assert next(d for d in comparison.differences if d.key == "loss").reason == "first differs at step 20"
    own = facts(tmp_path / "a", "transformers")
    assert own["config:eval_strategy"] == "steps" and own["config:betas"] == [0.9, 0.99] and own["config:none"] is None


def test_arguments_are_not_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "made"),)

    put(tmp_path / "a", {"training_args.bin": arguments(x=Evil(), seed=3)})
    assert facts(tmp_path / "a")["config:seed"] == 3 and not (tmp_path / "made").exists()
    for bad in (b"", b".", b"\x80\x04K\x01", b"\x80\x05\x96" + b"\xff" * 8, pickle.dumps(1)[:-1]):
        with pytest.raises(_pickled.NoPickle):
            _pickled.walk(bad)


def test_tables_and_lines_of_steps(tmp_path: Path) -> None:
    def run(loss: float, clock: float) -> dict[str, str | bytes]:
        old, new = (f"lightning_logs/version_{n}/metrics.csv" for n in (9, 10))
        table = f"epoch,step,train_loss,val_loss,epoch_time\n0,0,1.0,,{clock}\n0,1,{loss},,{clock}\n0,1,,0.9,{clock}\n"
        line = {
            "reward": 1.0,
            "training_iteration": 1,
            "time_total_s": clock,
            "pid": int(clock),
            "config": {"lr": loss},
            "info": {"x": loss},
        }
        live = f"step\tloss\n0\t1.0\n1\t{loss}\n"
        return {
            new: table,
            old: table.replace("1.0", "7"),
            "trial/result.json": json.dumps(line) + "\n",
            "dvclive/plots/metrics/val/loss.tsv": live,
        }

    comparison, found = compared(tmp_path / "1", run(0.5, 10), run(0.6, 20))
    assert found == {"train_loss": ("0.5", "0.6"), "info/x": ("0.5", "0.6"), "val/loss": ("0.5", "0.6")}
    assert {d.reason for d in comparison.differences} == {"first differs at step 1"}
    assert compared(tmp_path / "2", run(0.5, 10), run(0.5, 20))[0].verdict == "identical"
    put(tmp_path / "3", {"data/results.csv": "name,score\nx,1\n", "data/train.csv": "a,b\n1,2\n"})
    assert not facts(tmp_path / "3")


def sacred(number: int, lr: float, **more: Any) -> dict[str, str | bytes]:
    run = {"command": "main", "heartbeat": f"2026-01-0{number}", "host": {"python_version": "3.11.7", "hostname": str(lr)}, "status": "COMPLETED",
           "experiment": {"dependencies": ["numpy==1.26.4"], "sources": [["t.py", f"_sources/t_{'a' * 32}.py"]],
                          "repositories": [{"url": "u", "commit": "c" * 40, "dirty": False}]}, **more}  # fmt: skip
    series = {"loss": {"steps": [0, 1], "values": [1.0, lr], "timestamps": ["x", "y"]}}
    config = {"lr": lr, "betas": {"py/tuple": [0.9, 0.99]}, "seed": 1}
    return {f"runs/{number}/{n}.json": json.dumps(v) for n, v in (("run", run), ("config", config), ("metrics", series))}


def test_the_newest_run_of_sacred(tmp_path: Path) -> None:
    _, found = compared(tmp_path / "1", sacred(1, 7) | sacred(2, 0.1), sacred(1, 8) | sacred(2, 0.2))
    assert found == {"lr": ("0.1", "0.2"), "loss": ("0.1", "0.2")}
    own = facts(tmp_path / "1" / "a")
    assert own["code:git_commit"] == "c" * 40 and own["environment:package/numpy"] == "1.26.4" and own["config:betas"] == [0.9, 0.99]
    put(tmp_path / "2", sacred(1, 7, status="FAILED"))
    assert "did not complete (FAILED)" in notes(tmp_path / "2")


def test_a_system_that_names_some_packages_is_no_list_of_them(tmp_path: Path) -> None:
    lock = {"uv.lock": 'version = 1\n[[package]]\nname = "einops"\nversion = "1"\n'}
    comparison, found = compared(tmp_path / "1", sacred(1, 1) | lock, sacred(1, 1))
    assert comparison.verdict == "identical", found
    other = {k: str(v).replace("numpy==1.26.4", "torch==2.1.0") for k, v in sacred(1, 1).items()}
    _, found = compared(tmp_path / "2", sacred(1, 1), other)
    assert found == {"package/numpy": ("1.26.4", "(absent)"), "package/torch": ("(absent)", "2.1.0")}
    side = str(tmp_path / "2" / "a")
    assert api.compare(side, side).verdict == "identical"


def test_a_series_that_differs_only_on_the_way(tmp_path: Path) -> None:
    def run(middle: float) -> dict[str, str]:
        return {"dvclive/plots/metrics/val/acc.tsv": f"step\tacc\n0\t0.5\n1\t{middle}\n2\t0.9375\n"}

    comparison, found = compared(tmp_path, run(0.75), run(0.8))
    assert found == {"val/acc": ("0.9375", "0.9375")}
    assert [d.reason for d in comparison.differences] == ["first differs at step 1: 0.75 in A, 0.8 in B; the last values are equal"]


def test_a_log_of_keras_and_the_results_of_a_trainer_are_compared(tmp_path: Path) -> None:
    a: dict[str, str | bytes] = {
        "training.log": "epoch,accuracy,loss\n0,0.5,1.0\n1,0.6,0.5\n", "out/all_results.json": '{"epoch": 1.0, "eval_loss": 0.5, "eval_runtime": 1.5}',
        "out/eval_results.json": '{"eval_loss": 0.5}',
    }  # fmt: skip
    b = a | {
        "training.log": "epoch,accuracy,loss\n0,0.5,1.0\n1,0.6,0.25\n",
        "out/all_results.json": '{"epoch": 1.0, "eval_loss": 0.75, "eval_runtime": 2.5}',
    }
    comparison, found = compared(tmp_path, a, b)
    assert found == {"loss": ("0.5", "0.25"), "results.eval_loss": ("0.5", "0.75")}
    assert "loss differs first, at step 1" in comparison.reason


def test_a_table_that_ends_within_a_line_is_read_up_to_it(tmp_path: Path) -> None:
    whole = "step,loss\n0,0.5\n1,0.25\n"
    comparison, found = compared(tmp_path, {"metrics.csv": whole}, {"metrics.csv": whole[:-2]})
    assert not found and not comparison.b.complete and "ends within a line" in " ".join(comparison.not_recorded)
