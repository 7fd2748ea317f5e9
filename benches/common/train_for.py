"""A training of digits at full speed for some seconds, with a checkpoint now and then; prints its batches.

Started by `benches/colocated.py`, which gives both trainings the time at which they begin.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "pytorch"))
import digits
from train import BATCH, Trainer

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
    time.sleep(max(0.0, arguments.start - time.time()))
    batches, saved = 0, 0
    while (passed := time.time() - arguments.start) < arguments.seconds:
        trainer.step(torch.randint(digits.TRAINING_SAMPLES, (BATCH,)))
        batches += 1
        if passed >= (saved + 0.5) * arguments.every:
            saved += 1
            save_checkpoint(trainer.net, arguments.run / arguments.network, saved)
    print(batches)


if __name__ == "__main__":
    main()
