"""Train both networks in one process, with the interaction loss when the control file says so.

    python joint.py --run run --epochs 20

The loop that matters is `train`. Beside it runs `convergd`, which reads the checkpoints of both
under `run/target` and `run/baseline`; without it, training is plain to the end.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import digits
from convergd import Control, save_checkpoint
from convergd.torch import ImagePatches, InteractionLoss

BATCH = 32
NETWORKS = {"target": 11, "baseline": 22}
"""The networks and the seeds of their weights."""


def network(seed: int) -> digits.Net:
    """A network with weights of its own."""
    torch.manual_seed(seed)
    return digits.Net()


def train(run: Path, epochs: int) -> None:
    """Until told to stop or until the last epoch."""
    data = digits.load().training
    target, baseline = (network(seed) for seed in NETWORKS.values())
    optimizer = torch.optim.Adam([*target.parameters(), *baseline.parameters()], lr=1e-3)
    loss = InteractionLoss(split=digits.SPLIT, variables=ImagePatches(grid=4, select=8), seed=0)
    controls = [Control(run / "control", network=name) for name in NETWORKS]
    for epoch in range(1, epochs + 1):
        for batch in torch.randperm(len(data.labels)).split(BATCH):
            result = loss(target, baseline, data.inputs[batch], data.labels[batch])
            optimizer.zero_grad()
            result.loss.backward()
            optimizer.step()
        save_checkpoint(target, run / "target", epoch)
        save_checkpoint(baseline, run / "baseline", epoch)
        decision, _ = (control.poll(epoch) for control in controls)
        if decision.stop:
            break
        # The control file counts the ramp in epochs, the loss in batches.
        loss.set_lambda(decision.lambda_, ramp=decision.ramp * -(-len(data.labels) // BATCH))
        entropy = sum(one.item() for one in result.cross_entropy) / 2
        print(f"epoch {epoch:3d}  cross entropy {entropy:.3f}  lambda {result.lambda_:.2f}")
    for control in controls:
        control.done(epoch)


def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="directory of the run")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    if arguments.epochs < 1:
        parser.error("`--epochs` must be at least 1")
    torch.set_num_threads(1)
    train(arguments.run, arguments.epochs)


if __name__ == "__main__":
    main()
