"""Releases that need each other: what goes along, what is impossible, and which of several causes a release belongs to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

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


def bisected(wheels: Path, body: str, good: str, bad: str, *words: str) -> dict[str, Any]:
    project = wheels.parent / "project"
    project.mkdir()
    (project / "train.py").write_text(body)
    environment = os.environ | {
        "REPRODEBUG_SESSIONS": str(wheels.parent / "sessions"), "PIP_FIND_LINKS": str(wheels), "PIP_NO_INDEX": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    words = words or ("--", sys.executable, "train.py")
    done = subprocess.run(
        [sys.executable, "-m", "reprodebug", "bisect", "--axis", "packages", "--good", good, "--bad", bad, "--json", "-", *words],
        cwd=project, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("clash", "own", "guilty"),
    [
        ("", 0.5, {"rdtwo": "1.3"}),
        ("", 0.75, {"rdone": "1.2", "rdtwo": "1.3"}),
        ("assert rdtwo.SCALE < 0.6", 0.5, {"rdone": "1.2", "rdtwo": "1.3"}),
    ],
    ids=["what went along", "both", "not to be told apart"],
)
def test_what_went_along_is_tried_alone_though_it_is_not_allowed_to(wheels: Path, clash: str, own: float, guilty: dict[str, str]) -> None:
    for n in (1, 2, 3):
        wheel(wheels, "rdtwo", f"1.{n}", f"SCALE = {0.5 if n < 3 else 0.75}\n")
    wheel(wheels, "rdone", "1.1", f"import rdtwo\n{clash}\nSCALE = 0.5\n", needs="rdtwo<1.3")
    wheel(wheels, "rdone", "1.2", f"import rdtwo\nSCALE = {own}\n", needs="rdtwo>=1.3")
    body = """
try:
    import rdone, rdtwo
except AssertionError:
    raise SystemExit(125)
raise SystemExit(rdone.SCALE + rdtwo.SCALE != 1)
"""
    found = bisected(wheels, body, "rdone==1.1 rdtwo==1.1", "rdone==1.2 rdtwo==1.3", "--probe", "python train.py")
    assert {n: c["first_bad"] for n, c in found["culprit"]["packages"].items()} == guilty
    assert (found["confidence"] <= 0.75) == bool(clash)


@pytest.mark.slow
def test_each_of_two_causes_has_its_own_first_bad_release(wheels: Path) -> None:
    for n in (1, 2, 3, 4):
        wheel(wheels, "rdone", f"1.{n}", f"SCALE = {0.5 if n < 3 else 0.75}\n")
        wheel(wheels, "rdtwo", f"1.{n}", f"SCALE = {0.5 if n < 4 else 0.625}\n")
    found = bisected(wheels, TRAIN, "rdone==1.1 rdtwo==1.1", "rdone==1.4 rdtwo==1.4")
    assert {n: c["first_bad"] for n, c in found["culprit"]["packages"].items()} == {"rdone": "1.3", "rdtwo": "1.4"}
