"""What the driver says about GPUs reaches the record; a machine without one says nothing and costs nothing."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections import namedtuple
from typing import Any

import pytest

from reprodebug.capture import gpus

KEY = b"k" * 32
UUID = "GPU-5a3c1f00-0000-1111-2222-333344445555"


class Refused(Exception):
    """What NVML raises for what a card does not support."""


class Card:
    """Answers of one H100 as NVML gives them; the names are those of nvidia-ml-py."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.65.06"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return 13000

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return b"NVIDIA H100 80GB HBM3"

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return UUID

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> list[int]:
        return [9, 0]

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return namedtuple("Memory", "total")(80 * 2**30)

    def nvmlDeviceGetEccMode(self, handle: int) -> list[int]:
        return [1, 1]

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:
        raise Refused

    def nvmlDeviceGetMaxClockInfo(self, handle: int, clock: int) -> int:
        return {1: 1980, 2: 2619}[clock]

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:
        return 700_000

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[int]:
        return [1, 2]


def test_facts_of_a_card() -> None:
    found = gpus._facts(Card(), KEY)
    assert (found["driver"], found["cuda"]) == ("580.65.06", "13.0")
    (card,) = found["gpus"]  # type: ignore[misc]
    assert {k: card[k] for k in ("name", "capability", "memory_gib", "ecc", "sm_clock_max", "power_limit_w", "processes")} == {
        "name": "NVIDIA H100 80GB HBM3", "capability": "9.0", "memory_gib": 80, "ecc": True, "sm_clock_max": 1980, "power_limit_w": 700,
        "processes": 2,
    }  # fmt: skip
    assert not {"mig", "sm_clock_now"} & set(card)
    assert UUID not in str(found)
    assert "5a3c1f00" not in str(found)


def test_every_question_exists_in_nvidia_ml_py() -> None:
    import pynvml

    asked = set(re.findall(r"nvml\.(\w+)", inspect.getsource(gpus)))
    assert len(asked) > 15
    assert {name for name in asked if not hasattr(pynvml, name)} == set()


def test_the_program_s_cards_come_first_with_what_the_driver_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"name": "T4", "id": "aa", "ecc": False}
    used = {"name": "H100", "id": "bb", "ecc": True}
    monkeypatch.setattr(gpus, "read", lambda key: {"driver": "1.2", "cuda": "13.0", "gpus": [other, used]})
    found = gpus.described([{"name": "H100", "id": "bb", "multi_processors": 132}], KEY)
    assert found == {"gpus": [{**used, "multi_processors": 132}], "nvidia_driver": "1.2", "cuda_driver": "13.0"}
    assert gpus.described(None, KEY)["gpus"] == [other, used]
    assert gpus.described([], KEY)["gpus"] == [other, used]


def test_the_program_and_the_driver_name_a_card_alike() -> None:
    from reprodebug._base.redact import mask_device

    assert mask_device(UUID, KEY) == mask_device(UUID.removeprefix("GPU-").upper(), KEY) != mask_device(UUID, b"other")


def test_without_a_driver_nothing_is_loaded() -> None:
    program = (
        "import sys\nfrom reprodebug.capture import gpus\ngpus._MARKS = ('/nowhere',)\n"
        "assert gpus.read(b'k') == {}\nprint('pynvml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_a_driver_that_cannot_be_asked_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    mark = tmp_path / "nvidiactl"
    mark.touch()
    monkeypatch.setattr(gpus, "_MARKS", (str(mark),))
    monkeypatch.setattr("pynvml._nvmlLib_refcount", 0, raising=False)
    import pynvml

    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    assert gpus.read(KEY) == {}
