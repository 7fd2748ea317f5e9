"""A network in two parts: up to the split, where features are masked, and from there on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .batch import Batch
from .frozen import first_of_training, frozen, is_always_the_same


class Network:
    """A network with its split. It holds no copy: training the module trains this.

    Args:
        module: the network; its output is logits [B, K], or has them as its attribute `logits`.
        split: where features are masked. The name of a submodule that runs once in a forward
            pass, and around which no features flow; two callables, features and head, which
            together are the network; None masks the first input itself.
        logits: takes the logits [B, K] from the network's output, if they are elsewhere.
        one_pass: the network computes the same in training as in evaluation: it has no dropout
            and no normalisation over the batch. Then masked copies pass together with the plain
            batch, and weights are read once. None finds it out for a network that is put together
            of PyTorch's own layers alone, and is False for any other.

    Raises:
        ValueError: if there is no submodule of the name.
    """

    def __init__(
        self,
        module: nn.Module,
        split: str | tuple[Callable[..., Tensor], Callable[..., Tensor]] | None = None,
        logits: Callable[[Any], Tensor] | None = None,
        one_pass: bool | None = None,
    ) -> None:
        self.module = module
        self.split = split
        self._one_pass = one_pass
        self._logits = logits or _logits
        if isinstance(split, str) and split not in dict(module.named_modules()):
            near = ", ".join(f"`{name}`" for name, _ in module.named_children())
            raise ValueError(f"the network has no submodule `{split}`; at the top it has {near}")

    @classmethod
    def of(cls, network: nn.Module | Network, split: str | None) -> Network:
        """The network itself, or a module with its split."""
        return network if isinstance(network, Network) else cls(network, split)

    @property
    def one_pass(self) -> bool:
        """Whether masked copies pass together with the plain batch."""
        if self._one_pass is None:
            return isinstance(self.split, str | None) and is_always_the_same(self.module)
        return self._one_pass

    def plain(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One ordinary forward pass: the features at the split [B, ...] and the logits [B, K]."""
        if self.split is None:
            return batch.first, self._logits(batch.run(self.module))
        if not isinstance(self.split, str):
            hidden = self.split[0](*batch.tensors)
            return hidden, self._head(hidden, batch)
        seen: list[Tensor] = []
        logits = self._run(batch, lambda hidden: seen.append(hidden))
        return seen[0], logits

    def masked(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Logits [M, B, K] of M masked copies of features [M, B, ...] of a batch, in one pass.

        Normalisation takes its running statistics and dropout is off: masked features are no
        data.
        """
        copies = len(hidden)
        with frozen(self.module):
            logits = self._head(hidden.flatten(0, 1), batch.copies(copies))
        return logits.view(copies, len(batch), -1)

    def together(
        self, batch: Batch, some: Batch, copies: int, mask: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """A plain batch, and M masked copies of some of its samples, in one pass.

        Args:
            batch: B samples.
            some: B' of them.
            copies: M.
            mask: their masked features [M, B', ...] from the features of the batch, [B, ...].

        Returns:
            Logits [B, K] and [M, B', K].

        Raises:
            ValueError: if a layer is known that must not see both at once.
        """
        layer = first_of_training(self.module)
        if layer is not None:
            raise ValueError(f"`one_pass` is not for a network with `{layer}` in training mode")
        all_rows = batch.joined(some.copies(copies))

        def join(hidden: Tensor) -> Tensor:
            hidden = hidden[: len(batch)]
            return torch.cat([hidden, mask(hidden).flatten(0, 1)])

        if isinstance(self.split, str):
            below = batch if len(batch.tensors) == 1 else all_rows
            logits = self._run(below, join)
        else:
            features = self.split[0](*batch.tensors) if self.split else batch.first
            logits = self._head(join(features), all_rows)
        _check_rows(logits, len(all_rows))
        return logits[: len(batch)], logits[len(batch) :].view(copies, len(some), -1)

    def _head(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Logits [B, K] from features [B, ...]."""
        if self.split is None:
            logits = self._logits(batch.with_first(hidden).run(self.module))
        elif not isinstance(self.split, str):
            logits = self._logits(self.split[1](hidden, *batch.tensors[1:]))
        else:
            # What runs below the split runs in vain. One sample is enough for it, unless further
            # inputs, such as an attention mask, go around the split.
            one = Batch((batch.first[:1],), batch.names)
            below = one if len(batch.tensors) == 1 else batch
            logits = self._run(below, lambda _: hidden)
        _check_rows(logits, len(hidden))
        return logits

    def _run(self, batch: Batch, at_split: Callable[[Tensor], Tensor | None]) -> Tensor:
        """Logits of a forward pass; features at the split are seen, and replaced if not None."""
        runs = 0

        def hook(_module: nn.Module, _inputs: object, output: object) -> object:
            nonlocal runs
            runs += 1
            hidden = at_split(_first(output))
            if hidden is None:
                return None
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        handle: RemovableHandle = self.module.get_submodule(str(self.split)).register_forward_hook(
            hook
        )
        try:
            logits = self._logits(batch.run(self.module))
        finally:
            handle.remove()
        if runs != 1:
            raise ValueError(f"`{self.split}` runs {runs} times in a forward pass, wanted once")
        return logits


def _check_rows(logits: Tensor, rows: int) -> None:
    if logits.dim() != 2 or len(logits) != rows:
        raise ValueError(
            f"{rows} samples at the split gave logits {tuple(logits.shape)}, wanted [B, K]; where "
            "a network uses its input again after the split, give two callables"
        )


def _first(output: object) -> Tensor:
    """The features in the output of a submodule."""
    output = output[0] if isinstance(output, tuple) and output else output
    if not isinstance(output, Tensor):
        raise ValueError(f"the split gives {type(output).__name__}, wanted a tensor")
    return output


def _logits(output: object) -> Tensor:
    output = getattr(output, "logits", output)
    if not isinstance(output, Tensor):
        raise ValueError(
            f"the network gives {type(output).__name__}, wanted logits [B, K]; say where they are "
            "with `Network(module, logits=...)`"
        )
    return output
