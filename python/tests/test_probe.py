"""The probe file: what is written, and what is refused."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
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


WORDS = [["[CLS]", "rot", "grün", "[SEP]"], ["[CLS]", "a", "[SEP]", "[PAD]"], ["[CLS]", "[SEP]"]]


def stored_words(path):
    with safe_open(path, "np") as file:
        return json.loads(file.metadata()["words"])


def test_words_are_stored_beside_the_tensors(tmp_path):
    text = {"input_ids": IDS, "attention_mask": MASK}
    path = make_probe(tmp_path / "probe.safetensors", text, words=WORDS)
    assert stored_words(path) == WORDS
    assert sorted(load_file(path)) == ["attention_mask", "inputs"]
    # Embedded texts have positions too, and numpy has strings of its own.
    path = make_probe(tmp_path / "embedded.safetensors", INPUTS, words=np.array([["a", "b"]] * 3))
    assert stored_words(path) == [["a", "b"]] * 3


def test_without_words_there_is_no_metadata(tmp_path):
    with safe_open(make_probe(tmp_path / "probe.safetensors", INPUTS), "np") as file:
        assert file.metadata() is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("abc", "must be 3 lists of strings, one a sample, got a string"),
        (WORDS[:2], "must be 3 lists of strings, one a sample, got 2 lists"),
        (["abcd", *WORDS[1:]], "of sample 0 must be a list of strings, got a string"),
        ([WORDS[0][:3], *WORDS[1:]], "of sample 0 must have 4 strings, got 3"),
        ([WORDS[0], ["[CLS]", "a"], WORDS[2]], "of sample 1 must have 3 to 4 strings, got 2"),
        ([*WORDS[:2], ["x"] * 5], "of sample 2 must have 2 to 4 strings, got 5"),
        ([["[CLS]", 5, 6, "."], *WORDS[1:]], "of sample 0 must be strings, got int at position 1"),
        ([*WORDS[:2], ["a", "\ud83d"]], "of sample 2 has half a character at position 1"),
    ],
)
def test_words_that_do_not_fit_are_refused_and_leave_no_file(tmp_path, words, message):
    text = {"input_ids": IDS, "attention_mask": MASK}
    with pytest.raises(ProbeError, match=message):
        make_probe(tmp_path / "probe.safetensors", text, words=words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("inputs", [np.zeros((3, 4)), np.zeros((3, 1, 4, 4))])
def test_only_what_has_positions_has_words(tmp_path, inputs):
    with pytest.raises(ProbeError, match="`words` needs `inputs` of token ids"):
        make_probe(tmp_path / "probe.safetensors", inputs, words=[["a"] * inputs.shape[1]] * 3)


def test_without_a_mask_every_position_has_a_word(tmp_path):
    with pytest.raises(ProbeError, match="of sample 2 must have 4 strings, got 2"):
        make_probe(tmp_path / "probe.safetensors", IDS, words=WORDS)
