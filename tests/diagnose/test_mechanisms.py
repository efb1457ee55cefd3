"""Mechanisms of the rules that no recorded pair shows, on runs made by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from reprodebug.compare.runs import examine
from reprodebug.diagnose.ranking import diagnose
from reprodebug.diagnose.rule import leading
from reprodebug.model.comparison import Cause, Difference
from reprodebug.model.events import Flag, Kind, Phase
from tests.compare.traces import event, run, trace

INPUT = Flag.TRAINING | Flag.INPUT


def batch(value: int, step: int = 0) -> dict[str, Any]:
    return event("", value, step=step, tensor="batch.0", kind=Kind.DATA, phase=Phase.DATA, root="DataLoader#0", flags=Flag(0))


def data(value: int) -> list[dict[str, Any]]:
    """Weights, then a batch that is taken in."""
    weight = event("fc", 1, tensor="weight", kind=Kind.PARAMETER, phase=Phase.INIT, flags=Flag(0))
    return [weight, batch(value), event("fc", value, flags=INPUT, tensor="input.0"), event("fc", value + 100)]


def forward(value: int) -> list[dict[str, Any]]:
    """The same, where a module gives another output of the same input."""
    return [*data(7)[:3], event("fc", value)]


def causes(
    events: Any, source: str = "", a: dict[str, Any] | None = None, b: dict[str, Any] | None = None, notes: tuple[Any, Any] = ((), ()),
    options: tuple[str, str] = ("", ""), **files: tuple[Any, Any],
) -> tuple[Cause, ...]:  # fmt: skip
    """Causes of a divergence in ``events``; ``a`` and ``b`` are what the two environments have besides the same."""
    sides = []
    for n, more in enumerate((a or {}, b or {})):
        same: dict[str, Any] = {
            "packages": {"torch": "2"}, "variables": {"LINES": "50"}, "settings": {"intra_op_threads": 2}, "hardware": {"cpu": "x"},
        }  # fmt: skip
        environment = {key: {**same.get(key, {}), **more.get(key, {})} for key in {*same, *more}}
        code = {"files": {"train.py": {"text": source, "hash": "xxh3-128:1", "size": 1}}}
        read = {path: entries[n] for path, entries in files.items() if entries[n] is not None}
        modules = {"type": "modules", "root": "Net", "modules": []}
        table = trace(events(n + 1), [modules, *notes[n]])
        side = run(table, environment=environment, code=code, data=read)
        side.manifest = dataclasses.replace(side.manifest, command=("python", "train.py", *options[n].split()))
        sides.append(side)
    return diagnose(examine(*sides)).causes


def variables(**values: str) -> dict[str, Any]:
    return {"variables": values}


def test_text_that_is_read_in_the_encoding_of_the_locale() -> None:
    a, b = ({**variables(LC_ALL=name), "interpreter": {"filesystem_encoding": name}} for name in ("utf-8", "ascii"))
    found = causes(data, "text = open('a.txt').read()", a, b)[0]
    assert (found.rule, found.category) == ("variables", "environment") and found.confidence >= 0.8
    assert "LC_ALL" in found.summary and "train.py:1" in found.summary
    for source in ("text = open('a.txt', encoding='utf-8').read()", "body = open('a.txt', 'rb').read()"):
        assert causes(data, source, a, b)[0].confidence < 0.6
    assert causes(data, "text = open('a.txt').read()", variables(LC_ALL="C.utf-8"), variables(LC_ALL="en.utf-8"))[0].confidence < 0.6


def test_a_library_that_is_loaded_before_all_others() -> None:
    found = causes(forward, "", variables(), variables(LD_PRELOAD="/opt/libfast.so"))[0]
    assert found.rule == "variables" and "instead of the system's" in found.summary and "libfast.so" in found.summary


def test_a_model_that_one_run_compiles() -> None:
    notes = [[{"type": "modules", "root": "Net", "modules": [["", kind, ""]]}] for kind in ("Net", "OptimizedModule")]
    found = [c for c in causes(forward, "", notes=(notes[0], notes[1])) if c.rule == "layer settings"]
    assert found and "compiled (torch.compile) in B only" in found[0].summary and "in both runs or in neither" in found[0].remedy


LOADER = {"type": "loader", "number": 0, "seq": 0}


@pytest.mark.parametrize(
    ("field", "values", "says"),
    [
        ("num_workers", (2, 4), "augmentation draws for a sample depends on which worker loads it"),
        ("persistent_workers", (False, True), "live on from epoch to epoch"),
    ],
)
def test_workers_of_a_loader(field: str, values: tuple[Any, Any], says: str) -> None:
    notes = [[{**LOADER, field: value}] for value in values]
    given = [variables(LOADING=str(value)) for value in values]
    found = causes(data, "import os\nLOADING = os.environ['LOADING']\n", *given, notes=(notes[0], notes[1]))[0]
    assert says in found.summary and found.confidence >= 0.7


def test_the_option_behind_a_setting_of_the_workers() -> None:
    notes = [[{**LOADER, "persistent_workers": value}] for value in (False, True)]
    found = causes(data, notes=(notes[0], notes[1]), options=("", "--data other --workers 2"))[0]
    assert found.rule == "loader settings" and "--workers" in found.summary and "--data" not in found.summary


def test_workers_that_follow_the_processors_of_a_job() -> None:
    notes = [[{**LOADER, "num_workers": value}] for value in (2, 4)]
    a, b = ({"hardware": {"cpus_allowed": n}} for n in (2, 4))
    found = causes(data, "", a, b, (notes[0], notes[1]))[0]
    assert found.rule == "loader workers" and "cpus_allowed" in found.summary


@pytest.mark.parametrize(
    ("line", "says", "not_said"),
    [
        ("rows = list(pool.map(draw, names))", "they share a random generator or other state", "order of arrival"),
        ("q = queue.Queue()\nrows = list(pool.map(draw, names))", "order of arrival", "they share a random generator"),
        ("rows = list(pool.imap_unordered(draw, names))", "order of arrival", "they share a random generator"),
    ],
)
def test_threads_that_share_a_generator(line: str, says: str, not_said: str) -> None:
    """Results in the order of the tasks differ only by what the tasks share."""
    source = f"from multiprocessing.pool import ThreadPool\npool = ThreadPool(2)\n{line}"
    thread = [{"type": "thread", "name": "Thread-1", "runs": "multiprocessing.pool.worker", "seq": 0}]
    found = causes(data, source, notes=(thread, thread))[0]
    assert (found.rule, found.category) == ("order of arrival", "race")
    assert says in found.summary and not_said not in found.summary


@pytest.mark.parametrize(("prints", "says"), [((1, 2), "results themselves come in the order"), ((5, 6), "order of arrival")])
def test_threads_that_read_files_and_share_a_generator(prints: tuple[int, int], says: str) -> None:
    """Threads read files in another order in any two runs: only samples in another order say that it matters."""

    def batches(value: int) -> list[dict[str, Any]]:
        own = (5, 6)[:: 3 - 2 * value] if prints == (5, 6) else (value, value + 10)
        return [{**e, "prints": own} if e["kind"] == Kind.DATA else e for e in data(value)]

    source = "pool = ThreadPoolExecutor(2)\nrows = list(pool.map(one, names))"
    thread = {"type": "thread", "name": "ThreadPoolExecutor-0_0", "runs": "concurrent.futures.thread._worker", "seq": 0}
    sides = [
        [thread, *({"type": "file", "path": p, "mode": "read", "thread": thread["name"], "seq": 0} for p in order)]
        for order in ("ab", "ba")
    ]
    found = causes(batches, source, notes=(sides[0], sides[1]))[0]
    assert found.category == "race" and says in found.summary, found


def test_tasks_that_add_to_one_list() -> None:
    def reordered(value: int) -> list[dict[str, Any]]:
        return [{**e, "prints": (5, 6)[:: 3 - 2 * value]} if e["kind"] == Kind.DATA else e for e in data(value)]

    source = "import random\nasync def fetch(i, out):\n    await asyncio.sleep(random.SystemRandom().random())\n    out.append(i)"
    found = causes(reordered, source)[0]
    assert (
        (found.rule, found.category) == ("order of arrival", "race")
        and "a race between tasks" in found.summary
        and "train.py:4" in found.summary
    )
    assert causes(reordered, source.replace("out.append(i)", "return i"))[0].rule != "order of arrival"


def test_processors_count_where_the_number_of_threads_follows_them() -> None:
    a, b = ({"hardware": {"cpus_allowed": n}, "settings": {"intra_op_threads": n}} for n in (2, 4))
    found = causes(forward, "", a, b)[0]
    assert found.rule == "threads" and "intra_op_threads" in found.summary and found.confidence >= 0.8
    same = causes(forward, "", {"hardware": {"cpus_allowed": 2}}, {"hardware": {"cpus_allowed": 4}})
    assert not [c for c in same if c.rule == "threads" and c.confidence >= 0.3]
    assert any(c.rule == "nondeterministic kernel" for c in same), "launched alike, as far as it had an effect"


def read(digest: str, **more: Any) -> dict[str, Any]:
    return {"mode": "read", "size": 10, "hash": f"xxh3-128:{digest}", **more}


@pytest.mark.parametrize(("name", "otherwise"), [("options.pkl", "the checkpoint options.pkl"), (".env", "the file .env")])
def test_options_that_come_from_a_file(name: str, otherwise: str) -> None:
    """Where nothing else was given otherwise, also of a kind that holds weights elsewhere."""
    options = {f"/x/{name}": (read("1"), read("2"))}
    found = causes(forward, "", **options)[0]
    assert found.rule == "file content" and found.summary.startswith(f"the file {name}") and found.confidence >= 0.7
    beside = [c for c in causes(forward, "", **options, **{"/x/more.csv": (read("3"), None)}) if c.rule == "file content"]
    assert beside[0].summary.startswith(otherwise) and beside[0].confidence < 0.7


def test_a_database_that_both_runs_changed() -> None:
    """It may hold the data, or only what a tracker noted of each run."""
    entries = [read(digest, database=True, changed=True) for digest in "12"]
    rows = {"/x/rows.db": (entries[0], entries[1])}
    found = causes(data, "", **rows)[0]
    assert found.rule == "file content" and "rows.db" in found.summary and 0.6 <= found.confidence < 0.85
    assert causes(data, "", **{"/x/rows.db": (read("1", database=True), read("2", database=True))})[0].confidence > found.confidence
    line = "r = random.Random()"
    assert causes(data, line, **rows)[0].rule == "generator made without a seed"
    found = causes(forward, "", **rows)[0]
    assert found.rule != "file content", found


def test_a_generator_that_a_package_makes_without_a_seed() -> None:
    """Told by the ledger; not where one of the runs alone made it, nor where it was made after the divergence."""
    note = {"type": "seed", "generator": "numpy.Generator", "seed": "from the system", "step": 0, "where": "/x/train.py:6 <module>"}
    note["by"] = "gymnasium.utils.seeding np_random"
    found = causes(data, "", notes=([note], [note]))[0]
    assert found.rule == "generator made without a seed" and found.confidence >= 0.75
    assert "gymnasium.utils.seeding np_random, called at" in found.summary and "env.reset(seed=SEED)" in found.remedy
    for a, b in (([note], []), ([{**note, "step": 9}], [{**note, "step": 9}])):
        assert all(c.rule != found.rule for c in causes(data, "", notes=(a, b)))


def test_a_generator_that_is_gone_before_its_state_is_looked_at() -> None:
    """Its seeds tell; a data set that a package shuffles is told with the function that made the generator."""
    note = {"type": "seed", "generator": "numpy.default_rng", "seed": "11", "step": 0, "where": "/x/train.py:4 <module>"}
    note["by"] = "datasets.arrow_dataset shuffle"
    other = {**note, "seed": "12"}
    found = causes(data, "", notes=([note], [other]))[0]
    assert found.rule == "missing or other seed" and found.confidence >= 0.8
    assert "11 in A and 12 in B, by datasets.arrow_dataset shuffle, called at" in found.summary and "argument" in found.remedy
    for a, b in ((note, note), (note, {**other, "where": "/x/train.py:5 <module>"}), ({**note, "step": 9}, {**other, "step": 9})):
        assert all(c.rule != found.rule for c in causes(data, "", notes=([a], [b])))


def test_a_variable_that_only_an_installed_package_names() -> None:
    """The most likely cause where nothing else was given otherwise, and no more than that."""
    by = {"named_by_packages": {"RESAMPLER": "pixmix/core.py:12: mode = os.environ.get('RESAMPLER')"}}
    a, b = ({**variables(RESAMPLER=value, SHADE=value), **by} for value in ("box", "cubic"))
    found = causes(data, "import pixmix", a, b)[0]
    assert found.rule == "variables" and 0.5 <= found.confidence <= 0.7
    assert "RESAMPLER" in found.summary and "SHADE" not in found.summary and "pixmix/core.py:12" in found.summary
    assert causes(data, "import pixmix", variables(RESAMPLER="box"), variables(RESAMPLER="cubic"))[0].confidence < 0.3
    packages = {**a, "packages": {"pixmix": "1"}}, {**b, "packages": {"pixmix": "2"}}
    assert causes(data, "import pixmix", *packages)[0].rule == "packages"
    assert causes(data, "r = random.Random()", a, b)[0].rule == "generator made without a seed"


def evaluated(value: int) -> list[dict[str, Any]]:
    """Weights; in B alone a call that watches; then an input of the training."""
    watched = [event("fc", 50, flags=Flag.INPUT, tensor="input.0", shape=(2,)), event("fc", 51, flags=Flag(0), shape=(2,))]
    return [data(7)[0], *(watched if value == 2 else []), *data(value)[1:]]


LOGS = ("--log-every 4", "--log-every 2")


@pytest.mark.parametrize(
    "source",
    ["def scale(x, seen=[]):\n    seen.append(x)", "def f(x):\n    global n\n    n += 1", "@lru_cache\ndef f(x):\n    return x"],
)
def test_work_beside_the_training_that_changes_what_it_goes_on_with(source: str) -> None:
    found = causes(evaluated, source, options=LOGS)[0]
    assert (found.rule, found.category) == ("work beside the training", "implicit-state") and found.confidence >= 0.8
    assert "B alone runs Net" in found.summary and "--log-every (4 in A, 2 in B)" in found.summary and "train.py:" in found.summary
    assert causes(evaluated, "x = 1", options=LOGS)[0].confidence < 0.7, "nothing in the source is known to outlive a call"
    assert not [c for c in causes(data, source, options=LOGS) if c.rule == found.rule], "no run does more than the other"
    assert not [c for c in causes(evaluated, source) if c.rule == found.rule], "nothing that was given says so"


def test_an_option_of_output_that_differs_is_said_where_nothing_explains_the_divergence() -> None:
    found = causes(data, "", options=LOGS)
    assert [c for c in found if "launched alike, but for --log-every" in c.summary]


def entering(value: int) -> list[dict[str, Any]]:
    """Outputs and loss agree; the gradient with which backward begins does not."""
    loss = event("", 9, tensor="loss.0", kind=Kind.LOSS, root="loss", flags=Flag(0))
    return [*forward(8), loss, event("fc", value, tensor="output.0.grad", kind=Kind.GRADIENT, phase=Phase.BACKWARD, flags=Flag(0))]


def test_the_gradient_that_enters_a_model_is_made_by_the_loss() -> None:
    found = causes(entering, "import numpy as np\nw = np.empty(12)")[0]
    assert (found.rule, found.category) == ("uninitialised memory", "implicit-state") and found.confidence >= 0.6
    assert [c for c in causes(entering, "") if "what is computed of the output of fc" in c.summary]


def inside(value: int) -> list[dict[str, Any]]:
    """The same, but one gradient before it agrees."""
    head = event("head", 5, tensor="output.0.grad", kind=Kind.GRADIENT, phase=Phase.BACKWARD, flags=Flag(0))
    return [*entering(value)[:-1], head, entering(value)[-1]]


def test_a_gradient_further_inside_is_not() -> None:
    assert not [c for c in causes(inside, "import numpy as np\nw = np.empty(12)") if c.rule == "uninitialised memory"]


def test_a_file_that_the_program_changes_itself() -> None:
    written = [{"type": "file", "path": "/x/nodes.f32", "mode": mode, "existed": True, "seq": 0} for mode in ("read", "write")]
    entries = {"/x/nodes.f32": (read("1"), read("2"))}
    found = causes(data, "", notes=(written, written), **entries)[0]
    assert (found.rule, found.category) == ("file content", "implicit-state") and "opens it for writing" in found.summary
    found = causes(data, "", notes=(written, written[:1]), **entries)[0]
    assert (found.rule, found.category) == ("file content", "data"), "only one run writes"


def test_a_file_that_is_made_anew_in_each_run() -> None:
    after, before = 1.8e9, 1.7e9  # the runs started in 2026
    found = causes(data, "", **{"/x/f.npz": (read("1", modified=after), read("2", modified=after))})[0]
    assert found.category == "data" and "made anew during each run" in found.summary and "imap_unordered" in found.remedy
    found = causes(data, "", **{"/x/f.npz": (read("1", modified=before), read("2", modified=after))})[0]
    assert "made anew" not in found.summary


@pytest.mark.parametrize("names", [("ab", "ba"), ("ab", "ab")])
def test_files_of_other_names(names: tuple[str, str]) -> None:
    """The order in which their contents are read tells, not the names."""
    notes = [
        [{"type": "file", "path": f"/x/{side}-{p}.txt", "mode": "read", "hash": f"xxh3-128:{p}", "seq": 0} for p in order]
        for side, order in zip("12", names, strict=True)
    ]
    files = {f"/x/1-{p}.txt": (read(p), None) for p in "ab"} | {f"/x/2-{p}.txt": (None, read(p)) for p in "ab"}
    found = [c for c in causes(data, notes=(notes[0], notes[1]), **files) if c.rule == "files of other names"]
    assert bool(found) == (names[0] != names[1])
    assert not found or (found[0].confidence >= 0.85 and "1-a.txt and 1-b.txt in A, 2-b.txt and 2-a.txt in B" in found[0].summary)


def test_threads_that_change_what_they_share() -> None:
    """Their results are other samples, not the same ones in another order."""

    def other(value: int) -> list[dict[str, Any]]:
        return [{**e, "prints": (value, value + 10)} if e["kind"] == Kind.DATA else e for e in data(value)]

    def reordered(value: int) -> list[dict[str, Any]]:
        return [{**e, "prints": (5, 6)[:: 3 - 2 * value]} if e["kind"] == Kind.DATA else e for e in data(value)]

    source = "threads = [threading.Thread(target=feed, args=(p,)) for p in parts]"
    thread = [{"type": "thread", "name": "Thread-1", "runs": "stats.feed", "seq": 0}]
    found = causes(other, source, notes=(thread, thread))[0]
    assert (found.rule, found.category) == ("order of arrival", "race") and "share without a lock" in found.summary
    assert found.confidence >= 0.6
    found = causes(reordered, source, notes=(thread, thread))[0]
    assert found.rule == "order of arrival" and "order of arrival" in found.summary
    assert "share without a lock" not in causes(other, source)[0].summary, "no thread was seen"


@pytest.mark.parametrize(("prints", "says"), [((10, 20), "the sampler chose others"), ((20, 10), "order of arrival")])
def test_threads_that_compute_what_a_sampler_goes_by(prints: tuple[int, int], says: str) -> None:
    """B's sampler chooses samples 1 and 0 where A's chose 0 and 1; only where the data is the same by index does that tell."""

    def batches(value: int) -> list[dict[str, Any]]:
        more = {"prints": (10, 20), "chosen": (0, 1)} if value == 1 else {"prints": prints[::-1], "chosen": (1, 0)}
        return [{**e, **more} if e["kind"] == Kind.DATA else e for e in data(value)]

    thread = [{"type": "thread", "name": "Thread-1", "runs": "balance.count", "seq": 0}]
    found = causes(batches, "threads = [threading.Thread(target=count) for _ in range(4)]", notes=(thread, thread))[0]
    assert found.rule == "order of arrival" and says in found.summary, found


def test_a_generator_seeded_with_an_address() -> None:
    found = causes(data, "rng = np.random.RandomState(id(self) % 2**32)")[0]
    assert (found.rule, found.category) == ("order of addresses", "random-state") and "seeded with id()" in found.summary
    assert "seeded" not in causes(data, "key = id(self)")[0].summary


def test_a_number_of_workers_given_without_a_name() -> None:
    def reordered(value: int) -> list[dict[str, Any]]:
        return [{**e, "prints": (5, 6)[:: 3 - 2 * value]} if e["kind"] == Kind.DATA else e for e in data(value)]

    notes = [[{**LOADER, "num_workers": n}] for n in (1, 3)]
    found = causes(reordered, notes=(notes[0], notes[1]), options=("1", "3"))[0]
    assert found.rule == "loader workers" and "word 2" in found.summary
    assert "word 2" not in causes(reordered, notes=(notes[0], notes[1]), options=("7", "8"))[0].summary.partition("num_workers")[2]


def modes(value: int) -> list[dict[str, Any]]:
    """A module is in training mode in A and in evaluation mode in B."""
    return [*data(7)[:3], event("fc", value, flags=Flag.TRAINING if value == 1 else Flag(0))]


def test_a_thread_that_switches_the_mode_of_a_model_in_use() -> None:
    thread = [{"type": "thread", "name": "Thread-1", "runs": "watch.watch", "seq": 0}]
    found = causes(modes, notes=(thread, thread))[0]
    assert (found.rule, found.category) == ("train or eval mode", "race") and "watch.watch" in found.summary
    for other in (causes(modes), causes(modes, notes=(thread, thread), options=("", "--eval-mode x"))):
        assert other[0].rule == "train or eval mode" and other[0].category != "race"


def test_a_checkpoint_that_an_earlier_run_left() -> None:
    """The same command goes on from it in the run that finds it."""

    def weights(value: int) -> list[dict[str, Any]]:
        return [{**e, "value": value} if e["tensor"] == "weight" else e for e in data(7)]

    found = causes(weights, "if os.path.exists(last):\n    net.load(last)", **{"/x/last.pt": (None, read("2"))})[0]
    assert (found.rule, found.category) == ("other checkpoint", "implicit-state") and found.confidence >= 0.8
    assert "B finds the checkpoint last.pt" in found.summary and "left" in found.summary
    found = causes(weights, "", options=("", "--load last.pt"), **{"/x/last.pt": (None, read("2"))})[0]
    assert found.category != "implicit-state", "the command asks for it"
    both = causes(weights, "", **{"/x/last.pt": (read("1"), None), "/x/best.pt": (None, read("2"))})
    assert not [c for c in both if "finds the checkpoint" in c.summary]


def test_a_width_that_nothing_names_follows_from_what_is_read() -> None:
    """Text that is decoded otherwise has another alphabet: the layer's size is an effect."""
    weights = [[event("emb", n, tensor="weight", kind=Kind.PARAMETER, phase=Phase.INIT, shape=(30 + n, 8), flags=Flag(0))] for n in (1, 2)]
    a, b = ({**variables(LC_ALL=name), "interpreter": {"filesystem_encoding": name}} for name in ("utf-8", "ascii"))
    notes = tuple([{"type": "modules", "root": "Net", "modules": [["emb", "Embedding", f"{n}, 8"]]}] for n in (31, 32))
    found = causes(lambda n: weights[n - 1], "text = open('a.txt').read()", a, b, (notes[0], notes[1]))
    assert found[0].rule == "variables" and "LC_ALL" in found[0].summary
    assert not [c for c in found if c.rule in ("layer settings", "extra draws") and c.confidence >= 0.3]
    layers = causes(lambda n: weights[n - 1], "", None, None, (notes[0], notes[1]))[0]
    assert layers.rule == "layer settings" and layers.confidence < 0.5
    assert "Embedding(31) in A, Embedding(32) in B" in layers.summary


def test_parameters_that_one_run_alone_trains() -> None:
    def training(frozen: bool) -> list[dict[str, Any]]:
        rows = [event(m, 1, tensor="weight", kind=Kind.PARAMETER, phase=Phase.INIT, flags=Flag(0)) for m in ("stem", "head")]
        grads = [
            event(m, 3, tensor="weight.grad", kind=Kind.GRADIENT, phase=Phase.BACKWARD, flags=Flag(0))
            for m in ("head", *(() if frozen else ("stem",)))
        ]
        return [*rows, event("head", 2), *grads, event("head", 5 + frozen, tensor="weight", kind=Kind.PARAMETER, phase=Phase.OPTIMIZER)]

    found = causes(lambda n: training(n == 2))[0]
    assert found.rule == "parameters that one run trains" and found.summary.startswith("A alone trains stem.weight: in B no gradient")
    found = causes(lambda n: training(n == 1))[0]
    assert found.summary.startswith("B alone trains stem.weight")

    def clipped(n: int) -> list[dict[str, Any]]:
        return [*training(False)[:-1], event("head", 5 + n, tensor="weight", kind=Kind.PARAMETER, phase=Phase.OPTIMIZER)]

    assert "parameters that one run trains" not in {c.rule for c in causes(clipped)}, "both train the same"


def test_of_several_changed_files_the_one_that_computes_the_difference_is_named_first() -> None:
    """Not the first by name, and not the most conspicuous."""
    old = {
        "a_train.py": "def main():\n    rate = 0.1\n    return rate",
        "b_heads.py": "class Head:\n    def forward(self, x): return x",
        "z_net.py": "class Net:\n    def forward(self, x): return x",
    }
    new = {**old, "a_train.py": "def main():\n    momentum = 0.9\n    return 0.1", "b_heads.py": old["b_heads.py"] + " + 1"}
    new["z_net.py"] = old["z_net.py"] + " * 2\ndef more(): pass"
    sides = []
    for n, texts in enumerate((old, new)):
        files = {name: {"text": text, "hash": f"xxh3-128:{hash(text):x}", "size": 1} for name, text in texts.items()}
        modules = {"type": "modules", "root": "Net", "modules": [["", "Net", ""], ["fc", "Linear", ""], ["head", "Head", ""]]}
        sides.append(run(trace(forward(n), [modules]), code={"files": files}))
    found = diagnose(examine(*sides)).causes[0]
    assert found.summary.startswith(
        "the code differs: z_net.py, a_train.py and b_heads.py (Net.forward changed, only in B: more and 2 more)"
    )
    assert found.evidence[0].startswith("z_net.py")


def test_a_hook_of_the_interpreter_comes_with_the_path() -> None:
    sides = []
    for n in (1, 2):
        files = {"train.py": {"text": "", "hash": "xxh3-128:1", "size": 1}}
        hook = {"tools/sitecustomize.py": {"text": "import builtins", "hash": "xxh3-128:2", "size": 1}} if n == 2 else {}
        path = {"variables": {"PYTHONPATH": "/x/src" if n == 1 else "/x/tools:/x/src"}}
        sides.append(run(trace(forward(n)), environment=path, code={"files": {**files, **hook}}))
    found = diagnose(examine(*sides)).causes[0]
    assert (found.rule, found.category) == ("changed code", "environment") and "same PYTHONPATH" in found.remedy
    assert "PYTHONPATH" in found.summary and "sitecustomize.py (in B only)" in found.summary


def test_a_number_of_threads_that_a_variable_sets() -> None:
    a, b = ({**variables(KNOBS=f'{{"threads": {n}}}'), "settings": {"intra_op_threads": n}} for n in (1, 2))
    found = causes(forward, "k = json.loads(os.environ['KNOBS'])", a, b)[0]
    assert found.rule == "threads" and "KNOBS" in found.summary


def test_a_changed_file_that_leads_somewhere_is_named_by_its_functions() -> None:
    d = Difference("code", "net.py", "0123456789ab (Net.forward changed)", "ba9876543210 (Net.forward changed)", "critical", "")
    assert leading([d]) == "; net.py (Net.forward changed) leads there"
