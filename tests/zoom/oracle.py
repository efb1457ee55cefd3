"""The brute-force oracle: a plain dispatch trace of a whole program, that shares no code with the package.

    python oracle.py LOG script.py ARGUMENTS...
    python oracle.py LOG -m MODULE ARGUMENTS...

Runs the script under one ``TorchDispatchMode`` from its first line to its last and writes a row for each ATen operation: name,
source line, step, whether it ran in backward, in an optimizer or inside which module's forward, and hashes of all that it was
given and gave. ``first`` then finds the first operation of a step that gave a value which the other program never had.
"""

from __future__ import annotations

import hashlib
import json
import os
import runpy
import sys
from typing import Any

GARBAGE = ("aten.empty", "aten.new_empty", "aten.resize_")
ANYWHERE: dict[str, Any] = {"kind": "any"}
"""no first divergence: the whole program"""
ENTRANCES = ("aten.lift_fresh", "aten.set_.source_Storage")
"""operations through which NumPy's memory, a file's or another process's becomes a tensor"""
RESHAPES = ("aten._unsafe_view", "aten.view", "aten._reshape_alias")


def trace(log: str, script: str) -> None:
    """Run ``script`` as the main program under the trace."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    home = os.getcwd()
    torch_home = os.path.dirname(torch.__file__)
    state: dict[str, Any] = {"step": 0, "turn": 0, "optimizer": False, "modules": [], "names": {}}
    out = open(log, "w")  # noqa: SIM115

    def child() -> None:
        """A worker has a file of its own, written line by line: it is ended without notice."""
        nonlocal out
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # what waits in the parent's is not written twice
        state["inherited"] = out
        out = open(f"{log}.{os.getpid()}", "w", buffering=1)  # noqa: SIM115

    os.register_at_fork(after_in_child=child)

    def digest(t: Any) -> str:
        t = t.detach()
        h = hashlib.sha256(f"{t.dtype} {tuple(t.shape)}".encode())
        try:
            flat = t.contiguous().reshape(-1)
            h.update(bytes(flat.view(torch.uint8).numpy()) if flat.numel() else b"")
        except (RuntimeError, TypeError):
            h.update(repr(t).encode())
        return h.hexdigest()

    def tensors(value: Any) -> list[Any]:
        if isinstance(value, torch.Tensor):
            return [value]
        if isinstance(value, dict):
            value = list(value.values())
        return [t for v in value for t in tensors(v)] if isinstance(value, (list, tuple)) else []

    def line() -> str:
        frame = sys._getframe(2)
        while frame is not None:
            path = os.path.abspath(frame.f_code.co_filename)
            if path.startswith(home + os.sep) and not path.startswith(torch_home):
                return f"{os.path.basename(path)}:{frame.f_lineno}"
            frame = frame.f_back  # type: ignore[assignment]
        return ""

    class Trace(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            given = [digest(t) for t in (*tensors(args), *tensors(kwargs))]
            result = func(*args, **kwargs)
            after = [digest(t) for t in (*tensors(args), *tensors(kwargs))]
            made = tensors(result)
            if str(func).startswith("aten.mkldnn_rnn_layer."):
                made = made[:3]  # the fourth is a workspace, parts of which nothing ever writes
            gave = [digest(t) for t in made] + [y for x, y in zip(given, after, strict=True) if x != y]
            words = [repr(v)[:200] for v in (*args, *kwargs.values()) if not tensors(v) and "orage" not in type(v).__name__]
            row = {
                "op": str(func), "line": line(), "step": state["step"], "turn": state["turn"], "backward": torch._C._current_graph_task_id() != -1,
                "optimizer": state["optimizer"], "modules": list(state["modules"]), "given": given, "gave": gave, "args": words,
            }  # fmt: skip
            out.write(json.dumps(row) + "\n")
            return result

    def before(module: Any, args: Any) -> None:
        if not state["modules"] and id(module) not in state["names"]:  # a part of a known model may be computed again by itself
            state["names"].update((id(m), n) for n, m in module.named_modules())
        state["modules"].append(state["names"].get(id(module), "?"))

    def after(module: Any, args: Any, result: Any) -> None:
        state["modules"].pop()
        state["turn"] += not state["modules"]

    def stepping(*_: Any) -> None:
        state["optimizer"] = True

    def stepped(*_: Any) -> None:
        state["optimizer"] = False
        state["step"] += 1

    from torch.nn.modules import module as m
    from torch.optim import optimizer as o

    m.register_module_forward_pre_hook(before)
    m.register_module_forward_hook(after)
    o.register_optimizer_step_pre_hook(stepping)
    o.register_optimizer_step_post_hook(stepped)
    module = sys.argv[3] if script == "-m" else ""
    sys.argv = sys.argv[3:] if module else [script, *sys.argv[3:]]
    sys.path[0] = os.getcwd() if module else os.path.dirname(os.path.abspath(script))
    with Trace():
        if module:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(script, run_name="__main__")
    out.close()


def rows(log: str) -> list[dict[str, Any]]:
    """Every operation: those of worker processes, which make what the program is given, before its own."""
    folder, name = os.path.split(log)
    found = []
    for one in [*sorted(n for n in os.listdir(folder) if n.startswith(name + ".")), name]:
        with open(os.path.join(folder, one)) as f:
            found += [json.loads(line) for line in f if line.endswith("\n")]
    return found


def first(mine: list[dict[str, Any]], other: list[dict[str, Any]], where: dict[str, Any]) -> dict[str, Any] | None:
    """The first operation of ``mine`` within ``where`` (a first divergence) that gave what ``other`` never had."""
    steps = _counter(mine)
    values = {v for r in other if not r["op"].startswith(GARBAGE) for v in (*r["given"], *r["gave"])}
    for r in mine:
        if r["op"].startswith((*GARBAGE, *RESHAPES)) or not _inside(r, where, steps):
            continue
        if any(v not in values for v in r["gave"]):
            return r
    return None


def behind(mine: list[dict[str, Any]], end: dict[str, Any]) -> list[dict[str, Any]]:
    """The operations whose values went, by whatever way, into operation ``end``."""
    need, found = set(end["given"]), []
    for r in reversed(mine[: mine.index(end)]):
        if need & set(r["gave"]):
            found.append(r)
            need |= set(r["given"])
    return found


def entered(mine: list[dict[str, Any]], where: dict[str, Any]) -> bool:
    """Whether an operation of the step of a first divergence was given a value that no operation before it gave or took in."""
    steps = _counter(mine)
    made: set[str] = set()
    for r in mine:
        if r["op"].startswith(ENTRANCES):
            made |= set(r["given"])
        elif r[steps] == where["step"] and not set(r["given"]) <= made:
            return True
        made |= set(r["gave"])
    return False


def _counter(mine: list[dict[str, Any]]) -> str:
    """What a program counts its steps by: one without optimizer by the calls of its outermost module."""
    return "step" if any(r["step"] for r in mine) else "turn"


def _inside(r: dict[str, Any], where: dict[str, Any], steps: str) -> bool:
    """Whether an operation belongs to the step, and to the phase and the module, of a first divergence. Data may have been made
    at any time before, but by no module, no backward pass and no optimizer."""
    if where is ANYWHERE:
        return True
    if where["kind"] == "data":
        return bool(r[steps] <= where["step"]) and not (r["modules"] or r["backward"] or r["optimizer"])
    if r[steps] != where["step"]:
        return False
    if where["kind"] == "gradient":
        return bool(r["backward"])
    if where["kind"] == "activation" and where["tensor"].startswith("output"):
        return where["module"] in r["modules"]
    return bool(r["optimizer"]) if where["phase"] == "optimizer" else True


if __name__ == "__main__":
    trace(sys.argv[1], sys.argv[2])
