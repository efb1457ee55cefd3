"""What led to a layer, an optimizer or a mode of another kind: a package, a file of settings, a changed source."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from reprodebug.compare.runs import examine
from reprodebug.diagnose.levels import levels
from reprodebug.diagnose.ranking import diagnose
from reprodebug.diagnose.rule import leading
from reprodebug.model.comparison import Comparison, Difference
from reprodebug.model.events import Flag, Kind, Phase
from tests.compare.traces import event, run, trace
from tests.diagnose.test_mechanisms import causes, data, forward, variables

PATH = "lib/labkit/layers.py"


def built(*settings: str, kind: str = "LayerNorm") -> tuple[Any, Any]:
    """Notes of two runs whose module ``fc`` was built with these settings."""
    a, b = ([{"type": "modules", "root": "Net", "modules": [["fc", kind, text]]}] for text in settings)
    return a, b


def examined(a: dict[str, Any], b: dict[str, Any], sources: tuple[dict[str, str], dict[str, str]], notes: Any = ((), ())) -> Comparison:
    """Two runs that part in forward, with these environments and imported files."""
    sides = []
    for n, environment in enumerate((a, b)):
        files = {path: {"text": text, "hash": f"xxh3-128:{hash(text)}", "size": len(text)} for path, text in sources[n].items()}
        table = trace(forward(n + 1), [*notes[n], {"type": "modules", "root": "Other", "modules": []}])
        sides.append(run(table, environment={"packages": {"torch": "2"}, **environment}, code={"files": files}))
    return diagnose(examine(*sides))


def packages(**versions: str) -> dict[str, Any]:
    names = {name.replace("_", "-"): version for name, version in versions.items()}
    return {"packages": {"torch": "2", **names}, "imported": ["torch", *names]}


@pytest.mark.parametrize(("name", "folders"), [("labkit", {}), ("acme-layers", {"labkit": "acme-layers"})])
def test_a_file_of_an_upgraded_package_stands_for_the_package(name: str, folders: dict[str, str]) -> None:
    a, b = ({**packages(**{name: version}), "folders": folders} for version in ("2.3.0", "2.3.1"))
    sources = tuple({"train.py": "", PATH: f"def norm(n, eps={eps}):\n    return eps\n"} for eps in ("1e-5", "1e-6"))
    found = examined(a, b, (sources[0], sources[1]), built("eps=1e-05", "eps=1e-06")).causes[0]
    assert (found.rule, found.category) == ("layer settings", "environment")
    assert f"{name} (2.3.0 in A, 2.3.1 in B) leads there" in found.summary and "same versions" in found.remedy
    own = examined(packages(), packages(), (sources[0], sources[1]), built("eps=1e-05", "eps=1e-06")).causes[0]
    assert own.category == "code" and PATH in own.summary  # no package: a file of the project
    assert own.remedy.startswith(f"Compare what changed in {PATH}")
    plugin = examined(packages(), packages(), ({"train.py": ""}, sources[1]), built("eps=1e-05", "eps=1e-06")).causes[0]
    assert plugin.remedy == f"Look at {PATH}, which B alone imports."


def test_of_two_upgraded_packages_neither_is_said_to_be_the_one() -> None:
    a, b = packages(labkit="1", logs="1"), packages(labkit="2", logs="2")
    same = {"train.py": ""}
    found = examined(a, b, (same, same), built("eps=1e-05", "eps=1e-06")).causes[0]
    assert found.category == "environment" and "labkit (1 in A, 2 in B) or logs (1 in A, 2 in B) may lead there" in found.summary
    one = examined(a, packages(labkit="2", logs="1"), (same, same), built("eps=1e-05", "eps=1e-06")).causes[0]
    assert "labkit (1 in A, 2 in B) leads there" in one.summary and one.confidence > found.confidence
    older, newer = ({"packages": x["packages"]} for x in (a, b))
    option = causes(forward, "", older, newer, built("p=0.1", "p=0.3", kind="Dropout"), ("--dropout 0.1", "--dropout 0.3"))[0]
    assert option.category == "configuration" and "labkit" not in option.summary


def test_settings_that_a_file_of_the_account_holds() -> None:
    entries = {"/home/ann/.fitrc": (entry("1"), None), "/home/bob/.fitrc": (None, entry("2"))}
    found = causes(forward, "", None, None, built("p=0.1", "p=0.3", kind="Dropout"), **entries)
    assert (found[0].rule, found[0].category) == ("layer settings", "configuration") and found[0].confidence > 0.8
    assert ".fitrc" in found[0].summary and found[0].remedy.startswith("Compare /home/ann/.fitrc and /home/bob/.fitrc, and use")


def test_a_size_is_counted_from_the_data() -> None:
    """Another number of classes or words follows from a file; it is no setting that the file holds."""
    read = {"/x/words.txt": (entry("1"), entry("2"))}
    weights = [[event("fc", n, tensor="weight", kind=Kind.PARAMETER, phase=Phase.INIT, shape=(30 + n, 8), flags=Flag(0))] for n in (1, 2)]
    found = causes(lambda n: weights[n - 1], "", None, None, built("31, 8", "32, 8", kind="Embedding"), **read)
    assert found[0].category == "data" and not [c for c in found if c.rule == "layer settings" and c.confidence > 0.5]


def entry(content: str) -> dict[str, Any]:
    return {"hash": f"xxh3-128:{content}", "size": 9, "mode": "read"}


def test_the_same_code_is_not_said_of_other_files_or_variables() -> None:
    there, here = ({"train.py": "", f"{folder}/feat.py": f"K = {n}\n"} for n, folder in enumerate(("vendor", "home"), 1))
    level = examined({}, {}, (there, here)).levels[0]
    assert level.state == "fails" and "vendor/feat.py" in level.evidence
    reads = {"train.py": "import os\nk = os.environ['TRAINER_DTYPE']\n"}
    a, b = ({"variables": {"TRAINER_DTYPE": name}} for name in ("fp32", "bf16"))
    level = examined(a, b, (reads, reads)).levels[0]
    assert level.state == "holds" and level.evidence.endswith("but for TRAINER_DTYPE")
    assert examined(a, a, (reads, reads)).levels[0].evidence.endswith("packages were recorded")


def test_what_changed_nothing_is_neither_the_same_nor_an_option_that_prints() -> None:
    sides = []
    for n, words in enumerate((("python", "t.py"), ("python", "t.py", "--patience", "4"))):
        files = {"t.py": {"text": f"K = {n}\n", "hash": f"xxh3-128:{n}", "size": 1}}
        later = [event("fc", 9, step=1)] if n else []
        side = run(trace([*forward(1), *later]), code={"files": files})
        side.manifest = dataclasses.replace(side.manifest, command=words)
        sides.append(side)
    c = diagnose(examine(*sides))
    assert c.verdict == "identical" and c.levels[0].state == "holds"
    assert "changed no recorded tensor: " in c.levels[0].evidence
    assert "t.py" in c.levels[0].evidence and "--patience" in c.levels[0].evidence and "print" not in c.levels[0].evidence


def test_the_last_loss_of_the_shorter_run_is_not_the_last() -> None:
    c = examined({}, {}, ({"t.py": ""}, {"t.py": ""}))
    whole, cut = (
        levels(dataclasses.replace(c, losses=losses))[1].evidence for losses in (((0, 1.5, 1.5),), ((0, 1.5, 1.5), (1, None, 2.0)))
    )
    assert whole.startswith("the last loss, at step 0") and cut.startswith("the last loss that both runs have, at step 0")


def test_a_mode_that_changed_code_sets_from_the_start_needs_no_advice_about_evaluations() -> None:
    sides = []
    for n, flag in enumerate((Flag(0), Flag.TRAINING)):
        text = "def freeze(m):\n    return m" + ("" if n else ".eval()") + "\n"
        rows = [*data(7)[:3], event("fc", n + 1, flags=flag)]
        sides.append(run(trace(rows), code={"files": {"distill.py": {"text": text, "hash": f"xxh3-128:{n}", "size": 1}}}))
    found = diagnose(examine(*sides)).causes[0]
    assert found.rule == "train or eval mode" and "distill.py" in found.remedy and "evaluation" not in found.remedy


def test_many_changed_functions_are_counted() -> None:
    a = "0123456789ab (merge, from_words, settings, module level changed; only here: read)"
    d = Difference("code", "settings.py", a, "ba9876543210 (merge, from_words, settings, module level changed)", "critical", "")
    assert leading([d]) == "; settings.py (merge, from_words and 2 more changed; only in A: read) leads there"


def test_initial_values_are_not_called_sums() -> None:
    def weights(n: int) -> list[dict[str, Any]]:
        return [event("fc", n, tensor="weight", kind=Kind.PARAMETER, phase=Phase.INIT, flags=Flag(0))]

    a, b = ({"hardware": {"cpu": "x"}, "torch": {"build": {"cpu_capability": name}}} for name in ("AVX512", "DEFAULT"))
    a, b = ({**x, "settings": {"cpu_capability": name}} for x, name in ((a, "AVX512"), (b, "DEFAULT")))
    found = causes(weights, "", a, b)[0]
    assert found.rule == "processor" and "sum" not in found.summary and "initial values" in found.summary
    assert "sum in another order" in causes(forward, "", a, b)[0].summary


def test_an_option_that_is_named_for_it_stands_before_a_source() -> None:
    """A source that matches may have changed in looks alone; both are named, and neither is said to be the one."""

    def training(frozen: bool) -> list[dict[str, Any]]:
        rows = [event(m, 1, tensor="weight", kind=Kind.PARAMETER, phase=Phase.INIT, flags=Flag(0)) for m in ("stem", "head")]
        trained = ["head"] if frozen else ["head", "stem"]
        return rows + [event(m, 3, tensor="weight.grad", kind=Kind.GRADIENT, phase=Phase.BACKWARD, flags=Flag(0)) for m in trained] + [
            event("head", 5 + frozen, tensor="weight", kind=Kind.PARAMETER, phase=Phase.OPTIMIZER)
        ]  # fmt: skip

    sides = []
    for n, layers in enumerate(("none", "stem")):
        files = {"freeze.py": {"text": f"def freeze(m):\n    return {n}\n", "hash": f"xxh3-128:{n:012x}", "size": 1}}
        side = run(trace(training(bool(n)), [{"type": "modules", "root": "Net", "modules": []}]), code={"files": files})
        sides.append(dataclasses.replace(side, manifest=dataclasses.replace(side.manifest, command=("python", "t.py", "--freeze", layers))))
    found = diagnose(examine(*sides)).causes[0]
    assert (found.rule, found.category) == ("parameters that one run trains", "configuration")
    assert "--freeze (none in A, stem in B) or freeze.py (freeze changed) may lead there" in found.summary


def test_a_package_that_one_environment_lacks_is_not_called_another_version() -> None:
    same = {"train.py": ""}
    found = examined(packages(), packages(extras="0.3"), (same, same)).causes[0]
    assert found.summary == "the package extras (0.3, in B only) is installed for one run only"
    assert "extras==0.3 (or extras in neither)" in found.remedy
    found = examined(packages(logs="1"), packages(logs="2", extras="0.3"), (same, same)).causes[0]
    assert found.summary.endswith("differ") and "extras" in found.summary and "logs" in found.summary


def test_what_set_the_precision() -> None:
    a, b = ({"settings": {"float32_matmul_precision": name}, **variables(LAB_MATMUL=name)} for name in ("highest", "medium"))
    reads = "import os, torch\ntorch.set_float32_matmul_precision(os.environ['LAB_MATMUL'])\n"
    found = causes(forward, reads, a, b, options=("--label x", "--label y"))[0]
    assert found.rule == "reduced precision" and found.summary.endswith("LAB_MATMUL (highest in A, medium in B) leads there")


def test_variables_of_one_mechanism_are_one_cause() -> None:
    a, b = variables(), variables(LC_ALL="C", PYTHONUTF8="0")
    a, b = ({**x, "interpreter": {"filesystem_encoding": name}} for x, name in ((a, "utf-8"), (b, "ascii")))
    found = causes(data, "text = open('a.txt').read()", a, b)[0]
    assert found.rule == "variables" and found.confidence >= 0.85 and "encoding='utf-8'" in found.remedy
    assert found.summary.endswith("differ; the program reads text without naming an encoding at train.py:1")


def test_a_source_that_only_other_modules_use_is_left_to_the_evidence() -> None:
    """A batch is made before any module is called: what changed in a module's forward is no cause of it."""
    sides = []
    for n in (1, 2):
        texts = {
            "features.py": f"def floor(x):\n    return x + {n}\n",
            "net.py": f"class Net:\n    def forward(self, x):\n        return x * {n}\n",
        }
        files = {name: {"text": text, "hash": f"xxh3-128:{n}", "size": 1} for name, text in texts.items()}
        sides.append(run(trace(data(n), [{"type": "modules", "root": "Net", "modules": [["", "Net", ""]]}]), code={"files": files}))
    found = diagnose(examine(*sides)).causes[0]
    assert found.summary.startswith("the code differs: features.py (floor changed); first effect")
    assert any(row.startswith("net.py") for row in found.evidence)


def test_a_cause_that_is_a_guess_is_worded_as_one() -> None:
    a, b = variables(PYTHONHASHSEED="1"), variables(PYTHONHASHSEED="2")
    source = "for name in {'a', 'b'}:\n    print(name)\n"
    sure, guess = (next(c for c in causes(events, source, a, b) if c.rule == "hash order") for events in (data, forward))
    assert "decides what the model sees" in sure.summary and "may decide what the model sees" in guess.summary


def test_modules_that_follow_from_an_option_take_nothing_from_it() -> None:
    notes = [[{"type": "modules", "root": "Net", "modules": [["", "Net", ""], *more]}] for more in ([], [["aux", "Tower", ""]])]
    plain = causes(forward, options=("", "--script"))[0]
    built_otherwise = next(c for c in causes(forward, notes=(notes[0], notes[1]), options=("", "--script")) if c.rule == "options")
    assert plain.rule == "options" and built_otherwise.confidence == plain.confidence


def test_a_package_that_only_prints_stands_behind_the_source_that_computes_the_difference() -> None:
    def sources(n: int, net: int) -> dict[str, str]:
        return {
            "net.py": f"class Net:\n    def __init__(self):\n        self.scale = {net}\n",
            "site/metricx/__init__.py": f"def mean(xs):\n    return {n}\n",
        }

    a, b = packages(metricx="1.4"), packages(metricx="2.0")
    notes = [[{"type": "modules", "root": "Net", "modules": [["", "Net", ""]]}] for _ in range(2)]
    found = examined(a, b, (sources(1, 1), sources(2, 2)), notes).causes
    assert found[0].category == "code"
    assert found[0].summary.startswith("the code differs: net.py") and found[0].confidence > 0.6
    alone = examined(a, b, (sources(1, 1), sources(2, 1)), notes).causes
    assert alone[0].rule == "packages" and alone[0].confidence > 0.8


def updated(value: int, *, elements: int = 4) -> list[dict[str, Any]]:
    """A training whose first update differs."""
    weight = event("fc", 1, tensor="weight", kind=Kind.PARAMETER, phase=Phase.INIT, shape=(elements,), flags=Flag(0))
    grad = event("fc", 3, tensor="weight.grad", kind=Kind.GRADIENT, phase=Phase.BACKWARD, shape=(elements,), flags=Flag(0))
    return [weight, event("fc", 2), grad, {**weight, "value": value, "phase": Phase.OPTIMIZER}]


def test_threads_do_not_split_the_update_of_a_small_model() -> None:
    a, b = ({"settings": {"intra_op_threads": n}} for n in (1, 2))
    small, large = (causes(lambda n, size=size: updated(n, elements=size), "", a, b)[0] for size in (4, 1 << 20))
    assert (large.rule, small.confidence < 0.3) == ("threads", True) and large.confidence > 0.8


def test_parameters_in_other_groups_of_the_optimizer() -> None:
    def notes(*sizes: int) -> list[dict[str, Any]]:
        return [{"type": "optimizer", "number": 0, "class": "AdamW", "step": 0, "groups": [{"lr": 0.1, "n_params": n} for n in sizes]}]

    option = ("--no-decay norm", "--no-decay bias")
    found = causes(updated, notes=(notes(1, 5), notes(2, 4)), options=option)[0]
    assert found.rule == "optimizer settings" and "has its parameters in other groups" in found.summary
    assert "--no-decay (norm in A, bias in B) leads there" in found.summary and "groups of parameters" in found.remedy
    fewer = causes(updated, notes=(notes(1, 5), notes(1, 4)), options=option)
    assert "optimizer settings" not in {c.rule for c in fewer}
