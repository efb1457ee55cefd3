"""Parameters and buffers: at first sight, when they change outside an optimizer, and their gradients."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from reprodebug.model.events import Flag, Kind, Phase
from reprodebug.recorder.device_results import is_token
from reprodebug.recorder.modules import Root, Slot, key_of, version_of

if TYPE_CHECKING:
    from reprodebug.recorder.guest import Guest

_PARAMETER, _GRADIENT = int(Kind.PARAMETER), int(Kind.GRADIENT)
_INIT, _FORWARD, _BACKWARD = int(Phase.INIT), int(Phase.FORWARD), int(Phase.BACKWARD)
_F_BUFFER = int(Flag.BUFFER)
_LAZY = "UninitializedParameter"
"""refuses every hook until its module has been called once"""
_MAX_DESCRIBED = 20_000
"""modules of one outermost module whose settings are noted"""


class Parameters:
    """Records the parameters and buffers of one process."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def settle(self) -> None:
        """Record the parameters and buffers of every module that is new, before anything uses them."""
        for root in self._guest.modules.settle():
            self._describe(root)
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
                        self.record(slot, t, _INIT)
                    self._hook(slot, t)

    def _describe(self, root: Root) -> None:
        """Note what the modules of ``root`` are and how they were set up; again only when that has changed."""
        rows = []
        for info in root.infos[:_MAX_DESCRIBED]:
            module = info.ref()
            if module is None:
                continue
            extra = ""
            if str(getattr(type(module).extra_repr, "__module__", "")).startswith("torch.nn"):  # code of the program is not called
                try:
                    extra = str(module.extra_repr())[:300]
                except Exception:
                    extra = ""
            rows.append([info.name, info.type_name, extra])
        if rows != root.described:
            root.described = rows
            self._guest.writer.meta_event({"type": "modules", "step": self._guest.step, "root": root.label, "modules": rows})

    def refresh(self, root: Root) -> None:
        """Record what changed since it was last looked at: loaded weights, hand-made updates, running statistics."""
        phase = _FORWARD if root.called else _INIT
        due: list[tuple[Slot, Any]] = []
        for info in root.infos:
            for slot in info.slots:
                t = slot.tensor()
                if t is None or slot.alias_of == key_of(t):
                    continue
                if slot.version != version_of(t) or (slot.silent(t) if slot.buffer else not slot.owned):
                    due.append((slot, t))
                if not slot.buffer and slot.hooked != key_of(t):
                    self._hook(slot, t)
        fingerprint = self._guest.fingerprint
        if due and fingerprint.device is not None:
            root.plan, found = fingerprint.together(root.plan, [t for _, t in due])
            for (slot, t), known in zip(due, found):
                self.record(slot, t, _FORWARD if slot.buffer else phase, True, known)
            return
        for slot, t in due:
            self.record(slot, t, _FORWARD if slot.buffer else phase, True)

    def record(self, slot: Slot, t: Any, phase: int, only_changed: bool = False, known: tuple[bytes, int, int] | None = None) -> None:
        """Record one parameter or buffer; ``known`` is its fingerprint where that has been made already."""
        slot.version = version_of(t)
        if only_changed:
            fingerprint = self._guest.fingerprint
            known = known or fingerprint(t)
            if known[0] == slot.digest:
                return
            if fingerprint.device is not None and is_token(known[0]):
                fingerprint.device.results.conditional.add(known[0])  # whether it changed is known when it is back
        flags = _F_BUFFER if slot.buffer else 0
        slot.digest, _ = self._guest.record(t, slot.site, _PARAMETER, phase, flags, known=known)

    def _hook(self, slot: Slot, t: Any) -> None:
        if slot.buffer or slot.hooked == key_of(t) or not t.requires_grad or not t.is_leaf or type(t).__name__ == _LAZY:
            return
        register = getattr(t, "register_post_accumulate_grad_hook", None)
        if register is not None:
            slot.hooked = key_of(t)
            hook = functools.partial(self._on_parameter_gradient, slot)
            slot.handle = register(hook)

    def _on_parameter_gradient(self, slot: Slot, parameter: Any) -> None:
        if self._guest.off:
            return
        try:
            self._guest.unseen(self._gradient, slot, parameter)
        except Exception as error:
            self._guest.fault("parameter gradient hook", error)

    def _gradient(self, slot: Slot, parameter: Any) -> None:
        grad = parameter.grad
        if grad is not None:
            self._guest.record(grad, slot.grad_site, _GRADIENT, _BACKWARD)
