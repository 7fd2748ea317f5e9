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

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from .frozen import frozen
from .patches import patch_indices, patch_strength
from .ramp import Ramped
from .sets import check_fraction, draw_rows, draw_sets, seeded
from .values import at_least_float32, interaction, log_odds


class PenaltyLoss(NamedTuple):
    """One evaluation of the loss."""

    loss: Tensor
    """λ · penalty + (1 − λ) · cross_entropy, scalar: call `backward()` on this."""
    cross_entropy: Tensor
    """Cross entropy of the unmasked batch, scalar, in nats."""
    penalty: Tensor
    """What λ weighs, for example E[𝓘²] in squared log-odds, scalar; zero if λ = 0."""
    lambda_: float
    """The λ of this step."""
    logits: Tensor
    """Logits of the unmasked batch, [B, K]."""


class InteractionPenalty(Ramped):
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
        seed: seed of all that is random here; None draws one.
        fraction: share of the batch, drawn anew at each step, on which the penalty is taken.

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
        fraction: float = 1.0,
    ) -> None:
        if not 2 <= variables <= grid * grid:
            raise ValueError(f"`variables` must be 2 to grid² = {grid * grid}, got {variables}")
        check_fraction(fraction)
        super().__init__(lambda_, ramp)
        self.variables = variables
        self.grid = grid
        self.fraction = fraction
        self.module = module
        self._generator = seeded(seed)

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
        lambda_ = self._ramp.step()
        hidden = features(inputs)
        logits = head(hidden)
        cross_entropy = functional.cross_entropy(at_least_float32(logits), labels)
        if lambda_ == 0.0:
            return PenaltyLoss(cross_entropy, cross_entropy, logits.new_zeros(()), 0.0, logits)
        rows = draw_rows(len(hidden), self.fraction, self._generator)
        if rows is not None:
            hidden, labels = hidden[rows.to(hidden.device)], labels[rows.to(labels.device)]
        penalty = self.interactions(head, hidden, labels).square().mean()
        loss = lambda_ * penalty + (1.0 - lambda_) * cross_entropy
        return PenaltyLoss(loss, cross_entropy, penalty, lambda_, logits)

    def interactions(
        self, head: Callable[[Tensor], Tensor], hidden: Tensor, labels: Tensor
    ) -> Tensor:
        """𝓘 of each sample for freshly drawn sets: features [B, C, H, W] -> [B]."""
        present = draw_sets(len(hidden), self.variables, self._generator)
        masks = self._masks(hidden, present.to(hidden.device))
        with frozen(self.module):
            logits = head((hidden * masks).flatten(0, 1))
        values = log_odds(logits.view(4, len(hidden), -1), labels.expand(4, -1))
        return interaction(values)

    def _masks(self, hidden: Tensor, present: Tensor) -> Tensor:
        """Masks over positions: present [4, B, n] -> 0 or 1 [4, B, 1, H, W]."""
        patches = patch_indices(hidden, self.grid)
        strength = patch_strength(hidden.detach(), patches, self.grid)
        chosen = strength.topk(self.variables, dim=1).indices
        keep = hidden.new_ones(4, len(hidden), self.grid * self.grid)
        keep.scatter_(2, chosen.expand(4, -1, -1), present.to(hidden.dtype))
        return keep[:, :, patches].unsqueeze(2)
