"""A network in two parts: up to the split, where features are masked, and from there on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .batch import Batch
from .frozen import first_of_training, frozen, is_always_the_same, undisturbed
from .values import at_least_float32

TOLERANCE, TF32_TOLERANCE, HALF_TOLERANCE = 1e-4, 1e-3, 2e-2
"""Largest error of the logits of the check, relative to their size; in float32, on a GPU, which may
take TF32, and in half precision."""

LEAST_SIZE = 1e-2
"""Logits that are smaller than this are compared as if they were as large."""

NOISE = 4.0
"""An error counts if it is so many times what two plain passes differ by."""


@dataclass
class _Known:
    """What has been found out of a network and a split."""

    is_checked: bool = False
    """The features at the split are all that the logits depend on."""
    needs_rows: bool = False
    """What lies below the split must run on as many samples as are at the split."""
    together_needs_rows: bool = False
    """The same where masked copies pass with the plain batch."""


_KNOWN: WeakKeyDictionary[nn.Module, dict[str, _Known]] = WeakKeyDictionary()
"""By network and name of the split, as losses are given the bare module at each step."""


class Network:
    """A network with its split. It holds no copy: training the module trains this.

    Args:
        module: the network; its output is logits [B, K], or has them as its attribute `logits`.
        split: where features are masked. The name of a submodule that runs once in a forward
            pass, and around which no features flow; two callables, features and head, which
            together are the network; None masks the first input itself.
            `features(*inputs)` gives the features, `head(features, *inputs[1:])` the output.
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
        self._known = _Known()
        if isinstance(split, str) and split not in dict(module.named_modules()):
            near = ", ".join(f"`{name}`" for name, _ in module.named_children())
            raise ValueError(f"the network has no submodule `{split}`; at the top it has {near}")
        if isinstance(split, str):
            self._known = _KNOWN.setdefault(module, {}).setdefault(split, _Known())

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

    def check(self, batch: Batch) -> None:
        """Raise an error if something flows around the split; once for each network and split.

        The unmasked features of a batch must give the logits of a plain pass. That is seen in a
        batch of two samples or more. It costs two passes without gradients, and changes nothing.

        Raises:
            ValueError: if they do not.
        """
        if not isinstance(self.split, str) or self._known.is_checked or len(batch) < 2:
            return
        with undisturbed(self.module, batch.tensors):
            hidden, wanted = self.plain(batch)
            limit = _limit(wanted)
            if not wanted.isfinite().all():
                return
            # Where further inputs need the whole batch, each sample runs below another's features.
            other = batch
            if len(batch.tensors) > 1 and batch.first.is_floating_point():
                other = batch.with_first(batch.first.roll(1, 0))
            error = _difference(self._head(hidden.clone(), other), wanted)
            if not error <= limit and len(batch.tensors) == 1 and not self._known.needs_rows:
                # A single sample may be something else to the network.
                self._known.needs_rows = True
                error = _difference(self._head(hidden.clone(), batch), wanted)
            # A network that draws random numbers also in evaluation is not the same twice.
            if not error <= limit and error > NOISE * _difference(self.plain(batch)[1], wanted):
                raise ValueError(
                    f"the features at `{self.split}` do not give the logits of the network: they "
                    f"differ by {error:.3g}. Does a skip connection lead around `{self.split}`, or "
                    "does the network use its input again after it? Try a split that everything "
                    "passes through, or None to mask the input"
                )
        self._known.is_checked = True

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
            try:
                copies = mask(hidden)
            except ValueError as error:
                raise _SplitError(error) from error
            return torch.cat([hidden, copies.flatten(0, 1)])

        if isinstance(self.split, str):
            if len(batch.tensors) == 1 and not self._known.together_needs_rows:
                logits = self._tried(batch, join, len(all_rows))
                self._known.together_needs_rows = logits is None
            else:
                logits = None
            if logits is None:
                logits = self._run_all(all_rows, join, len(all_rows))
        else:
            features = self.split[0](*batch.tensors) if self.split else batch.first
            logits = self._head(join(features), all_rows)
            _check_rows(logits, len(all_rows))
        return logits[: len(batch)], logits[len(batch) :].view(copies, len(some), -1)

    def _head(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Logits [B, K] from features [B, ...]."""
        rows = len(hidden)
        if isinstance(self.split, str):
            return self._above(hidden, batch)
        if self.split is None:
            logits = self._logits(batch.with_first(hidden).run(self.module))
        else:
            logits = self._logits(self.split[1](hidden, *batch.tensors[1:]))
        _check_rows(logits, rows)
        return logits

    def _above(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Logits [B, K] from features [B, ...] at a submodule.

        What runs below the split runs in vain. One sample is enough for it, unless the network
        reads the number of samples from its input, or further inputs, such as an attention mask,
        go around the split.
        """
        rows = len(hidden)
        if len(batch.tensors) > 1:
            return self._run_all(batch, lambda _: hidden, rows)
        one = Batch((batch.first[:1],), batch.names)
        if not self._known.needs_rows:
            logits = self._tried(one, lambda _: hidden, rows)
            if logits is not None:
                return logits
        first = batch.first[:1].expand(rows, *batch.first.shape[1:])
        logits = self._run_all(one.with_first(first), lambda _: hidden, rows)
        self._known.needs_rows = True
        return logits

    def _tried(
        self, below: Batch, at_split: Callable[[Tensor], Tensor], rows: int
    ) -> Tensor | None:
        """Logits [rows, K], or None where the network wants another batch below the split."""
        try:
            logits = self._run(below, at_split)
        except (torch.OutOfMemoryError, _SplitError):
            raise
        except Exception:
            # Whatever the network's own layers raise; the other batch tells whether it matters.
            return None
        return logits if _has_rows(logits, rows) else None

    def _run_all(self, below: Batch, at_split: Callable[[Tensor], Tensor], rows: int) -> Tensor:
        """Logits [rows, K], with a batch of as many rows below the split.

        Raises:
            ValueError: if the network does not run so.
        """
        try:
            logits = self._run(below, at_split)
        except (torch.OutOfMemoryError, _SplitError):
            raise
        except Exception as error:
            raise ValueError(
                f"the network does not run with {rows} samples at `{self.split}`: {error}; take "
                "another split, or give two callables, `Network(module, split=(features, head))`"
            ) from error
        _check_rows(logits, rows, f" at `{self.split}`")
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
            raise _SplitError(f"`{self.split}` runs {runs} times in a forward pass, wanted once")
        return logits


class _SplitError(ValueError):
    """The split or its features do not fit, whatever runs below it."""


def _has_rows(logits: Tensor, rows: int) -> bool:
    return logits.dim() == 2 and len(logits) == rows


def _check_rows(logits: Tensor, rows: int, where: str = "") -> None:
    if not _has_rows(logits, rows):
        raise ValueError(
            f"{rows} samples at the split gave logits {tuple(logits.shape)}, wanted [B, K]; where "
            f"a network uses its input again after the split{where}, give two callables, "
            "`Network(module, split=(features, head))`"
        )


def _limit(logits: Tensor) -> float:
    """How far logits may be from these to be the same."""
    size = max(LEAST_SIZE, logits.abs().max().item())
    if logits.dtype.itemsize < 4 or torch.is_autocast_enabled(logits.device.type):
        return HALF_TOLERANCE * size
    return (TOLERANCE if logits.device.type == "cpu" else TF32_TOLERANCE) * size


def _difference(logits: Tensor, wanted: Tensor) -> float:
    if logits.shape != wanted.shape:
        return float("inf")
    return (at_least_float32(logits) - at_least_float32(wanted)).abs().max().item()


def _first(output: object) -> Tensor:
    """The features in the output of a submodule."""
    output = output[0] if isinstance(output, tuple) and output else output
    if not isinstance(output, Tensor):
        raise _SplitError(f"the split gives {type(output).__name__}, wanted a tensor")
    return output


def _logits(output: object) -> Tensor:
    output = getattr(output, "logits", output)
    if not isinstance(output, Tensor):
        raise _SplitError(
            f"the network gives {type(output).__name__}, wanted logits [B, K]; say where they are "
            "with `Network(module, logits=...)`"
        )
    return output
