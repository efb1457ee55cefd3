"""Configuration files of a project: OmegaConf, YACS and detectron2, Pydantic, ml_collections as text or JSON, and any other.

Owns YAML, JSON and TOML files, and printed ``argparse.Namespace``s, whose names say that they configure (``config*``, ``params*``, ``settings*``, ``hparams*``, ``*.cfg`` ...,
folders ``conf/`` and ``configs/``), ``.env`` files, and the ``_BASE_`` of YACS. Files that a more specific reader knows, lock files, model weights'
indices and listings of data are left out. References are followed as in OmegaConf; tuples and lists are the same.
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
import tomllib
import warnings
from typing import Any

from reprodebug.foreign import _yaml
from reprodebug.foreign.hydra import configuration
from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.training_logs import is_sacred
from reprodebug.foreign.tree import Tree

NAME = "configuration"
_NAME = re.compile(
    r"(^|/)((?:[\w.-]*(?:[_.-]|(?=[CSPA](?:onfig|ettings|arams|rgs)\b)))?(?:config|configuration|cfg|conf|settings|params|parameters|hparams|hyperparameters|args|arguments|options|opts?|train|training"
    r"|experiment|exp|run|model|schema|default|hyper_?params)s?(?:[_.-][\w.-]*)?)\.(ya?ml|json|toml)$|(^|/)(conf|configs?|cfgs?|experiments?)/[^?]*\.(ya?ml|json|toml)$",
    re.I,
)
_NAMESPACE = re.compile(r"(^|/)[\w.-]*(args|arguments|opts?|options|config|params|hparams)\.(txt|log)$", re.I)
"""where programs print their ``argparse.Namespace``"""
_DOTENV = re.compile(r"(^|/)\.env(\.[\w-]+)?$")
_NOT = re.compile(
    r"(^|/)(\.git|\.hydra|\.dvc|\.neptune|wandb|mlruns|\.aim|node_modules|site-packages|conda-meta|_delta_log|\.venv|exports|\.github|__pycache__"
    r"|checkpoints?|artifacts|journal)/|(^|/)(package(-lock)?|tsconfig|pyproject|dvc|metadata|compose|docker-compose[\w.-]*|environment|conda-lock|multirun"
    r"|pnpm-lock|mkdocs|\.pre-commit-config|\.readthedocs|codecov|tokenizer[\w.-]*|special_tokens_map|vocab|[\w.-]*\.index|[\w.-]*\.lock"
    r"|MLmodel|wandb-[\w-]+|pylock[\w.-]*|EXPECTED|MUST_NOT|trainer_state|experiment_state-[\w.:-]+)\.(ya?ml|json|toml)$|(^|/)(run|task)\.json$",
    re.I,
)
_MOST, _LARGEST = 200, 1 << 20


def find(tree: Tree) -> list[str]:
    """The files, in order of their names."""
    if tree.single:
        name = tree.files[0]
        own = name.endswith((".yaml", ".yml", ".json", ".toml")) or _DOTENV.search(name) or _is_namespace(tree, name)
        return [name] if own and not _NOT.search(name) and not _elsewhere(tree, name) else []
    written = [f for f in tree.files if f.endswith((".yaml", ".yml", ".json", ".toml")) or ".env" in f]
    found = [f for f in written if (_NAME.search(f) or _DOTENV.search(f)) and not _NOT.search(f) and tree.size(f) <= _LARGEST]
    found += [f for f in tree.files if _NAMESPACE.search(f) and not _NOT.search(f) and _is_namespace(tree, f)]
    return [f for f in found if not _elsewhere(tree, f)][:_MOST]


def _is_namespace(tree: Tree, name: str) -> bool:
    return tree.read(name, 64).lstrip().startswith(b"Namespace(")


def _namespace(text: str) -> dict[str, Any]:
    """The values of a printed ``Namespace(...)``: literals, and the text of whatever else stands there. Nothing is evaluated."""
    with warnings.catch_warnings(action="ignore"):  # of escapes in its texts
        try:
            call = ast.parse(text.strip(), mode="eval").body
        except SyntaxError:  # an object that prints itself in angle brackets
            call = ast.parse(re.sub(r"=(<[^<>\n]*>)", lambda m: f"={m[1]!r}", text.strip()), mode="eval").body
    found: dict[str, Any] = {}
    for keyword in call.keywords if isinstance(call, ast.Call) else ():
        try:
            value = ast.literal_eval(keyword.value)
        except (ValueError, TypeError):
            value = ast.unparse(keyword.value)
        found[str(keyword.arg)] = sorted(map(str, value)) if isinstance(value, set) else value
    return found


def is_named_so(name: str) -> bool:
    """Whether a path says that it configures."""
    return _NAME.search(name) is not None


def _elsewhere(tree: Tree, name: str) -> bool:
    """Whether another reader knows this file, or it is no configuration."""
    head = tree.read(name, 1 << 16)
    if b"ml_collections.config_dict" in head or (b"lakefs://" in head and b"at_head" in head):
        return True
    folder = posixpath.dirname(name)
    if posixpath.basename(name) == "config.json" and tree.exists(run := posixpath.join(folder, "run.json")) and is_sacred(tree, run):
        return True
    if posixpath.basename(name) == "params.yaml" and (
        tree.exists(posixpath.join(folder, "dvc.yaml")) or tree.exists(posixpath.join(folder, "dvc.lock"))
    ):
        return True
    if name.endswith((".yaml", ".yml")) and (
        re.search(rb"^pipeline:|^apiVersion:|^outs:|^services:|^dependencies:\s*$", head, re.M) is not None
    ):
        return re.search(rb"^(services|outs|apiVersion|dependencies):", head, re.M) is not None or b"transform" in head
    if posixpath.basename(name) in ("config.yaml", "overrides.yaml", "hydra.yaml") and posixpath.basename(folder) == ".hydra":
        return True
    if name.endswith(".json"):
        beside = [f"{name[:-5]}.yaml", f"{name[:-5]}.yml"]
        if any(tree.exists(b) and b"ml_collections.config_dict" in tree.read(b, 1 << 16) for b in beside):
            return True  # the same configuration, written twice
        if b'"pipeline"' in head and (b'"transform"' in head or b'"input"' in head):
            return True
    return False


def read(tree: Tree, place: str) -> Record:
    """One file. Raises Unreadable."""
    record = Record(NAME, place)
    if _DOTENV.search(place):
        for name, value in dotenv(tree.text(place, _LARGEST)).items():
            record.add("environment", f"env/{name}", value, place)
        return record
    found = load(tree, place)
    if isinstance(found, dict) and (found or tree.text(place, 1 << 12).strip()):
        found = _with_base(tree, place, found, 0)
        if isinstance(found.get("properties"), dict) and ("$defs" in found or "$schema" in found or found.get("type") == "object"):
            found = {"schema": found}
        record.prefix = posixpath.splitext(place)[0]  # used only where a key stands in several files of a side
        configuration(record, _lists(found), place)
        record.facts.pop(("config", "(root)"), None)
    else:
        raise Unreadable(f"{place} {'holds no mapping' if found else 'is empty'}")
    return record


def load(tree: Tree, place: str) -> Any:
    """A YAML, JSON or TOML file as plain data. Raises Unreadable."""
    text = tree.text(place, _LARGEST)
    try:
        if place.endswith(".json"):
            return json.loads(text)
        if _is_namespace(tree, place):
            return _namespace(text)
        if place.endswith(".toml"):
            return tomllib.loads(text)
        return _yaml.load(text)
    except (ValueError, RecursionError, MemoryError, SyntaxError, _yaml.BadYaml) as error:
        raise Unreadable(f"{place} cannot be parsed: {str(error)[:120]}") from error


def _with_base(tree: Tree, place: str, found: dict[str, Any], depth: int) -> dict[str, Any]:
    """YACS: what ``_BASE_`` names comes first."""
    base = found.get("_BASE_")
    if not isinstance(base, str) or depth > 8:
        return found
    path = posixpath.normpath(posixpath.join(posixpath.dirname(place), base))
    rest = {k: v for k, v in found.items() if k != "_BASE_"}
    try:
        below = load(tree, path)
    except (OSError, Unreadable):
        return found
    return _merged(_with_base(tree, path, below, depth + 1), rest) if isinstance(below, dict) else rest


def _merged(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    out = dict(a)
    for key, value in b.items():
        old = out.get(key)
        out[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def _lists(node: Any, depth: int = 0) -> Any:
    """YACS writes tuples as text: ``(1, 2)`` is the list."""
    if depth > 64:
        return node
    if isinstance(node, dict):
        return {k: _lists(v, depth + 1) for k, v in node.items()}
    if isinstance(node, str) and re.match(r"^\([^()]*\)$", node) and "," in node:
        try:
            return json.loads("[" + node[1:-1].rstrip(", ").replace("'", '"') + "]")
        except ValueError:
            return node
    return node


def dotenv(text: str) -> dict[str, str]:
    """Variables of a ``.env`` file; a value in quotes may go over several lines."""
    return {m[1]: next(x for x in (m[2], m[3], m[4]) if x is not None) for m in _VARIABLE.finditer(text)}


_VARIABLE = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\n]*?))[ \t]*(?:[ \t]#.*)?\r?$""", re.M
)
