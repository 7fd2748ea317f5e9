"""The tasks of the experiments: real data, few and partly mislabelled, and small networks.

Each is learned within some epochs and then memorised, so that its test loss has a minimum.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from convergd.torch import ImagePatches, Tokens

sys.path.insert(0, str(Path(__file__).parents[1]))
import digits

Inputs = Tensor | dict[str, Tensor]
LABEL_NOISE = 0.2
PROBE_SAMPLES = 40
_DATA_SEED = 20
FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where the Debian package `dataset-fashion-mnist` has it."""


@dataclass(frozen=True)
class Part:
    """Some samples and their labels, int64 [P]."""

    inputs: Inputs
    labels: Tensor

    def __len__(self) -> int:
        """P."""
        return len(self.labels)

    def rows(self, index: Tensor | slice) -> Part:
        """Some of them."""
        if isinstance(self.inputs, Tensor):
            return Part(self.inputs[index], self.labels[index])
        return Part({name: own[index] for name, own in self.inputs.items()}, self.labels[index])


@dataclass(frozen=True)
class Task:
    """What is learned, by what, and how it is masked."""

    name: str
    training: Part
    probe: Part
    test: Part
    network: Callable[[], nn.Module]
    split: str
    """Submodule whose output is masked."""
    late: str
    """Submodule whose output Eq. 12 compares."""
    variables: ImagePatches | Tokens
    """Of the loss."""
    probe_variables: str
    """Of the sidecar, as YAML."""
    baseline: str
    """What replaces an absent variable."""
    epochs: int
    batch: int = 32
    rate: float = 1e-3
    """Learning rate of Adam."""


def load(name: str, sentences: Path | None) -> Task | str:
    """A task, or why it cannot be had."""
    if name == "digits":
        return _digits()
    if name == "fashion":
        if not FASHION.is_dir():
            return f"{FASHION} is not there: apt install dataset-fashion-mnist"
        return _fashion()
    if sentences is None or not sentences.is_file():
        return "no sentences are given: `make experiments` fetches them"
    return _text(sentences)


def _digits() -> Task:
    data = digits.load(PROBE_SAMPLES)
    training, probe, test = (
        Part(part.inputs, part.labels) for part in (data.training, data.probe, data.test)
    )
    return Task(
        name="digits",
        training=training,
        probe=probe,
        test=test,
        network=digits.Net,
        split="low",
        late="high",
        variables=ImagePatches(grid=4, select=8),
        probe_variables="{image_patches: {grid: 4, margin: 0, select: 8}}",
        baseline="zero",
        epochs=40,
    )


class FashionNet(nn.Module):
    """28×28 images to 10 logits; without normalisation, which would hold memorising down."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Sequential(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU())
        self.high = nn.Sequential(
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 16, 64),
            nn.ReLU(),
        )
        self.classify = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 1, 28, 28] to logits [B, 10]."""
        return self.classify(self.high(self.low(images)))


def _idx(path: Path) -> np.ndarray:
    """An IDX file of bytes."""
    data = gzip.decompress(path.read_bytes())
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _fashion() -> Task:
    images, labels = (
        _idx(FASHION / f"train-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1")
    )
    samples = 1000 + PROBE_SAMPLES + 2000
    order = np.random.default_rng(_DATA_SEED).permutation(len(labels))[:samples]
    inputs = torch.tensor(images[order][:, None] / 255.0, dtype=torch.float32)
    training, probe, test = _split(inputs, torch.tensor(labels[order].astype(np.int64)), 1000, 10)
    return Task(
        name="fashion",
        training=training,
        probe=probe,
        test=test,
        network=FashionNet,
        split="low",
        late="high",
        variables=ImagePatches(grid=4, select=8),
        probe_variables="{image_patches: {grid: 4, margin: 0, select: 8}}",
        baseline="zero",
        epochs=30,
    )


LENGTH = 24
"""Tokens of a sentence at most."""
VARIABLES = 8
PAD, UNKNOWN = 0, 1


class TextNet(nn.Module):
    """Token ids to two logits: embeddings, a convolution over three tokens, the largest of each."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, 32)
        self.high = nn.Sequential(nn.Conv1d(32, 64, 3, padding=1), nn.ReLU())
        self.late = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
        self.classify = nn.Linear(32, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids [B, L] and 1 where a token is, [B, L], to logits [B, 2]."""
        mask = attention_mask.to(torch.float32)
        hidden = self.embed(input_ids) * mask.unsqueeze(2)
        hidden = self.high(hidden.transpose(1, 2)) * mask.unsqueeze(1)
        return self.classify(self.late(hidden.amax(2)))


def _text(path: Path) -> Task:
    ratings, texts = [], []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        _, rating, text = line.split("\t", 2)
        words = re.findall(r"[a-z']+", text.lower())[:LENGTH]
        if float(rating) != 0.0 and len(words) >= VARIABLES:
            ratings.append(int(float(rating) > 0.0))
            texts.append(words)
    order = np.random.default_rng(_DATA_SEED).permutation(len(texts))[: 2000 + PROBE_SAMPLES + 2000]
    counts = Counter(word for index in order[:2000] for word in texts[index])
    known = [word for word, count in counts.most_common() if count > 1]
    number = {word: index + 2 for index, word in enumerate(known)}
    ids = torch.full((len(order), LENGTH), PAD)
    for row, index in enumerate(order):
        own = [number.get(word, UNKNOWN) for word in texts[index]]
        ids[row, : len(own)] = torch.tensor(own)
    inputs = {"input_ids": ids, "attention_mask": (ids != PAD).long()}
    labels = torch.tensor([ratings[index] for index in order])
    training, probe, test = _split(inputs, labels, 2000, 2)
    return Task(
        name="sentences",
        training=training,
        probe=probe,
        test=test,
        network=lambda: TextNet(len(known) + 2),
        split="embed",
        late="late",
        variables=Tokens(VARIABLES, exclude_ids=[PAD]),
        probe_variables=f"{{tokens: {{select: {VARIABLES}, exclude_ids: [{PAD}]}}}}",
        baseline="zero",
        epochs=20,
    )


def _split(inputs: Inputs, labels: Tensor, count: int, classes: int) -> tuple[Part, Part, Part]:
    """The first `count` with some labels wrong, then the probe, then the test part."""
    random = np.random.default_rng(_DATA_SEED + 1)
    wrong = torch.tensor(random.random(count) < LABEL_NOISE)
    shift = torch.tensor(random.integers(1, classes, count))
    all_ = Part(inputs, labels)
    training = all_.rows(slice(0, count))
    noisy = torch.where(wrong, (training.labels + shift) % classes, training.labels)
    probe = slice(count, count + PROBE_SAMPLES)
    rest = slice(count + PROBE_SAMPLES, None)
    return Part(training.inputs, noisy), all_.rows(probe), all_.rows(rest)
