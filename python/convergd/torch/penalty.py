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
from typing import Any, NamedTuple, overload

from torch import Tensor, nn
from torch.nn import functional

from .batch import Batch, Inputs
from .draws import Interactions
from .frozen import frozen, nothing_moves
from .masking import Baseline, masked
from .network import Network
from .sets import draw_rows, draw_sets
from .values import at_least_float32, interaction, log_odds
from .variables import Chosen, ImagePatches, Tokens, Variables


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


class InteractionPenalty(Interactions):
    """λ · E[𝓘²] + (1 − λ) · CE, with a λ that can be changed while training.

        penalty = InteractionPenalty(split="low", seed=0)
        result = penalty(network, inputs, labels)

    The network passes the plain batch once, and its four masked copies as one batch; at λ = 0
    only the plain batch. There being no partner that must have the same ones, image patches are
    chosen by the features at the split, not by the input.

    It may also be called with the two parts of a network whose variables are patches or columns,
    `penalty(features, head, inputs, labels)`. Then a head that is neither a module nor a method of
    one needs `module`, if it has normalisation over the batch (without it that is an error) or
    dropout (without it the copies have dropout).

    Args:
        lambda_: weight λ of the penalty, 0 to 1.
        ramp: steps over which `set_lambda` changes λ by default; 0 means at once.
        variables: what the variables of a sample are, `ImagePatches`, `Tokens` or `Columns`; a
            number is that of patches, 2 to grid².
        grid: patches along each side of the feature map, where `variables` is a number.
        module: the network of which `head` is a part. Its normalisation uses its running
            statistics and its dropout is off while the masked copies pass: masked features are no
            data, and must not move the statistics that evaluation uses.
        seed: seed of all that is random here; None draws one.
        fraction: share of the batch, drawn anew at each step, on which the penalty is taken.
        split: name of the submodule at whose output features are masked; None masks the first
            input. A `Network` has its own.
        baseline: what replaces an absent variable: `zero`, or the `mean` of the sample's features
            over its variables, as is usual for text.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        lambda_: float = 0.0,
        ramp: int = 0,
        variables: int | Variables = 8,
        grid: int = 4,
        module: nn.Module | None = None,
        seed: int | None = None,
        fraction: float = 1.0,
        *,
        split: str | None = None,
        baseline: Baseline = "zero",
    ) -> None:
        if not isinstance(variables, Variables):
            if not 2 <= variables <= grid * grid:
                raise ValueError(f"`variables` must be 2 to grid² = {grid * grid}, got {variables}")
            variables = ImagePatches(grid, variables)
        super().__init__(
            lambda_,
            variables=variables,
            baseline=baseline,
            fraction=fraction,
            ramp=ramp,
            seed=seed,
        )
        self.module = module
        self.split = split

    @overload
    def __call__(
        self, network: nn.Module | Network, inputs: Inputs, labels: Tensor
    ) -> PenaltyLoss: ...

    @overload
    def __call__(
        self,
        features: Callable[[Tensor], Tensor],
        head: Callable[[Tensor], Tensor],
        inputs: Tensor,
        labels: Tensor,
    ) -> PenaltyLoss: ...

    def __call__(self, *given: Any, **named: Any) -> PenaltyLoss:
        """Evaluate the loss on a batch, as one step of the ramp.

        Args:
            given: a network, a batch of B samples and labels int64 [B]; or `features`, the network
                up to the split, `head`, the network from there on, a batch and labels.
            named: any of them by name: `network` or `features` and `head`, `inputs`, `labels`.

        Raises:
            ValueError: if the variables do not fit the inputs or the features, or the masked copies
                would move the statistics of a layer.
        """
        parts = ("network",) if len(given) + len(named) == 3 else ("features", "head")
        names = (*parts, "inputs", "labels")
        arguments = dict(zip(names, given, strict=False)) | named
        if len(given) > len(names) or set(arguments) != set(names):
            raise TypeError(
                "`InteractionPenalty` is called with `network, inputs, labels` or with `features, "
                "head, inputs, labels`"
            )
        if parts == ("network",):
            return self._of_network(**arguments)
        return self._of_parts(**arguments)

    def _of_network(
        self, network: nn.Module | Network, inputs: Inputs, labels: Tensor
    ) -> PenaltyLoss:
        network = Network.of(network, self.split)
        lambda_ = self._ramp.step()
        batch = Batch.of(inputs)
        if lambda_ == 0.0:
            return _loss(0.0, None, network.plain(batch)[1], labels)
        logits, own = self.evaluate(network, batch, self.draw(batch, labels))
        return _loss(lambda_, own, logits, labels)

    def _of_parts(
        self,
        features: Callable[[Tensor], Tensor],
        head: Callable[[Tensor], Tensor],
        inputs: Tensor,
        labels: Tensor,
    ) -> PenaltyLoss:
        lambda_ = self._ramp.step()
        hidden = features(inputs)
        logits = head(hidden)
        if lambda_ == 0.0:
            return _loss(0.0, None, logits, labels)
        rows = draw_rows(len(hidden), self.fraction, self._generator)
        some = labels
        if rows is not None:
            hidden, some = hidden[rows.to(hidden.device)], labels[rows.to(labels.device)]
        return _loss(lambda_, self.interactions(head, hidden, some), logits, labels)

    def interactions(
        self, head: Callable[[Tensor], Tensor], hidden: Tensor, labels: Tensor
    ) -> Tensor:
        """𝓘 of each sample for freshly drawn sets: features [B, ...] -> [B]."""
        if isinstance(self.variables, Tokens):
            raise ValueError(
                "`Tokens` are chosen by the ids: call the loss with a network, `Network(module, "
                "split=(features, head))` for two parts"
            )
        chosen = self._choose(Batch((hidden,)))
        present = draw_sets(len(hidden), chosen.count, self._generator, chosen.counts)
        copies = masked(hidden, self._positions(chosen, hidden), present, self.baseline)
        module = _module_of(head) if self.module is None else self.module
        with frozen(module) if module is not None else nothing_moves():
            logits = head(copies.flatten(0, 1))
        values = log_odds(logits.view(4, len(hidden), -1), labels.expand(4, -1))
        return interaction(values)

    def _choose(self, batch: Batch) -> Chosen:
        if isinstance(self.variables, ImagePatches):
            # Which patches they are, the features say.
            return Chosen(self.variables.count)
        return super()._choose(batch)

    def _positions(self, chosen: Chosen, hidden: Tensor) -> Tensor:
        if isinstance(self.variables, ImagePatches):
            if hidden.dim() != 4:
                raise ValueError(
                    f"patches are of features [B, C, H, W], got shape {tuple(hidden.shape)}; for "
                    "others give `variables=Tokens(...)` or `Columns(...)`"
                )
            chosen = self.variables.choose(Batch((hidden.detach(),)), self._generator)
        return super()._positions(chosen, hidden)


def _loss(lambda_: float, own: Tensor | None, logits: Tensor, labels: Tensor) -> PenaltyLoss:
    """λ · E[𝓘²] + (1 − λ) · CE."""
    cross_entropy = functional.cross_entropy(at_least_float32(logits), labels)
    if own is None:
        return PenaltyLoss(cross_entropy, cross_entropy, logits.new_zeros(()), 0.0, logits)
    penalty = own.square().mean()
    loss = lambda_ * penalty + (1.0 - lambda_) * cross_entropy
    return PenaltyLoss(loss, cross_entropy, penalty, lambda_, logits)


def _module_of(head: object) -> nn.Module | None:
    """The module that a head is, or is a method of."""
    for owner in (head, getattr(head, "__self__", None)):
        if isinstance(owner, nn.Module):
            return owner
    return None
