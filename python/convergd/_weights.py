"""The weights of a network in training, whole, however it is wrapped and sharded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)

from ._ranks import Ranks


class WeightsError(RuntimeError):
    """The weights cannot be had, or do not fit."""


def whole_state(module: nn.Module, submodule: str | None = None) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name.

    Where the module is sharded (FSDP, FSDP 2), every rank must call this, and rank 0 gets the
    tensors; others may get none.

    Args:
        module: what is trained.
        submodule: only what is below this submodule, without its name in front.

    """
    if is_sharded(module):
        # FSDP would free what it is to offload from the CPU to the CPU.
        is_offloaded = next(module.parameters()).device.type != "cpu"
        options = StateDictOptions(full_state_dict=True, cpu_offload=is_offloaded)
        state = get_model_state_dict(module, options=options)
    else:
        state = module.state_dict()
    # A module may keep other things than tensors there.
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if submodule is None or not tensors:
        return tensors
    prefix = submodule + "."
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def check_weights(module: nn.Module, submodule: str | None = None) -> None:
    """Raise an error if `whole_state` could not give the weights.

    Raises:
        ValueError: if there is no such submodule.
        WeightsError: if DeepSpeed has partitioned the weights.
    """
    if submodule is not None:
        _check_submodule(module, submodule)
    if any(hasattr(parameter, "ds_id") for parameter in module.parameters()):
        raise WeightsError(
            "DeepSpeed has partitioned the weights (ZeRO 3): leave `checkpoints` out, and let the "
            "framework write checkpoints"
        )


def _check_submodule(module: nn.Module, submodule: str) -> None:
    """Raise an error that names the submodules that there are."""
    found, above = module, ""
    for name in submodule.split("."):
        below = getattr(found, name, None) if name else None
        if not isinstance(below, nn.Module):
            where = f"`{above[:-1]}`" if above else "at the top it"
            there = ", ".join(f"`{above}{child}`" for child, _ in found.named_children())
            raise ValueError(
                f"`submodule`: {type(module).__name__} has no submodule `{submodule}`; {where} "
                f"has {there or 'none'}"
            )
        found, above = below, f"{above}{name}."


def is_sharded(module: nn.Module) -> bool:
    """Whether ranks hold parts of the weights (FSDP, FSDP 2)."""
    if not torch.distributed.is_available():
        return False
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.tensor import DTensor

    return any(isinstance(one, FullyShardedDataParallel) for one in module.modules()) or any(
        isinstance(parameter, DTensor) for parameter in module.parameters()
    )


def load_weights(
    module: nn.Module, path: Path, submodule: str | None = None, ranks: Ranks | None = None
) -> None:
    """Put the weights that `save_checkpoint` has written into a module, or leave it as it is.

    With ranks, every rank must call this, and rank 0 reads.

    Raises:
        WeightsError: on every rank, if the file cannot be read, or has other names or shapes.
    """
    prefix = "" if submodule is None else submodule + "."
    own = whole_state(module, submodule)
    loaded: dict[str, Tensor] = {}
    problem = ""
    if ranks is None or ranks.rank == 0:
        try:
            loaded = load_file(path)
            _check_fit(loaded, own)
        except (OSError, SafetensorError, WeightsError) as error:
            problem = str(error) or type(error).__name__
    if ranks is not None:
        # The same on every rank, or some would wait for others for ever.
        is_bad = ranks.broadcast(torch.tensor([int(bool(problem))], device="cpu")).item()
        problem = problem or ("rank 0 could not read them" if is_bad else "")
    if problem:
        raise WeightsError(f"`{path}`: {problem}")
    if is_sharded(module):
        whole: dict[str, Any] = {prefix + name: tensor for name, tensor in loaded.items()}
        options = StateDictOptions(
            full_state_dict=True, broadcast_from_rank0=ranks is not None, strict=False
        )
        set_model_state_dict(module, whole, options=options)
        return
    with torch.no_grad():
        for name in sorted(own):
            value = loaded[name] if loaded else torch.empty_like(own[name], device="cpu")
            if ranks is not None:
                value = value.to(own[name].dtype).contiguous()
                ranks.broadcast(value)
            own[name].copy_(value)


def _check_fit(loaded: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    different = sorted(loaded.keys() ^ own.keys())
    if different:
        raise WeightsError(f"`{different[0]}` is only in one of file and network")
    for name, tensor in loaded.items():
        if tensor.shape != own[name].shape:
            raise WeightsError(
                f"`{name}` has shape {tuple(tensor.shape)}, the network {tuple(own[name].shape)}"
            )
