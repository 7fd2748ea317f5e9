"""The interaction loss of the regularised phase, for one network without a partner.

For random, disjoint sets of variables S1, S2 (not empty) and S3,

    𝓘 = v(S1∪S2∪S3) − v(S1∪S3) − v(S2∪S3) + v(S3)        (Eq. 10)

is what S1 and S2 do together beyond what each does alone, in the context S3. v is the log-odds
of the label. Complex interactions, by which networks memorise, make 𝓘 large, so the loss

    λ · E[𝓘²] + (1 − λ) · CE

holds them down. The paper's Eq. 9 compares 𝓘 of two networks; here the penalty is 𝓘² of one
network, which needs no coupling between the two processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

LARGEST_SET = 3
"""S1 and S2 have 1 to this many variables, so that S3 has room."""


class PenaltyLoss(NamedTuple):
    """One evaluation of the loss."""

    loss: Tensor
    """λ · penalty + (1 − λ) · cross_entropy, scalar: call `backward()` on this."""
    cross_entropy: Tensor
    """Cross entropy of the unmasked batch, scalar, in nats."""
    penalty: Tensor
    """E[𝓘²] over the batch, scalar, in squared log-odds; zero if λ = 0."""
    lambda_: float
    """The λ of this step."""
    logits: Tensor
    """Logits of the unmasked batch, [B, K]."""


class InteractionPenalty:
    """λ · E[𝓘²] + (1 − λ) · CE, with a λ that can be changed while training.

    The feature map of the split layer, [B, C, H, W], is divided into grid × grid patches; the
    `variables` patches with the largest L1 norm are the variables of a sample, all others stay
    present. An absent patch is replaced by zero. The features are computed once, and the four
    masked copies go through the head as one batch. At λ = 0 the loss is the plain cross entropy
    and costs no more.

    Args:
        lambda_: weight λ of the penalty, 0 to 1.
        ramp: steps over which `set_lambda` changes λ by default; 0 means at once.
        variables: number of variables of a sample, 2 to grid².
        grid: patches along each side of the feature map.
        module: a network whose normalisation layers use their running statistics, and whose
            dropout is off, while the masked copies pass: masked features are no data, and must
            not move the statistics that evaluation uses.
        seed: seed of the random sets; None draws one.

    Raises:
        ValueError: if a number is out of its range.
    """

    def __init__(
        self,
        lambda_: float = 0.0,
        ramp: int = 0,
        variables: int = 8,
        grid: int = 4,
        module: nn.Module | None = None,
        seed: int | None = None,
    ) -> None:
        if not 2 <= variables <= grid * grid:
            raise ValueError(f"`variables` must be 2 to grid² = {grid * grid}, got {variables}")
        _check_lambda(lambda_)
        _check_ramp(ramp)
        self.ramp = ramp
        self.variables = variables
        self.grid = grid
        self.module = module
        self._generator = torch.Generator()
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)
        self._from = self._to = float(lambda_)
        self._steps = 0
        self._elapsed = 0

    @property
    def lambda_(self) -> float:
        """λ of the last step, between the old and the new value while it ramps."""
        if self._elapsed >= self._steps:
            return self._to
        return self._from + (self._to - self._from) * self._elapsed / self._steps

    def set_lambda(self, lambda_: float, ramp: int | None = None) -> None:
        """Move λ linearly from its present value to `lambda_` over `ramp` steps.

        One evaluation of the loss is one step. To ask for the value to which λ already moves
        changes nothing, so a trainer may pass on each polled decision.
        """
        _check_lambda(lambda_)
        steps = self.ramp if ramp is None else ramp
        _check_ramp(steps)
        if lambda_ == self._to:
            return
        self._from, self._to = self.lambda_, float(lambda_)
        self._steps, self._elapsed = steps, 0

    def __call__(
        self,
        features: Callable[[Tensor], Tensor],
        head: Callable[[Tensor], Tensor],
        inputs: Tensor,
        labels: Tensor,
    ) -> PenaltyLoss:
        """Evaluate the loss on a batch, as one step of the ramp.

        Args:
            features: the network up to the split, inputs -> [B, C, H, W].
            head: the network from the split on, [B, C, H, W] -> logits [B, K].
            inputs: a batch of B samples.
            labels: int64 [B].

        Raises:
            ValueError: if the features are no feature map, or smaller than the grid.
        """
        self._elapsed = min(self._elapsed + 1, self._steps)
        lambda_ = self.lambda_
        hidden = features(inputs)
        logits = head(hidden)
        cross_entropy = functional.cross_entropy(_at_least_float32(logits), labels)
        if lambda_ == 0.0:
            return PenaltyLoss(cross_entropy, cross_entropy, logits.new_zeros(()), 0.0, logits)
        penalty = self.interactions(head, hidden, labels).square().mean()
        loss = lambda_ * penalty + (1.0 - lambda_) * cross_entropy
        return PenaltyLoss(loss, cross_entropy, penalty, lambda_, logits)

    def interactions(
        self, head: Callable[[Tensor], Tensor], hidden: Tensor, labels: Tensor
    ) -> Tensor:
        """𝓘 for freshly drawn sets, one for each sample: features [B, C, H, W] -> [B]."""
        present = draw_sets(len(hidden), self.variables, self._generator)
        masks = self._masks(hidden, present.to(hidden.device))
        with _frozen(self.module):
            logits = head((hidden * masks).flatten(0, 1))
        values = log_odds(logits.unflatten(0, masks.shape[:2]), labels.expand(4, -1))
        return interaction(values)

    def _masks(self, hidden: Tensor, present: Tensor) -> Tensor:
        """Masks over positions: present [4, B, n] -> 0 or 1 [4, B, 1, H, W]."""
        patches = patch_indices(hidden, self.grid)
        strength = patch_strength(hidden.detach(), patches, self.grid)
        chosen = strength.topk(self.variables, dim=1).indices
        keep = hidden.new_ones(4, len(hidden), self.grid * self.grid)
        keep.scatter_(2, chosen.expand(4, -1, -1), present.to(hidden.dtype))
        return keep[:, :, patches].unsqueeze(2)


def draw_sets(samples: int, variables: int, generator: torch.Generator) -> Tensor:
    """Random S1, S2, S3 for each sample, as which variables are present.

    The sizes of S1 and S2 are uniform within what fits, and each other variable is in S3 with a
    probability that is itself uniform, so that all sizes of the context occur.

    Returns:
        bool [4, samples, variables]: S1∪S2∪S3, S1∪S3, S2∪S3, S3.
    """
    largest = min(LARGEST_SET, variables // 2)
    sizes = torch.randint(1, largest + 1, (2, samples, 1), generator=generator)
    rank = torch.rand(samples, variables, generator=generator).argsort(1)
    first = rank < sizes[0]
    second = (rank >= sizes[0]) & (rank < sizes[0] + sizes[1])
    density = torch.rand(samples, 1, generator=generator)
    context = torch.rand(samples, variables, generator=generator) < density
    context &= ~(first | second)
    return torch.stack([first | second | context, first | context, second | context, context])


def interaction(values: Tensor) -> Tensor:
    """𝓘 of Eq. 10 from the values of the four sets in the order of `draw_sets`: [4, B] -> [B]."""
    both, first, second, context = values
    return both - first - second + context


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """log(p / (1 − p)) of the label as z_y − logsumexp of the others, in float32 at least.

    Args:
        logits: [..., K] with K ≥ 2, of any floating type.
        labels: int64 [...].

    Returns:
        [...], in nats.
    """
    logits = _at_least_float32(logits)
    index = labels.unsqueeze(-1)
    others = logits.scatter(-1, index, float("-inf"))
    return logits.gather(-1, index).squeeze(-1) - others.logsumexp(-1)


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
    norm = _at_least_float32(hidden).abs().sum(1).flatten(1)
    return norm.new_zeros(len(norm), grid * grid).index_add(1, patches.flatten(), norm)


def _at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision, as autocast gives it, is too coarse for a difference of four values."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


@contextmanager
def _frozen(module: nn.Module | None) -> Iterator[None]:
    """Normalisation by running statistics and no dropout, until the end of the block."""
    layers = [] if module is None else list(module.modules())
    frozen = [m for m in layers if isinstance(m, _NormBase | _DropoutNd) and m.training]
    for layer in frozen:
        layer.training = False
    try:
        yield
    finally:
        for layer in frozen:
            layer.training = True


def _check_lambda(lambda_: float) -> None:
    if not 0.0 <= lambda_ <= 1.0:
        raise ValueError(f"`lambda_` must be 0 to 1, got {lambda_!r}")


def _check_ramp(ramp: int) -> None:
    if ramp < 0:
        raise ValueError(f"`ramp` must be 0 or more steps, got {ramp!r}")
