"""Lines of a source that can make a program irreproducible are found, and their harmless likes are not."""

from __future__ import annotations

import pytest

from reprodebug.diagnose.hints import CONVERTED, hints


def kinds(source: str) -> set[str]:
    return {h.kind for h in hints({"files": {"train.py": {"text": source}}})}


@pytest.mark.parametrize(
    "source",
    [
        "for w in {'a', 'b'}: print(w)",
        "def words(t):\n    return {w for w in t}\nfor w in words('ab'): print(w)",
        "def use(s: set[str]):\n    return [*s]",
        "s = set('ab')\nx = s.pop()",
        "common = a.keys() & b.keys()\nfor k in common: print(k)",
        "text = ' '.join(set(a))",
        "for w in set(a).union(b): print(w)",
        "for w in sorted(set(a), key=len): print(w)",
        "words = {w for w in a}\nv = sorted((w for w in words), key=lambda w: -n[w])",
        "label = max(set(votes), key=votes.count)",
        "df = Counter()\nfor words in texts: df.update(set(words))",
        "class V:\n    def __init__(self, t):\n        self.w = set(t)\n    def ids(self):\n        return {w: i for i, w in enumerate(self.w)}",
    ],
)
def test_orders_of_sets(source: str) -> None:
    assert "set-order" in kinds(source)


@pytest.mark.parametrize(
    "source",
    [
        "for w in sorted({'a', 'b'}): print(w)",
        "v = sorted(set(a), key=lambda w: (-n[w], w))",
        "v = sorted(set(a), key=str)",
        "s = set(a)\nif 'x' in s: print(len(s))",
        "d = {}\nd.pop('x')",
        "seen = set()\nseen.update(set(a))",
    ],
)
def test_sets_that_are_not_walked(source: str) -> None:
    assert "set-order" not in kinds(source)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("a, b = train_test_split(x, y, test_size=0.2)", "numpy-global"),
        ("folds = KFold(5, shuffle=True)", "numpy-global"),
        ("part = frame.sample(frac=0.5)", "numpy-global"),
        ("from sklearn import datasets\nx, y = datasets.make_moons(100)", "numpy-global"),
        ("import sklearn.datasets\nx, y = sklearn.datasets.make_moons(100)", "numpy-global"),
        ("x = dist.rvs(3)", "numpy-global"),
        ("r = random.Random()", "unseeded"),
        ("r = np.random.default_rng()", "unseeded"),
        ("hour = time.localtime(t).tm_hour", "local-time"),
        ("assert model.train()", "assertion"),
        ("path = os.path.expanduser('~/w.pt')", "home"),
        ("items.sort(key=id)\nk = id(x)", "address"),
        ("text = open('a.txt').read()", "encoding"),
        ("text = pathlib.Path('a').read_text()", "encoding"),
        ("k = zlib.crc32(os.path.abspath(p).encode())", "digest"),
        ("k = zlib.crc32(os.path.abspath(p).encode())", "path"),
        ("rows = list(pool.map(load, names))", "in-turn"),
        ("n = (a, b).__hash__() % 4", "hash"),
        ("items.sort(key=hash)", "hash"),
        ("n = list(map(hash, a))", "hash"),
        ("items.sort(key=id)", "address"),
        ("n = len(os.sched_getaffinity(0))", "cores"),
        ("fd, path = tempfile.mkstemp()", "temporary"),
        ("x = torch.from_numpy(block)", "shared-memory"),
        ("net.share_memory()", "shared-memory"),
    ],
)
def test_other_lines(source: str, kind: str) -> None:
    assert kind in kinds(source)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("a, b = train_test_split(x, y, random_state=0)", "numpy-global"),
        ("folds = KFold(5)", "numpy-global"),
        ("def make_chirp(rng, n): return [rng.gauss(0, 1)] * n\nx = make_chirp(rng, 3)", "numpy-global"),
        ("from .data import make_batch\nx = make_batch(3)", "numpy-global"),
        ("x = self.make_batch(3)", "numpy-global"),
        ("r = random.Random(3)", "unseeded"),
        ("r = np.random.default_rng(seed)", "unseeded"),
        ("assert x is not None", "assertion"),
        ("name = time.strftime('%Y')", "local-time"),
        ("text = open('a.txt', encoding='utf-8').read()", "encoding"),
        ("body = open('a.bin', 'rb').read()", "encoding"),
        ("f = open('log.txt', mode='a')", "encoding"),
        ("text = path.read_text('utf-8')", "encoding"),
    ],
)
def test_their_harmless_likes(source: str, kind: str) -> None:
    assert kind not in kinds(source)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("x = os.environ.get('FAST')", {"FAST"}),
        ("P = 'AUG_'\ns = {k: v for k, v in os.environ.items() if k.startswith(P)}", {"AUG_*"}),
        ("NAME = 'AUG_RATE'\nx = os.environ.get(NAME)", {"AUG_RATE"}),
        ("class S(pydantic.BaseSettings, env_prefix='AUG_'):\n    rate: float = 1", {"AUG_*"}),
        ("NAME = 'AUG_RATE'", set()),
        ("who = getpass.getuser()", {"LOGNAME", "USER", "LNAME", "USERNAME"}),
    ],
)
def test_variables_are_named_near_what_reads_them(source: str, names: set[str]) -> None:
    assert {h.name for h in hints({"files": {"a.py": {"text": source}}}) if h.kind == "variable"} == names


@pytest.mark.parametrize(
    ("line", "computes"),
    [
        ("x = float(os.environ.get('A', '1'))", True),
        ("if os.environ.get('A') == '1': pass", True),
        ("seed = int(md5(os.environ['A'].encode()).hexdigest(), 16)", True),
        ("torch.manual_seed(int(os.environ['A']))", True),
        ("name = os.environ.get('A')", False),
        ("print('run', os.environ['A'])", False),
    ],
)
def test_what_is_made_of_a_variable(line: str, computes: bool) -> None:
    assert bool(CONVERTED.search(line)) == computes


def test_what_writes_by_index_is_found_in_its_class() -> None:
    source = """
class Grid(nn.Module):
    def forward(self, cells, x):
        g = x.new_zeros(9)
        g[cells] = x
        g[0] = 1.0
        for i in range(3):
            g[i] = 0.0
        g.index_put_((cells,), x, accumulate=True)
        return torch.zeros(9).scatter(0, cells, x)

class Data:
    def add(self, key, value):
        self.rows[key] = value
"""
    found = [(h.line, h.name) for h in hints({"files": {"a.py": {"text": source}}}) if h.kind == "overwriting"]
    assert sorted(found) == [(5, "Grid"), (10, "Grid")]


@pytest.mark.parametrize(
    "source",
    [
        "def scale(x, seen=[]):\n    seen.append(x)",
        "KEPT = {}\ndef scale(x, kept=KEPT):\n    kept[0] = x",
        "def f():\n    global n\n    n += 1",
        "@functools.lru_cache(maxsize=None)\ndef f(i):\n    return i",
        "class Store:\n    rows = []",
        "SEEN = []\ndef loss(z):\n    SEEN.append(z)",
        "SEEN = {}\ndef loss(z, i):\n    SEEN[i] = z",
    ],
)
def test_what_outlives_a_call(source: str) -> None:
    assert "kept" in kinds(source)


@pytest.mark.parametrize(
    "source",
    [
        "def f(x, sizes=(1, 2), name=None):\n    return x",
        "class Net:\n    __slots__ = ['a']\n    width = 3",
        "rows = []\ndef f(x):\n    return [x]",
        "rows = []\ndef f(x):\n    mine = []\n    mine.append(x)\n    return rows + mine",
    ],
)
def test_what_does_not(source: str) -> None:
    assert "kept" not in kinds(source)


@pytest.mark.parametrize(("base", "found"), [("threading.Thread", True), ("Process", True), ("ThreadLocal", False), ("nn.Module", False)])
def test_classes_that_run_beside_the_program(base: str, found: bool) -> None:
    assert ("arrival" in kinds(f"class Actor({base}):\n    pass")) == found


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("await pause(i)\n    out.append(i)", True),
        ("async with gate:\n        self.rows.append(await get(i))", True),
        ("out.append(i)\n    await pause(i)", False),
        ("rows = []\n    rows.append(await get(i))\n    return rows", False),
    ],
)
def test_tasks_that_add_to_one_list_as_they_come(body: str, found: bool) -> None:
    assert ("arrival" in kinds(f"async def fetch(self, i, out):\n    {body}")) == found
