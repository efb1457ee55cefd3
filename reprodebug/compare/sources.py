"""Which code the two runs have not in common: commits, imported files and the functions in them, configuration files.

Owns the comparison of code records (``capture/code.py``, ``scan_modules``). Refuses to run or import anything of them.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from reprodebug._base.errors import ReprodebugError
from reprodebug.compare import functions
from reprodebug.compare import importance as rate
from reprodebug.compare.importance import CRITICAL, HARMLESS, NOTABLE, Rated
from reprodebug.model.comparison import Difference

_Make = Callable[[str, str, object, object, Rated], Difference]
_LAYOUT: Rated = (HARMLESS, "only comments, docstrings, layout or names of local variables changed")
_HINTS: Rated = (NOTABLE, "only type hints changed")


def code(a: Mapping[str, Any], b: Mapping[str, Any], make: _Make) -> list[Difference]:
    """Differences of two code records."""
    if a == b:
        return []
    files_a, files_b = _files(a, "files"), _files(b, "files")
    found = list(_imported(files_a, files_b, make))
    found += _named(a, b, make)
    same_files = bool(files_a) and bool(files_b) and not any(d.severity != HARMLESS for d in found)
    rated: Rated = (
        (HARMLESS, "every imported file is the same") if same_files else (NOTABLE, "what it changed in imported files stands there")
    )
    found += _repository(a, b, make, rated)
    return found


def _files(record: Mapping[str, Any], key: str) -> dict[str, Mapping[str, Any]]:
    value = record.get(key)
    return {str(k): v for k, v in value.items() if isinstance(v, Mapping)} if isinstance(value, Mapping) else {}


def _short(entry: Mapping[str, Any]) -> str:
    return str(entry.get("hash") or entry.get("why") or "not hashed").rpartition(":")[2][:12]


# repository


def _repository(a: Mapping[str, Any], b: Mapping[str, Any], make: _Make, rated: Rated) -> Iterator[Difference]:
    if a.get("vcs") and b.get("vcs"):
        if a.get("commit") != b.get("commit"):
            shown = [f"{str(c.get('commit') or 'no commit')[:12]} {c.get('subject') or ''}".strip() for c in (a, b)]
            yield make("code", "commit", shown[0], shown[1], rated)
        if a.get("branch") != b.get("branch"):
            yield make("code", "branch", a.get("branch") or "(detached)", b.get("branch") or "(detached)", (HARMLESS, "a name"))
        if a.get("patch") != b.get("patch"):
            yield make("code", "uncommitted changes", _patch_text(a), _patch_text(b), rated)
        for path in sorted({*_states(a), *_states(b)}):
            x, y = _states(a).get(path), _states(b).get(path)
            if x != y:
                yield make("code", f"submodule {path}", x, y, rated)
    imported = {*_files(a, "files"), *_files(b, "files")}
    left, right = _files(a, "untracked"), _files(b, "untracked")
    for path in sorted({*left, *right} - imported):
        if left.get(path) != right.get(path):
            shown_a, shown_b = (_short(side[path]) if path in side else None for side in (left, right))
            unused = rated[0] == HARMLESS or path.endswith(".py")
            reason = (HARMLESS, "untracked, imported by neither run") if unused else (NOTABLE, "untracked; a run may have read it")
            yield make("code", path, shown_a, shown_b, reason)


def _states(record: Mapping[str, Any]) -> Mapping[str, Any]:
    value = record.get("submodules")
    return value if isinstance(value, Mapping) else {}


def _patch_text(record: Mapping[str, Any]) -> str:
    patch = str(record.get("patch") or "")
    if not patch:
        return "none"
    files = re.findall(r"^diff --git a/.* b/(.*)$", patch, re.M)
    plus, minus = (len(re.findall(rf"^{re.escape(c)}(?!{re.escape(c * 2)})", patch, re.M)) for c in "+-")
    return f"+{plus} -{minus} lines in {', '.join(files[:4])}{' …' if len(files) > 4 else ''}"


# imported files

ONE_SIDED = "imported by one run only"
"""the reason of a file that the other run did not import under any name"""


def _imported(a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]], make: _Make) -> Iterator[Difference]:
    if not a or not b:
        return
    only_a = {e.get("hash"): p for p, e in a.items() if p not in b and e.get("hash")}
    for path in sorted({*a, *b}):
        x, y = a.get(path), b.get(path)
        if x is not None and y is not None:
            if x.get("hash") != y.get("hash"):
                yield _changed(path, x, y, make)
        elif y is not None and y.get("hash") in only_a:
            yield make("code", only_a[y["hash"]], only_a[y["hash"]], path, (HARMLESS, "another path, the same content"))
        elif x is None or x.get("hash") not in {e.get("hash") for p, e in b.items() if p not in a}:
            shown = [None if e is None else _short(e) for e in (x, y)]
            yield make("code", path, shown[0], shown[1], (NOTABLE, ONE_SIDED))


def _changed(path: str, x: Mapping[str, Any], y: Mapping[str, Any], make: _Make) -> Difference:
    texts = x.get("text"), y.get("text")
    names: tuple[str, str] = ("", "")
    rated: Rated = (CRITICAL, "an imported file has other content")
    if isinstance(texts[0], str) and isinstance(texts[1], str):
        found = changed_parts(texts[0], texts[1])
        if texts[0] == texts[1]:
            rated = NOTABLE, "the kept texts are the same: the files differ in a masked secret or in their encoding"
        elif found is not None and not any(found):
            rated = _LAYOUT
        elif found is not None:
            plain = changed_parts(texts[0], texts[1], hints=False)
            rated = _HINTS if plain is not None and not any(plain) else rated
            both, *only = plain if plain is not None and any(plain) else found
            said = [f"{', '.join(both)} changed"] if both else []
            names = tuple(" (" + "; ".join(said + ([f"only here: {', '.join(o)}"] if o else [])) + ")" for o in only)  # type: ignore[assignment]
            names = ("" if names[0] == " ()" else names[0], "" if names[1] == " ()" else names[1])
    return make("code", path, _short(x) + names[0], _short(y) + names[1], rated)


def changed_parts(a: str, b: str, *, hints: bool = True) -> tuple[list[str], list[str], list[str]] | None:
    """Functions and classes of two Python sources: (changed, only in A, only in B), in order of the source.

    Comments, docstrings, layout and names of local variables do not count, without ``hints`` type hints of functions neither;
    three empty lists mean that nothing else changed. Code outside any function is called ``module level``, a class's own
    statements ``class Net``. None where a source cannot be parsed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            left, right = _parts(ast.parse(a), hints), _parts(ast.parse(b), hints)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    changed = [name for name in left if name in right and left[name] != right[name]]
    return changed, [n for n in left if n not in right], [n for n in right if n not in left]


def _parts(tree: ast.Module, hints: bool) -> dict[str, str]:
    found: dict[str, str] = {}

    def walk(node: ast.Module | ast.ClassDef, prefix: str, label: str) -> None:
        rest: list[ast.stmt] = []
        for n, statement in enumerate(node.body):
            if n == 0 and _is_docstring(statement):
                continue
            if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                _without_docstrings(statement)
                found[prefix + statement.name] = found.get(prefix + statement.name, "") + functions.meaning(statement, hints=hints)
            elif isinstance(statement, ast.ClassDef):
                walk(statement, f"{prefix}{statement.name}.", f"class {prefix}{statement.name}")
            elif hints or not _is_future_annotations(statement):
                rest.append(statement)
        own = "".join(map(_dump, rest))
        if isinstance(node, ast.ClassDef):
            own += "".join(map(_dump, [*node.bases, *(k.value for k in node.keywords), *node.decorator_list]))
        found[label] = found.get(label, "") + own

    walk(tree, "", "module level")
    return found


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)


def _is_future_annotations(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.ImportFrom) and statement.module == "__future__" and [n.name for n in statement.names] == ["annotations"]
    )


def _dump(node: ast.AST) -> str:
    _without_docstrings(node)
    return ast.dump(node)


def _without_docstrings(node: ast.AST) -> None:
    for inner in ast.walk(node):
        if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and inner.body and _is_docstring(inner.body[0]):
            inner.body = inner.body[1:] or [ast.Pass()]


# files that the command names


def _named(a: Mapping[str, Any], b: Mapping[str, Any], make: _Make) -> Iterator[Difference]:
    left, right = _files(a, "named"), _files(b, "named")
    imported = _files(a, "files").keys() & _files(b, "files").keys()
    for name in sorted(left.keys() & right.keys()):
        x, y = left[name], right[name]
        if x.get("hash") == y.get("hash") or any(name == p or name.endswith("/" + p) for p in imported):
            continue
        found = list(configuration(name, x.get("text"), y.get("text"), make))
        section = "config" if "text" in x or "text" in y else "code" if name.endswith((".py", ".sh", ".ipynb")) else "data"
        yield from found or [make(section, name, _short(x), _short(y), (CRITICAL, "a file that the run reads has other content"))]


def configuration(name: str, a: object, b: object, make: _Make) -> Iterator[Difference]:
    """The keys in which two configuration files differ; JSON, TOML and YAML by value, others by line."""
    if not isinstance(a, str) or not isinstance(b, str):
        return
    try:
        left, right = _load(name, a), _load(name, b)
    except (ValueError, RecursionError, ReprodebugError):
        left = right = None
    if left is None or right is None:
        lines_a, lines_b = ([s for line in t.splitlines() if (s := re.sub(r"(^|\s)#.*", "", line).rstrip())] for t in (a, b))
        if lines_a == lines_b:
            yield make("config", name, "as B", "as A", (HARMLESS, "only comments and layout changed"))
            return
        gone, new = ([line for line in x if line not in set(y)] for x, y in ((lines_a, lines_b), (lines_b, lines_a)))
        shown = [" | ".join(s.strip() for s in lines[:6]) or ABSENT_LINES for lines in (gone, new)]
        yield make("config", name, shown[0], shown[1], (CRITICAL, "a file that the run reads has other content"))
    elif left == right and repr(left) == repr(right):
        yield make("config", name, "as B", "as A", (HARMLESS, "the same values in another layout"))
    elif left == right:
        yield make("data", name, "as B", "as A", (NOTABLE, rate.REORDERED))
    else:
        for key, x, y in nested(left, right):
            yield make("config", f"{name}: {key}", x, y, rate.option(key))


ABSENT_LINES = "(no such lines)"


def _load(name: str, text: str) -> Any:
    if name.endswith(".json"):
        return json.loads(text)
    if name.endswith(".toml"):
        import tomllib

        return tomllib.loads(text)
    if name.endswith((".yaml", ".yml")):
        from reprodebug.foreign import _yaml

        documents = _yaml.load_all(text)
        return documents[0] if len(documents) == 1 else documents
    return None


def nested(a: Any, b: Any) -> Iterator[tuple[str, object, object]]:
    """``(key.path, A, B)`` of every leaf in which two nested records differ. Flat mappings never import DeepDiff."""
    if isinstance(a, dict) and isinstance(b, dict) and not any(isinstance(v, (dict, list)) for d in (a, b) for v in d.values()):
        for key in [k for k in {**a, **b} if a.get(k, _NONE) != b.get(k, _NONE)]:
            yield str(key), a.get(key), b.get(key)
        return
    from deepdiff import DeepDiff

    tree = DeepDiff(a, b, view="tree", ignore_order=False, verbose_level=2)
    leaves = sorted(
        (".".join(map(str, level.path(output_format="list"))) or "(root)", level) for levels in tree.values() for level in levels
    )  # fmt: skip
    for path, level in leaves:
        x, y = (None if type(v).__name__ == "NotPresent" else v for v in (level.t1, level.t2))
        yield path, x, y


_NONE = object()
