"""Normalisation and dropout while masked copies pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd


@contextmanager
def frozen(module: nn.Module | None, recurrent: bool = False) -> Iterator[None]:
    """Normalisation by running statistics and no dropout, until the end of the block.

    Masked features are no data: they must not move the statistics that evaluation uses. All layers
    are as in evaluation, since many call dropout as a function; but for recurrent ones, whose
    gradient cuDNN has in training only, unless `recurrent` takes them too. The attribute is set
    without `eval()`, which some networks use to merge weights.
    """
    layers = [] if module is None else list(module.modules())
    stopped = [m for m in layers if m.training and (recurrent or not isinstance(m, nn.RNNBase))]
    for layer in stopped:
        layer.training = False
    try:
        yield
    finally:
        for layer in stopped:
            layer.training = True


@contextmanager
def nothing_moves() -> Iterator[None]:
    """An error for a layer that runs and would move its running statistics.

    For a head of which the module is not known.
    """

    def refuse(module: nn.Module, _inputs: object) -> None:
        if isinstance(module, _NormBase) and module.training and module.track_running_stats:
            raise ValueError(
                f"masked copies would move the running statistics of a {type(module).__name__}: "
                "give `InteractionPenalty` the network, `module=`, or call it with `network, "
                "inputs, labels`"
            )

    handle = nn.modules.module.register_module_forward_pre_hook(refuse)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def undisturbed(module: nn.Module, inputs: Sequence[Tensor]) -> Iterator[None]:
    """Passes of a frozen network without gradients, after which all is as before: its buffers and
    the random numbers of the CPU and of the GPUs of the inputs."""
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    gpus = sorted({own.get_device() for own in inputs if own.is_cuda})
    try:
        with torch.random.fork_rng(gpus), torch.no_grad(), frozen(module, recurrent=True):
            yield
    finally:
        # A weight that autocast has kept from a pass without gradients would have none later.
        torch.clear_autocast_cache()
        with torch.no_grad():
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


def first_of_training(module: nn.Module) -> str | None:
    """The name of a layer that works otherwise in training than in evaluation, if one is known."""
    for name, layer in module.named_modules():
        if isinstance(layer, _NormBase | _DropoutNd) and layer.training:
            return str(name)
    return None


_ALWAYS_THE_SAME = (
    nn.Sequential,
    nn.Linear,
    nn.modules.conv._ConvNd,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.Embedding,
    nn.Flatten,
    nn.Unflatten,
    nn.Identity,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.Hardtanh,
    nn.Hardswish,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)


def is_always_the_same(module: nn.Module) -> bool:
    """Whether a network is known to compute the same in training, for each sample by itself.

    A forward pass of its own might do anything, so every part must be one of PyTorch's layers.
    """
    return all(
        isinstance(layer, _ALWAYS_THE_SAME) and type(layer).__module__.startswith("torch.nn.")
        for layer in module.modules()
    )
