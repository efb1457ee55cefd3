"""Numbers of a difference, against plain arithmetic of torch on the same bytes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reprodebug.compare.numbers import _fp8_table, compare_bytes, values
from reprodebug.model.comparison import Tolerance

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
EIGHT = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu]


def raw(t: torch.Tensor) -> np.ndarray:
    return t.contiguous().view(torch.uint8).numpy().reshape(-1).copy()


def name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def numbers(a: torch.Tensor, b: torch.Tensor, **tolerance: float):
    return compare_bytes(raw(a), raw(b), name(a.dtype), tuple(a.shape), Tolerance(**tolerance))


@pytest.mark.parametrize("dtype", EIGHT, ids=name)
def test_every_byte_of_the_8_bit_formats(dtype: torch.dtype) -> None:
    every = torch.arange(256, dtype=torch.uint8)
    np.testing.assert_array_equal(_fp8_table(name(dtype)), every.view(dtype).to(torch.float64).numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=name)
def test_every_pattern_of_the_16_bit_formats(dtype: torch.dtype) -> None:
    every = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16)
    found = values(raw(every), name(dtype))
    np.testing.assert_array_equal(found, every.view(dtype).to(torch.float64).numpy())


@pytest.mark.parametrize("dtype", FLOATS, ids=name)
def test_max_abs_and_count(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(1)
    a = (torch.randn(50, 7, generator=g, dtype=torch.float64) * 10).to(dtype)
    b = a.clone()
    b.view(torch.uint8).view(-1)[:: 3 * a.itemsize] ^= 1
    found = numbers(a, b)
    x, y = a.to(torch.float64), b.to(torch.float64)
    assert found.differing == math.ceil(350 / 3)
    assert found.elements == 350
    assert found.max_abs == float((x - y).abs().max())
    assert found.max_ulp == 1
    assert found.worst_index == tuple(int(i) for i in np.unravel_index(int((x - y).abs().argmax()), (50, 7)))


def test_ulps_across_zero_and_neighbours() -> None:
    tiny = torch.finfo(torch.float32).smallest_normal * torch.finfo(torch.float32).eps
    assert numbers(torch.tensor([0.0]), torch.tensor([tiny])).max_ulp == 1
    assert numbers(torch.tensor([-tiny]), torch.tensor([tiny])).max_ulp == 2
    one = torch.tensor([1.0])
    assert numbers(one, torch.nextafter(one, torch.tensor([2.0]))).max_ulp == 1
    far = numbers(
        torch.tensor([-torch.finfo(torch.float64).max], dtype=torch.float64),
        torch.tensor([torch.finfo(torch.float64).max], dtype=torch.float64),
    )
    assert far.max_ulp == 2 * 0x7FEFFFFFFFFFFFFF


def test_signed_zero_and_nan_are_named() -> None:
    zero = numbers(torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0]))
    assert (zero.differing, zero.max_abs, zero.max_ulp, zero.signed_zero_only) == (1, 0.0, 0, True)
    nan = torch.tensor([0x7FC00000, 0x3F800000], dtype=torch.int32).view(torch.float32)
    other = torch.tensor([0x7FC00001, 0x3F800000], dtype=torch.int32).view(torch.float32)
    payload = numbers(nan, other)
    assert (payload.differing, payload.nan_only, payload.max_abs) == (1, True, 0.0)
    broken = numbers(torch.tensor([1.0, 2.0]), torch.tensor([float("nan"), 2.0]))
    assert broken.max_abs == math.inf
    assert not broken.nan_only
    assert numbers(torch.tensor([float("inf")]), torch.tensor([-float("inf")])).max_abs == math.inf


def test_integers_bool_and_complex() -> None:
    big = numbers(torch.tensor([2**62, -(2**62)]), torch.tensor([2**62 + 1, -(2**62)]))
    assert (big.max_abs, big.max_ulp) == (1.0, None)
    assert numbers(torch.tensor([True, False]), torch.tensor([True, True])).max_abs == 1.0
    z = numbers(torch.tensor([1 + 2j, 3 + 4j]), torch.tensor([1 + 2j, 3 + 4.5j]))
    assert (z.differing, z.elements, z.max_abs, z.worst_index) == (1, 2, 0.5, (1,))


@pytest.mark.parametrize(
    ("tolerance", "within"),
    [({"atol": 1e-3}, True), ({"atol": 1e-8}, False), ({"rtol": 1e-3}, True), ({"ulps": 1}, False), ({"ulps": 100_000}, True)],
)
def test_tolerances(tolerance: dict[str, float], within: bool) -> None:
    a = torch.tensor([1.0, 2.0, 0.0])
    assert numbers(a, a + torch.tensor([1e-4, 0, 0]), **tolerance).within is within


def test_nothing_is_guessed() -> None:
    unknown = compare_bytes(np.zeros(4, np.uint8), np.ones(4, np.uint8), "posit8", (4,), Tolerance())
    assert (unknown.differing, unknown.max_abs, unknown.max_ulp) == (4, None, None)
    empty = compare_bytes(np.zeros(0, np.uint8), np.zeros(0, np.uint8), "float32", (0, 3), Tolerance())
    assert (empty.elements, empty.differing) == (0, 0)
