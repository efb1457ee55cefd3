"""What the recorded sources do that can make a program irreproducible, found by reading them; nothing is run.

A hint is no proof: it tells where to look, and lets a rule speak with more confidence.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from reprodebug.compare.importance import USER

CONVERTED = re.compile(
    r"\b(int|float|bool|eval|loads|literal_eval|md5|sha\d+|crc32|adler32|hash|\w*seed)\(\s*(str\()?(os\.)?(environ|getenv)"
    r"|\b(environ\.get|getenv)\([^()]*\)\s*(==|!=|\bin\b)|\benviron\[[^]]*\]\s*(==|!=|\bin\b)|\bif\s+(os\.)?(environ|getenv)"
)
"""a line that makes a number or a decision of an environment variable"""
_MAX_BYTES = 4 << 20
"""of all sources together"""


@dataclass(frozen=True, slots=True)
class Hint:
    """One line of a recorded source file."""

    kind: str
    """``set-order``, ``hash``, ``digest``, ``address``, ``listing``, ``mtime``, ``arrival``, ``in-turn`` (a pool's results in the
    order of the tasks), ``clock``, ``local-time``, ``locale``, ``encoding`` (text read without naming one), ``home``, ``path``
    (an absolute one), ``temporary`` (a name made anew at each launch), ``cores`` (how many there are), ``uninitialised``,
    ``unseeded`` (a generator made without a seed), ``numpy-global``, ``python-global``,
    ``numpy-seed``, ``python-seed``, ``exists``, ``variable``, ``checkpoint``, ``nondeterministic``, ``nondeterministic-gradient`` (its
    backward is, on a GPU), ``overwriting`` (of elements that an index names twice, one stays), ``clip``, ``shared-memory`` (a tensor that
    shares memory with something else), ``assertion`` (one that calls something), ``kept`` (what outlives a call: a mutable default, a
    global that a function writes, a cache of results, a list that all objects of a class share)"""
    file: str
    line: int
    text: str
    name: str = ""
    """for ``variable``: which, or a beginning and ``*``; for ``digest``: ``seed`` where it seems to seed a generator; for
    ``nondeterministic``, ``nondeterministic-gradient`` and ``overwriting``: the class of modules that the line is in"""

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


_CALLS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("hash", r"hash|.*\.__hash__"),
        ("digest", r"(zlib\.)?(crc32|adler32)|(hashlib\.)?(md5|sha\d\w*|blake2[bs])|(uuid\.)?uuid[35]|.*xxh\w+"),
        ("temporary", r"(tempfile\.)?(mkstemp|mkdtemp|mktemp|NamedTemporaryFile|TemporaryDirectory)|(uuid\.)?uuid[14]|secrets\.token_\w+"),
        ("cores", r"(os|multiprocessing|mp|psutil)\.(cpu_count|process_cpu_count|sched_getaffinity)|cpu_count"),
        ("path", r"(os\.path\.)?(abspath|realpath)|(os\.)?getcwd|(.*\.)?(resolve|absolute|cwd)"),
        ("address", r"id"),
        ("listing", r"(os\.)?(listdir|scandir|walk)|(glob\.)?i?glob|.*\.(iterdir|rglob|glob)"),
        ("mtime", r"(os\.path\.)?get[mca]time|.*\.getmtime"),
        ("arrival", r"(.*\.)?(as_completed|imap_unordered|wait|ThreadPoolExecutor|ThreadPool|Queue|SimpleQueue|Thread|Process)"),
        ("in-turn", r"(.*\.)?(pool|executor|ex|p|tp|workers)\.(map|starmap|imap)"),
        ("clock", r"(time\.)?(time|time_ns|perf_counter|perf_counter_ns|monotonic)|.*datetime\.(now|utcnow|today)|(os\.)?(getpid|urandom)"
                  r"|(uuid\.)?uuid[14]|secrets\.\w+|random\.SystemRandom|SystemRandom"),
        ("local-time", r"(time\.)?(localtime|mktime)|.*datetime\.fromtimestamp|.*\.astimezone"),
        ("locale", r"(locale\.)?(strxfrm|strcoll|setlocale|getpreferredencoding)"),
        ("home", r".*\.?(expanduser|home)"),
        ("uninitialised", r"(torch|np|numpy)\.(empty|empty_like|empty_strided)|.*\.(new_empty|resize_)"
                          r"|torch\.(Float|Double|Half|Long|Int)?Tensor"),
        ("numpy-global", r"(np|numpy)\.random\.(?!default_rng|seed|RandomState|Generator|SeedSequence|[gs]et_state|PCG64|MT)\w+"),
        ("python-global", r"random\.(random|randint|randrange|choice|choices|sample|shuffle|uniform|gauss|normalvariate|betavariate"
                          r"|expovariate|triangular|getrandbits)"),
        ("exists", r"(os\.path\.)?(exists|isfile)|.*\.(exists|is_file)"),
        ("checkpoint", r"(torch\.)?load|.*\.load_state_dict|.*load_file|.*from_pretrained"),
        ("nondeterministic", r".*\.(index_add_?|scatter_add_?|scatter_reduce_?|index_put_?|put_|bincount|histc|kthvalue|median)"
                             r"|.*(interpolate|grid_sample|ctc_loss|nll_loss2d|max_unpool\dd|adaptive_avg_pool\dd)"),
        ("nondeterministic-gradient", r".*\.(gather|index_select|take|take_along_dim|repeat_interleave)|.*\.embedding"),
        ("shared-memory", r"(torch\.)?(from_numpy|frombuffer|from_file|from_dlpack)|.*\.share_memory_?"),
        ("clip", r".*clip_grad_(norm|value)_?"),
        ("numpy-seed", r"(np|numpy)\.random\.seed"),
        ("python-seed", r"random\.seed"),
    )
)  # fmt: skip
_SORTING = frozenset({"sorted", "len", "min", "max", "sum", "any", "all", "set", "frozenset", "natsorted"})
"""functions whose result does not depend on the order of what they are given"""


def hints(code: Mapping[str, Any]) -> list[Hint]:
    """All hints in the Python sources that a run's code record keeps."""
    files = code.get("files")
    found: list[Hint] = []
    left = _MAX_BYTES
    if not isinstance(files, Mapping):
        return found
    for path, entry in files.items():
        text = entry.get("text") if isinstance(entry, Mapping) else None
        if not isinstance(text, str) or len(text) > left:
            continue
        left -= len(text)
        found += [Hint(kind, str(path), line, source, name) for kind, line, source, name in _of(text)]
    return found


@lru_cache(maxsize=64)
def _of(text: str) -> tuple[tuple[str, int, str, str], ...]:
    """(kind, line, its text, name) of each hint in a source; the two runs of a pair mostly have the same sources."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    lines = text.splitlines()
    return tuple((kind, line, lines[line - 1].strip()[:100] if 0 < line <= len(lines) else "", name) for kind, line, name in _walk(tree))


def _walk(tree: ast.AST) -> Iterator[tuple[str, int, str]]:
    sets, scikit = _names_of_sets(tree), _names_of_scikit(tree)
    yield from _names_of_variables(tree)
    modules = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and any(_is_forward(f) for f in n.body)]
    made = [
        n for n in ast.walk(tree) if isinstance(n, ast.Assign) and isinstance(n.value, ast.Call) and _TALLY.fullmatch(_name(n.value.func))
    ]
    tallies = {_name(target) for n in made for target in n.targets}
    loops = [n for n in ast.walk(tree) if isinstance(n, (ast.For, ast.comprehension))]
    counters = {n.id for loop in loops for n in ast.walk(loop.target) if isinstance(n, ast.Name)}
    functions = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    calm: set[int] = set()
    """calls below ``sorted`` and the like"""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) in _SORTING and not _leaves_ties(node):
            for argument in node.args:
                calm.update(id(inner) for inner in ast.walk(argument))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = _name(node.func)
            for kind, pattern in _CALLS:
                if pattern.fullmatch(name) and not (kind == "listing" and id(node) in calm):
                    about = _class_of(node, modules) if kind.startswith("nondeterministic") else ""
                    yield kind, node.lineno, "seed" if kind == "digest" and _seeds(node, functions, tree) else about
            for used in [*(k.value for k in node.keywords if k.arg == "key"), *(node.args[:1] if name == "map" else [])]:
                if _name(used) in ("hash", "id"):
                    yield ("hash" if _name(used) == "hash" else "address"), node.lineno, ""
            if name in _SORTING and _leaves_ties(node) and any(_is_set(argument, sets) for argument in node.args):
                yield "set-order", node.lineno, ""
            if name.rpartition(".")[2] == "getuser":
                yield from (("variable", node.lineno, variable) for variable in USER)
            if _draws_from_numpy(node, name, scikit):
                yield "numpy-global", node.lineno, ""
            if name in _GET_VARIABLE and node.args and isinstance(node.args[0], ast.Constant):
                yield "variable", node.lineno, str(node.args[0].value)
            if _reads_text(node, name):
                yield "encoding", node.lineno, ""
            if (
                id(node) not in calm
                and (name in _ORDERED or name.endswith((".join", ".fromkeys", ".array", ".tensor", ".fromiter", ".extend")))
            ) or (name.endswith(".update") and name.removesuffix(".update") in tallies):
                if any(_is_set(argument, sets) for argument in node.args):
                    yield "set-order", node.lineno, ""
            elif name.endswith(".pop") and not node.args and name.rpartition(".")[0] in sets:
                yield "set-order", node.lineno, ""
            if not node.args and not node.keywords and _UNSEEDED.fullmatch(name):
                yield "unseeded", node.lineno, ""
            if _OVERWRITING.fullmatch(name) and not any(k.arg in ("accumulate", "reduce") for k in node.keywords):
                yield "overwriting", node.lineno, _class_of(node, modules)
        elif isinstance(node, ast.ClassDef) and any(_WORKER.fullmatch(_name(base)) for base in node.bases):
            yield "arrival", node.lineno, ""
        elif isinstance(node, ast.Assign) and any(_by_tensor(target, counters) for target in node.targets):
            if inside := _class_of(node, modules):
                yield "overwriting", node.lineno, inside
        elif isinstance(node, (ast.For, ast.AsyncFor)) and _is_set(node.iter, sets):
            yield "set-order", node.lineno, ""
        elif isinstance(node, (ast.ListComp, ast.DictComp, ast.GeneratorExp)) and id(node) not in calm:
            if any(_is_set(g.iter, sets) for g in node.generators):
                yield "set-order", node.lineno, ""
        elif _does_something(node):
            yield "assertion", getattr(node, "lineno", 0), ""
        elif isinstance(node, ast.Starred) and id(node) not in calm and _is_set(node.value, sets):
            yield "set-order", node.lineno, ""
        elif isinstance(node, ast.Subscript) and _name(node.value) in ("os.environ", "environ") and isinstance(node.slice, ast.Constant):
            yield "variable", node.lineno, str(node.slice.value)
        elif isinstance(node, ast.AsyncFunctionDef):
            yield from (("arrival", line, "task") for line in _after_waiting(node))
    yield from (("kept", line, "") for line in _kept(tree))


def _after_waiting(task: ast.AsyncFunctionDef) -> Iterator[int]:
    """Lines of a coroutine that add to a list or a queue of others, once something was waited for: in the order of arrival."""
    inside = list(ast.walk(task))
    waits = [n.lineno for n in inside if isinstance(n, (ast.Await, ast.AsyncFor, ast.AsyncWith))]
    own = {_name(t) for n in inside if isinstance(n, ast.Assign) for t in n.targets}
    for n in inside:
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr in _ADDING and _name(n.func.value) not in own:
            yield from [n.lineno] if any(line <= n.lineno for line in waits) else ()


_ADDING = frozenset({"append", "extend", "put", "put_nowait"})
_TALLY = re.compile(r"(collections\.)?(Counter|OrderedDict)")
"""what keeps the order in which its keys came: ties of ``most_common`` too"""
_MEMO = re.compile(r"(functools\.|\w*memory\.)?(lru_cache|cache|cached|memoize)")
_MUTABLE = re.compile(r"(collections\.)?(list|dict|set|defaultdict|Counter|deque|OrderedDict)")


def _kept(tree: ast.AST) -> Iterator[int]:
    """Lines that keep something from one call of a function to the next."""
    own = [n for n in getattr(tree, "body", ()) if isinstance(n, ast.Assign) and _is_mutable(n.value)]
    shared = {_name(target) for n in own for target in n.targets}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            defaults = [d for d in (*node.args.defaults, *node.args.kw_defaults) if d is not None]
            yield from (d.lineno for d in node.decorator_list if _MEMO.fullmatch(_name(d.func if isinstance(d, ast.Call) else d)))
            if any(_is_mutable(d) or _name(d) in shared for d in defaults):
                yield node.lineno
            yield from _changes(node, shared)
        elif isinstance(node, ast.Global):
            yield node.lineno
        elif isinstance(node, ast.ClassDef):
            yield from (n.lineno for n in node.body if isinstance(n, ast.Assign) and _is_mutable(n.value) and not _is_dunder(n))


def _changes(function: ast.FunctionDef | ast.AsyncFunctionDef, shared: set[str]) -> Iterator[int]:
    """Lines of a function that add to a list, a dict or a set of the module's own."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _FILLING:
            yield from [node.lineno] if _name(node.func.value) in shared else []
        elif isinstance(node, ast.Assign):
            yield from (node.lineno for t in node.targets if isinstance(t, ast.Subscript) and _name(t.value) in shared)


_FILLING = frozenset({"append", "extend", "add", "update", "setdefault", "insert", "appendleft", "pop", "popleft"})


def _is_mutable(node: ast.expr) -> bool:
    return isinstance(node, (ast.List, ast.Dict, ast.Set)) or (isinstance(node, ast.Call) and bool(_MUTABLE.fullmatch(_name(node.func))))


def _is_dunder(node: ast.Assign) -> bool:
    return any(_name(target).startswith("__") for target in node.targets)


def _leaves_ties(node: ast.Call) -> bool:
    """``sorted(..., key=len)``: elements that the key does not tell apart stay in the order that they came in."""
    key = next((k.value for k in node.keywords if k.arg == "key"), None)
    if key is None or _name(key) in ("str", "repr", "int", "float"):
        return False
    if not isinstance(key, ast.Lambda) or not key.args.args:
        return True
    parts = key.body.elts if isinstance(key.body, ast.Tuple) else [key.body]
    parts = [p.args[0] if isinstance(p, ast.Call) and _name(p.func) in ("str", "repr", "int", "float") and p.args else p for p in parts]
    return key.args.args[0].arg not in [_name(p) for p in parts]


_GET_VARIABLE = frozenset({"os.getenv", "os.environ.get", "getenv", "environ.get"})
_ENVIRONMENT = re.compile(r"(os\.)?(environ|getenv)\b.*|(.*\.)?BaseSettings")
_CONSTANT = re.compile(r"[A-Z][A-Z0-9]*_[A-Z0-9_]*|[A-Z]{4,}")


def _names_of_variables(tree: ast.AST) -> Iterator[tuple[str, int, str]]:
    """Strings in a source that looks at the environment and that may be names of variables; ``X_`` is the beginning of some."""
    inside = {id(node.args[0]) for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node.func) in _GET_VARIABLE and node.args}
    if not any(isinstance(node, (ast.Name, ast.Attribute)) and _ENVIRONMENT.fullmatch(_name(node)) for node in ast.walk(tree)):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside and _CONSTANT.fullmatch(node.value):
            yield "variable", node.lineno, node.value + ("*" if node.value.endswith("_") else "")


def _reads_text(node: ast.Call, name: str) -> bool:
    """``open()`` and the like in text mode without an encoding: the locale decides."""
    given = {k.arg for k in node.keywords}
    if name.endswith(".read_text"):
        return not node.args and "encoding" not in given
    if not (name == "open" or name.endswith("Path.open")) or "encoding" in given or len(node.args) > 3:
        return False
    modes = [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "mode")]
    return all(isinstance(m, ast.Constant) and not set("bwax") & set(str(m.value)) for m in modes)


_WORKER = re.compile(r"(\w+\.)?(Thread|Process)")
"""what a class is made from that runs beside the program"""
_OVERWRITING = re.compile(r".*\.(index_put_?|put_|index_copy_?|scatter_?|masked_scatter_?)")


def _is_forward(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "forward"


def _class_of(node: ast.stmt | ast.expr, classes: list[ast.ClassDef]) -> str:
    """The innermost of some classes that a node stands in."""
    around = [c for c in classes if c.lineno <= node.lineno <= (c.end_lineno or c.lineno)]
    return max(around, key=lambda c: c.lineno).name if around else ""


_SEEDING = re.compile(r"(.*\.)?(\w*seed\w*|default_rng|RandomState|SeedSequence|Random|PCG64|MT19937|Philox|SFC64)")


def _seeds(node: ast.expr, functions: list[ast.FunctionDef | ast.AsyncFunctionDef], tree: ast.AST) -> bool:
    """Whether the function that a node stands in (the whole source, outside of one) seeds a generator, or is named so."""
    around = [f for f in functions if f.lineno <= node.lineno <= (f.end_lineno or f.lineno)]
    within: Any = max(around, key=lambda f: f.lineno) if around else tree
    calls = (_name(n.func) for n in ast.walk(within) if isinstance(n, ast.Call))
    return bool(_SEEDING.fullmatch(getattr(within, "name", ""))) or any(map(_SEEDING.fullmatch, calls))


def _by_tensor(target: ast.expr, counters: set[str]) -> bool:
    """``x[index] = ...`` where ``index`` may be a tensor: no number, no slice, no variable of a loop, no string."""
    if not isinstance(target, ast.Subscript):
        return False
    parts = target.slice.elts if isinstance(target.slice, ast.Tuple) else [target.slice]
    return any(isinstance(p, (ast.Name, ast.Attribute, ast.Call)) and _name(p) not in counters for p in parts)


def _does_something(node: ast.AST) -> bool:
    """What ``python -O`` leaves out or decides: an assertion that calls something, ``__debug__``."""
    if isinstance(node, ast.Assert):
        return any(isinstance(inner, (ast.Call, ast.NamedExpr)) for inner in ast.walk(node.test))
    return isinstance(node, ast.Name) and node.id == "__debug__"


_ORDERED = frozenset({"list", "tuple", "enumerate", "iter", "zip", "map", "filter", "next", "dict", "Counter", "deque"})
_UNSEEDED = re.compile(r"(random\.)?Random|(np\.|numpy\.)?(random\.)?(RandomState|default_rng|PCG64|MT19937|Philox|SFC64|SeedSequence)")
_SCIKIT = re.compile(
    r"(.*\.)?(train_test_split|resample|(Stratified|Group|Repeated|Multilabel)*(KFold|ShuffleSplit)|make_\w+|\w*(KMeans|PCA|SVD|NMF|TSNE|Forest\w+)"
    r"|\w+\.rvs)|(sklearn\.)?utils\.shuffle"
)
_NUMERIC = re.compile(r"(sklearn|scipy|imblearn|cuml|umap|hdbscan)\b")
_UNLESS = frozenset({"random_state", "seed", "rng", "generator"})


def _draws_from_numpy(node: ast.Call, name: str, scikit: tuple[set[str], set[str]]) -> bool:
    """Functions of scikit-learn, SciPy and pandas that draw from NumPy's global generator unless they are given a seed."""
    given = {k.arg for k in node.keywords}
    if given & _UNLESS or None in given:
        return False
    if name.endswith(".sample") and given & {"frac", "n"}:  # a pandas frame's, not torch's or random's
        return True
    of, dot, last = name.partition(".")
    if of in scikit[1] or (dot and of not in scikit[0] and last != "rvs"):
        return False  # a function of the program's own, of such a name
    return bool(_SCIKIT.fullmatch(name)) and not (name.endswith("KFold") and "shuffle" not in given and not name.startswith("Repeated"))


def _names_of_scikit(tree: ast.AST) -> tuple[set[str], set[str]]:
    """Names that the source has from scikit-learn, SciPy and their like; names that it has from elsewhere or makes itself."""
    theirs: set[str] = set()
    others: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            into = theirs if not node.level and _NUMERIC.match(node.module or "") else others
            into.update(n.asname or n.name for n in node.names)
        elif isinstance(node, ast.Import):
            theirs.update(n.asname or n.name.partition(".")[0] for n in node.names if _NUMERIC.match(n.name))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            others.add(node.name)
    return theirs, others


def _names_of_sets(tree: ast.AST) -> set[str]:
    """Names that are somewhere bound to a set; scopes are not told apart."""
    names: set[str] = set()
    for _ in range(2):  # a set made of a set
        for node in ast.walk(tree):
            targets: list[ast.expr] = []
            value: ast.expr | None = None
            if isinstance(node, ast.Assign):
                targets, value = node.targets, node.value
            elif isinstance(node, (ast.AnnAssign, ast.AugAssign, ast.NamedExpr)):
                targets, value = [node.target], node.value
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                given = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs) if _says_set(a.annotation)]
                names.update(given)
                if _says_set(node.returns) or any(
                    isinstance(r, ast.Return) and r.value and _is_set(r.value, names) for r in ast.walk(node)
                ):
                    names.add(f"{node.name}()")
            if value is not None and _is_set(value, names):
                names.update(n for n in map(_name, targets) if n)
    return names


def _says_set(annotation: ast.expr | None) -> bool:
    inner = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    return inner is not None and _name(inner).rpartition(".")[2] in ("set", "frozenset", "Set", "FrozenSet", "AbstractSet", "MutableSet")


def _is_set(node: ast.expr, names: set[str]) -> bool:
    if isinstance(node, (ast.Set, ast.SetComp)):
        return True
    if isinstance(node, ast.Call):
        function = _name(node.func)
        if function in ("set", "frozenset"):
            return True
        if f"{function.rpartition('.')[2]}()" in names:
            return True
        if isinstance(node.func, ast.Attribute) and node.func.attr in _GIVE_SETS:
            return _is_set(node.func.value, names)
        return False
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)):
        return any(_is_set(side, names) or _is_keys(side) for side in (node.left, node.right))
    return bool(_name(node)) and _name(node) in names


_GIVE_SETS = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})


def _is_keys(node: ast.expr) -> bool:
    """``a.keys()``, of which ``&``, ``|``, ``-`` and ``^`` make a set."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("keys", "items") and not node.args


def _name(node: ast.AST) -> str:
    """``a.b.c`` of a name or attribute; empty for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        return ".".join([node.id, *reversed(parts)])
    return ".".join(["", *reversed(parts)]) if parts else ""
