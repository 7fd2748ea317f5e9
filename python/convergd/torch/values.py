"""The output v of a network, and 𝓘 of Eq. 10 from four of them."""

from __future__ import annotations

import torch
from torch import Tensor


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """log(p / (1 − p)) of the label as z_y − logsumexp of the others, in float32 at least.

    Args:
        logits: [..., K] with K ≥ 2, of any floating type.
        labels: int64 [...].

    Returns:
        [...], in nats.
    """
    logits = at_least_float32(logits)
    index = labels.unsqueeze(-1)
    others = logits.scatter(-1, index, float("-inf"))
    return logits.gather(-1, index).squeeze(-1) - others.logsumexp(-1)


def interaction(values: Tensor) -> Tensor:
    """𝓘 of Eq. 10 from the values of the four sets in the order of `draw_sets`: [4, B] -> [B]."""
    both, first, second, context = values.unbind()
    return both - first - second + context


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision, as autocast gives it, is too coarse for a difference of four values."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
