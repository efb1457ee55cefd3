"""The guest: connects torch's own hook points to the journal of this process.

Used are, in this order of preference: torch's global hooks (module forward, registration, optimizer step), tensor hooks
(gradients), and four plain functions that have no hook point, wrapped in place (``autograd.backward``, the
DataLoader iterator, ``GradScaler.update``, ``numpy.random.default_rng``). Module backward hooks are never used:
they change gradient bits and fail on in-place activations.

Every entry point below catches its own exceptions and writes them down.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import sys
import threading
import time
import weakref
from datetime import datetime, timezone
from typing import Any

from reprodebug.model.events import EVENT, Flag, Kind, Phase
from reprodebug.recorder.detail import Detail, Options
from reprodebug.recorder.fingerprint import Fingerprinter
from reprodebug.recorder.loading import Loading
from reprodebug.recorder.modules import Info, ModuleTable, Root, Slot, key_of
from reprodebug.recorder.optimizers import Optimizers
from reprodebug.recorder.randomness import Randomness
from reprodebug.recorder.writer import Writer

_PARAMETER, _ACTIVATION, _GRADIENT, _DATA, _LOSS = (
    int(Kind.PARAMETER), int(Kind.ACTIVATION), int(Kind.GRADIENT), int(Kind.DATA), int(Kind.LOSS),
)  # fmt: skip
_INIT, _FORWARD, _BACKWARD, _OPTIMIZER = int(Phase.INIT), int(Phase.FORWARD), int(Phase.BACKWARD), int(Phase.OPTIMIZER)
_F_TRAINING, _F_GRAD, _F_AUTOCAST, _F_RECOMPUTE = int(Flag.TRAINING), int(Flag.GRAD), int(Flag.AUTOCAST), int(Flag.RECOMPUTE)
_F_INPUT, _F_REQUIRES_GRAD, _F_SCALAR, _F_BUFFER = int(Flag.INPUT), int(Flag.REQUIRES_GRAD), int(Flag.SCALAR), int(Flag.BUFFER)
_pack = EVENT.pack
_MAX_DEPTH = 6
_MAX_TENSORS = 256
"""nesting and number of tensors followed inside one module's inputs or outputs"""
_MAX_FAULTS = 20
_RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
"""variables in which launchers tell a process its rank"""
_QUIET = 3
"""a module before whose calls torch's generator never moved is not asked again, until the generator is found moved unseen"""

_guest: Guest | None = None


def start(torch: Any, run: str, options: Options | None = None) -> Guest | None:
    """Let the guest into this process; once. ``run`` is the run directory."""
    global _guest
    if _guest is None:
        _guest = Guest(torch, run, options or Options.from_environment())
        _guest.install()
    return _guest


def start_here(run: str, options: Options) -> Guest | None:
    """Let the guest into this very process (``reprodebug.record``). Raises ImportError where there is no torch."""
    import torch

    return start(torch, run, options)


def current() -> Guest | None:
    """The guest of this process, if there is one."""
    return _guest


def guarded(method: Any) -> Any:
    """An entry point: nothing that goes wrong inside reaches the program."""

    @functools.wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.guest.fault(method.__name__, error)

    return run


class _State:
    """What one thread is inside of, and the output that it recorded last."""

    __slots__ = ("last", "last_head", "last_known", "last_version", "number", "rng", "stack")

    def __init__(self, number: int) -> None:
        self.stack: list[Info] = []
        self.number = number
        self.rng = 0
        """row of torch's generator when this thread last looked"""
        self.last: Any = None
        """weak reference to the output; with it its version counter, fingerprint, first and last bytes"""
        self.last_version = -1
        self.last_known: Any = None
        self.last_head = b""


class _Thread(threading.local):
    """The state of the thread that asks."""

    def __init__(self) -> None:
        self.state = _State(next(_THREADS) & 0xFFFF)


_THREADS = itertools.count()


class Guest:
    """The recorder of one process."""

    def __init__(self, torch: Any, run: str, options: Options) -> None:
        self.guest = self
        self.torch = torch
        self.run = run
        self.options = options
        self.step = 0
        """optimizer steps finished, of all optimizers"""
        self.turn = 0
        """calls of outermost modules with parameters finished, modulo 2**16: the steps of a program without optimizer"""
        self.off = False
        self.pid = os.getpid()
        self.started = time.monotonic()
        self.time_ms = 0
        self.faults = 0
        self.writer = Writer(os.path.join(run, "journal"))
        self.fingerprint = Fingerprinter(torch, self.writer)
        self.modules = ModuleTable(self.writer.site)
        self.randomness = Randomness(torch, self.writer, self.fingerprint._digest)
        self.detail = Detail(self)
        self._detailed = self.detail.wanted
        self.optimizers = Optimizers(self)
        self.loading = Loading(self)
        self.thread = _Thread()
        self._handles: list[Any] = []
        self._undo: list[Any] = []
        self._graph_task = getattr(torch._C, "_current_graph_task_id", lambda: -1)
        self._function_modes = getattr(torch._C, "_len_torch_function_stack", lambda: 0)
        self._grad_enabled = torch.is_grad_enabled
        self._autocast = getattr(torch._C, "_is_any_autocast_enabled", None) or torch.is_autocast_enabled
        self._tracing = torch._C._get_tracing_state
        self._compiling = getattr(getattr(torch, "compiler", None), "is_dynamo_compiling", None) or (lambda: False)
        self._tensor = torch.Tensor
        self._output_digests: set[bytes] = set()
        self._gradient_sites: dict[int, int] = {}
        self._watch: Any = None
        self._early_modules: dict[str, str] = {}
        self._files: Any = None

    # coming and going

    def install(self) -> None:
        """Announce this process in the journal and connect every hook."""
        self._announce("main")
        torch = self.torch
        from torch.nn.modules import module as m
        from torch.optim import optimizer as o

        is_compiling, modes, no_modes = self._compiling, self._function_modes, torch._C.DisableTorchFunction
        before, after, frame_of = self._before, self._after, sys._getframe
        guest = self

        def forward_pre(module: Any, args: Any) -> None:
            if is_compiling() or guest.off:
                return
            try:
                if modes():
                    with no_modes():
                        before(module, args, frame_of(1))
                else:
                    before(module, args, frame_of(1))
            except Exception as error:
                guest.fault("forward pre-hook", error)

        def forward_post(module: Any, args: Any, kwargs: Any, output: Any) -> None:
            if is_compiling() or guest.off:
                return
            try:
                if modes():
                    with no_modes():
                        after(module, kwargs, output)
                else:
                    after(module, kwargs, output)
            except Exception as error:
                guest.fault("forward hook", error)

        self._handles += [
            m.register_module_forward_pre_hook(forward_pre),
            m.register_module_forward_hook(forward_post, with_kwargs=True),
            m.register_module_parameter_registration_hook(self.modules.registered),
            m.register_module_buffer_registration_hook(self.modules.registered),
            m.register_module_module_registration_hook(self.modules.registered_child),
            o.register_optimizer_step_pre_hook(self.optimizers.before),
            o.register_optimizer_step_post_hook(self.optimizers.after),
        ]
        self.wrap(torch.autograd, "backward", before=self._on_backward)
        scaler = getattr(torch.amp, "GradScaler", None)
        if scaler is not None:
            self.wrap(scaler, "update", after=self.optimizers.scaler)
        if "numpy" in sys.modules:  # its random part is loaded on first use
            import numpy.random as numpy_random

            self.wrap(numpy_random, "default_rng", after=self._on_default_rng)
        self.loading.install()
        atexit.register(self.end)
        os.register_at_fork(after_in_child=self._forked)

    def wrap(self, owner: Any, name: str, *, before: Any = None, after: Any = None) -> None:
        """Put a plain function around ``owner.name`` that calls ours before or after it.

        ``before(args, kwargs)`` and ``after(args, result)`` see the call, never change it, and never raise.
        """
        original = getattr(owner, name, None)
        if original is None:
            return
        guest = self

        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if guest.off:
                return original(*args, **kwargs)
            if before is not None:
                try:
                    before(args, kwargs)
                except Exception as error:
                    guest.fault(name, error)
            result = original(*args, **kwargs)
            if after is not None:
                try:
                    after(args, result)
                except Exception as error:
                    guest.fault(name, error)
            return result

        setattr(owner, name, wrapper)
        self._undo.append((owner, name, original))

    def uninstall(self) -> None:
        """Take every hook out again (``reprodebug.record`` ends before the process does)."""
        self.end()
        self.off = True
        for handle in self._handles:
            handle.remove()
        for owner, name, original in reversed(self._undo):
            setattr(owner, name, original)
        global _guest
        if _guest is self:
            _guest = None

    def _announce(self, role: str) -> None:
        from reprodebug.recorder import facts

        environment = os.environ
        rank = next((environment[k] for k in _RANKS if k in environment), "")
        start: dict[str, Any] = {
            "type": "start", "role": role, "rank": int(rank) if rank.isdigit() else None, "pid": os.getpid(), "ppid": os.getppid(),
            "argv": list(getattr(sys, "orig_argv", sys.argv)), "started": datetime.now(timezone.utc).isoformat(),
            "level": self.options.level, "fingerprint": self.fingerprint.algorithm,
        }  # fmt: skip
        if role == "main":
            start["facts"] = facts.start_facts()
        self.writer.meta_event(start)
        if role == "main":
            self.writer.meta_event({"type": "facts", "facts": {"torch": facts.torch_facts(self.torch)}})
            self._watch = facts.SettingsWatch(self.torch)
            main = facts.modules().get("__main__")  # the interpreter takes its __file__ away before the process ends
            self._early_modules = {"__main__": main} if main else {}
            self.writer.meta_event({"type": "settings", "step": 0, "settings": facts.settings(self.torch)})
            from reprodebug.recorder.files import FileWatch

            self._files = FileWatch(self._on_file, ignore=(self.run,))
            self._files.start()
        self.writer.flush()

    def _on_file(self, what: dict[str, Any]) -> None:
        self.writer.meta_event({"type": "file", **what})

    def _on_default_rng(self, args: Any, result: Any) -> None:
        self.randomness.numpy_generator(result)

    def _forked(self) -> None:
        """A forked child has its own journal; a DataLoader's worker runs no model of ours to record."""
        try:
            self.pid = os.getpid()
            self.writer.reset()
            self.fingerprint.reset()
            self.modules.reset()
            self.randomness.reset()
            self._gradient_sites.clear()
            self.optimizers.reset()
            self.loading.reset()
            self.thread = _Thread()
            self._announce("forked")
        except Exception:
            self.off = True

    def end(self) -> None:
        """The program ends: write what is waiting and say that this was the end."""
        if self.off or os.getpid() != self.pid:
            return
        try:
            self._facts_again()
            self.writer.meta_event({"type": "end", "steps": self.step})
            self.writer.flush()
        except Exception as error:
            self.fault("end", error)

    def _facts_again(self) -> None:
        from reprodebug.recorder import facts

        found: dict[str, Any] = {"modules": {**self._early_modules, **facts.modules()}, "libraries": facts.mapped_libraries()}
        found["torch"] = facts.torch_facts(self.torch, used=True)
        self._settings()
        if self._files is not None and any(self._files.left_out.values()):
            self.writer.meta_event({"type": "files-left-out", **{str(k): v for k, v in self._files.left_out.items()}})
        self.writer.meta_event({"type": "facts", "facts": found})
        if self.modules.compiled:
            self.writer.meta_event({"type": "compiled", "modules": sorted(self.modules.compiled)[:100]})
        if self.randomness.numpy_untracked:
            n = self.randomness.numpy_untracked
            self.writer.meta_event({"type": "lost", "what": f"{n} more numpy generators than can be followed"})

    def _settings(self) -> None:
        changed = self._watch.changed() if self._watch is not None else None
        if changed is not None:
            self.writer.meta_event({"type": "settings", "step": self.step, "settings": changed})

    def fault(self, where: str, error: Exception) -> None:
        """An error of our own: written down, never shown to the program."""
        self.faults += 1
        if self.faults <= _MAX_FAULTS:
            try:
                what = f"the recorder failed in {where}: {type(error).__name__}: {error}"
                if os.environ.get("REPRODEBUG_DEBUG"):
                    import traceback

                    what += "\n" + "".join(traceback.format_exception(type(error), error, error.__traceback__))
                self.writer.meta_event({"type": "lost", "what": what[:4000]})
            except Exception:
                self.off = True

    # events

    def record(
        self, t: Any, site: int, kind: int, phase: int, flags: int = 0, call: int = 0, rng: int = 0,
        known: tuple[bytes, int, int] | None = None, thread: _State | None = None,
    ) -> tuple[bytes, int]:  # fmt: skip
        """One event for tensor ``t``, fingerprinted unless ``known`` is its fingerprint; returns digest and sequence number."""
        digest, meta, more = known or self.fingerprint.at(t, site)
        writer = self.writer
        number = (thread or self.thread.state).number
        seq = writer.next_seq()
        flags |= more
        row = _pack(seq, site, meta, self.step, call, rng, flags, kind, phase, number, self.turn, self.time_ms, digest)
        writer.records.append(row)
        writer.seq_seen = seq + 1
        if self._detailed:
            self.detail.keep(t, seq, site, flags)
        return digest, seq

    def boundary(self) -> None:
        """A step, a batch or a root call begins or ends: look at the clock and flush when it is time."""
        self.time_ms = int((time.monotonic() - self.started) * 1000) & 0xFFFFFFFF
        self.writer.tick()

    # forward

    def _before(self, module: Any, args: Any, frame: Any) -> None:
        """Before a module's forward: inputs, circumstances, position of the random generator."""
        if self._tracing() is not None:
            return
        state = self.thread.state
        stack = state.stack
        info = self.modules._infos.get(key_of(module)) or self.modules[module]
        outermost = not stack
        if not outermost and stack[0] is info:  # the last call of this root left by an exception
            stack.clear()
            outermost = True
        if outermost:
            self._before_root(info.root)
        stack.append(info)
        step = self.step
        if info.step != step:
            info.step = step
            info.call = 0
        else:
            info.call += 1
        flags = self._flags(module) | _F_INPUT
        rng = 0
        if outermost or info.quiet < _QUIET:
            rng = self.randomness.torch_cpu()
            info.quiet = 0 if rng != state.rng else info.quiet + 1
            state.rng = rng
        kwargs = frame.f_locals.get("kwargs") if info.keywords or not args else None
        tensor = self._tensor
        sites = info.input_sites
        for n, value in enumerate(args):
            if isinstance(value, tensor):
                if n >= len(sites):
                    self._extend(info, sites, "input", n)
                self._input(value, sites[n], info, flags, rng, outermost, state)
            elif value is not None and not isinstance(value, (int, float, str, bool)):
                for path, t in _leaves(value, f"input.{n}", tensor):
                    self._input(t, self._path_site(info, path), info, flags, rng, outermost, state)
        if kwargs and isinstance(kwargs, dict):
            info.keywords = True
            self._keyword_inputs(info, kwargs, flags, rng, outermost, state)

    def _keyword_inputs(self, info: Info, kwargs: Any, flags: int, rng: int, outermost: bool, state: _State) -> None:
        tensor = self._tensor
        for key, value in kwargs.items():
            if isinstance(value, tensor) or not (value is None or isinstance(value, (int, float, str, bool))):
                for path, t in _leaves(value, f"input.{key}", tensor):
                    self._input(t, self._path_site(info, path), info, flags, rng, outermost, state)

    def _input(self, t: Any, site: int, info: Info, flags: int, rng: int, outermost: bool, state: _State) -> None:
        requires_grad = t.requires_grad
        if requires_grad:
            flags |= _F_REQUIRES_GRAD
        kind = _ACTIVATION
        known = self._again(t, site, state)
        if outermost and not requires_grad and known[0] not in self._output_digests:  # what another root computed is no data
            kind = _DATA
        digest, seq = self.record(t, site, kind, _FORWARD, flags, info.call, rng, known, state)
        if kind == _DATA and digest not in self.loading.batches and info.slots_below:
            self.loading.samples_of([t], seq, [])

    def _before_root(self, root: Root) -> None:
        """An outermost module is about to run: everything that its forward starts from is recorded first."""
        self.randomness.observe()
        self.settle()
        self.refresh(root)
        root.called = True
        self.boundary()

    def _after(self, module: Any, kwargs: Any, output: Any) -> None:
        """After a module's forward: outputs, and hooks for their gradients."""
        if self._tracing() is not None:
            return
        state = self.thread.state
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
        flags = self._flags(module)
        outermost = not stack
        call = info.call
        if kwargs and not info.keywords:  # the first call with keywords: from the next one on they are seen before it
            info.keywords = True
            self._keyword_inputs(info, kwargs, flags | _F_INPUT, 0, outermost, state)
        if isinstance(output, self._tensor):
            sites = info.output_sites
            if not sites:
                self._extend(info, sites, "output", 0)
            self._output(output, sites[0], flags, call, outermost, state)
        elif output is not None:
            for path, t in _leaves(output, "output", self._tensor):
                self._output(t, self._path_site(info, path), flags, call, outermost, state)
        if outermost:
            if info.slots_below:
                self.turn = (self.turn + 1) & 0xFFFF
            self.boundary()

    def _output(self, t: Any, site: int, flags: int, call: int, outermost: bool, thread: _State) -> None:
        requires_grad = t.requires_grad
        if requires_grad:
            flags |= _F_REQUIRES_GRAD
        same = thread.last is not None and thread.last() is t and thread.last_version == t._version
        known = self._again(t, site, thread)
        self.record(t, site, _ACTIVATION, _FORWARD, flags, call, 0, known, thread)
        if outermost:
            if len(self._output_digests) > 256:
                self._output_digests.clear()
            self._output_digests.add(known[0])
        if same:
            return  # a container hands on its last child's output: one gradient, one record
        thread.last = weakref.ref(t)
        thread.last_version = t._version
        thread.last_known = known
        thread.last_head = self.fingerprint.head(t) if known[2] == 0 else b""
        if requires_grad and flags & _F_GRAD and t.grad_fn is not None:
            hook = functools.partial(self._on_gradient, site, call, flags)
            hook.__torch_unserializable__ = True  # type: ignore[attr-defined]
            t.register_hook(hook)

    def _again(self, t: Any, site: int, thread: _State) -> tuple[bytes, int, int]:
        """The fingerprint of ``t``; not read again when it is the very output that this thread recorded last, unchanged.

        Unchanged: the same object and version counter, and the same first bytes (writes through ``.data`` or NumPy do
        not move the counter).
        """
        last = thread.last
        if (
            last is not None and thread.last_head and last() is t and thread.last_version == t._version
            and self.fingerprint.head(t) == thread.last_head
        ):  # fmt: skip
            return thread.last_known  # type: ignore[no-any-return]
        return self.fingerprint.at(t, site)

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
            site = info.sites[path] = self.writer.site(info.root.label, info.name, info.type_name, path)
        return site

    # backward

    def _on_gradient(self, site: int, call: int, flags: int, grad: Any) -> None:
        if self.off or grad is None:
            return
        try:
            self.record(grad, self._gradient_site(site), _GRADIENT, _BACKWARD, flags & ~_F_REQUIRES_GRAD, call)
        except Exception as error:
            self.fault("gradient hook", error)

    def _gradient_site(self, site: int) -> int:
        found = self._gradient_sites.get(site)
        if found is None:
            root, module, kind, path = self.writer.site_key(site)
            found = self._gradient_sites[site] = self.writer.site(root, module, kind, path + ".grad")
        return found

    def _on_parameter_gradient(self, slot: Slot, parameter: Any) -> None:
        if self.off:
            return
        try:
            grad = parameter.grad
            if grad is not None:
                self.record(grad, slot.grad_site, _GRADIENT, _BACKWARD)
        except Exception as error:
            self.fault("parameter gradient hook", error)

    def _on_backward(self, args: Any, kwargs: Any) -> None:
        self.thread.state.stack.clear()
        tensors = args[0] if args else kwargs.get("tensors")
        if isinstance(tensors, self._tensor):
            tensors = (tensors,)
        for n, t in enumerate(tensors or ()):
            if not isinstance(t, self._tensor):
                continue
            scalar = t.numel() == 1
            _, seq = self.record(t, self.writer.site("loss", "", "", f"loss.{n}"), _LOSS, _FORWARD, _F_SCALAR if scalar else 0)
            if scalar and t.device.type == "cpu" and not self.detail.wanted:
                self.detail.value(t, seq)
        self.boundary()

    # parameters and buffers

    def settle(self) -> None:
        """Record the parameters and buffers of every module that is new, before anything uses them."""
        for root in self.modules.settle():
            seen: set[int] = set()
            for info in root.infos:
                for slot in info.slots:
                    t = slot.tensor()
                    if t is None:
                        continue
                    slot.alias_of = key_of(t) if key_of(t) in seen else 0
                    if slot.alias_of:
                        continue
                    seen.add(key_of(t))
                    if slot.digest is None:
                        self.parameter(slot, t, _INIT)
                    self._hook(slot, t)

    def refresh(self, root: Root) -> None:
        """Record what changed since it was last looked at: loaded weights, hand-made updates, running statistics."""
        phase = _FORWARD if root.called else _INIT
        for info in root.infos:
            for slot in info.slots:
                t = slot.tensor()
                if t is None or slot.alias_of == key_of(t):
                    continue
                if slot.version != t._version or (slot.silent(t) if slot.buffer else not slot.owned):
                    self.parameter(slot, t, _FORWARD if slot.buffer else phase, only_changed=True)
                if not slot.buffer and slot.hooked != key_of(t):
                    self._hook(slot, t)

    def parameter(self, slot: Slot, t: Any, phase: int, only_changed: bool = False) -> None:
        """Record one parameter or buffer."""
        slot.version = t._version
        if only_changed and self.fingerprint(t)[0] == slot.digest:
            return
        flags = _F_BUFFER if slot.buffer else 0
        slot.digest, _ = self.record(t, slot.site, _PARAMETER, phase, flags)

    def _hook(self, slot: Slot, t: Any) -> None:
        if slot.buffer or slot.hooked == key_of(t) or not t.requires_grad or not t.is_leaf:
            return
        register = getattr(t, "register_post_accumulate_grad_hook", None)
        if register is not None:
            slot.hooked = key_of(t)
            hook = functools.partial(self._on_parameter_gradient, slot)
            slot.handle = register(hook)

    def step_done(self) -> None:
        """An optimizer has finished its step: settings, generators, then the counter."""
        self.randomness.observe()
        self._settings()
        self.step += 1
        self.thread.state.stack.clear()
        self._output_digests.clear()
        self.boundary()


def _leaves(value: Any, path: str, tensor: type, depth: int = 0) -> list[tuple[str, Any]]:
    """Every tensor inside nested tuples, lists, mappings and dataclasses, with its path; bounded."""
    if isinstance(value, tensor):
        return [(path, value)]
    if depth >= _MAX_DEPTH:
        return []
    if isinstance(value, dict) or (hasattr(value, "keys") and hasattr(value, "__getitem__")):
        items: Any = ((str(k), value[k]) for k in list(value.keys()))
    elif isinstance(value, (tuple, list)):
        names = getattr(value, "_fields", None)
        items = zip(names, value) if names else ((str(n), v) for n, v in enumerate(value))
    elif hasattr(value, "__dataclass_fields__"):
        items = ((k, getattr(value, k, None)) for k in value.__dataclass_fields__)
    else:
        return []
    found: list[tuple[str, Any]] = []
    for key, inner in items:
        if inner is not None and not isinstance(inner, (int, float, str, bool)):
            found += _leaves(inner, f"{path}.{key}", tensor, depth + 1)
            if len(found) > _MAX_TENSORS:
                break
    return found
