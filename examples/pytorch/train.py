"""Train one of the two networks, writing checkpoints and obeying the control file.

    python train.py --run run --network target --seed 11 &
    python train.py --run run --network baseline --seed 22

An epoch of this small task takes a fraction of a second. To stand in for a bigger job, an epoch
is padded by sleeping to `--min-epoch-seconds`; 0 trains at full speed.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

import digits
from convergd import Control, Decision, InteractionPenalty, save_checkpoint

BATCH = 32
LEARNING_RATE = 1e-3
REGULARIZED = "regularized"
"""The phase in which the interaction penalty is part of the loss."""


class Trainer:
    """One network, its optimiser and its loss."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.data = digits.load()
        self.net = digits.Net()
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=LEARNING_RATE)
        self.penalty = InteractionPenalty(module=self.net, seed=seed)

    def obey(self, decision: Decision) -> None:
        """Set λ as told; the control file counts the ramp in epochs, the loss in batches."""
        batches = -(-digits.TRAINING_SAMPLES // BATCH)
        lambda_ = decision.lambda_ if decision.phase == REGULARIZED else 0.0
        self.penalty.set_lambda(lambda_, ramp=decision.ramp * batches)

    def epoch(self) -> float:
        """Train one epoch; the mean cross entropy of its batches."""
        self.net.train()
        batches = torch.randperm(digits.TRAINING_SAMPLES).split(BATCH)
        return sum(self.step(batch) for batch in batches) / len(batches)

    def step(self, batch: Tensor) -> float:
        """Train on the samples of the training part with these indices."""
        inputs, labels = self.data.training.inputs[batch], self.data.training.labels[batch]
        result = self.penalty(self.net.low, self.net.head, inputs, labels)
        self.optimizer.zero_grad()
        result.loss.backward()
        self.optimizer.step()
        return result.cross_entropy.item()


def train(arguments: argparse.Namespace) -> str:
    """Train until told to stop or until the last epoch; why it ended."""
    trainer = Trainer(arguments.seed)
    control = Control(arguments.run / "control", network=arguments.network)
    control.directory.mkdir(parents=True, exist_ok=True)
    directory = arguments.run / arguments.network
    reason = f"all {arguments.epochs} epochs done"
    for epoch in range(1, arguments.epochs + 1):
        started = time.monotonic()
        train_loss = trainer.epoch()
        save_checkpoint(trainer.net, directory, epoch)
        report(directory, epoch, train_loss, trainer)
        time.sleep(max(0.0, started + arguments.min_epoch_seconds - time.monotonic()))
        before, decision = control.decision, control.poll(epoch)
        if decision.stop:
            reason = f"told to stop: {decision.reason or 'no reason given'}"
            break
        if decision.phase != before.phase:
            print(f"phase {decision.phase}, lambda {decision.lambda_}: {decision.reason}")
        trainer.obey(decision)
    control.done(epoch)
    return f"ended after epoch {epoch}: {reason}"


def report(directory: Path, epoch: int, train_loss: float, trainer: Trainer) -> None:
    """Print one line and append the same numbers to `log.jsonl`."""
    test_loss, accuracy = digits.evaluate(trainer.net, trainer.data.test)
    lambda_ = trainer.penalty.lambda_
    print(
        f"epoch {epoch:3d}  train loss {train_loss:.3f}  test loss {test_loss:.3f}  "
        f"test accuracy {accuracy:.3f}" + (f"  lambda {lambda_:.2f}" if lambda_ else ""),
        flush=True,
    )
    line = {
        "step": epoch,
        "train_loss": train_loss,
        "test_loss": test_loss,
        "test_accuracy": accuracy,
        "lambda": lambda_,
    }
    with open(directory / "log.jsonl", "a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="directory of the run")
    parser.add_argument("--network", choices=["target", "baseline"], required=True)
    parser.add_argument("--seed", type=int, required=True, help="of the weights and the batches")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--min-epoch-seconds", type=float, default=1.0, help="0 = full speed")
    arguments = parser.parse_args()
    if arguments.epochs < 1:
        parser.error("`--epochs` must be at least 1")
    # The first process of a container, which no signal ends by itself, ends by it too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    torch.set_num_threads(1)
    print(train(arguments), flush=True)


if __name__ == "__main__":
    main()
