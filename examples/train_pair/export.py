"""Write the code of a network of `train_pair` for convergd, and the digits as IDX files.

    python export.py --run run --architecture small --channels 1 --side 8 [--digits data]
    python export.py --run run --architecture bert-tiny --length 32

The networks here have the layers and names of those in Rust, whose checkpoints so fit them.
Encoders are Hugging Face's.
`--digits` writes scikit-learn's digits (1,797 real 8×8 images): 1,000 to train on, the others held
out.
"""

from __future__ import annotations

import argparse
import struct
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from convergd import embedding_split, export_program

CLASSES = 10
TRAINING = 1000
VGG = {"vgg11": [1, 1, 2, 2, 2], "vgg13": [2, 2, 2, 2, 2], "vgg16": [2, 2, 3, 3, 3]}
RESNET = {"resnet20": 3, "resnet32": 5}
BERT = {"bert-tiny": (2, 128, 2), "bert-medium": (8, 512, 8), "bert-base": (12, 768, 12)}
"""Layers, width and heads."""
ALEXNET_SIDE = 224
"""The side that AlexNet's images are enlarged to."""


NAMES = ["small", *VGG, *RESNET, "alexnet", *BERT]


class Small(nn.Module):
    """Three convolutions and two linear layers."""

    split = "low"

    def __init__(self, channels: int, side: int, width: int = 16) -> None:
        super().__init__()
        self.low = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.high = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * ((side + 1) // 2) ** 2, 64),
            nn.ReLU(),
        )
        self.classify = nn.Linear(64, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] to logits [B, 10]."""
        return self.classify(self.high(self.low(images)))


class Vgg(nn.Module):
    """VGG with batch normalisation and one linear layer."""

    split = "features.2"

    def __init__(self, blocks: list[int], channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, count in zip([64, 128, 256, 512, 512], blocks, strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width)]
                layers += [nn.ReLU()]
                channels = width
            layers += [nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] to logits [B, 10]."""
        hidden = functional.adaptive_avg_pool2d(self.features(images), 1)
        return self.classifier(hidden.flatten(1))


class Block(nn.Module):
    """Two convolutions beside a shortcut without parameters."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride = stride
        self.new = width - channels

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, width, H / stride, W / stride]."""
        hidden = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        half = self.new // 2
        shortcut = functional.pad(shortcut, (0, 0, 0, 0, half, self.new - half))
        return (hidden + shortcut).relu()


class ResNet(nn.Module):
    """ResNet in its form for CIFAR, 6n + 2 layers."""

    split = "stem"

    def __init__(self, blocks: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        # Has no weights, so that the split has a name.
        self.stem = nn.ReLU()
        channels = 16
        for stage, width in enumerate([16, 32, 64], 1):
            layers = []
            for index in range(blocks):
                layers.append(Block(channels, width, 2 if index == 0 and stage > 1 else 1))
                channels = width
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
        self.fc = nn.Linear(channels, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] to logits [B, 10]."""
        hidden = self.stem(self.bn1(self.conv1(images)))
        hidden = self.layer3(self.layer2(self.layer1(hidden)))
        return self.fc(functional.adaptive_avg_pool2d(hidden, 1).flatten(1))


class AlexNet(nn.Module):
    """AlexNet in the form of torchvision."""

    split = "features.2"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(256 * 36, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, CLASSES),
        )

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] to logits [B, 10]."""
        images = functional.interpolate(images, size=ALEXNET_SIDE, mode="bilinear")
        hidden = functional.adaptive_avg_pool2d(self.features(images), 6)
        return self.classifier(hidden.flatten(1))


def encoder(architecture: str) -> nn.Module:
    """An encoder with a classifier, which takes ids [B, L]."""
    from transformers import BertConfig, BertForSequenceClassification

    layers, width, heads = BERT[architecture]
    config = BertConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        num_labels=CLASSES,
    )
    net = BertForSequenceClassification(config)
    net.split = embedding_split(net)
    return net


def build(architecture: str, channels: int, side: int) -> nn.Module:
    """A network by its name; it says where it is split."""
    if architecture in BERT:
        return encoder(architecture)
    if architecture == "alexnet":
        return AlexNet(channels)
    if architecture in VGG:
        return Vgg(VGG[architecture], channels)
    if architecture in RESNET:
        return ResNet(RESNET[architecture], channels)
    return Small(channels, side)


def write_idx(path: Path, array: Tensor) -> None:
    """Bytes with their dimensions before them."""
    head = struct.pack(f">BBBB{array.dim()}I", 0, 0, 8, array.dim(), *array.shape)
    path.write_bytes(head + array.to(torch.uint8).numpy().tobytes())


def write_digits(directory: Path) -> None:
    """Write scikit-learn's digits in an order of their own."""
    from sklearn.datasets import load_digits

    images, labels = (torch.tensor(array) for array in load_digits(return_X_y=True))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(20))
    images = (images[order] * 255 / 16).round().view(-1, 8, 8)
    labels = labels[order]
    directory.mkdir(parents=True, exist_ok=True)
    for part, rows in (("train", slice(0, TRAINING)), ("t10k", slice(TRAINING, None))):
        write_idx(directory / f"{part}-images-idx3-ubyte", images[rows])
        write_idx(directory / f"{part}-labels-idx1-ubyte", labels[rows])


def main() -> None:
    """Write `program.ts`, and the digits if they are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="directory of the run")
    parser.add_argument("--architecture", choices=NAMES, default="small")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--side", type=int, default=8, help="pixels a side")
    parser.add_argument("--length", type=int, default=32, help="ids of a text")
    parser.add_argument("--digits", type=Path, help="directory for the digits")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.run.mkdir(parents=True, exist_ok=True)
    if arguments.digits:
        write_digits(arguments.digits)
    net = build(arguments.architecture, arguments.channels, arguments.side)
    samples = torch.rand(4, arguments.channels, arguments.side, arguments.side)
    if arguments.architecture in BERT:
        samples = torch.randint(1, net.config.vocab_size, (4, arguments.length))
    path = export_program(net, samples, split=net.split, path=arguments.run / "program.ts")
    print(f"wrote {path}, split at `{net.split}`")


if __name__ == "__main__":
    main()
