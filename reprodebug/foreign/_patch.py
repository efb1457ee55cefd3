"""A patch as facts: which files it touches, and a hash of what it does to them."""

from __future__ import annotations

import hashlib
import re

from reprodebug.foreign.protocol import Record


def diff_facts(record: Record, text: str, source: str) -> None:
    """The uncommitted changes of a run: ``git_diff`` with the touched files and a hash of the changed lines; nothing for an
    empty patch."""
    files = touched(text)
    if not text.strip() or not (files or re.search(r"^[-+][^-+]", text, re.M)):
        return
    lines = [line for line in text.splitlines() if line[:1] in "+-" and not line.startswith(("+++", "---"))]
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "replace")).hexdigest()[:16]
    record.add("code", "git_diff", f"{', '.join(files[:20]) or 'a patch'} (sha256:{digest})", source)


def touched(text: str) -> list[str]:
    """Files that a patch changes, in order."""
    found = re.findall(r"^diff --git a/(?:.*?) b/(.*)$", text, re.M) or [
        f for f in re.findall(r"^\+\+\+ (?:b/)?([^\t\n]+)", text, re.M) if f != "/dev/null"
    ]
    return list(dict.fromkeys(found))
