"""A training of digits at full speed for some seconds, with checkpoints; prints its batches.

As a JSON list, those of each second.

Started by `benches/colocated.py`, which gives both trainings the time at which they begin.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "pytorch"))
from train import BATCH, Trainer

import digits
from convergd import save_checkpoint


def main() -> None:
    """Train from `--start` on, for `--seconds`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--network", choices=["target", "baseline"], required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--start", type=float, required=True, help="seconds since 1970")
    parser.add_argument("--every", type=float, required=True, help="seconds between checkpoints")
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    trainer = Trainer(arguments.seed)
    trainer.epoch()
    if time.time() > arguments.start:
        sys.exit(f"{arguments.network} was not ready in time; the machine is too busy for a figure")
    time.sleep(arguments.start - time.time())
    batches, saved = [0] * math.ceil(arguments.seconds), 0
    while (passed := time.time() - arguments.start) < arguments.seconds:
        trainer.step(torch.randint(digits.TRAINING_SAMPLES, (BATCH,)))
        batches[int(passed)] += 1
        if passed >= (saved + 0.5) * arguments.every:
            saved += 1
            save_checkpoint(trainer.net, arguments.run / arguments.network, saved)
    print(json.dumps(batches))


if __name__ == "__main__":
    main()
