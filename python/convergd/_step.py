"""The number of a step, as the sidecar reads it."""

from __future__ import annotations

import operator
from typing import SupportsIndex


def step_number(step: SupportsIndex) -> int:
    """A whole number of any type, such as NumPy's, as an int.

    Raises:
        ValueError: if it is none, or negative.
    """
    try:
        number = operator.index(step)
    except TypeError:
        number = -1
    if number < 0 or isinstance(step, bool):
        raise ValueError(f"`step` must be an integer of at least 0, got {step!r}")
    return number
