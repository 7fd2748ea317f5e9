"""Checkpoints: everything is in the file, and the file is whole."""

import resource

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from convergd import save_checkpoint


def normalised():
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))
    net(torch.randn(5, 1, 3, 3))
    return net


def test_parameters_and_buffers_come_back_equal(tmp_path):
    net = normalised()
    loaded = load_file(save_checkpoint(net, tmp_path, 12))
    assert loaded["1.num_batches_tracked"].item() == 1
    assert loaded.keys() == net.state_dict().keys()
    for name, tensor in net.state_dict().items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor), name


def test_the_name_and_the_metadata_tell_the_step(tmp_path):
    path = save_checkpoint(normalised(), tmp_path / "new" / "deep", 12)
    assert path == tmp_path / "new" / "deep" / "step-00000012.safetensors"
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "step": "12"}
    assert save_checkpoint(normalised(), tmp_path, 3, prefix="e").name == "e00000003.safetensors"


def test_a_file_that_cannot_be_finished_does_not_appear(tmp_path, monkeypatch):
    seen = []

    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        seen.extend(p.name for p in tmp_path.iterdir())
        raise OSError("disk full")

    monkeypatch.setattr("convergd.checkpoint.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(normalised(), tmp_path, 1)
    assert len(seen) == 1
    assert seen[0].startswith(".tmp-") and seen[0].endswith(".tmp")
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_renamed_from_the_same_directory(tmp_path, monkeypatch):
    renames = []
    real = __import__("os").replace
    monkeypatch.setattr("os.replace", lambda a, b: (renames.append((a, b)), real(a, b)))
    path = save_checkpoint(normalised(), tmp_path, 1)
    ((source, destination),) = renames
    assert source.parent == tmp_path and destination == path


def test_the_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "other").touch()
    path = save_checkpoint(normalised(), tmp_path, 1)
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_step_saved_again_is_replaced(tmp_path):
    save_checkpoint({"a": torch.zeros(2)}, tmp_path, 1)
    path = save_checkpoint({"a": torch.ones(2)}, tmp_path, 1)
    assert load_file(path)["a"].tolist() == [1, 1]


def test_shared_and_strided_tensors_are_written_whole(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    state = {"a": base, "tied": base, "row": base[1], "turned": base.T, "step": base[:, ::2]}
    loaded = load_file(save_checkpoint(state, tmp_path, 1))
    for name, tensor in state.items():
        assert torch.equal(loaded[name], tensor), name


def test_tied_weights_of_a_module_are_under_both_names(tmp_path):
    net = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    net["b"].weight = net["a"].weight
    loaded = load_file(save_checkpoint(net, tmp_path, 1))
    assert torch.equal(loaded["a.weight"], loaded["b.weight"])


def test_a_step_may_be_one_of_numpy(tmp_path):
    assert save_checkpoint(normalised(), tmp_path, np.int64(12)).name == "step-00000012.safetensors"


@pytest.mark.parametrize("step", [-1, 1.0, True, "1"])
def test_a_step_is_a_whole_number(tmp_path, step):
    with pytest.raises(ValueError, match="step"):
        save_checkpoint({}, tmp_path, step)


def test_an_entry_that_is_no_tensor_is_named(tmp_path):
    with pytest.raises(TypeError, match="`epoch` is int"):
        save_checkpoint({"a": torch.zeros(1), "epoch": 3}, tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_os_error_and_leaves_nothing(tmp_path):
    """A limit on the size of files stands in for the full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"step-00000001.*cannot be written"):
            save_checkpoint({"a": torch.zeros(1000)}, tmp_path, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
