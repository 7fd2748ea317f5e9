"""What a network is called with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

Inputs: TypeAlias = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""A tensor, several, or several by name (what a tokenizer gives); the batch is first in each."""


@dataclass(frozen=True)
class Batch:
    """The inputs of B samples; the first tensor is what is masked if the split is at the input."""

    tensors: tuple[Tensor, ...]
    names: tuple[str, ...] | None = None
    """Names by which the network is called; None if by position."""

    @classmethod
    def of(cls, inputs: Inputs) -> Batch:
        """The inputs in one form.

        Raises:
            ValueError: if there are none, or their numbers of samples differ.
        """
        if isinstance(inputs, Tensor):
            batch = cls((inputs,))
        elif isinstance(inputs, Mapping):
            batch = cls(tuple(inputs.values()), tuple(inputs))
        else:
            batch = cls(tuple(inputs))
        if len({len(tensor) for tensor in batch.tensors}) != 1:
            sizes = [tuple(tensor.shape) for tensor in batch.tensors]
            raise ValueError(f"`inputs` must be tensors with the same batch first, got {sizes}")
        return batch

    def __len__(self) -> int:
        """The number of samples B."""
        return len(self.tensors[0])

    @property
    def first(self) -> Tensor:
        """The tensor that is masked if the split is at the input."""
        return self.tensors[0]

    def named(self, name: str) -> Tensor | None:
        """The tensor of a name, None if there is none."""
        return dict(zip(self.names or (), self.tensors, strict=False)).get(name)

    def rows(self, index: Tensor) -> Batch:
        """Some of the samples."""
        return Batch(tuple(t[index.to(t.device)] for t in self.tensors), self.names)

    def copies(self, count: int) -> Batch:
        """All samples, `count` times one after another."""
        repeated = (t.expand(count, *t.shape).flatten(0, 1) for t in self.tensors)
        return Batch(tuple(repeated), self.names)

    def joined(self, other: Batch) -> Batch:
        """These samples and then others."""
        pairs = zip(self.tensors, other.tensors, strict=True)
        return Batch(tuple(torch.cat(pair) for pair in pairs), self.names)

    def with_first(self, first: Tensor) -> Batch:
        """The same with another first tensor."""
        return Batch((first, *self.tensors[1:]), self.names)

    def run(self, model: nn.Module) -> object:
        """The output of a network."""
        if self.names is None:
            return model(*self.tensors)
        return model(**dict(zip(self.names, self.tensors, strict=True)))
