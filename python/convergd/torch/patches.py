"""Patches of a feature map, as variables."""

from __future__ import annotations

import torch
from torch import Tensor

from .values import at_least_float32


def patch_indices(hidden: Tensor, grid: int) -> Tensor:
    """The patch of each position of a feature map [B, C, H, W]: int64 [H, W], row by row.

    If H or W is no multiple of `grid`, patches differ in size by one position.
    """
    if hidden.dim() != 4:
        raise ValueError(f"features must be [B, C, H, W], got shape {tuple(hidden.shape)}")
    height, width = hidden.shape[2:]
    if min(height, width) < grid:
        raise ValueError(f"a {height}×{width} feature map has no {grid}×{grid} patches")
    rows = torch.arange(height, device=hidden.device) * grid // height
    columns = torch.arange(width, device=hidden.device) * grid // width
    return rows[:, None] * grid + columns


def patch_strength(hidden: Tensor, patches: Tensor, grid: int) -> Tensor:
    """L1 norm of the features in each patch: [B, C, H, W] -> [B, grid²]."""
    norm = at_least_float32(hidden).abs().sum(1).flatten(1)
    return norm.new_zeros(len(norm), grid * grid).index_add(1, patches.flatten(), norm)
