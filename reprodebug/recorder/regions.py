"""Regions that ``torch.compile`` made, as ``reprodebug zoom`` looks at them: each call is one operation; one call is opened.

A compiled region hides its operations: kernels of its own write memory that no dispatch shows. So each call of a graph that Dynamo
handed to a backend is written down as one operation (what went in, what came out, what it saved for backward), and what happens
inside of it is left out. One call, the one that zoom asks for (``Stretch.look``), is opened after it has run: the graph is run again
on copies of its inputs, eagerly and node by node, and compiled once more with every intermediate value as a result; both go to the log.

Nothing of the program's is written: inputs are cloned before the call, the states of torch's generators are put back.
"""

from __future__ import annotations

import copy
import operator
import re
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprodebug.recorder.operations import Watch

FORWARD, BACKWARD = "forward", "backward"
_MOST_NODES = 2000
_MOST_CODE = 400
_VIEWS = tuple(
    f"aten.{n}."
    for n in ("t", "view", "detach", "transpose", "expand", "permute", "_unsafe_view", "reshape", "alias", "slice", "unsqueeze")
)
"""operations that hand a gradient on as it is"""
_COMPILED_NODE = "CompiledFunctionBackward"
"""the autograd node of a graph that AOTAutograd compiled"""


class Regions:
    """Every graph that was compiled in this process."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._torch = watch.guest.torch
        self._graphs = 0
        self._installed = False

    def install(self) -> None:
        """Stand between Dynamo and its backends, from the first ``torch.compile`` on."""
        self.watch.guest.wrap(self._torch, "compile", before=self._first)

    def _first(self, args: Any, kwargs: Any) -> None:
        if self._installed:
            return
        self._installed = True
        from torch._dynamo import eval_frame

        original = eval_frame.get_compiler_fn

        def get_compiler_fn(compiler_fn: Any) -> Any:
            return Backend(original(compiler_fn), self)

        self.watch.guest.replace(eval_frame, "get_compiler_fn", get_compiler_fn)

    def compiled(self, graph: Any, compile_again: Any, compiled: Any, backend: str) -> Any:
        """What Dynamo calls in place of ``compiled``."""
        found = Graph(self, self._graphs, graph, compile_again, compiled, backend)
        self._graphs += 1

        def wrapper(*args: Any) -> Any:  # a name that the watch does not take for the program's
            return found.called(args)

        return wrapper


class Backend:
    """A backend of Dynamo's, as it was, that tells what it compiles."""

    def __init__(self, inner: Any, regions: Regions) -> None:
        self.__dict__.update(vars(inner))  # Dynamo's C code reads these, and takes no __getattr__ for an answer
        self._inner = inner
        self._regions = regions

    def __call__(self, gm: Any, example_inputs: Any, **kwargs: Any) -> Any:
        import torch

        kept = None
        guest = self._regions.watch.guest
        off, guest.off = guest.off, True  # a module that we build is none of the program's
        try:
            graph = torch.fx.Graph()
            graph.output(graph.graph_copy(gm.graph, {}))
            kept = torch.fx.GraphModule(gm, graph)
            for name, child in list(kept.named_children()):  # the program's own are let go as they were without us
                if isinstance(child, torch.fx.GraphModule):
                    shared = [*child.parameters(), *child.buffers()]
                    setattr(kept, name, copy.deepcopy(child, {id(t): t for t in shared}))
        except Exception as error:
            guest.fault("a graph that is compiled", error)
        finally:
            guest.off = off
        compiled = self._inner(gm, example_inputs, **kwargs)
        if kept is None or not callable(compiled):
            return compiled
        lazy: Any = compiled if isinstance(compiled, torch.nn.Module) else getattr(compiled, "__self__", None)
        if hasattr(lazy, "real_recompile"):  # as Dynamo does it: a graph that is built when first called would be called as a module
            lazy.real_recompile()
            compiled = lazy.forward
        name = str(getattr(self._inner, "_compiler_name", None) or getattr(self._inner, "__name__", "") or type(self._inner).__name__)
        return self._regions.compiled(kept, lambda g, inputs: self._inner(g, inputs, **kwargs), compiled, name)


class Graph:
    """One compiled graph, and its calls."""

    def __init__(self, regions: Regions, number: int, graph: Any, compile_again: Any, compiled: Any, backend: str) -> None:
        self.watch = regions.watch
        self.number = number
        self.backend = backend
        self._torch = regions._torch
        self._graph = graph
        self._again = compile_again
        self._compiled = compiled
        self._calls = 0
        self._named = False
        self._names = [_plain(n.target) for n in graph.graph.nodes if n.op == "placeholder"]

    def called(self, args: Any) -> Any:
        """The program calls the graph."""
        watch, call = self.watch, self._calls
        self._calls += 1
        if not watch.armed or watch.guest.off or watch.inside or threading.get_ident() != watch.thread:
            return self._compiled(*args)
        opening = row = None
        try:
            self._name(args)
            opening = self._opening(args, call)
            row = self._before(args, FORWARD, call) if watch.active else None
        except Exception as error:
            watch.guest.fault("the inputs of a compiled region", error)
        watch.inside += 1
        try:
            result = self._compiled(*args)
        finally:
            watch.inside -= 1
        try:
            saved, node = self._saved(args, result)
            if row is not None:
                self._after(row, args, result, saved)
            if node is not None:
                self._follow(node, call, args, saved, opening)
            if opening is not None and opening.phase == FORWARD and row is not None:
                watch.aside(lambda: opening.forward(row, self._tensors("out", result)))
        except Exception as error:
            watch.guest.fault("a compiled region", error)
        watch.reached(watch.guest.writer.seq_seen)  # the stretch may have ended inside
        return result

    def _name(self, args: Any) -> None:
        """Parameters and buffers are called as their modules call them."""
        if not self._named:
            self._named = True
            known = self.watch.names()
            storages = [self.watch._storage(t) if isinstance(t, self.watch.guest._tensor) else -1 for t in args]
            self._names = [known.get(s, n) for n, s in zip(self._names, storages)]

    # one call as one operation

    def name(self, phase: str) -> str:
        return f"compiled graph {self.number}" + (" (backward)" if phase == BACKWARD else "")

    def _before(self, args: Any, phase: str, call: int) -> dict[str, Any] | None:
        watch = self.watch
        row: dict[str, Any] | None = watch.head(self.name(phase), 3)
        if row is None:
            return None
        row["region"] = {"graph": self.number, "call": call, "phase": phase}
        row["args"] = {"backend": self.backend, **{n: repr(v)[:80] for n, v in zip(self._names, args) if isinstance(v, (int, float, bool))}}
        row["inputs"] = [watch.tensor(n, t, True) for n, t in zip(self._names, args) if isinstance(t, watch.guest._tensor)]
        row["random"] = watch.state((), {}, True)
        return row

    def _after(self, row: dict[str, Any], args: Any, result: Any, saved: list[Any]) -> None:
        watch = self.watch
        found = []
        before = {v[0]: v[6] for v in row["inputs"]}
        for name, t in zip(self._names, args):
            if name in before:
                value = watch.tensor(name, t, False, written=True)
                if value[6] != before[name]:  # a running statistic, a cache
                    found.append(watch.tensor(name, t, True, written=True))
        found += [watch.tensor(name, t, True) for name, t in self._tensors("out", result)]
        row["outputs"] = found + saved
        if row["random"] == watch.state((), {}, False):
            del row["random"]  # it drew nothing
        watch.write(row)

    def _tensors(self, name: str, value: Any) -> list[tuple[str, Any]]:
        return self.watch.tensors_of(name, value)

    def _saved(self, args: Any, result: Any) -> tuple[list[Any], Any]:
        """(what the forward pass kept for the backward pass, the node of the backward pass)."""
        node = next((t.grad_fn for _, t in self._tensors("out", result) if type(t.grad_fn).__name__ == _COMPILED_NODE), None)
        if node is None:
            return [], None
        mine = {self.watch._storage(t) for t in args if isinstance(t, self.watch.guest._tensor)}
        found = []
        for n, t in enumerate(node.saved_tensors):
            if t is not None and self.watch._storage(t) not in mine:
                found.append(self.watch.tensor(f"saved.{n}", t, self.watch.active))
        return found, node

    def _follow(self, node: Any, call: int, args: Any, saved: list[Any], opening: Any) -> None:
        """The backward pass of this call is one operation too."""
        watch = self.watch
        given = [watch.tensor(n, t, False) for n, t in zip(self._names, args) if isinstance(t, watch.guest._tensor)]

        def before(grads: Any) -> None:
            watch.inside += 1

        def after(made: Any, grads: Any) -> None:
            watch.inside -= 1
            if not watch.active or watch.guest.off:
                return
            try:
                row = watch.head(self.name(BACKWARD), 2)
                if row is None:
                    return
                row["region"] = {"graph": self.number, "call": call, "phase": BACKWARD}
                row["args"] = {"backend": self.backend}
                row["inputs"] = [watch.tensor(f"grad.{n}", t, True) for n, t in enumerate(grads) if t is not None] + given + saved
                names = self._leaves(node, made, args)
                row["outputs"] = [watch.tensor(n, t, True) for n, t in zip(names, made) if t is not None]
                watch.write(row)
                if opening is not None and opening.phase == BACKWARD:
                    watch.aside(lambda: opening.backward(row, [(n, t) for n, t in zip(names, made) if t is not None], grads))
            except Exception as error:
                watch.guest.fault("the backward pass of a compiled region", error)
            watch.reached(watch.guest.writer.seq_seen)

        node.register_prehook(before)
        node.register_hook(after)

    def _leaves(self, node: Any, made: Any, args: Any) -> list[str]:
        """The name of each gradient of a node: that of the input which it belongs to, where shapes and order tell."""
        names = [n for n, t in zip(self._names, args) if isinstance(t, self.watch.guest._tensor)]
        if len(made) == len(names):
            return [f"{n}.grad" for n in names]
        return [f"grad_input.{n}" for n in range(len(made))]

    # one call, opened

    def _opening(self, args: Any, call: int) -> Opening | None:
        look = self.watch.stretch.look or {}
        if (look.get("graph"), look.get("call")) != (self.number, call):
            return None
        return Opening(self, str(look["phase"]), args)


class Opening:
    """One call of a graph, run again on copies: eagerly, and compiled with every intermediate value as a result."""

    def __init__(self, graph: Graph, phase: str, args: Any) -> None:
        self.graph = graph
        self.phase = phase
        self._torch = graph._torch
        self._watch = graph.watch
        self._args = self._copies(args)
        self._states = self._generators()

    def _copies(self, args: Any) -> list[Any]:
        """Clones that need gradients where their originals do, the same one for the same tensor."""
        made: dict[int, Any] = {}
        found = []
        for a in args:
            if not isinstance(a, self._torch.Tensor):
                found.append(a)
                continue
            if id(a) not in made:
                with self._torch.no_grad():
                    made[id(a)] = a.detach().clone().requires_grad_(a.requires_grad)
            found.append(made[id(a)])
        return found

    def _generators(self) -> list[Any]:
        torch = self._torch
        found = [(torch.default_generator, torch.default_generator.get_state())]
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            found += [(g, g.get_state()) for g in torch.cuda.default_generators]
        return found

    def _as_before(self) -> None:
        for generator, state in self._states:
            generator.set_state(state)

    def forward(self, row: dict[str, Any], results: list[tuple[str, Any]]) -> None:
        now = self._generators()
        try:
            self._write(row, results, self._nodes)
        finally:
            self._states = now
            self._as_before()

    def backward(self, row: dict[str, Any], results: list[tuple[str, Any]], grads: Any) -> None:
        now = self._generators()
        try:
            self._write(row, results, lambda results: self._gradients(results, grads))
        finally:
            self._states = now
            self._as_before()

    def _write(self, row: dict[str, Any], results: list[tuple[str, Any]], look: Any) -> None:
        graph = self.graph
        said: dict[str, Any] = {
            "kind": "graph", "n": row["n"], "graph": graph.number, "phase": self.phase, "backend": graph.backend, "nodes": [],
            "outputs": [], "same": None, "why": "", "operations": 0, "source": _source(self._torch, graph._graph),
        }  # fmt: skip
        nodes = [n for n in graph._graph.graph.nodes if n.op not in ("placeholder", "output")]
        said["operations"] = len(nodes)
        try:
            if len(nodes) > _MOST_NODES:
                raise ValueError(f"the graph has {len(nodes)} operations, too many to be looked at one by one")
            said |= look(results)
        except Exception as error:
            said["why"] = f"{type(error).__name__}: {error}"[:300]
        self._watch.write(said)

    def _nodes(self, results: list[tuple[str, Any]]) -> dict[str, Any]:
        """Forward: every node's value, eager and compiled."""
        torch, watch = self._torch, self._watch
        gm, names = _tapped(torch, self.graph._graph)
        self._as_before()
        runner = _Eager(torch, gm)
        eager = runner.run(self._copies(self._args))
        found: dict[str, Any] = {"nodes": [], "outputs": []}
        compiled, why = None, ""
        try:
            self._as_before()
            tapped = self.graph._again(_tapped(torch, self.graph._graph)[0], copies := self._copies(self._args))
            self._as_before()
            compiled = list(tapped(*copies))
        except Exception as error:
            why = f"compiled with its intermediate values as results the graph failed: {type(error).__name__}: {error}"[:300]
        own = len(eager) - len(names)
        flat = [t for t in eager[:own] if isinstance(t, torch.Tensor)]
        for (name, t), e in zip(results, flat):
            found["outputs"].append([name, watch.tensor(name, e, True), watch.tensor(name, t, True)])
        if compiled is not None:
            again = [t for t in compiled[:own] if isinstance(t, torch.Tensor)]
            digests = [watch.tensor("", t, False)[6] for t in again]
            found["same"] = digests == [watch.tensor("", t, False)[6] for _, t in results]
        for n, name in enumerate(names):
            e, c = eager[own + n], None if compiled is None else compiled[own + n]
            if not isinstance(e, torch.Tensor):
                continue
            row = {"name": name, **runner.said.get(name, {}), "eager": watch.tensor("eager", e, True)}
            row["compiled"] = watch.tensor("compiled", c, True) if isinstance(c, torch.Tensor) else None
            found["nodes"].append(row)
        return found | {"why": why}

    def _gradients(self, results: list[tuple[str, Any]], grads: Any) -> dict[str, Any]:
        """Backward: the gradient of every input, eager and compiled, in the order in which eager makes them."""
        torch, watch = self._torch, self._watch
        self._as_before()
        args = self._copies(self._args)
        runner = _Eager(torch, self.graph._graph)
        with torch.enable_grad():
            outputs = [t for t in runner.run(args) if isinstance(t, torch.Tensor)]
        wanted = [(t, g) for t, g in zip(outputs, grads) if t.requires_grad and g is not None]
        if not wanted:
            raise ValueError("no gradient came to the results of the graph")
        leaves = [t for t in dict.fromkeys(a for a in args if isinstance(a, torch.Tensor)) if t.requires_grad]
        made: list[tuple[Any, dict[str, Any], Any]] = []
        for leaf in leaves:
            leaf.register_hook(lambda g, leaf=leaf: made.append((leaf, runner.last_backward(), runner.apart(g))))
        with runner.following(back=True):
            torch.autograd.grad([t for t, _ in wanted], leaves, [g.detach().clone() for _, g in wanted], allow_unused=True)
        compiled = dict(results)
        found: dict[str, Any] = {"nodes": [], "outputs": []}
        names = self.graph._names
        for leaf, said, g in made:
            name = next(n for n, a in zip(names, args) if a is leaf)
            c = compiled.get(f"{name}.grad")
            row = {"name": f"{name}.grad", **said, "eager": watch.tensor("eager", g, True)}
            row["compiled"] = None if c is None else watch.tensor("compiled", c, True)
            found["nodes"].append(row)
        found["same"] = True
        return found


class _Eager:
    """A graph run node by node, with the ATen operations of each node."""

    def __init__(self, torch: Any, gm: Any) -> None:
        self._torch = torch
        self._gm = gm
        self.said: dict[str, dict[str, Any]] = {}
        self._node = ""
        self._forward: dict[int, str] = {}
        self._backward: list[tuple[str, str]] = []
        """(operation, node of the forward pass) of the backward pass"""
        self._quiet = self._back = False

    def run(self, args: list[Any]) -> list[Any]:
        """The results, flat, tuples of them opened."""
        torch, mine = self._torch, self

        class Interpreter(torch.fx.Interpreter):  # type: ignore[misc,name-defined]
            def run_node(self, n: Any) -> Any:
                mine._node = n.name
                if n.op not in ("placeholder", "output"):
                    mine.said[n.name] = {"target": _target(n), "line": _line(n), "code": _code(n), "ops": []}
                return super().run_node(n)

        with self.following():
            result = Interpreter(self._gm).run(*args)
        return list(result) if isinstance(result, (tuple, list)) else [result]

    def following(self, *, back: bool = False) -> Any:
        """A mode that notes which operations run, in the forward or the backward pass."""
        self._back = back
        from torch.utils._python_dispatch import TorchDispatchMode

        torch, mine = self._torch, self

        class Following(TorchDispatchMode):  # type: ignore[misc]
            supports_higher_order_operators = True

            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                result = func(*args, **(kwargs or {}))
                if mine._quiet:
                    return result
                if mine._back:
                    node = torch._C._current_autograd_node()
                    if not str(func).startswith(_VIEWS):
                        mine._backward.append((str(func), mine._forward.get(node._sequence_nr(), "") if node is not None else ""))
                elif mine._node in mine.said:
                    mine.said[mine._node]["ops"].append(str(func))
                    mine._forward.setdefault(torch._C._autograd._get_sequence_nr() - 1, mine._node)
                return result

        return Following()

    def apart(self, t: Any) -> Any:
        """A copy, which no one takes for an operation of the graph."""
        self._quiet = True
        copy = t.detach().clone()
        self._quiet = False
        return copy

    def last_backward(self) -> dict[str, Any]:
        """The operation that ran last in backward, and the node of the forward pass that it belongs to."""
        if not self._backward:
            return {}
        operation, name = self._backward[-1]
        near = next((n for _, n in reversed(self._backward) if n), "")
        return {**self.said.get(name or near, {}), "node": name or near, "ops": [operation]}


def _tapped(torch: Any, gm: Any) -> tuple[Any, list[str]]:
    """A copy of a graph that also returns the value of every node, and the names of these; values of the program's first."""
    graph = torch.fx.Graph()
    known: dict[Any, Any] = {}
    result = graph.graph_copy(gm.graph, known)
    for n in graph.nodes:
        n.meta = {k: v for k, v in n.meta.items() if k in ("stack_trace", "nn_module_stack", "source_fn_stack")}
    own = list(result) if isinstance(result, (tuple, list)) else [result]
    taps = [n for n in known.values() if n.op not in ("placeholder", "get_attr") and not n.is_impure()]
    taps = [n for n in taps if not any(u.target is operator.getitem for u in n.users)]  # a tuple: its elements are nodes
    graph.output((*own, *taps))
    return torch.fx.GraphModule(gm, graph), [n.name for n in taps]


def _source(torch: Any, gm: Any) -> list[str]:
    """A graph and those that it calls, such as the two passes of a custom Function, line by line."""
    found: list[str] = []
    for name, graph in gm.named_modules():
        if isinstance(graph, torch.fx.GraphModule):
            found += [f"{name}: {_code(n)}" if name else _code(n) for n in graph.graph.nodes if n.op != "placeholder"]
    return [re.sub(r"0x[0-9a-f]{6,}", "0x", line) for line in found[:_MOST_NODES]]  # addresses of objects


def _target(n: Any) -> str:
    target = n.target
    return (
        target if isinstance(target, str) else f"{getattr(target, '__module__', '') or ''}.{getattr(target, '__name__', target)}".strip(".")
    )


def _code(n: Any) -> str:
    """A node as a line of Python."""
    said = [str(a) for a in n.args] + [f"{k}={v}" for k, v in n.kwargs.items()]
    return f"{n.name} = {_target(n)}({', '.join(said)})"[:_MOST_CODE]


def _line(n: Any) -> str:
    """``file:line`` of a node: the innermost frame of its stack trace that is not torch's."""
    found = ""
    for row in str(n.meta.get("stack_trace") or "").splitlines():
        row = row.strip()
        if row.startswith('File "') and "/torch/nn/" not in row and "/torch/_" not in row:
            file, _, rest = row[6:].partition('", line ')
            found = f"{file}:{rest.partition(',')[0]}"
    return found


def _plain(name: Any) -> str:
    """Dynamo's name for an input, shorter: ``L_self_modules_a_parameters_weight_`` is ``a.weight``."""
    words = str(name).strip("_").removeprefix("L_").removeprefix("self_")
    return words.replace("modules_", "").replace("_parameters_", ".").replace("parameters_", "").replace("_buffers_", ".")
