"""Checkpoints that a reader never sees half-written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import SupportsIndex

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from ._atomic import replacing
from ._step import step_number


def save_checkpoint(
    module_or_state_dict: nn.Module | Mapping[str, torch.Tensor],
    directory: str | os.PathLike[str],
    step: SupportsIndex,
    prefix: str = "step-",
) -> Path:
    """Write parameters and persistent buffers to `<directory>/<prefix><step>.safetensors`.

    The step is padded to eight digits. The file is written under a temporary name in the same
    directory, synced and renamed, so it appears whole or not at all. Tensors that share memory
    (tied weights) are written once under each of their names.

    Args:
        module_or_state_dict: a module, or what its `state_dict()` returned.
        directory: created if missing.
        step: training step, 0 or more; also stored in the metadata of the file.
        prefix: start of the file name.

    Returns:
        The path of the file.

    Raises:
        ValueError: if `step` is negative or not an integer.
        TypeError: if an entry of the state dict is not a tensor.
        OSError: if the file cannot be written.
    """
    step = step_number(step)
    state = module_or_state_dict
    if isinstance(state, nn.Module):
        state = state.state_dict()
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{prefix}{step:08d}.safetensors"
    with replacing(path) as temporary:
        try:
            save_file(_separate(state), temporary, metadata={"format": "pt", "step": str(step)})
        except SafetensorError as error:
            raise OSError(f"`{path}` cannot be written: {error}") from error
    return path


def _separate(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous tensors on the CPU, no two of which share storage."""
    separate: dict[str, torch.Tensor] = {}
    storages: set[int] = set()
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"`{name}` is {type(tensor).__name__}, not a tensor: leave it out")
        tensor = tensor.detach().cpu().contiguous()
        if tensor.untyped_storage().data_ptr() in storages:
            tensor = tensor.clone()
        storages.add(tensor.untyped_storage().data_ptr())
        separate[name] = tensor
    return separate
