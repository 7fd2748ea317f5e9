"""Features without some of their variables."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Baseline = Literal["zero", "mean"]
"""What replaces an absent variable: zero, or the mean of the features over the variables."""

BASELINES = ("zero", "mean")


def masked(hidden: Tensor, positions: Tensor, present: Tensor, baseline: Baseline) -> Tensor:
    """Copies of features in which absent variables are replaced.

    Args:
        hidden: [B, C, H, W], [B, L, D] or [B, D].
        positions: the variable of each position, −1 if it always stays, int64 [B, H, W], [B, L]
            or [B, D].
        present: which variables are present in each copy, bool [M, B, n].
        baseline: what replaces the others.

    Returns:
        [M, B, ...], differentiable by the features.
    """
    # What is drawn on the CPU is small; what is made of it is as large as the features.
    positions, present = positions.to(hidden.device), present.to(hidden.device)
    keep = _of_positions(positions, present).to(hidden)
    channels = {4: 1, 3: 2}.get(hidden.dim())
    if channels is not None:
        keep = keep.unsqueeze(channels + 1)
    if baseline == "zero":
        return hidden * keep
    is_variable = (positions >= 0).to(hidden)
    if channels is not None:
        is_variable = is_variable.unsqueeze(channels)
    # Under autocast a GPU sums in float32.
    return torch.lerp(_mean(hidden, is_variable).to(hidden), hidden, keep)


def _of_positions(positions: Tensor, present: Tensor) -> Tensor:
    """Which positions are present: [M, B, ...]."""
    copies, samples, _ = present.shape
    # What is no variable takes the last column.
    always = present.new_ones(copies, samples, 1)
    present = torch.cat([present, always], 2)
    index = positions.flatten(1) % present.shape[2]
    return present.gather(2, index.expand(copies, -1, -1)).view(copies, *positions.shape)


def _mean(hidden: Tensor, is_variable: Tensor) -> Tensor:
    """The mean over the variable positions of each sample, to be broadcast."""
    over = {4: (2, 3), 3: (1,)}.get(hidden.dim(), (1,))
    count = is_variable.sum(over, keepdim=True).clamp(min=1)
    return (hidden * is_variable).sum(over, keepdim=True) / count
