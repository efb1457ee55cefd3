"""Generator states in checkpoints: accelerate ``random_states_<rank>.pkl``, transformers ``rng_state[_<rank>].pth``, and Lightning's.

Loaded with torch's restricted unpickler (``weights_only``) and numpy's array types allowed; what that refuses is not read. A state becomes
a short hash per generator, so that equal states are equal facts; ``states`` gives the states themselves, for counting draws.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zipfile
from typing import Any

from reprodebug.foreign.protocol import Record, Unreadable
from reprodebug.foreign.tree import Tree

NAME = "random states"
_FILE = re.compile(r"(^|/)(random_states_(\d+)\.pkl|rng_state(?:_(\d+))?\.(?:pth|pt))$")
_LARGEST = 64 << 20


def find(tree: Tree) -> list[str]:
    """Files of the newest checkpoint, by its number."""
    found = [f for f in tree.files if _FILE.search(f)]
    if not found:
        return []

    def number(name: str) -> tuple[int, str]:
        numbers = re.findall(r"(?:checkpoint|step|epoch)[-_]?(\d+)", name)
        return (int(numbers[-1]) if numbers else -1, name.rpartition("/")[0])

    newest = max(number(f) for f in found)
    return [f for f in found if number(f) == newest]


def read(tree: Tree, place: str) -> Record:
    """One file. Raises Unreadable."""
    record = Record(NAME, place)
    prefix = key_of(place, "")[:-1]
    for name, (algorithm, body) in states(tree, place).items():
        record.add(
            "environment", f"{prefix}/{name}", f"{_told(name, algorithm, body)}sha256:{hashlib.sha256(body).hexdigest()[:12]}", place
        )
    loaded = _load(tree, place)
    if isinstance(loaded, dict) and isinstance(loaded.get("step"), int):
        record.add("config", f"{prefix}/step", loaded["step"], place)
    return record


def key_of(place: str, generator: str) -> str:
    """The key under which the state of a generator stands in the record of a place."""
    found = _FILE.search(place)
    rank = (found[3] or found[4] or "0") if found else "0"
    return f"{'rng' if rank == '0' else f'rng/rank {rank}'}/{generator}"


def _told(name: str, algorithm: str, body: bytes) -> str:
    """What a state says of itself: position in the block, seed."""
    if name in ("python", "numpy") and algorithm == "mt19937" and len(body) >= 2500:
        return f"position {struct.unpack_from('<i', body, 2496)[0]}, "
    if name == "torch" and len(body) >= 5016:
        seed, left = struct.unpack_from("<Qi", body)
        return f"seed {seed}, position {625 - left}, "
    if name.startswith("cuda") and len(body) == 16:
        seed, offset = struct.unpack("<QQ", body)
        return f"seed {seed}, offset {offset}, "
    return ""


def states(tree: Tree, place: str) -> dict[str, tuple[str, bytes]]:
    """Generator -> (algorithm, state): ``python``, ``numpy``, ``torch``, ``cuda.<n>``, in the layouts of ``recorder/randomness.py``.
    Raises Unreadable."""
    import numpy as np

    loaded = _load(tree, place)
    if not isinstance(loaded, dict):
        raise Unreadable(f"{place} holds no generator states")
    found: dict[str, tuple[str, bytes]] = {}
    python = loaded.get("random_state", loaded.get("python"))
    if isinstance(python, (tuple, list)) and len(python) >= 2 and isinstance(python[1], (tuple, list)):
        words = [int(w) & 0xFFFFFFFF for w in python[1][:625]]
        kept = python[2] if len(python) > 2 else None
        found["python"] = ("mt19937", np.array(words, "<u4").tobytes() + (b"" if kept is None else repr(kept).encode()))
    state = loaded.get("numpy_random_seed", loaded.get("numpy"))
    if isinstance(state, dict) and isinstance(state.get("state"), dict):  # get_state(legacy=False)
        inner = state["state"]
        state = (state.get("bit_generator"), inner.get("key"), inner.get("pos"), state.get("has_gauss", 0), state.get("gauss", 0.0))
    if isinstance(state, (tuple, list)) and len(state) >= 3 and state[1] is not None:
        raw = np.asarray(state[1]).astype("<u4").tobytes()
        kept = repr(tuple(state[3:])).encode() if len(state) > 3 and state[3] else b""
        found["numpy"] = (str(state[0]).lower(), raw + struct.pack("<i", int(state[2])) + kept)
    for key, name in (("torch_manual_seed", "torch"), ("cpu", "torch"), ("torch", "torch")):
        value: Any = loaded.get(key)
        if hasattr(value, "numpy") and name not in found:
            found[name] = ("mt19937", value.numpy().tobytes())
    for key in ("torch_cuda_manual_seed", "cuda", "xpu", "mps", "npu", "musa"):
        value = loaded.get(key)
        several = value if isinstance(value, (list, tuple)) else [value]
        for n, one in enumerate(several):
            if hasattr(one, "numpy"):
                device = "cuda" if "cuda" in key else key
                found[f"{device}.{n}"] = ("philox", one.cpu().numpy().tobytes())
    return found


def _load(tree: Tree, place: str) -> Any:
    if tree.size(place) > _LARGEST:
        raise Unreadable(f"{place} is larger than {_LARGEST >> 20} MiB")
    head = tree.read(place, 4)
    if head[:2] == b"PK":
        try:
            with zipfile.ZipFile(tree.path(place)) as z:
                if sum(i.file_size for i in z.infolist()) > _LARGEST:
                    raise Unreadable(f"{place} unpacks to more than {_LARGEST >> 20} MiB")
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise Unreadable(f"{place} is damaged: {error}") from error
    from reprodebug.recorder.loaded import load_weights_only

    try:
        return load_weights_only(tree.path(place))
    except ImportError as error:
        raise Unreadable(f"{place}: torch is needed to read it") from error
    except Exception as error:  # torch raises whatever its parser met
        raise Unreadable(
            f"{place} cannot be read without executing it: {str(error).splitlines()[0][:120] if str(error) else type(error).__name__}"
        ) from error
