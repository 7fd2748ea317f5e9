"""Fresh value tables for the benches: `python make_tables.py DIRECTORY`.

One file a number of variables n, `tables_n4.safetensors` to `tables_n14.safetensors`, with

- `values` float64 [B, 2^n]: v(S), index = bitmask of S, bit i = variable i; v(∅) not subtracted,
- `kind` int64 [B]: an index into `KINDS`.

`pairs_n10.safetensors` is a recorded run: `values` float64 [steps, 2, samples, 2^10] of two
trainings from different seeds at every third epoch, each sample with the same variables throughout.

A table of a network is the log-odds of the label with the absent variables set to zero at the
split layer, just as the sidecar computes it. Seeds are fixed, so every run makes the same tables.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples" / "pytorch"))

import digits

KINDS = ("digits early", "digits late", "random network", "planted game")
TABLES = {**dict.fromkeys(range(4, 12), 24), 12: 100, 13: 8, 14: 8}
"""Tables by n: a hundred at n = 12, so that one of them is a percent."""
GRID = 4
"""The 8×8 feature map is 4×4 patches; the n strongest are the variables, the others stay."""
EARLY_EPOCHS = 2
LATE_EPOCHS = 40
BATCH = 50
PAIR_SEEDS = (11, 22)
PAIR_EPOCHS = 12
PAIR_EVERY = 3
PAIR_SAMPLES = 20
PAIR_VARIABLES = 10
PLANTED_NOISE = 0.01
ROWS = 2048
"""Masked copies that go through the network at once."""

Table = NDArray[np.float64]


@dataclass(frozen=True)
class Networks:
    """The same training, early and late, and held-out samples."""

    early: digits.Net
    late: digits.Net
    probe: digits.Part


def epochs(net: digits.Net, part: digits.Part, seed: int) -> Iterator[None]:
    """Train epoch by epoch."""
    torch.manual_seed(seed)
    net.load_state_dict(digits.Net().state_dict())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    while True:
        for batch in torch.randperm(len(part.labels)).split(BATCH):
            loss = functional.cross_entropy(net(part.inputs[batch]), part.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        yield


def train() -> Networks:
    """Train once; keep a copy of the weights on the way."""
    data = digits.load(probe_samples=max(TABLES.values()))
    net, early = digits.Net(), digits.Net()
    for epoch, _ in enumerate(islice(epochs(net, data.training, seed=0), LATE_EPOCHS), 1):
        if epoch == EARLY_EPOCHS:
            early.load_state_dict(net.state_dict())
    return Networks(early.eval(), net.eval(), data.probe)


def record_pairs() -> Table:
    """The value tables of two trainings, [steps, 2, samples, 2^n]."""
    data = digits.load(probe_samples=PAIR_SAMPLES)
    random = np.random.default_rng(0)
    chosen = [
        torch.from_numpy(np.sort(random.permutation(GRID * GRID)[:PAIR_VARIABLES]))
        for _ in range(PAIR_SAMPLES)
    ]
    runs = []
    for seed in PAIR_SEEDS:
        net = digits.Net()
        training = islice(epochs(net, data.training, seed), PAIR_EPOCHS)
        runs.append(
            [
                [
                    masked(net, data.probe.inputs[i], int(data.probe.labels[i]), chosen[i])
                    for i in range(PAIR_SAMPLES)
                ]
                for epoch, _ in enumerate(training, 1)
                if epoch % PAIR_EVERY == 0
            ]
        )
    return np.array(runs).swapaxes(0, 1)


def subsets(n: int) -> NDArray[np.bool_]:
    """Row S says which variables are present."""
    return (np.arange(1 << n)[:, None] >> np.arange(n) & 1).astype(bool)


def log_odds(logits: Tensor, label: int) -> Table:
    """log p / (1 - p) of the label, from the logits."""
    logits = logits.double()
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
    return (logits[:, label] - others.logsumexp(1)).numpy()


@torch.no_grad()
def of_digits(net: digits.Net, image: Tensor, label: int, n: int) -> Table:
    """The table of one image over its n strongest patches."""
    hidden = net.low(image[None])
    strength = functional.avg_pool2d(hidden.abs().sum(1, keepdim=True), 8 // GRID).flatten()
    chosen = strength.argsort(descending=True, stable=True)[:n].sort().values
    return masked(net, image, label, chosen)


@torch.no_grad()
def masked(net: digits.Net, image: Tensor, label: int, chosen: Tensor) -> Table:
    """The table of one image over the chosen patches."""
    hidden = net.low(image[None])
    n = len(chosen)
    present = torch.ones(1 << n, GRID * GRID)
    present[:, chosen] = torch.from_numpy(subsets(n)).float()
    tables = []
    for rows in present.split(ROWS):
        mask = functional.interpolate(rows.view(-1, 1, GRID, GRID), scale_factor=8 // GRID)
        tables.append(log_odds(net.head(hidden * mask), label))
    return np.concatenate(tables)


def of_random_network(random: Generator, n: int) -> Table:
    """One output of a network of two hidden layers with random weights and a random input."""
    hidden = subsets(n) * random.normal(size=n)
    for width in (32, 32):
        weights = random.normal(size=(hidden.shape[1], width)) * np.sqrt(2 / hidden.shape[1])
        hidden = np.maximum(hidden @ weights + 0.1 * random.normal(size=width), 0)
    return 2 * hidden @ random.normal(size=hidden.shape[1]) / np.sqrt(hidden.shape[1])


def planted_game(random: Generator, n: int) -> Table:
    """2n AND effects of order 1 to 4 and OR effects of order 3 or 4, with noise."""
    present = subsets(n)
    values = np.zeros(1 << n)
    for term in range(2 * n):
        orders = (1, 5) if term % 2 == 0 else (3, 5)
        members = random.choice(n, size=random.integers(*orders), replace=False)
        triggered = present[:, members]
        triggered = triggered.all(1) if term % 2 == 0 else triggered.any(1)
        values += random.choice([-1, 1]) * random.uniform(0.3, 2.0) * triggered
    return values + PLANTED_NOISE * random.normal(size=1 << n)


def make(networks: Networks, kind: int, sample: int, n: int) -> Table:
    """The table of that kind and number."""
    random = np.random.default_rng([kind, sample, n])
    image, label = networks.probe.inputs[sample], int(networks.probe.labels[sample])
    if kind == 0:
        return of_digits(networks.early, image, label, n)
    if kind == 1:
        return of_digits(networks.late, image, label, n)
    return of_random_network(random, n) if kind == 2 else planted_game(random, n)


def main() -> None:
    """Write all files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    networks = train()
    for n, count in TABLES.items():
        kinds = [index % len(KINDS) for index in range(count)]
        tables = [make(networks, kind, sample, n) for sample, kind in enumerate(kinds)]
        save_file(
            {"values": np.stack(tables), "kind": np.array(kinds)},
            directory / f"tables_n{n}.safetensors",
        )
    save_file({"values": record_pairs()}, directory / f"pairs_n{PAIR_VARIABLES}.safetensors")
    print(f"wrote {sum(TABLES.values())} value tables to {directory}")


if __name__ == "__main__":
    main()
