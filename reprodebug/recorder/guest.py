"""The guest: connects torch's own hook points to the journal of this process.

Used are, in this order of preference: torch's global hooks (module forward, registration, optimizer step), tensor hooks
(gradients), and a few plain functions that have no hook point, wrapped in place (a part of ``autograd.backward``, the
DataLoader iterator, ``GradScaler.update``, ``numpy.random.default_rng``, the functions that seed). Module backward hooks are never used:
they change gradient bits and fail on in-place activations.

Every entry point below catches its own exceptions and writes them down.
"""

from __future__ import annotations

import atexit
import functools
import os
import signal
import sys
import threading
import time
from datetime import datetime, timezone
from typing import Any

from reprodebug._base.redact import machine_key, redact_argv, state_home
from reprodebug.model.events import EVENT
from reprodebug.recorder import imposed, operations
from reprodebug.recorder.calls import Calls, PerThread, ThreadState
from reprodebug.recorder.detail import Detail, Options
from reprodebug.recorder.device import decoded
from reprodebug.recorder.fingerprint import Fingerprinter
from reprodebug.recorder.handlers import pass_on
from reprodebug.recorder.loading import Loading
from reprodebug.recorder.modules import ModuleTable
from reprodebug.recorder.optimizers import Optimizers
from reprodebug.recorder.parameters import Parameters
from reprodebug.recorder.randomness import Randomness
from reprodebug.recorder.seeding import Seeding
from reprodebug.recorder.writer import Writer

_pack = EVENT.pack
_MAX_FAULTS = 20
_MAX_THREADS = 64
"""threads of the program's that are noted"""
_RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
"""variables in which launchers tell a process its rank"""

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


class Guest:
    """The recorder of one process."""

    def __init__(self, torch: Any, run: str, options: Options) -> None:
        self.torch = torch
        self.run = run
        self.options = options
        self.step = 0
        """optimizer steps finished, of all optimizers"""
        self.turn = 0
        """calls of outermost modules with parameters finished, modulo 2**16: the steps of a program without optimizer"""
        self.off = False
        self.pid = os.getpid()
        self.forked = False
        self.ended = False
        self.started = time.monotonic()
        self.first_turn: float | None = None
        self.time_ms = 0
        self.faults = 0
        self.writer = Writer(os.path.join(run, "journal"))
        self.fingerprint = Fingerprinter(torch, self.writer)
        self.modules = ModuleTable(self.writer.site)
        self.randomness = Randomness(torch, self.writer, self.fingerprint._digest)
        self.detail = Detail(self)
        self._detailed = self.detail.wanted
        self.watch: Any = None
        self.optimizers = Optimizers(self)
        self.loading = Loading(self)
        self.seeding = Seeding(self)
        self.thread = PerThread()
        self.parameters = Parameters(self)
        self._function_modes = getattr(torch._C, "_len_torch_function_stack", lambda: 0)
        self._dispatch_modes = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)
        self.calls = Calls(self)
        self._handles: list[Any] = []
        self._undo: list[Any] = []
        self._compiling = getattr(getattr(torch, "compiler", None), "is_dynamo_compiling", None) or (lambda: False)
        self._tensor = torch.Tensor
        self._watch: Any = None
        self._early_modules: dict[str, str] = {}
        self._files: Any = None
        self._threads_left = _MAX_THREADS
        self._replays = 0
        """of CUDA graphs"""

    # coming and going

    def install(self) -> None:
        """Announce this process in the journal and connect every hook."""
        unknown = imposed.at_torch(self.torch, imposed.imposed())
        self._announce("main")
        torch = self.torch
        if unknown:
            self.writer.meta_event({"type": "not-imposed", "names": unknown})
        from torch.nn.modules import module as m
        from torch.optim import optimizer as o

        is_compiling, unseen = self._compiling, self.unseen
        before, after, frame_of = self.calls.before, self.calls.after, sys._getframe
        guest = self

        def forward_pre(module: Any, args: Any) -> None:
            if is_compiling() or guest.off:
                return
            try:
                unseen(before, module, args, frame_of(1))
            except Exception as error:
                guest.fault("forward pre-hook", error)

        def forward_post(module: Any, args: Any, kwargs: Any, output: Any) -> None:
            if is_compiling() or guest.off:
                return
            try:
                unseen(after, module, kwargs, output)
            except Exception as error:
                guest.fault("forward hook", error)

        def registered(module: Any, name: str, value: Any) -> None:
            if guest.off:
                return
            try:
                guest.modules.registered(module, name, value)
            except Exception as error:
                guest.fault("registration hook", error)

        def registered_child(module: Any, name: str, value: Any) -> None:
            if guest.off:
                return
            try:
                guest.modules.registered_child(module, name, value)
            except Exception as error:
                guest.fault("registration hook", error)

        self._handles += [
            m.register_module_forward_pre_hook(forward_pre),
            m.register_module_forward_hook(forward_post, with_kwargs=True),
            m.register_module_parameter_registration_hook(registered),
            m.register_module_buffer_registration_hook(registered),
            m.register_module_module_registration_hook(registered_child),
            o.register_optimizer_step_pre_hook(self.optimizers.before),
            o.register_optimizer_step_post_hook(self.optimizers.after),
        ]
        self.replace(m, "_has_any_global_hook", self._others(m, {handle.id for handle in self._handles}))
        self.wrap(torch.autograd, "_make_grads", before=self.calls.backward)
        scaler = getattr(torch.amp, "GradScaler", None)
        if scaler is not None:
            self.wrap(scaler, "update", after=self.optimizers.scaler)
        if "numpy" in sys.modules:  # its random part is loaded on first use
            import numpy.random as numpy_random

            self.wrap(numpy_random, "default_rng", before=self.seeding.numpy_generator, after=self._on_default_rng)
        graphs = getattr(torch.cuda, "CUDAGraph", None)
        if graphs is not None:
            self.wrap(graphs, "replay", before=self._on_replay)
        self.seeding.install()
        self.wrap(threading.Thread, "start", before=self._on_thread)
        self.loading.install()
        connection = sys.modules.get("multiprocessing.connection")
        if connection is not None:
            self.wrap(connection.Connection, "_send_bytes", before=self._on_send)
        self.wrap(os, "_exit", before=self._on_exit)
        for name in ("execv", "execve"):  # every other form of exec calls one of these
            self.wrap(os, name, before=self._on_exec)
        self.watch = operations.watch(self)
        if self.watch is not None:  # an experiment looks into one stretch of the run: it stands where details are kept
            self.detail, self._detailed = self.watch, True
            self.watch.reached(0)
        atexit.register(self.end)
        os.register_at_fork(after_in_child=self._forked)

    @staticmethod
    def _others(m: Any, ours: set[int]) -> Any:
        """What torch asks before it warns of global hooks in a compiled module: whether there are any besides ours."""
        names = ("backward_pre_hooks", "backward_hooks", "forward_pre_hooks", "forward_hooks")
        hooks = [getattr(m, f"_global_{name}", {}) for name in names]
        return lambda: any(number not in ours for known in hooks for number in known)

    def unseen(self, call: Any, *args: Any) -> None:
        """Call one of our functions; modes that the program has set (a counter, a tracer, a default device) see nothing of it."""
        if not self._function_modes() and not self._dispatch_modes():
            call(*args)
            return
        from torch.utils._python_dispatch import _disable_current_modes

        with self.torch._C.DisableTorchFunction(), _disable_current_modes():
            call(*args)

    def wrap(self, owner: Any, name: str, *, before: Any = None, after: Any = None) -> None:
        """Put a plain function around ``owner.name`` that calls ours before or after it.

        ``before(args, kwargs)`` and ``after(args, result)`` see the call, never change it, and never raise.
        """
        original = getattr(owner, name, None)
        if original is None:
            return
        guest, unseen = self, self.unseen

        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if guest.off:
                return original(*args, **kwargs)
            if before is not None:
                try:
                    unseen(before, args, kwargs)
                except Exception as error:
                    guest.fault(name, error)
            result = original(*args, **kwargs)
            if after is not None:
                try:
                    unseen(after, args, result)
                except Exception as error:
                    guest.fault(name, error)
            return result

        setattr(owner, name, wrapper)
        self._undo.append((owner, name, original))

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Put ``value`` where ``owner.name`` was, until the guest leaves."""
        original = getattr(owner, name, None)
        if original is not None:
            setattr(owner, name, value)
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
            "argv": redact_argv(list(getattr(sys, "orig_argv", sys.argv)), machine_key()),
            "started": datetime.now(timezone.utc).isoformat(),
            "level": self.options.level, "fingerprint": self.fingerprint.algorithm,
        }  # fmt: skip
        if role == "main":
            start["facts"] = facts.start_facts()
        self.writer.meta_event(start)
        if role == "main":
            self.writer.meta_event({"type": "facts", "facts": {"torch": facts.torch_facts(self.torch)}})
            self._watch = facts.SettingsWatch(self.torch)
            # the interpreter takes its __file__ away before the process ends, and has not set it yet where start-up code imports torch
            main = facts.modules().get("__main__") or facts.script(getattr(sys, "orig_argv", sys.argv))
            self._early_modules = {"__main__": main} if main else {}
            self.writer.meta_event({"type": "settings", "step": 0, "settings": facts.settings(self.torch)})
            from reprodebug.recorder.files import FileWatch

            self._files = FileWatch(self._on_file, ignore=(self.run, state_home()))
            self._files.start()
        self.writer.flush()

    def _on_file(self, what: dict[str, Any]) -> None:
        mode = what["mode"]
        if mode == "list":
            self.writer.meta_event({"type": "listing", "step": self.step, **what})
        else:
            self.writer.meta_event({"type": "file", **what})
        if self.forked:  # DataLoader workers leave by os._exit: nothing may wait for the end
            self.writer.flush()

    def _on_thread(self, args: Any, kwargs: Any) -> None:
        """The program starts a thread: what runs beside its main one may make an order depend on time."""
        if self._threads_left <= 0:
            return
        self._threads_left -= 1
        thread = args[0]
        target = getattr(thread, "_target", None) or type(thread).run
        runs = f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', type(target).__name__)}"
        self.writer.meta_event({"type": "thread", "step": self.step, "name": str(thread.name)[:80], "runs": runs[:160]})

    def _on_replay(self, args: Any, kwargs: Any) -> None:
        """A CUDA graph is about to be replayed: none of its modules is called."""
        self._replays += 1
        if self.fingerprint.device is not None:
            self.fingerprint.device.forget()

    def _on_default_rng(self, args: Any, result: Any) -> None:
        self.randomness.numpy_generator(result)

    def _forked(self) -> None:
        """A forked child has its own journal; a DataLoader's worker runs no model of ours to record."""
        try:
            self.pid = os.getpid()
            self.forked = True
            self.ended = False
            self.writer.reset()
            self.fingerprint.reset()
            self.modules.reset()
            self.randomness.reset()
            self.calls.reset()
            self.optimizers.reset()
            self.loading.reset()
            self.thread = PerThread()
            if self.watch is not None:
                self.watch.forked()
            self._announce("forked")
        except Exception:
            self.off = True

    def end(self) -> None:
        """The program ends: write what is waiting and say that this was the end."""
        if self.off or self.ended or os.getpid() != self.pid:
            return
        self.ended = True
        try:
            self._facts_again()
            if self.fingerprint.device is not None:
                self.fingerprint.device.finish()
            self.writer.meta_event({"type": "end", "steps": self.step})
            self.writer.finish()
        except Exception as error:
            self.fault("end", error)

    def _on_exit(self, args: Any, kwargs: Any) -> None:
        """The program leaves past every ``atexit``, as all children that ``multiprocessing`` forks do."""
        if self.fingerprint.device is None and (self.writer.seq_seen or not self.forked):
            self.end()
        else:  # whoever leaves this way may do it because the device hangs: it is not waited for
            self.writer.flush()

    def _on_send(self, args: Any, kwargs: Any) -> None:
        """A worker hands a result over, and may be killed for it: a pool ends its workers by a signal."""
        if self.forked and self.writer.records:
            self.writer.tick(step_done=True)

    def _on_exec(self, args: Any, kwargs: Any) -> None:
        """Another program may take this one's place; where it cannot be started, this one goes on."""
        self.writer.flush()

    def _facts_again(self) -> None:
        from reprodebug.recorder import facts

        modules = {**self._early_modules, **facts.modules()}
        loaded = set(modules.values())
        modules |= {path: path for path in (sorted(self._files.sources) if self._files is not None else ()) if path not in loaded}
        found: dict[str, Any] = {"modules": modules, "libraries": facts.mapped_libraries()}
        found["torch"] = facts.torch_facts(self.torch, used=True)
        self._settings()
        if self._files is not None and any(self._files.left_out.values()):
            self.writer.meta_event({"type": "files-left-out", **{str(k): v for k, v in self._files.left_out.items()}})
        self.writer.meta_event({"type": "facts", "facts": found})
        if self.modules.compiled:
            self.writer.meta_event({"type": "compiled", "modules": sorted(self.modules.compiled)[:100]})
        if self._replays:
            self.writer.meta_event({"type": "graphs", "replays": self._replays})
        if self.randomness.numpy_untracked:
            n = self.randomness.numpy_untracked
            self.writer.meta_event({"type": "lost", "what": f"{n} more numpy generators than can be followed"})

    def _settings(self) -> None:
        changed = self._watch.changed() if self._watch is not None else None
        if changed is not None:
            self.writer.meta_event({"type": "settings", "step": self.step, "settings": changed})

    def fault(self, where: str, error: Exception) -> None:
        """An error of our own: written down, never shown to the program. One of a signal handler's goes to the program."""
        if not self.ended:
            pass_on(error)
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
        known: tuple[bytes, int, int] | None = None, thread: ThreadState | None = None,
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

    def value(self, t: Any, seq: int) -> None:
        """The number in a tensor of one element, e.g. a loss; from an accelerator it comes with the fingerprints."""
        if t.is_cpu:
            self.detail.value(t, seq)
        elif self.fingerprint.device is not None and type(t) in self.fingerprint.plain:
            dtype, stats, nan = str(t.dtype).removeprefix("torch."), self.writer.stats, float("nan")

            def arrived(raw: bytes | None) -> None:
                number = None if raw is None else decoded(raw, dtype)
                if number is not None:
                    stats(seq, number, nan, nan, nan, nan, nan, nan, nan, nan)

            try:
                self.fingerprint.device.value(t, arrived)
            except Exception:  # its event says why already
                pass

    def boundary(self, step_done: bool = False) -> None:
        """A step, a batch or a root call begins or ends: look at the clock and flush when it is time."""
        self.time_ms = int((time.monotonic() - self.started) * 1000) & 0xFFFFFFFF
        if self.fingerprint.device is not None:
            self.fingerprint.device.tick(step_done)
        self.writer.tick(step_done)
        if self.watch is not None:
            self.watch.reached(self.writer.seq_seen)

    def step_done(self) -> None:
        """An optimizer has finished its step: settings, generators, then the counter."""
        self.randomness.observe()
        self._settings()
        self.step += 1
        self.calls.step_done()
        self.boundary(step_done=True)
        if self.served(self.step, self.options.until):
            self.leave()
        elif self.options.watched and self.dismissed():
            self.leave(128 + signal.SIGTERM)

    def served(self, done: int, wanted: int) -> bool:
        """A trial has gone on for the ``wanted`` steps or calls (0: to its own end), and for the time, that it was made for."""
        if not wanted:
            return False
        now = time.monotonic()
        if self.first_turn is None:
            self.first_turn = now
        return done >= wanted and (now - self.first_turn) * 1000 >= self.options.least_ms

    def dismissed(self) -> bool:
        """The parent has seen enough of a run that it watches."""
        return os.path.exists(os.path.join(self.run, "journal", "stop"))

    def leave(self, code: int = 0) -> None:
        """A trial has seen what it was made for: the process ends here, at once, with what it recorded written down."""
        if self.off or os.getpid() != self.pid or self.forked:
            return
        self.end()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:  # whatever the program made of it
                pass
        with open(os.path.join(self.run, "journal", f"stopped-{self.pid}"), "w") as f:
            f.write(str(self.step or self.turn))
        os._exit(code)
