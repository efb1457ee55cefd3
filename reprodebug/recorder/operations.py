"""Every ATen operation of one stretch of the program, with its tensors: what ``reprodebug zoom`` asks of the guest.

Owns the log of the stretch and its bytes, and ends the process right after the stretch. Reads and
never writes: a ``TorchDispatchMode`` hands every call on as it came, tensors are only looked at, generators are only asked
for their state. What another thread runs is not seen; a call of a compiled region is one operation (``regions``).

The log: ``zoom/<pid>.jsonl``, one JSON object a line (a header, operations, values, an end), and ``zoom/<pid>.bin``, the raw
bytes of tensors in contiguous order, each distinct value once. A process killed at any byte leaves whole lines before it.
"""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any

from reprodebug.recorder import kernels
from reprodebug.recorder.lines import Lines
from reprodebug.recorder.regions import Regions
from reprodebug.recorder.schemas import MOST_WORDS, Schemas
from reprodebug.recorder.stretch import FOLDER, Stretch

if TYPE_CHECKING:
    from reprodebug.recorder.guest import Guest

_BATCH = 1 << 20


def watch(guest: Guest) -> Any:
    """The watch that this process was asked for, or None."""
    stretch = Stretch.from_environment()
    if stretch is None or guest.forked:
        return None
    return Watch(guest, stretch)


class Watch:
    """Follows the operations of one process between two of its events. Stands where the guest's ``detail`` stands."""

    def __init__(self, guest: Guest, stretch: Stretch) -> None:
        self.guest = guest
        self.stretch = stretch
        self.wanted = False
        self.active = False
        self.armed = False
        self.inside = 0
        """within a compiled region: its operations are not written down"""
        self._mine: bool | None = None
        self.thread = threading.get_ident()
        self._mode: Any = None
        self._folder = os.path.join(guest.run, FOLDER)
        os.makedirs(self._folder, exist_ok=True)
        self._log: Any = None
        self._bytes: Any = None
        self._waiting: list[str] = []
        self._size = 0
        self.count = 0
        self.kept = 0
        self.dropped = 0
        self.spent = 0
        """bytes of log and tensors"""
        self.full = False
        """the log itself reached the bound: operations from here on are not in it"""
        self._values: dict[str, int] = {}
        self._storages: dict[int, int] = {}
        self._lines: dict[int, str] = {}
        self._schemas = Schemas(guest.torch)
        self._source = Lines(guest.torch)
        self._keep = None if stretch.keep is None else frozenset(stretch.keep)
        self._sequence = guest.torch._C._autograd._get_sequence_nr
        self._node = guest.torch._C._current_autograd_node
        self._target: Any = None
        self._worker = False
        """a forked child of the process that was asked for: it has a log of its own"""
        self._inherited: Any = None
        self._put = stretch.put
        self._events = {int(k): v for k, v in (stretch.put or {}).get("events", {}).items()}
        Regions(self).install()

    # events

    def keep(self, t: Any, seq: int, site: int, flags: int) -> None:
        """An event was recorded; ``t`` is its tensor."""
        if self._worker:
            return
        if self._mine is None:  # the very first event may be the one
            self._mine = self._claimed()
        if self._mine and self.stretch.target <= seq <= self.stretch.stop:
            if seq in self._events:
                self._put_in([(t, self._events[seq])])
            elif self.active:
                row = self.tensor("target", t, True)
                self._target = self._target or row
                self.write({"kind": "event", "seq": seq, "value": row})
        self.reached(seq + 1)

    def value(self, t: Any, seq: int) -> None:
        """The value of a loss: as without us."""
        with self.guest.torch.no_grad():
            value = t.detach().item()
        if isinstance(value, (int, float)):
            nan = float("nan")
            self.guest.writer.stats(seq, float(value), nan, nan, nan, nan, nan, nan, nan, nan)

    def reached(self, events: int) -> None:
        """So many events are recorded: begin, or end."""
        if self._worker:
            return
        stretch = self.stretch
        if self._mine is None and events:
            self._mine = self._claimed()
        if self._mine is False:
            self.disarm()
            return
        if not self.armed and events >= stretch.arm:
            self._arm()
        if self.armed and not self.active and stretch.start <= events <= stretch.stop and (self._put is None or "op" in self._put):
            self._begin()
        if events > stretch.stop and not self.inside:  # within a compiled region: with the region, whose call is the operation
            self._finish()

    def forked(self) -> None:
        """This is a child, such as a DataLoader's worker: what it does from here on goes into ``worker-<pid>``, at once, for it is
        ended without notice. The files of its parent are not its own."""
        if self._put is not None or not self.armed or self._mine is False:
            self.active = False
            return
        self._worker = True
        self._inherited = self._log, self._bytes  # else they were closed here, and what waits in them written twice
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for file in self._inherited:
            if file is not None:
                os.dup2(nowhere, file.fileno())
        os.close(nowhere)
        self._waiting.clear()
        self._values.clear()
        self._size = self.count = self.kept = self.spent = self.dropped = self.inside = 0
        self._keep = None
        self._open(f"worker-{os.getpid()}")
        self.active = True

    def _open(self, name: str) -> None:
        self._log = open(os.path.join(self._folder, f"{name}.jsonl"), "w")  # noqa: SIM115
        self._bytes = open(os.path.join(self._folder, f"{name}.bin"), "wb")  # noqa: SIM115
        self.write({"kind": "head", "pid": os.getpid(), "events": self.guest.writer.seq_seen, "names": self.names(), "cwd": os.getcwd()})

    def _claimed(self) -> bool:
        """Whether this is the process that was asked for: processes take numbers in order of their first event."""
        rank = next((os.environ[k] for k in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK") if k in os.environ), "")
        number = int(rank) if rank.isdigit() else 0
        for n in range(64):
            try:
                os.close(os.open(os.path.join(self._folder, f"process-{number}-{n}"), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
                return (number, n) == (self.stretch.rank, self.stretch.ordinal)
            except FileExistsError:
                continue
        return False

    def _arm(self) -> None:
        torch = self.guest.torch
        if threading.get_ident() != self.thread or torch._C._current_graph_task_id() != -1:
            return
        if torch._C._len_torch_dispatch_stack():
            return  # the program is inside a mode of its own, which would be taken off in our place: wait until it has left
        from torch.utils._python_dispatch import TorchDispatchMode

        watch = self

        class Operations(TorchDispatchMode):  # type: ignore[misc]
            """Hands every operation on as it came."""

            supports_higher_order_operators = True

            @classmethod
            def ignore_compile_internals(cls) -> bool:
                return True  # else a compiled program would run eagerly while it is looked at

            if not hasattr(TorchDispatchMode, "ignore_compile_internals"):  # before torch 2.8: by this one Dynamo went

                @classmethod
                def is_infra_mode(cls) -> bool:
                    return True

            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                kwargs = kwargs or {}
                if watch.guest.off or watch.inside:
                    return func(*args, **kwargs)
                if not watch.active:
                    watch.pass_by()
                    return func(*args, **kwargs)
                try:
                    row = watch.before(func, args, kwargs)
                    if row is not None and watch.puts(row, "before"):
                        watch.put_operands(row, func, args, kwargs, None)
                except Exception as error:
                    row = None
                    watch.guest.fault("an operation's inputs", error)
                look = watch.stretch.look
                if row is not None and look and look.get("op") == row["n"]:
                    result = kernels.around(watch, row, func, args, kwargs)
                else:
                    result = func(*args, **kwargs)
                if row is not None:
                    try:
                        watch.after(row, func, args, kwargs, result)
                        if watch.puts(row, "after"):
                            watch.put_operands(row, func, args, kwargs, result)
                    except Exception as error:
                        watch.guest.fault("an operation's results", error)
                return result

        self._mode = Operations()
        self._mode.__enter__()
        self.armed = True

    def disarm(self) -> None:
        """Another process was meant."""
        self.active = False
        if self.armed and threading.get_ident() == self.thread:
            self._mode.__exit__(None, None, None)
            self.armed = False
        for file in (self._log, self._bytes):
            if file is not None:
                file.close()
                os.unlink(file.name)
        self._log = self._bytes = None

    def _begin(self) -> None:
        self._open(str(os.getpid()))
        self.active = True

    def _finish(self) -> None:
        """The event was recorded up to which we were asked to look: write the end, and leave."""
        self.active = False
        if self._log is None:
            what = "the operations could not be followed: the stretch lies in a backward pass, a thread or a dispatch mode of the program's"
            self.guest.writer.meta_event({"type": "lost", "what": what})
        else:
            self.write(
                {
                    "kind": "end", "operations": self.count, "target": self._target, "names": self.names(), "dropped": self.dropped,
                    "full": self.full, "armed": self.armed,
                }
            )  # fmt: skip
            self._flush()
            self._log.close()
            self._bytes.close()
        self.guest.leave()

    # counterfactuals

    def puts(self, row: dict[str, Any], when: str) -> bool:
        """Whether something is to be put in at this operation."""
        return self._put is not None and self._put["op"] == row["n"] and self._put["when"] == when

    def put_operands(self, row: dict[str, Any], func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Put values into what an operation is given, or gave; from here on the program goes its own way."""
        put, self._put = self._put, {}
        self.active = False
        schema = self._schemas.of(func)
        values = {**dict(zip(schema["names"], args)), **kwargs, "out": result}
        tensors = dict(pair for name, value in values.items() for pair in self.tensors_of(name, value))
        if put.get("generator"):
            self._put_in([(self._generator(args, kwargs), put["generator"])])
        else:
            self._put_in([(tensors[name], value) for name, value in put["operands"]])

    def _put_in(self, pairs: list[tuple[Any, Any]]) -> None:
        torch = self.guest.torch
        why = ""
        try:
            for target, (file, at, nbytes, dtype, shape) in pairs:
                with open(file, "rb") as f:
                    f.seek(at)
                    source = torch.frombuffer(bytearray(f.read(nbytes)), dtype=torch.uint8)
                if isinstance(target, torch.Generator):
                    target.set_state(source)
                    continue
                source = source.view(getattr(torch, dtype)).reshape(shape)
                with torch.no_grad(), torch.autograd._unsafe_preserve_version_counter(target):
                    target.detach().copy_(source)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"[:300]
        with open(os.path.join(self._folder, "put.json"), "w") as f:
            json.dump({"why": why}, f)

    def names(self) -> dict[int, str]:
        """Storage number -> name of the parameter or buffer that lies in it."""
        found: dict[int, str] = {}
        for root in self.guest.modules.roots:
            for info in root.infos:
                for slot in info.slots:
                    t = slot.tensor()
                    number = -1 if t is None else self._storage(t)
                    if number >= 0:
                        found.setdefault(number, f"{info.name}.{slot.name}" if info.name else slot.name)
        return found

    # operations

    def pass_by(self) -> None:
        """Followed, not written down: remember which line made which node of the graph."""
        number = self._sequence() - 1
        if number >= 0 and number not in self._lines:
            where = self._source.where()
            self._lines[number] = where[0] if where is not None else ""

    def before(self, func: Any, args: Any, kwargs: Any) -> dict[str, Any] | None:
        """What goes into an operation. None: it is one of our own."""
        schema = self._schemas.of(func)
        row = self.head(schema["name"], 3)
        if row is None:
            return None
        if schema["view"]:
            row["view"] = True
        if schema["undefined"]:
            row["undefined"] = True
        keep = self._keep is None or row["n"] in self._keep
        tensors: list[Any] = []
        words: dict[str, str] = {}
        for n, (name, value) in enumerate([*zip(schema["names"], args), *kwargs.items()]):
            overwritten = (n == 0 and schema["fills"]) or name in schema["out"]
            self._argument(name, value, overwritten, keep, tensors, words)
        for name, default in schema["defaults"].items():
            words.setdefault(name, default)
        row["args"] = words
        row["inputs"] = tensors
        if schema["random"]:
            row["random"] = self.state(args, kwargs, keep)
        return row

    def head(self, name: str, depth: int) -> dict[str, Any] | None:
        """A row for an operation, with where it is called: ``depth`` frames above this one's caller. None: one of our own, or no room."""
        where = self._source.where(depth)
        if where is None or self.full:
            return None
        number = self._sequence() - 1
        if number >= 0 and number not in self._lines:
            self._lines[number] = where[0]
        row: dict[str, Any] = {"kind": "op", "n": self.count, "op": name, "line": where[0], "in": where[1]}
        self.count += 1
        if where[2]:
            row["via"] = where[2]
        stack = self.guest.thread.state.stack
        if stack:
            row["module"] = stack[-1].name
            row["module_type"] = stack[-1].type_name
        node = self._node()
        if node is not None:
            row["node"] = str(node.name())
            row["forward"] = self._lines.get(node._sequence_nr(), "")
        return row

    def aside(self, work: Any) -> None:
        """Do something of our own that runs operations: none of them is written down, and no mode of the program's sees them."""
        from torch.utils._python_dispatch import _disable_current_modes

        self.inside += 1
        self.guest.off = True  # no call of a module and no gradient of it is the program's
        try:
            with _disable_current_modes():
                work()
        finally:
            self.guest.off = False
            self.inside -= 1

    def after(self, row: dict[str, Any], func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """What came out of it: results, and arguments that it wrote."""
        schema = self._schemas.of(func)
        keep = self._keep is None or row["n"] in self._keep
        found: list[Any] = []
        written: set[int] = set()
        values = dict(zip(schema["names"], args), **kwargs)
        for name in schema["writes"]:
            value = values.get(name)
            for n, t in self.tensors_of(name, value):
                written.add(id(t))
                found.append(self.tensor(n, t, keep, written=True))
        for name, t in self.tensors_of("out", result):
            if id(t) not in written:
                found.append(self.tensor(name, t, keep))
                if name == "out.3" and row["op"].startswith("aten.mkldnn_rnn_layer."):
                    found[-1][6] = ""  # its workspace, parts of which nothing ever writes
        row["outputs"] = found
        self.write(row)

    def _argument(self, name: str, value: Any, overwritten: bool, keep: bool, tensors: list[Any], words: dict[str, str]) -> None:
        tensor = self.guest._tensor
        if isinstance(value, tensor):
            tensors.append(self.tensor(name, value, keep and not overwritten, overwritten=overwritten))
        elif isinstance(value, (list, tuple)) and any(isinstance(v, tensor) for v in value):
            for n, v in enumerate(value):
                if isinstance(v, tensor):
                    tensors.append(self.tensor(f"{name}.{n}", v, keep and not overwritten, overwritten=overwritten))
        else:
            kind = type(value).__name__
            words[name] = f"<{kind}>" if kind in ("Generator", "UntypedStorage", "TypedStorage") else repr(value)[:MOST_WORDS]

    def tensors_of(self, name: str, value: Any) -> list[tuple[str, Any]]:
        tensor = self.guest._tensor
        if isinstance(value, tensor):
            return [(name, value)]
        if isinstance(value, (list, tuple)):
            return [(f"{name}.{n}", v) for n, v in enumerate(value) if isinstance(v, tensor)]
        return []

    # tensors

    def tensor(self, name: str, t: Any, keep: bool, *, overwritten: bool = False, written: bool = False) -> list[Any]:
        """``[name, dtype, shape, strides, device, storage, digest, flags]``; the digest is '' where the values cannot be read,
        flags: ``o`` overwritten, ``w`` written, ``k`` its bytes are kept."""
        flags = ("o" if overwritten else "") + ("w" if written else "")
        digest = ""
        host = None if overwritten else self._host(t)
        if host is not None:
            raw, _, unseen = self.guest.fingerprint(host)
            digest = "" if unseen & 64 else raw.hex()
            if digest and keep and self._kept(digest, host):
                flags += "k"
        strided = t.layout is self.guest.torch.strided
        return [
            name, str(t.dtype).removeprefix("torch."), [int(n) for n in t.shape], [int(n) for n in t.stride()] if strided else [],
            str(t.device), self._storage(t), digest, flags,
        ]  # fmt: skip

    def _host(self, t: Any) -> Any:
        """The tensor where it can be read: itself on the CPU, a copy of one on an accelerator; None while a CUDA graph is captured."""
        if t.device.type not in ("cpu", "meta"):
            torch = self.guest.torch
            if t.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
                return None
            with torch.no_grad():
                return t.detach().to("cpu")
        return t

    def _kept(self, digest: str, t: Any) -> bool:
        """Keep the bytes of a value once; whether they are kept."""
        if digest in self._values:
            return True
        if t.layout is not self.guest.torch.strided or t.is_quantized:
            return False
        if type(t).__name__ == "DTensor":
            t = t._local_tensor
        nbytes = t.nbytes
        if self.kept + nbytes > self.stretch.max_bytes // 2 or self.spent + nbytes > self.stretch.max_bytes:
            self.dropped += nbytes
            return False
        self._values[digest] = self.kept
        self.write({"kind": "value", "digest": digest, "at": self.kept, "nbytes": nbytes})
        self._bytes.write(bytes(self.guest.fingerprint.memory(t)))
        self.kept += nbytes
        self.spent += nbytes
        return True

    def _storage(self, t: Any) -> int:
        """A number for the memory behind a tensor, never given twice: the storage's husk is kept, its memory is not."""
        try:
            if t.layout is not self.guest.torch.strided:  # a sparse tensor lies where its values do
                t = self._values_of(t)
            storage = t.untyped_storage()
            address = storage._cdata
            number = self._storages.get(address)
            if number is None:
                storage._weak_ref()  # for as long as we look: no other storage gets this address
                number = self._storages[address] = len(self._storages)
            return number
        except Exception:  # opaque, without storage
            return -1

    def _values_of(self, t: Any) -> Any:
        torch = self.guest.torch
        with torch.no_grad():
            return t.detach()._values() if t.layout is torch.sparse_coo else t.detach().values()

    def _generator(self, args: Any, kwargs: Any) -> Any:
        """The generator that an operation draws from."""
        torch = self.guest.torch
        values = [*args, *kwargs.values()]
        own = next((v for v in values if isinstance(v, torch.Generator)), None)
        if own is not None:
            return own
        device = next((v.device for v in values if isinstance(v, self.guest._tensor)), kwargs.get("device"))
        if device is not None and torch.device(device).type == "cuda":
            index = torch.device(device).index
            return torch.cuda.default_generators[torch.cuda.current_device() if index is None else index]
        return torch.default_generator

    def state(self, args: Any, kwargs: Any, keep: bool) -> str:
        """A fingerprint of the state of the generator that an operation draws from; '' where it cannot be asked."""
        try:
            state = self._generator(args, kwargs).get_state()
            digest = self.guest.fingerprint(state)[0].hex()
            if keep:
                self._kept(digest, state)
            return digest
        except Exception:
            return ""

    # the log

    def write(self, row: dict[str, Any]) -> None:
        text = json.dumps(row, separators=(",", ":"), default=str)
        self._waiting.append(text)
        self._size += len(text)
        self.spent += len(text)
        self.full = self.spent > self.stretch.max_bytes
        if self._size > _BATCH or self._worker or not self._mine:  # a process without events may be a worker too, started by spawn
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._log.write("\n".join(self._waiting) + "\n")
            self._log.flush()
            self._bytes.flush()
            self._waiting.clear()
            self._size = 0
