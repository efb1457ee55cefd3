"""Causes where only other systems' records are there: what differs is ranked by how often it is the reason, and nothing is proved.

Records say what differed around a run, not where it parted: confidence stays moderate, and less the more there is that differs.
"""

from __future__ import annotations

import re

from reprodebug._base import redact
from reprodebug._base.text import visible
from reprodebug.compare import importance
from reprodebug.diagnose.rule import named
from reprodebug.model.comparison import Cause, Comparison, Difference

_MOST = 10
_HYPER = re.compile(
    r"(^|[._/:])(lr|learning_rate|seed|batch(_size)?|epochs?|steps?|momentum|weight_decay|dropout|hidden|width|optimizer|warmup|wd|precision|dtype)s?$",
    re.I,
)
_REMEDY = {
    "config": "Run both with one value, or search with `reprodebug bisect` over recorded runs.",
    "environment": "Install one version on both sides, or let `reprodebug bisect --axis packages --good PINS --bad PINS -- COMMAND` decide.",
    "code": "Compare the two states of the code (`git diff A B`), or let `reprodebug bisect --good REV --bad REV -- COMMAND` decide.",
    "data": "Use one version of the data on both sides, and compare again.",
    "container": "Pin the image by its digest on both sides.",
    "hardware": "Run both on one machine to see whether it matters.",
    "random-state": "Restore the generators from one checkpoint on both sides.",
}
_CATEGORY = {"config": "configuration", "environment": "environment", "code": "code", "data": "data", "container": "environment",
             "hardware": "hardware", "random-state": "random-state"}  # fmt: skip


def causes_of_records(c: Comparison) -> tuple[Cause, ...]:
    """Ranked causes of a comparison of records; none where nothing but metrics or nothing at all differs."""
    told = {_last(d.key) for d in c.differences if d.section == "config"}
    weighed = [(w, d) for d in c.differences if (w := _weight(d, told)) > 0]
    if not weighed:
        return ()
    effect = [d for d in c.differences if d.section == "metrics"]
    total = sum(w for w, _ in weighed) + (0.25 if effect else 0.6)
    found = []
    for weight, d in sorted(weighed, key=lambda x: -x[0])[:_MOST]:
        category = "random-state" if d.key.startswith("rng/") else _CATEGORY[d.section]
        evidence = [f"{visible(d.section)}: {named(d)} ({visible(d.reason, 200)})"]
        evidence += [f"{visible(e.key, 80)}: {visible(e.a, 40)} in A, {visible(e.b, 40)} in B, {e.reason}" for e in effect[:2]]
        confidence = round(min(0.85, weight / total), 2)
        remedy = _remedy(d, category)
        name = named(d).removeprefix("package/").removeprefix("rng/")
        found.append(Cause(category, f"{_noun(d)} {name} differs", tuple(evidence), remedy, confidence, "recorded difference"))
    return tuple(found)


_CODE_REMEDY = {
    "git_diff": "Look at the change with `git diff`, then commit it, apply it on the other side too, or undo it.",
    "untracked": "Commit the files, copy them to the other side too, or remove them.",
}
_COMMAND = re.compile(r"(^|[/ ])(args|overrides|commands?|cmd|entrypoint|entry_point)$", re.I)


def _remedy(d: Difference, category: str) -> str:
    if d.section in ("code", "container") and _COMMAND.search(d.key):
        return "Start both with one command line, or search with `reprodebug bisect` over recorded runs."
    if d.key == "git_commit" and all(re.fullmatch(r"[0-9a-f]{7,40}", side) for side in (d.a, d.b)):
        short = d.a[:12], d.b[:12]
        return "`git diff {0} {1}` shows what changed; `reprodebug bisect --good {0} --bad {1} -- COMMAND` finds the commit.".format(*short)
    if d.section == "code" and d.key in _CODE_REMEDY:
        return _CODE_REMEDY[d.key]
    if d.section == "container" and not re.search(r"(^|/)(from|base|image)(/|$)", d.key, re.I):
        return "Build both images from one definition with the same arguments, start them alike, and compare again."
    if d.key.startswith("package/") and "(absent)" in (d.a, d.b):
        return "Install it on both sides or on neither, and compare again."
    if d.section == "environment" and category != "random-state":
        if re.search(r"(^|/)env/", d.key):
            return "Set the variable to one value on both sides, or let `reprodebug bisect --axis env` decide over recorded runs."
        if re.search(r"(^|/)(slurm|pbs|module)/", d.key):
            return "Load the same modules and ask for the same resources in both jobs."
    return _REMEDY["random-state" if category == "random-state" else d.section]


def _noun(d: Difference) -> str:
    if d.key.startswith("package/"):
        return "the package"
    if d.key.startswith("rng/"):
        return "the saved state of the generator"
    return {"config": "the setting", "data": "the data", "code": "the code:", "container": "the container's"}.get(
        d.section, "the environment's"
    )


def _last(key: str) -> str:
    return re.split(r"[./ :]", key)[-1].lstrip("-").replace("-", "_").lower()


def _told_by_the_command_alone(d: Difference, told: set[str]) -> bool:
    """Whether two command lines differ in an option that computes, and of which no configuration tells."""
    sides = [importance.options(re.sub(r"[\"\[\],]", " ", text).split()) for text in (d.a, d.b)]
    names = [k for k in sides[0].keys() | sides[1].keys() if sides[0].get(k) != sides[1].get(k) and not k.startswith(("word ", "program"))]
    return any(importance.option(k)[0] == "critical" and _last(k) not in told for k in names)


def _weight(d: Difference, told: set[str]) -> float:
    if d.severity == "harmless" or d.section in ("metrics", "tensors") or d.reason.startswith("follows"):
        return 0.0
    if d.section == "code" and d.key.rpartition("/")[2] in ("args", "overrides", "commands"):
        return 0.5 if _told_by_the_command_alone(d, told) else 0.05  # which says in other words what the configuration says
    if redact.is_mask(d.a) or redact.is_mask(d.b):
        return 0.05  # a credential: seldom more than whose it is
    base = {"config": 0.7, "data": 0.9, "code": 0.8, "environment": 0.4, "container": 0.4, "hardware": 0.2, "random-state": 0.9}[d.section]
    if d.section == "config" and _HYPER.search(d.key):
        base = 1.0
    if d.key.startswith("rng/"):
        base = 0.9
    return base if d.severity == "critical" else base * 0.6
