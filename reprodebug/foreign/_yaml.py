"""YAML as plain data: no object of any tag is ever constructed, aliases cannot blow it up.

Numbers are read as people mean them (``1e-3`` is a float, which YAML 1.1 alone would call text); what YAML calls a
timestamp stays text. Unknown tags give the plain value below them.
"""

from __future__ import annotations

import re
from typing import Any

from reprodebug._base.errors import ReprodebugError

MAX_TEXT = 16 << 20
_MAX_NODES = 500_000
_DEEPEST = 200
_FLOAT = re.compile(
    r"^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)"
    r"|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)


class BadYaml(ReprodebugError):
    """A text is not YAML, or more than is read."""


def load(text: str, *, constructors: dict[str, Any] | None = None) -> Any:
    """The first document as mappings, lists, text, numbers, bool and None.

    ``constructors``: tag prefix -> function(loader, suffix, node) for a reader that must know tags. Raises BadYaml.
    """
    documents = load_all(text, constructors=constructors)
    return documents[0] if documents else None


def load_all(text: str, *, constructors: dict[str, Any] | None = None) -> list[Any]:
    """Every document of a text. Raises BadYaml."""
    import yaml

    if len(text) > MAX_TEXT:
        raise BadYaml(f"more than {MAX_TEXT >> 20} MiB of YAML")
    loader: Any = type("Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})
    loader.yaml_implicit_resolvers = {
        first: [(tag, rule) for tag, rule in rules if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float")]
        for first, rules in loader.yaml_implicit_resolvers.items()
    }
    loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
    for prefix, make in (constructors or {}).items():
        loader.add_multi_constructor(prefix, make)
    loader.add_multi_constructor("", _plain)
    try:
        _count(yaml, loader, text)
        return list(yaml.load_all(text, Loader=loader))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, KeyError, AttributeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise BadYaml(f"not YAML{where}: {getattr(error, 'problem', None) or type(error).__name__}") from None


def _plain(loader: Any, suffix: str, node: Any) -> Any:
    """What stands under an unknown tag, as plain data; the name of a Python class as ``repr`` shows it."""
    import yaml

    name = re.match(r"tag:yaml\.org,2002:python/name:(?:builtins\.)?([\w.]+)$", suffix)
    if name and isinstance(node, yaml.ScalarNode):
        return f"<class '{name[1]}'>"
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)


def _count(yaml: Any, loader: Any, text: str) -> None:
    """Refuse a text whose aliases would unfold to more nodes than are read, and one that is nested so deep that libyaml's composer,
    which calls itself, would take the process down. Raises BadYaml."""
    sizes: dict[str, int] = {}
    stack: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, Loader=loader):
        size = 0
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            stack.append((event.anchor, total))
            if len(stack) > _DEEPEST:
                raise BadYaml(f"nested deeper than {_DEEPEST} levels")
            total += 1
            continue
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = stack.pop()
            if anchor:
                sizes[anchor] = total - before
        total += size
        if total > (_MAX_NODES if sizes else 8 * _MAX_NODES):
            raise BadYaml("this YAML unfolds to too many nodes")
