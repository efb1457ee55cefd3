"""Calls of modules, as they happen: inputs and outputs, gradients of outputs, the loss.

Owns what a thread is inside of. The hot path of the recorder: every line here runs hundreds of times in a training step.
"""

from __future__ import annotations

import functools
import itertools
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

from reprodebug.model.events import Flag, Kind, Phase
from reprodebug.recorder.device_results import is_token
from reprodebug.recorder.lately import WORTH_BYTES, Lately
from reprodebug.recorder.modules import Info, Root, key_of, version_of

if TYPE_CHECKING:
    from reprodebug.recorder.guest import Guest

_ACTIVATION, _GRADIENT, _DATA, _LOSS = int(Kind.ACTIVATION), int(Kind.GRADIENT), int(Kind.DATA), int(Kind.LOSS)
_FORWARD, _BACKWARD = int(Phase.FORWARD), int(Phase.BACKWARD)
_F_TRAINING, _F_GRAD, _F_AUTOCAST, _F_RECOMPUTE = int(Flag.TRAINING), int(Flag.GRAD), int(Flag.AUTOCAST), int(Flag.RECOMPUTE)
_F_INPUT, _F_REQUIRES_GRAD, _F_SCALAR = int(Flag.INPUT), int(Flag.REQUIRES_GRAD), int(Flag.SCALAR)
_MAX_DEPTH = 6
_MAX_TENSORS = 256
"""nesting and number of tensors followed inside one module's inputs or outputs"""
_QUIET = 3
"""a module before whose calls torch's generator never moved is not asked again"""
_THREADS = itertools.count()


class ThreadState:
    """What one thread is inside of, and what it read lately."""

    __slots__ = ("last", "last_version", "lately", "number", "rng", "stack")

    def __init__(self, number: int) -> None:
        self.stack: list[Info] = []
        self.number = number
        self.rng = 0
        """row of torch's generator when this thread last looked"""
        self.last: Any = None
        """weak reference to the output that was recorded last; with it its version counter"""
        self.last_version = -1
        self.lately = Lately()


class PerThread(threading.local):
    """The state of the thread that asks."""

    def __init__(self) -> None:
        self.state = ThreadState(next(_THREADS) & 0xFFFF)


class Calls:
    """Records module calls of one process."""

    def __init__(self, guest: Guest) -> None:
        torch = guest.torch
        self._guest = guest
        self._record = guest.record
        self._writer = guest.writer
        self._fingerprint = guest.fingerprint
        self._modules = guest.modules
        self._infos = guest.modules.infos
        self._randomness = guest.randomness
        self._graph_task = getattr(torch._C, "_current_graph_task_id", lambda: -1)
        self._grad_enabled = torch.is_grad_enabled
        self._autocast = getattr(torch._C, "_is_any_autocast_enabled", None) or torch.is_autocast_enabled
        self._tracing = torch._C._get_tracing_state
        self._tensor = torch.Tensor
        self._backward = torch.autograd.backward.__code__
        self._strided = torch.strided
        self._plain = guest.fingerprint.plain
        self._output_digests: set[bytes] = set()
        """outputs of outermost modules in this step: what another one is given of them is no data"""
        self._gradient_sites: dict[int, int] = {}

    def reset(self) -> None:
        """After a fork."""
        self._gradient_sites.clear()
        self._output_digests.clear()

    def step_done(self) -> None:
        """A step is over: no call is under way in this thread."""
        self._guest.thread.state.stack.clear()
        self._output_digests.clear()

    # forward

    def before(self, module: Any, args: Any, frame: Any) -> None:
        """Before a module's forward: inputs, circumstances, position of the random generator."""
        if self._tracing() is not None:
            return
        state = self._guest.thread.state
        stack = state.stack
        info = self._infos.get(key_of(module)) or self._modules[module]
        outermost = not stack
        if not outermost and stack[0] is info:  # the last call of this root left by an exception
            stack.clear()
            outermost = True
        if outermost:
            self._before_root(info.root)
        stack.append(info)
        step = self._guest.step
        asked = info.keywords or not args or info.step < 0  # whether it has keywords is asked once, at its first call
        if info.step != step:
            info.step = step
            info.call = 0
        else:
            info.call += 1
        info.flags = flags = self._flags(module)
        flags |= _F_INPUT
        rng = 0
        if outermost or info.quiet < _QUIET:
            rng = self._randomness.torch_cpu()
            info.quiet = 0 if rng != state.rng else info.quiet + 1
            state.rng = rng
        kwargs = frame.f_locals.get("kwargs") if asked else None
        tensor = self._tensor
        sites = info.input_sites
        for n, value in enumerate(args):
            if isinstance(value, tensor):
                if n >= len(sites):
                    self._extend(info, sites, "input", n)
                self._input(value, sites[n], info, flags, rng, outermost, state)
            elif value is not None and not isinstance(value, (int, float, str, bool)):
                for path, t in leaves(value, f"input.{n}", tensor):
                    self._input(t, self._path_site(info, path), info, flags, rng, outermost, state)
        if kwargs and isinstance(kwargs, dict):
            info.keywords = True
            self._keyword_inputs(info, kwargs, flags, rng, outermost, state)

    def _keyword_inputs(self, info: Info, kwargs: Any, flags: int, rng: int, outermost: bool, state: ThreadState) -> None:
        tensor = self._tensor
        for key in sorted(kwargs):
            value = kwargs[key]
            if isinstance(value, tensor) or not (value is None or isinstance(value, (int, float, str, bool))):
                for path, t in leaves(value, f"input.{key}", tensor):
                    self._input(t, self._path_site(info, path), info, flags, rng, outermost, state)

    def _input(self, t: Any, site: int, info: Info, flags: int, rng: int, outermost: bool, state: ThreadState) -> None:
        requires_grad = t.requires_grad
        if requires_grad:
            flags |= _F_REQUIRES_GRAD
        kind = _ACTIVATION
        known = self._again(t, site, state)
        if outermost and not requires_grad and known[0] not in self._output_digests:  # what another root computed is no data
            kind = _DATA
        digest, seq = self._record(t, site, kind, _FORWARD, flags, info.call, rng, known, state)
        if kind == _DATA and digest not in self._guest.loading.batches and info.slots_below:
            self._guest.loading.samples_of([t], seq, [])

    def _before_root(self, root: Root) -> None:
        """An outermost module is about to run: everything that its forward starts from is recorded first."""
        self._randomness.observe()
        self._guest.parameters.settle()
        self._guest.parameters.refresh(root)
        root.called = True
        self._guest.boundary()

    def after(self, module: Any, kwargs: Any, output: Any) -> None:
        """After a module's forward: outputs, and hooks for their gradients."""
        if self._tracing() is not None:
            return
        state = self._guest.thread.state
        stack = state.stack
        if not stack:
            return
        info = stack[-1]
        if info.ref() is not module:  # calls below left by an exception, or this one was never announced
            announced = next((i for i in reversed(stack) if i.ref() is module), None)
            if announced is None:
                return
            info = announced
        while stack.pop() is not info:
            pass
        flags = info.flags
        outermost = not stack
        call = info.call
        if kwargs and not info.keywords:  # none at its first call: from the next one on they are seen before it
            info.keywords = True
            self._keyword_inputs(info, kwargs, flags | _F_INPUT, 0, outermost, state)
        if isinstance(output, self._tensor):
            sites = info.output_sites
            if not sites:
                self._extend(info, sites, "output", 0)
            self._output(output, sites[0], flags, call, outermost, state)
        elif output is not None:
            for path, t in leaves(output, "output", self._tensor):
                self._output(t, self._path_site(info, path), flags, call, outermost, state)
        if outermost:
            if info.slots_below:
                self._guest.turn = (self._guest.turn + 1) & 0xFFFF
                options = self._guest.options
                if (options.turns or options.watched) and not self._guest.optimizers.known:
                    if self._guest.served(self._guest.turn, options.turns):
                        self._guest.leave()
                    elif options.watched and self._guest.dismissed():
                        self._guest.leave(143)
            self._guest.boundary()

    def _output(self, t: Any, site: int, flags: int, call: int, outermost: bool, thread: ThreadState) -> None:
        requires_grad = t.requires_grad
        if requires_grad:
            flags |= _F_REQUIRES_GRAD
        same = thread.last is not None and thread.last() is t and thread.last_version == version_of(t)
        known = self._again(t, site, thread)
        self._record(t, site, _ACTIVATION, _FORWARD, flags, call, 0, known, thread)
        if outermost:
            if len(self._output_digests) > 256:
                self._output_digests.clear()
            self._output_digests.add(known[0])
            device = self._fingerprint.device
            if device is not None and is_token(known[0]):
                device.results.outermost.add(known[0])
        if same:
            return  # a container hands on its last child's output: one gradient, one record
        thread.last = weakref.ref(t)
        thread.last_version = version_of(t)
        if requires_grad and flags & _F_GRAD:
            node = t.grad_fn
            if node is not None:  # a hook on the node sees what a hook on the tensor sees, for less
                node.register_prehook(functools.partial(self._on_gradient, t.output_nr, site, call, flags))

    def _again(self, t: Any, site: int, thread: ThreadState) -> tuple[bytes, int, int]:
        """The fingerprint of ``t``; a big tensor that this thread read lately, and nothing wrote since, is not read again."""
        if not t.is_cpu:
            return self._fingerprint.elsewhere(t, site)
        if type(t) not in self._plain or t.layout is not self._strided or t.nbytes < WORTH_BYTES:
            return self._fingerprint.at(t, site)
        known = thread.lately.known(t)
        if known is None:
            known = self._fingerprint.at(t, site)
            if known[2] == 0 and not t.is_inference():
                thread.lately.note(t, self._fingerprint.buffer(t), known)
        return known

    def _flags(self, module: Any) -> int:
        flags = _F_TRAINING if module.training else 0
        if self._grad_enabled():
            flags |= _F_GRAD
        if self._autocast():
            flags |= _F_AUTOCAST
        if self._graph_task() != -1:
            flags |= _F_RECOMPUTE
        return flags

    def _extend(self, info: Info, sites: list[int], word: str, n: int) -> None:
        while len(sites) <= n:
            sites.append(self._path_site(info, f"{word}.{len(sites)}"))

    def _path_site(self, info: Info, path: str) -> int:
        site = info.sites.get(path)
        if site is None:
            site = info.sites[path] = self._writer.site(info.root.label, info.name, info.type_name, path)
        return site

    # backward

    def _on_gradient(self, number: int, site: int, call: int, flags: int, grads: Any) -> None:
        if self._guest.off:
            return
        try:
            grad = grads[number]
            if grad is not None:
                self._guest.unseen(self._gradient, grad, site, call, flags)
        except Exception as error:
            self._guest.fault("gradient hook", error)

    def _gradient(self, grad: Any, site: int, call: int, flags: int) -> None:
        thread, site = self._guest.thread.state, self._gradient_site(site)
        known = self._again(grad, site, thread)
        self._record(grad, site, _GRADIENT, _BACKWARD, flags & ~_F_REQUIRES_GRAD, call, 0, known, thread)

    def _gradient_site(self, site: int) -> int:
        found = self._gradient_sites.get(site)
        if found is None:
            root, module, kind, path = self._writer.site_key(site)
            found = self._gradient_sites[site] = self._writer.site(root, module, kind, path + ".grad")
        return found

    def backward(self, args: Any, kwargs: Any) -> None:
        """``torch.autograd.backward`` is about to start from tensors: asked where it makes the first gradients of them.

        Around that function itself there would be one frame more in its warnings and tracebacks, and what it is given may be
        an iterator, which is there for one reader only.
        """
        if sys._getframe(3).f_code is not self._backward or not args:  # above ``wrap`` and ``unseen``
            return
        self._guest.thread.state.stack.clear()
        for n, t in enumerate(args[0]):
            if not isinstance(t, self._tensor):
                continue
            scalar = t.numel() == 1
            _, seq = self._record(t, self._writer.site("loss", "", "", f"loss.{n}"), _LOSS, _FORWARD, _F_SCALAR if scalar else 0)
            if scalar and not self._guest.detail.wanted:
                self._guest.value(t, seq)
        self._guest.boundary()


def leaves(value: Any, path: str, tensor: type, depth: int = 0) -> list[tuple[str, Any]]:
    """Every tensor inside nested tuples, lists, mappings and dataclasses, with its path; bounded. Mappings in the order of their
    keys' names: their own may come of a set, which each launch iterates otherwise."""
    if isinstance(value, tensor):
        return [(path, value)]
    if depth >= _MAX_DEPTH:
        return []
    kind = type(value)  # a value may answer whatever it is asked for
    if isinstance(value, dict) or (hasattr(kind, "keys") and hasattr(kind, "__getitem__")):
        items: Any = ((str(k), value[k]) for k in sorted(value.keys(), key=str))
    elif isinstance(value, (tuple, list)):
        names = getattr(value, "_fields", None)
        items = zip(names, value) if names else ((str(n), v) for n, v in enumerate(value))
    elif hasattr(kind, "__dataclass_fields__"):
        items = ((k, getattr(value, k, None)) for k in value.__dataclass_fields__)
    else:
        return []
    found: list[tuple[str, Any]] = []
    for key, inner in items:
        if inner is not None and not isinstance(inner, (int, float, str, bool)):
            found += leaves(inner, f"{path}.{key}", tensor, depth + 1)
            if len(found) > _MAX_TENSORS:
                break
    return found
