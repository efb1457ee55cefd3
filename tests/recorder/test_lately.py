"""What is not read twice: only a tensor that nothing wrote to since."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest
import torch

from reprodebug.recorder.lately import WORTH_BYTES, Lately

N = WORTH_BYTES // 4 + 3
KNOWN = (b"0123456789abcdef", 3, 0)


def noted(t: torch.Tensor) -> Lately:
    lately = Lately()
    lately.note(t, (ctypes.c_char * t.nbytes).from_address(t.data_ptr()), KNOWN)
    return lately


def test_an_unchanged_tensor_is_known() -> None:
    t = torch.arange(N, dtype=torch.float32)
    lately = noted(t)
    assert lately.known(t) == KNOWN
    assert lately.known(t) == KNOWN  # and stays so


@pytest.mark.parametrize(
    "write",
    [
        lambda t: t.add_(1),
        lambda t: t[5:6].zero_(),  # one element: the version counter moves
        lambda t: t.data.mul_(2),  # the counter does not move: the bytes tell
        lambda t: t.data.neg_(),
        lambda t: t.numpy().__imul__(0.5),
        lambda t: t.data[: N // 2].zero_(),
        lambda t: t.set_(torch.arange(N, dtype=torch.float32).untyped_storage()),
        lambda t: t.untyped_storage().resize_(0),
    ],
)
def test_a_written_tensor_is_read_again(write: Callable[[torch.Tensor], object]) -> None:
    t = torch.arange(N, dtype=torch.float32)
    lately = noted(t)
    write(t)
    assert lately.known(t) is None


def test_another_tensor_at_the_same_place_is_unknown() -> None:
    t = torch.arange(N, dtype=torch.float32)
    lately = noted(t)
    assert lately.known(t.detach()) is None
    del t
    other = torch.arange(N, dtype=torch.float32)
    assert lately.known(other) is None


def test_only_the_last_few_are_remembered() -> None:
    tensors = [torch.arange(N, dtype=torch.float32) for _ in range(12)]
    lately = Lately()
    for t in tensors:
        lately.note(t, (ctypes.c_char * t.nbytes).from_address(t.data_ptr()), KNOWN)
    assert [lately.known(t) is not None for t in tensors] == [False] * 4 + [True] * 8
