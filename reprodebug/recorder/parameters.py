"""Parameters and buffers: at first sight, when they change outside an optimizer, and their gradients."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from reprodebug.model.events import Flag, Kind, Phase
from reprodebug.recorder.modules import Root, Slot, key_of

if TYPE_CHECKING:
    from reprodebug.recorder.guest import Guest

_PARAMETER, _GRADIENT = int(Kind.PARAMETER), int(Kind.GRADIENT)
_INIT, _FORWARD, _BACKWARD = int(Phase.INIT), int(Phase.FORWARD), int(Phase.BACKWARD)
_F_BUFFER = int(Flag.BUFFER)


class Parameters:
    """Records the parameters and buffers of one process."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def settle(self) -> None:
        """Record the parameters and buffers of every module that is new, before anything uses them."""
        for root in self._guest.modules.settle():
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

    def refresh(self, root: Root) -> None:
        """Record what changed since it was last looked at: loaded weights, hand-made updates, running statistics."""
        phase = _FORWARD if root.called else _INIT
        for info in root.infos:
            for slot in info.slots:
                t = slot.tensor()
                if t is None or slot.alias_of == key_of(t):
                    continue
                if slot.version != t._version or (slot.silent(t) if slot.buffer else not slot.owned):
                    self.record(slot, t, _FORWARD if slot.buffer else phase, only_changed=True)
                if not slot.buffer and slot.hooked != key_of(t):
                    self._hook(slot, t)

    def record(self, slot: Slot, t: Any, phase: int, only_changed: bool = False) -> None:
        """Record one parameter or buffer."""
        slot.version = t._version
        if only_changed and self._guest.fingerprint(t)[0] == slot.digest:
            return
        flags = _F_BUFFER if slot.buffer else 0
        slot.digest, _ = self._guest.record(t, slot.site, _PARAMETER, phase, flags)

    def _hook(self, slot: Slot, t: Any) -> None:
        if slot.buffer or slot.hooked == key_of(t) or not t.requires_grad or not t.is_leaf:
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
            grad = parameter.grad
            if grad is not None:
                self._guest.record(grad, slot.grad_site, _GRADIENT, _BACKWARD)
        except Exception as error:
            self._guest.fault("parameter gradient hook", error)
