"""Which modules exist, what they are called, and which parameters they own.

Names are those of ``named_modules()`` of the outermost live module, wrappers (DDP, ``torch.compile``, FSDP, activation
checkpointing) left out. Knows modules through torch's registration hooks and through the first call of each;
holds only weak references to modules and none to parameters (``torch.utils.swap_tensors`` refuses tensors that have
weak references), and never writes to a module.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

_WRAPPERS = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "OptimizedModule": "_orig_mod",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "CheckpointWrapper": "_checkpoint_wrapped_module",
    "OffloadWrapper": "_checkpoint_wrapped_module",
}
"""wrapper class -> the attribute that holds what it wraps"""

key_of = object.__hash__
"""identity of a live object as a number; unlike ``id`` it raises no audit event, which costs on the hot path"""
_SMALL_BYTES = 64 << 10


def version_of(t: Any) -> int:
    """The version counter of a tensor; -1 for one made under ``torch.inference_mode``, which counts nothing."""
    try:
        return t._version  # type: ignore[no-any-return]
    except RuntimeError:
        return -1


class Slot:
    """One parameter or buffer of one module: where it is, and what it was when last fingerprinted."""

    __slots__ = ("alias_of", "buffer", "digest", "grad_site", "handle", "hooked", "name", "owned", "owner", "site", "state_site", "version")

    def __init__(self, owner: Info, name: str, site: int, grad_site: int, state_site: int, buffer: bool) -> None:
        self.owner = owner
        self.name = name
        self.site = site
        self.grad_site = grad_site
        self.state_site = state_site
        self.buffer = buffer
        self.digest: bytes | None = None
        self.version = -1
        self.owned = False
        """an optimizer's step has been seen on it"""
        self.hooked = 0
        """key of the tensor that carries our gradient hook"""
        self.handle: Any = None
        self.alias_of = 0
        """key of the tensor, where another place of the same outermost module holds it too and comes first"""

    def silent(self, t: Any) -> bool:
        """Whether this buffer may change without its version counter: kernels of normalisation layers write theirs so."""
        return t.numel() * t.itemsize <= _SMALL_BYTES or self.name.startswith("running_")

    def tensor(self) -> Any:
        """The tensor that is there now, or None."""
        module = self.owner.ref()
        if module is None:
            return None
        tensors = module._buffers if self.buffer else module._parameters
        return tensors[self.name] if self.name in tensors else None  # noqa: SIM401 - the tables of a scripted module have no `get`


class Info:
    """One live module."""

    __slots__ = (
        "call",
        "flags",
        "input_sites",
        "key",
        "keywords",
        "name",
        "output_sites",
        "quiet",
        "ref",
        "root",
        "sites",
        "slots",
        "slots_below",
        "step",
        "type_name",
    )

    def __init__(self, ref: Any, key: int, root: Root, name: str, type_name: str) -> None:
        self.ref = ref
        self.key = key
        """key of the module"""
        self.keywords = False
        """it has been called with keyword arguments"""
        self.quiet = 0
        """calls in a row before which torch's generator had not moved since the thread last looked"""
        self.root = root
        self.name = name
        self.type_name = type_name
        self.step = -1
        self.call = 0
        self.flags = 0
        """circumstances at the start of the call under way"""
        self.sites: dict[str, int] = {}
        """tensor path -> site id"""
        self.input_sites: list[int] = []
        self.output_sites: list[int] = []
        self.slots: list[Slot] = []
        self.slots_below = False
        """this module or one below it has parameters or buffers"""


class Root:
    """One outermost module and everything below it."""

    __slots__ = ("called", "described", "dirty", "fresh", "infos", "label", "plan", "ref")

    def __init__(self, ref: Any, label: str) -> None:
        self.ref = ref
        self.label = label
        self.dirty = True
        """something was registered in it since it was named"""
        self.fresh = False
        """named, and its parameters not recorded yet"""
        self.called = False
        self.infos: list[Info] = []
        self.described: list[list[str]] = []
        """[name, type, settings] of its modules, as last noted"""
        self.plan: Any = None
        """how its tensors on an accelerator are fingerprinted together"""


class ModuleTable:
    """All live modules of this process."""

    def __init__(self, site: Callable[[str, str, str, str], int]) -> None:
        self._site = site
        self.infos: dict[int, Info] = {}
        self._known: dict[int, Any] = {}
        """key -> weak reference, in order of construction; every module that a registration hook named"""
        self._roots: list[Root] = []
        self._dirty = False
        self.compiled: set[str] = set()
        """labels and names of modules that run compiled or scripted: their insides are not called through Python"""

    def __getitem__(self, module: Any) -> Info:
        info = self.infos.get(key_of(module))
        return info if info is not None else self._adopt(module)

    @property
    def roots(self) -> list[Root]:
        return self._roots

    def registered(self, module: Any, _name: str, _value: Any) -> None:
        """torch's registration hooks: ``module`` is being built or changed."""
        key = key_of(module)
        if key not in self._known:
            self._remember(key, module)
        self._dirty = True
        info = self.infos.get(key)
        if info is not None:
            info.root.dirty = True

    def registered_child(self, module: Any, name: str, value: Any) -> None:
        """Like ``registered``, and the child is known from now on."""
        self.registered(module, name, value)
        if value is not None and key_of(value) not in self._known:
            self._remember(key_of(value), value)

    def settle(self) -> Iterator[Root]:
        """Name everything that is new; yields each root that was named since the last call, in order of construction."""
        self._update()
        for root in list(self._roots):
            if root.fresh:
                root.fresh = False
                yield root

    def _update(self) -> None:
        if self._dirty:
            self._dirty = False
            self._find_roots()
        for root in list(self._roots):
            if root.dirty:
                self._name(root)

    def _remember(self, key: int, module: Any) -> None:
        known = self._known
        self._known[key] = weakref.ref(module, lambda _: known.pop(key, None))

    def _find_roots(self) -> None:
        live = [m for m in (ref() for ref in list(self._known.values())) if m is not None]
        children = {key_of(child) for m in live for child in m._modules.values() if child is not None}
        for module in live:
            if key_of(module) in children:
                continue
            root = next((r for r in self._roots if r.ref() is module), None)
            if root is None:
                self._add_root(module)
        # a former root may have become a child (wrapped, or built bottom up)
        for root in list(self._roots):
            module = root.ref()
            if module is None or key_of(module) in children:
                self._roots.remove(root)

    def _add_root(self, module: Any) -> Root:
        inner = module
        while type(inner).__name__ in _WRAPPERS:
            nxt = inner._modules.get(_WRAPPERS[type(inner).__name__])
            if nxt is None:
                break
            inner = nxt
        name = type(inner).__name__
        taken = {r.label for r in self._roots if r.ref() is not None}
        label, n = name, 1
        while label in taken:
            label, n = f"{name}#{n}", n + 1
        root = Root(weakref.ref(module), label)
        self._roots.append(root)
        return root

    def _adopt(self, module: Any) -> Info:
        """A module that is called before it was named."""
        self._update()
        info = self.infos.get(key_of(module))
        if info is not None:
            return info
        for root in self._roots:  # put into its place behind torch's back
            top = root.ref()
            if top is not None and any(m is module for m in top.modules()):
                self._name(root)
                return self.infos[key_of(module)]
        root = self._add_root(module)
        self._name(root)
        return self.infos[key_of(module)]

    def _name(self, root: Root) -> None:
        """Name every module below ``root``."""
        root.dirty = False
        top = root.ref()
        if top is None:
            return
        root.fresh = True
        root.infos = []
        seen: set[int] = set()
        self._walk(top, "", root, seen)
        holders = [info.name for info in root.infos if info.slots]
        for info in root.infos:
            prefix = info.name + "." if info.name else ""
            info.slots_below = any(name == info.name or name.startswith(prefix) for name in holders)

    def _walk(self, module: Any, name: str, root: Root, seen: set[int]) -> None:
        if key_of(module) in seen:
            return
        seen.add(key_of(module))
        kind = type(module).__name__
        wrapped = _WRAPPERS.get(kind)
        scripted = any(c.__name__ == "ScriptModule" for c in type(module).__mro__)
        if scripted or kind == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None:
            self.compiled.add(name or root.label)
        info = self.infos.get(key_of(module))
        if info is None or info.name != name or info.root is not root:
            previous = info
            infos, key = self.infos, key_of(module)

            def gone(_: Any) -> None:
                infos.pop(key, None)

            info = Info(weakref.ref(module, gone), key, root, name, kind)
            infos[key] = info
            if previous is not None:  # renamed: its gradient hooks carry the old name
                for slot in previous.slots:
                    if slot.handle is not None:
                        slot.handle.remove()
        root.infos.append(info)
        self._slots(module, info)
        for child_name, child in module._modules.items():
            if child is None:
                continue
            if child_name == wrapped:
                self._walk(child, name, root, seen)
            else:
                self._walk(child, f"{name}.{child_name}" if name else child_name, root, seen)

    def _slots(self, module: Any, info: Info) -> None:
        known = {s.name: s for s in info.slots if s.owner is info}
        info.slots = []
        for buffer, tensors in ((False, module._parameters), (True, module._buffers)):
            for name in tensors.keys():  # noqa: SIM118 - the tables of a scripted module cannot be iterated
                slot = known.get(name)
                if slot is None or slot.buffer != buffer:
                    at = (info.root.label, info.name, info.type_name)
                    slot = Slot(
                        info, name, self._site(*at, name), self._site(*at, name + ".grad"), self._site(*at, name + ".state"), buffer
                    )
                info.slots.append(slot)

    def reset(self) -> None:
        """After a fork: name everything again in the new journal."""
        self.infos.clear()
        self._roots.clear()
        self._dirty = True
