"""The fingerprint of a tensor: 128-bit xxh3 over its bytes in contiguous order, seeded by dtype and shape.

The only place that reads tensor memory. On an accelerator the bytes are hashed where they lie, by another algorithm
(``device_kernel``), and what stands here meanwhile is a token (``device``). Nothing is cast, summed or rounded first, so every changed bit, swap and
sign shows. What cannot be read is returned as unobserved with the reason, never as an empty fingerprint that
would compare equal.

xxh3: Y. Collet, xxHash, https://github.com/Cyan4973/xxHash (specification in doc/xxhash_spec.md).
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any

from reprodebug.model.events import Flag
from reprodebug.recorder import device_kernel
from reprodebug.recorder.device import LOW_ADDRESS, DeviceFingerprints, Plan, Unreadable, address_of
from reprodebug.recorder.device_results import is_token
from reprodebug.recorder.handlers import pass_on
from reprodebug.recorder.writer import Writer

NOTHING = bytes(16)
_CHUNK_BYTES = 64 << 20
"""a non-contiguous tensor above this is copied slice by slice"""
_STREAM_BYTES = 2 << 20
"""from this size on xxhash's streaming code, which gives the same digest, reads main memory a tenth faster"""
_MAX_BUFFERS = 8192
_NONCONTIGUOUS = int(Flag.NONCONTIGUOUS)
_UNOBSERVED = int(Flag.UNOBSERVED)
_REQUIRES_GRAD = int(Flag.REQUIRES_GRAD)


def hasher() -> tuple[str, Callable[..., bytes], Callable[[int], Any]]:
    """(algorithm, one-shot ``digest(data, seed)``, streaming constructor ``new(seed)``): xxh3-128, else blake2b-128."""
    xxhash = _xxhash()
    if xxhash is not None:
        once, stream = xxhash.xxh3_128_digest, xxhash.xxh3_128

        def xxh3(data: Any, seed: int = 0) -> bytes:
            return bytes(once(data, seed) if len(data) < _STREAM_BYTES else stream(data, seed).digest())

        return "xxh3-128", xxh3, lambda seed: stream(seed=seed)

    def new(seed: int) -> Any:
        return hashlib.blake2b(digest_size=16, key=seed.to_bytes(8, "little"))

    def digest(data: Any, seed: int = 0) -> bytes:
        h = new(seed)
        h.update(data)
        return bytes(h.digest())

    return "blake2b-128", digest, new


def _xxhash() -> Any:
    """The program's own xxhash; else the one that ``capture`` lends, under a name of ours so that the program's
    ``import xxhash`` finds no more than before. None where neither loads."""
    try:
        import xxhash

        return xxhash
    except ImportError:
        pass
    home = os.environ.get("REPRODEBUG_XXHASH")
    if not home:
        return None
    name = "_reprodebug_xxhash"
    try:
        spec = importlib.util.spec_from_file_location(name, os.path.join(home, "__init__.py"), submodule_search_locations=[home])
        if spec is None or spec.loader is None:
            return None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    except Exception:  # built for another interpreter
        sys.modules.pop(name, None)
        return None


class Fingerprinter:
    """Fingerprints tensors and interns their shape, dtype and device."""

    def __init__(self, torch: Any, writer: Writer) -> None:
        self._torch = torch
        self._writer = writer
        self.algorithm, self._digest, self._new = hasher()
        self.plain = frozenset({torch.Tensor, torch.nn.Parameter, getattr(torch.nn, "Buffer", torch.nn.Parameter)})
        self._strided = torch.strided
        self._metas: dict[Any, tuple[int, int, bool]] = {}
        self._reasons: dict[Any, int] = {}
        self._sites: dict[int, list[Any]] = {}
        self._buffers: dict[tuple[int, int], Any] = {}
        """(address, bytes) -> buffer: allocators hand out the same places again, and making one is audited by Python"""
        self.device: DeviceFingerprints | None = None
        """of tensors on an accelerator; None until the first is met"""
        self._device_sites: dict[int, tuple[Any, Any, int, int, Any]] = {}
        """site -> (shape, dtype, device, meta, what queues the fingerprint of such a tensor)"""
        self._unreachable: dict[str, str] = {}
        """type of a device -> why its values cannot be had"""
        self._described: dict[int, Any] = {}
        self._modes = getattr(torch._C, "_len_torch_dispatch_stack", None) or (lambda: 0)

    def reset(self) -> None:
        """After a fork: the new journal has no names yet."""
        self._metas.clear()
        self._reasons.clear()
        self._sites.clear()
        self._device_sites.clear()
        self._unreachable.clear()
        self._described.clear()
        self.device = None  # a forked child cannot use the device: nothing is asked of it

    def __call__(self, t: Any) -> tuple[bytes, int, int]:
        """``(digest, meta id, flags)`` of a tensor of any shape, dtype, layout and device. Never raises."""
        try:
            if type(t) not in self.plain:
                return self._unusual(t)
            key = (t.shape, t.dtype, t.device)
            known = self._metas.get(key)
            if known is None:
                known = self._intern(t, key)
            meta, seed, simple = known
            if not simple or t.layout is not self._strided:
                return self._special(t, meta, seed)
            nbytes = t.nbytes
            if nbytes == 0:
                return self._digest(b"", seed), meta, 0
            if t.is_contiguous() and not t.is_neg():
                address = t.data_ptr()
                if address == t.storage_offset() * t.itemsize:
                    raise Unreadable("its storage has been freed")
                return self._digest((ctypes.c_char * nbytes).from_address(address), seed), meta, 0
            return self._strided_digest(t, seed), meta, _NONCONTIGUOUS
        except Exception as error:
            pass_on(error)
            wrapped = getattr(getattr(self._torch._C, "_functorch", None), "is_functorch_wrapped_tensor", None)
            inside = wrapped is not None and wrapped(t)
            reason = "inside a transform of torch.func (vmap, grad, ...)" if inside else str(error) or type(error).__name__
            return NOTHING, self._reason(t, reason), _UNOBSERVED

    def at(self, t: Any, site: int) -> tuple[bytes, int, int]:
        """Like calling, faster where this place saw a tensor of the same shape and dtype before."""
        known = self._sites.get(site)
        if known is not None:
            shape, dtype, meta, seed, nbytes, view, address, buffer = known
            try:
                if (
                    type(t) in self.plain and t.shape == shape and t.dtype is dtype and t.is_cpu and t.layout is self._strided
                    and t.is_contiguous() and not t.is_neg()
                ):  # fmt: skip
                    now = t.data_ptr()
                    if now == address:
                        return self._digest(buffer, seed), meta, 0
                    if now > LOW_ADDRESS:
                        buffers = self._buffers
                        buffer = buffers.get((now, nbytes))
                        if buffer is None:
                            if len(buffers) > _MAX_BUFFERS:
                                buffers.clear()
                            buffer = buffers[now, nbytes] = view.from_address(now)
                        known[6], known[7] = now, buffer
                        return self._digest(buffer, seed), meta, 0
            except Exception as error:
                pass_on(error)
                return self(t)
        if self.device is not None and not t.is_cpu:
            return self.elsewhere(t, site)
        found = self(t)
        if found[2] == 0 and type(t) in self.plain and t.layout is self._strided:
            row = self._metas.get((t.shape, t.dtype, t.device))
            if row is not None and row[2] and t.nbytes:
                nbytes = t.nbytes
                self._sites[site] = [t.shape, t.dtype, row[0], row[1], nbytes, ctypes.c_char * nbytes, 0, None]
        return found

    def update(self, h: Any, t: Any) -> Any:
        """Feed a dense contiguous CPU tensor's bytes to ``h`` and return them as a buffer; None, and nothing fed, for any
        other tensor and for an empty one."""
        if type(t) not in self.plain or t.layout is not self._strided or not t.is_cpu or not t.is_contiguous() or t.is_neg():
            return None
        nbytes = t.nbytes
        address = t.data_ptr()
        if nbytes == 0 or address == t.storage_offset() * t.itemsize or t.is_conj():
            return None
        buffer = (ctypes.c_char * nbytes).from_address(address)
        h.update(buffer)
        return buffer

    def buffer(self, t: Any) -> Any:
        """A buffer over a dense contiguous CPU tensor that a fingerprint has just been made from, valid while ``t`` is."""
        nbytes, address = t.nbytes, t.data_ptr()
        found = self._buffers.get((address, nbytes))
        return (ctypes.c_char * nbytes).from_address(address) if found is None else found

    def memory(self, t: Any) -> Any:
        """A buffer over the tensor's bytes in contiguous order, valid while ``t`` is: dense CPU tensors only.

        Raises Unreadable for everything else.
        """
        torch = self._torch
        if t.device.type != "cpu" or t.layout is not self._strided:
            raise Unreadable(f"a tensor on {t.device} with layout {t.layout} has no bytes here")
        if not t.is_contiguous() or t.is_neg() or t.is_conj():
            with torch.no_grad():
                t = t.detach().resolve_conj().resolve_neg().contiguous()
        nbytes = t.nbytes
        if nbytes == 0:
            return b""
        address = t.data_ptr()
        if address == t.storage_offset() * t.itemsize:
            raise Unreadable("its storage has been freed")
        buffer = (ctypes.c_char * nbytes).from_address(address)
        buffer._keep = t
        return buffer

    # tensors on an accelerator

    def _reach(self, kind: str, index: int) -> str:
        """Find a way to devices of this type; the reason why there is none."""
        if self.device is not None and self.device.backend.kind != kind:
            self._unreachable[kind] = f"values on {kind} are not fingerprinted beside those on {self.device.backend.kind}"
        elif self.device is None and kind not in self._unreachable:
            from reprodebug.recorder.device_torch import reach

            try:
                self.device = DeviceFingerprints(self._torch, self._writer, reach(self._torch, kind, index), self._digest, self._described)
            except Exception as error:
                self._unreachable[kind] = f"values on {kind} are not fingerprinted: {error}"[:200]
        return self._unreachable.get(kind, "")

    def elsewhere(self, t: Any, site: int) -> tuple[bytes, int, int]:
        """``at`` for a tensor that is not in main memory: on an accelerator a kernel is queued, the fingerprint is a token. A big
        tensor that was read lately is read again only if written since."""
        known = self._device_sites.get(site)
        try:
            if known is not None and type(t) in self.plain:
                shape, dtype, index, meta, queue = known
                if (
                    t.shape == shape and t.dtype is dtype and t.get_device() == index and t.layout is self._strided
                    and t.is_contiguous() and not t.is_neg()
                ):  # fmt: skip
                    token = queue(t)
                    if token is not None:
                        return token, meta, 0
            found = self(t)
            device = self.device
            if device is not None and found[2] == 0 and (known is None or known[:3] != (t.shape, t.dtype, t.get_device())):
                row = self._hashable(t)
                if row is not None:
                    self._device_sites[site] = (t.shape, t.dtype, t.get_device(), row[0], device.place(t, row[1]))
            return found
        except Exception as error:
            pass_on(error)
            return NOTHING, self._reason(t, str(error) or type(error).__name__), _UNOBSERVED

    def _hashable(self, t: Any) -> tuple[int, int] | None:
        """(meta, seed) of a tensor on an accelerator whose memory can be hashed as it lies; None for any other."""
        if type(t) not in self.plain or t.is_cpu or t.layout is not self._strided or t.is_complex() or t.is_quantized:
            return None
        if not t.is_contiguous() or t.is_neg() or not t.nbytes or t.device.type in self._unreachable:
            return None
        try:
            address_of(t)
        except Unreadable:
            return None
        key = (t.shape, t.dtype, t.device)
        meta, seed, _ = self._metas.get(key) or self._intern(t, key)
        return (meta, seed) if self.device is not None else None

    def _device_strided(self, t: Any, meta: int, seed: int) -> tuple[bytes, int, int]:
        device = self.device
        assert device is not None
        if t.nbytes == 0:
            return device_kernel.empty(seed), meta, 0
        if t.is_contiguous() and not t.is_neg() and not t.is_conj():
            return device.hash(t, seed), meta, 0
        device.check(t)
        return device.hash(self._gathered(t), seed), meta, 0 if t.is_contiguous() else _NONCONTIGUOUS

    def _gathered(self, t: Any) -> Any:
        """A contiguous copy on the same device, made on the program's stream, unseen by its modes."""
        from torch.utils._python_dispatch import _disable_current_modes

        with self._torch.no_grad(), _disable_current_modes():
            return t.detach().resolve_conj().resolve_neg().contiguous()

    def together(self, plan: Plan | None, tensors: list[Any]) -> tuple[Plan | None, list[Any]]:
        """Fingerprints of many tensors by few launches: ``DeviceFingerprints.together``; all None where there is no device."""
        if self.device is None or not self.device.backend.many:
            return None, [None] * len(tensors)
        try:
            return self.device.together(plan, tensors, self._hashable)
        except Exception as error:  # each then goes alone, and says why it cannot
            pass_on(error)
            return None, [None] * len(tensors)

    def on_host(self, t: Any) -> Any:
        """A dense copy of the values in main memory: waits for the device. Levels above ``fingerprint`` only."""
        from torch.utils._python_dispatch import _disable_current_modes

        with self._torch.no_grad(), _disable_current_modes():
            return t.detach().cpu()

    # unusual tensors

    def _intern(self, t: Any, key: Any) -> tuple[int, int, bool]:
        device, dtype = t.device, str(t.dtype).removeprefix("torch.")
        reason, simple = "", True
        if device.type == "meta":
            reason, simple = "a meta tensor has no values", False
        elif device.type != "cpu":
            reason, simple = self._reach(device.type, device.index or 0), False
        elif t.is_complex() or t.is_quantized:
            simple = False
        shape = [int(n) for n in t.shape]
        layout = str(t.layout).removeprefix("torch.")
        meta = self._writer.meta(shape, dtype, str(device), layout, reason)
        if device.type != "cpu":
            self._described[meta] = (shape, dtype, str(device), layout)
        seed = int.from_bytes(hashlib.blake2b(f"{dtype}{shape}".encode(), digest_size=8).digest(), "little")
        known = (meta, seed, simple)
        self._metas[key] = known
        return known

    def _special(self, t: Any, meta: int, seed: int) -> tuple[bytes, int, int]:
        torch = self._torch
        kind = t.device.type
        if kind != "cpu" and (self.device is None or kind in self._unreachable or kind == "meta"):
            return NOTHING, meta, _UNOBSERVED
        if kind != "cpu" and t.layout is self._strided and not t.is_quantized:
            return self._device_strided(t, meta, seed)
        if t.layout is self._strided and not t.is_quantized:  # complex: the conjugate bit is lazy
            with torch.no_grad():
                resolved = t.detach().resolve_conj().resolve_neg()
            if resolved.nbytes == 0:
                return self._digest(b"", seed), meta, 0
            return self._strided_digest(resolved, seed), meta, 0 if t.is_contiguous() else _NONCONTIGUOUS
        with torch.no_grad():
            h = self._new(seed)
            digests = []
            for part in self._parts(t.detach()):
                if isinstance(part, torch.Tensor):
                    digest, _, flags = self(part)
                    if flags & _UNOBSERVED:
                        raise Unreadable(f"part of a {t.layout} tensor could not be read")
                else:
                    digest = repr(part).encode()
                digests.append(digest)
                h.update(digest)
        if self.device is not None and any(map(is_token, digests)):
            return self.device.results.combined([seed.to_bytes(8, "little"), *digests]), meta, 0
        return h.digest(), meta, 0

    def _parts(self, t: Any) -> tuple[Any, ...]:
        """What a sparse, quantised or nested tensor consists of, in a fixed order."""
        torch = self._torch
        if t.is_quantized:
            if t.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
                return t.int_repr(), t.q_scale(), t.q_zero_point()
            return t.int_repr(), t.q_per_channel_scales(), t.q_per_channel_zero_points(), t.q_per_channel_axis()
        layout = t.layout
        if layout is torch.sparse_coo:
            return t._indices(), t._values(), t.is_coalesced()
        if layout in (torch.sparse_csr, torch.sparse_bsr):
            return t.crow_indices(), t.col_indices(), t.values()
        if layout in (torch.sparse_csc, torch.sparse_bsc):
            return t.ccol_indices(), t.row_indices(), t.values()
        if layout is getattr(torch, "_mkldnn", None):
            return (t.to_dense(),)
        raise Unreadable(f"layout {layout} is not known")

    def _unusual(self, t: Any) -> tuple[bytes, int, int]:
        """A tensor subclass: unwrapped where the values are plainly inside, else unobserved by name."""
        name = type(t).__name__
        if name == "DTensor" and hasattr(t, "_local_tensor"):
            return self(t._local_tensor)
        if name in ("FakeTensor", "FunctionalTensor", "ProxyTensor"):
            return NOTHING, self._reason(t, f"{name}: stands for values while a graph is traced"), _UNOBSERVED
        if name == "AsyncCollectiveTensor":
            return NOTHING, self._reason(t, "the collective that fills it had not finished"), _UNOBSERVED
        if name in ("UninitializedParameter", "UninitializedBuffer"):
            return NOTHING, self._reason(t, "a lazy parameter that has no values yet"), _UNOBSERVED
        cls = type(t)
        torch = self._torch
        if name != "NestedTensor" and cls.__torch_dispatch__ is torch.Tensor.__torch_dispatch__:
            # a subclass that only adds methods or __torch_function__: same memory, same meaning
            with torch._C.DisableTorchFunctionSubclass(), torch.no_grad():
                return self(t.detach().as_subclass(torch.Tensor))
        if name == "NestedTensor" and hasattr(t, "_values") and hasattr(t, "_offsets"):
            values, meta, flags = self(t._values)
            offsets, _, more = self(t._offsets)
            joined = self._digest(values + offsets) if self.device is None else self.device.results.combined([values, offsets])
            return joined, meta, flags | (more & _UNOBSERVED)
        return NOTHING, self._reason(t, f"tensor subclass {name} hides its values"), _UNOBSERVED

    def _reason(self, t: Any, reason: str) -> int:
        try:
            shape: list[int] = [int(n) for n in t.shape]
            dtype, device = str(t.dtype).removeprefix("torch."), str(t.device)
        except Exception:
            shape, dtype, device = [], "unknown", "unknown"
        key = (tuple(shape), dtype, device, reason[:200])
        meta = self._reasons.get(key)
        if meta is None:
            meta = self._reasons[key] = self._writer.meta(shape, dtype, device, "", reason[:200])
        return meta

    def _strided_digest(self, t: Any, seed: int) -> bytes:
        if self._modes():
            # the program runs a dispatch mode of its own (a counter, a tracer): it must not see our copy
            from torch.utils._python_dispatch import _disable_current_modes

            with _disable_current_modes():
                return self._copied_digest(t, seed)
        return self._copied_digest(t, seed)

    def _copied_digest(self, t: Any, seed: int) -> bytes:
        if t.nbytes <= _CHUNK_BYTES or t.dim() == 0 or t.shape[0] == 1:
            return self._digest(self.memory(t), seed)
        # bytes of a contiguous copy, without ever holding the whole copy: slices along the first axis, in order
        h = self._new(seed)
        rows = max(1, int(_CHUNK_BYTES * t.shape[0] // t.nbytes))
        with self._torch.no_grad():
            for at in range(0, t.shape[0], rows):
                h.update(self.memory(t.detach()[at : at + rows]))
        return bytes(h.digest())
