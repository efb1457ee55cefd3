"""What an optimizer did: hyper-parameters before its step, parameters and state after it, the gradient scaler."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from reprodebug.model.events import Flag, Kind, Phase
from reprodebug.recorder.device_results import is_token
from reprodebug.recorder.fingerprint import NOTHING
from reprodebug.recorder.modules import key_of, version_of

if TYPE_CHECKING:
    from reprodebug.recorder.guest import Guest
    from reprodebug.recorder.modules import Slot

_PARAMETER, _OPTIMIZER_KIND = int(Kind.PARAMETER), int(Kind.OPTIMIZER)
_OPTIMIZER = int(Phase.OPTIMIZER)
_UNOBSERVED, _SCALAR = int(Flag.UNOBSERVED), int(Flag.SCALAR)
_FEW = 4
"""optimizers; a program that has one for each parameter would be told of all the others by each of them"""


class _Known:
    """One optimizer: its number, the places of its parameters, the hyper-parameters last written."""

    __slots__ = ("buffers", "held", "hyper", "number", "places", "plan")

    def __init__(self, number: int) -> None:
        self.number = number
        self.hyper: Any = None
        self.held = -1
        """parameters at the last step"""
        self.places: dict[int, Slot | tuple[int, int]] = {}
        self.buffers: dict[tuple[int, str], tuple[int, int, Any]] = {}
        """(state site, key) -> (address, bytes, buffer): a state tensor stays where it is from step to step"""
        self.plan: Any = None
        """of the tensors on an accelerator"""


class Optimizers:
    """Follows every ``torch.optim`` optimizer through torch's global step hooks."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self._known: weakref.WeakKeyDictionary[Any, _Known] = weakref.WeakKeyDictionary()
        self._count = 0
        self._meta = self._device_meta = -1

    @property
    def known(self) -> bool:
        """Whether the program has an optimizer that stepped."""
        return self._count > 0

    def reset(self) -> None:
        """After a fork."""
        self.__init__(self.guest)  # type: ignore[misc]

    def before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """torch's pre-step hook: settle what is new, and write hyper-parameters that changed."""
        guest = self.guest
        if guest.off or guest._compiling():
            return
        try:
            guest.unseen(self._before, optimizer)
        except Exception as error:
            guest.fault("optimizer pre-hook", error)

    def _before(self, optimizer: Any) -> None:
        guest = self.guest
        known = self._known.get(optimizer)
        if known is None:
            known = self._known[optimizer] = _Known(self._count)
            self._count += 1
        guest.parameters.settle()
        # a tensor, such as the lr of a capturable optimizer, is compared by its bits or not at all: asking a device would wait
        tensor = guest._tensor
        hyper = [
            {k: _number(v) if isinstance(v, tensor) else v for k, v in group.items() if k != "params"} for group in optimizer.param_groups
        ]
        if hyper != known.hyper:
            known.hyper = hyper
            groups = [{k: _plain(v) for k, v in group.items()} for group in hyper]
            for group, own in zip(groups, optimizer.param_groups):
                group["n_params"] = len(own["params"])
            guest.writer.meta_event(
                {"type": "optimizer", "step": guest.step, "number": known.number, "class": type(optimizer).__name__, "groups": groups}
            )

    def after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """torch's post-step hook: every parameter and buffer, then the optimizer's state, then the step is over."""
        guest = self.guest
        if guest.off or guest._compiling():
            return
        try:
            guest.unseen(self._after, optimizer)
        except Exception as error:
            guest.fault("optimizer post-hook", error)
        try:
            guest.unseen(guest.step_done)
        except Exception as error:
            guest.fault("end of step", error)

    def _after(self, optimizer: Any) -> None:
        guest = self.guest
        known = self._known.get(optimizer)
        if known is None:
            return
        places, record = known.places, guest.record
        slots: list[tuple[Any, Any]] = []
        for group in optimizer.param_groups:
            for p in group["params"]:
                place = places.get(key_of(p))
                if place is None:
                    place = self._find(known, p, len(places))
                slots.append((p, place))
        buffers: list[tuple[Slot, Any]] = []
        forgotten: list[tuple[Slot, Any]] = []
        """belong to no optimizer that stepped: told all the same, for the other run's may hold them; those without a gradient only
        in a step at which the optimizer holds others than before, such as the first"""
        anew, known.held = known.held != len(slots) and self._count <= _FEW, len(slots)
        for root in guest.modules.roots:
            for info in root.infos:
                for slot in info.slots:
                    if slot.buffer:
                        t = slot.tensor()
                        if t is not None and (slot.version != version_of(t) or slot.silent(t)):
                            buffers.append((slot, t))
                    elif not slot.owned and (slot.hooked or anew) and not slot.alias_of:
                        t = slot.tensor()
                        if t is not None and t.is_leaf and (anew or t.grad is not None) and key_of(t) not in places:
                            forgotten.append((slot, t))
        ahead = self._ahead(known, optimizer, slots, buffers) if guest.fingerprint.device is not None else {}
        copies = all(isinstance(place, tuple) for _, place in slots) and any(p.grad is not None for p, _ in slots)
        if copies:  # the model's own parameters follow after the step
            forgotten = []
        for slot, t in forgotten:
            if t.grad is None:  # first: what one run alone trains is the cause of what else differs after its update
                guest.parameters.record(slot, t, _OPTIMIZER)
        for p, place in slots:
            if isinstance(place, tuple):
                record(p, place[0], _PARAMETER, _OPTIMIZER, known=ahead.get(key_of(p)) if ahead else None)
            else:
                place.owned = True
                place.version = version_of(p)
                place.digest, _ = record(p, place.site, _PARAMETER, _OPTIMIZER, known=ahead.get(key_of(p)) if ahead else None)
        for slot, t in forgotten:
            if t.grad is not None:
                guest.parameters.record(slot, t, _OPTIMIZER)
        for slot, t in buffers:
            guest.parameters.record(slot, t, _OPTIMIZER, True, ahead.get(key_of(t)) if ahead else None)
        for p, place in slots:
            state = optimizer.state.get(p)
            if state:
                site = place[1] if isinstance(place, tuple) else place.state_site
                if guest.fingerprint.device is None or p.is_cpu:
                    self._state(state, site, known.buffers)
                else:
                    self._device_state(state, site, ahead)

    def _ahead(
        self, known: _Known, optimizer: Any, slots: list[tuple[Any, Any]], buffers: list[tuple[Slot, Any]]
    ) -> dict[int, tuple[bytes, int, int]]:
        """Fingerprints of all parameters, buffers and state tensors on an accelerator, by few launches: key of the tensor ->
        fingerprint."""
        tensor, find = self.guest._tensor, optimizer.state.get
        every = [p for p, _ in slots] + [t for _, t in buffers]
        for p, _ in slots:
            every += [v for v in (find(p) or {}).values() if isinstance(v, tensor)]
        known.plan, found = self.guest.fingerprint.together(known.plan, every)
        return {key_of(t): row for t, row in zip(every, found) if row is not None}

    def _device_state(self, state: Any, site: int, ahead: dict[int, tuple[bytes, int, int]]) -> None:
        """``_state`` for a parameter on an accelerator: one fingerprint of fingerprints, made when they are all back."""
        guest = self.guest
        fingerprint, tensor = guest.fingerprint, guest._tensor
        parts: list[bytes] = []
        flags = 0
        for key, value in state.items():
            if isinstance(value, tensor):
                digest, _, more = ahead.get(key_of(value)) or fingerprint(value)
                flags |= more & _UNOBSERVED
                parts.append(digest)
            elif value is not None:
                parts.append(f"{key}={value!r}".encode()[:4096])
        device = fingerprint.device
        digest = NOTHING if flags else device.results.combined(parts) if device is not None else fingerprint._digest(b"".join(parts))
        if self._device_meta < 0:  # says that this fingerprint was made in another way than one of bytes in main memory
            self._device_meta = guest.writer.meta([], "state", "" if device is None else device.backend.kind, "", "")
        self._event(site, self._device_meta, flags, digest)

    def _state(self, state: Any, site: int, buffers: dict[tuple[int, str], tuple[int, int, Any]]) -> None:
        """One event for all tensors and numbers that the optimizer keeps for a parameter, in their own order."""
        guest = self.guest
        fingerprint, tensor = guest.fingerprint, guest._tensor
        h = fingerprint._new(0)
        flags = 0
        for key, value in state.items():
            if isinstance(value, tensor):
                row = buffers.get((site, key))
                if row is not None and value.data_ptr() == row[0] and value.nbytes == row[1]:
                    h.update(row[2])
                    continue
                buffer = fingerprint.update(h, value)
                if buffer is not None:
                    buffers[site, key] = (value.data_ptr(), value.nbytes, buffer)
                else:
                    digest, _, more = fingerprint(value)
                    if fingerprint.device is not None and is_token(digest):
                        self._device_state(state, site, {})
                        return
                    flags |= more & _UNOBSERVED
                    h.update(digest)
            elif value is not None:
                h.update(f"{key}={value!r}".encode()[:4096])
        if self._meta < 0:
            self._meta = guest.writer.meta([], "state", "", "", "")
        self._event(site, self._meta, flags, NOTHING if flags else h.digest())

    def _event(self, site: int, meta: int, flags: int, digest: bytes) -> None:
        guest = self.guest
        guest.writer.event(
            site, meta, guest.step, 0, 0, flags, _OPTIMIZER_KIND, _OPTIMIZER, 0, guest.turn, guest.time_ms, digest
        )  # fmt: skip

    def _find(self, known: _Known, p: Any, position: int) -> Slot | tuple[int, int]:
        """Where a parameter lives; one that belongs to no known module is named by its place in the optimizer."""
        for root in self.guest.modules.roots:
            for info in root.infos:
                for slot in info.slots:
                    if not slot.buffer and slot.tensor() is p:
                        known.places[key_of(p)] = slot
                        return slot
        name = f"param.{position}"
        at = (f"optimizer#{known.number}", "", "")
        place = (self.guest.writer.site(*at, name), self.guest.writer.site(*at, name + ".state"))
        known.places[key_of(p)] = place
        return place

    def scaler(self, args: Any, result: Any) -> None:
        """After ``GradScaler.update``: the scale that the next step uses."""
        scaler = args[0]
        scale = getattr(scaler, "_scale", None)
        if isinstance(scale, self.guest._tensor):
            site = self.guest.writer.site("GradScaler", "", type(scaler).__name__, "scale")
            _, seq = self.guest.record(scale, site, _OPTIMIZER_KIND, _OPTIMIZER, _SCALAR)
            if not self.guest.detail.wanted:
                self.guest.value(scale, seq)


def _number(t: Any) -> Any:
    """The number in a tensor of one element in main memory; of any other tensor a word."""
    return t.item() if t.is_cpu and t.numel() == 1 else f"<{type(t).__name__}>"


def _plain(value: Any) -> Any:
    """A hyper-parameter as JSON keeps it; floats exactly (``repr`` round-trips)."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else repr(value)
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value[:64]]
    if hasattr(value, "item") and getattr(value, "numel", lambda: 0)() == 1 and value.device.type == "cpu":
        return value.item()
    return f"<{type(value).__name__}>"
