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

_MAX_BYTES = 4 << 20
"""of all sources together"""


@dataclass(frozen=True, slots=True)
class Hint:
    """One line of a recorded source file."""

    kind: str
    """``set-order``, ``hash``, ``listing``, ``mtime``, ``arrival``, ``clock``, ``uninitialised``, ``numpy-global``,
    ``python-global``, ``exists``, ``variable``, ``checkpoint``, ``nondeterministic``, ``clip``"""
    file: str
    line: int
    text: str
    name: str = ""
    """for ``variable``: which"""

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


_CALLS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("hash", r"hash"),
        ("listing", r"(os\.)?(listdir|scandir|walk)|(glob\.)?i?glob|.*\.(iterdir|rglob|glob)"),
        ("mtime", r"(os\.path\.)?get[mca]time|.*\.getmtime"),
        ("arrival", r"(.*\.)?(as_completed|imap_unordered|wait|ThreadPoolExecutor|ThreadPool|Queue|SimpleQueue|Thread)"),
        ("clock", r"(time\.)?(time|time_ns|perf_counter|perf_counter_ns|monotonic)|.*datetime\.(now|utcnow|today)|(os\.)?(getpid|urandom)"
                  r"|(uuid\.)?uuid[14]|secrets\.\w+|random\.SystemRandom|SystemRandom"),
        ("uninitialised", r"(torch|np|numpy)\.(empty|empty_like|empty_strided)|.*\.(new_empty|resize_)"
                          r"|torch\.(Float|Double|Half|Long|Int)?Tensor"),
        ("numpy-global", r"(np|numpy)\.random\.(?!default_rng|seed|RandomState|Generator|SeedSequence|[gs]et_state|PCG64|MT)\w+"),
        ("python-global", r"random\.(random|randint|randrange|choice|choices|sample|shuffle|uniform|gauss|normalvariate|betavariate"
                          r"|expovariate|triangular|getrandbits)"),
        ("exists", r"(os\.path\.)?(exists|isfile)|.*\.(exists|is_file)"),
        ("checkpoint", r"(torch\.)?load|.*\.load_state_dict|.*load_file|.*from_pretrained"),
        ("nondeterministic", r".*\.(index_add_?|scatter_add_?|scatter_reduce_?|index_put_?|put_|bincount|histc|kthvalue|median)"
                             r"|.*(interpolate|grid_sample|ctc_loss|nll_loss2d|max_unpool\dd|adaptive_avg_pool\dd)"),
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
    sets = _names_of_sets(tree)
    calm: set[int] = set()
    """calls below ``sorted`` and the like"""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) in _SORTING:
            for argument in node.args:
                calm.update(id(inner) for inner in ast.walk(argument))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = _name(node.func)
            for kind, pattern in _CALLS:
                if pattern.fullmatch(name) and not (kind == "listing" and id(node) in calm):
                    yield kind, node.lineno, ""
            if name in ("os.getenv", "os.environ.get", "getenv", "environ.get") and node.args and isinstance(node.args[0], ast.Constant):
                yield "variable", node.lineno, str(node.args[0].value)
            if name in ("list", "tuple", "enumerate", "iter", "zip", "map", "next") and id(node) not in calm:
                for argument in node.args:
                    if _is_set(argument, sets):
                        yield "set-order", node.lineno, ""
        elif isinstance(node, (ast.For, ast.AsyncFor)) and _is_set(node.iter, sets):
            yield "set-order", node.lineno, ""
        elif isinstance(node, (ast.ListComp, ast.DictComp, ast.GeneratorExp)) and id(node) not in calm:
            if any(_is_set(g.iter, sets) for g in node.generators):
                yield "set-order", node.lineno, ""
        elif isinstance(node, ast.Subscript) and _name(node.value) in ("os.environ", "environ") and isinstance(node.slice, ast.Constant):
            yield "variable", node.lineno, str(node.slice.value)


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
            if value is not None and _is_set(value, names):
                names.update(n for n in map(_name, targets) if n)
    return names


def _is_set(node: ast.expr, names: set[str]) -> bool:
    if isinstance(node, (ast.Set, ast.SetComp)):
        return True
    if isinstance(node, ast.Call):
        function = _name(node.func)
        if function in ("set", "frozenset"):
            return True
        last = function.rsplit(".", 1)
        return len(last) == 2 and last[1] in ("union", "intersection", "difference", "symmetric_difference", "copy") and last[0] in names
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)):
        return _is_set(node.left, names) or _is_set(node.right, names)
    return bool(_name(node)) and _name(node) in names


def _name(node: ast.AST) -> str:
    """``a.b.c`` of a name or attribute; empty for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        return ".".join([node.id, *reversed(parts)])
    return ".".join(["", *reversed(parts)]) if parts else ""
