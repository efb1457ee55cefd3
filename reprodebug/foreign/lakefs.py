"""lakeFS: ``.lakefs_ref.yaml`` of ``lakectl local``, and ``lakefs://`` addresses in a project's configuration.

Owns repositories, refs and commits. A ref that is no commit is flagged: its data may have moved.
"""

from __future__ import annotations

import re

from reprodebug.foreign import _yaml
from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

NAME = "lakeFS"
_URI = re.compile(r"lakefs://(?P<repo>[\w.-]+)/(?P<ref>[\w.~^@-]+)(?P<path>/[^\s\"'<>,\]})]*)?")
_S3 = re.compile(r"s3a?://(?P<repo>[\w.-]+)/(?P<ref>[0-9a-f]{64})(?P<path>/[^\s\"'<>,\]})]*)?")
_GATEWAY = re.compile(r"s3a?://(?P<repo>[\w.-]+)/(?P<ref>[\w.~^@-]+)(?P<path>/[^\s\"'<>,\]})]*)?")
"""lakeFS's S3 gateway: where a file names lakeFS too, every S3 address in it is read as repository and ref"""
_ADDRESS = re.compile(rb"lakefs://|s3a?://[\w.-]+/[0-9a-f]{64}/|(?i:lakefs).{0,4000}s3a?://|s3a?://.{0,4000}(?i:lakefs)", re.S)
_SOURCES = (".yaml", ".yml", ".json", ".toml", ".cfg", ".ini", ".py", ".env", ".txt")


def find(tree: Tree) -> list[str]:
    """Reference files, and small text files that name a lakeFS address."""
    found = [f for f in tree.files if f.rsplit("/", 1)[-1] == ".lakefs_ref.yaml"]
    for f in tree.files:
        if (
            f.endswith(_SOURCES)
            and f not in found
            and not re.search(r"(^|/)(site-packages|node_modules|\.git)/", f)
            and tree.size(f) <= 1 << 20
        ) and _ADDRESS.search(tree.read(f, 1 << 20)):
            found.append(f)
    return found


def read(tree: Tree, place: str) -> Record:
    """One file. Raises Unreadable."""
    record = Record(NAME, place)
    text = tree.text(place, 1 << 20)
    if place.endswith(".lakefs_ref.yaml"):
        try:
            found = _yaml.load(text)
        except _yaml.BadYaml as error:
            raise Unreadable(f"{place}: {error.message}") from error
        if not isinstance(found, dict):
            raise Unreadable(f"{place} holds no reference")
        uri = _URI.match(str(found.get("src", "")))
        name = f"lakefs/{uri['repo']}{uri['path'] or ''}".rstrip("/") if uri else "lakefs"
        if uri:
            record.add("data", f"{name}/ref", uri["ref"], place)
        if found.get("at_head"):
            record.add("data", f"{name}/commit", str(found["at_head"]), place)
        if found.get("operation") or found.get("active_operation"):
            operation = found.get("operation") or found.get("active_operation")
            record.notes.append(
                f"{place}: lakectl was in the middle of {str(operation)[:40]}: the data may be part of one commit and part of another"
            )
        return record
    gateway = _GATEWAY if "lakefs" in text.lower() else _S3
    for uri in [*_URI.finditer(text), *gateway.finditer(text)]:
        name = f"lakefs/{uri['repo']}{uri['path'] or ''}".rstrip("/")
        record.add("data", f"{name}/ref", uri["ref"], place)
        if not re.fullmatch(r"[0-9a-f]{12,64}", uri["ref"]):
            note = f"{uri['repo']} is read at {uri['ref']}, a branch or tag: it is not pinned to a commit"
            if note not in record.notes:
                record.notes.append(note)
    return record
