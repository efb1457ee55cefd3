"""What is kept of a tensor beyond its fingerprint: statistics and small tensors (``summary``), every tensor (``full``).

Owns the options that narrow it (steps, modules, bytes) and says what was left out.
"""

from __future__ import annotations

import fnmatch
import json
import math
import os
from typing import TYPE_CHECKING, Any

from reprodebug.model.events import Flag
from reprodebug.store.journal import pack

if TYPE_CHECKING:
    from reprodebug.recorder.guest import Guest

SMALL_BYTES = 16 << 10
"""at level summary a tensor up to this size is kept whole, so that its numbers are exact"""
_MOST_BYTES = (1 << 32) - (1 << 16)
"""a tensor is one frame of the journal, whose length has 32 bits"""
DEFAULT_BUDGET = 8 << 30
NAN = math.nan
_UNOBSERVED = int(Flag.UNOBSERVED)


_PARTS = {
    "quantized": ("int_repr", "scale", "zero_point", "axis"), "sparse_coo": ("indices", "values", "coalesced"),
    "sparse_csr": ("crow_indices", "col_indices", "values"), "sparse_bsr": ("crow_indices", "col_indices", "values"),
    "sparse_csc": ("ccol_indices", "row_indices", "values"), "sparse_bsc": ("ccol_indices", "row_indices", "values"),
    "mkldnn": ("dense",),
}  # fmt: skip
"""layout -> names of the parts that a fingerprint reads, in its order"""


class Options:
    """What ``capture`` asked for, handed over in one environment variable."""

    __slots__ = ("budget", "least_ms", "level", "modules", "steps", "turns", "until", "watched")
    VARIABLE = "REPRODEBUG_OPTIONS"

    def __init__(
        self, level: str = "fingerprint", steps: tuple[int, int] | None = None, modules: str = "", budget: int = DEFAULT_BUDGET,
        until: int = 0, turns: int = 0, watched: bool = False, least_ms: int = 0,
    ) -> None:  # fmt: skip
        self.level = level
        self.steps = steps
        self.modules = modules
        self.budget = budget
        self.until = until
        """a trial ends once this many steps are finished; 0: at the program's own end"""
        self.turns = turns
        """the same in calls of outermost modules, for a program without optimizer"""
        self.least_ms = least_ms
        """neither is enough before so much time has passed since the first step or call"""
        self.watched = watched
        """it also ends at the step or call after which a file ``stop`` lies beside the journals"""

    def to_json(self) -> str:
        return json.dumps({"level": self.level, "steps": self.steps, "modules": self.modules, "budget": self.budget, "until": self.until,
                           "turns": self.turns, "watched": self.watched, "least_ms": self.least_ms})  # fmt: skip

    @classmethod
    def from_environment(cls) -> Options:
        found = json.loads(os.environ.get(cls.VARIABLE) or "{}")
        steps = found.get("steps")
        return cls(
            found.get("level", "fingerprint"),
            tuple(steps) if steps else None,  # type: ignore[arg-type]
            found.get("modules", ""),
            found.get("budget", DEFAULT_BUDGET),
            found.get("until", 0),
            found.get("turns", 0),
            bool(found.get("watched", False)),
            found.get("least_ms", 0),
        )


class Detail:
    """Keeps statistics and tensors for the steps and modules asked for."""

    def __init__(self, guest: Guest) -> None:
        options = guest.options
        self.guest = guest
        self.wanted = options.level != "fingerprint"
        self._full = options.level == "full"
        self._first, self._end = options.steps or (0, 1 << 62)
        self._pattern = options.modules
        self._left = options.budget
        self._huge = False
        self._matches: dict[int, bool] = {}
        self._headers: dict[Any, bytes] = {}
        self._without_parts: set[str] = set()
        self._transform = getattr(getattr(guest.torch._C, "_functorch", None), "peek_interpreter_stack", lambda: None)

    def keep(self, t: Any, seq: int, site: int, flags: int) -> None:
        """Keep what the level asks for of the tensor of event ``seq``. From an accelerator it is copied at once, and waited
        for: the levels above ``fingerprint`` change no bit of the program, but its timing."""
        if flags & _UNOBSERVED or not self._first <= self.guest.step < self._end:
            return
        if self._pattern and not self._match(site):
            return
        if self._transform() is not None:  # what we compute would be wrapped by vmap or grad, too
            from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

            with temporarily_clear_interpreter_stack():
                self._keep(t, seq)
        else:
            self._keep(t, seq)

    def _keep(self, t: Any, seq: int) -> None:
        torch = self.guest.torch
        if type(t) is not torch.Tensor:
            with torch._C.DisableTorchFunctionSubclass():
                t = getattr(t, "_local_tensor", t).detach()
        if t.device.type != "cpu":
            t = self.guest.fingerprint.on_host(t)
        dense = t.layout is torch.strided and not t.is_quantized
        if dense and (not self._full or t.numel() == 1):
            self.statistics(t, seq)
        layout = "strided" if dense else "quantized" if t.is_quantized else str(t.layout).removeprefix("torch.").lstrip("_")
        if not dense and layout not in _PARTS:
            if layout not in self._without_parts:
                self._without_parts.add(layout)
                self.guest.writer.meta_event({"type": "lost", "what": f"tensors of layout {layout} are fingerprinted, not kept"})
            return
        dtype, body = (str(t.dtype).removeprefix("torch."), None) if dense else (layout, self._packed(t, layout))
        nbytes = t.nbytes if body is None else len(body)
        if not self._full and nbytes > SMALL_BYTES:
            return
        if nbytes >= _MOST_BYTES:
            if not self._huge:
                self._huge = True
                what = f"a tensor of {nbytes / (1 << 30):.1f} GiB at step {self.guest.step} and others of 4 GiB or more were not kept"
                self.guest.writer.meta_event({"type": "lost", "what": what})
            return
        if nbytes > self._left:
            if self._left >= 0:
                self.guest.writer.meta_event(
                    {"type": "lost", "what": f"the budget for tensors was used up at step {self.guest.step}; fingerprints go on"}
                )
                self._left = -1
            return
        self._left -= nbytes
        key = (dtype, t.shape)
        header = self._headers.get(key)
        if header is None:
            header = self._headers[key] = json.dumps({"dtype": dtype, "shape": list(t.shape)}).encode()
        self.guest.writer.tensor(seq, header, bytes(self.guest.fingerprint.memory(t)) if body is None else body)

    def _packed(self, t: Any, layout: str) -> bytes:
        """The parts of a sparse or quantised tensor."""
        form: dict[str, Any] = {"layout": layout, "dtype": str(t.dtype).removeprefix("torch."), "parts": []}
        bodies = []
        with self.guest.torch.no_grad():
            for name, part in zip(_PARTS[layout], self.guest.fingerprint._parts(t.detach())):
                if not isinstance(part, self.guest.torch.Tensor):
                    form[name] = part
                    continue
                bodies.append(bytes(self.guest.fingerprint.memory(part)))
                said = {"name": name, "dtype": str(part.dtype).removeprefix("torch."), "shape": list(part.shape)}
                form["parts"].append({**said, "nbytes": len(bodies[-1])})
        return pack(form, bodies)

    def value(self, t: Any, seq: int) -> None:
        """The value of a one-element CPU tensor, e.g. a loss."""
        with self.guest.torch.no_grad():
            value = t.detach().item()
        if isinstance(value, (int, float)):
            self.guest.writer.stats(seq, float(value), NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN)

    def statistics(self, t: Any, seq: int) -> None:
        """Minimum, maximum, mean, standard deviation, L2 norm (over finite elements, float64), counts of NaN, inf and 0."""
        torch = self.guest.torch
        n = t.numel()
        if n == 0 or t.is_complex():
            return
        with torch.no_grad():
            x = t.detach().to(torch.float64).flatten()
            nans = int(torch.isnan(x).sum())
            infs = int(torch.isinf(x).sum())
            zeros = int((x == 0).sum())
            if nans or infs:
                x = x[torch.isfinite(x)]
            value = float(t.detach().to(torch.float64)) if n == 1 else NAN
            if x.numel() == 0:
                self.guest.writer.stats(seq, value, NAN, NAN, NAN, NAN, NAN, nans, infs, zeros)
                return
            low, high = torch.aminmax(x)
            std = float(x.std(correction=0))
            l2 = float(torch.linalg.vector_norm(x))
            self.guest.writer.stats(seq, value, float(low), float(high), float(x.mean()), std, l2, nans, infs, zeros)

    def _match(self, site: int) -> bool:
        found = self._matches.get(site)
        if found is None:
            _, module, _, _ = self.guest.writer.site_key(site)
            found = self._matches[site] = fnmatch.fnmatchcase(module, self._pattern)
        return found
