"""Plain tensor files: names in order, and one tensor at a time.

``.npy``, ``.npz``, ``.safetensors``, ``.pt``/``.pth``/``.bin``/``.ckpt`` (restricted unpickler), ``.h5``/``.hdf5``. Sizes are checked before memory is taken; links
of an HDF5 file that lead out of it, object references and pickled arrays are refused.

HDF5 dumps of activations are read as steps and layers: a part of a path that is ``step_000010``, ``step10``, ``iter-3``, ``epoch_2`` or a bare number
names the step, and what remains names the module; a last part such as ``activation``, ``output``, ``input``, ``grad``, ``weight`` or ``bias`` names the
tensor. ``/step_000010/layer1/conv/activation``, ``/layer1/conv/step_3`` and ``/fc1/output`` (one array per layer) are all understood.
"""

from __future__ import annotations

import json
import os
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reprodebug.foreign.protocol import Unreadable
from reprodebug.foreign.tree import Tree

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = (".npy", ".npz", ".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".h5", ".hdf5")
MAX_TENSOR = 16 << 30
_UNPACKED = 512 << 20
"""bytes of one tensor up to which any compression is believed"""
_MAX_NAMES = 1_000_000
_MAX_HEADER = 100 << 20
_SAFE = {
    "F64": ("float64", 8), "F32": ("float32", 4), "F16": ("float16", 2), "BF16": ("bfloat16", 2), "I64": ("int64", 8), "I32": ("int32", 4),
    "I16": ("int16", 2), "I8": ("int8", 1), "U8": ("uint8", 1), "U16": ("uint16", 2), "U32": ("uint32", 4), "U64": ("uint64", 8), "BOOL": ("bool", 1),
    "F8_E4M3": ("float8_e4m3fn", 1), "F8_E5M2": ("float8_e5m2", 1), "C64": ("complex64", 8), "F8_E8M0": ("float8_e8m0fnu", 1),
}  # fmt: skip
_STEP = re.compile(r"^(?:(?:global_?)?(?:step|iter|iteration|it|batch)[-_=]?)?0*(\d+)$|^epoch[-_=]?0*(\d+)$", re.I)
_TENSOR = re.compile(
    r"^(activations?|outputs?|out|inputs?|in|grads?|gradients?|weight|bias|value|values|data|tensor|logits|loss)(?:[._-]?\d+)?$", re.I
)
_WEIGHT = re.compile(r"^(\w*kernel|gamma|beta|embeddings|moving_(mean|variance)|(weight|bias):\d+)(:\d+)?$")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: its raw bytes, row by row, little-endian."""

    data: np.ndarray[Any, Any]
    """uint8[n]"""
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """What a tensor's name says."""

    step: int | None
    module: str
    tensor: str
    kind: str
    """``parameter``, ``activation`` or ``gradient``"""


@dataclass(slots=True)
class Tensors:
    """An opened file."""

    path: str
    names: list[str]
    load: Callable[[str], Tensor]
    notes: list[str] = field(default_factory=list)
    dump: bool = False
    """activations, not a checkpoint"""
    order: str = ""
    """what the order of the names was taken from, where the file does not say it"""

    def place(self, name: str) -> Place:
        """Step, module, tensor and kind of a name."""
        return place_of(name, dump=self.dump)


def open_tensors(path: str) -> Tensors:
    """Open a tensor file. Raises Unreadable."""
    suffix = os.path.splitext(path)[1].lower()
    reader = {
        ".npy": _npy, ".npz": _npz, ".safetensors": _safetensors, ".h5": _hdf5, ".hdf5": _hdf5, ".pt": _torch, ".pth": _torch, ".bin": _torch,
        ".ckpt": _torch,
    }.get(suffix)  # fmt: skip
    if reader is None:
        raise Unreadable(f"{path} is no tensor file: {', '.join(SUFFIXES)} are read")
    try:
        opened = reader(path)
    except Exception as error:
        raise _unreadable(path, error) from error
    inner = opened.load

    def load(name: str) -> Tensor:
        try:
            return inner(name)
        except Exception as error:
            raise _unreadable(name, error) from error

    opened.load = load
    return opened


def _unreadable(name: str, error: Exception) -> Unreadable:
    if isinstance(error, Unreadable):
        return error
    return Unreadable(f"{os.path.basename(name)} cannot be read: {str(error)[:160] or type(error).__name__}")


def place_of(name: str, *, dump: bool) -> Place:
    """What a name says; see the module's text for the layouts."""
    parts = [p for p in re.split(r"/", name) if p] if "/" in name or dump else name.split(".")
    if not dump and "/" not in name:
        tensor = parts[-1]
        if tensor == "grad" and len(parts) > 1:
            return Place(None, ".".join(parts[:-2]), ".".join(parts[-2:]), "gradient")
        return Place(None, ".".join(parts[:-1]), tensor, "parameter")
    if _WEIGHT.match(parts[-1]) or (len(parts) > 1 and parts[-2] == "vars"):  # what Keras saves of a model
        cut = -2 if parts[-2:-1] == ["vars"] else -1
        module = [p for p in parts[:cut] if p not in ("model_weights", "layers")]
        return Place(None, ".".join(module), ".".join(parts[cut:]), "parameter")
    step: int | None = None
    rest = []
    for part in parts:
        found = _STEP.match(part)
        if found and step is None:
            step = int(found[1] or found[2])
        elif part.lower() not in ("steps", "layers", "activations", "gradients", "modules") or part is parts[-1]:
            rest.append(part)
    tensor = rest.pop() if len(rest) > 1 and _TENSOR.match(rest[-1]) else "output"
    lowered = name.lower()
    kind = (
        "gradient" if re.search(r"grad", lowered) else "parameter" if tensor in ("weight", "bias") or "param" in lowered else "activation"
    )
    return Place(step, ".".join(rest), tensor, kind)


def _array(a: Any) -> Tensor:
    import numpy as np

    array = np.asarray(a)
    if array.dtype.hasobject or array.dtype.kind in "OUSVmM":
        raise Unreadable(f"an array of {array.dtype} is no tensor")
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
    return Tensor(little.reshape(-1).view(np.uint8), array.dtype.name, tuple(array.shape))


def _npy(path: str) -> Tensors:
    import numpy as np

    def load(name: str) -> Tensor:
        _header_fits(path)
        return _array(np.load(path, mmap_mode="r", allow_pickle=False, max_header_size=10_000))

    load("")
    return Tensors(path, ["array"], load)


def _header_fits(path: str) -> None:
    """Whether the header of an .npy file asks for more than the file holds."""
    import numpy as np

    with open(path, "rb") as f:
        version = np.lib.format.read_magic(f)
        shape, _, dtype = (np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0)(
            f, max_header_size=10_000
        )
        left = os.path.getsize(path) - f.tell()
    _fits(shape, dtype.itemsize, left)
    if dtype.hasobject:
        raise Unreadable(f"{os.path.basename(path)} holds pickled objects, which are not read")


def _fits(shape: tuple[int, ...], itemsize: int, left: int) -> None:
    size = itemsize
    for n in shape:
        if n < 0:
            raise Unreadable("a negative dimension")
        size *= n
    if size > min(left, MAX_TENSOR):
        raise Unreadable("a header that asks for more bytes than there are")


def _unpacks(name: str, size: int, stored: int) -> None:
    """Refuse what fills the memory out of next to nothing: compressed zeros, or a data set that was never written."""
    if size > MAX_TENSOR or (size > _UNPACKED and size > 100 * stored):
        raise Unreadable(f"{name} unpacks to {size >> 20} MiB")


def _npz(path: str) -> Tensors:
    import numpy as np

    with zipfile.ZipFile(path) as z:
        infos = {i.filename.removesuffix(".npy"): i for i in z.infolist() if i.filename.endswith(".npy")}
    if not infos:
        raise Unreadable(f"{os.path.basename(path)} holds no array")

    def load(name: str) -> Tensor:
        info = infos[name]
        _unpacks(name, info.file_size, info.compress_size)
        with zipfile.ZipFile(path) as z, z.open(info) as f:
            version = np.lib.format.read_magic(f)
            shape, fortran, dtype = (np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0)(
                f, max_header_size=10_000
            )
            if dtype.hasobject:
                raise Unreadable(f"{name} holds pickled objects, which are not read")
            _fits(shape, dtype.itemsize, info.file_size)
            raw = f.read(info.file_size)
        array = np.frombuffer(raw, dtype)
        return _array(array.reshape(shape, order="F" if fortran else "C"))

    return Tensors(path, list(infos)[:_MAX_NAMES], load)


def _safetensors(path: str) -> Tensors:
    import numpy as np

    size = os.path.getsize(path)
    with open(path, "rb") as f:
        head = f.read(8)
        if len(head) < 8:
            raise Unreadable("a cut header")
        (length,) = struct.unpack("<Q", head)
        if length > min(size - 8, _MAX_HEADER):
            raise Unreadable("a header longer than the file")
        header = json.loads(f.read(length))
    if not isinstance(header, dict):
        raise Unreadable("a header that is no mapping")
    rows: dict[str, tuple[str, int, tuple[int, ...], int, int]] = {}
    for name, row in header.items():
        if name == "__metadata__":
            continue
        dtype, itemsize = _SAFE.get(str(row["dtype"]), ("", 0))
        shape = tuple(int(n) for n in row["shape"])
        start, end = (int(n) for n in row["data_offsets"])
        if not dtype:
            raise Unreadable(f"{name} has the unknown type {row['dtype']}")
        _fits(shape, itemsize, size - 8 - length - start)
        count = itemsize
        for n in shape:
            count *= n
        if start < 0 or end - start != count or end > size - 8 - length:
            raise Unreadable(f"{name} lies outside the file")
        rows[name] = (dtype, itemsize, shape, 8 + length + start, count)

    def load(name: str) -> Tensor:
        dtype, _, shape, start, count = rows[name]
        data = np.fromfile(path, np.uint8, count, offset=start) if count else np.empty(0, np.uint8)
        if len(data) != count:
            raise Unreadable(f"{name} is cut")
        return Tensor(data, dtype, shape)

    ordered = sorted(rows, key=lambda n: rows[n][3])
    return Tensors(path, ordered[:_MAX_NAMES], load)


def _torch(path: str) -> Tensors:
    from reprodebug.recorder.loaded import flat_tensors, load_weights_only, raw_bytes

    with open(path, "rb") as f:
        zipped = f.read(2) == b"PK"
    if zipped:
        with zipfile.ZipFile(path) as z:
            if sum(i.file_size for i in z.infolist()) > max(4 * os.path.getsize(path), 256 << 20):
                raise Unreadable(f"{os.path.basename(path)} unpacks to far more than it is")
    try:
        found = load_weights_only(path, mmap=zipped)
    except ImportError as error:
        raise Unreadable(f"{os.path.basename(path)} needs torch to be read") from error
    except Exception as error:  # torch raises whatever its parser met
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise Unreadable(f"{os.path.basename(path)} cannot be read without executing it: {text[:160]}") from error
    tensors = flat_tensors(found)
    if not tensors:
        raise Unreadable(f"{os.path.basename(path)} holds no tensor")
    return Tensors(path, list(tensors)[:_MAX_NAMES], lambda name: Tensor(*raw_bytes(tensors[name])))


def _hdf5(path: str) -> Tensors:
    import h5py

    names: list[str] = []
    notes: list[str] = []
    order = ""
    with h5py.File(path, "r", locking=False) as f:
        stack: list[tuple[str, int]] = [("/", 0)]
        while stack and len(names) < _MAX_NAMES:
            at, depth = stack.pop()
            group = f[at]
            tracked = group.id.get_create_plist().get_link_creation_order() & h5py.h5p.CRT_ORDER_TRACKED
            keys = list(group.keys()) if tracked else _in_order(group)
            if not tracked and len(keys) > 1:
                order = "the order in which its objects lie in the file is taken for the order in which they were made"
            below: list[tuple[str, int]] = []
            for key in keys:
                link = group.get(key, getlink=True)
                name = f"{at.rstrip('/')}/{key}"
                if not isinstance(link, h5py.HardLink):
                    notes.append(f"{name} is a link and is not followed")
                    continue
                kind = group.get(key, getclass=True)
                if kind is h5py.Group and depth < 32:
                    below.append((name, depth + 1))
                elif kind is h5py.Dataset:
                    data = group[key]
                    if data.external or data.is_virtual:
                        notes.append(f"{name} lies in another file and is not read")
                    elif data.dtype.kind in "fiubc":
                        names.append(name)
            stack += reversed(below)
    if not names:
        raise Unreadable(f"{os.path.basename(path)} holds no array of numbers")

    def load(name: str) -> Tensor:
        with h5py.File(path, "r", locking=False) as f:
            data = f[name]
            _unpacks(name, data.dtype.itemsize * data.size, data.id.get_storage_size())
            return _array(data[()])

    return Tensors(path, names, load, notes, dump=True, order=order)


def _in_order(group: Any) -> list[str]:
    """Names in a group that keeps no order of creation: by where their objects lie in the file, which is allocated as they are made."""
    import h5py

    def place(name: str) -> tuple[int, list[tuple[int, int, str]]]:
        try:
            if isinstance(group.get(name, getlink=True), h5py.HardLink):
                return int(h5py.h5o.get_info(group.id, name.encode()).addr), _natural(name)
        except (KeyError, RuntimeError, OSError, ValueError, AttributeError):
            pass
        return 1 << 63, _natural(name)

    return sorted(group.keys(), key=place)


_NO_WEIGHTS = re.compile(
    r"(^|/)(rng_state[\w.]*|random_states_\d+|optimizer|scheduler|scaler|training_args)\.(pth?|bin|pkl)$|(^|/)(\.git|\.dvc|\.aim|site-packages)/"
)
_MOST_FILES, MOST_BYTES = 2000, 8 << 30
"""looked at below a folder; bytes of both sides that are read without being asked for"""


def in_folder(tree: Tree) -> dict[str, int]:
    """Tensor files below a folder -> bytes; generator states and what trackers keep for themselves are left out."""
    found = [f for f in tree.files if f.lower().endswith(SUFFIXES) and not _NO_WEIGHTS.search(f)]
    return {f: tree.size(f) for f in found[:_MOST_FILES]}


def open_folder(tree: Tree, files: list[str]) -> Tensors:
    """Several files of a folder as one: the tensors keep their file's name in front, unless there is one file only. What cannot be read is
    a note. Raises Unreadable where nothing can."""
    opened: dict[str, Tensors] = {}
    notes: list[str] = []
    for f in files:
        try:
            opened[f] = open_tensors(tree.path(f))
        except Unreadable as error:
            notes.append(f"{f}: {error.message}")
    if not opened:
        raise Unreadable(notes[0] if notes else "no tensor file")
    several = len(files) > 1
    where: dict[str, tuple[Tensors, str]] = {}
    for f, own in opened.items():
        # a file that is one array, or one step of a dump, is named by its path
        stem = os.path.splitext(f)[0]
        for name in own.names:
            label = stem if name == "array" else f"{stem}/{name.lstrip('/')}" if several else name
            where[label] = (own, name)
        notes += own.notes
    dump = any(t.dump for t in opened.values()) or any(_STEP.match(p) for f in files for p in os.path.splitext(f)[0].split("/"))
    order = next((t.order for t in opened.values() if t.order), "")
    return Tensors(tree.root, list(where), lambda label: where[label][0].load(where[label][1]), notes, dump=dump, order=order)


def _natural(text: str) -> list[tuple[int, int, str]]:
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", text) if p]
