"""Several processes that train one network, and processes that a trainer forks."""

import json
import multiprocessing
import os
import time

import pytest
import torch
from callback_training import Net, decide
from safetensors.torch import load_file
from torch import distributed, nn
from torch.utils.data import DataLoader, Dataset

from convergd import Control, save_checkpoint
from convergd._weights import WeightsError, is_sharded, load_weights, whole_state

DEADLINE = 120


def run_ranks(body, directory, count=2):
    """Runs `body(rank, directory)` in that many processes; what they returned, by rank."""
    context = torch.multiprocessing.start_processes(
        _rank, (body, directory, count), nprocs=count, join=False, start_method="spawn"
    )
    ends = time.monotonic() + DEADLINE
    try:
        while not context.join(timeout=max(0.0, ends - time.monotonic())):
            assert time.monotonic() < ends, "the ranks do not end"
    finally:
        for process in context.processes:
            process.kill()
            process.join()
    return [torch.load(directory / f"result-{rank}.pt") for rank in range(count)]


def _rank(rank, body, directory, count):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{directory}/meeting", rank=rank, world_size=count
    )
    torch.save(body(rank, directory), directory / f"result-{rank}.pt")
    distributed.destroy_process_group()


STOP = {"generation": 3, "action": "stop", "at_step": 5,
        "best": {"step": 2, "target": "a", "baseline": None}}  # fmt: skip


def poll_on_every_rank(rank, directory):
    """Only rank 0 has a sidecar; it decides while step 3 is under way."""
    control = Control(directory / f"control-{rank}", distributed=True)
    seen = []
    for step in range(1, 8):
        if step == 3 and rank == 0:
            decide(control.directory, **STOP)
        decision = control.poll(step)
        seen.append((decision.generation, decision.action))
    assert decision.best is not None and decision.best.target == "a"
    control.done()
    return seen


def test_rank_0_reads_and_all_have_the_decision_at_the_same_step(tmp_path):
    first, second = run_ranks(poll_on_every_rank, tmp_path)
    assert first == second == [(0, "continue")] * 4 + [(3, "stop")] * 3
    assert json.loads((tmp_path / "control-0" / "ack-target.json").read_text())["step"] == 5
    assert json.loads((tmp_path / "control-0" / "done-target").read_text()) == {"step": 7}
    assert not (tmp_path / "control-1").exists()


def poll_in_a_group(rank, directory):
    """Ranks 1 and 2 train one network, and rank 0 does something else."""
    group = distributed.new_group([1, 2])
    if rank == 0:
        return None
    control = Control(directory / f"control-{rank}", distributed=True, group=group)
    if rank == 1:
        decide(control.directory, **STOP)
    return control.rank, control.poll(5).stop, control.done()


def test_a_group_is_led_by_its_first(tmp_path):
    assert run_ranks(poll_in_a_group, tmp_path, 3) == [None, (0, True, None), (1, True, None)]
    assert (tmp_path / "control-1" / "ack-target.json").exists()


def test_a_group_that_cannot_gloo_is_refused(monkeypatch):
    from convergd import _ranks

    monkeypatch.setattr(_ranks.distributed, "get_backend_config", lambda _: "cuda:nccl")
    monkeypatch.setattr(_ranks.distributed, "get_backend", lambda _: "nccl")
    with pytest.raises(ValueError, match=r"must be of the backend gloo.*got nccl"):
        _ranks.Ranks(object())


def test_one_process_alone_is_as_without(tmp_path):
    control = Control(tmp_path, distributed=True)
    decide(tmp_path, **STOP)
    assert control.rank == 0 and control.poll(5).stop
    assert (tmp_path / "ack-target.json").exists()


def shard(net, kind):
    if kind == "fsdp":
        from torch.distributed.fsdp import FullyShardedDataParallel

        return FullyShardedDataParallel(net, device_id=torch.device("cpu"), use_orig_params=True)
    if kind == "fsdp 2":
        from torch.distributed.fsdp import fully_shard

        return fully_shard(net)
    return nn.parallel.DistributedDataParallel(net)


class Trained(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.net = Net()

    def forward(self, images):
        return self.net(images)


def weights_of_ranks(rank, directory, kind):
    """Gathers, loads other weights, and trains a step, so that it is the real thing."""
    from convergd._ranks import Ranks

    ranks = Ranks.of()
    module = shard(Trained(1), kind)
    plain = module if is_sharded(module) else module.module
    module(torch.ones(2, 1, 4, 4)).sum().backward()
    before = {name: tensor.clone() for name, tensor in whole_state(plain, "net").items()}
    if rank == 0:
        save_checkpoint(Trained(2).net, directory, 7)
    best = directory / "step-00000007.safetensors"
    load_weights(plain, best, "net", ranks)
    after = {name: tensor.clone() for name, tensor in whole_state(plain, "net").items()}
    if rank == 0:
        save_checkpoint(nn.Linear(2, 2), directory / "other", 1)
    error = ""
    try:
        load_weights(plain, directory / "other" / "step-00000001.safetensors", "net", ranks)
    except WeightsError as caught:
        error = str(caught)
    unchanged = whole_state(plain, "net")
    assert all(torch.equal(tensor, unchanged[name]) for name, tensor in after.items())
    ranks.close()
    return is_sharded(module), before, after, error


def fsdp(rank, directory):
    return weights_of_ranks(rank, directory, "fsdp")


def fsdp_2(rank, directory):
    return weights_of_ranks(rank, directory, "fsdp 2")


def ddp(rank, directory):
    return weights_of_ranks(rank, directory, "ddp")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("body", [fsdp, fsdp_2, ddp])
def test_weights_are_gathered_and_loaded_whole(tmp_path, body):
    first, (_, _, other_after, other_error) = run_ranks(body, tmp_path)
    sharded, before, after, error = first
    assert sharded == (body is not ddp)
    expected, best = Trained(1).net.state_dict(), load_file(tmp_path / "step-00000007.safetensors")
    assert before.keys() == after.keys() == expected.keys()
    for name, tensor in expected.items():
        if (name.startswith("low.1.") and "running" in name) or "num_batches" in name:
            continue
        assert torch.equal(before[name], tensor), name
    for name, tensor in best.items():
        assert torch.equal(after[name], tensor), name
        if not sharded:
            assert torch.equal(other_after[name], tensor), name
    assert "is only in one of file and network" in error
    assert "rank 0 could not read them" in other_error


def in_a_fork(body):
    """What `body()` returns in a forked process."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=lambda: answers.put(body()))
    process.start()
    process.join(DEADLINE)
    assert process.exitcode == 0
    return answers.get()


def test_a_forked_process_reads_and_says_nothing(tmp_path):
    control = Control(tmp_path)
    control.poll(1)
    decide(tmp_path, **STOP)

    def child():
        decision = control.poll(6)
        control.ack(6)
        control.done(6)
        return decision.stop

    assert in_a_fork(child)
    assert [path.name for path in tmp_path.iterdir()] == ["control.json"]
    assert control.poll(7).stop
    assert json.loads((tmp_path / "ack-target.json").read_text())["pid"] == os.getpid()


def test_a_trainer_that_a_launcher_has_forked_is_the_trainer(tmp_path):
    control = Control(tmp_path)
    decide(tmp_path, **STOP)
    pid = in_a_fork(lambda: (control.poll(6), os.getpid())[1])
    assert json.loads((tmp_path / "ack-target.json").read_text())["pid"] == pid != os.getpid()


class Polling(Dataset):
    """Its samples say whether training is to stop."""

    def __init__(self, control):
        self.control = control

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return int(self.control.poll(9).stop)


def test_a_worker_of_a_data_loader_is_no_trainer(tmp_path):
    control = Control(tmp_path)
    decide(tmp_path, **STOP)
    loader = DataLoader(Polling(control), num_workers=1, multiprocessing_context="fork")
    assert [int(batch) for batch in loader] == [1, 1]
    assert not (tmp_path / "ack-target.json").exists()
    assert control.poll(9).stop
    assert (tmp_path / "ack-target.json").exists()
