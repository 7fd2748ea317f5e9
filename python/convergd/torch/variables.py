"""Which parts of a sample are its variables, and how they are masked.

Variables are chosen by the inputs and by random numbers, never by a network: so both networks of
a pair have the same ones, in one process or in two. A position is a pixel of a feature map
[B, C, H, W], a token of a sequence [B, L, D] or a column of [B, D]. What is no variable always
stays.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .batch import Batch
from .patches import patch_indices, patch_strength

NO_VARIABLE = -1


@dataclass(frozen=True)
class Chosen:
    """The variables of B samples."""

    count: int
    """The number of variables n that a sample can have."""
    counts: Tensor | None = None
    """How many of them each sample has, int64 [B]; None if all have n."""
    units: Tensor | None = None
    """The variable of each patch or token, int64 [B, U], −1 if it always stays."""


class Variables(ABC):
    """A rule that chooses variables."""

    @abstractmethod
    def choose(self, batch: Batch, generator: torch.Generator) -> Chosen:
        """The variables of the samples of a batch."""

    @abstractmethod
    def of_positions(self, chosen: Chosen, hidden: Tensor) -> Tensor:
        """The variable of each position of features, −1 if it always stays.

        Returns:
            int64 [B, H, W], [B, L] or [B, D], on the CPU or where the features are.
        """


class ImagePatches(Variables):
    """Patches of a feature map [B, C, H, W], grid × grid.

    Args:
        grid: patches along each side.
        select: how many of them are variables: those with the largest L1 norm of the input, an
            image [B, C, H, W] of any size. None takes all, for any input.
        margin: patches at the border that are never chosen.

    Raises:
        ValueError: if fewer than two patches can be chosen.
    """

    def __init__(self, grid: int = 4, select: int | None = 8, margin: int = 0) -> None:
        inner = range(margin, grid - margin)
        allowed = [row * grid + column for row in inner for column in inner]
        if margin < 0 or not 2 <= (len(allowed) if select is None else select) <= len(allowed):
            raise ValueError(
                f"`select` must be 2 to the {len(allowed)} patches of a grid of {grid} without a "
                f"margin of {margin}, got {select}"
            )
        self.grid = grid
        self.select = select
        self._allowed = torch.tensor(allowed, device="cpu")

    @property
    def count(self) -> int:
        """The number of variables n."""
        return len(self._allowed) if self.select is None else self.select

    def choose(self, batch: Batch, generator: torch.Generator) -> Chosen:
        """The strongest patches of each image."""
        units = torch.full((len(batch), self.grid**2), NO_VARIABLE, device="cpu")
        patches = self._patches(batch.first)
        units.scatter_(1, patches, torch.arange(self.count, device="cpu").expand(len(batch), -1))
        return Chosen(self.count, units=units)

    def _patches(self, images: Tensor) -> Tensor:
        """The chosen patches, [B, n]."""
        if self.select is None:
            return self._allowed.expand(len(images), -1)
        if images.dim() != 4:
            raise ValueError(
                "`ImagePatches` chooses patches by inputs [B, C, H, W], got shape "
                f"{tuple(images.shape)}; `select=None` takes all patches"
            )
        patches = patch_indices(images, self.grid)
        strength = patch_strength(images.detach(), patches, self.grid).cpu()
        return self._allowed[strength[:, self._allowed].topk(self.select, dim=1).indices]

    def of_positions(self, chosen: Chosen, hidden: Tensor) -> Tensor:
        """[B, H, W]."""
        units = _known(chosen.units).to(hidden.device)
        return units[:, patch_indices(hidden, self.grid)]


class Tokens(Variables):
    """A random sample of the tokens, masked at their embeddings [B, L, D].

    Tokens count that are present by the input `attention_mask`, if there is one, and that are not
    excluded. A sample with fewer than `select` has fewer variables.

    Args:
        select: how many are variables.
        exclude_ids: ids of the first input, [B, L], that are none: special tokens, punctuation,
            stop words.

    Raises:
        ValueError: if `select` is less than 2.
    """

    def __init__(self, select: int = 10, exclude_ids: Sequence[int] = ()) -> None:
        if select < 2:
            raise ValueError(f"`select` must be 2 or more, got {select}")
        self.select = select
        self._excluded = torch.tensor(list(exclude_ids), dtype=torch.int64, device="cpu")

    def choose(self, batch: Batch, generator: torch.Generator) -> Chosen:
        """Other tokens at each step."""
        ids = batch.first.cpu()
        if ids.dim() != 2 or ids.is_floating_point():
            raise ValueError(f"`Tokens` needs ids [B, L] as the first input, got {_named(ids)}")
        allowed = ~torch.isin(ids, self._excluded)
        mask = batch.named("attention_mask")
        if mask is not None:
            allowed &= mask.cpu() != 0
        order = torch.rand(ids.shape, generator=generator, device="cpu").masked_fill(~allowed, 2.0)
        rank = order.argsort(1).argsort(1)
        units = rank.masked_fill(~allowed | (rank >= self.select), NO_VARIABLE)
        return Chosen(self.select, allowed.sum(1).clamp(max=self.select), units)

    def of_positions(self, chosen: Chosen, hidden: Tensor) -> Tensor:
        """[B, L]."""
        units = _known(chosen.units)
        if hidden.dim() != 3 or hidden.shape[1] != units.shape[1]:
            raise ValueError(
                f"features must be [B, {units.shape[1]}, D], a vector for each token, got shape "
                f"{tuple(hidden.shape)}"
            )
        return units


class Columns(Variables):
    """Columns of features [B, D], dealt to the variables in turn: column j to variable j mod n.

    Args:
        groups: the number of variables n.

    Raises:
        ValueError: if it is less than 2.
    """

    def __init__(self, groups: int) -> None:
        if groups < 2:
            raise ValueError(f"`groups` must be 2 or more, got {groups}")
        self.groups = groups

    def choose(self, batch: Batch, generator: torch.Generator) -> Chosen:
        """The same for every sample."""
        return Chosen(self.groups)

    def of_positions(self, chosen: Chosen, hidden: Tensor) -> Tensor:
        """[B, D]."""
        if hidden.dim() != 2 or hidden.shape[1] < self.groups:
            raise ValueError(
                f"features must be [B, D] with {self.groups} columns or more, got shape "
                f"{tuple(hidden.shape)}"
            )
        return (torch.arange(hidden.shape[1], device=hidden.device) % self.groups).expand(
            len(hidden), -1
        )


def _known(units: Tensor | None) -> Tensor:
    if units is None:
        raise AssertionError("BUG: variables chosen by another rule")
    return units


def _named(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}"
