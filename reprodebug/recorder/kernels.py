"""Which kernels one operation launches, and which of torch's inner operations it goes through: torch's own profiler around it.

The profiler adds no operation to the program and changes no value. Where it cannot be had (the program runs one of its own) the
operation runs without it, and the reason is written down.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprodebug.recorder.operations import Watch

_MOST = 64
"""names kept of each kind"""
_COPIES = ("Memcpy", "Memset")


def around(watch: Watch, row: dict[str, Any], func: Any, args: Any, kwargs: Any) -> Any:
    """Call ``func``; its kernels go into ``row["kernels"]``, its inner operations into ``row["inner"]``, oneDNN's choices into
    ``row["primitives"]``."""
    torch = watch.guest.torch
    profile = said = None
    try:
        activities = [torch.profiler.ProfilerActivity.CPU]
        cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
        if cuda:
            if torch.cuda.is_current_stream_capturing():
                raise RuntimeError("a CUDA graph was being captured")  # nothing may be waited for then
            activities.append(torch.profiler.ProfilerActivity.CUDA)
            torch.cuda.synchronize()  # what was queued before is not this operation's
        said = _Verbose(torch)
        profile = torch.profiler.profile(activities=activities)
        profile.__enter__()
    except Exception as error:
        row["unprofiled"] = f"{type(error).__name__}: {error}"[:200]
        profile = None
    try:
        return func(*args, **kwargs)
    finally:
        try:
            if said is not None:
                row["primitives"] = primitives(said.end())
            if profile is not None:
                if cuda:
                    torch.cuda.synchronize()
                profile.__exit__(None, None, None)
                row["inner"], row["kernels"] = named(profile.events() or (), torch.autograd.DeviceType.CPU)
        except Exception as error:
            watch.guest.fault("the profiler", error)


def named(events: Iterable[Any], host: Any) -> tuple[list[str], list[str]]:
    """(torch's inner operations, kernels on a device) of a profile, each in the order in which it began; copies are left out.

    ``host``: the device type of the CPU. The outermost operation, which was called, is no inner one.
    """
    inner: list[str] = []
    launched: list[str] = []
    for e in sorted(events, key=lambda e: e.time_range.start):
        name = str(e.name)
        if e.device_type == host:
            if "::" in name and e.cpu_parent is not None and len(inner) < _MOST:
                inner.append(name)
        elif not name.startswith(_COPIES) and len(launched) < _MOST:
            launched.append(name[:300])
    return inner, launched


def primitives(text: str) -> list[str]:
    """What oneDNN says that it ran: ``kind, implementation``, e.g. ``convolution, brg_conv_fwd:avx512_core``.

    Its verbose lines: ``onednn_verbose,v1,primitive,exec,cpu,convolution,jit:avx2,...`` (oneDNN developer guide, Verbose Mode;
    releases before 3.3 lack the version, those before 3.4 write ``exec`` alone).
    """
    found = []
    for line in text.splitlines():
        words = line.split(",")
        if words[0] in ("onednn_verbose", "dnnl_verbose") and "exec" in words:
            at = words.index("exec")
            if len(words) > at + 3:
                found.append(f"{words[at + 2]}, {words[at + 3]}")
    return found[:_MOST]


class _Verbose:
    """oneDNN's account of what it runs, which it writes to standard output: caught before it gets there."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._file: Any = None
        if not torch.backends.mkldnn.is_available() or torch._C._verbose.mkldnn_set_verbose(1) != 1:
            return
        sys.stdout.flush()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._stdout = os.dup(1)
        os.dup2(self._file.fileno(), 1)

    def end(self) -> str:
        """Stop, and give what was said."""
        if self._file is None:
            return ""
        self._torch._C._verbose.mkldnn_set_verbose(0)
        import ctypes

        ctypes.CDLL(None).fflush(None)  # oneDNN writes through C's own buffer
        os.dup2(self._stdout, 1)
        os.close(self._stdout)
        self._file.seek(0)
        text: str = self._file.read().decode("utf-8", "replace")
        self._file.close()
        return text
