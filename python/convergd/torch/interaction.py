"""The interaction loss of two networks that are trained together (Eq. 9, 10).

    λ · E[(𝓘_a − 𝓘_b)²] + (1 − λ) · (CE_a + CE_b)

𝓘 of both networks is taken on the same samples, the same variables and the same random sets S1,
S2, S3. Where 𝓘 differs, the networks have learned something that does not come from the data
alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from .batch import Batch, Inputs
from .coupling import Coupling
from .draws import Draw, Interactions
from .masking import Baseline
from .network import Network
from .penalty import PenaltyLoss
from .values import at_least_float32
from .variables import Variables

Split: TypeAlias = str | Sequence[str | None] | None
"""Name of the submodule at which features are masked, or one for each network of two."""


class PairLoss(NamedTuple):
    """One evaluation of a loss of two networks."""

    loss: Tensor
    """λ · consistency + (1 − λ) · both cross entropies, scalar: call `backward()` on this."""
    cross_entropy: tuple[Tensor, Tensor]
    """Cross entropy of the unmasked batch by each network, scalars, in nats."""
    consistency: Tensor
    """What λ weighs, for example E[(𝓘_a − 𝓘_b)²], scalar; zero if λ = 0."""
    lambda_: float
    """The λ of this step."""
    logits: tuple[Tensor, Tensor]
    """Logits of the unmasked batch by each network, [B, K]."""


class InteractionLoss(Interactions):
    """λ · E[(𝓘_a − 𝓘_b)²] + (1 − λ) · (CE_a + CE_b) of two networks in one process (Eq. 9).

    Each network passes the plain batch once, and its four masked copies as one batch; at λ = 0
    only the plain batch. v is taken in float32 also under autocast.

    Args:
        lambda_: weight λ of the consistency of interactions, 0 to 1.
        split: name of the submodule at whose output features are masked, for both networks or one
            each; None masks the first input. A `Network` has its own.
        variables: what the variables of a sample are: `ImagePatches`, `Tokens` or `Columns`; None
            is `ImagePatches()`.
        baseline: what replaces an absent variable: `zero`, or the `mean` of the sample's features
            over its variables, as is usual for text.
        fraction: share of the batch, drawn anew at each step, on which interactions are compared.
        ramp: steps over which `set_lambda` changes λ by default; 0 means at once.
        seed: seed of all that is random here; None draws one.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        lambda_: float = 0.0,
        *,
        split: Split = None,
        variables: Variables | None = None,
        baseline: Baseline = "zero",
        fraction: float = 1.0,
        ramp: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            lambda_,
            variables=variables,
            baseline=baseline,
            fraction=fraction,
            ramp=ramp,
            seed=seed,
        )
        self.splits = splits_of_two(split)

    def __call__(
        self,
        target: nn.Module | Network,
        baseline: nn.Module | Network,
        inputs: Inputs,
        labels: Tensor,
    ) -> PairLoss:
        """Evaluate the loss on a batch, as one step of the ramp.

        Args:
            target: one network.
            baseline: the other; it may be of another architecture.
            inputs: a batch of B samples.
            labels: int64 [B].

        Raises:
            ValueError: if the variables do not fit the inputs or the features.
        """
        networks = Network.of(target, self.splits[0]), Network.of(baseline, self.splits[1])
        lambda_ = self._ramp.step()
        batch = Batch.of(inputs)
        if lambda_ == 0.0:
            logits_a, logits_b = (network.plain(batch)[1] for network in networks)
            return weighted(0.0, logits_a.new_zeros(()), (logits_a, logits_b), labels)
        draw = self.draw(batch, labels)
        (logits_a, own_a), (logits_b, own_b) = (
            self.evaluate(network, batch, draw) for network in networks
        )
        consistency = (own_a - own_b).square().mean()
        return weighted(lambda_, consistency, (logits_a, logits_b), labels)


class CoupledInteractionLoss(Interactions):
    """The loss of one of two networks that are trained in a process each.

    The gradient of Eq. 9 by the parameters of one network needs of the other only the values 𝓘_b:

        d/dθ_a E[(𝓘_a − 𝓘_b)²] = E[2 (𝓘_a − 𝓘_b) · d𝓘_a/dθ_a]

    and CE_b does not depend on θ_a. So each process minimises
    λ · E[(𝓘_a − 𝓘_b)²] + (1 − λ) · CE_a with 𝓘_b as a constant, and both together take the steps
    that `InteractionLoss` takes in one process. Both need the same batches in the same order, the
    same arguments, the same λ at each step, and the same seed. If they are found to differ, that
    is an error.

    Args:
        coupling: the way to the other process.
        lambda_: as for `InteractionLoss`, and so are all that follow.
        seed: the same in both processes.
        split: where features of this network are masked.
        variables: what the variables of a sample are.
        baseline: what replaces an absent variable.
        fraction: share of the batch on which interactions are compared.
        ramp: steps over which `set_lambda` changes λ by default.
    """

    def __init__(
        self,
        coupling: Coupling,
        lambda_: float = 0.0,
        *,
        seed: int,
        split: str | None = None,
        variables: Variables | None = None,
        baseline: Baseline = "zero",
        fraction: float = 1.0,
        ramp: int = 0,
    ) -> None:
        super().__init__(
            lambda_,
            variables=variables,
            baseline=baseline,
            fraction=fraction,
            ramp=ramp,
            seed=seed,
        )
        self.coupling = coupling
        self.split = split
        self._step = 0

    def __call__(self, network: nn.Module | Network, inputs: Inputs, labels: Tensor) -> PenaltyLoss:
        """Evaluate the loss on a batch, as one step of the ramp; at λ > 0 exchange 𝓘.

        Args:
            network: the network of this process.
            inputs: a batch of B samples, the same as in the other process.
            labels: int64 [B].

        Returns:
            The loss of this network; its `penalty` is E[(𝓘_a − 𝓘_b)²].

        Raises:
            ValueError: if the variables do not fit the inputs or the features.
            PartnerError: if the other process has died, is silent, or does something else.
        """
        network = Network.of(network, self.split)
        lambda_ = self._ramp.step()
        self._step += 1
        batch = Batch.of(inputs)
        if lambda_ == 0.0:
            _, logits = network.plain(batch)
            cross_entropy = functional.cross_entropy(at_least_float32(logits), labels)
            return PenaltyLoss(cross_entropy, cross_entropy, logits.new_zeros(()), 0.0, logits)
        draw = self.draw(batch, labels)
        logits, own = self.evaluate(network, batch, draw)
        cross_entropy = functional.cross_entropy(at_least_float32(logits), labels)
        partner = self.coupling.exchange(own.detach(), self._step, lambda_, draw_number(draw))
        penalty = (own - partner).square().mean()
        loss = lambda_ * penalty + (1.0 - lambda_) * cross_entropy
        return PenaltyLoss(loss, cross_entropy, penalty, lambda_, logits)


def weighted(
    lambda_: float, consistency: Tensor, logits: tuple[Tensor, Tensor], labels: Tensor
) -> PairLoss:
    """λ · consistency + (1 − λ) · (CE_a + CE_b)."""
    first, second = (functional.cross_entropy(at_least_float32(z), labels) for z in logits)
    cross_entropy = first + second
    loss = lambda_ * consistency + (1.0 - lambda_) * cross_entropy if lambda_ else cross_entropy
    return PairLoss(loss, (first, second), consistency, lambda_, logits)


def splits_of_two(split: Split) -> tuple[str | None, str | None]:
    """The split of each network."""
    if split is None or isinstance(split, str):
        return split, split
    if len(split) != 2:
        raise ValueError(f"`split` must be one name or two, got {split!r}")
    return split[0], split[1]


def draw_number(draw: Draw) -> int:
    """A number below 2^20 that tells two draws apart."""
    numbers = torch.cat([draw.rows, draw.labels.cpu(), draw.present.flatten().long()])
    weights = torch.arange(1, len(numbers) + 1, device="cpu") * 7919 % 104_729
    return int((numbers * weights).sum()) % (1 << 20)
