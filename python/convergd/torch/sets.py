"""The random sets S1, S2 and S3 of Eq. 9, and the samples that they are drawn for."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST_SET = 3
"""S1 and S2 have 1 to this many variables, so that S3 has room."""


def seeded(seed: int | None) -> torch.Generator:
    """Where the random sets come from; with None from anywhere."""
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


def check_fraction(fraction: float) -> None:
    """Raise an error if it is no share of a batch.

    Raises:
        ValueError: if it is out of its range.
    """
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"`fraction` must be more than 0 and at most 1, got {fraction!r}")


def draw_rows(samples: int, fraction: float, generator: torch.Generator) -> Tensor | None:
    """Random samples of a batch, indices int64 [B'] in their order; None is all of them.

    Args:
        samples: number of samples B.
        fraction: which share of them, rounded, and one at least.
        generator: where the numbers come from.
    """
    if fraction >= 1.0:
        return None
    count = max(1, round(fraction * samples))
    order = torch.randperm(samples, generator=generator, device="cpu")
    return order[:count].sort().values


def draw_sets(
    samples: int, variables: int, generator: torch.Generator, counts: Tensor | None = None
) -> Tensor:
    """Random S1, S2, S3 for each sample, as which variables are present.

    S1, S2 and S3 are disjoint, S1 and S2 not empty. The sizes of S1 and S2 are uniform from 1 to
    `LARGEST_SET` or half of the variables, and each other variable is in S3 with a probability
    that is itself uniform, so that all sizes of the context occur.

    Args:
        samples: number of samples B.
        variables: number of variables n.
        generator: where the numbers come from.
        counts: how many variables each sample has, int64 [B], if fewer than n; the first ones.
            A sample with less than two has no S2, so that its 𝓘 is zero.

    Returns:
        bool [4, B, n]: S1∪S2∪S3, S1∪S3, S2∪S3, S3.
    """
    if counts is None:
        counts = torch.full((samples,), variables, device="cpu")
    counts = counts.unsqueeze(1)
    largest = (counts // 2).clamp(1, LARGEST_SET)
    sizes = 1 + (torch.rand(2, samples, 1, generator=generator, device="cpu") * largest).long()
    exists = torch.arange(variables, device="cpu") < counts
    order = torch.rand(samples, variables, generator=generator, device="cpu").masked_fill(
        ~exists, 2.0
    )
    rank = order.argsort(1).argsort(1)
    first = exists & (rank < sizes[0])
    second = exists & (rank >= sizes[0]) & (rank < sizes[0] + sizes[1])
    density = torch.rand(samples, 1, generator=generator, device="cpu")
    context = torch.rand(samples, variables, generator=generator, device="cpu") < density
    context &= exists & ~(first | second)
    return torch.stack([first | second | context, first | context, second | context, context])
