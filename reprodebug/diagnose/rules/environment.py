"""Environment: hash randomisation, packages, interpreter, libraries, variables."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reprodebug.compare.importance import NAMED, UNKNOWN
from reprodebug.diagnose.rule import Draft, listed, named, rule, said
from reprodebug.diagnose.scene import Scene
from reprodebug.diagnose.triggers import nearness, package, triggers, upgraded
from reprodebug.model.comparison import Difference

_KERNELS = re.compile(r"^(torch|triton|nvidia-.*|mkl|intel-openmp|numpy|scipy|openblas|flash-attn|xformers|transformer-engine|apex)$")
_MACHINE = re.compile(r"^(OMP_|MKL_|OPENBLAS_|GOMP_|KMP_|ATEN_|DNNL_|ONEDNN_|CUBLAS|NVIDIA_TF32|CUDNN|NCCL|VECLIB_|NUMEXPR_|BLIS_|NPY_)")


@rule("hash order", "sources")
def hash_order(s: Scene) -> Iterator[Draft]:
    """Sets and hashes of strings differ between launches unless PYTHONHASHSEED is fixed."""
    found = s.find(r"^PYTHONHASHSEED$", "environment")
    lines = s.hint("set-order", "hash")
    if not found or s.stage in ("backward", "optimizer") or (s.stage == "loss" and (not lines or s.rounding)):
        return
    if any(n.startswith("torch") for n in s.parted) and not lines:
        return
    d = found[0]
    fixed = d.severity == "critical"
    stage = {"data": 1.0, "init": 0.75, "loaded": 0.6, "forward": 0.35, "loss": 0.85}[s.stage]  # labels enter with the loss
    if lines:
        strength = 0.93 * stage * (1.0 if fixed else max(s.likeness, 0.55))
    else:
        strength = (0.2 if s.has_sources else 0.5) * stage * (1 if s.alike or fixed else 0.3)
    if s.samples.relation == "other batches" and s.pools:
        strength *= 0.4
    if s.samples.relation in ("other samples", "other content") and str(s.first.dtype).startswith(("float", "bfloat")):
        strength *= 0.75  # an order changes places and numbers of things; measured values it leaves alone
    evidence = [said(d), *(f"depends on the order of a set or on hash(): {h.place}" for h in lines[:3])]
    if s.stage == "data":
        evidence.append(s.samples.text)
    if not s.torch_parted:
        evidence.append("the states of torch's generators were equal")
    decides = "decides" if strength >= 0.5 else "may decide"
    how = "differs between the runs" if fixed else "is not set, so every launch hashes strings otherwise"
    where = f", at {lines[0].file}:{lines[0].line}" if lines else ""
    summary = f"PYTHONHASHSEED {how} (hash randomisation): the iteration order of a set of strings, or hash(), {decides} what the model sees{where}"
    remedy = "Iterate over sorted(...) instead of the set; or start Python with PYTHONHASHSEED=0."
    yield Draft("environment", summary, tuple(evidence), remedy, strength, frozenset({d.key}), within=not fixed)


@rule("packages", "packages")
def packages(s: Scene) -> Iterator[Draft]:
    """Another version of an imported package, or one that was edited by hand."""
    found = upgraded(s)
    edited = s.find("edited by hand|as installed", "code", text="a") or s.find("edited by hand|as installed", "code", text="b")
    if edited:
        summary = f"the installed package {listed(d.key for d in edited)} was edited by hand in one run's environment"
        yield Draft(
            "environment",
            summary,
            tuple(said(d) for d in edited[:4]),
            f"Reinstall it: pip install --force-reinstall {edited[0].key.partition(':')[0]}",
            0.85,
            frozenset(d.key for d in edited),
        )
    if not found:
        return
    owners = {d.key: owner for d in s.find(r".", "code") if (owner := package(s, d.key)) is not None}
    edited_files = [d for d in s.find(r".", "code") if d.key in owners]
    weights = [(0.92 if d in owners.values() else _fit(s, d), d) for d in found]
    weights.sort(key=lambda x: -x[0])
    top = weights[0][0]
    likely = [d for w, d in weights if w >= top - 0.15]
    strength = top if len(likely) == 1 else top * 0.8
    mine = max((nearness(s, t.difference) for t in triggers(s) if t.difference.section == "code" and t.weight >= 0.5), default=0)
    near = max((nearness(s, d) for d in edited_files), default=1)
    if (
        mine and mine >= near and not any(_KERNELS.match(d.key) for d in likely)
    ):  # sources of the project's own changed too, and stand no further from what differs
        strength *= 0.7 if mine == near else 0.4
    alone = [d for d in likely if "(absent)" in (d.a, d.b)]
    are = "are" if len(likely) > 1 else "is"
    how = "differ" if alone and alone != likely else f"{are} installed for one run only" if alone else f"{are} of another version"
    summary = f"the package{'s' if len(likely) > 1 else ''} {listed((named(d) for d in likely), 3)} {how}"
    evidence = [*(said(d) for d in likely[:5]), *(said(d) for d in edited_files[:3])]
    if s.stage == "data":
        evidence.append(s.samples.text)
    remedy = (
        "Install the same versions in both environments: "
        + " ".join(
            f"{d.key}=={d.b if d in alone and d.a == '(absent)' else d.a}" for d in likely[:4] if (d.a + d.b)[:1].isdigit() or d in alone
        )
        + (f" (or {listed((d.key for d in alone), 3)} in neither)" if alone else "")
        + "; or let `reprodebug bisect A B --axis packages` find the guilty one."
    )
    yield Draft("environment", summary, tuple(evidence), remedy, strength, frozenset(d.key for d in [*found, *edited_files]))


def _fit(s: Scene, d: Difference) -> float:
    """How well another version of this package explains a divergence of this stage."""
    kernels = bool(_KERNELS.match(d.key))
    critical = d.severity == "critical"
    if s.numeric:
        if kernels and s.rounding is False:
            return 0.25
        if d.key == "torch" or d.key.startswith(("nvidia-", "triton", "mkl")):
            return 0.9
        return 0.45 if kernels else 0.5 if critical else 0.4
    if d.key == "torch":
        return 0.6 if s.stage == "data" else 0.8
    if kernels:
        return 0.35  # other arrays, or another stream of random numbers: rare
    return 0.82 if critical else 0.75


@rule("interpreter and libraries", "packages")
def libraries(s: Scene) -> Iterator[Draft]:
    """Another Python, system library or torch build."""
    names = {**s.sides[0].part("packages"), **s.sides[1].part("packages")}
    found = [
        d for d in s.differences
        if d.section in ("environment", "container") and d.key not in names and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", d.key)
        and not d.key.endswith("(installed from)")
    ]  # fmt: skip
    if not found:
        return
    critical = [d for d in found if d.severity == "critical"]
    computing = [d for d in critical if d.key.startswith("torch ") or re.search(r"blas|mkl|dnn|omp|torch|c10|cud|libm", d.key, re.I)]
    if computing and s.numeric:
        strength = 0.7
    elif critical:
        strength = 0.5
    else:
        strength = 0.15
    version = [d for d in found if d.key == "python"]
    chosen = computing or critical or version or found
    if version and {d.key for d in s.given} <= {"PYTHONPATH", *(d.key for d in found)}:
        strength = max(strength, 0.55)  # nothing else that the user gave differs
    asserted = s.hint("assertion") if s.find(r"^sys\.flags\.optimize$") else []
    if asserted and strength < 0.7:
        strength, chosen = 0.7, s.find(r"^sys\.flags\.optimize$")
    summary = f"another interpreter or library: {listed((named(d) for d in chosen), 3)}"
    yield Draft(
        "environment",
        summary + (f": python -O (PYTHONOPTIMIZE) leaves out what {asserted[0].file}:{asserted[0].line} asserts" if asserted else ""),
        (*(said(d) for d in chosen[:5]), *(f"an assertion that does something: {h.place}" for h in asserted[:3])),
        "Use the same interpreter, its options and libraries (a container image or a lock file).",
        strength,
        frozenset(d.key for d in found),
    )


_THROUGH = (
    (r"TZ", "local-time"),
    (r"LC_(ALL|COLLATE)|LANG|LANGUAGE", "locale"),
    (r"LC_(ALL|CTYPE)|LANG|LANGUAGE|PYTHONUTF8|PYTHONCOERCECLOCALE", "encoding"),
    (r"HOME", "home"),
)
"""variables that a library reads for the program: which, and the kind of line that makes it do so"""


@rule("variables", "variables")
def variables(s: Scene) -> Iterator[Draft]:
    """An environment variable that the program reads has another value."""
    names = {**s.sides[0].part("variables"), **s.sides[1].part("variables")}
    found = [d for d in s.find(r".", "environment") if d.key in names and d.key != "PYTHONHASHSEED" and not _MACHINE.match(d.key)]
    if not found:
        return
    read = {d.key: h for d in found if (h := s.reading(d.key)) is not None}
    decoding = bool(s.find(r"^filesystem_encoding$", "environment"))
    through = {
        d.key: lines[0]
        for d in found
        for pattern, kind in _THROUGH
        if re.fullmatch(pattern, d.key) and (decoding or kind != "encoding") and (lines := s.hint(kind))
    }
    read |= {key: h for key, h in through.items() if key not in read}
    used = [d for d in found if d.key in read]
    surely = [d for d in used if d.key in through or d.severity == "critical" or s.related(d.key)]
    fits = [d for d in used if d in surely or s.computes(d)]
    chosen = fits or used or [d for d in found if d.severity == "critical"] or found
    only_named = bool(used) and all(
        d.reason.endswith(NAMED) and not s.computes(d) for d in used
    )  # of a user, a job or a place: rarely computed with
    strength = (
        0.45
        if only_named
        else 0.9
        if surely
        else 0.8
        if fits
        else 0.65
        if used and {d.key for d in s.given} <= {d.key for d in used}
        else 0.5
        if used
        else 0.5
        if chosen[0].severity == "critical" or (chosen[0].reason != UNKNOWN and {d.key for d in s.given} <= {d.key for d in found})
        else 0.2
        if not s.has_sources
        else 0.12
    )
    packaged = [] if used or s.given else [d for d in s.variables_unread if d.key in s.packages_name]
    if packaged:
        chosen, strength = packaged, 0.6  # nothing else was given otherwise
    if len({read[d.key] for d in used} or packaged) > 1:
        strength *= 0.8
    selected = _selected(s, used) if only_named else {}
    if selected:
        chosen, strength = list(selected.values())[:1], 0.85 if {d.key for d in s.given} <= {*read, *selected} else 0.7
    evidence = [
        *(said(d) for d in chosen[:4]),
        *dict.fromkeys(f"the program {'gets it through' if d.key in through else 'reads it:'} {read[d.key].place}" for d in used[:3]),
        *(f"an installed package that the program imports names it: {s.packages_name[d.key]}" for d in packaged[:3]),
        *(f"its value is part of the name: {path} is read by one run only" for path in selected),
    ]
    summary = f"the environment variable{'s' if len(chosen) > 1 else ''} {listed((named(d) for d in chosen), 3)} {'differ' if len(chosen) > 1 else 'differs'}"
    if used:
        line = read[(chosen if selected else fits or used)[0].key]
        how = f"{'computes with' if (fits or used)[0].key in through else 'reads'} {'it' if len(chosen) == 1 else 'them'}"
        if line.kind == "encoding":
            how = "reads text without naming an encoding"
        summary += f"; the program {how} at {line.file}:{line.line}" + (f" and chooses {listed(selected, 2)} by it" if selected else "")
    if packaged:
        summary += f"; an installed package names it at {':'.join(s.packages_name[packaged[0].key].split(':')[:2])}"
    if "LD_PRELOAD" in {d.key for d in chosen}:
        summary += "; the loader takes that library's functions instead of the system's, those of mathematics too"
    yield Draft(
        "environment",
        summary,
        tuple(evidence),
        "Name the encoding where the program reads text: open(..., encoding='utf-8'); or set the variables alike in both runs."
        if used and line.kind == "encoding"
        else f"Compare {listed(selected, 3)}, and use the same settings in both runs, whatever {chosen[0].key} is."
        if selected
        else "Set the variable alike in both runs, or write it into the configuration.",
        strength,
        frozenset([*(d.key for d in chosen), *selected]),
    )


def _selected(s: Scene, variables: list[Difference]) -> dict[str, Difference]:
    """Files that A alone or B alone reads and in whose names the values of a variable stand: path -> the variable."""
    alone = s.find(r"^read by one run only", "data", text="reason")
    if not 0 < len(alone) <= 4:
        return {}
    only_a, only_b = ([d.key for d in alone if (d.b, d.a)[n] == "(absent)"] for n in (0, 1))
    leading = [d for d in s.leading_to(only_a, only_b) if d in variables]
    return {d.key: leading[0] for d in alone} if leading else {}
