"""A training loop for convergd in ten lines; with `--network baseline` it is the other training.

    python plain_loop.py --run run --network target --seed 11

`prepare.py` writes what the sidecar needs before. For a λ that follows the control file see
`train.py`, with both networks in one process `joint.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import digits
from convergd import Control, save_checkpoint


def train(net: nn.Module, data: digits.Part, run: Path, network: str, epochs: int) -> int:
    """Until told to stop or until the last epoch, which is returned."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    control = Control(run / "control", network=network)
    for epoch in range(1, epochs + 1):
        for batch in torch.randperm(len(data.labels)).split(32):
            optimizer.zero_grad()
            cross_entropy(net(data.inputs[batch]), data.labels[batch]).backward()
            optimizer.step()
        save_checkpoint(net, run / network, epoch)
        if control.poll(epoch).stop:
            break
    control.done()

    return epoch


def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="directory of the run")
    parser.add_argument("--network", choices=["target", "baseline"], default="target")
    parser.add_argument("--seed", type=int, default=11, help="of the weights and the batches")
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    if arguments.epochs < 1:
        parser.error("`--epochs` must be at least 1")
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    data = digits.load().training
    epoch = train(digits.Net(), data, arguments.run, arguments.network, arguments.epochs)
    print(f"ended after epoch {epoch}")


if __name__ == "__main__":
    main()
