"""run.json: round trip, refusals, older and newer versions."""

from __future__ import annotations

import dataclasses
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from reprodebug._base.errors import RunUnreadable, SchemaTooNew
from reprodebug.model.events import SCHEMA_VERSION
from reprodebug.model.run import Manifest, Process
from reprodebug.store import manifest as module
from reprodebug.store.manifest import read_manifest, write_manifest

PROCESS = Process(0, 0, 7, ("train.py", "--lr", "1"), "trace-rank0.h5", 3, 1, True, environment={"torch": {"v": 1}}, notes=("cut",))
FULL = Manifest(
    ("python", "train.py", "ü \x1b[31m 日本"), "/p", "2026-01-01T00:00:00.000+00:00", ended="x", exit_code=137, level="full", complete=True,
    label="a", environment={"packages": {"numpy": "2.0"}}, code={"commit": None}, data={"/d": {"size": 1, "hash": "h"}},
    processes=(PROCESS, dataclasses.replace(PROCESS, ordinal=1, role="loader-worker", complete=False)), notes=("one", "two"),
)  # fmt: skip


def changed(tmp_path: Path, **values: Any) -> str:
    write_manifest(str(tmp_path), FULL)
    value = json.loads((tmp_path / "run.json").read_text())
    value.update(values)
    (tmp_path / "run.json").write_text(json.dumps(value))
    return str(tmp_path)


def test_round_trip(tmp_path: Path) -> None:
    write_manifest(str(tmp_path), FULL)
    assert read_manifest(str(tmp_path)) == FULL
    assert os.listdir(tmp_path) == ["run.json"]


def test_unknown_fields_are_left_out(tmp_path: Path) -> None:
    process = dataclasses.asdict(PROCESS) | {"later": 1}
    assert read_manifest(changed(tmp_path, later={"x": 1}, processes=[process])).processes == (PROCESS,)


@pytest.mark.parametrize("version", [2, 99, 10**30])
def test_a_newer_version_is_refused_by_name(tmp_path: Path, version: int) -> None:
    with pytest.raises(SchemaTooNew, match="newer reprodebug") as found:
        read_manifest(changed(tmp_path, schema_version=version))
    assert "upgrade" in found.value.hint


@pytest.mark.parametrize("version", [0, -1, -(10**30), 1.0, "1", None, True])
def test_versions_that_never_were_are_damage(tmp_path: Path, version: Any) -> None:
    with pytest.raises(RunUnreadable):
        read_manifest(changed(tmp_path, schema_version=version))


def test_an_older_version_is_upgraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    monkeypatch.setitem(module.UPGRADES, SCHEMA_VERSION, lambda value: value | {"label": "upgraded"})
    assert read_manifest(changed(tmp_path)).label == "upgraded"


@pytest.mark.parametrize(
    "values",
    [
        {"schema": "other"}, {"command": "python"}, {"notes": {}}, {"processes": 3}, {"processes": [1]}, {"processes": [{}]},
        {"environment": []}, {"code": None}, {"data": "x"}, {"cwd": 3}, {"level": None}, {"exit_code": "0"},
        *({"processes": [dataclasses.asdict(PROCESS) | bad]} for bad in (
            {"rank": "x"}, {"rank": float("inf")}, {"rank": float("nan")}, {"rank": None}, {"trace": 3}, {"trace": "../x.h5"},
            {"trace": "/etc/passwd"}, {"environment": []}, {"coverage": 1}, {"argv": None},
        )),
    ],
)  # fmt: skip
def test_fields_of_the_wrong_type(tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(RunUnreadable) as found:
        read_manifest(changed(tmp_path, **values))
    assert found.value.hint and "\n" not in found.value.message


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(RunUnreadable, match="no plain file"):
        read_manifest(str(tmp_path))


def test_a_directory_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with pytest.raises(RunUnreadable):
        read_manifest(str(tmp_path))


def test_damaged_bytes_are_read_or_refused(tmp_path: Path) -> None:
    write_manifest(str(tmp_path), FULL)
    whole = (tmp_path / "run.json").read_bytes()
    rng = random.Random(4)
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 4))):
            data[rng.randrange(len(data))] = rng.choice((*b'0"[]{}:,-eN9', rng.randrange(256)))
        (tmp_path / "run.json").write_bytes(data[: rng.choice((len(data), len(data), rng.randrange(len(data))))])
        try:
            found = read_manifest(str(tmp_path))
        except RunUnreadable:
            continue
        assert all(isinstance(p.rank, int) for p in found.processes)
