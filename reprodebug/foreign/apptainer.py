"""Singularity / Apptainer: definition files, ``inspect --json``, ``/.singularity.d``, and SIF images.

Owns: base image, packages that ``%post`` installs, environment, labels, arguments, per stage; from any of the four sources.
Refuses: the file system inside a SIF image (named by a hash of its descriptor's size only), decryption, signatures.

Sources: Apptainer user guide ("Definition Files", "inspect"); apptainer pkg/build/types/parser; SIF:
github.com/apptainer/sif pkg/sif (header and descriptor layouts, types 0x4001 to 0x4008).
"""

from __future__ import annotations

import json
import posixpath
import re
import struct
from dataclasses import dataclass
from typing import Any

from reprodebug.foreign import _containers, _shell
from reprodebug.foreign.dockerfile import add_installed
from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

NAME = "Apptainer"
_LIMIT = 4 << 20
_OBJECT_LIMIT = 4 << 20
_MOST_DESCRIPTORS = 4096
_MAGIC = b"SIF_MAGIC\0"
_HEADER = struct.Struct("<32s10s3s3s16s8q")
_DESCRIPTOR = struct.Struct("<i?IIIqqqqqqq128s384s")
_USED_AT_MOST = 64
"""objects of one image that are read"""
_TYPES = {0x4001: "definition", 0x4002: "environment", 0x4003: "labels", 0x4004: "partition", 0x4005: "signature", 0x4006: "json"}
_TYPES |= {0x4007: "generic", 0x4008: "cryptographic message"}
_ARCH = {b"01": "386", b"02": "amd64", b"03": "arm", b"04": "arm64", b"05": "ppc64", b"06": "ppc64le", b"12": "riscv64"}
_SECTION = re.compile(r"^%(\w+)(.*)$")
_HEADERS = re.compile(r"^\s*([A-Za-z][\w-]*)\s*:\s*(.*?)\s*$")
_TEMPLATE = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}")
_DATE_LABEL = re.compile(r"(?:build-?date|created|build\.time)$", re.I)
_FROM_LABEL = re.compile(r"usage\.(?:singularity|apptainer)\.deffile\.(.+)$")
_SHEBANG = re.compile(r"^#!.*\n?")


@dataclass(frozen=True, slots=True)
class SifObject:
    """One used descriptor of a SIF image."""

    kind: int
    name: str
    offset: int
    size: int
    extra: bytes


def find(tree: Tree) -> list[str]:
    """Definition files, dumps of inspect, SIF images, and ``.singularity.d`` folders."""
    found: set[str] = set()
    folders: set[str] = set()
    for name in tree.files:
        leaf = posixpath.basename(name)
        low = leaf.lower()
        inner = re.match(r"(?:.*/)?\.singularity\.d(?=/)", name)
        if inner:
            folders.add(inner.group(0))
        elif low.endswith((".sif", ".simg")) or (
            (low.endswith((".def", ".singularity", ".apptainer")) or re.fullmatch(r"(?:singularity|apptainer)(?:\..+)?", low))
            and not low.endswith((".py", ".md", ".sif", ".json", ".yaml", ".yml", ".sh"))
            and re.search(rb"(?mi)^\s*bootstrap\s*:", _head(tree, name))
        ):
            found.add(name)
    inspected = [f for f in _containers.holding(tree, ".json", b'"attributes"') if "/.singularity.d/" not in f"/{f}"]
    for name in inspected:
        head = _head(tree, name)
        if any(k in head for k in (b'"labels"', b'"deffile"', b'"environment"', b'"runscript"', b'"apps"', b"org.label-schema")):
            found.add(name)
    return sorted(found | folders)


def _head(tree: Tree, name: str) -> bytes:
    try:
        return tree.read(name, 64 << 10)
    except OSError:
        return b""


def read(tree: Tree, place: str) -> Record:
    """What one of these sources says."""
    record = Record(NAME, place, few=True)
    low = place.lower()
    if posixpath.basename(place) == ".singularity.d":
        _folder(record, tree, place)
    elif low.endswith((".sif", ".simg")):
        _image(record, tree, place)
    elif low.endswith(".json"):
        _inspect(record, _containers.load_json(tree, place), place)
    else:
        several = (
            len([f for f in find(tree) if not f.lower().endswith((".json", ".sif", ".simg")) and not f.endswith(".singularity.d")]) > 1
        )
        definition(record, tree.text(place, _LIMIT), place, f"{place}/" if several else "")
        record.notes.append(
            "a definition file does not say which digest its base had, nor which versions of unpinned packages were installed"
        )
    if not record.facts:
        raise Unreadable("nothing of a definition, labels or an environment in it")
    return record


# definition files


@dataclass(slots=True)
class _Stage:
    name: str
    header: dict[str, str]
    sections: dict[str, str]


def definition(record: Record, text: str, source: str, prefix: str = "") -> None:
    """Add what a definition file says."""
    found = _stages(text)
    if not found:
        raise Unreadable("no Bootstrap in it: no definition file")
    known: dict[str, str] = {}
    for stage in found:
        for line in stage.sections.get("arguments", "").splitlines():
            name, mark, value = line.strip().partition("=")
            if mark and not name.startswith("#"):
                known[name.strip()] = value.strip().strip("\"'")
    for name, value in known.items():
        record.add("container", f"{prefix}arg/{name}", value, source)
    for n, stage in enumerate(found):
        last = n == len(found) - 1
        _stage(record, stage, source, prefix if last else f"{prefix}stage/{stage.name or n}/", known)
        if len(found) > 1:
            image = _TEMPLATE.sub(lambda m: known.get(m[1], m.group(0)), stage.header.get("from", ""))
            record.add("container", f"{prefix}from/{stage.name or n}", image, source, derived=f"{prefix}FROM" if last else "")


def _stages(text: str) -> list[_Stage]:
    """Header and sections of every stage; ``%appinstall x`` is section ``app/x/install``."""
    found: list[_Stage] = []
    section: str | None = None
    for line in text.replace("\r\n", "\n").split("\n"):
        m = _SECTION.match(line)
        if m and found:
            words = m[2].split("#")[0].split()
            name = m[1].lower()
            if name.startswith("app") and len(name) > 3 and name != "apptainer" and words:
                section = f"app/{words[0]}/{name[3:]}"
            else:
                section = name if name != "files" or words[:1] != ["from"] else f"files from {' '.join(words[1:])}"
            found[-1].sections.setdefault(section, "")
            continue
        h = _HEADERS.match(line)
        if h and h[1].lower() == "bootstrap" and (section is None or not line[:1].isspace()):
            found.append(_Stage("", {"bootstrap": h[2]}, {}))
            section = None
        elif section is not None and found:
            found[-1].sections[section] += line + "\n"
        elif h and found and not line.lstrip().startswith("#"):
            value = re.split(r"\s#", h[2])[0].strip()
            found[-1].header[h[1].lower()] = value
            if h[1].lower() == "stage":
                found[-1].name = value
    return found


def _stage(record: Record, stage: _Stage, source: str, prefix: str, known: dict[str, str]) -> None:
    def filled(text: str) -> str:
        return _TEMPLATE.sub(lambda m: known.get(m[1], m.group(0)), text)

    def add(key: str, value: Any) -> None:
        record.add("container", prefix + key, value, source)

    header = {k: filled(v) for k, v in stage.header.items()}
    if header.get("from"):
        add("FROM", header["from"])
    for key, value in header.items():
        if key not in ("from", "stage"):
            add(key, value)
    sections = {k: filled(v) for k, v in stage.sections.items()}
    for name, value in label_lines(sections.get("labels", "")).items():
        _label(record, name, value, source, prefix)
    variables = _shell.read(sections.get("environment", ""))
    assigned = {**variables.exported, **{k: v for k, v in variables.variables.items() if k in sections.get("environment", "")}}
    for name, value in assigned.items():
        add(f"env/{name}", value)
    _containers.nvidia_facts(record, assigned, source, prefix)
    for name, text in sections.items():
        leaf = name.rsplit("/", 1)[-1]
        if leaf in ("post", "setup", "pre", "install"):
            script = _shell.read(_SHEBANG.sub("", text))
            add_installed(record, script.installed, source, prefix if "/" not in name else f"{prefix}{name}/")
            if script.rest:
                add(name, script.rest)
        elif leaf in ("runscript", "startscript", "test", "run", "start") and text.strip():
            add(name, _body(text))
        elif leaf.startswith("files") and (lines := _body(text)):
            add(name, [" ".join(line.split()) for line in lines])
        elif leaf == "env" and "/" in name:
            for variable, value in _shell.read(text).variables.items():
                add(f"{name}/{variable}", value)


def _body(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def label_lines(text: str) -> dict[str, str]:
    """Labels: the name is the first word, the value the rest of the line; also ``name=value``."""
    found = {}
    for line in _body(text):
        parts = re.split(r"[\s=]+", line, maxsplit=1)
        found[parts[0]] = parts[1].strip().strip("\"'") if len(parts) > 1 else ""
    return found


def _label(record: Record, name: str, value: Any, source: str, prefix: str = "") -> None:
    """One label; those about the build's base become ``FROM``, dates are left out."""
    if _DATE_LABEL.search(name):
        return
    if m := _FROM_LABEL.search(name):
        key = {"from": "FROM"}.get(m[1].lower(), m[1].lower())
        if key != "stage" and ("container", prefix + key) not in record.facts:
            record.add("container", prefix + key, value, source)
        return
    record.add("container", f"{prefix}label/{name}", value, source)


# inspect and /.singularity.d


def _inspect(record: Record, data: Any, place: str) -> None:
    """JSON of ``inspect --json``: with ``data`` (Singularity 2.4 and newer), or attributes at the top."""
    for one in (data if isinstance(data, list) else [data])[:100]:
        if isinstance(one, dict) and isinstance(one.get("data"), dict):
            one = one["data"]
        attributes = one.get("attributes") if isinstance(one, dict) else None
        if isinstance(attributes, dict):
            _attributes(record, attributes, place, "")
    if not record.facts:
        raise Unreadable("no attributes of a container in it")


def _attributes(record: Record, attributes: dict[str, Any], place: str, prefix: str) -> None:
    text = attributes.get("deffile")
    if isinstance(text, str) and text.strip():
        try:
            definition(record, text[:_LIMIT], place, prefix)
        except Unreadable:
            record.notes.append("the definition inside is not one")
    labels = attributes.get("labels")
    labels = labels.get("Labels", labels) if isinstance(labels, dict) else {}
    for name, value in labels.items() if isinstance(labels, dict) else ():
        _label(record, str(name), value, place, prefix)
    environment = attributes.get("environment")
    texts: dict[str, Any] = environment if isinstance(environment, dict) else {"environment": environment}
    variables: dict[str, str] = {}
    for name in sorted(texts):
        if isinstance(texts[name], str):
            variables |= _shell.read(texts[name][:_LIMIT]).exported
    _variables(record, variables, place, prefix)
    for key in ("runscript", "startscript", "test", "helpfile"):
        text = attributes.get(key)
        if isinstance(text, str) and key != "helpfile" and text.strip():
            record.add("container", f"{prefix}{key}", _body(_SHEBANG.sub("", text)), place)
    apps = attributes.get("apps")
    for name, app in apps.items() if isinstance(apps, dict) and not prefix else ():
        if isinstance(app, dict):
            _attributes(record, app, place, f"app/{name}/")


def _variables(record: Record, variables: dict[str, str], place: str, prefix: str = "") -> None:
    for name, value in variables.items():
        if not name.startswith(("SINGULARITY_", "APPTAINER_")):
            record.add("container", f"{prefix}env/{name}", value, place)
    _containers.nvidia_facts(record, variables, place, prefix)


def _folder(record: Record, tree: Tree, place: str) -> None:
    """``/.singularity.d`` as a container or a sandbox has it."""
    base = f"{place}/Singularity"
    if tree.exists(base):
        try:
            definition(record, tree.text(base, _LIMIT), base)
        except Unreadable:
            record.notes.append("Singularity in it is no definition file")
    if tree.exists(f"{place}/labels.json"):
        try:
            labels = _containers.load_json(tree, f"{place}/labels.json")
        except Unreadable as error:
            record.notes.append(f"labels.json: {error}")
        else:
            for name, value in labels.items() if isinstance(labels, dict) else ():
                _label(record, str(name), value, f"{place}/labels.json")
    variables: dict[str, str] = {}
    for name in sorted(tree.below(f"{place}/env")):
        leaf = posixpath.basename(name)
        if leaf.endswith(".sh") and leaf not in ("01-base.sh", "95-apps.sh", "99-base.sh", "99-runtimevars.sh", "90-environment.sh.bak"):
            variables |= _shell.read(tree.text(name, _LIMIT), variables).exported
    _variables(record, variables, f"{place}/env")
    for key in ("runscript", "startscript"):
        if tree.exists(f"{place}/{key}"):
            record.add("container", key, _body(_SHEBANG.sub("", tree.text(f"{place}/{key}", _LIMIT))), f"{place}/{key}")


# SIF


def objects(tree: Tree, place: str) -> tuple[str, list[SifObject], list[str]]:
    """Architecture, used descriptors and notes of a SIF image. Raises Unreadable where there is no SIF header."""
    with open(tree.path(place), "rb") as f:
        size = f.seek(0, 2)
        f.seek(0)
        head = f.read(_HEADER.size)
        if len(head) < _HEADER.size or head[32:42] != _MAGIC:
            old = head[:4] == b"hsqs" or b"#!/usr/bin/env run-singularity" in head[:64]
            raise Unreadable(
                "an image of Singularity 2 (squashfs), which carries no definition outside its file system" if old else "no SIF header"
            )
        _, _, _version, arch, _, _, _, _free, total, offset, length, _, _ = _HEADER.unpack(head)
        notes = []
        count = max(0, min(total, _MOST_DESCRIPTORS, length // _DESCRIPTOR.size if length > 0 else total))
        if not 0 <= offset <= size:
            raise Unreadable("its descriptors lie outside the file")
        f.seek(offset)
        table = f.read(count * _DESCRIPTOR.size)
    if len(table) < count * _DESCRIPTOR.size:
        notes.append("the image is cut inside its descriptors")
    found: list[Any] = []
    for n in range(len(table) // _DESCRIPTOR.size):
        kind, used, _, _, _, at, long, _, _, _, _, _, name, extra = _DESCRIPTOR.unpack_from(table, n * _DESCRIPTOR.size)
        if used and kind in _TYPES:
            if at < 0 or long < 0 or at + long > size:
                notes.append(f"a {_TYPES[kind]} object lies outside the file: the image is cut")
            elif len(found) < _USED_AT_MOST:
                found.append(SifObject(kind, name.split(b"\0")[0].decode("utf-8", "replace"), at, long, extra))
    return _ARCH.get(arch.rstrip(b"\0"), arch.rstrip(b"\0").decode("latin-1")), found, notes


def _image(record: Record, tree: Tree, place: str) -> None:
    """A SIF image: definition, environment and labels are objects of their own, not compressed."""
    arch, found, notes = objects(tree, place)
    record.notes += list(dict.fromkeys(notes))
    record.add("container", "architecture", arch, place)
    with open(tree.path(place), "rb") as f:

        def body(one: SifObject) -> bytes:
            f.seek(one.offset)
            return f.read(min(one.size, _OBJECT_LIMIT))

        for one in sorted(found, key=lambda o: o.kind):
            text = body(one).decode("utf-8", "replace").rstrip("\0") if one.kind in (0x4001, 0x4002, 0x4003, 0x4006) else ""
            if one.kind == 0x4001:
                try:
                    definition(record, text, place)
                except Unreadable:
                    record.notes.append("its definition cannot be read")
            elif one.kind == 0x4002:
                _variables(record, _shell.read(text).exported, place)
            elif one.kind == 0x4003:
                try:
                    labels = json.loads(text)
                except (ValueError, RecursionError):
                    record.notes.append("its labels are not JSON")
                    continue
                for name, value in labels.items() if isinstance(labels, dict) else ():
                    _label(record, str(name), value, place)
            elif (one.kind == 0x4006 and one.name == "oci-config.json") or (one.kind == 0x4006 and '"rootfs"' in text):
                _oci(record, text, place)
            elif one.kind == 0x4004:
                record.add("container", "partition/size", one.size, place)
    if not any(o.kind == 0x4001 for o in found):
        record.notes.append("the image carries no definition")
    record.notes.append("packages inside the image's file system are not listed; only what its definition installs")


def _oci(record: Record, text: str, place: str) -> None:
    """The OCI configuration that an image pulled from a registry carries."""
    try:
        config = json.loads(text).get("config")
    except (ValueError, RecursionError, AttributeError):
        return
    if isinstance(config, dict):
        _variables(record, _containers.environment(config.get("Env")), place)
        labels = config.get("Labels")
        for name, value in labels.items() if isinstance(labels, dict) else ():
            _label(record, str(name), value, place)
