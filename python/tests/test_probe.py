"""The probe file: what is written, and what is refused."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from convergd import ProbeError, make_probe

INPUTS = np.arange(24.0).reshape(3, 2, 4)
VARIABLES = [[0, 1, 2, -1], [2, 1, 0, 0], [-1, -1, 0, 1]]


def test_tensors_are_stored_with_their_types(tmp_path):
    path = make_probe(
        tmp_path / "new" / "probe.safetensors",
        torch.tensor(INPUTS, dtype=torch.float64),
        labels=torch.tensor([0, 9, 3], dtype=torch.int32),
        variables=VARIABLES,
        baseline=np.zeros((2, 4)),
    )
    loaded = load_file(path)
    assert {name: str(array.dtype) for name, array in loaded.items()} == {
        "inputs": "float32",
        "labels": "int64",
        "variables": "int64",
        "baseline": "float32",
    }
    assert np.array_equal(loaded["inputs"], INPUTS)
    assert loaded["labels"].tolist() == [0, 9, 3]
    assert loaded["variables"].tolist() == VARIABLES
    assert loaded["baseline"].shape == (2, 4)


def test_only_inputs_are_needed(tmp_path):
    path = make_probe(tmp_path / "probe.safetensors", INPUTS)
    assert list(load_file(path)) == ["inputs"]


def test_tensors_that_numpy_does_not_take_are_stored(tmp_path):
    grown = nn.Parameter(torch.tensor(INPUTS, dtype=torch.bfloat16))
    path = make_probe(tmp_path / "probe.safetensors", {"x": grown, "scale": grown[:, 0] * 2})
    loaded = load_file(path)
    assert np.array_equal(loaded["inputs"], INPUTS)
    assert np.array_equal(loaded["scale"], INPUTS[:, 0] * 2)


def test_a_strided_input_is_stored_in_order(tmp_path):
    turned = INPUTS.transpose(0, 2, 1)
    path = make_probe(tmp_path / "probe.safetensors", turned)
    assert np.array_equal(load_file(path)["inputs"], turned)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": INPUTS.astype(int)}, r"`inputs` must be floating point, or token ids \[P, L\]"),
        ({"inputs": np.zeros((0, 4))}, "`inputs` is empty"),
        ({"inputs": np.zeros(4)}, "`inputs` must be"),
        ({"inputs": np.full((3, 4), np.nan)}, "`inputs` holds values that are not finite"),
        ({"labels": [0, 1]}, r"`labels` must have shape \(3,\), got \(2,\)"),
        ({"labels": [[0, 1, 2]]}, "`labels` must have shape"),
        ({"labels": [0.0, 1.0, 2.0]}, "`labels` must be integers, got float64"),
        ({"labels": [True, False, True]}, "`labels` must be integers, got bool"),
        ({"labels": [0, -1, 2]}, "`labels` must be 0 or more, the smallest is -1"),
        ({"variables": [[0, 1]]}, r"`variables` must have shape \(3, positions\)"),
        ({"variables": [0, 1, 2]}, "`variables` must have shape"),
        ({"variables": [[0.0, 1.0]] * 3}, "`variables` must be integers"),
        ({"variables": [[0, -2]] * 3}, "the smallest is -2"),
        ({"variables": [[0, -1]] * 3}, "names 1 variables"),
        ({"variables": [list(range(17))] * 3}, "names 17 variables, wanted 2 to 16"),
        ({"variables": [[0, 2]] * 3}, r"\[1\] never occurs"),
        ({"baseline": [1, 2]}, "`baseline` must be floating point"),
        ({"baseline": [float("inf")]}, "`baseline` holds values that are not finite"),
        ({"inputs": [[1.0, 2.0], [3.0]]}, "`inputs` makes no array: .*pad texts"),
        ({"inputs": [torch.ones(2), torch.ones(3)]}, "`inputs` makes no array: .*pad texts"),
        ({"variables": [[0, 1], [0]]}, "`variables` makes no array"),
    ],
)
def test_bad_arrays_are_refused_and_leave_no_file(tmp_path, changes, message):
    with pytest.raises(ProbeError, match=message):
        make_probe(tmp_path / "probe.safetensors", **{"inputs": INPUTS} | changes)
    assert list(tmp_path.iterdir()) == []


IDS = [[1, 5, 6, 2], [1, 7, 2, 0], [1, 2, 0, 0]]
MASK = [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]]


def test_token_ids_and_what_comes_with_them_are_stored_as_integers(tmp_path):
    text = {
        "input_ids": torch.tensor(IDS, dtype=torch.int32),
        "attention_mask": np.array(MASK, dtype=bool),
        "scale": np.ones((3, 2)),
    }
    loaded = load_file(make_probe(tmp_path / "probe.safetensors", text))
    types = {name: str(array.dtype) for name, array in loaded.items()}
    assert types == {"inputs": "int64", "attention_mask": "int64", "scale": "float32"}
    assert loaded["inputs"].tolist() == IDS
    assert loaded["attention_mask"].tolist() == MASK


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": MASK}, "cannot be called `labels`"),
        ({"attention_mask": MASK[:2]}, r"`attention_mask` must have 3 samples, got shape \(2, 4\)"),
        ({"attention_mask": [[1], [1], [1]]}, r"must have shape \(3, 4\), got \(3, 1\)"),
        ({"attention_mask": [[2, 1, 1, 1]] * 3}, "must be 0 or 1, got 2"),
        ({"attention_mask": [*MASK[:2], [0] * 4]}, "leaves no token of sample 2"),
        ({"scale": [["a"]] * 3}, "`scale` must be floating point"),
    ],
)
def test_further_inputs_that_do_not_fit_are_refused(tmp_path, changes, message):
    with pytest.raises(ProbeError, match=message):
        make_probe(tmp_path / "probe.safetensors", {"input_ids": IDS} | changes)
    assert list(tmp_path.iterdir()) == []
