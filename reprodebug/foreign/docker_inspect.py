"""JSON of ``docker image inspect``, ``docker container inspect``, ``podman inspect``.

Owns: image reference and digest, environment, labels, command, layers, and those settings of ``HostConfig`` that a program
can feel. Refuses: ids, names, dates, addresses, state: identity.

Sources: Docker Engine API 1.47 (ImageInspect, ContainerInspect, HostConfig, DeviceRequest); podman-inspect(1).
"""

from __future__ import annotations

import re
from typing import Any

from reprodebug.foreign import _containers
from reprodebug.foreign.protocol import IMAGE_ID, Record, Unreadable, rows
from reprodebug.foreign.tree import Tree

NAME = "docker inspect"
_HOST = (
    "Runtime DeviceRequests ShmSize IpcMode Memory MemorySwap NanoCpus CpuQuota CpuPeriod CpuShares CpusetCpus CpusetMems Privileged "
    "NetworkMode PidMode Ulimits Devices Sysctls SecurityOpt CapAdd CapDrop ReadonlyRootfs Binds"
)
_DATES = re.compile(r"(?:created|build-?date|build[-_.]time|revision-?date)$", re.I)
_EMPTY: tuple[Any, ...] = ("", None, 0, False, [], {})


def find(tree: Tree) -> list[str]:
    """JSON files with the members that every inspect dump has."""
    return _containers.holding(tree, ".json", b'"Config"', b'"Id"')


def read(tree: Tree, place: str) -> Record:
    """What one dump says; of several objects the first container, and the images."""
    data = _containers.load_json(tree, place)
    while isinstance(data, list) and len(data) == 1 and isinstance(data[0], list):
        data = data[0]
    objects = [o for o in (data if isinstance(data, list) else [data]) if isinstance(o, dict) and isinstance(o.get("Config"), dict)]
    if not objects:
        raise Unreadable("no object of docker inspect with a Config")
    record = Record(NAME, place)
    containers = [o for o in objects if "HostConfig" in o or "State" in o]
    images = [o for o in objects if o not in containers]
    for n, one in enumerate(containers):
        _container(record, one, place, "" if len(containers) == 1 else f"{str(one.get('Name') or n).lstrip('/')}/")
    for n, one in enumerate(images):
        alone = not containers and len(images) == 1
        _image(record, one, place, "" if alone else f"{_reference(one) or n}/", alone or not containers)
    record.notes.append("docker inspect does not record packages, nor the driver of the host")
    return record


def _reference(image: dict[str, Any]) -> str:
    names = image.get("RepoTags") or image.get("NamesHistory") or []
    return str(names[0]) if isinstance(names, list) and names else ""


def _container(record: Record, one: dict[str, Any], place: str, prefix: str) -> None:
    config = one["Config"]
    record.add("container", f"{prefix}image", config.get("Image") or one.get("ImageName"), place)
    digest = one.get("ImageDigest") or one.get("Image")
    if digest:
        record.add("container", f"{prefix}image/digest", digest, place, note="" if one.get("ImageDigest") else IMAGE_ID)
    _config(record, config, place, prefix)
    host: dict[str, Any] = one["HostConfig"] if isinstance(one.get("HostConfig"), dict) else {}
    for name in _HOST.split():
        value = host.get(name)
        if value in _EMPTY or (name == "Binds" and one.get("Mounts")):  # the mounts say the same
            continue
        if name == "DeviceRequests" and isinstance(value, list):
            value = [device_request(r) for r in value if isinstance(r, dict)]
        record.add("container", f"{prefix}HostConfig/{name}", value, place)
    for mount in rows(one.get("Mounts")):
        if isinstance(mount, dict) and mount.get("Destination"):
            what = mount.get("Name") if mount.get("Type") == "volume" else mount.get("Source")
            value = f"{mount.get('Type', 'bind')}:{what}:{'rw' if mount.get('RW', True) else 'ro'}"
            record.add("container", f"{prefix}mount/{mount['Destination']}", value, place)


def device_request(request: dict[str, Any]) -> dict[str, Any]:
    """One request for devices in one form: driver, devices, capabilities."""
    count = request.get("Count", request.get("count"))
    ids = request.get("DeviceIDs") or request.get("device_ids") or []
    capabilities = request.get("Capabilities") or request.get("capabilities") or []
    flat = sorted({str(c) for group in rows(capabilities) for c in (group if isinstance(group, list) else [group])})
    which = _containers.devices(ids) if ids else "all" if count in (-1, "all", None) else count
    driver = request.get("Driver") or request.get("driver") or ""
    found = {"driver": driver, "devices": which, "capabilities": flat}
    options = request.get("Options") or request.get("options")
    return {**found, "options": options} if options else found


def _image(record: Record, one: dict[str, Any], place: str, prefix: str, whole: bool) -> None:
    reference = _reference(one)
    if reference:
        record.add("container", f"{prefix}image", reference, place)
    digests = one.get("RepoDigests") or []
    digest = one.get("Digest") or (str(digests[0]).rpartition("@")[2] if isinstance(digests, list) and digests else "")
    if digest:
        record.add("container", f"{prefix}image/digest", digest, place)
    if one.get("Id"):
        record.add("container", f"{prefix}image/id", str(one["Id"]), place, derived=f"{prefix}image/layers")
    for key, name in (("Architecture", "architecture"), ("Os", "os"), ("Variant", "variant")):
        if one.get(key):
            record.add("container", f"{prefix}image/{name}", one[key], place)
    layers = one.get("RootFS")
    if isinstance(layers, dict) and isinstance(layers.get("Layers"), list):
        record.add("container", f"{prefix}image/layers", [str(x) for x in layers["Layers"]], place, derived=f"{prefix}image/digest")
    if whole:
        _config(record, one["Config"], place, prefix)


def _config(record: Record, config: dict[str, Any], place: str, prefix: str) -> None:
    variables = _containers.environment(config.get("Env"))
    for name, value in variables.items():
        if name != "HOSTNAME":
            record.add("container", f"{prefix}env/{name}", value, place)
    labels = config.get("Labels")
    for name, value in labels.items() if isinstance(labels, dict) else ():
        if not _DATES.search(name) and not re.match(r"com\.docker\.compose\.(?:config-hash|container-number|image|version|project)", name):
            record.add("container", f"{prefix}label/{name}", value, place)
    for key in ("Cmd", "Entrypoint", "WorkingDir", "User", "Shell"):
        if config.get(key):
            record.add("container", f"{prefix}{key.lower()}", config[key], place)
    if variables.get("PYTHON_VERSION"):
        record.add("environment", f"{prefix}python", variables["PYTHON_VERSION"], place, derived=f"{prefix}env/PYTHON_VERSION")
    _containers.nvidia_facts(record, variables, place, prefix)
