"""The task that the PyTorch examples share: handwritten digits, few and partly mislabelled.

scikit-learn's digits (1,797 real 8×8 images, part of the package) are permuted once and split
into a small training part, in which 20 % of the labels are replaced by wrong ones, a held-out
probe and a test part with clean labels. A network of this size learns the digits within a few
epochs and then the wrong labels one by one, so its test loss has a minimum and rises after it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

TRAINING_SAMPLES = 500
PROBE_SAMPLES = 60
LABEL_NOISE = 0.2
CLASSES = 10
SPLIT = "low"
"""Submodule of `Net` at whose output the sidecar masks."""

# The same data for both networks and for every run; only the networks' own seeds differ.
_DATA_SEED = 20


@dataclass(frozen=True)
class Part:
    """Some samples: inputs float32 [P, 1, 8, 8] within 0 and 1, labels int64 [P]."""

    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Digits:
    """The three parts; only the labels of `training` are noisy."""

    training: Part
    probe: Part
    test: Part


def load(probe_samples: int = PROBE_SAMPLES) -> Digits:
    """Split the digits; the training part does not depend on the size of the probe."""
    images, labels = load_digits(return_X_y=True)
    random = np.random.default_rng(_DATA_SEED)
    order = random.permutation(len(labels))
    inputs = torch.tensor(images[order].reshape(-1, 1, 8, 8) / 16.0, dtype=torch.float32)
    clean = torch.tensor(labels[order], dtype=torch.int64)
    wrong = torch.tensor(random.random(TRAINING_SAMPLES) < LABEL_NOISE)
    shift = torch.tensor(random.integers(1, CLASSES, TRAINING_SAMPLES))
    noisy = torch.where(
        wrong, (clean[:TRAINING_SAMPLES] + shift) % CLASSES, clean[:TRAINING_SAMPLES]
    )
    probe = slice(TRAINING_SAMPLES, TRAINING_SAMPLES + probe_samples)
    test = slice(TRAINING_SAMPLES + probe_samples, None)
    return Digits(
        training=Part(inputs[:TRAINING_SAMPLES], noisy),
        probe=Part(inputs[probe], clean[probe]),
        test=Part(inputs[test], clean[test]),
    )


class Net(nn.Module):
    """A small convolutional network; 8×8 images to 10 logits.

    Batch normalisation is in the first two blocks only: in all of them it would hold the
    memorising down, and the test loss would hardly rise again.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.low = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.high = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 16, 64),
            nn.ReLU(),
        )
        self.classify = nn.Linear(64, CLASSES)

    def head(self, hidden: Tensor) -> Tensor:
        """From the split, [B, width, 8, 8], to the logits [B, 10]."""
        return self.classify(self.high(hidden))

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 1, 8, 8] to logits [B, 10]."""
        return self.head(self.low(images))


@torch.no_grad()
def evaluate(net: Net, part: Part) -> tuple[float, float]:
    """Mean cross entropy in nats and accuracy, in eval mode; the mode is restored."""
    training = net.training
    net.eval()
    logits = net(part.inputs)
    net.train(training)
    loss = functional.cross_entropy(logits, part.labels).item()
    return loss, (logits.argmax(1) == part.labels).float().mean().item()
