"""The probe set: the held-out samples on which the two networks are compared."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import save_file

from ._atomic import replacing

LARGEST_VARIABLE_COUNT = 16
"""Variables a sample may have: its value table has 2^n entries."""

RESERVED = ("inputs", "labels", "variables", "baseline")
"""Tensors of the file that are no further input."""


class ProbeError(ValueError):
    """The arrays do not make a probe set."""


def make_probe(
    path: str | os.PathLike[str],
    inputs: ArrayLike | Mapping[str, ArrayLike],
    labels: ArrayLike | None = None,
    variables: ArrayLike | None = None,
    baseline: ArrayLike | None = None,
    words: Sequence[Sequence[str]] | None = None,
) -> Path:
    """Write a probe set of P samples to one safetensors file, whole or not at all.

    Args:
        path: the file to write; its directory is created if missing.
        inputs: an array, or a tensor of any device, as all that follow. Float [P, ...], stored as
            float32, or token ids [P, L], stored as int64: what the program's `features` takes
            first. Where it takes more, a mapping with the names that `export_program` was given,
            such as what a tokenizer gives: the first entry becomes the tensor `inputs`, the others
            (`attention_mask`, `token_type_ids`, ...) keep their names.
        labels: integers [P], classes from 0; of a language model the next token. Without them the
            sidecar takes the class that the target predicts at the first pair, and has no loss and
            no accuracy.
        variables: integers [P, positions], the variable (0 to n - 1, n at most 16) to which each
            position of the split features belongs; -1 stays present always. Without them the
            sidecar chooses by its configured rule.
        baseline: float, the features that stand for an absent variable; stored as float32.
        words: strings [P][L], for each sample what stands at its positions, so that `convergd
            explain` shows words instead of token ids; of a tokenizer
            `[tokenizer.convert_ids_to_tokens(row) for row in ids]`. For inputs of token ids [P, L]
            or of features [P, L, D]. A list may end before L where only padding (`attention_mask`
            0) follows. Stored as JSON in the metadata of the file, under `words`; nothing is
            computed from them.

    Returns:
        The path of the file.

    Raises:
        ProbeError: if a shape, type or range is wrong; nothing is written.
    """
    others = {}
    if isinstance(inputs, Mapping):
        if not inputs:
            raise ProbeError("`inputs` is empty")
        (_, inputs), *rest = inputs.items()
        others = dict(rest)
    tensors = {"inputs": _numbers("inputs", inputs)}
    if tensors["inputs"].ndim < 2:
        raise ProbeError(f"`inputs` must be [P, ...], got shape {tensors['inputs'].shape}")
    if tensors["inputs"].dtype == np.int64 and tensors["inputs"].ndim != 2:
        raise ProbeError(
            "`inputs` must be floating point, or token ids [P, L]; got integers of shape "
            f"{tensors['inputs'].shape}: convert them first"
        )
    samples = len(tensors["inputs"])
    for name, other in others.items():
        tensors[name] = _further(name, other, tensors["inputs"])
    if labels is not None:
        tensors["labels"] = _labels(labels, samples)
    if variables is not None:
        tensors["variables"] = _variables(variables, samples)
    if baseline is not None:
        tensors["baseline"] = _floats("baseline", baseline)
    metadata = None
    if words is not None:
        metadata = {"words": json.dumps(_words(words, tensors))}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)
    return path


def _array(name: str, value: ArrayLike) -> NDArray[Any]:
    """An array; NumPy takes no tensor that is on a GPU, needs a gradient or is bfloat16."""
    tensor: Any = value
    if type(value).__module__.partition(".")[0] == "torch":
        tensor = tensor.detach().cpu()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
    try:
        return np.asarray(tensor)
    except (ValueError, TypeError) as error:
        raise ProbeError(
            f"`{name}` makes no array: {error}; all samples must have one shape, so pad texts"
        ) from error


def _floats(name: str, value: ArrayLike) -> NDArray[np.float32]:
    array = _array(name, value)
    if not np.issubdtype(array.dtype, np.floating):
        raise ProbeError(f"`{name}` must be floating point, got {array.dtype}: convert it first")
    if array.size == 0:
        raise ProbeError(f"`{name}` is empty: shape {array.shape}")
    if not np.isfinite(array).all():
        raise ProbeError(f"`{name}` holds values that are not finite")
    return np.ascontiguousarray(array, dtype=np.float32)


def _numbers(name: str, value: ArrayLike) -> NDArray[np.float32] | NDArray[np.int64]:
    array = _array(name, value)
    if not np.issubdtype(array.dtype, np.integer):
        return _floats(name, array)
    if array.size == 0:
        raise ProbeError(f"`{name}` is empty: shape {array.shape}")
    return _integers(name, array)


def _further(
    name: str, value: ArrayLike, inputs: NDArray[np.float32] | NDArray[np.int64]
) -> NDArray[np.float32] | NDArray[np.int64]:
    if name in RESERVED:
        raise ProbeError(f"an input cannot be called `{name}`: the file has another use for it")
    array = _array(name, value)
    array = _numbers(name, array.astype(np.int64) if array.dtype == bool else array)
    if array.ndim == 0 or len(array) != len(inputs):
        raise ProbeError(f"`{name}` must have {len(inputs)} samples, got shape {array.shape}")
    if name == "attention_mask":
        if array.shape != inputs.shape[:2]:
            raise ProbeError(f"`{name}` must have shape {inputs.shape[:2]}, got {array.shape}")
        bad = [value for value in np.unique(array).tolist() if value not in (0, 1)]
        if bad:
            raise ProbeError(f"`{name}` must be 0 or 1, got {bad[0]}")
        if not array.any(axis=1).all():
            sample = int(np.argmin(array.any(axis=1)))
            raise ProbeError(f"`{name}` leaves no token of sample {sample}")
    return array


def _integers(name: str, value: ArrayLike) -> NDArray[np.int64]:
    array = _array(name, value)
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


def _words(value: Sequence[Sequence[str]], tensors: Mapping[str, NDArray[Any]]) -> list[list[str]]:
    inputs = tensors["inputs"]
    if inputs.dtype != np.int64 and inputs.ndim != 3:
        raise ProbeError(
            "`words` needs `inputs` of token ids [P, L] or of features [P, L, D], got shape "
            f"{inputs.shape}"
        )
    samples, length = inputs.shape[:2]
    if isinstance(value, str) or len(value) != samples:
        count = "a string" if isinstance(value, str) else f"{len(value)} lists"
        raise ProbeError(f"`words` must be {samples} lists of strings, one a sample, got {count}")
    mask = tensors.get("attention_mask", np.ones((samples, length), dtype=np.int64))
    return [_words_of(sample, row, mask[sample]) for sample, row in enumerate(value)]


def _words_of(sample: int, row: Sequence[str], mask: NDArray[np.int64]) -> list[str]:
    if isinstance(row, str):
        raise ProbeError(f"`words` of sample {sample} must be a list of strings, got a string")
    needed = int(np.flatnonzero(mask)[-1]) + 1
    if not needed <= len(row) <= len(mask):
        wanted = f"{len(mask)}" if needed == len(mask) else f"{needed} to {len(mask)}"
        raise ProbeError(f"`words` of sample {sample} must have {wanted} strings, got {len(row)}")
    for position, word in enumerate(row):
        if not isinstance(word, str):
            kind = type(word).__name__
            raise ProbeError(
                f"`words` of sample {sample} must be strings, got {kind} at position {position}"
            )
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise ProbeError(
                f"`words` of sample {sample} has half a character at position {position}"
            ) from error
    return [str(word) for word in row]
