"""The end of collectives by gloo.

A thread of gloo lets go of the tensors of a collective a moment after the collective has ended, and
needs the interpreter for it: a thread that asks for the interpreter while that ends aborts the
process. So the last tensors are held until the end, and waited for there.
"""

from __future__ import annotations

import atexit
import sys
import time

import torch
from torch import Tensor, distributed

# Seconds that a thread is given to let go at the end; it takes less than one thousandth unless the
# machine stands still.
_PATIENCE = 2.0

_HELD: list[list[object]] = []
"""What each way to other processes has passed last: a few numbers."""


class LastCollective:
    """Holds the last collective of one way to other processes, and its tensors."""

    def __init__(self) -> None:
        self._held: list[object] = []
        _HELD.append(self._held)

    def hold(self, work: distributed.Work, tensors: list[Tensor]) -> None:
        """Hold these, and no others any more; nobody else is to keep them."""
        self._held[:] = [work, *tensors]


@atexit.register
def _let_go() -> None:
    """Wait until gloo's threads have let go of the tensors of the last collectives."""
    tensors = [own for held in _HELD for own in held if isinstance(own, Tensor)]
    # Without the collectives themselves, only a thread that is not done yet holds them too.
    for held in _HELD:
        held.clear()
    deadline = time.monotonic() + _PATIENCE
    while _are_held(tensors) and time.monotonic() < deadline:
        time.sleep(0.001)


def _are_held(tensors: list[Tensor]) -> bool:
    """Whether somebody beside the list has one of the tensors.

    A thread first gives its share of the data back, and then, with the interpreter, that of the
    object. What the list itself and the counting take is seen in a tensor that nobody else has.
    """
    counts = [sys.getrefcount(tensor) for tensor in [*tensors, torch.empty(0)]]
    # PyTorch's stubs leave `_use_count` out.
    uses = [tensor._use_count() for tensor in tensors]  # type: ignore[attr-defined]
    return max(uses, default=0) > 1 or max(counts) > 1 + counts[-1]
