"""What a step of each loss costs, as a multiple of plain training of both networks.

    PYTHONPATH=python python benches/loss.py [--rounds 40] [--batch 64] [--device cpu]

One process, one thread. A step is forward, backward and the optimiser's step of both networks on
one batch. In each round all losses take one step each, in turn, and each is divided by the plain
step of its round; printed are the medians over the rounds of these ratios, by the clock and by
the processor time of the process, which other programs on the machine disturb less. On a GPU a step
is over when the GPU has done it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional

from convergd.torch import (
    Columns,
    FeatureConsistencyLoss,
    ImagePatches,
    InteractionLoss,
    Network,
    OutputConsistencyLoss,
    Variables,
)

LAMBDA = 0.5
WARM_UP = 3
"""Rounds that are not counted: memory is new in them."""

Step = Callable[[Tensor, Tensor], Tensor]


def cnn(seed: int) -> nn.Module:
    """Four convolutions on 32×32 colour images; masked after the first."""
    torch.manual_seed(seed)

    def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        nn.Sequential(*block(3, 16, 1)),
        *block(16, 32, 2),
        *block(32, 32, 1),
        *block(32, 64, 2),
        nn.Flatten(),
        nn.Linear(64 * 64, 10),
    )


def mlp(seed: int) -> nn.Module:
    """Three layers of 512 on 256 columns, without dropout; masked at the input."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs in (256, 512, 512):
        layers += [nn.Linear(inputs, 512), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(512, 10))


def losses(
    networks: tuple[nn.Module, nn.Module], split: str | None, variables: Variables, layer: str
) -> dict[str, Step]:
    """The scalar loss of both networks by each loss's name."""

    def plain(inputs: Tensor, labels: Tensor) -> Tensor:
        first, second = (functional.cross_entropy(one(inputs), labels) for one in networks)
        return first + second

    def consistency(loss: OutputConsistencyLoss | FeatureConsistencyLoss) -> Step:
        return lambda inputs, labels: loss(*networks, inputs, labels).loss

    def interaction(
        lambda_: float,
        fraction: float = 1.0,
        split: str | None = split,
        one_pass: bool | None = None,
    ) -> Step:
        first, second = (Network(one, split, one_pass=one_pass) for one in networks)
        loss = InteractionLoss(lambda_, variables=variables, fraction=fraction, seed=0)
        return lambda inputs, labels: loss(first, second, inputs, labels).loss

    steps = {
        "plain": plain,
        "Eq. 9": interaction(LAMBDA),
        "Eq. 9, fraction 0.25": interaction(LAMBDA, 0.25),
        "Eq. 9, λ = 0": interaction(0.0),
        "Eq. 11": consistency(OutputConsistencyLoss(LAMBDA)),
        "Eq. 12": consistency(FeatureConsistencyLoss(LAMBDA, split=layer)),
    }
    if split is not None:
        return steps | {
            "Eq. 9 at the input": interaction(LAMBDA, split=None),
            "Eq. 9 at the input, fraction 0.25": interaction(LAMBDA, 0.25, split=None),
        }
    return steps | {
        "Eq. 9, two passes": interaction(LAMBDA, one_pass=False),
        "Eq. 9, two passes, fraction 0.25": interaction(LAMBDA, 0.25, one_pass=False),
    }


def seconds(
    step: Step, optimizers: list[torch.optim.Optimizer], batch: tuple[Tensor, Tensor]
) -> tuple[float, float]:
    """By the clock, and of the processor, for one step."""
    clock, processor = time.perf_counter(), time.process_time()
    for optimizer in optimizers:
        optimizer.zero_grad()
    step(*batch).backward()
    for optimizer in optimizers:
        optimizer.step()
    if batch[0].is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - clock, time.process_time() - processor


def measure(name: str, make: Callable[[int], nn.Module], batch: int, rounds: int) -> None:
    """Print a line for each loss."""
    networks = make(1), make(2)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9) for network in networks
    ]
    image = make is cnn
    variables: Variables = ImagePatches(grid=4, select=8) if image else Columns(8)
    steps = losses(networks, "0" if image else None, variables, "3" if image else "2")
    inputs = torch.randn(batch, 3, 32, 32) if image else torch.randn(batch, 256)
    labels = torch.randint(10, (batch,))
    taken: dict[str, list[tuple[float, float]]] = {key: [] for key in steps}
    for _ in range(WARM_UP + rounds):
        for key, step in steps.items():
            taken[key].append(seconds(step, optimizers, (inputs, labels)))
    plain = taken["plain"][WARM_UP:]
    for key, all_rounds in taken.items():
        counted = all_rounds[WARM_UP:]
        clock, processor = (
            median(one[kind] / other[kind] for one, other in zip(counted, plain, strict=True))
            for kind in (0, 1)
        )
        milliseconds = 1e3 * median(one for _, one in counted)
        print(
            f"| {name} | {key} | {milliseconds:.1f} | {clock:.2f} | {processor:.2f} |", flush=True
        )


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_device(arguments.device)
    print("| network | loss | ms of processor | to plain, clock | to plain, processor |")
    print("|---|---|---|---|---|")
    for name, make in (("CNN", cnn), ("MLP", mlp)):
        measure(name, make, arguments.batch, arguments.rounds)


if __name__ == "__main__":
    main()
