"""The fingerprint sees every change that other tools' fingerprints missed, for every dtype, and reads every layout."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
import torch

from reprodebug.model.events import Flag
from reprodebug.recorder.fingerprint import Fingerprinter, hasher
from reprodebug.recorder.writer import Writer

DTYPES = sorted(
    {
        d
        for d in vars(torch).values()
        if isinstance(d, torch.dtype) and not str(d).startswith(("torch.q", "torch.bits")) and not re.search(r"int[1-7]$", str(d))
    },
    key=str,
)
BYTE_DTYPES = [d for d in DTYPES if d.itemsize >= 1]


@pytest.fixture
def fingerprint(tmp_path: Any) -> Fingerprinter:
    return Fingerprinter(torch, Writer(str(tmp_path)))


def of(raw: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Random bytes as a tensor of ``dtype``: every bit pattern may occur, NaN payloads and subnormals too."""
    if dtype is torch.bool:
        return raw.reshape(-1)[: raw.numel() // 2] % 2 == 0
    return raw.view(dtype)


def make(dtype: torch.dtype) -> torch.Tensor:
    raw = torch.randint(0, 256, (64, 256), dtype=torch.uint8, generator=torch.Generator().manual_seed(7))
    try:
        return of(raw, dtype).clone()
    except (RuntimeError, NotImplementedError, TypeError) as error:
        pytest.skip(f"this torch makes no {dtype} on CPU: {error}")


def flip(t: torch.Tensor, *positions: int) -> torch.Tensor:
    """A copy with one bit changed in each of the given bytes."""
    if t.dtype is torch.bool:
        t = t.clone()
        t.view(torch.uint8).view(-1)[list(positions)] ^= 1
        return t
    t = t.clone()
    t.view(torch.uint8).view(-1)[list(positions)] ^= 1
    return t


def swap(t: torch.Tensor, i: int, j: int) -> torch.Tensor:
    """A copy with the elements (rows for two axes) i and j exchanged, bytes moved as they are."""
    raw = t.contiguous().view(torch.uint8).reshape(t.shape[0], -1).clone()
    assert not torch.equal(raw[i], raw[j])
    raw[[i, j]] = raw[[j, i]]
    return raw.view(t.dtype).reshape(t.shape)


CHANGES = {
    "one bit, one element": lambda t: flip(t, 0),
    "one bit, two elements": lambda t: flip(t, 0, t.nbytes - 1),
    "swap two elements": lambda t: swap(t.reshape(-1), 0, _other(t.reshape(-1))).reshape(t.shape),
    "swap two rows": lambda t: swap(t.reshape(8, -1), 0, 5).reshape(t.shape),
    "one sign": lambda t: _signs(t, 1),
    "two signs": lambda t: _signs(t, 2),
    "noise everywhere": lambda t: flip(t, *range(0, t.nbytes, t.itemsize)),
}


def _other(t: torch.Tensor) -> int:
    raw = t.view(torch.uint8).reshape(t.shape[0], -1)
    return next(n for n in range(1, len(raw)) if not torch.equal(raw[0], raw[n]))


def _signs(t: torch.Tensor, n: int) -> torch.Tensor:
    t = t.clone()
    raw = t.view(torch.uint8).reshape(-1)
    top = 1 if t.dtype is torch.bool else 0x80  # little-endian: the sign bit is in an element's last byte
    for k in range(n):
        raw[(k + 1) * t.itemsize - 1] ^= top
    return t


@pytest.mark.filterwarnings("ignore:B?Complex(Half|32) support")
@pytest.mark.parametrize("dtype", BYTE_DTYPES, ids=str)
def test_every_kind_of_change_is_seen(fingerprint: Fingerprinter, dtype: torch.dtype) -> None:
    t = make(dtype)
    digest, meta, flags = fingerprint(t)
    assert not flags & Flag.UNOBSERVED
    assert fingerprint(t.clone())[:2] == (digest, meta)
    seen = {name: fingerprint(change(t))[0] != digest for name, change in CHANGES.items()}
    assert seen == dict.fromkeys(CHANGES, True)


def test_dtype_and_shape_belong_to_it(fingerprint: Fingerprinter) -> None:
    t = torch.arange(8, dtype=torch.int32)
    assert fingerprint(t)[0] != fingerprint(t.view(2, 4))[0]
    assert fingerprint(t)[0] != fingerprint(t.view(torch.float32))[0]
    assert fingerprint(torch.empty(0))[0] != fingerprint(torch.empty(0, 3))[0]


def test_equal_values_in_other_memory_are_equal(fingerprint: Fingerprinter) -> None:
    t = torch.randn(5, 7, 3)
    for same in (t.transpose(0, 2).contiguous().transpose(0, 2), torch.stack([t, t], 1)[:, 1], t.clone()):
        digest, _, flags = fingerprint(same)
        assert digest == fingerprint(t)[0]
        assert bool(flags & Flag.NONCONTIGUOUS) == (not same.is_contiguous())
    image = torch.randn(2, 3, 4, 4)
    assert fingerprint(image.to(memory_format=torch.channels_last))[0] == fingerprint(image)[0]
    assert fingerprint(torch.ones(1).expand(1000, 50))[0] == fingerprint(torch.ones(1000, 50))[0]
    z = torch.randn(4, dtype=torch.complex64)
    assert fingerprint(z.conj())[0] == fingerprint(z.conj().resolve_conj())[0] != fingerprint(z)[0]
    assert fingerprint(z.conj().imag)[0] == fingerprint(-z.imag)[0]
    assert fingerprint(t[0, 0, 0])[0] == fingerprint(t[0, 0, 0].clone())[0]


def test_bits_count_not_values(fingerprint: Fingerprinter) -> None:
    assert fingerprint(torch.tensor([0.0]))[0] != fingerprint(torch.tensor([-0.0]))[0]
    nan = torch.tensor([0x7FC00000, 0x7FC00001], dtype=torch.int32).view(torch.float32)
    assert fingerprint(nan[:1])[0] != fingerprint(nan[1:].clone())[0]
    assert fingerprint(nan)[0] == fingerprint(nan.clone())[0]


def test_large_strided_tensors_are_read_in_slices(fingerprint: Fingerprinter, monkeypatch: pytest.MonkeyPatch) -> None:
    t = torch.randn(100, 64).t()
    whole = fingerprint(t)[0]
    monkeypatch.setattr("reprodebug.recorder.fingerprint._CHUNK_BYTES", 1000)
    assert fingerprint(t)[0] == whole == fingerprint(t.contiguous())[0]


def test_layouts_and_subclasses(fingerprint: Fingerprinter) -> None:
    dense = torch.eye(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = [dense.to_sparse(), dense.to_sparse_csr(), dense.to_sparse_csc(), torch.quantize_per_tensor(dense, 0.1, 0, torch.qint8)]
        changed = dense.clone()
        changed[0, 0] = 2
        other = [
            changed.to_sparse(), changed.to_sparse_csr(), changed.to_sparse_csc(), torch.quantize_per_tensor(dense, 0.2, 0, torch.qint8),
        ]  # fmt: skip
    for a, b in zip(made, other, strict=True):
        assert not fingerprint(a)[2] & Flag.UNOBSERVED, a.layout
        assert fingerprint(a)[0] == fingerprint(a.clone())[0] != fingerprint(b)[0]

    class Tagged(torch.Tensor):
        pass

    assert fingerprint(dense.as_subclass(Tagged))[0] == fingerprint(dense)[0]
    assert fingerprint(torch.nn.Parameter(dense))[0] == fingerprint(dense)[0]


def test_what_cannot_be_read_is_said(fingerprint: Fingerprinter) -> None:
    freed = torch.randn(4)
    freed.untyped_storage().resize_(0)
    view = torch.randn(8)[4:]
    view.untyped_storage().resize_(0)
    fake_mode = __import__("torch._subclasses", fromlist=["FakeTensorMode"]).FakeTensorMode()
    for t in (torch.empty(3, device="meta"), freed, view, fake_mode.from_tensor(torch.ones(2))):
        digest, _, flags = fingerprint(t)
        assert flags & Flag.UNOBSERVED
        assert digest == bytes(16)


def test_inside_a_functorch_transform_nothing_breaks(fingerprint: Fingerprinter) -> None:
    seen = []

    def f(x: torch.Tensor) -> torch.Tensor:
        seen.append(fingerprint(x))
        return x * 2

    torch.func.vmap(f)(torch.ones(3, 2))
    assert seen[0][2] & Flag.UNOBSERVED


def test_a_dispatch_mode_of_the_program_sees_nothing_of_it(fingerprint: Fingerprinter) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    ops = []

    class Log(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            ops.append(str(func))
            return func(*args, **(kwargs or {}))

    t = torch.randn(4, 6).t()
    with Log():
        fingerprint(t)
    assert [o for o in ops if "clone" in o or "copy" in o or "contiguous" in o] == []


def test_reading_draws_nothing_and_changes_nothing(fingerprint: Fingerprinter) -> None:
    t = torch.randn(6, 5, requires_grad=True).t()
    state, version = torch.get_rng_state(), t._version
    before = t.detach().clone()
    fingerprint(t)
    assert torch.equal(torch.get_rng_state(), state)
    assert t._version == version
    assert torch.equal(before, t)


def test_the_hash_is_xxh3() -> None:
    algorithm, digest, new = hasher()
    assert algorithm == "xxh3-128"
    h = new(5)
    h.update(b"ab")
    h.update(b"c")
    assert h.digest() == digest(b"abc", 5)
