"""A patch as facts: which files it touches, and a hash of what it does to them."""

from __future__ import annotations

import hashlib
import re

from reprodebug.foreign.protocol import Record

_MOST = 20
"""files that are named"""


def diff_facts(record: Record, text: str, source: str) -> None:
    """The uncommitted changes of a run: ``git_diff`` with the touched files, each with a hash of its changed lines, so that the
    changes of two runs of one commit can be compared file by file; nothing for an empty patch."""
    if not text.strip() or not (touched(text) or re.search(r"^[-+][^-+]", text, re.M)):
        return
    parts = re.split(r"^(?=diff --git a/)", text, flags=re.M) if re.search(r"^diff --git a/", text, re.M) else [text]
    told = []
    for part in parts:
        lines = [line for line in part.splitlines() if line[:1] in "+-" and not line.startswith(("+++", "---"))]
        lines += (
            re.findall(r"^(?:new mode|rename (?:from|to)|(?:new|deleted) file mode|Binary files|GIT binary patch).*$", part, re.M)
            if not lines
            else []
        )
        names = touched(part)
        if names or lines:
            digest = hashlib.sha256("\n".join(lines).encode("utf-8", "replace")).hexdigest()[:16]
            told.append(f"{', '.join(names[:20]) or 'a patch'} (sha256:{digest})")
    more = f" and {len(told) - _MOST} more (sha256:{hashlib.sha256(repr(told).encode()).hexdigest()[:16]})" if len(told) > _MOST else ""
    record.add("code", "git_diff", ", ".join(sorted(told)[:_MOST]) + more, source)


def touched(text: str) -> list[str]:
    """Files that a patch changes, in order."""
    found = re.findall(r"^diff --git a/(?:.*?) b/(.*)$", text, re.M) or [
        f for f in re.findall(r"^\+\+\+ (?:b/)?([^\t\n]+)", text, re.M) if f != "/dev/null"
    ]
    return list(dict.fromkeys(found))
