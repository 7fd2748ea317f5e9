"""The interaction loss of two networks that are trained together (Eq. 9, 10).

    λ · E[(𝓘_a − 𝓘_b)²] + (1 − λ) · (CE_a + CE_b)

𝓘 of both networks is taken on the same samples, the same variables and the same random sets S1,
S2, S3. Where 𝓘 differs, the networks have learned something that does not come from the data
alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from .batch import Batch, Inputs
from .coupling import Coupling
from .draws import Draw, Interactions
from .masking import BASELINES, Baseline
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

    def state_dict(self) -> dict[str, Any]:
        """λ, its ramp, the random numbers and the number of the step."""
        return super().state_dict() | {"step": self._step}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self._step = state_dict["step"]

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
        lambda_ = self.coupling.lambda_ = self._ramp.step()
        self._step += 1
        batch = Batch.of(inputs)
        if lambda_ == 0.0:
            _, logits = network.plain(batch)
            cross_entropy = functional.cross_entropy(at_least_float32(logits), labels)
            return PenaltyLoss(cross_entropy, cross_entropy, logits.new_zeros(()), 0.0, logits)
        draw = self.draw(batch, labels)
        logits, own = self.evaluate(network, batch, draw)
        cross_entropy = functional.cross_entropy(at_least_float32(logits), labels)
        partner = self.coupling.exchange(
            own.detach(), self._step, lambda_, draw_number(draw, self.baseline)
        )
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


def draw_number(draw: Draw, baseline: Baseline) -> int:
    """A number below 2^32 that tells two draws apart."""
    chosen = (own for own in (draw.chosen.counts, draw.chosen.units) if own is not None)
    parts = [
        torch.tensor([BASELINES.index(baseline), draw.chosen.count], device="cpu"),
        *(draw.rows, draw.labels, draw.present, *chosen),
        *(_sampled(own) for own in draw.batch.tensors),
    ]
    numbers = torch.cat([own.detach().flatten().cpu().long() for own in parts])
    # Products and sums of 64 bits wrap around, which is as good as any mixing; the high bits are
    # well mixed.
    weights = torch.arange(1, len(numbers) + 1, device="cpu") * _ODD | 1
    mixed = ((numbers + 1) * weights).sum().item()
    return (int(mixed) >> 32) & ((1 << 32) - 1)


_ODD = 0x1E3779B97F4A7C15
"""Any large odd number."""

_OF_A_SAMPLE = 16
"""So many values of each tensor of a sample tell two batches apart."""

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _sampled(tensor: Tensor) -> Tensor:
    """Values of each sample as integers, floating ones by their bits, so exactly."""
    tensor = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    flat = tensor.flatten(1) if tensor.dim() > 1 else tensor[:, None]
    size = flat.shape[1]
    # From the middle of equal parts, as a picture's border may be the same in all.
    at = (torch.arange(_OF_A_SAMPLE, device=flat.device) * 2 + 1) * size // (2 * _OF_A_SAMPLE)
    few = flat[:, at]
    return few.view(_BITS[few.dtype.itemsize]) if few.is_floating_point() else few
