"""Two processes, one network each, against both networks in one process."""

import os
import subprocess
import sys
from pathlib import Path

import pair_training
import pytest
import torch
from torch import distributed

import convergd
from convergd import Best, Decision
from convergd.torch import (
    CoupledInteractionLoss,
    Coupling,
    ImagePatches,
    InteractionLoss,
    Network,
    PartnerError,
    Tokens,
)
from convergd.torch.batch import Batch
from convergd.torch.interaction import draw_number

torch.set_num_threads(1)

DEADLINE = 120
"""Seconds for two processes to start, train and end on a busy machine."""


@pytest.fixture
def pair(tmp_path):
    """Starts the two processes of a mode; none outlives the test."""
    processes = []

    def start(mode, backend="gloo"):
        package = str(Path(convergd.__file__).parents[1])
        for rank in (0, 1):
            arguments = [str(rank), str(tmp_path), mode, backend]
            loopback = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
            # nccl refuses two processes of one host on one GPU, so they are told to be of two.
            host = {"NCCL_HOSTID": f"host-{rank}"}
            processes.append(
                subprocess.Popen(
                    [sys.executable, pair_training.__file__, *arguments],
                    stderr=subprocess.PIPE,
                    text=True,
                    env=os.environ | {"PYTHONPATH": package} | loopback | host,
                )
            )
        return processes

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stderr.close()


def ended(process):
    _, errors = process.communicate(timeout=DEADLINE)
    return process.returncode, errors


@pytest.fixture
def gpu():
    """What is made in this process is made on the GPU."""
    if not (torch.cuda.is_available() and distributed.is_nccl_available()):
        pytest.skip("torch sees no CUDA device, or has no nccl")
    before = torch.backends.cudnn.allow_tf32
    pair_training.on_gpu()
    yield
    torch.set_default_device("cpu")
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = before, False


def test_two_processes_take_the_steps_of_one_and_follow_the_phase(pair, tmp_path):
    check_that_two_are_as_one(pair, tmp_path, "gloo")


def test_two_processes_on_a_gpu_take_the_steps_of_one(pair, gpu, tmp_path):
    check_that_two_are_as_one(pair, tmp_path, "nccl")


def check_that_two_are_as_one(pair, tmp_path, backend):
    for process in pair("train", backend):
        code, errors = ended(process)
        assert code == 0, errors
    states, lambdas = pair_training.train_in_one_process(tmp_path / "alone")
    ramp = [0.2, 0.4, 0.6, 0.8]
    assert lambdas == pytest.approx([0] * 7 + ramp + [0.8] * 5 + [0] * 4)
    for rank, state in enumerate(states):
        coupled = torch.load(tmp_path / f"result-{rank}.pt")
        assert coupled["lambdas"] == lambdas
        for name, tensor in state.items():
            assert torch.allclose(coupled["state"][name], tensor, rtol=0, atol=1e-5), name
    plain = pair_training.network(11).state_dict()
    assert (states[0]["7.weight"] - plain["7.weight"]).abs().max() > 1e-2, "it has trained"


def test_the_partner_matters(monkeypatch, tmp_path):
    """Or the test above would pass with a partner that is ignored."""
    states, _ = pair_training.train_in_one_process(tmp_path / "one")
    monkeypatch.setattr(pair_training, "network", lambda seed, make=pair_training.network: make(11))
    others, _ = pair_training.train_in_one_process(tmp_path / "two")
    assert (states[0]["7.weight"] - others[0]["7.weight"]).abs().max() > 1e-3


@pytest.mark.parametrize("mode", ["dies", "hangs"])
def test_a_partner_that_is_gone_is_an_error_in_time(pair, mode):
    first, _ = pair(mode)
    code, errors = ended(first)
    assert code == 70, errors
    assert_missed_in_time(errors, mode)


@pytest.mark.parametrize("mode", ["dies", "hangs"])
def test_a_partner_that_is_gone_is_an_error_in_time_with_nccl(pair, gpu, mode):
    """How its process ends after it is up to nccl's watchdog, which may also end it first."""
    first, _ = pair(mode, "nccl")
    said = ""
    while "PartnerError after" not in said:
        line = first.stderr.readline()
        assert line, said
        said += line
    assert_missed_in_time(said, mode)


def assert_missed_in_time(errors, mode):
    timeout = {"dies": pair_training.LONG, "hangs": pair_training.SHORT}[mode]
    assert f"has died or did not answer within {timeout} s" in errors
    seconds = float(errors.split("PartnerError after ")[1].split(" s:")[0])
    assert (seconds < timeout) == (mode == "dies"), "a death is noticed, a silence is waited for"


@pytest.mark.parametrize("mode", ["other seed", "other data"])
def test_two_that_draw_differently_are_told(pair, mode):
    for process in pair(mode):
        code, errors = ended(process)
        assert code == 70, errors
        assert "not in step: draw is" in errors and "the same seed" in errors


class FakeCoupling(Coupling):
    """A partner whose messages are given."""

    def __init__(self, rank, answers):
        self.rank, self.timeout, self._shared, self.lambda_ = rank, 1.0, None, 0.0
        self.answers, self.sent = list(answers), []

    def _gather(self, own):
        self.sent.append(own)
        answer = torch.as_tensor(self.answers.pop(0), dtype=own.dtype)
        return [own, answer] if self.rank == 0 else [answer, own]


def test_gradients_need_only_the_partners_values():
    torch.manual_seed(0)
    networks = pair_training.network(1).eval(), pair_training.network(2).eval()
    inputs, labels = next(pair_training.batches())
    InteractionLoss(0.6, **pair_training.ARGUMENTS)(*networks, inputs, labels).loss.backward()
    wanted = [parameter.grad.clone() for parameter in networks[0].parameters()]
    networks[0].zero_grad()

    probe = InteractionLoss(0.6, **pair_training.ARGUMENTS)
    draw = probe.draw(Batch.of(inputs), labels)
    other = Network(networks[1], pair_training.ARGUMENTS["split"])
    partner = probe.evaluate(other, Batch.of(inputs), draw)[1].detach()
    coupling = FakeCoupling(0, [[0, 8, 1, 0.6, draw_number(draw, "zero")], partner])
    loss = CoupledInteractionLoss(coupling, 0.6, **pair_training.ARGUMENTS)
    loss(networks[0], inputs, labels).loss.backward()
    for parameter, gradient in zip(networks[0].parameters(), wanted, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-6)
    assert [len(message) for message in coupling.sent] == [5, 8], "a head and B floats"


def test_at_lambda_zero_nothing_crosses():
    coupling = FakeCoupling(0, [])
    loss = CoupledInteractionLoss(coupling, **pair_training.ARGUMENTS)
    result = loss(pair_training.network(0), *next(pair_training.batches()))
    assert coupling.sent == [] and torch.equal(result.loss, result.cross_entropy)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ([1, 2, 1, 0.5, 3], "call is 0 here and 1 there; .* same order"),
        ([1, 0, 0, 0.0, 0], "λ is 0.5 here and 0 there; .*`Coupling.share`"),
        ([0, 3, 1, 0.5, 3], "number of samples is 2 here and 3 there"),
        ([0, 2, 9, 0.5, 3], "step is 1 here and 9 there"),
        ([0, 2, 1, 0.4, 3], "λ is 0.5 here and 0.4 there; .*`Coupling.share`"),
        ([0, 2, 1, 0.5, 4], "draw is 3 here and 4 there"),
    ],
)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_partner_that_does_something_else_is_told(rank, head, message):
    with pytest.raises(PartnerError, match=message):
        FakeCoupling(rank, [head]).exchange(torch.zeros(2), 1, 0.5, 3)


def number(inputs, labels, baseline="zero", **changes):
    loss = InteractionLoss(0.5, **{"variables": ImagePatches(4, 8), "seed": 0} | changes)
    return draw_number(loss.draw(Batch.of(inputs), labels), baseline)


def test_the_number_of_a_draw_tells_what_differs():
    torch.manual_seed(0)
    inputs, labels = torch.randn(6, 1, 16, 16), torch.randint(5, (6,))
    own = number(inputs, labels)
    assert own == number(inputs.clone(), labels) and 0 <= own < 2**32
    brighter = inputs.clone()
    brighter[3] += 1e-3
    ids, mask = torch.randint(9, (6, 12)), torch.ones(6, 12).long()
    shorter = mask.clone()
    shorter[2, 6:] = 0
    texts = [
        number({"ids": ids, "other": own}, labels, variables=Tokens(4)) for own in (mask, shorter)
    ]
    others = [
        number(inputs, labels, "mean"),
        number(inputs, labels, seed=1),
        number(inputs, labels, variables=ImagePatches(8, 8)),
        number(inputs, labels, variables=ImagePatches(6, 8, margin=1)),
        number(inputs, labels, fraction=0.5),
        number(inputs, labels.flip(0)),
        number(inputs.flip(3), labels),
        number(inputs.bfloat16(), labels),
        number(brighter, labels),
        *texts,
    ]
    assert len({own, *others}) == 1 + len(others)


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.float16, torch.float64, torch.cfloat]
)
def test_inputs_of_any_type_and_size_have_a_number(dtype):
    inputs, labels = torch.ones(4, 1, 2, 2).to(dtype), torch.zeros(4).long()
    whole = ImagePatches(2, None)
    other = inputs.clone()
    other[0, 0, 0, 0] = 0
    found = [number([own, labels], labels, variables=whole) for own in (inputs, other)]
    assert found[0] != found[1]


def test_a_resumed_loss_counts_its_steps_on():
    first, second = (
        CoupledInteractionLoss(FakeCoupling(0, []), **pair_training.ARGUMENTS) for _ in range(2)
    )
    first(pair_training.network(0), *next(pair_training.batches()))
    second.load_state_dict(first.state_dict())
    second.coupling.answers = [[0, 8, 2, 0.5, 3]]
    second.set_lambda(0.5)
    with pytest.raises(PartnerError, match="draw is"):
        second(pair_training.network(0), *next(pair_training.batches()))


def test_a_partner_at_lambda_zero_is_told_where_it_shares():
    coupling = FakeCoupling(1, [[0, 16, 1, 0.5, 3]])
    loss = CoupledInteractionLoss(coupling, **pair_training.ARGUMENTS)
    loss(pair_training.network(0), *next(pair_training.batches()))
    with pytest.raises(PartnerError, match=r"λ is 0 here and 0\.5 there; .*`Coupling.share`"):
        coupling.share(Decision())


def test_a_decision_crosses_once_with_all_its_parts():
    decision = Decision(
        generation=4, action="stop", phase="λ", lambda_=0.25, ramp=3, at_step=9,
        best=Best(7, "a", None), reason="peaked", decision_id="d",
    )  # fmt: skip
    sender = FakeCoupling(0, [[1, 0, 0, 0, 0], [0] * 999, [1, 0, 0, 0, 0]])
    assert sender.share(decision) == decision
    assert sender.share(decision) is not None and len(sender.sent) == 3, "the second time a head"
    receiver = FakeCoupling(1, [sender.sent[0], sender.sent[1], sender.sent[2]])
    assert receiver.share(Decision()) == decision
    assert receiver.share(Decision(generation=9)) == decision, "what rank 0 has read holds"


def test_without_a_group_of_two_there_is_no_coupling():
    with pytest.raises(PartnerError, match="init_process_group"):
        Coupling()
