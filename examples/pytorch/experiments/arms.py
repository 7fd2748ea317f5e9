"""The ways in which a training goes on after the plain phase."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from convergd.torch import (
    FeatureConsistencyLoss,
    InteractionLoss,
    InteractionPenalty,
    OutputConsistencyLoss,
)
from tasks import Part, Task

Loss = Callable[[nn.Module, nn.Module, Part], Tensor]
"""Two networks and a batch to a scalar."""


@dataclass(frozen=True)
class Arm:
    """One of them."""

    name: str
    lambda_: float = 0.0
    kind: str = "plain"
    rate: float = 1.0
    """The learning rate, as a multiple of the plain one."""


PLAIN = Arm("plain")
ARMS = [
    PLAIN,
    Arm("learning rate ÷ 5", rate=0.2),
    Arm("Eq. 9, λ = 0.8", 0.8, "interactions"),
    Arm("Eq. 9, λ = 0.3", 0.3, "interactions"),
    Arm("𝓘² of each alone, λ = 0.8", 0.8, "penalty"),
    Arm("Eq. 11, λ = 0.03", 0.03, "outputs"),
    Arm("Eq. 11, λ = 0.3", 0.3, "outputs"),
    Arm("Eq. 12, λ = 0.03", 0.03, "features"),
]


def loss_of(arm: Arm, task: Task, ramp: int, seed: int) -> Loss | None:
    """The loss of an arm; None where the task has none.

    λ rises from 0 over `ramp` steps.
    """
    if arm.kind == "plain":
        return _plain
    if arm.kind == "penalty":
        return _penalty(arm, task, ramp, seed)
    made = {
        "interactions": lambda: InteractionLoss(
            split=task.split, variables=task.variables, baseline=task.baseline, seed=seed
        ),
        "outputs": OutputConsistencyLoss,
        "features": lambda: FeatureConsistencyLoss(split=task.late),
    }[arm.kind]()
    made.set_lambda(arm.lambda_, ramp=ramp)
    return lambda target, baseline, part: made(target, baseline, part.inputs, part.labels).loss


def _plain(target: nn.Module, baseline: nn.Module, part: Part) -> Tensor:
    def entropy(network: nn.Module) -> Tensor:
        return functional.cross_entropy(logits(network, part), part.labels)

    return entropy(target) + entropy(baseline)


def _penalty(arm: Arm, task: Task, ramp: int, seed: int) -> Loss | None:
    # It masks patches of feature maps.
    if task.name == "sentences":
        return None
    losses = []

    def both(target: nn.Module, baseline: nn.Module, part: Part) -> Tensor:
        for network in (target, baseline)[len(losses) :]:
            own = InteractionPenalty(variables=8, grid=4, module=network, seed=seed)
            own.set_lambda(arm.lambda_, ramp=ramp)
            losses.append(own)
        return sum(
            own(network.low, _head(network), part.inputs, part.labels).loss
            for own, network in zip(losses, (target, baseline), strict=True)
        )

    return both


def _head(network: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda hidden: network.classify(network.high(hidden))


def logits(network: nn.Module, part: Part) -> Tensor:
    """[P, K]."""
    inputs = part.inputs
    return network(**inputs) if isinstance(inputs, dict) else network(inputs)
