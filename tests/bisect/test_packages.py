"""Releases that need each other: what goes along, what is impossible, and which of several causes a release belongs to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from reprodebug.bisect.packages import Packages, Store
from reprodebug.bisect.search.sets import solve
from reprodebug.bisect.trial import Untestable


def wheel(folder: Path, name: str, version: str, body: str = "", needs: str = "") -> None:
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as z:
        z.writestr(f"{name}/__init__.py", body)
        z.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + (f"Requires-Dist: {needs}\n" if needs else ""),
        )
        z.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(f"{info}/RECORD", f"{name}/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


def store(wheels: Path, a: dict[str, str | None], b: dict[str, str | None]) -> tuple[Store, Packages]:
    environment = os.environ | {"PIP_FIND_LINKS": str(wheels), "PIP_NO_INDEX": "1"}
    p = Packages(a, b, [sys.executable], str(wheels), environment)
    return Store(p, str(wheels.parent / "session")), p


def test_what_a_release_needs_goes_along(wheels: Path) -> None:
    for n in (1, 2, 3):
        wheel(wheels, "rdcore", f"1.{n}")
        wheel(wheels, "rdmix", f"2.{n}", needs=f"rdcore=={'1.2' if n == 2 else f'1.{n}'}")
    s, p = store(wheels, {"rdcore": "1.1", "rdmix": "2.1"}, {"rdcore": "1.3", "rdmix": "2.3"})
    none: frozenset[str] = frozenset()
    assert s.complete({"rdcore": "1.1", "rdmix": "2.3"}, p, none, none) == {"rdcore": "1.3", "rdmix": "2.3"}
    assert s.complete({"rdcore": "1.1", "rdmix": "2.2"}, p, none, none) == {"rdcore": "1.2", "rdmix": "2.2"}, "neither end's version serves"
    with pytest.raises(Untestable, match=r"rdmix 2\.1 needs rdcore==1\.1, not 1\.3"):
        s.complete({"rdcore": "1.3", "rdmix": "2.1"}, p, none, none)
    with pytest.raises(Untestable, match="impossible"):
        s.complete({"rdcore": "1.1", "rdmix": "2.3"}, p, none, frozenset(["rdcore"]))
    said = s.contradictions({"rdcore": "1.1", "rdmix": "2.3"})
    assert s.complete({"rdcore": "1.1", "rdmix": "2.3"}, p, frozenset(said), none)["rdcore"] == "1.1", "an end that is like that itself"


def test_items_between_which_nothing_can_be_tried_are_tried_alone() -> None:
    def bad(chosen: frozenset[str]) -> bool | None:
        return None if "core" in chosen and "mix" not in chosen else "mix" in chosen

    assert solve(["core", "log", "mix"], None, bad).items == ("mix",)

    def only_both(chosen: frozenset[str]) -> bool | None:
        return None if ("core" in chosen) != ("mix" in chosen) else "mix" in chosen

    found = solve(["core", "log", "mix"], None, only_both)
    assert (found.items, found.together) == (("core", "mix"), (("core", "mix"),))


TRAIN = """\
import torch, rdone, rdtwo
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(3):
    opt.zero_grad(); net(torch.randn(8, 4) * (rdone.SCALE + rdtwo.SCALE)).square().mean().backward(); opt.step()
"""


@pytest.mark.slow
def test_each_of_two_causes_has_its_own_first_bad_release(wheels: Path) -> None:
    for n in (1, 2, 3, 4):
        wheel(wheels, "rdone", f"1.{n}", f"SCALE = {0.5 if n < 3 else 0.75}\n")
        wheel(wheels, "rdtwo", f"1.{n}", f"SCALE = {0.5 if n < 4 else 0.625}\n")
    project = wheels.parent / "project"
    project.mkdir()
    (project / "train.py").write_text(TRAIN)
    environment = os.environ | {
        "REPRODEBUG_SESSIONS": str(wheels.parent / "sessions"), "PIP_FIND_LINKS": str(wheels), "PIP_NO_INDEX": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    words = [sys.executable, "-m", "reprodebug", "bisect", "--good", "rdone==1.1 rdtwo==1.1", "--bad", "rdone==1.4 rdtwo==1.4"]
    done = subprocess.run(
        [*words, "--json", "-", "--", sys.executable, "train.py"], cwd=project, env=environment, capture_output=True, text=True
    )
    packages = json.loads(done.stdout)["culprit"]["packages"]
    assert {n: c["first_bad"] for n, c in packages.items()} == {"rdone": "1.3", "rdtwo": "1.4"}, done.stderr
