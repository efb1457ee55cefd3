"""Small pairs made by the real tools, in ``records/``: exactly what differs is reported, noise is not, and nothing is written.

``EXPECTED.json``: every difference that is not harmless, with values; ``derived`` ones stand beneath their cause. ``MUST_NOT.json``: keys that do
not appear at all. ``pylock`` is one lock written by uv and one by pip for the same requirements.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from reprodebug import api
from tests.foreign.test_pairs import digest

RECORDS = Path(__file__).parent / "records"
SYSTEMS = sorted(p.name for p in RECORDS.iterdir() if (p / "EXPECTED.json").is_file())


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_pair_says_what_differs_and_nothing_else(system: str, tmp_path: Path) -> None:
    # copied under new times and another path: neither may matter
    pair = tmp_path / "elsewhere"
    shutil.copytree(RECORDS / system, pair)
    for side in ("a", "b"):
        for path in (pair / side).rglob("*"):
            os.utime(path, (1_700_000_000, 1_700_000_000))
    before = digest(pair)
    comparison = api.compare(str(pair / "a"), str(pair / "b"))
    assert digest(pair) == before

    expected = json.loads((RECORDS / system / "EXPECTED.json").read_text())
    found = {(d.section, d.key): d for d in comparison.differences}
    assert {k for k, d in found.items() if d.severity != "harmless"} == {(e["section"], e["key"]) for e in expected}
    for e in expected:
        d = found[e["section"], e["key"]]
        if e.get("match") != "key":
            assert (d.a, d.b) == tuple("(absent)" if e[side] is None else e[side] for side in ("a", "b"))
        assert d.reason.startswith("follows from") == bool(e.get("derived"))
        if "first_step" in e:
            assert d.reason == f"first differs at step {e['first_step']}"
        assert e.get("says", "") in d.reason
    assert not {k for _, k in found} & set(json.loads((RECORDS / system / "MUST_NOT.json").read_text()))
    derived = {e["key"] for e in expected if e.get("derived")}
    assert not any(key in cause.summary.split() for cause in comparison.causes for key in derived)
    assert comparison.verdict == ("divergent" if expected else "identical")
    for side in ("a", "b"):
        assert api.compare(str(pair / side), str(pair / side)).verdict == "identical"


def test_nothing_secret_and_no_machine_is_told(tmp_path: Path) -> None:
    for system in SYSTEMS:
        said = json.dumps(api.compare(str(RECORDS / system / "a"), str(RECORDS / system / "b")).to_json()["differences"])
        assert not any(word in said for word in ("verysecretvalue", "sekret", "hunter2"))
