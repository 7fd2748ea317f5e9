"""The probe set: the held-out samples on which the two networks are compared."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import save_file

from ._atomic import replacing

LARGEST_VARIABLE_COUNT = 16
"""Variables a sample may have: its value table has 2^n entries."""


class ProbeError(ValueError):
    """The arrays do not make a probe set."""


def make_probe(
    path: str | os.PathLike[str],
    inputs: ArrayLike,
    labels: ArrayLike | None = None,
    variables: ArrayLike | None = None,
    baseline: ArrayLike | None = None,
) -> Path:
    """Write a probe set of P samples to one safetensors file, whole or not at all.

    Args:
        path: the file to write; its directory is created if missing.
        inputs: float [P, ...], what the program's `features` takes; stored as float32.
        labels: integers [P], classes from 0. Without them the sidecar takes the class that the
            target predicts at the first pair, and has no loss and no accuracy.
        variables: integers [P, positions], the variable (0 to n - 1, n at most 16) to which each
            position of the split features belongs; -1 stays present always. Without them the
            sidecar chooses by its configured rule.
        baseline: float, the features that stand for an absent variable; stored as float32.

    Returns:
        The path of the file.

    Raises:
        ProbeError: if a shape, type or range is wrong; nothing is written.
    """
    tensors = {"inputs": _floats("inputs", inputs)}
    if tensors["inputs"].ndim < 2:
        raise ProbeError(f"`inputs` must be [P, ...], got shape {tensors['inputs'].shape}")
    samples = len(tensors["inputs"])
    if labels is not None:
        tensors["labels"] = _labels(labels, samples)
    if variables is not None:
        tensors["variables"] = _variables(variables, samples)
    if baseline is not None:
        tensors["baseline"] = _floats("baseline", baseline)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file(tensors, temporary)
    return path


def _floats(name: str, value: ArrayLike) -> NDArray[np.float32]:
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.floating):
        raise ProbeError(f"`{name}` must be floating point, got {array.dtype}: convert it first")
    if array.size == 0:
        raise ProbeError(f"`{name}` is empty: shape {array.shape}")
    if not np.isfinite(array).all():
        raise ProbeError(f"`{name}` holds values that are not finite")
    return np.ascontiguousarray(array, dtype=np.float32)


def _integers(name: str, value: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.integer):
        raise ProbeError(f"`{name}` must be integers, got {array.dtype}")
    return np.ascontiguousarray(array, dtype=np.int64)


def _labels(value: ArrayLike, samples: int) -> NDArray[np.int64]:
    labels = _integers("labels", value)
    if labels.shape != (samples,):
        raise ProbeError(f"`labels` must have shape ({samples},), got {labels.shape}")
    if labels.min() < 0:
        raise ProbeError(f"`labels` must be 0 or more, the smallest is {labels.min()}")
    return labels


def _variables(value: ArrayLike, samples: int) -> NDArray[np.int64]:
    variables = _integers("variables", value)
    if variables.ndim != 2 or len(variables) != samples or variables.shape[1] == 0:
        raise ProbeError(
            f"`variables` must have shape ({samples}, positions), got {variables.shape}"
        )
    if variables.min() < -1:
        raise ProbeError(f"`variables` must be -1 or more, the smallest is {variables.min()}")
    count = int(variables.max()) + 1
    if not 2 <= count <= LARGEST_VARIABLE_COUNT:
        raise ProbeError(
            f"`variables` names {count} variables, wanted 2 to {LARGEST_VARIABLE_COUNT}"
        )
    missing = sorted(set(range(count)) - set(np.unique(variables).tolist()))
    if missing:
        raise ProbeError(f"`variables` must be numbered without gaps, {missing} never occurs")
    return variables
