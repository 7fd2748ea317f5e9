"""Write the networks of the forward bench: a program and a probe with variables for each.

    python benches/make_networks.py DIRECTORY [TIMES]

`digits` is the demo's kind of network, `resnet` a residual network of ResNet-18's depth on small
images, split after its first stage; `bert` and `llama` are Hugging Face's code with random weights.
TIMES as many samples are for a GPU, which would hardly begin with the few for a CPU.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from convergd import embedding_split, export_program, make_probe

os.environ["HF_HUB_OFFLINE"] = "1"

LENGTH = 16
WORDS = 2000
TEXT = {
    "vocab_size": WORDS,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}


class Digits(nn.Module):
    """Images [B, 1, 8, 8] to logits [B, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.high = nn.Sequential(
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        """All the way."""
        return self.high(self.low(images))


class Block(nn.Module):
    """Two convolutions with a skip connection around them."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, out, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(out)
        self.second = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(out)
        self.skip = nn.Identity()
        if stride > 1 or width != out:
            skip = nn.Conv2d(width, out, 1, stride=stride, bias=False)
            self.skip = nn.Sequential(skip, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, H, W] -> [B, out, H / stride, W / stride]."""
        h = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(h)) + self.skip(x))


class Residual(nn.Module):
    """Images [B, 3, 32, 32] to logits [B, 10]: four stages of two blocks, 32 to 256 wide."""

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32))
        self.low = nn.Sequential(stem, nn.ReLU(), Block(32, 32, 1), Block(32, 32, 1))
        stages = [
            nn.Sequential(Block(width, 2 * width, 2), Block(2 * width, 2 * width, 1))
            for width in (32, 64, 128)
        ]
        self.high = nn.Sequential(
            *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10)
        )

    def forward(self, images: Tensor) -> Tensor:
        """All the way."""
        return self.high(self.low(images))


def make_model(name: str) -> nn.Module:
    """A network with random weights, the same ones each time."""
    torch.manual_seed(0)
    if name == "digits":
        return Digits().eval()
    if name == "resnet":
        return Residual().eval()
    import transformers

    if name == "bert":
        config = transformers.BertConfig(**TEXT, num_labels=2)
        return transformers.BertForSequenceClassification(config).eval()
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**TEXT)).eval()


def patches(side: int, grid: int, samples: int) -> Tensor:
    """A variable for each patch of a feature map, [P, positions]."""
    at = torch.arange(side) * grid // side
    return (at[:, None] * grid + at[None]).flatten().expand(samples, -1)


def write(name: str, directory: Path, times: int) -> None:
    """One network: 2^n masked inputs of each sample."""
    model = make_model(name)
    generator = torch.Generator().manual_seed(1)
    # (samples, variables): enough rows for a stable time, few enough for a short one.
    samples, variables = {"digits": (40, 8), "resnet": (3, 9)}.get(name, (16, 8))
    samples *= times
    labels = torch.zeros(samples, dtype=torch.int64)
    if name in ("digits", "resnet"):
        side = {"digits": 8, "resnet": 32}[name]
        channels = {"digits": 1, "resnet": 3}[name]
        inputs = torch.rand(samples, channels, side, side, generator=generator)
        own = patches(side, 3, samples)
        own = torch.where(own < variables, own, -1)
        export_program(model, inputs, split="low", path=directory / name / "program.ts")
    else:
        ids = torch.randint(1, WORDS, (samples, LENGTH), generator=generator)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        own = torch.full_like(ids, -1)
        own[:, 2 : 2 + variables] = torch.arange(variables)
        export_program(
            model,
            inputs,
            split=embedding_split(model),
            path=directory / name / "program.ts",
            next_token=name == "llama",
        )
    make_probe(directory / name / "probe.safetensors", inputs, labels, variables=own)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for network in ("digits", "resnet", "bert", "llama"):
        write(network, Path(sys.argv[1]), int((sys.argv[2:] or ["1"])[0]))
