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

from reprodebug._base.errors import UsageError
from reprodebug.bisect.packages import extras, pins
from reprodebug.bisect.releases import Packages, Store
from reprodebug.bisect.search.sets import solve
from reprodebug.bisect.trial import Untestable


def wheel(folder: Path, name: str, version: str, body: str = "", needs: str = "", extra: str = "") -> None:
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as z:
        z.writestr(f"{name}/__init__.py", body)
        z.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            + (f"Provides-Extra: {extra}\n" if extra else "")
            + (f"Requires-Dist: {needs}\n" if needs else ""),
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


def test_pins_may_ask_for_optional_parts() -> None:
    said = ["Ray_Tune[gpu, cpu]==2.9 numpy==1.26.4", "a[]==1"]
    assert pins(said) == {"ray-tune": "2.9", "numpy": "1.26.4", "a": "1"}
    assert extras(said) == {"ray-tune": frozenset({"cpu", "gpu"})}
    for wrong in ("a[b==1", "a[b]>=1", "[b]==1"):
        with pytest.raises(UsageError, match="is no pin"):
            pins([wrong])


@pytest.mark.parametrize("extra", [pytest.param("", marks=pytest.mark.slow), "fast"], ids=["needed", "needed by an optional part"])
def test_what_the_pins_need_beside_them_is_installed_and_searched(wheels: Path, extra: str) -> None:
    part, asked = (f"; extra == '{extra}'", f"rdframe[{extra}]") if extra else ("", "rdframe")
    for n in (0, 1, 2, 3):
        wheel(wheels, "rdframe", f"1.{n}", "import rdcore\n", needs=f"rdcore{'<' if n < 2 else '>='}2{part}", extra=extra)
    for version, k in (("1.8", 1), ("1.9", 1), ("2.0", 3), ("2.1", 3)):
        wheel(wheels, "rdcore", version, f"K = {k}\n")
    body = "import rdframe, rdcore\nraise SystemExit(rdcore.K != 1)\n"
    found = bisected(wheels, body, f"{asked}==1.0", f"{asked}==1.3", "--probe", "python train.py")
    assert found["culprit"]["packages"] == {"rdcore": {"a": "1.9", "b": "2.1", "first_bad": "2.0"}}
    assert "nobody pinned rdcore (1.9 beside A's pins, 2.1 beside B's)" in " ".join(found["notes"])
    assert found["proof"] == [
        f"pip install rdcore==1.9 {asked}==1.0   # equal to A", f"pip install --no-deps rdcore==2.0 {asked}==1.0   # differs from A",
    ]  # fmt: skip


@pytest.mark.slow
def test_two_packages_that_act_together_are_tried_at_their_first_bad_releases(wheels: Path) -> None:
    for n in (1, 2, 3, 4):
        wheel(wheels, "rdone", f"1.{n}", f"N = {n}\n")
        wheel(wheels, "rdtwo", f"1.{n}", f"N = {n}\n")
    body = "import rdone, rdtwo\nraise SystemExit(rdone.N > 1 and rdtwo.N > 1 and rdone.N + rdtwo.N > 5)\n"
    found = bisected(wheels, body, "rdone==1.1 rdtwo==1.1", "rdone==1.4 rdtwo==1.4", "--probe", "python train.py")
    assert {n: c["first_bad"] for n, c in found["culprit"]["packages"].items()} == {"rdone": "1.2", "rdtwo": "1.2"}
    assert found["proof"][1] == "pip install rdone==1.4 rdtwo==1.4   # differs from A", "1.2 of both makes no difference: it was tried"
    found = [t["candidate"] for t in found["trials"] if t["verdict"] == "same-as-a"]
    assert found[-1] == "A with rdone 1.2 and rdtwo 1.2"


def test_a_package_that_is_absent_from_one_side_is_taken_away(wheels: Path) -> None:
    wheel(wheels, "rdplug", "1.0")
    wheel(wheels, "rdhost", "1.0")
    wheel(wheels, "rdhost", "1.1")
    body = "import importlib.util\nraise SystemExit(importlib.util.find_spec('rdplug') is not None)\n"
    found = bisected(wheels, body, "rdhost==1.0", "rdhost==1.1 rdplug==1.0", "--probe", "python train.py")
    assert found["proof"] == [
        "pip uninstall --yes rdplug && pip install rdhost==1.0   # equal to A", "pip install rdhost==1.0 rdplug==1.0   # differs from A",
    ]  # fmt: skip
