"""The two losses that the paper compares with Eq. 9: consistency of outputs or of features.

    λ · E‖z_a − z_b‖² + (1 − λ) · (CE_a + CE_b)        (Eq. 11, logits)
    λ · E‖f_a − f_b‖² + (1 − λ) · (CE_a + CE_b)        (Eq. 12, features of a layer)

‖·‖² is the sum over all logits or features of a sample, E the mean over the batch.
"""

from __future__ import annotations

from torch import Tensor, nn

from .batch import Batch, Inputs
from .interaction import PairLoss, Split, splits_of_two, weighted
from .network import Network
from .ramp import Ramped
from .values import at_least_float32


class _ConsistencyLoss(Ramped):
    """λ, and two networks on one batch."""

    def __init__(self, lambda_: float = 0.0, *, split: Split = None, ramp: int = 0) -> None:
        super().__init__(lambda_, ramp)
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
            baseline: the other.
            inputs: a batch of B samples.
            labels: int64 [B].

        Raises:
            ValueError: if there is nothing to compare, or it differs in shape.
        """
        networks = Network.of(target, self.splits[0]), Network.of(baseline, self.splits[1])
        self._check(networks)
        lambda_ = self._ramp.step()
        batch = Batch.of(inputs)
        (hidden_a, logits_a), (hidden_b, logits_b) = (network.plain(batch) for network in networks)
        consistency = logits_a.new_zeros(())
        if lambda_:
            consistency = self._distance((hidden_a, hidden_b), (logits_a, logits_b))
        return weighted(lambda_, consistency, (logits_a, logits_b), labels)

    def _check(self, networks: tuple[Network, Network]) -> None:
        """Raise an error for networks that cannot be compared."""

    def _distance(self, hidden: tuple[Tensor, Tensor], logits: tuple[Tensor, Tensor]) -> Tensor:
        raise NotImplementedError


class OutputConsistencyLoss(_ConsistencyLoss):
    """λ · E‖z_a − z_b‖² + (1 − λ) · (CE_a + CE_b), z the logits (Eq. 11).

    Args:
        lambda_: weight λ of the consistency, 0 to 1.
        ramp: steps over which `set_lambda` changes λ by default; 0 means at once.
    """

    def __init__(self, lambda_: float = 0.0, *, ramp: int = 0) -> None:
        super().__init__(lambda_, ramp=ramp)

    def _distance(self, hidden: tuple[Tensor, Tensor], logits: tuple[Tensor, Tensor]) -> Tensor:
        return _squared_distance(*logits)


class FeatureConsistencyLoss(_ConsistencyLoss):
    """λ · E‖f_a − f_b‖² + (1 − λ) · (CE_a + CE_b), f the features of a layer (Eq. 12).

    Args:
        lambda_: weight λ of the consistency, 0 to 1.
        split: name of the submodule whose output is compared, for both networks or one each. A
            `Network` has its own.
        ramp: steps over which `set_lambda` changes λ by default; 0 means at once.
    """

    def _check(self, networks: tuple[Network, Network]) -> None:
        if any(network.split is None for network in networks):
            raise ValueError("`split` must name the layer whose features are compared")

    def _distance(self, hidden: tuple[Tensor, Tensor], logits: tuple[Tensor, Tensor]) -> Tensor:
        return _squared_distance(*hidden)


def _squared_distance(first: Tensor, second: Tensor) -> Tensor:
    """The mean over the batch of the squared ℓ2 norm of the difference."""
    if first.shape != second.shape:
        raise ValueError(
            f"what is compared has shape {tuple(first.shape)} and {tuple(second.shape)}; compare "
            "layers of the same shape"
        )
    difference = at_least_float32(first) - at_least_float32(second)
    return difference.square().flatten(1).sum(1).mean()
