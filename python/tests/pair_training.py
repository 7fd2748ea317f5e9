"""A short joint training in its two forms; run as a program it is one process of a pair.

    python pair_training.py RANK DIRECTORY MODE [BACKEND]

MODE is `train`, or how this process leaves its partner after some steps, see `main`. BACKEND is
gloo or nccl; with nccl the networks are on a GPU.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch
from torch import distributed, nn

from convergd import Control
from convergd.torch import CoupledInteractionLoss, Coupling, InteractionLoss, PartnerError

STEPS = 20
SWITCHED_ON, SWITCHED_OFF = 6, 17
"""Steps before which the sidecar writes its decisions; the first holds from two steps later on."""
DROPPED_AT = 10
SHORT, LONG = 5, 60
"""Seconds to wait for a partner that hangs, and for one that a busy machine delays."""
ARGUMENTS = {"split": "0", "fraction": 0.5, "seed": 7}


def on_gpu():
    """New tensors are on the GPU, whose rounding is its own but not TF32's."""
    torch.set_default_device("cuda")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def network(seed):
    """A network with large interactions, so that they are a large part of the gradient."""
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 5),
    )
    with torch.no_grad():
        module[7].weight.mul_(4)
    return module


def batches(seed=3):
    """The same batches in the same order in both processes."""
    device = torch.get_default_device()
    generator = torch.Generator("cpu").manual_seed(seed)
    for _ in range(STEPS):
        inputs = torch.randn(16, 1, 8, 8, generator=generator, device="cpu")
        labels = torch.randint(5, (16,), generator=generator, device="cpu")
        yield inputs.to(device), labels.to(device)


def sidecar(directory, step):
    """Writes decisions as the sidecar does: regularised with a ramp, then plain again."""
    decisions = {
        SWITCHED_ON: {"generation": 1, "phase": "regularized", "lambda": 0.8, "ramp": 4,
                      "at_step": SWITCHED_ON + 2},
        SWITCHED_OFF: {"generation": 2, "phase": "plain", "lambda": 0.0, "ramp": 0, "at_step": 0},
    }  # fmt: skip
    if step in decisions:
        directory.mkdir(exist_ok=True)
        record = {"schema": 1, "action": "phase", "reason": "it has peaked", "best": None}
        new = directory / "control.json.new"
        new.write_text(json.dumps(record | decisions[step]))
        os.replace(new, directory / "control.json")


def optimizer(module):
    return torch.optim.SGD(module.parameters(), lr=0.02, momentum=0.9)


def update(optimizers, loss):
    for one in optimizers:
        one.zero_grad()
    loss.backward()
    for one in optimizers:
        one.step()


def train_in_one_process(directory):
    """Both networks' states, and λ of each step."""
    networks = network(11), network(22)
    optimizers = [optimizer(one) for one in networks]
    loss, control, lambdas = InteractionLoss(**ARGUMENTS), Control(directory), []
    for step, (inputs, labels) in enumerate(batches(), 1):
        sidecar(directory, step)
        decision = control.poll(step)
        loss.set_lambda(decision.lambda_, ramp=decision.ramp)
        result = loss(*networks, inputs, labels)
        update(optimizers, result.loss)
        lambdas.append(result.lambda_)
    return [one.state_dict() for one in networks], lambdas


def train_one_of_two(rank, directory, leave, timeout, seed=7, data_seed=3):
    """The state of this process's network, and λ of each step.

    The partner's control directory is empty: it has the decisions from rank 0 alone.
    """
    coupling = Coupling(timeout=timeout)
    loss = CoupledInteractionLoss(coupling, **(ARGUMENTS | {"seed": seed}))
    own = network((11, 22)[rank])
    optimizers = [optimizer(own)]
    control, lambdas = Control(directory / f"control-{rank}"), []
    for step, (inputs, labels) in enumerate(batches(data_seed), 1):
        if rank == 0:
            sidecar(control.directory, step)
        if step == DROPPED_AT:
            leave()
        decision = coupling.share(control.poll(step))
        loss.set_lambda(decision.lambda_, ramp=decision.ramp)
        result = loss(own, inputs, labels)
        update(optimizers, result.loss)
        lambdas.append(result.lambda_)
    return own.state_dict(), lambdas


def stay():
    pass


def die():
    os._exit(3)


def hang():
    """Until the parent ends this process."""
    time.sleep(600)


def main(rank, directory, mode, backend="gloo"):
    torch.set_num_threads(1)
    if backend == "nccl":
        on_gpu()
    distributed.init_process_group(
        backend, init_method=f"file://{directory}/meeting", rank=rank, world_size=2
    )
    is_other = rank == 1
    leave = {"dies": die, "hangs": hang}.get(mode, stay) if is_other else stay
    seeds = {"other seed": {"seed": 8}, "other data": {"data_seed": 4}}.get(mode, {})
    timeout = SHORT if mode == "hangs" else LONG
    given = seeds if is_other else {}
    started = time.monotonic()
    try:
        state, lambdas = train_one_of_two(rank, directory, leave, timeout, **given)
    except PartnerError as error:
        print(f"PartnerError after {time.monotonic() - started:.1f} s: {error}", file=sys.stderr)
        sys.exit(70)
    torch.save({"state": state, "lambdas": lambdas}, directory / f"result-{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
