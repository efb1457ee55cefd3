"""What a function does, apart from how its local variables are called.

Owns the form in which two versions of one function are compared: their bytecode, in which a local variable is a number.
Refuses to run it: the compiler alone sees the source.
"""

from __future__ import annotations

import ast
import copy
from types import CodeType

_BY_NAME = frozenset({"locals", "vars", "dir", "eval", "exec", "currentframe", "_getframe", "signature"})
"""functions that can look at what the variables around them are called"""
_IN_TEXT = frozenset({"eval", "query", "evaluate"})
"""methods that do, of pandas and numexpr, where they are given an expression"""


def meaning(node: ast.FunctionDef | ast.AsyncFunctionDef, *, hints: bool = True) -> str:
    """Equal for two functions that do the same with other names of local variables; ``hints``: type hints count too.

    Parameters keep their names where a decorator or ``**`` may look at them. A type hint inside the body is never evaluated.
    """
    given = node.args
    everything = [*given.posonlyargs, *given.args, *given.kwonlyargs, *(x for x in (given.vararg, given.kwarg) if x)]
    names = [a.arg for a in everything] if node.decorator_list or given.kwarg else []
    said = [a.annotation and ast.dump(a.annotation) for a in everything] + [node.returns and ast.dump(node.returns)] if hints else []
    outside = [ast.dump(n) if n else "" for n in (*given.defaults, *given.kw_defaults, *node.decorator_list)]
    lone = copy.copy(node)
    lone.name, lone.decorator_list, lone.returns = "f", [], None
    try:
        code = compile(ast.fix_missing_locations(ast.Module([lone], [])), "f", "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError):
        return ast.dump(node)
    body = next(c for c in code.co_consts if isinstance(c, CodeType))
    if _looks_at_names(node):
        return ast.dump(node)
    return repr((type(node).__name__, names, said, outside, _plain(body)))


def _looks_at_names(node: ast.AST) -> bool:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and inner.id in _BY_NAME:
            return True
        called = inner.func.attr if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) else ""
        if called in _BY_NAME - _IN_TEXT or (called in _IN_TEXT and isinstance(inner, ast.Call) and inner.args):
            return True
    return False


def _plain(value: object) -> object:
    """A constant so that equal means the same type and bits; a code object without the names of its variables."""
    if isinstance(value, CodeType):
        shape = (value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, value.co_flags, value.co_exceptiontable)
        return (*shape, value.co_code, value.co_names, [_plain(c) for c in value.co_consts])
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if isinstance(value, frozenset):
        return sorted(repr(_plain(v)) for v in value)
    return repr(value)
