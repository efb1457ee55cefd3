"""The ledger of seeding: which generator was given which seed, by whom."""

from __future__ import annotations

from pathlib import Path

from tests.recorder.recorded import capture, notes

PACKAGE = """
import random, numpy as np
def shuffled(seed):
    return random.Random(seed).random()
def own(seed=None):
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
def old(seed=None):
    return np.random.RandomState(seed)
"""
SCRIPT = """
    import os, sys
    import numpy as np, torch
    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "site-packages"))
    import package
    torch.nn.Linear(1, 1)(torch.ones(1))
    def make():
        np.random.Generator(
            np.random.PCG64())
        package.own()
        package.old()
    make()
    np.random.RandomState(1), package.own(2), package.old(2), np.random.RandomState(seed=len('abc')), np.random.default_rng(3)
    np.random.default_rng()
    np.random.seed(None)
    package.shuffled(17), package.shuffled(None)
"""


def test_generators_that_ask_the_system_for_a_seed(tmp_path: Path) -> None:
    """Each once, however it is made and wherever; none that is given a seed, such as a RandomState, which asks all the same. Of
    Python's those are noted that a package gives a seed."""
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "package.py").write_text(PACKAGE)
    rows = notes(capture(tmp_path, SCRIPT), "seed")
    found = [(r["generator"], r["seed"], r["where"].rpartition("/")[2], r.get("by")) for r in rows]
    assert found == [
        ("numpy.Generator", "from the system", "train.py:9 make", None),
        ("numpy.Generator", "from the system", "train.py:10 make", "package own"),
        ("numpy.Generator", "from the system", "train.py:11 make", "package old"),
        ("numpy.default_rng", "3", "train.py:13 <module>", None),
        ("numpy.default_rng", "from the system", "train.py:14 <module>", None),
        ("numpy.random", "from the system", "train.py:15 <module>", None),
        ("python.Random", "17", "train.py:16 <module>", "package shuffled"),
    ]
