"""Normalisation and dropout while masked copies pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd


@contextmanager
def frozen(module: nn.Module | None) -> Iterator[None]:
    """Normalisation by running statistics and no dropout, until the end of the block.

    Masked features are no data: they must not move the statistics that evaluation uses. All layers
    are as in evaluation, since many call dropout as a function; but for recurrent ones, whose
    gradient cuDNN has in training only. The attribute is set without `eval()`, which some
    networks use to merge weights.
    """
    layers = [] if module is None else list(module.modules())
    stopped = [m for m in layers if m.training and not isinstance(m, nn.RNNBase)]
    for layer in stopped:
        layer.training = False
    try:
        yield
    finally:
        for layer in stopped:
            layer.training = True


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
