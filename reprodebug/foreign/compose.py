"""Docker Compose: the effective image, environment, command and devices of every service.

Owns: ``compose.yaml`` (``compose.yml``, ``docker-compose.yml``, ``docker-compose.yaml``) merged with its override file, ``.env``
and ``env_file``, ``${VAR:-default}``, ``extends``, ``include``; list and mapping form, text and list command are one thing. Refuses: the shell's
variables (unknown afterwards: they stay as written), files outside the directory.

Sources: Compose specification (compose-spec/spec.md, 13-merge.md, 12-interpolation.md, 05-services.md); compose-go.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from typing import Any

from reprodebug.foreign import _containers, _shell, _yaml
from reprodebug.foreign.docker_inspect import device_request
from reprodebug.foreign.protocol import Record, Unreadable, leaves
from reprodebug.foreign.tree import Tree

NAME = "Docker Compose"
_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_OVERRIDES = tuple(f"{n.rsplit('.', 1)[0]}.override.{x}" for n in _NAMES for x in ("yml", "yaml"))
_LIMIT = 4 << 20
_DEEPEST = 8
_MAPPINGS = frozenset({"environment", "labels", "args", "sysctls", "extra_hosts", "annotations", "driver_opts", "options"})
_COMMANDS = frozenset({"command", "entrypoint"})
_IDENTITY = frozenset({"container_name", "hostname", "depends_on", "restart", "profiles", "extends", "env_file", "healthcheck"})
_UNIQUE = frozenset({"ports", "volumes", "secrets", "configs", "expose", "dns", "cap_add", "cap_drop", "devices", "tmpfs", "security_opt"})


def find(tree: Tree) -> list[str]:
    """Main files; a file of another compose name counts where its folder has no main file."""
    found = [f for f in tree.files if f.rsplit("/", 1)[-1] in _NAMES]
    folders = {posixpath.dirname(f) for f in found}
    loose = re.compile(r"(?:docker-)?compose[._-][^/]*\.ya?ml$|[^/]*[._-](?:docker-)?compose\.ya?ml$")
    by_folder: dict[str, str] = {}
    for name in found:  # compose.yaml before docker-compose.yml, as Compose picks
        folder = posixpath.dirname(name)
        best = by_folder.get(folder)
        if best is None or _NAMES.index(posixpath.basename(name)) < _NAMES.index(posixpath.basename(best)):
            by_folder[folder] = name
    others = [f for f in tree.files if loose.fullmatch(f.rsplit("/", 1)[-1]) and posixpath.dirname(f) not in folders]
    return sorted([*by_folder.values(), *others])


def read(tree: Tree, place: str) -> Record:
    """The effective services of one project."""
    record = Record(NAME, place)
    folder = posixpath.dirname(place)
    project = _Project(tree, record, folder)
    data = project.load(place, required=True)
    override = next((o for o in _OVERRIDES if tree.exists(_join(folder, o))), None)
    if override and place.rsplit("/", 1)[-1] in _NAMES:
        data = merge(data, project.load(_join(folder, override)))
    services = data.get("services")
    if services is None and "version" not in data:
        services = {k: v for k, v in data.items() if isinstance(v, dict) and ("image" in v or "build" in v)}  # version 1
    if not isinstance(services, dict):
        raise Unreadable("no services in it")
    prefix = "" if len(find(tree)) < 2 or not folder else f"{folder}/"
    for name, service in services.items():
        if isinstance(service, dict):
            _service(project, str(name), project.extended(str(name), service, services, place), place, f"{prefix}services/{name}/")
    for name in sorted(project.unknown)[:20]:
        record.notes.append(f"${{{name}}} has no value in these files: it came from the shell")
    record.notes.append("a Compose file does not say which digests its tags had; variables of the shell win over .env and are not recorded")
    return record


class _Project:
    """The files of one project and the values of its variables."""

    def __init__(self, tree: Tree, record: Record, folder: str) -> None:
        self.tree, self.record, self.folder = tree, record, folder
        self.unknown: set[str] = set()
        self.variables: dict[str, str] = {}
        dotenv = _join(folder, ".env")
        if tree.exists(dotenv):
            self.variables = env_lines(tree.text(dotenv, _LIMIT))

    def load(self, name: str, *, required: bool = False, depth: int = 0) -> dict[str, Any]:
        """One file, interpolated, with what it includes. Raises Unreadable for the main file only."""
        try:
            data = _yaml.load(self.tree.text(name, _LIMIT), constructors={"!reset": _reset, "!override": _override})
        except (OSError, _yaml.BadYaml) as error:
            if required:
                raise Unreadable(str(error)[:200]) from None
            self.record.notes.append(f"{name} could not be read: {str(error)[:150]}")
            return {}
        if not isinstance(data, dict):
            if required:
                raise Unreadable("a Compose file is a mapping")
            return {}
        data = self._interpolated(data, 0)
        includes = data.pop("include", None) or []
        result: dict[str, Any] = {}
        for entry in includes if isinstance(includes, list) and depth < _DEEPEST else []:
            paths = entry.get("path") if isinstance(entry, dict) else entry
            for path in paths if isinstance(paths, list) else [paths]:
                if isinstance(path, str):
                    result = merge(result, self.load(_join(posixpath.dirname(name), path), depth=depth + 1))
        whole: dict[str, Any] = merge(result, data) if result else data
        return whole

    def _interpolated(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            if "$" not in value:
                return value
            return _shell.expand(value.replace("$$", "\0"), self.variables, self.unknown.add).replace("\0", "$")
        if depth > 60:
            return value
        if isinstance(value, dict):
            return {k: self._interpolated(v, depth + 1) for k, v in value.items()}
        if isinstance(value, list):
            return [self._interpolated(v, depth + 1) for v in value]
        return value

    def extended(self, name: str, service: dict[str, Any], services: dict[str, Any], place: str, depth: int = 0) -> dict[str, Any]:
        """A service over the one that it extends."""
        parent = service.get("extends")
        if parent is None or depth > _DEEPEST:
            return service
        other = parent.get("service") if isinstance(parent, dict) else parent
        file = parent.get("file") if isinstance(parent, dict) else None
        if file:
            place = _join(posixpath.dirname(place), str(file))
            loaded = self.load(place).get("services")
            services = loaded if isinstance(loaded, dict) else {}
        base = services.get(str(other))
        if not isinstance(base, dict) or (base is service):
            self.record.notes.append(f"service {name} extends {other}, which is not there")
            return service
        whole: dict[str, Any] = merge(
            self.extended(str(other), base, services, place, depth + 1), {k: v for k, v in service.items() if k != "extends"}
        )
        return whole

    def file_variables(self, service: dict[str, Any]) -> dict[str, str]:
        """What the files named by ``env_file`` say; a later file wins."""
        files = service.get("env_file") or []
        found: dict[str, str] = {}
        for entry in files if isinstance(files, list) else [files]:
            path = entry.get("path") if isinstance(entry, dict) else entry
            if not isinstance(path, str):
                continue
            name = _join(self.folder, path)
            if self.tree.exists(name):
                found |= env_lines(self.tree.text(name, _LIMIT), {**self.variables, **found})
            elif not (isinstance(entry, dict) and entry.get("required") is False):
                self.record.notes.append(f"env_file {path} is not there")
        return found


class _Replaced(list[Any]):
    """A value that takes the place of what it is merged into."""


def _reset(loader: Any, suffix: str, node: Any) -> Any:
    return _Replaced([None])


def _override(loader: Any, suffix: str, node: Any) -> Any:
    kind = type(node).__name__
    value = (
        loader.construct_mapping(node, deep=True)
        if kind == "MappingNode"
        else loader.construct_sequence(node, deep=True)
        if kind == "SequenceNode"
        else loader.construct_scalar(node)
    )
    return _Replaced([value])


def _join(folder: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(folder, path))


def env_lines(text: str, known: dict[str, str] | None = None) -> dict[str, str]:
    """Lines of an environment file: ``export``, comments, both quotes, references to earlier names."""
    found: dict[str, str] = {}
    for line in text.splitlines()[:20_000]:
        m = re.match(r"\s*(?:export\s+)?([A-Za-z_][\w.-]*)\s*[=:]\s?(.*)$", line)
        if m is None or line.lstrip().startswith("#"):
            continue
        value = m[2].strip()
        if value[:1] == "'" and (end := value.find("'", 1)) > 0:
            found[m[1]] = value[1:end]
            continue
        if value[:1] == '"' and (q := re.match(r'"((?:[^"\\]|\\.)*)"', value)):
            value = re.sub(r'\\([\\"$nrt])', lambda e: {"n": "\n", "r": "\r", "t": "\t", "$": "\0"}.get(e[1], e[1]), q[1])
        else:
            value = re.split(r"\s#", value)[0].strip()
        found[m[1]] = _shell.expand(value, {**(known or {}), **found}).replace("\0", "$")
    return found


def merge(base: Any, over: Any, key: str = "", depth: int = 0) -> Any:
    """Two Compose values as Compose merges them: mappings by key, lists one after the other, commands replaced."""
    if isinstance(over, _Replaced):
        return over[0]
    if over is None and base is not None:
        return base
    if base is None or depth > 60:
        return _plain(over)
    if key in _MAPPINGS:
        base, over = _mapping(base), _mapping(over)
    if key == "build":
        base, over = ({"context": v} if isinstance(v, str) else v for v in (base, over))
    if isinstance(base, dict) and isinstance(over, dict):
        merged = {**base, **{k: merge(base.get(k), v, str(k), depth + 1) for k, v in over.items()}}
        return {k: v for k, v in merged.items() if v is not None or k not in over or not isinstance(over[k], _Replaced)}
    if isinstance(base, list) and isinstance(over, list) and key not in _COMMANDS:
        if key == "volumes":
            kept = {_target(v): v for v in [*base, *over]}
            return list(kept.values())
        return base + [v for v in over if v not in base]
    if key in ("env_file", "dns", "dns_search", "tmpfs"):
        return [*(base if isinstance(base, list) else [base]), *(over if isinstance(over, list) else [over])]
    return _plain(over)


def _plain(value: Any) -> Any:
    return value[0] if isinstance(value, _Replaced) else value


def _target(volume: Any) -> str:
    """Where a volume is mounted."""
    if isinstance(volume, dict):
        return str(volume.get("target"))
    parts = str(volume).split(":")
    return parts[1] if len(parts) > 1 else parts[0]


def _mapping(value: Any) -> Any:
    """A list of ``name=value`` as a mapping; a name alone has the value None."""
    if not isinstance(value, list):
        return value
    found: dict[str, Any] = {}
    for entry in value:
        if isinstance(entry, dict):
            found |= entry
        else:
            name, mark, given = str(entry).partition("=")
            found[name] = given if mark else None
    return found


def _service(project: _Project, name: str, service: dict[str, Any], place: str, prefix: str) -> None:
    """The facts of one service."""
    record = project.record

    def add(key: str, value: Any, derived: str = "") -> None:
        record.add("container", prefix + key, value, place, derived=derived)

    if service.get("image"):
        add("image", service["image"])
    variables: dict[str, Any] = dict(project.file_variables(service))
    given = _mapping(service.get("environment"))
    for variable, value in given.items() if isinstance(given, dict) else ():
        if value is None:  # taken from the shell, or from .env
            value = project.variables.get(str(variable))
            if value is None:
                variables.pop(str(variable), None)
                project.unknown.add(str(variable))
                continue
        variables[str(variable)] = ("true" if value else "false") if isinstance(value, bool) else str(value)
    for variable, value in variables.items():
        add(f"env/{variable}", value)
    labels = _mapping(service.get("labels"))
    for label, value in labels.items() if isinstance(labels, dict) else ():
        add(f"label/{label}", "" if value is None else str(value))
    for key in sorted(_COMMANDS & service.keys()):
        value = service[key]
        if value is not None:
            add(key, _words(value))
    build = service.get("build")
    if build:
        build = {"context": build} if isinstance(build, str) else build
        for key, value in build.items() if isinstance(build, dict) else ():
            if key in ("args", "labels"):
                mapped = _mapping(value)
                for one, text in mapped.items() if isinstance(mapped, dict) else ():
                    add(f"build/{key}/{one}", None if text is None else str(text))
            else:
                add(f"build/{key}", value)
    _gpus(service, add)
    for key in sorted(str(k) for k in service):
        value = service[key]
        if (
            key in _IDENTITY | _COMMANDS
            or key in ("image", "environment", "labels", "build", "gpus", "runtime")
            or key.startswith("x-")
            or value is None
        ):
            continue
        if key == "deploy" and isinstance(value, dict):
            value = _without_devices(value)
            for leaf, one in leaves(value):
                add(f"deploy/{leaf}", one)
        elif key in _MAPPINGS:
            add(key, _mapping(value))
        elif key in _UNIQUE and isinstance(value, list):
            add(key, sorted((_volume(v) if key == "volumes" else v if isinstance(v, dict) else str(v) for v in value), key=str))
        elif isinstance(value, dict):
            for leaf, one in leaves(value):
                add(f"{key}/{leaf}", one)
        else:
            add(key, value)
    _containers.nvidia_facts(record, {k: str(v) for k, v in variables.items()}, place, prefix)


def _words(value: Any) -> Any:
    """A command as a list of words."""
    if isinstance(value, str):
        try:
            return shlex.split(value)
        except ValueError:
            return value.split()
    return [str(v) for v in value] if isinstance(value, list) else value


def _volume(value: Any) -> Any:
    """A volume in its short form where that says everything."""
    if isinstance(value, dict) and value.keys() <= {"type", "source", "target", "read_only"}:
        return ":".join(str(v) for v in (value.get("source"), value.get("target"), "ro" if value.get("read_only") else None) if v)
    return re.sub(r":rw$", "", value) if isinstance(value, str) else value


def _gpus(service: dict[str, Any], add: Any) -> None:
    """``runtime``, ``gpus`` and ``deploy.resources.reservations.devices`` in one form."""
    if service.get("runtime"):
        add("runtime", service["runtime"])
    found: list[Any] = []
    gpus = service.get("gpus")
    if isinstance(gpus, str):
        found.append(device_request({"driver": "nvidia", "count": gpus, "capabilities": ["gpu"]}))
    elif isinstance(gpus, list):
        found += [device_request({"capabilities": ["gpu"], **g}) for g in gpus if isinstance(g, dict)]
    node: Any = service.get("deploy")
    for key in ("resources", "reservations", "devices"):
        node = node.get(key) if isinstance(node, dict) else None
    if isinstance(node, list):
        found += [device_request(d) for d in node if isinstance(d, dict)]
    if found:
        for one in found:
            if (
                isinstance(one["devices"], str)
                and one["devices"].isdigit()
                and not any("device_ids" in d for d in node or [] if isinstance(d, dict))
            ):
                one["devices"] = int(one["devices"])
        add("devices/gpu", found)


def _without_devices(deploy: dict[str, Any]) -> dict[str, Any]:
    resources = deploy.get("resources")
    if not isinstance(resources, dict) or not isinstance(resources.get("reservations"), dict):
        return deploy
    reservations = {k: v for k, v in resources["reservations"].items() if k != "devices"}
    return {**deploy, "resources": {**resources, "reservations": reservations}}
